// The nodes, processes and files of one measurement: real daemons with homes of their own in one temporary
// directory, driven by the control socket. Whatever was started here is ended by close(), by id; nothing else is.
import { type ChildProcess, spawn } from 'node:child_process'
import { randomFillSync } from 'node:crypto'
import { closeSync, mkdirSync, mkdtempSync, openSync, rmSync, writeFileSync, writeSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { dirname, join } from 'node:path'
import { createInterface } from 'node:readline'
import { setTimeout as sleep } from 'node:timers/promises'
import { fileURLToPath } from 'node:url'
import type { FetchResult, Progress, PublishResult } from '../src/control/api.ts'
import { ControlClient } from '../src/control/client.ts'
import { type Founder, found, makeMember } from '../test/daemon/membership.ts'
import { Namespace } from './namespace.ts'

/** As users start it; it becomes the daemon, under the same process id. */
const program = fileURLToPath(new URL('../scripts/catalog', import.meta.url))

/** What takes long to get is kept between runs: other systems' programs, packages from registries. */
export const kept = join(tmpdir(), 'catalog-bench-kept')

export interface NodeOptions {
  readonly bootstrap?: readonly BenchNode[]
  readonly namespace?: Namespace
  /** IPv4 address to listen at. */
  readonly listen?: string
}

export interface TimedFetch extends FetchResult {
  /** From sending the request to its result, as the asker sees it: resolving the name is in it. */
  readonly wallMilliseconds: number
}

export class BenchNode {
  readonly home: string
  readonly #laboratory: Laboratory
  readonly #options: NodeOptions
  #child: ChildProcess | undefined
  #listen: string
  peerId = ''
  address = ''

  constructor(laboratory: Laboratory, home: string, options: NodeOptions) {
    this.home = home
    this.#laboratory = laboratory
    this.#options = options
    this.#listen = `/ip4/${options.listen ?? '127.0.0.1'}/udp/0/quic-v1`
  }

  get client(): ControlClient {
    return new ControlClient({ socketPath: join(this.home, 'control.sock') })
  }

  get pid(): number {
    return this.#child?.pid as number
  }

  /** Starts the daemon, or starts it again at the address it had. */
  async start(bootstrap: readonly BenchNode[] = this.#options.bootstrap ?? []): Promise<void> {
    const joins = bootstrap.flatMap(other => ['--bootstrap', other.address])
    const args = ['daemon', '--home', this.home, '--log-level', 'error', '--listen', this.#listen, ...joins]
    const child = this.#laboratory.spawn(program, args, this.#options.namespace)
    this.#child = child
    const ready = JSON.parse(await firstLine(child, `the daemon in ${this.home}`)) as {
      peerId: string
      addresses: string[]
    }
    this.peerId = ready.peerId
    this.address = ready.addresses[0] as string
    this.#listen = this.address.slice(0, this.address.indexOf('/p2p/'))
  }

  async end(signal: NodeJS.Signals): Promise<void> {
    const child = this.#child
    if (child === undefined || child.exitCode !== null || child.signalCode !== null) return
    const exited = new Promise(resolve => child.once('exit', resolve))
    child.kill(signal)
    await exited
  }

  publish(path: string): Promise<PublishResult> {
    return this.client.publish({ path })
  }

  /** Into the store alone. @throws when the fetch failed */
  async fetch(ref: string, onProgress: (progress: Progress) => void = () => undefined): Promise<TimedFetch> {
    const started = performance.now()
    const [result] = await this.client.fetch({ refs: [ref] }, { onProgress })
    const wallMilliseconds = performance.now() - started
    if (result === undefined || 'error' in result)
      throw new Error(`the fetch of ${ref} failed: ${JSON.stringify(result?.error)}`)
    return { ...result, wallMilliseconds }
  }

  async knows(id: string): Promise<void> {
    await until(`${this.home} knows ${id}`, async () =>
      (await this.client.releases(false)).some(release => release.id === id),
    )
  }

  async isConnectedTo(others: readonly BenchNode[]): Promise<void> {
    await until(`${this.home} is connected to ${others.length} nodes`, async () => {
      const peers = new Set((await this.client.peers()).map(({ peer }) => peer))
      return others.every(other => peers.has(other.peerId))
    })
  }
}

export class Laboratory {
  readonly #root = mkdtempSync(join(tmpdir(), 'catalog-bench-'))
  readonly #children = new Set<ChildProcess>()
  readonly #namespaces: Namespace[] = []
  #founder: Promise<Founder> | undefined

  path(name: string): string {
    return join(this.#root, name)
  }

  async namespace(): Promise<Namespace> {
    const namespace = await Namespace.open()
    this.#namespaces.push(namespace)
    return namespace
  }

  /** A process that ends with the laboratory. Its standard output is read by the caller. */
  spawn(command: string, args: readonly string[], namespace?: Namespace): ChildProcess {
    const [file, words] = namespace?.command(command, args) ?? [command, [...args]]
    // Copies are not what is measured here, nor does a bench want them: each row says who holds what.
    const env = { ...process.env, CATALOG_REPLICATION_FACTOR: '1' }
    const child = spawn(file, words, { stdio: ['pipe', 'pipe', 'inherit'], env })
    this.#children.add(child)
    child.once('exit', () => this.#children.delete(child))
    child.once('error', () => this.#children.delete(child))
    return child
  }

  /** Runs a program of the bench to its end; gives the first line that it prints. */
  async line(command: string, args: readonly string[], namespace?: Namespace): Promise<string> {
    const child = this.spawn(command, args, namespace)
    const ended = new Promise<void>(resolve => child.once('exit', () => resolve()))
    const line = await firstLine(child, [command, ...args].join(' '))
    await ended
    return line
  }

  /** A node with a new home that runs. */
  async node(name: string, options: NodeOptions = {}): Promise<BenchNode> {
    const home = this.path(name)
    if (this.#founder === undefined) this.#founder = found(home, 'bench')
    else await makeMember(home, { founder: await this.#founder, network: 'bench' })
    await this.#founder
    const node = new BenchNode(this, home, options)
    await node.start()
    return node
  }

  /** A node with the home that a stopped one had, in another place of the network. */
  async moved(node: BenchNode, options: NodeOptions): Promise<BenchNode> {
    await node.end('SIGTERM')
    const moved = new BenchNode(this, node.home, options)
    await moved.start()
    return moved
  }

  /** A package directory of these files, or of one file `blob` of so many random MiB. */
  package(name: string, content: Readonly<Record<string, Uint8Array>> | number, version = '1.0.0'): string {
    const directory = this.path(`package-${name}-${version}`)
    mkdirSync(directory, { recursive: true })
    describePackage(directory, name, version)
    if (typeof content === 'number') writeRandom(join(directory, 'blob'), content)
    else
      for (const [path, bytes] of Object.entries(content)) {
        mkdirSync(dirname(join(directory, path)), { recursive: true })
        writeFileSync(join(directory, path), bytes)
      }
    return directory
  }

  async close(): Promise<void> {
    const exits = [...this.#children].map(child => {
      const exited = new Promise<unknown>(resolve => child.once('exit', resolve))
      child.kill('SIGKILL')
      return exited
    })
    await Promise.race([Promise.all(exits), sleep(5_000)])
    for (const namespace of this.#namespaces) namespace.close()
    rmSync(this.#root, { recursive: true, force: true, maxRetries: 5 })
  }
}

/** Puts a manifest into a directory, which makes it a package. */
export function describePackage(directory: string, name: string, version: string): void {
  const manifest = {
    apiVersion: 'catalog.v1',
    kind: 'AssetPackage',
    metadata: { name, version },
    spec: { description: name },
  }
  writeFileSync(join(directory, 'catalog.json'), JSON.stringify(manifest))
}

/** Bytes that no compression shrinks and no other version has. */
function writeRandom(path: string, mebibytes: number): void {
  const piece = Buffer.alloc(1024 * 1024)
  const file = openSync(path, 'w')
  for (let written = 0; written < mebibytes; written++) writeSync(file, randomFillSync(piece))
  closeSync(file)
}

export async function until(what: string, holds: () => Promise<boolean>, withinMs = 60_000): Promise<void> {
  const deadline = performance.now() + withinMs
  while (!(await holds())) {
    if (performance.now() > deadline) throw new Error(`within ${withinMs} ms, not: ${what}`)
    await sleep(50)
  }
}

/** The first line that a process prints. @throws when it ends before, or after five minutes */
export function firstLine(child: ChildProcess, what: string): Promise<string> {
  return new Promise((resolve, reject) => {
    const timer = setTimeout(() => reject(new Error(`${what} said nothing for five minutes`)), 300_000)
    const lines = createInterface({ input: child.stdout as NodeJS.ReadableStream })
    const settle = (then: () => void) => {
      clearTimeout(timer)
      then()
    }
    lines.once('line', line => settle(() => resolve(line)))
    child.once('error', error => settle(() => reject(error)))
    // `close`: what it printed last has been read by then.
    child.once('close', code => settle(() => reject(new Error(`${what} ended with ${code}`))))
  })
}
