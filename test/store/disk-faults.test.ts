// An error at every single file operation and record of a day's work: what was acknowledged is whole after a restart,
// what failed was not acknowledged.
import { describe, expect, it } from 'vitest'
import { CatalogError } from '../../src/base/errors.ts'
import { silentLog } from '../../src/base/log.ts'
import { MemoryKeyValue } from '../../src/base/memory-key-value.ts'
import { FileContentStore } from '../../src/store/file-content-store.ts'
import { FailingDisk, type Fault, type Operation, operations } from './failing-disk.ts'
import { publish, type Sample, sample } from './sample-content.ts'
import { deleteDirectory, makeTemporaryDirectory } from './temporary-directory.ts'

const [published, fetched, resumed, removed] = [1, 2, 3, 4].map(seed => sample(seed, 600_000)) as [
  Sample,
  Sample,
  Sample,
  Sample,
]

interface Outcome {
  readonly disk: FailingDisk
  readonly acknowledged: ReadonlySet<string>
  readonly errors: readonly unknown[]
  readonly lost: readonly string[]
  readonly wasReadOnly: boolean
  readonly left: readonly string[]
}

async function fetch(store: FileContentStore, content: Sample): Promise<void> {
  const partial = await store.openPartial(content.root, content.indexBytes)
  try {
    for (const shard of partial.missing()) await partial.put(shard, content.shard(shard))
    await partial.complete()
  } finally {
    await partial.close()
  }
}

type Step = (work: () => Promise<unknown>, root?: string) => Promise<void>

async function work(store: FileContentStore, step: Step): Promise<void> {
  await step(() => publish(store, removed))
  await step(() => publish(store, published), published.root)
  await step(() => fetch(store, fetched), fetched.root)
  await step(async () => {
    const partial = await store.openPartial(resumed.root, resumed.indexBytes)
    await partial.put(0, resumed.shard(0)).finally(() => partial.close())
  })
  await step(() => fetch(store, resumed), resumed.root)
  await step(() => store.remove(removed.root))
  // A caller that tries once more: a store that went read-only must refuse.
  await step(() => publish(store, published), published.root)
  await step(() => fetch(store, fetched), fetched.root)
}

/** Publishes, fetches, resumes and removes on a disk with this fault, then restarts on a sound one and looks. */
async function workOn(fault?: Fault): Promise<Outcome> {
  const directory = await makeTemporaryDirectory()
  const disk = new FailingDisk(fault)
  const records = new MemoryKeyValue()
  const acknowledged = new Set<string>()
  const errors: unknown[] = []
  const step: Step = async (task, root) => {
    try {
      await task()
      if (root !== undefined) acknowledged.add(root)
    } catch (error) {
      errors.push(error)
    }
  }
  try {
    const store = new FileContentStore(
      { records: disk.records(records), log: silentLog, fileSystem: disk.fileSystem },
      { directory },
    )
    let started = false
    await step(async () => {
      await store.start()
      started = true
    })
    if (started) await work(store, step)
    const wasReadOnly = store.readOnly
    await store.stop()

    const after = new FileContentStore({ records, log: silentLog }, { directory })
    await after.start()
    const lost: string[] = []
    for (const root of acknowledged)
      if ((await after.state(root)) !== 'complete' || (await after.check(root)).length > 0) lost.push(root)
    for await (const { root, complete } of after.roots())
      if (complete && (await after.check(root)).length > 0) lost.push(root)
    // And the sound disk takes everything.
    for (const content of [published, fetched, resumed]) {
      await fetch(after, content)
      if ((await after.check(content.root)).length > 0) lost.push(content.root)
    }
    await after.remove(removed.root)
    const left: string[] = []
    for await (const { root } of after.roots()) left.push(root)
    await after.stop()
    return { disk, acknowledged, errors, lost, wasReadOnly, left }
  } finally {
    await deleteDirectory(directory)
  }
}

describe('a disk that fails', () => {
  it('does its work without a fault', async () => {
    const { acknowledged, errors, lost, left } = await workOn()
    expect({ errors, lost, acknowledged: acknowledged.size, left: left.length }).toEqual({
      errors: [],
      lost: [],
      acknowledged: 3,
      left: 3,
    })
  })

  for (const errno of ['EIO', 'ENOSPC'] as const)
    it(`loses nothing that was acknowledged, whichever operation gives ${errno}`, async () => {
      const { disk } = await workOn()
      let sites = 0
      for (const operation of operations)
        for (let call = 1; call <= disk.calls[operation]; call++) {
          const outcome = await workOn({ operation, call, errno })
          const site = `${operation} ${call}`
          expect(outcome.disk.struck, site).toBe(true)
          expect(outcome.lost, site).toEqual([])
          for (const error of outcome.errors) expect(error, site).toBeInstanceOf(CatalogError)
          if (errno === 'EIO' && isSync(operation)) expect(outcome.wasReadOnly, site).toBe(true)
          // Deleting a file that no record names is the only thing that may fail unseen.
          if (operation !== 'unlink') expect(outcome.errors.length, site).toBeGreaterThan(0)
          sites += 1
        }
      expect(sites).toBeGreaterThan(40)
    })

  it('would be caught losing data: on a disk that lies about syncing files, contents are lost', async () => {
    const { disk } = await workOn()
    let lost = 0
    for (let call = 1; call <= disk.calls.datasync; call++) {
      const outcome = await workOn({ operation: 'datasync', call, errno: 'EIO', lie: true })
      lost += outcome.lost.length
    }
    expect(lost).toBeGreaterThan(2)
  })
})

const isSync = (operation: Operation) => operation === 'sync' || operation === 'datasync'
