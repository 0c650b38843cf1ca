// What every ContentStore must do; each implementation's test calls this with a way to make an empty one.
import fc from 'fast-check'
import { afterEach, beforeEach, describe, expect, it } from 'vitest'
import { encodeContentIndex } from '../../src/assets/content-index.ts'
import type { ContentStore } from '../../src/assets/content-store.ts'
import { equalBytes } from '../../src/base/cbor.ts'
import { blake3 } from '../../src/base/hash.ts'
import {
  cut,
  pseudoRandom,
  publish,
  readAll,
  type Sample,
  sample,
  sampleOf,
} from '../store/sample-content.ts'

export interface OpenContentStore {
  readonly store: ContentStore
  close(): Promise<void>
}

const sameBytes = (a: Uint8Array | undefined, b: Uint8Array) => a !== undefined && equalBytes(a, b)

const mebibyte = 1024 * 1024

export function contentStoreConformance(name: string, open: () => Promise<OpenContentStore>): void {
  describe(`ContentStore: ${name}`, () => {
    let opened: OpenContentStore
    let store: ContentStore
    const content = sample(1, 3 * mebibyte)
    beforeEach(async () => {
      opened = await open()
      store = opened.store
    })
    afterEach(() => opened.close())

    const fetchAll = async (wanted: Sample) => {
      const partial = await store.openPartial(wanted.root, wanted.indexBytes)
      for (const shard of partial.missing()) await partial.put(shard, wanted.shard(shard))
      await partial.complete()
    }

    it('knows nothing of a root that is not here', async () => {
      expect(await store.state(content.root)).toBeUndefined()
      expect(await store.index(content.root)).toBeUndefined()
      expect(await store.indexBytes(content.root)).toBeUndefined()
      expect(await store.readShard(content.root, 0)).toBeUndefined()
      expect(await store.available(content.root)).toBeUndefined()
      await expect(readAll(store, content.root, 0, 1)).rejects.toMatchObject({ code: 'not-found' })
      await expect(store.check(content.root)).rejects.toMatchObject({ code: 'not-found' })
      await store.remove(content.root)
    })

    it('publishes a content and gives every byte back', async () => {
      expect(await publish(store, content)).toBe(content.root)
      expect(await store.state(content.root)).toBe('complete')
      expect(await store.index(content.root)).toEqual(content.index)
      expect(sameBytes(await store.indexBytes(content.root), content.indexBytes)).toBe(true)
      expect(blake3(await readAll(store, content.root, 0, content.bytes.byteLength))).toEqual(
        content.index.blake3,
      )
      expect(sameBytes(await store.readShard(content.root, 1), content.shard(1))).toBe(true)
      expect(await store.readShard(content.root, content.index.shards.length)).toBeUndefined()
      expect(await store.check(content.root)).toEqual([])
      const available = await store.available(content.root)
      expect(available?.complete).toBe(true)
      expect(available?.has(0)).toBe(true)
    })

    it('shows nothing of a content that is being written or was aborted', async () => {
      const writer = await store.createWriter(0)
      await writer.append(content.shard(0))
      expect(await store.state(content.root)).toBeUndefined()
      await writer.abort()
      await writer.abort()
      await expect(writer.append(content.shard(0))).rejects.toThrow()
      expect(await store.usage()).toMatchObject({ contents: 0, completeBytes: 0 })
    })

    it('refuses an index that does not describe what was written', async () => {
      const writer = await store.createWriter(0)
      await writer.append(content.shard(0))
      await expect(writer.commit(content.index)).rejects.toMatchObject({ code: 'internal' })
      await writer.abort()
      expect(await store.state(content.root)).toBeUndefined()
    })

    it('publishes twice without harm', async () => {
      await publish(store, content)
      expect(await publish(store, content)).toBe(content.root)
      expect(await store.usage()).toMatchObject({ contents: 1, completeBytes: content.bytes.byteLength })
      expect(await readAll(store, content.root, 5, 10)).toEqual(Buffer.from(content.bytes.subarray(5, 15)))
    })

    it('holds empty contents, published and fetched', async () => {
      const empty = sampleOf(new Uint8Array(0))
      await publish(store, empty)
      expect(await readAll(store, empty.root, 0, 0)).toHaveLength(0)
      expect(await store.check(empty.root)).toEqual([])
      await store.remove(empty.root)
      const partial = await store.openPartial(empty.root, empty.indexBytes)
      expect(partial.missing()).toEqual([])
      expect(await partial.copyLocal()).toBe(0)
      await partial.complete()
      expect(await store.state(empty.root)).toBe('complete')
    })

    it('gives any range of a content, in chunks of at most 1 MiB', async () => {
      await publish(store, content)
      const size = content.bytes.byteLength
      await fc.assert(
        fc.asyncProperty(fc.nat(size), fc.nat(size), async (a, b) => {
          const [start, end] = [Math.min(a, b), Math.max(a, b)]
          const parts: Uint8Array[] = []
          for await (const part of store.read(content.root, start, end - start)) {
            expect(part.byteLength).toBeLessThanOrEqual(mebibyte)
            parts.push(part)
          }
          expect(Buffer.concat(parts).equals(content.bytes.subarray(start, end))).toBe(true)
        }),
        { numRuns: 50 },
      )
    })

    it('refuses ranges outside a content', async () => {
      await publish(store, content)
      const size = content.bytes.byteLength
      for (const [offset, length] of [
        [-1, 1],
        [0, size + 1],
        [size, 1],
        [0.5, 1],
        [0, Number.NaN],
        [0, -1],
      ] as const)
        await expect(readAll(store, content.root, offset, length)).rejects.toMatchObject({
          code: 'invalid-range',
        })
    })

    it('stops a read that is aborted', async () => {
      await publish(store, content)
      const reason = new Error('enough')
      const read = async () => {
        for await (const _ of store.read(content.root, 0, 10, { signal: AbortSignal.abort(reason) }));
      }
      await expect(read()).rejects.toBe(reason)
    })

    it('fetches shards in any order and twice, and is complete only at the end', async () => {
      const partial = await store.openPartial(content.root, content.indexBytes)
      expect(partial.index).toEqual(content.index)
      const shards = partial.missing()
      expect(shards).toHaveLength(content.index.shards.length)
      await expect(partial.complete()).rejects.toThrow()
      await Promise.all(
        [...shards.toReversed(), ...shards].map(shard => partial.put(shard, content.shard(shard))),
      )
      expect(partial.missing()).toEqual([])
      expect(await store.state(content.root)).toBe('partial')
      await partial.complete()
      await partial.close()
      expect(await store.state(content.root)).toBe('complete')
      expect(await store.check(content.root)).toEqual([])
      expect(equalBytes(await readAll(store, content.root, 0, content.bytes.byteLength), content.bytes)).toBe(
        true,
      )
    })

    it('takes several whole shards at once, and none of them where one is wrong', async () => {
      const partial = await store.openPartial(content.root, content.indexBytes)
      const run = (first: number, count: number) =>
        Buffer.concat(Array.from({ length: count }, (_, place) => content.shard(first + place)))
      const wrong = run(0, 3)
      wrong[wrong.byteLength - 1] = (wrong[wrong.byteLength - 1] as number) ^ 1
      const last = content.index.shards.length - 1
      for (const [first, bytes] of [
        [0, wrong],
        [0, run(0, 3).subarray(0, -1)],
        [last, Buffer.concat([content.shard(last), Buffer.from('more')])],
      ] as const)
        await expect(partial.put(first, bytes)).rejects.toMatchObject({ code: 'corrupt-content' })
      expect(partial.missing()).toHaveLength(content.index.shards.length)
      const bytes = run(1, 2)
      await partial.put(1, bytes)
      bytes.fill(0)
      expect([0, 1, 2, 3].map(shard => partial.has(shard))).toEqual([false, true, true, false])
      expect(Buffer.compare((await store.readShard(content.root, 2)) as Uint8Array, content.shard(2))).toBe(0)
      await partial.close()
    })

    it('refuses a shard that is not what the index says', async () => {
      const partial = await store.openPartial(content.root, content.indexBytes)
      const wrong = content.shard(2).slice()
      wrong[7] = (wrong[7] as number) ^ 1
      for (const bytes of [wrong, content.shard(1), content.shard(2).subarray(1), new Uint8Array(0)])
        await expect(partial.put(2, bytes)).rejects.toMatchObject({ code: 'corrupt-content' })
      for (const shard of [-1, content.index.shards.length, 0.5])
        await expect(partial.put(shard, wrong)).rejects.toMatchObject({ code: 'invalid-range' })
      expect(partial.has(2)).toBe(false)
      await partial.close()
    })

    it('refuses an index that is not the root’s', async () => {
      const other = sample(2, 100)
      await expect(store.openPartial(content.root, other.indexBytes)).rejects.toMatchObject({
        code: 'corrupt-content',
      })
      expect(await store.state(content.root)).toBeUndefined()
    })

    it('serves from a partial root what is here, and nothing else', async () => {
      const partial = await store.openPartial(content.root, content.indexBytes)
      await partial.put(1, content.shard(1))
      const start = content.shard(0).byteLength
      expect(await readAll(store, content.root, start, 100)).toEqual(
        Buffer.from(content.shard(1).subarray(0, 100)),
      )
      await expect(readAll(store, content.root, start - 1, 2)).rejects.toMatchObject({ code: 'not-found' })
      expect(await store.readShard(content.root, 0)).toBeUndefined()
      expect(sameBytes(await store.readShard(content.root, 1), content.shard(1))).toBe(true)
      const available = await store.available(content.root)
      expect([available?.complete, available?.has(0), available?.has(1)]).toEqual([false, false, true])
      await partial.put(0, content.shard(0))
      expect(available?.has(0)).toBe(true)
      await partial.close()
    })

    it('goes on with a fetch that was left', async () => {
      const first = await store.openPartial(content.root, content.indexBytes)
      await first.put(0, content.shard(0))
      await first.put(3, content.shard(3))
      await first.close()
      await first.close()
      await expect(first.put(1, content.shard(1))).rejects.toThrow()
      const second = await store.openPartial(content.root, content.indexBytes)
      expect(second.has(0) && second.has(3)).toBe(true)
      expect(second.missing()).toHaveLength(content.index.shards.length - 2)
      await second.close()
    })

    it('lets one opener at a time fetch a root', async () => {
      const first = await store.openPartial(content.root, content.indexBytes)
      await expect(store.openPartial(content.root, content.indexBytes)).rejects.toMatchObject({
        code: 'busy',
      })
      await first.close()
      await (await store.openPartial(content.root, content.indexBytes)).close()
    })

    it('takes what is published meanwhile as the end of a fetch', async () => {
      const partial = await store.openPartial(content.root, content.indexBytes)
      await publish(store, content)
      await partial.complete()
      expect(await store.state(content.root)).toBe('complete')
      expect(await store.check(content.root)).toEqual([])
    })

    it('forgets a removed root, also one that is being fetched', async () => {
      await publish(store, content)
      await store.remove(content.root)
      expect(await store.state(content.root)).toBeUndefined()
      expect(await store.readShard(content.root, 0)).toBeUndefined()
      const partial = await store.openPartial(content.root, content.indexBytes)
      await partial.put(0, content.shard(0))
      await store.remove(content.root)
      await expect(partial.put(1, content.shard(1))).rejects.toMatchObject({ code: 'not-found' })
      await expect(partial.complete()).rejects.toMatchObject({ code: 'not-found' })
      await partial.close()
      expect(await store.state(content.root)).toBeUndefined()
      await fetchAll(content)
      expect(await store.check(content.root)).toEqual([])
    })

    it('keeps a leased root from every removal, and lets it go with the last lease', async () => {
      await publish(store, content)
      const leases = [store.lease(content.root), store.lease(content.root, { isUse: false })]
      for (const lease of leases) {
        expect(await store.remove(content.root)).toBe(false)
        expect(await store.removeIdle(content.root, () => false)).toBe(false)
        expect(sameBytes(await store.readShard(content.root, 0), content.shard(0))).toBe(true)
        lease.release()
        lease.release()
      }
      expect(await store.removeIdle(content.root, () => true)).toBe(false)
      expect(await store.removeIdle(content.root, () => false)).toBe(true)
      expect(await store.state(content.root)).toBeUndefined()
      expect(await store.remove(content.root)).toBe(true)
    })

    it('makes no room with what is being fetched', async () => {
      const partial = await store.openPartial(content.root, content.indexBytes)
      await partial.put(0, content.shard(0))
      expect(await store.removeIdle(content.root, () => false)).toBe(false)
      await partial.close()
      expect(await store.removeIdle(content.root, () => false)).toBe(true)
    })

    it('says of each root when it was used, and whether it is in use', async () => {
      const other = sample(7, 1000)
      await publish(store, content)
      await publish(store, other)
      const listed = async () => {
        const all = []
        for await (const each of store.roots()) all.push(each)
        return all.sort((a, b) => a.usedAt - b.usedAt).map(({ root, inUse }) => ({ root, inUse }))
      }
      await readAll(store, content.root, 0, 10)
      using _lease = store.lease(other.root, { isUse: false })
      expect(await listed()).toEqual([
        { root: other.root, inUse: true },
        { root: content.root, inUse: false },
      ])
      store.lease(other.root).release()
      expect(await listed()).toEqual([
        { root: content.root, inUse: false },
        { root: other.root, inUse: true },
      ])
      expect(await store.sweep()).toEqual({ files: 0, fileBytes: 0, hints: 0 })
    })

    it('lists roots and counts bytes', async () => {
      const other = sample(3, 1000)
      await publish(store, other)
      const partial = await store.openPartial(content.root, content.indexBytes)
      await partial.put(0, content.shard(0))
      const roots = []
      for await (const root of store.roots()) roots.push(root)
      expect(roots.toSorted((a, b) => a.size - b.size)).toMatchObject([
        { root: other.root, complete: true, size: 1000 },
        { root: content.root, complete: false, size: content.bytes.byteLength },
      ])
      expect(await store.usage()).toMatchObject({
        completeBytes: 1000,
        partialBytes: content.shard(0).byteLength,
        contents: 2,
      })
      await partial.close()
    })

    it('copies shards that other roots hold: whatever the edit, only what changed is left to fetch', async () => {
      await publish(store, content)
      await fc.assert(
        fc.asyncProperty(
          fc.nat(content.bytes.byteLength),
          fc.nat(100_000),
          fc.uint8Array({ maxLength: 50 }),
          async (at, deleted, inserted) => {
            const edited = sampleOf(
              Buffer.concat([content.bytes.subarray(0, at), inserted, content.bytes.subarray(at + deleted)]),
            )
            if (edited.root === content.root) return
            const known = new Set(content.index.shards.map(({ hash }) => Buffer.from(hash).toString('hex')))
            const fresh = edited.index.shards.flatMap(({ hash }, i) =>
              known.has(Buffer.from(hash).toString('hex')) ? [] : [i],
            )
            const partial = await store.openPartial(edited.root, edited.indexBytes)
            const saved = await partial.copyLocal()
            expect(partial.missing()).toEqual(fresh)
            const left = fresh.reduce((sum, shard) => sum + edited.shard(shard).byteLength, 0)
            expect(saved + left).toBe(edited.bytes.byteLength)
            for (const shard of fresh) await partial.put(shard, edited.shard(shard))
            await partial.complete()
            expect(
              equalBytes(await readAll(store, edited.root, 0, edited.bytes.byteLength), edited.bytes),
            ).toBe(true)
            await store.remove(edited.root)
          },
        ),
        { numRuns: 25 },
      )
      expect(await store.check(content.root)).toEqual([])
    })

    it('copies a shard that repeats inside one root', async () => {
      const [shard, other] = [pseudoRandom(4, 100_000), pseudoRandom(5, 100_000)]
      const repeating = sampleOf(Buffer.concat([shard, other, shard, shard]), [shard, other, shard, shard])
      const partial = await store.openPartial(repeating.root, repeating.indexBytes)
      await partial.put(2, shard)
      expect(await partial.copyLocal()).toBe(200_000)
      expect(partial.missing()).toEqual([1])
      await partial.close()
    })

    it('does not copy from a root that was removed', async () => {
      await publish(store, content)
      await store.remove(content.root)
      const edited = sampleOf(Buffer.concat([content.bytes, pseudoRandom(6, 10)]))
      const partial = await store.openPartial(edited.root, edited.indexBytes)
      expect(await partial.copyLocal()).toBe(0)
      await partial.close()
    })

    it('names contents by their index alone', async () => {
      expect(encodeContentIndex(content.index).root).toBe(content.root)
      expect(cut(content.bytes)).toHaveLength(content.index.shards.length)
    })
  })
}
