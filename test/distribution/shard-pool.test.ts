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

  it('whatever providers have, take, finish and leave: each shard is finished once, and none is lost', () => {
    const step = fc.record({
      peer: fc.nat({ max: 3 }),
      act: fc.constantFrom('take', 'take', 'finish', 'leave', 'hurry'),
      bytes: fc.integer({ min: 1, max: 40 }),
    })
    fc.assert(
      fc.property(
        fc.array(fc.integer({ min: 1, max: 10 }), { minLength: 1, maxLength: 50 }),
        fc.array(step, { maxLength: 150 }),
        (lengths, steps) => {
          const pool = new ShardPool(lengths, lengths.keys())
          const lanes = [0, 1, 2, 3].map(peer => ({ peer: `peer ${peer}` }))
          const held = lanes.map(() => new Set<number>())
          const finished = new Set<number>()
          // Peer n lacks every shard whose number leaves n when divided by 5; nobody lacks those that leave 4.
          const has = (peer: number) => (shard: number) => shard % 5 !== peer
          const take = (peer: number, bytes: number) => {
            const batch = pool.take(lanes[peer] as (typeof lanes)[number], has(peer), bytes)
            for (const place of batch?.lengths.keys() ?? []) {
              const shard = (batch?.first as number) + place
              expect(finished.has(shard)).toBe(false)
              expect(has(peer)(shard)).toBe(true)
              held[peer]?.add(shard)
            }
            return batch !== undefined
          }
          const finish = (peer: number) => {
            for (const shard of held[peer] ?? [])
              expect(pool.finish(shard)).toBe(!finished.has(shard) && !!finished.add(shard))
            held[peer]?.clear()
          }
          for (const { peer, act, bytes } of steps) {
            if (act === 'take') take(peer, bytes)
            else if (act === 'finish') finish(peer)
            else if (act === 'hurry') pool.hurry(bytes % lengths.length, lengths.length)
            else {
              pool.release(lanes[peer] as (typeof lanes)[number])
              held[peer]?.clear()
            }
          }
          for (let more = true; more; ) {
            more = false
            for (const peer of lanes.keys()) {
              while (take(peer, 20)) more = true
              finish(peer)
            }
          }
          expect(pool.done).toBe(true)
          expect(finished.size).toBe(lengths.length)
        },
      ),
    )
  })

  it('what is hurried goes first, and in order; then the rest', () => {
    const pool = new ShardPool(Array(10).fill(1), Array(10).keys())
    const lane = { peer: 'a' }
    const calm = pool.hurry(6, 9)
    expect(pool.take(lane, everything, 2)).toEqual({ first: 6, lengths: [1, 1] })
    expect(pool.take(lane, everything, 5)).toEqual({ first: 8, lengths: [1, 1] })
    calm()
    expect(pool.take(lane, everything, 3)).toEqual({ first: 0, lengths: [1, 1, 1] })
  })

  it('providers begin far from each other', () => {
    const pool = new ShardPool(Array(100).fill(1), Array(100).keys())
    const firsts = ['a', 'b', 'c', 'd'].map(peer => pool.take({ peer }, everything, 1)?.first)
    expect(firsts).toEqual([0, 50, 25, 75])
  })
})

describe('a shard that somebody waits for', () => {
  it('is asked of another peer once it is overdue, though there is other work', () => {
    const pool = new ShardPool(Array(100).fill(1), Array(100).keys())
    pool.hurry(0, 1)
    expect(pool.take({ peer: 'slow' }, everything, 1, 0, -1)).toEqual({ first: 0, lengths: [1] })
    expect(pool.take({ peer: 'good' }, everything, 1, 10, -1)?.first).not.toBe(0)
    expect(pool.take({ peer: 'good' }, everything, 1, 1000, 500)).toEqual({ first: 0, lengths: [1] })
  })

  it('is not looked for in vain again and again, and found when it is given back', () => {
    const pool = new ShardPool([1, 1], [0, 1])
    const lane = { peer: 'a' }
    expect(pool.take(lane, everything, 1)).toEqual({ first: 0, lengths: [1] })
    const onlyFirst = (shard: number) => shard === 0
    expect(pool.take({ peer: 'b' }, onlyFirst, 1, 0, -1)).toBeUndefined()
    pool.release(lane)
    expect(pool.take({ peer: 'b' }, onlyFirst, 1, 0, -1)).toEqual({ first: 0, lengths: [1] })
  })

  it('a batch never has more than 1024 shards, however small they are', () => {
    const pool = new ShardPool(Array(5000).fill(1), Array(5000).keys())
    expect(pool.take({ peer: 'a' }, everything, 1_000_000)?.lengths.length).toBe(1024)
  })
})
