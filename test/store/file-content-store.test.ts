import { open as openFile, readdir } from 'node:fs/promises'
import { join } from 'node:path'
import { describe, expect, it, onTestFinished } from 'vitest'
import { cidOf } from '../../src/base/cid.ts'
import { silentLog } from '../../src/base/log.ts'
import { MemoryKeyValue } from '../../src/base/memory-key-value.ts'
import { FileContentStore, type FileContentStoreOptions } from '../../src/store/file-content-store.ts'
import { LevelKeyValue } from '../../src/store/level-key-value.ts'
import { contentStoreConformance } from '../conformance/content-store.ts'
import { pseudoRandom, publish, readAll, type Sample, sample } from './sample-content.ts'
import { deleteDirectory, makeTemporaryDirectory, temporaryDirectory } from './temporary-directory.ts'

contentStoreConformance('files and LevelDB', async () => {
  const directory = await makeTemporaryDirectory()
  const records = await LevelKeyValue.open({ directory: join(directory, 'db'), reserveBytes: 0 })
  const store = new FileContentStore({ records, log: silentLog }, { directory: join(directory, 'payloads') })
  await store.start()
  const close = async () => {
    await store.stop()
    await records.stop()
    await deleteDirectory(directory)
  }
  return { store, close }
})

describe('a store in files', () => {
  interface Opened {
    readonly store: FileContentStore
    readonly directory: string
    readonly records: MemoryKeyValue
  }

  async function open(options: Partial<FileContentStoreOptions> = {}, earlier?: Opened): Promise<Opened> {
    const directory = earlier?.directory ?? (await temporaryDirectory())
    const records = earlier?.records ?? new MemoryKeyValue()
    const store = new FileContentStore({ records, log: silentLog }, { directory, ...options })
    await store.start()
    onTestFinished(() => store.stop())
    return { store, directory, records }
  }
  const payloads = async (directory: string) =>
    (await readdir(directory, { recursive: true }))
      .filter(path => path.includes('/') && !path.endsWith('/'))
      .filter(path => path.split('/').length === (path.startsWith('staging') ? 2 : 3))

  it('sweeps what an interrupted run left, and never what a record names', async () => {
    const opened = await open()
    const [complete, partial, orphan] = [1, 2, 3].map(seed => sample(seed, 300_000)) as [
      Sample,
      Sample,
      Sample,
    ]
    await publish(opened.store, complete)
    const fetch = await opened.store.openPartial(partial.root, partial.indexBytes)
    await fetch.put(0, partial.shard(0))
    await fetch.close()
    await publish(opened.store, orphan)
    await opened.records.delete(`content/${orphan.root}`)
    const abandoned = await opened.store.createWriter(0)
    await abandoned.append(orphan.shard(0))
    expect(await payloads(opened.directory)).toHaveLength(4)
    const { store } = await open({}, opened)
    expect(await payloads(opened.directory)).toHaveLength(2)
    expect(await store.check(complete.root)).toEqual([])
    expect((await store.openPartial(partial.root, partial.indexBytes)).has(0)).toBe(true)
    await abandoned.abort()
  })

  it('trusts nothing of what an earlier fetch left: damaged shards are missing', async () => {
    const opened = await open()
    const content = sample(4, 2_000_000)
    const fetch = await opened.store.openPartial(content.root, content.indexBytes)
    for (const shard of fetch.missing()) if (shard !== 1) await fetch.put(shard, content.shard(shard))
    await fetch.close()
    const path = join(opened.directory, (await payloads(opened.directory))[0] as string)
    const file = await openFile(path, 'r+')
    await file.write(Buffer.from('x'), 0, 1, content.shard(0).byteLength + content.shard(1).byteLength + 5)
    await file.close()
    const { store } = await open({}, opened)
    expect(await store.readShard(content.root, 2)).toBeUndefined()
    expect(await store.readShard(content.root, 0)).toBeDefined()
    expect((await store.usage()).partialBytes).toBeGreaterThan(0)
    const resumed = await store.openPartial(content.root, content.indexBytes)
    expect(resumed.missing()).toEqual([1, 2])
  })

  it('keeps within its quota, counting what others were promised', async () => {
    const { store } = await open({ maxBytes: 1_000_000 })
    const [first, second] = [sample(5, 400_000), sample(6, 400_000)]
    await publish(store, first)
    const writer = await store.createWriter(500_000)
    await expect(store.createWriter(200_000)).rejects.toMatchObject({ code: 'quota-exceeded' })
    await expect(store.openPartial(second.root, second.indexBytes)).rejects.toMatchObject({
      code: 'quota-exceeded',
    })
    expect(await store.state(second.root)).toBeUndefined()
    expect((await store.usage()).freeBytes).toBe(100_000)
    await writer.abort()
    const fetch = await store.openPartial(second.root, second.indexBytes)
    expect((await store.usage()).freeBytes).toBe(200_000)
    for (const shard of fetch.missing()) await fetch.put(shard, second.shard(shard))
    await fetch.complete()
    expect((await store.usage()).freeBytes).toBe(200_000)
    await store.remove(first.root)
    expect((await store.usage()).freeBytes).toBe(600_000)
  })

  it('refuses what does not fit on the disk beside the reserve', async () => {
    const { store } = await open({ reserveBytes: 2 ** 50 })
    expect((await store.usage()).freeBytes).toBe(0)
    await expect(store.createWriter(1)).rejects.toMatchObject({ code: 'no-space' })
  })

  it('takes a publish of unknown size only as far as the quota', async () => {
    const { store } = await open({ maxBytes: 20 * 1024 * 1024 })
    const writer = await store.createWriter(0)
    const shard = pseudoRandom(7, 1024 * 1024)
    const append = async () => {
      for (let i = 0; i < 40; i++) await writer.append(shard)
    }
    await expect(append()).rejects.toMatchObject({ code: 'quota-exceeded' })
    await writer.abort()
    expect((await store.usage()).freeBytes).toBe(20 * 1024 * 1024)
  })

  it('calls a fetch complete only when a publish of the same root is durable', async () => {
    const { store, records } = await open()
    const content = sample(10, 300_000)
    const partial = await store.openPartial(content.root, content.indexBytes)
    for (const shard of partial.missing()) await partial.put(shard, content.shard(shard))
    const batch = records.batch.bind(records)
    let release: () => void = () => undefined
    const recording = new Promise<void>(reached => {
      records.batch = async writes => {
        reached()
        await new Promise<void>(resolve => {
          release = resolve
        })
        await batch(writes)
      }
    })
    const publishing = publish(store, content)
    await recording
    let completed = false
    const completing = partial.complete().then(() => {
      completed = true
    })
    await new Promise(resolve => setTimeout(resolve, 50))
    expect(completed).toBe(false)
    records.batch = batch
    release()
    await Promise.all([publishing, completing])
    expect(await store.state(content.root)).toBe('complete')
  })

  it('lets a running read finish when the root is removed', async () => {
    const { store } = await open()
    const content = sample(8, 3_000_000)
    await publish(store, content)
    const parts: Uint8Array[] = []
    for await (const part of store.read(content.root, 0, content.bytes.byteLength)) {
      if (parts.length === 0) await store.remove(content.root)
      parts.push(part)
    }
    expect(Buffer.concat(parts).equals(content.bytes)).toBe(true)
  })

  it('stays whole when publishes, fetches, removals and reads of the same roots race', async () => {
    const opened = await open()
    const { store } = opened
    const contents = [1, 2].map(seed => sample(seed, 500_000))
    const expected = ['busy', 'not-found']
    const attempt = (work: Promise<unknown>) =>
      work.catch(error => {
        if (!expected.includes(error.code)) throw error
      })
    const fetch = async (content: Sample) => {
      const partial = await store.openPartial(content.root, content.indexBytes)
      try {
        for (const shard of partial.missing()) await partial.put(shard, content.shard(shard))
        await partial.complete()
      } finally {
        await partial.close()
      }
    }
    for (let round = 0; round < 40; round++)
      await Promise.all(
        contents.flatMap(content => [
          attempt(publish(store, content)),
          attempt(fetch(content)),
          attempt(readAll(store, content.root, 0, 1000)),
          attempt(store.remove(content.root)),
          attempt(fetch(content)),
        ]),
      )
    for await (const { root, complete } of store.roots())
      if (complete) expect(await store.check(root)).toEqual([])
    for (const content of contents) {
      await publish(store, content)
      expect(await store.check(content.root)).toEqual([])
    }
    const { store: reopened } = await open({}, opened)
    for (const { root } of contents) expect(await reopened.check(root)).toEqual([])
    expect(await payloads(opened.directory)).toHaveLength(2)
  })

  it('opens 20,000 records in well under a second', async () => {
    const directory = await temporaryDirectory()
    const records = new MemoryKeyValue()
    const content = sample(9, 1000)
    const first = await open({}, { directory, records, store: undefined as never })
    await publish(first.store, content)
    const value = (await records.get(`content/${content.root}`)) as Uint8Array
    for (let i = 0; i < 20_000; i++) await records.put(`content/${cidOf(Buffer.from(String(i)))}`, value)
    const timed = async (work: () => Promise<unknown>) => {
      const start = performance.now()
      await work()
      return performance.now() - start
    }
    // What a busy machine makes of a second shows in a plain reading of the same records.
    const plain = await timed(async () => {
      for await (const _ of records.entries({ prefix: 'content/' }));
    })
    let opened: Opened | undefined
    const taken = await timed(async () => {
      opened = await open({}, { directory, records, store: first.store })
    })
    expect(taken).toBeLessThan(Math.max(1000, 20 * plain))
    const { store } = opened as unknown as Opened
    expect((await store.usage()).contents).toBe(20_001)
  })
})
