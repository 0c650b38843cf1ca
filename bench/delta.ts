// What the second version of a real package moves: for pairs of successive npm releases, the bytes of the shards that
// the old version does not have, against an ideal delta (bench/ideal-delta.ts) at the format's 256 KiB, and at the
// size that our shards have on average in that package, which is the harder. The content index is named beside, since
// a fetch moves it too. Usage: bench/delta.ts [NAME@OLD NAME@NEW]…   (needs the npm registry)
import { execFileSync } from 'node:child_process'
import { mkdtempSync, readFileSync, rmSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { type ContentIndex, encodeContentIndex } from '../src/assets/content-index.ts'
import type { ContentWriter } from '../src/assets/content-store.ts'
import { packTree } from '../src/assets/pack.ts'
import { scanFiles } from '../src/assets/package-tree.ts'
import { changedRanges, coverBytes } from './ideal-delta.ts'

const pairs = [
  ['typescript@5.9.2', 'typescript@5.9.3'],
  ['aws-cdk-lib@2.160.0', 'aws-cdk-lib@2.161.0'],
  ['next@15.5.2', 'next@15.5.3'],
  ['@types/node@24.3.0', '@types/node@24.3.1'],
  ['monaco-editor@0.52.0', 'monaco-editor@0.52.2'],
  ['date-fns@4.0.0', 'date-fns@4.1.0'],
  ['aws-sdk@2.1691.0', 'aws-sdk@2.1692.0'],
  ['three@0.170.0', 'three@0.171.0'],
  ['prettier@3.5.2', 'prettier@3.5.3'],
  ['@esbuild/linux-x64@0.25.0', '@esbuild/linux-x64@0.25.1'],
  ['react-native@0.76.4', 'react-native@0.76.5'],
  ['firebase@11.1.0', 'firebase@11.2.0'],
] as const
const mebibyte = 1024 * 1024
const shardBytes = 256 * 1024
const key = (hash: Uint8Array) => Buffer.from(hash).toString('hex')
const discarding: ContentWriter = {
  append: async () => undefined,
  commit: async () => '',
  abort: async () => undefined,
}

interface Version {
  readonly index: ContentIndex
  readonly stream: Uint8Array
}

async function unpack(release: string, root: string): Promise<Version> {
  const directory = mkdtempSync(join(root, 'release-'))
  const [packed] = JSON.parse(
    execFileSync('npm', ['pack', release, '--json'], {
      cwd: directory,
      stdio: ['ignore', 'pipe', 'ignore'],
    }).toString(),
  ) as { filename: string }[]
  const archive = (packed?.filename ?? '').replace('@', '').replace('/', '-')
  execFileSync('tar', ['xzf', archive], { cwd: directory })
  rmSync(join(directory, archive))
  const entries = await scanFiles(directory)
  const files = entries.flatMap(entry =>
    entry.kind === 'file' ? [readFileSync(join(directory, entry.path))] : [],
  )
  const index = await packTree(entries, discarding)
  rmSync(directory, { recursive: true })
  return { index, stream: Buffer.concat(files) }
}

function compare(old: Version, next: Version) {
  const had = new Set(old.index.shards.map(({ hash }) => key(hash)))
  const fresh = new Map(next.index.shards.map(({ hash, length }) => [key(hash), length]))
  const moved = [...fresh].reduce((sum, [hash, length]) => (had.has(hash) ? sum : sum + length), 0)
  const changed = changedRanges(old.stream, next.stream)
  const { size, shards } = next.index
  return {
    size,
    moved,
    changed: changed.reduce((sum, { start, end }) => sum + end - start, 0),
    ideal: coverBytes(changed, shardBytes, size),
    idealAtOurs: coverBytes(changed, Math.round(size / shards.length), size),
    average: size / shards.length,
    index: encodeContentIndex(next.index).bytes.byteLength,
  }
}

async function main(): Promise<void> {
  const given = process.argv.slice(2)
  const asked =
    given.length > 0 ? given.flatMap((name, i) => (i % 2 === 0 ? [[name, given[i + 1] ?? name]] : [])) : pairs
  const root = mkdtempSync(join(tmpdir(), 'catalog-delta-'))
  const rows: Record<string, Record<string, string>> = {}
  const ratios: { ideal: number; ours: number }[] = []
  try {
    for (const [before, after] of asked as readonly (readonly [string, string])[]) {
      const found = compare(await unpack(before, root), await unpack(after, root))
      const inMebibytes = (bytes: number) => (bytes / mebibyte).toFixed(2)
      ratios.push({ ideal: found.moved / found.ideal, ours: found.moved / found.idealAtOurs })
      rows[after] = {
        'size MiB': inMebibytes(found.size),
        'changed MiB': inMebibytes(found.changed),
        'ideal MiB': inMebibytes(found.ideal),
        'moved MiB': inMebibytes(found.moved),
        'moved / ideal': (found.moved / found.ideal).toFixed(2),
        'at our shard size': (found.moved / found.idealAtOurs).toFixed(2),
        'shard KiB': (found.average / 1024).toFixed(0),
        'index MiB': inMebibytes(found.index),
      }
    }
  } finally {
    rmSync(root, { recursive: true, force: true })
  }
  const mean = (values: number[]) =>
    Math.exp(values.reduce((sum, value) => sum + Math.log(value), 0) / values.length).toFixed(2)
  console.table(rows)
  console.log(
    `geometric means: moved / ideal ${mean(ratios.map(r => r.ideal))}, at our shard size ${mean(ratios.map(r => r.ours))}`,
  )
}

await main()
