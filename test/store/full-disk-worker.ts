// Runs inside a mount namespace of its own, on a small file system at the directory given: fills it up to many
// levels, works on it, and prints as JSON what happened at each.
import { mkdir, rm, statfs, writeFile } from 'node:fs/promises'
import { join } from 'node:path'
import { isCatalogError } from '../../src/base/errors.ts'
import { silentLog } from '../../src/base/log.ts'
import { FileContentStore } from '../../src/store/file-content-store.ts'
import { LevelKeyValue } from '../../src/store/level-key-value.ts'
import { publish, readAll, type Sample, sample } from './sample-content.ts'

const mount = process.argv[2] as string
const levels = Number(process.argv[3])
const kibibyte = 1024

export interface LevelReport {
  readonly freeKiB: number
  readonly guarded: boolean
  readonly accepted: number
  readonly refusals: string[]
  readonly wrong: string[]
}

const free = async () => {
  const { bavail, bsize } = await statfs(mount)
  return bavail * bsize
}

/** Takes all but `leave` bytes of the disk. */
async function fill(path: string, leave: number): Promise<void> {
  await writeFile(path, Buffer.alloc(Math.max(0, (await free()) - leave)))
}

/** `guarded`: with the margins that a daemon has. Without them the disk itself is what refuses. */
async function open(home: string, guarded: boolean) {
  const records = await LevelKeyValue.open({
    directory: join(home, 'db'),
    reserveBytes: 2048 * kibibyte,
    lowWaterBytes: guarded ? 1024 * kibibyte : 0,
  })
  const store = new FileContentStore(
    { records, log: silentLog },
    { directory: home, reserveBytes: guarded ? 2048 * kibibyte : 0 },
  )
  await store.start()
  const close = async () => {
    await store.stop()
    await records.stop()
  }
  return { store, records, close }
}

async function workAtLevel(home: string, leave: number, guarded: boolean): Promise<LevelReport> {
  await mkdir(home)
  const refusals: string[] = []
  const wrong: string[] = []
  const kept: Sample[] = []
  const attempt = async (what: string, work: () => Promise<unknown>, content?: Sample) => {
    try {
      await work()
      if (content !== undefined) kept.push(content)
    } catch (error) {
      if (isCatalogError(error, 'no-space')) refusals.push(what)
      else wrong.push(`${what}: ${error}`)
    }
  }
  const expectWhole = async (store: FileContentStore, when: string) => {
    for (const { root, bytes } of kept) {
      const read = await readAll(store, root, 0, bytes.byteLength).catch(error => error)
      if (!Buffer.from(bytes).equals(read)) wrong.push(`${when}: ${root} is not whole (${read})`)
    }
  }
  const filler = join(mount, 'filler')

  let { store, records, close } = await open(home, guarded)
  const [first, doomed] = [sample(1, 500_000), sample(2, 500_000)]
  for (const content of [first, doomed]) await publish(store, content)
  kept.push(first)
  await fill(filler, leave)
  const freeKiB = Math.round((await free()) / kibibyte)
  for (let seed = 10; seed < 14; seed++) {
    const content = sample(seed, 1_500_000)
    await attempt('publish', () => publish(store, content), content)
  }
  for (let seed = 20; seed < 23; seed++) {
    const content = sample(seed, 900_000)
    const fetch = async () => {
      const partial = await store.openPartial(content.root, content.indexBytes)
      try {
        for (const shard of partial.missing()) await partial.put(shard, content.shard(shard))
        await partial.complete()
      } finally {
        await partial.close()
      }
    }
    await attempt('fetch', fetch, content)
  }
  for (let i = 0; i < 20; i++)
    await attempt('record', () => records.put(`test/${i}`, new Uint8Array(100_000)))
  await expectWhole(store, 'full')

  // A restart on the full disk: it opens, serves, and lets something be removed.
  await close()
  await attempt('reopen', async () => {
    ;({ store, records, close } = await open(home, guarded))
  })
  await expectWhole(store, 'reopened')
  await attempt('remove', () => store.remove(doomed.root))
  if ((await store.state(doomed.root)) !== undefined) wrong.push('what was to be removed is still here')

  // Space returns: without a restart, everything is accepted again.
  await rm(filler)
  const later = sample(30, 1_500_000)
  const before = kept.length
  await attempt('publish with space', () => publish(store, later), later)
  if (kept.length === before) wrong.push('nothing is accepted although space has returned')
  await expectWhole(store, 'recovered')
  await close()
  await rm(home, { recursive: true })
  return { freeKiB, guarded, accepted: before - 1, refusals, wrong }
}

const reports: LevelReport[] = []
for (let level = 0; level < levels; level++)
  reports.push(
    await workAtLevel(join(mount, `home-${level}`), (level >> 1) * 1200 * kibibyte, level % 2 === 0),
  )
process.stdout.write(JSON.stringify(reports))
