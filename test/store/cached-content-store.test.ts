import { open as openFile, readdir } from 'node:fs/promises'
import { join } from 'node:path'
import fc from 'fast-check'
import { describe, expect, it, onTestFinished } from 'vitest'
import { silentLog } from '../../src/base/log.ts'
import { MemoryKeyValue } from '../../src/base/memory-key-value.ts'
import { ContentCache, type ContentCacheOptions } from '../../src/store/cached-content-store.ts'
import { FileContentStore } from '../../src/store/file-content-store.ts'
import { MemoryContentStore } from '../../src/store/memory-content-store.ts'
import { contentStoreConformance } from '../conformance/content-store.ts'
import { publish, readAll, type Sample, sample } from './sample-content.ts'
import { deleteDirectory, makeTemporaryDirectory } from './temporary-directory.ts'

async function openFiles() {
  const directory = await makeTemporaryDirectory()
  const files = new FileContentStore({ records: new MemoryKeyValue(), log: silentLog }, { directory })
  await files.start()
  const close = async () => {
    await files.stop()
    await deleteDirectory(directory)
  }
  return { files, directory, close }
}

contentStoreConformance('in memory before memory', async () => ({
  store: new ContentCache({ store: new MemoryContentStore() }).store,
  close: async () => undefined,
}))

contentStoreConformance('in memory before files, whole contents of any size', async () => {
  const { files, close } = await openFiles()
  return { store: new ContentCache({ store: files }, { maxContentBytes: 2 ** 24 }).store, close }
})

async function open(options: Partial<ContentCacheOptions> = {}) {
  const { files, directory, close } = await openFiles()
  onTestFinished(close)
  const cache = new ContentCache({ store: files }, options)
  return { files, directory, cache, store: cache.store }
}

const whole = (store: FileContentStore, { root, bytes }: Sample) => readAll(store, root, 0, bytes.byteLength)

async function damage(directory: string): Promise<void> {
  for (const entry of await readdir(directory, { recursive: true, withFileTypes: true })) {
    if (!entry.isFile()) continue
    const file = await openFile(join(entry.parentPath, entry.name), 'r+')
    await file.write(Buffer.from('damaged'), 0, 7, 0)
    await file.close()
  }
}

describe('small contents in memory', () => {
  it('are read from disk once, and given in any part after that', async () => {
    const { cache, store, directory } = await open()
    const content = sample(1, 200_000)
    await publish(store, content)
    expect(Buffer.compare(await whole(store, content), content.bytes)).toBe(0)
    expect(cache.counts()).toMatchObject({ entries: 1, hits: 0, misses: 1 })
    // Nothing but the copy in memory can be right now.
    await damage(directory)
    expect(await readAll(store, content.root, 100, 50)).toEqual(Buffer.from(content.bytes.subarray(100, 150)))
    const first = await store.readShard(content.root, 0)
    expect(Buffer.compare(first as Uint8Array, content.shard(0))).toBe(0)
    expect(cache.counts()).toMatchObject({ hits: 2, misses: 1 })
    expect(await store.check(content.root)).toContain(0)
  })

  it('are kept only when every byte was verified', async () => {
    const { cache, store, directory } = await open()
    const content = sample(2, 100_000)
    await publish(store, content)
    await damage(directory)
    await expect(whole(store, content)).rejects.toMatchObject({ code: 'corrupt-content' })
    expect(cache.counts()).toMatchObject({ entries: 0, bytes: 0 })
  })

  it('cannot be changed by who reads them', async () => {
    const { store } = await open()
    const content = sample(3, 1000)
    await publish(store, content)
    for (let round = 0; round < 3; round++) {
      const bytes: Uint8Array[] = []
      for await (const chunk of store.read(content.root, 0, 1000)) bytes.push(chunk)
      const shard = (await store.readShard(content.root, 0)) as Uint8Array
      expect(Buffer.compare(Buffer.concat(bytes), content.bytes)).toBe(0)
      expect(Buffer.compare(shard, content.bytes)).toBe(0)
      for (const part of [...bytes, shard]) part.fill(0)
    }
  })

  it('are gone with their root, whichever way it went', async () => {
    const { cache, store, files } = await open()
    const [one, two, three] = [4, 5, 6].map(seed => sample(seed, 5000)) as [Sample, Sample, Sample]
    for (const content of [one, two, three]) {
      await publish(store, content)
      await whole(store, content)
    }
    await store.remove(one.root)
    expect(await store.removeIdle(two.root, () => false)).toBe(true)
    expect(cache.counts().entries).toBe(1)
    await files.remove(three.root)
    for (const content of [one, two, three]) {
      await expect(whole(store, content)).rejects.toMatchObject({ code: 'not-found' })
      expect(await store.readShard(content.root, 0)).toBeUndefined()
    }
  })

  it('are known by the store below to be in use', async () => {
    const { store } = await open()
    const [one, two] = [sample(7, 5000), sample(8, 5000)]
    for (const content of [one, two]) await publish(store, content)
    await whole(store, one)
    await whole(store, two)
    await whole(store, one)
    const uses = []
    for await (const { root, usedAt } of store.roots()) uses.push({ root, usedAt })
    expect(uses.sort((a, b) => a.usedAt - b.usedAt).map(({ root }) => root)).toEqual([two.root, one.root])
  })

  it('are read once, however many ask at the same time', async () => {
    const { cache, store } = await open()
    const content = sample(9, 50_000)
    await publish(store, content)
    await Promise.all(Array.from({ length: 20 }, () => whole(store, content)))
    expect(cache.counts()).toMatchObject({ entries: 1, misses: 1 })
  })

  it('never take more than the bound, and large ones stay on disk', async () => {
    const sizes = [1, 1000, 10_000, 30_000, 65_536, 65_537, 300_000]
    const contents = sizes.map((size, seed) => sample(seed + 10, size))
    const { cache, store } = await open({ maxBytes: 80_000, maxContentBytes: 65_536 })
    for (const content of contents) await publish(store, content)
    await fc.assert(
      fc.asyncProperty(fc.array(fc.nat(sizes.length - 1), { maxLength: 20 }), async order => {
        for (const which of order) {
          const content = contents[which] as Sample
          expect(Buffer.compare(await whole(store, content), content.bytes)).toBe(0)
          expect(cache.counts().bytes).toBeLessThanOrEqual(80_000)
        }
      }),
      { numRuns: 20 },
    )
    const before = cache.counts().entries
    await whole(store, contents[5] as Sample)
    expect(cache.counts().entries).toBe(before)
  })
})
