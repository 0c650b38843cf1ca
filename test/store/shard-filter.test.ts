import { randomBytes } from 'node:crypto'
import fc from 'fast-check'
import { describe, expect, it } from 'vitest'
import { MemoryKeyValue } from '../../src/base/memory-key-value.ts'
import { Layout } from '../../src/store/content/layout.ts'
import { ContentRecords } from '../../src/store/content/records.ts'
import { ShardFilter } from '../../src/store/content/shard-filter.ts'
import { sample } from './sample-content.ts'

describe('the filter of shards', () => {
  it('never denies a shard that was added', () => {
    fc.assert(
      fc.property(
        fc.array(fc.uint8Array({ minLength: 32, maxLength: 32 }), { maxLength: 200 }),
        fc.nat({ max: 300 }),
        (hashes, expected) => {
          const filter = new ShardFilter(expected)
          for (const hash of hashes) filter.add(hash)
          expect(hashes.every(hash => filter.mayHave(hash))).toBe(true)
        },
      ),
    )
  })

  it('denies nearly all others, as long as it is not blunt', () => {
    const filter = new ShardFilter(10_000)
    let added = 0
    for (; !filter.blunt; added++) filter.add(randomBytes(32))
    expect(added).toBe(20_000)
    const wrong = Array.from({ length: 20_000 }, () => filter.mayHave(randomBytes(32))).filter(Boolean)
    expect(wrong.length).toBeLessThan(100)
  })

  it('is blunt once many of its shards have gone', () => {
    const filter = new ShardFilter(10_000)
    for (let i = 0; i < 8000; i++) filter.add(randomBytes(32))
    filter.lose(1000)
    expect(filter.blunt).toBe(false)
    filter.lose(1)
    expect(filter.blunt).toBe(true)
  })
})

describe('the records of shards', () => {
  it('find what was recorded before the filter was made, and after', async () => {
    const store = new MemoryKeyValue()
    const [before, after, never] = [sample(1, 300_000), sample(2, 300_000), sample(3, 300_000)]
    await new ContentRecords(store).finish(new Layout(before.root, before.indexBytes))
    const records = new ContentRecords(store)
    const found = async (content: typeof before) => {
      const hash = content.index.shards[0]?.hash as Uint8Array
      const roots: string[] = []
      for await (const { root } of records.locations(hash)) roots.push(root)
      return roots
    }
    expect(await found(before)).toEqual([before.root])
    expect(await found(after)).toEqual([])
    await records.finish(new Layout(after.root, after.indexBytes))
    expect(await found(after)).toEqual([after.root])
    expect(await found(never)).toEqual([])
  })

  it('make the filter anew when many shards have gone, and find what stays', async () => {
    const records = new ContentRecords(new MemoryKeyValue())
    const [stays, goes] = [sample(1, 300_000), sample(2, 90_000_000)]
    const hashOf = ({ index }: typeof stays) => index.shards[0]?.hash as Uint8Array
    const asked = async (content: typeof stays) => {
      const roots: string[] = []
      for await (const { root } of records.locations(hashOf(content))) roots.push(root)
      return roots
    }
    for (const { root, indexBytes } of [stays, goes]) await records.finish(new Layout(root, indexBytes))
    expect(await asked(goes)).toHaveLength(1)
    await records.forget(goes.root, new Layout(goes.root, goes.indexBytes))
    expect([await asked(goes), (await asked(stays)).length]).toEqual([[], 1])
  })
})
