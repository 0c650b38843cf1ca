// What publishing costs without the daemon: scan, read, cut, hash, store and commit in this process, on the file store.
// One big file beside a manifest, against `cp` with fsync plus native hashing of the same file; and 1,000 files of 4 KiB
// against one file of the same size. The daemon's whole publish, signature and announcement included, is a row of
// bench/run.ts. Usage: bench/publish.ts [MIB] [ROUNDS]
import { createHash, randomFillSync } from 'node:crypto'
import {
  closeSync,
  copyFileSync,
  fsyncSync,
  mkdirSync,
  mkdtempSync,
  openSync,
  readFileSync,
  rmSync,
  writeFileSync,
} from 'node:fs'
import { tmpdir } from 'node:os'
import { dirname, join } from 'node:path'
import { packTree } from '../src/assets/pack.ts'
import { scanFiles } from '../src/assets/package-tree.ts'
import { blake3 } from '../src/base/hash.ts'
import { silentLog } from '../src/base/log.ts'
import { FileContentStore } from '../src/store/file-content-store.ts'
import { LevelKeyValue } from '../src/store/level-key-value.ts'

const mebibytes = Number(process.argv[2] ?? 256)
const rounds = Number(process.argv[3] ?? 5)
const root = mkdtempSync(join(tmpdir(), 'catalog-publish-'))
const median = (values: number[]) => values.toSorted((a, b) => a - b)[Math.floor(values.length / 2)] as number

async function timed(work: () => unknown): Promise<number> {
  const started = performance.now()
  await work()
  return performance.now() - started
}

function copyAndSync(from: string, to: string): void {
  copyFileSync(from, to)
  const file = openSync(to, 'r+')
  fsyncSync(file)
  closeSync(file)
}

const randomBytes = (size: number) => randomFillSync(Buffer.allocUnsafeSlow(size))

function writeTree(name: string, files: readonly (readonly [path: string, bytes: Uint8Array])[]): string {
  const directory = join(root, name)
  for (const [path, bytes] of files) {
    mkdirSync(dirname(join(directory, path)), { recursive: true })
    writeFileSync(join(directory, path), bytes)
  }
  return directory
}

async function main(): Promise<void> {
  const records = await LevelKeyValue.open({ directory: join(root, 'db') })
  const store = new FileContentStore({ records, log: silentLog }, { directory: join(root, 'store') })
  await store.start()
  const publish = async (directory: string) => {
    const entries = await scanFiles(directory)
    const size = entries.reduce((sum, entry) => (entry.kind === 'file' ? sum + entry.size : sum), 0)
    const writer = await store.createWriter(size)
    try {
      return await writer.commit(await packTree(entries, writer))
    } finally {
      await writer.abort()
    }
  }
  const times: Record<string, number[]> = {}
  const note = (what: string, milliseconds: number) => {
    times[what] = [...(times[what] ?? []), milliseconds]
  }
  for (let round = 0; round < rounds; round++) {
    const manifest = ['catalog.json', Buffer.from('{}')] as const
    const big = writeTree('big', [manifest, ['model.bin', randomBytes(mebibytes * 1024 * 1024)]])
    const file = join(big, 'model.bin')
    note(
      'baseline',
      (await timed(() => copyAndSync(file, join(root, 'copy')))) +
        (await timed(() => {
          const bytes = readFileSync(file)
          blake3(bytes)
          createHash('sha256').update(bytes).digest()
        })),
    )
    rmSync(join(root, 'copy'))
    let published = ''
    const notePublish = async (what: string, directory: string) => {
      note(what, await timed(async () => (published = await publish(directory))))
      await store.remove(published)
      rmSync(directory, { recursive: true })
    }
    await notePublish('publish', big)
    const files = Array.from({ length: 1000 }, (_, i) => [`d${i % 20}/f${i}`, randomBytes(4096)] as const)
    await notePublish('many files', writeTree('many', [manifest, ...files]))
    await notePublish('one file', writeTree('one', [manifest, ['blob', randomBytes(4096 * 1000)]]))
  }
  await store.stop()
  await records.stop()
  const row = (ours: string, against: string) => ({
    ratio: (median(times[against] ?? []) / median(times[ours] ?? [])).toFixed(2),
    'ours ms': median(times[ours] ?? []).toFixed(0),
    'against ms': median(times[against] ?? []).toFixed(0),
  })
  console.log(`medians of ${rounds}`)
  console.table({
    [`publish of ${mebibytes} MiB / cp + fsync + hash`]: row('publish', 'baseline'),
    '1,000 files of 4 KiB / one file of 4 MB': row('many files', 'one file'),
  })
}

try {
  await main()
} finally {
  rmSync(root, { recursive: true, force: true })
}
