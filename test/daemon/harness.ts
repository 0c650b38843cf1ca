// Real daemons for tests: each a process of its own with a home of its own, driven by the command line and the
// control socket as a user would. Only processes started here are ever ended.
import { type ChildProcess, spawn } from 'node:child_process'
import { cp, lstat, mkdir, mkdtemp, readdir, readFile, readlink, rm, writeFile } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { dirname, join } from 'node:path'
import { createInterface } from 'node:readline'
import { afterAll, afterEach } from 'vitest'
import { blake3 } from '../../src/base/hash.ts'
import type { FetchResult } from '../../src/control/api.ts'
import { ControlClient } from '../../src/control/client.ts'
import { type Outcome, outcomeOf, program } from '../cli/outcome.ts'
import { type Founder, found, type Grants, makeMember } from './membership.ts'

const loopback = ['--listen', '/ip4/127.0.0.1/udp/0/quic-v1', '--listen', '/ip4/127.0.0.1/tcp/0']

/** Runs the command line to its end. */
export async function catalog(
  args: readonly string[],
  options: { input?: string; cwd?: string; env?: NodeJS.ProcessEnv } = {},
): Promise<Outcome> {
  const child = spawn(process.execPath, [program, ...args], {
    cwd: options.cwd,
    env: options.env ?? process.env,
    stdio: 'pipe',
  })
  child.stdin.on('error', () => undefined).end(options.input ?? '')
  return outcomeOf(child)
}

export type Wrap = (command: string, args: readonly string[]) => [command: string, args: readonly string[]]

export class TestNode {
  readonly home: string
  #child: ChildProcess | undefined
  #peerId = ''
  #addresses: string[] = []
  errors = ''

  constructor(home: string) {
    this.home = home
  }

  get peerId(): string {
    return this.#peerId
  }

  /** The QUIC address, for --bootstrap. */
  get address(): string {
    return this.#addresses.find(address => address.includes('/quic-v1/')) as string
  }

  get addresses(): readonly string[] {
    return this.#addresses
  }

  get client(): ControlClient {
    return new ControlClient({ socketPath: join(this.home, 'control.sock') })
  }

  get pid(): number {
    return this.#child?.pid as number
  }

  /** `wrap` makes the command of another: one that becomes it in a namespace, so that its process id stays. */
  async start(
    args: readonly string[] = [],
    env: NodeJS.ProcessEnv = process.env,
    wrap: Wrap = (command, words) => [command, words],
  ): Promise<void> {
    const listen = args.includes('--listen') ? [] : loopback
    const daemon = [program, 'daemon', '--home', this.home, ...listen, ...args]
    const child = spawn(...wrap(process.execPath, daemon), {
      stdio: ['ignore', 'pipe', 'pipe'],
      // Most tests say who holds what: copies are made of themselves only where a test asks for it.
      env: { CATALOG_REPLICATION_FACTOR: '1', ...env },
    })
    this.#child = child
    child.stderr?.on('data', (chunk: Buffer) => {
      this.errors = (this.errors + chunk.toString()).slice(-20_000)
    })
    const line = await new Promise<string>((resolve, reject) => {
      createInterface({ input: child.stdout as NodeJS.ReadableStream }).once('line', resolve)
      child.once('exit', code => reject(new Error(`the daemon ended with ${code}: ${this.errors}`)))
    })
    const ready = JSON.parse(line) as { ready: boolean; peerId: string; addresses: string[] }
    this.#peerId = ready.peerId
    this.#addresses = ready.addresses
  }

  /** Ends the daemon by a signal; resolves to its exit code and how long that took, in milliseconds. */
  async end(signal: NodeJS.Signals): Promise<{ code: number | null; milliseconds: number }> {
    const child = this.#child
    if (child === undefined || child.exitCode !== null || child.signalCode !== null)
      return { code: child?.exitCode ?? null, milliseconds: 0 }
    const started = performance.now()
    const exited = new Promise<number | null>(resolve => child.once('exit', resolve))
    child.kill(signal)
    return { code: await exited, milliseconds: performance.now() - started }
  }

  /** Runs a command against this node, and gives its JSON. */
  async json<T = Record<string, never>>(...args: string[]): Promise<T> {
    const { code, stdout, stderr } = await catalog([...args, '--home', this.home, '--json'])
    if (code !== 0) throw new Error(`catalog ${args.join(' ')} ended with ${code}: ${stderr}`)
    return JSON.parse(stdout) as T
  }

  run(...args: string[]): Promise<Outcome> {
    const separator = args.indexOf('--')
    const at = separator === -1 ? args.length : separator
    return catalog([...args.slice(0, at), '--home', this.home, ...args.slice(at)])
  }

  async isConnectedTo(other: TestNode): Promise<boolean> {
    return (await this.client.peers()).some(({ peer }) => peer === other.peerId)
  }

  /** Whether it takes the release, into its store alone. */
  installs(ref: string): Promise<boolean> {
    return this.fetch(ref).then(
      () => true,
      () => false,
    )
  }

  async fetch(ref: string, out?: string): Promise<FetchResult> {
    const [result] = await this.client.fetch({ refs: [ref], ...(out === undefined ? {} : { out }) })
    if (result === undefined || 'error' in result) throw new Error(`fetch failed: ${JSON.stringify(result)}`)
    return result
  }
}

/** A temporary directory and the nodes in it, taken away after the file's tests. */
export class Laboratory {
  readonly #nodes: TestNode[] = []
  /** By network. */
  readonly #founders = new Map<string, Promise<Founder>>()
  /** What ends with the test that started it. */
  readonly #running = new Set<{ end(signal: NodeJS.Signals): Promise<unknown> }>()
  #root: string | undefined

  constructor() {
    afterEach(async () => {
      await Promise.all([...this.#running].map(node => node.end('SIGTERM')))
      this.#running.clear()
    })
    afterAll(async () => {
      await Promise.all(this.#nodes.map(node => node.end('SIGKILL')))
      if (this.#root !== undefined) await rm(this.#root, { recursive: true, force: true })
    })
  }

  async path(name: string): Promise<string> {
    this.#root ??= await mkdtemp(join(tmpdir(), 'catalog-test-'))
    return join(this.#root, name)
  }

  /** An initialised node that is not running; the first of a network founds it, those after it are members. */
  async node(name: string, network = 'catalog', grants: Grants = {}): Promise<TestNode> {
    const home = await this.path(name)
    const founder = this.#founders.get(network)
    if (founder === undefined) this.#founders.set(network, found(home, network))
    else await makeMember(home, { network, ...grants, founder: await founder })
    await this.#founders.get(network)
    const node = new TestNode(home)
    this.#nodes.push(node)
    return node
  }

  /** A node whose home is made otherwise, or will be. */
  async outsider(name: string): Promise<TestNode> {
    const node = new TestNode(await this.path(name))
    this.#nodes.push(node)
    return node
  }

  /** Starts a node that bootstraps from the given ones. */
  async started(
    name: string,
    bootstrap: readonly TestNode[] = [],
    args: readonly string[] = [],
  ): Promise<TestNode> {
    const node = await this.node(name)
    await node.start([...bootstrap.flatMap(other => ['--bootstrap', other.address]), ...args])
    return node
  }

  /** Starts a node that bootstraps from the given ones, for the length of one test. */
  async run(
    node: TestNode,
    bootstrap: readonly TestNode[] = [],
    env: NodeJS.ProcessEnv = process.env,
  ): Promise<void> {
    await node.start(
      bootstrap.flatMap(other => ['--bootstrap', other.address]),
      env,
    )
    this.endAfterTest(node)
  }

  endAfterTest(node: { end(signal: NodeJS.Signals): Promise<unknown> }): void {
    this.#running.add(node)
  }

  /** Joins by an invite of the authority, as a user does, and runs for one test; a home that is there comes back. */
  async join(node: TestNode, authority: TestNode): Promise<void> {
    const { invite } = await authority.client.invite()
    const { code, stderr } = await node.run('init', '--join', invite, '--json')
    if (code !== 0 || stderr !== '') throw new Error(`${node.home} did not join: ${code}, ${stderr}`)
    await this.run(node, [authority])
    await connected(node, authority)
  }

  /** A new node that has joined, and runs for one test. */
  async joined(name: string, authority: TestNode): Promise<TestNode> {
    const node = await this.outsider(name)
    await this.join(node, authority)
    return node
  }

  /** A package directory: `files` by path, the manifest made from `spec`. */
  async package(
    name: string,
    version: string,
    files: Readonly<Record<string, string | Uint8Array>>,
    spec: Record<string, unknown> = {},
  ): Promise<string> {
    const directory = await this.path(
      `package-${name.replace('/', '-')}-${version}-${Math.random().toString(36).slice(2)}`,
    )
    const manifest = {
      apiVersion: 'catalog.v1',
      kind: 'AssetPackage',
      metadata: { name, version },
      spec: { description: `The package ${name}`, ...spec },
    }
    await mkdir(directory, { recursive: true })
    await writeFile(join(directory, 'catalog.json'), JSON.stringify(manifest, undefined, 2))
    for (const [path, content] of Object.entries(files)) {
      await mkdir(dirname(join(directory, path)), { recursive: true })
      await writeFile(join(directory, path), content)
    }
    return directory
  }

  async copy(from: string, name: string): Promise<string> {
    const directory = await this.path(name)
    await cp(from, directory, { recursive: true, verbatimSymlinks: true })
    return directory
  }
}

/** Every entry of a tree as one line: kind, mode, path, and what it holds. */
export async function listTree(root: string): Promise<string[]> {
  const lines: string[] = []
  for (const entry of await readdir(root, { recursive: true, withFileTypes: true })) {
    const path = join(entry.parentPath, entry.name)
    const status = await lstat(path)
    const name = path.slice(root.length + 1)
    if (status.isSymbolicLink()) lines.push(`link ${name} -> ${await readlink(path)}`)
    else if (status.isDirectory()) lines.push(`directory ${name}`)
    else
      lines.push(
        `file ${(status.mode & 0o777).toString(8)} ${name} ${Buffer.from(blake3(await readFile(path))).toString('hex')}`,
      )
  }
  return lines.sort()
}

/** Each has admitted the other: one side knows a moment before the other does. */
export const connected = (one: TestNode, other: TestNode): Promise<void> =>
  until(
    'both are connected',
    async () => (await one.isConnectedTo(other)) && (await other.isConnectedTo(one)),
    20_000,
  )

export async function until(what: string, holds: () => Promise<boolean>, timeoutMs = 10_000): Promise<void> {
  const deadline = performance.now() + timeoutMs
  for (;;) {
    if (await holds()) return
    if (performance.now() > deadline) throw new Error(`within ${timeoutMs} ms, not: ${what}`)
    await new Promise(resolve => setTimeout(resolve, 100))
  }
}
