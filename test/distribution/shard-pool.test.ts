import fc from 'fast-check'
import { describe, expect, it } from 'vitest'
import { ShardPool } from '../../src/distribution/shard-pool.ts'

const everything = () => true

describe('the pool of shards', () => {
  it('hands out every missing shard once while nobody fails, in runs of at most the asked bytes', () => {
    fc.assert(
      fc.property(
        fc.array(fc.integer({ min: 1, max: 100 }), { minLength: 1, maxLength: 60 }),
        fc.integer({ min: 1, max: 300 }),
        (lengths, maxBytes) => {
          const missing = lengths.map((_, shard) => shard).filter(shard => shard % 3 !== 0)
          const pool = new ShardPool(lengths, missing)
          const lane = { peer: 'a' }
          const got: number[] = []
          for (
            let batch = pool.take(lane, everything, maxBytes);
            batch !== undefined;
            batch = pool.take(lane, everything, maxBytes)
          ) {
            const bytes = batch.lengths.reduce((sum, length) => sum + length, 0)
            expect(bytes <= maxBytes || batch.lengths.length === 1).toBe(true)
            for (const place of batch.lengths.keys()) got.push(batch.first + place)
          }
          expect(got).toEqual(missing)
          for (const shard of got) pool.finish(shard)
          expect(pool.done).toBe(true)
        },
      ),
    )
  })

  it('gives back what a lane leaves, and lets another peer, but not another lane of the same, take over at the end', () => {
    const pool = new ShardPool([10, 10], [0, 1])
    const slow = { peer: 'slow' }
    const fast = { peer: 'fast' }
    expect(pool.take(slow, everything, 10)).toEqual({ first: 0, lengths: [10] })
    expect(pool.take(fast, everything, 10)).toEqual({ first: 1, lengths: [10] })
    expect(pool.take({ peer: 'slow' }, everything, 10)).toEqual({ first: 1, lengths: [10] })
    expect(pool.take({ peer: 'fast' }, everything, 10)).toEqual({ first: 0, lengths: [10] })
    expect(pool.take({ peer: 'third' }, everything, 10)).toBeUndefined()
    pool.release(slow)
    expect(pool.done).toBe(false)
    expect(pool.finish(0)).toBe(true)
    expect(pool.finish(0)).toBe(false)
    expect(pool.finish(1)).toBe(true)
    expect(pool.done).toBe(true)
  })

  it('asks a provider only for what it has', () => {
    const pool = new ShardPool([1, 1, 1, 1], [0, 1, 2, 3])
    expect(pool.take({ peer: 'a' }, shard => shard === 2, 10)).toEqual({ first: 2, lengths: [1] })
    expect(pool.take({ peer: 'a' }, shard => shard === 2, 10)).toBeUndefined()
  })
})
