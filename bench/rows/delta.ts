// Rows `delta-…`: what a receiver that has one release of a real package needs for the next, against an ideal delta of
// pieces of 256 KiB (bench/ideal-delta.ts). Like is compared with like: the ratio is of the shards that it has not,
// uncompressed, as the ideal is. What two daemons really moved, compressed, index and protocol included, is beside it.
import { execFile } from 'node:child_process'
import { existsSync, mkdirSync, readFileSync, renameSync } from 'node:fs'
import { join } from 'node:path'
import { promisify } from 'node:util'
import type { ContentWriter } from '../../src/assets/content-store.ts'
import { packTree } from '../../src/assets/pack.ts'
import { scanFiles } from '../../src/assets/package-tree.ts'
import { type Figure, failed, type Settings, skipped } from '../figures.ts'
import { changedRanges, coverBytes } from '../ideal-delta.ts'
import { type BenchNode, describePackage, kept, type Laboratory } from '../laboratory.ts'

const run = promisify(execFile)
const pairs = [
  { name: 'typescript', old: '5.9.2', next: '5.9.3' },
  { name: 'aws-cdk-lib', old: '2.160.0', next: '2.161.0' },
  { name: 'next', old: '15.5.2', next: '15.5.3' },
] as const
type Pair = (typeof pairs)[number]

const head = ({ name, old, next }: Pair) => ({
  what: `${name} ${old} → ${next}: bytes moved / ideal delta`,
  wanted: '≤ 1.2',
})

export const rows = Object.fromEntries(pairs.map(pair => [`delta-${pair.name}`, head(pair)]))

const mebibyte = 1024 * 1024
const pieceBytes = 256 * 1024

export async function measure(
  laboratory: Laboratory,
  _settings: Settings,
  asked: ReadonlySet<string>,
): Promise<Figure[]> {
  const sender = await laboratory.node('sender')
  const receiver = await laboratory.node('receiver', { bootstrap: [sender] })
  const figures: Figure[] = []
  for (const pair of pairs) {
    const row = `delta-${pair.name}`
    if (!asked.has(row)) continue
    try {
      await Promise.all([pair.old, pair.next].map(version => download(pair.name, version)))
    } catch (error) {
      figures.push(skipped(row, head(pair), `npm could not get it: ${String(error).split('\n')[0]}`))
      continue
    }
    try {
      figures.push(await compare(laboratory, row, pair, sender, receiver))
    } catch (error) {
      figures.push(failed(row, head(pair), error))
    }
  }
  return figures
}

async function compare(
  laboratory: Laboratory,
  row: string,
  pair: Pair,
  sender: BenchNode,
  receiver: BenchNode,
): Promise<Figure> {
  const { name } = pair
  const old = await unpack(laboratory, name, pair.old)
  const next = await unpack(laboratory, name, pair.next)
  const before = await sender.publish(old)
  await receiver.knows(before.id)
  await receiver.fetch(before.id)
  const after = await sender.publish(next)
  await receiver.knows(after.id)
  const { bytesTransferred } = await receiver.fetch(after.id)
  const stream = await streamOf(next)
  const ideal = coverBytes(changedRanges(await streamOf(old), stream), pieceBytes, stream.byteLength)
  const inMebibytes = (bytes: number) => `${(bytes / mebibyte).toFixed(2)} MiB`
  const had = await shardsOf(old)
  const moved = [...(await shardsOf(next))].reduce(
    (sum, [hash, length]) => sum + (had.has(hash) ? 0 : length),
    0,
  )
  const ratio = moved / ideal
  return {
    row,
    what: head(pair).what,
    ours: `${inMebibytes(moved)} (on the wire ${inMebibytes(bytesTransferred)})`,
    reference: `${inMebibytes(ideal)} of ${inMebibytes(stream.byteLength)}`,
    ratio,
    wanted: head(pair).wanted,
    verdict: ratio <= 1.2 ? 'yes' : 'NO',
    samples: { moved: [moved], wire: [bytesTransferred], ideal: [ideal] },
  }
}

const archiveOf = (name: string, version: string) => join(kept, `${name}-${version}.tgz`)

async function download(name: string, version: string): Promise<void> {
  if (existsSync(archiveOf(name, version))) return
  const partial = join(kept, `partial-${process.pid}`)
  mkdirSync(partial, { recursive: true })
  const args = ['pack', `${name}@${version}`, '--silent', '--ignore-scripts', '--pack-destination', partial]
  await run('npm', args, { timeout: 300_000 })
  renameSync(join(partial, `${name}-${version}.tgz`), archiveOf(name, version))
}

async function unpack(laboratory: Laboratory, name: string, version: string): Promise<string> {
  const directory = laboratory.path(`release-${name}-${version}`)
  mkdirSync(directory)
  await run('tar', ['xzf', archiveOf(name, version), '-C', directory, '--strip-components=1'])
  describePackage(directory, name, version)
  return directory
}

const discarding: ContentWriter = {
  append: async () => undefined,
  commit: async () => '',
  abort: async () => undefined,
}

/** A package's shards: length by hash. */
async function shardsOf(directory: string): Promise<Map<string, number>> {
  const { shards } = await packTree(await scanFiles(directory), discarding)
  return new Map(shards.map(({ hash, length }) => [Buffer.from(hash).toString('hex'), length]))
}

/** A release's byte stream: its files, one after the other, in the order of the format. */
async function streamOf(directory: string): Promise<Buffer> {
  const entries = await scanFiles(directory)
  return Buffer.concat(
    entries.flatMap(({ kind, path }) => (kind === 'file' ? [readFileSync(join(directory, path))] : [])),
  )
}
