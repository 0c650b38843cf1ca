// `npm run bench`: what moving and publishing a package costs here, each as a ratio of medians measured in this run.
// Absolute figures are for the reader: machines differ, and this one may be shared. Usage: bench/run.ts [MIB] [ROUNDS]
//
//   raw stream   one QUIC stream of our transport between two processes, memory to memory
//   fetch        from the accepted request to durable in the receiver's store, disk to disk, verified
//   publish      read, cut, hash, store, sign; against `cp` followed by fsync, plus native BLAKE3 and SHA-256 of the same file
//   many files   1,000 files of 4 KiB to the store, against one file of the same size
import { execFileSync, spawn } from 'node:child_process'
import { createHash, randomBytes } from 'node:crypto'
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
import { createInterface } from 'node:readline'
import { fileURLToPath } from 'node:url'
import { blake3 } from '../src/base/hash.ts'
import { ControlClient } from '../src/control/client.ts'

const mebibytes = Number(process.argv[2] ?? 256)
const rounds = Number(process.argv[3] ?? 5)
const root = mkdtempSync(join(tmpdir(), 'catalog-bench-'))
const program = fileURLToPath(new URL('../src/cli/main.ts', import.meta.url))
const children: { kill(signal: NodeJS.Signals): boolean }[] = []
const median = (values: number[]) => values.toSorted((a, b) => a - b)[Math.floor(values.length / 2)] as number
const timed = async (work: () => unknown) => {
  const started = performance.now()
  await work()
  return performance.now() - started
}

async function startLine(args: readonly string[]): Promise<string> {
  const child = spawn(process.execPath, args, { stdio: ['ignore', 'pipe', 'inherit'] })
  children.push(child)
  return new Promise(resolve => createInterface({ input: child.stdout }).once('line', resolve))
}

async function startNode(name: string, bootstrap: string[]) {
  const home = join(root, name)
  execFileSync(process.execPath, [program, 'init', '--home', home])
  const listen = ['--listen', '/ip4/127.0.0.1/udp/0/quic-v1']
  const joins = bootstrap.flatMap(address => ['--bootstrap', address])
  const ready = JSON.parse(
    await startLine([program, 'daemon', '--home', home, '--log-level', 'error', ...listen, ...joins]),
  ) as { addresses: string[]; socket: string }
  return { address: ready.addresses[0] as string, client: new ControlClient({ socketPath: ready.socket }) }
}

function writePackage(name: string, files: Record<string, Uint8Array>): string {
  const directory = join(root, name)
  for (const [path, bytes] of Object.entries({
    ...files,
    'catalog.json': Buffer.from(
      JSON.stringify({
        apiVersion: 'catalog.v1',
        kind: 'AssetPackage',
        metadata: { name, version: '1.0.0' },
        spec: { description: name },
      }),
    ),
  })) {
    mkdirSync(dirname(join(directory, path)), { recursive: true })
    writeFileSync(join(directory, path), bytes)
  }
  return directory
}

function copyAndSync(from: string, to: string): void {
  copyFileSync(from, to)
  const file = openSync(to, 'r+')
  fsyncSync(file)
  closeSync(file)
}

async function main(): Promise<void> {
  const provider = await startNode('provider', [])
  const receiver = await startNode('receiver', [provider.address])
  const size = mebibytes * 1024 * 1024
  const results: Record<string, number[]> = {}
  const note = (what: string, value: number) => {
    results[what] = [...(results[what] ?? []), value]
  }
  const fetchTime = async (id: string) => {
    const [result] = await receiver.client.fetch({ refs: [id] })
    if (result === undefined || 'error' in result)
      throw new Error(`the fetch failed: ${JSON.stringify(result)}`)
    await receiver.client.remove(id)
    return result.milliseconds
  }
  const known = async (id: string) => {
    while (!(await receiver.client.releases(false)).some(release => release.id === id))
      await new Promise(resolve => setTimeout(resolve, 50))
  }
  const many = await provider.client.publish({
    path: writePackage(
      'many',
      Object.fromEntries(Array.from({ length: 1000 }, (_, i) => [`d${i % 20}/f${i}`, randomBytes(4096)])),
    ),
  })
  const one = await provider.client.publish({ path: writePackage('one', { blob: randomBytes(4096 * 1000) }) })
  await known(one.id)
  for (let round = 0; round < rounds; round++) {
    const blob = randomBytes(size)
    const path = writePackage(`blob-${round}`, { blob })
    const file = join(path, 'blob')
    note(
      'cp + fsync + hash',
      (await timed(() => copyAndSync(file, join(root, 'copy')))) +
        (await timed(() => [blake3(readFileSync(file)), createHash('sha256').update(blob).digest()])),
    )
    note('write + fsync', await timed(() => copyAndSync(file, join(root, 'copy'))))
    const published = await provider.client.publish({ path })
    note('publish', published.milliseconds)
    await known(published.id)
    note(
      'raw stream',
      Number(
        await startLine([fileURLToPath(new URL('./raw-stream.ts', import.meta.url)), String(mebibytes)]),
      ),
    )
    note('fetch', await fetchTime(published.id))
    note('many files', await fetchTime(many.id))
    note('one file', await fetchTime(one.id))
    await provider.client.remove(published.id)
    rmSync(path, { recursive: true })
  }
  report(results)
}

function report(results: Record<string, number[]>): void {
  const time = (what: string) => median(results[what] as number[])
  const rate = (what: string) => `${(mebibytes / (time(what) / 1000)).toFixed(0)} MiB/s`
  console.log(`${mebibytes} MiB, medians of ${rounds}, loopback`)
  console.table({
    'fetch / slower of raw stream and write + fsync': {
      ratio: (Math.max(time('raw stream'), time('write + fsync')) / time('fetch')).toFixed(2),
      ours: rate('fetch'),
      against: `${rate('raw stream')}, ${rate('write + fsync')}`,
    },
    'publish / cp + fsync + hash': {
      ratio: (time('cp + fsync + hash') / time('publish')).toFixed(2),
      ours: rate('publish'),
      against: rate('cp + fsync + hash'),
    },
    '1,000 files of 4 KiB / one file of 4 MB': {
      ratio: (time('one file') / time('many files')).toFixed(2),
      ours: `${time('many files').toFixed(0)} ms`,
      against: `${time('one file').toFixed(0)} ms`,
    },
  })
}

try {
  await main()
} finally {
  for (const child of children) child.kill('SIGTERM')
  await new Promise(resolve => setTimeout(resolve, 1500))
  rmSync(root, { recursive: true, force: true })
}
