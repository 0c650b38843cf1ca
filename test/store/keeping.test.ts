// Leases, removal, last use, quota and what makes room: what the store promises to those who decide about keeping.
import { readdir, stat } from 'node:fs/promises'
import { join } from 'node:path'
import { describe, expect, it, onTestFinished } from 'vitest'
import type { ContentStore } from '../../src/assets/content-store.ts'
import { silentLog } from '../../src/base/log.ts'
import { MemoryKeyValue } from '../../src/base/memory-key-value.ts'
import { FileContentStore, type FileContentStoreDeps } from '../../src/store/file-content-store.ts'
import { pseudoRandom, publish, readAll, type Sample, sample } from './sample-content.ts'
import { temporaryDirectory } from './temporary-directory.ts'

interface Opened {
  readonly store: FileContentStore
  readonly directory: string
  readonly records: MemoryKeyValue
}

async function open(
  options: { maxBytes?: number; makeRoom?: FileContentStoreDeps['makeRoom'] } = {},
  earlier?: Opened,
): Promise<Opened> {
  const directory = earlier?.directory ?? (await temporaryDirectory())
  const records = earlier?.records ?? new MemoryKeyValue()
  const { makeRoom, ...rest } = options
  const store = new FileContentStore(
    { records, log: silentLog, ...(makeRoom === undefined ? {} : { makeRoom }) },
    { directory, reserveBytes: 0, ...rest },
  )
  await store.start()
  onTestFinished(() => store.stop())
  return { store, directory, records }
}

/** The lengths of all files of the store, staged ones among them. */
async function bytesOnDisk(directory: string): Promise<number> {
  let bytes = 0
  for (const name of await readdir(directory, { recursive: true })) {
    const found = await stat(join(directory, name)).catch(() => undefined)
    if (found?.isFile() === true) bytes += found.size
  }
  return bytes
}

async function fetchInto(store: ContentStore, content: Sample, shards?: readonly number[]): Promise<void> {
  const partial = await store.openPartial(content.root, content.indexBytes)
  try {
    for (const shard of shards ?? partial.missing()) await partial.put(shard, content.shard(shard))
    if (shards === undefined) await partial.complete()
  } finally {
    await partial.close()
  }
}

const byUse = async (store: ContentStore) => {
  const contents = []
  for await (const content of store.roots()) contents.push(content)
  return contents.sort((a, b) => a.usedAt - b.usedAt).map(({ root }) => root)
}

describe('a lease', () => {
  const content = sample(1, 2_000_000)

  it('keeps a content from every removal until the last holder lets go', async () => {
    const { store } = await open()
    await publish(store, content)
    const [first, second] = [store.lease(content.root), store.lease(content.root)]
    expect(await store.remove(content.root)).toBe(false)
    expect(await store.removeIdle(content.root, () => false)).toBe(false)
    first.release()
    first.release()
    expect(await store.remove(content.root)).toBe(false)
    expect(await store.check(content.root)).toEqual([])
    second.release()
    expect(await store.remove(content.root)).toBe(true)
    expect(await store.state(content.root)).toBeUndefined()
  })

  it('may be taken before the content is here', async () => {
    const { store } = await open()
    const lease = store.lease(content.root)
    await publish(store, content)
    expect(await store.removeIdle(content.root, () => false)).toBe(false)
    lease.release()
    expect(await store.removeIdle(content.root, () => false)).toBe(true)
  })

  it('taken while the content is being removed finds nothing, or keeps all of it', async () => {
    const { store } = await open()
    const outcomes = new Set<boolean>()
    for (let steps = 0; steps < 30; steps++) {
      await publish(store, content)
      const removal = store.remove(content.root)
      for (let step = 0; step < steps; step++) await Promise.resolve()
      const lease = store.lease(content.root)
      const bytes = await readAll(store, content.root, 0, content.bytes.byteLength).catch(
        (error: { code: string }) => error.code,
      )
      const gone = await removal
      outcomes.add(gone)
      if (gone) expect(bytes).toBe('not-found')
      else expect(Buffer.from(content.bytes).equals(bytes as Uint8Array)).toBe(true)
      lease.release()
      await store.remove(content.root)
    }
    // Both happened: the steps reach over the moment of the decision.
    expect(outcomes).toEqual(new Set([true, false]))
  })
})

describe('an idle removal', () => {
  const content = sample(2, 300_000)

  it('leaves what is being fetched, and what somebody speaks for at that moment', async () => {
    const { store } = await open()
    const partial = await store.openPartial(content.root, content.indexBytes)
    await partial.put(0, content.shard(0))
    expect(await store.removeIdle(content.root, () => false)).toBe(false)
    await partial.close()
    expect(await store.removeIdle(content.root, () => true)).toBe(false)
    expect(await store.removeIdle(content.root, () => false)).toBe(true)
  })

  it('does not wait for a change under way', async () => {
    const { store } = await open()
    await publish(store, content)
    const publishing = publish(store, content)
    let tried = 0
    let refused = 0
    let done = false
    void publishing.then(() => {
      done = true
    })
    while (!done) {
      tried += 1
      if (!(await store.removeIdle(content.root, () => true))) refused += 1
      await new Promise(resolve => setImmediate(resolve))
    }
    expect(refused).toBe(tried)
    await publishing
    expect(await store.check(content.root)).toEqual([])
  })

  it('that the disk refuses leaves the content whole', async () => {
    const { store, records } = await open()
    await publish(store, content)
    const batch = records.batch.bind(records)
    records.batch = async () => Promise.reject(new Error('no'))
    await expect(store.remove(content.root)).rejects.toThrow()
    records.batch = batch
    expect(await store.state(content.root)).toBe('complete')
    expect(await store.check(content.root)).toEqual([])
    expect(await store.remove(content.root)).toBe(true)
  })
})

describe('the last use', () => {
  const contents = [3, 4, 5].map(seed => sample(seed, 100_000)) as [Sample, Sample, Sample]
  const [a, b, c] = contents

  it('orders contents by publishing, fetching, reading and leasing, and outlives a restart', async () => {
    const opened = await open()
    const { store } = opened
    await publish(store, a)
    await publish(store, b)
    await fetchInto(store, c)
    expect(await byUse(store)).toEqual([a.root, b.root, c.root])
    await readAll(store, a.root, 0, 10)
    store.lease(b.root).release()
    expect(await byUse(store)).toEqual([c.root, a.root, b.root])
    await store.readShard(c.root, 0)
    await store.stop()
    const again = await open({}, opened)
    expect(await byUse(again.store)).toEqual([a.root, b.root, c.root])
    await again.store.remove(b.root)
    expect(await again.records.get(`use/${b.root}`)).toBeUndefined()
  })

  it('is not written at every use', async () => {
    const { store, records } = await open()
    await publish(store, a)
    let writes = 0
    const batch = records.batch.bind(records)
    records.batch = async list => {
      writes += 1
      await batch(list)
    }
    for (let i = 0; i < 1000; i++) await store.readShard(a.root, 0)
    expect(writes).toBe(0)
    await store.stop()
    expect(writes).toBe(1)
  })
})

describe('the quota', () => {
  const mebibyte = 1024 * 1024

  it('is held to the byte by what is on the disk, under parallel publishes and fetches of any outcome', async () => {
    const maxBytes = 6 * mebibyte + 12_345
    const { store, directory } = await open({ maxBytes })
    let over = 0
    let highest = 0
    let busy = true
    const watch = (async () => {
      while (busy) {
        const bytes = await bytesOnDisk(directory)
        highest = Math.max(highest, bytes)
        if (bytes > maxBytes) over += 1
        await new Promise(resolve => setImmediate(resolve))
      }
    })()
    let refused = 0
    const attempt = (work: () => Promise<unknown>) =>
      work().catch((error: { code?: string }) => {
        if (error.code !== 'quota-exceeded') throw error
        refused += 1
      })
    for (let round = 0; round < 8; round++) {
      const contents = [0, 1, 2, 3].map(lane => sample(100 + round * 4 + lane, 2 * mebibyte + lane * 77_777))
      const [first, second, third, fourth] = contents as [Sample, Sample, Sample, Sample]
      await Promise.all([
        attempt(() => fetchInto(store, first)),
        attempt(() => fetchInto(store, second, [second.index.shards.length - 1])),
        attempt(() => publish(store, third)),
        // Of unknown size: refused in the middle.
        attempt(() => publishUnknown(store, fourth)),
      ])
      if (round % 2 === 1) for await (const { root } of store.roots()) await store.remove(root)
    }
    busy = false
    await watch
    expect(over).toBe(0)
    // It came near, and it did refuse.
    expect(highest).toBeGreaterThan(maxBytes / 2)
    expect(refused).toBeGreaterThan(0)
    const { freeBytes } = await store.usage()
    expect(freeBytes).toBe(maxBytes - (await bytesOnDisk(directory)))
  })

  async function publishUnknown(store: ContentStore, content: Sample): Promise<void> {
    const writer = await store.createWriter(0)
    try {
      await Promise.all(content.index.shards.map((_, shard) => writer.append(content.shard(shard))))
      await writer.commit(content.index)
    } finally {
      await writer.abort()
    }
  }

  it('lets in what fits exactly, and refuses one byte more', async () => {
    const content = sample(8, 500_000)
    const { store } = await open({ maxBytes: 500_000 })
    await fetchInto(store, content)
    await store.remove(content.root)
    const longer = sample(9, 500_001)
    await expect(fetchInto(store, longer)).rejects.toMatchObject({
      code: 'quota-exceeded',
      data: { neededBytes: 500_001, freeBytes: 500_000, maxBytes: 500_000 },
    })
    await publishUnknown(store, content)
    expect((await store.usage()).freeBytes).toBe(0)
  })

  it('lets one of two in that fit alone, and not together', async () => {
    const { store } = await open({ maxBytes: 1_000_000 })
    const results = await Promise.allSettled([
      fetchInto(store, sample(10, 700_000)),
      fetchInto(store, sample(11, 700_000)),
    ])
    expect(results.map(({ status }) => status).sort()).toEqual(['fulfilled', 'rejected'])
  })

  it('counts a fetch that was left with the length of its file, also after a restart', async () => {
    const content = sample(12, 3_000_000)
    const opened = await open({ maxBytes: 4_000_000 })
    const last = content.index.shards.length - 1
    await fetchInto(opened.store, content, [last])
    expect((await opened.store.usage()).freeBytes).toBe(1_000_000)
    await opened.store.stop()
    const { store } = await open({ maxBytes: 4_000_000 }, opened)
    expect((await store.usage()).freeBytes).toBe(1_000_000)
    // Going on with it asks for nothing that is counted already.
    await expect(store.createWriter(1_000_001)).rejects.toMatchObject({ code: 'quota-exceeded' })
    const writer = await store.createWriter(1_000_000)
    await fetchInto(store, content)
    expect((await store.usage()).freeBytes).toBe(0)
    await writer.abort()
  })

  it('lets a damaged content be repaired when not a byte is free', async () => {
    const content = sample(13, 1_000_000)
    const { store, directory } = await open({ maxBytes: 1_000_000 })
    await publish(store, content)
    const { writeFile } = await import('node:fs/promises')
    for (const name of await readdir(directory, { recursive: true }))
      if (name.endsWith(content.root))
        await writeFile(join(directory, name), pseudoRandom(1, 1_000_000), { flag: 'r+' })
    const bad = await store.check(content.root)
    expect(bad).toHaveLength(content.index.shards.length)
    await fetchInto(store, content)
    expect(await store.check(content.root)).toEqual([])
    expect((await store.usage()).freeBytes).toBe(0)
  })

  it('asks for room once, for what lacks, and says what holds the rest', async () => {
    const asked: number[] = []
    let victim: string | undefined
    const opened: Opened = await open({
      maxBytes: 1_000_000,
      makeRoom: async bytes => {
        asked.push(bytes)
        if (victim !== undefined) await opened.store.removeIdle(victim, () => false)
        return { keptBytes: { pinned: 400_000, 'in use': 0 } }
      },
    })
    const { store } = opened
    const [first, second] = [sample(14, 400_000), sample(15, 700_000)]
    await publish(store, first)
    await expect(fetchInto(store, second)).rejects.toMatchObject({
      code: 'quota-exceeded',
      message: expect.stringContaining('400000 pinned'),
      data: { keptBytes: { pinned: 400_000 } },
    })
    victim = first.root
    await fetchInto(store, second)
    expect(asked).toEqual([100_000, 100_000])
    expect(await store.state(first.root)).toBeUndefined()
    // What can never fit pushes nothing out.
    await expect(store.createWriter(1_000_001)).rejects.toMatchObject({ code: 'quota-exceeded' })
    expect(asked).toHaveLength(2)
  })
})

describe('sweeping', () => {
  it('takes what no record names beside running work, and only says so when dry', async () => {
    const { store, directory, records } = await open()
    const [kept, orphan, staged] = [16, 17, 18].map(seed => sample(seed, 300_000)) as [Sample, Sample, Sample]
    await publish(store, kept)
    const writer = await store.createWriter(0)
    await writer.append(staged.shard(0))
    // An orphan's file and hints, as a removal leaves them that was cut off.
    await publish(store, orphan)
    const { copyFile, writeFile } = await import('node:fs/promises')
    const path = join(
      directory,
      (await readdir(directory, { recursive: true })).find(name => name.endsWith(orphan.root)) as string,
    )
    await copyFile(path, `${directory}/aside`)
    const hints: string[] = []
    for await (const key of records.keys({ prefix: 'shard/' })) if (key.endsWith(orphan.root)) hints.push(key)
    await store.remove(orphan.root)
    await copyFile(`${directory}/aside`, path)
    for (const key of hints) await records.put(key, new Uint8Array(16))
    await writeFile(join(directory, 'staging', 'left.new'), 'left')
    const expected = { files: 2, fileBytes: 300_004, hints: hints.length }
    expect(await store.sweep({ dryRun: true })).toEqual(expected)
    expect(await store.sweep()).toEqual(expected)
    expect(await store.sweep()).toEqual({ files: 0, fileBytes: 0, hints: 0 })
    expect(await store.check(kept.root)).toEqual([])
    expect(await writer.commit(sampleIndexOfFirst(staged))).toBeDefined()
    await writer.abort()
  })
})

/** The index of a content that is the first shard alone. */
const sampleIndexOfFirst = (content: Sample) => ({
  ...content.index,
  size: content.shard(0).byteLength,
  entries: [
    { ...(content.index.entries[0] as { size: number }), size: content.shard(0).byteLength },
  ] as never,
  shards: content.index.shards.slice(0, 1),
})
