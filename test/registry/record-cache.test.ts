// Decoded records in memory: never more than the bound, never out of date, read from disk once.
import fc from 'fast-check'
import { beforeEach, describe, expect, it } from 'vitest'
import { silentLog } from '../../src/base/log.ts'
import { MemoryKeyValue } from '../../src/base/memory-key-value.ts'
import { Catalogue, type CatalogueOptions } from '../../src/registry/catalogue.ts'
import { alice, headChain, release } from './records.ts'

/** Counts what is read. */
class CountedKeyValue extends MemoryKeyValue {
  reads = 0

  override get(key: string): Promise<Uint8Array | undefined> {
    this.reads += 1
    return super.get(key)
  }
}

let records: CountedKeyValue
let catalogue: Catalogue

async function open(options: Partial<CatalogueOptions> = {}): Promise<void> {
  records = new CountedKeyValue()
  catalogue = new Catalogue({ records, log: silentLog }, options)
  await catalogue.start()
}

beforeEach(() => open())

describe('decoded records', () => {
  it('are read from disk once', async () => {
    const item = release()
    await catalogue.addRelease(item)
    const [first, again] = [await catalogue.release(item.id), await catalogue.release(item.id)]
    expect(first?.statement).toEqual(item.statement)
    expect(again).toBe(first)
    expect(records.reads).toBe(1)
    expect(catalogue.cacheCounts()).toMatchObject({ entries: 1, hits: 1, misses: 1 })
  })

  it('are gone when their release is forgotten, and right when it comes back', async () => {
    const item = release()
    await catalogue.addRelease(item)
    const reading = catalogue.release(item.id)
    await catalogue.forget(item.id)
    await reading
    expect(await catalogue.release(item.id)).toBeUndefined()
    await catalogue.restore(item)
    expect((await catalogue.release(item.id))?.statement).toEqual(item.statement)
  })

  it('of heads follow the heads, also while one is read', async () => {
    const { heads } = headChain(20)
    for (const [place, head] of heads.entries()) {
      const reading = Promise.all([
        catalogue.head(alice, 'word-count'),
        catalogue.addHead(head),
        catalogue.head(alice, 'word-count'),
      ])
      const seen = await reading
      for (const each of [seen[0], seen[2]])
        expect([undefined, place, place + 1]).toContain(each?.statement.sequence)
      for (let again = 0; again < 2; again++)
        expect((await catalogue.head(alice, 'word-count'))?.id).toBe(head.id)
    }
  })

  it('never take more memory than their bound, whatever is asked for', async () => {
    const items = Array.from({ length: 40 }, (_, i) =>
      release({ name: `tool-${i}`, manifest: { text: 'x'.repeat(i * 400) } }),
    )
    const cacheBytes = 100_000
    await open({ cacheBytes })
    for (const item of items) await catalogue.addRelease(item)
    await fc.assert(
      fc.asyncProperty(fc.array(fc.nat(items.length - 1), { maxLength: 40 }), async order => {
        for (const which of order) {
          const item = items[which]
          expect((await catalogue.release(item?.id as string))?.id).toBe(item?.id)
          expect(catalogue.cacheCounts().bytes).toBeLessThanOrEqual(cacheBytes)
        }
      }),
      { numRuns: 20 },
    )
    expect(catalogue.cacheCounts().evictions).toBeGreaterThan(0)
  })
})
