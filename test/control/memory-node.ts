// A NodeApi in memory: what the control socket and the command line are tested against. It keeps releases in a
// map, reads real package directories on publish, and "executes" by echoing, slowly where the test asks for it.
import { lstatSync, readdirSync, readFileSync, statSync } from 'node:fs'
import { join } from 'node:path'
import { setTimeout as sleep } from 'node:timers/promises'
import { comparePaths } from '../../src/assets/entry-path.ts'
import { packTree } from '../../src/assets/pack.ts'
import { type SourceEntry, scanPackage } from '../../src/assets/package-tree.ts'
import { cidOf } from '../../src/base/cid.ts'
import { CatalogError } from '../../src/base/errors.ts'
import { MemoryKeyValue } from '../../src/base/memory-key-value.ts'
import type {
  CheckRequest,
  CheckResult,
  CollectRequest,
  DeprecateRequest,
  EquivocationView,
  ExecuteRequest,
  ExecutionEvent,
  ExecutionView,
  FetchFailure,
  FetchRequest,
  FetchResult,
  NodeApi,
  PinRequest,
  ReleaseDetail,
  ReleaseView,
  YankRequest,
} from '../../src/control/api.ts'
import { AccessTokens } from '../../src/control/tokens.ts'
import { MemoryContentStore } from '../../src/store/memory-content-store.ts'
import { MemoryCertificates } from './memory-certificates.ts'
import { MemoryRoots } from './memory-roots.ts'
import { MemoryTrust } from './memory-trust.ts'

const filesOf = (path: string): string[] =>
  readdirSync(path, { recursive: true, encoding: 'utf8' }).filter(name =>
    lstatSync(join(path, name)).isFile(),
  )

/** The real index and bytes of some files. */
async function contentOf(files: ReadonlyMap<string, Uint8Array>) {
  const store = new MemoryContentStore()
  const entries = [...files]
    .sort(([a], [b]) => comparePaths(a, b))
    .map(([path, bytes]): SourceEntry => {
      const source = { kind: 'inline', bytes } as const
      return { kind: 'file', path, mode: 0o644, size: bytes.byteLength, source }
    })
  const writer = await store.createWriter(0)
  const index = await packTree(entries, writer)
  const root = await writer.commit(index)
  return { root, index, read: (offset: number, length: number) => store.read(root, offset, length) }
}

const id = (number: number) => cidOf(Buffer.from(String(number)))

export const memoryTokens = () => new AccessTokens({ records: new MemoryKeyValue(), now: Date.now })

export class MemoryNode implements NodeApi {
  readonly releasesById = new Map<string, ReleaseView>()
  readonly pins = new Set<string>()
  /** What `check` finds until it repairs. */
  damaged: CheckResult['damaged'] = []
  readonly contents = new Map<string, Map<string, Uint8Array>>()
  readonly runs = new Map<string, { view: ExecutionView; events: ExecutionEvent[]; ended: AbortController }>()
  /** The signals of calls, as the server gave them. */
  readonly signals: AbortSignal[] = []
  /** How long each execution and fetch takes. */
  delayMs = 0
  progressLines = 3
  factor = 3
  readonly certificates = new MemoryCertificates()
  readonly roots = new MemoryRoots()
  readonly trust = new MemoryTrust()

  async status() {
    return {
      version: '0.1.0',
      peerId: '12D3KooWMemory',
      publisher: 'publisher',
      network: 'catalog',
      addresses: ['/ip4/127.0.0.1/udp/4414/quic-v1/p2p/12D3KooWMemory'],
      home: '/memory',
      uptimeSeconds: 3725,
      peers: 2,
      releases: { known: this.releasesById.size, held: this.releasesById.size, bytes: 123_456_789 },
      freeBytes: 98_765_432_100,
      storage: {
        quotaBytes: 200_000_000,
        usedBytes: 123_456_789,
        publishedBytes: 100_000_000,
        pinnedBytes: 20_000_000,
        owedBytes: 0,
        resultBytes: 0,
        inUseBytes: 0,
        evictableBytes: 3_456_789,
      },
      announcements: await this.announcements(),
      bandwidth: {
        up: { limit: 1_250_000, perPeerLimit: 0, bytesPerSecond: 1_048_576, totalBytes: 52_428_800 },
        down: { limit: 0, perPeerLimit: 0, bytesPerSecond: 0, totalBytes: 1024 },
      },
      execution: {
        local: true,
        offer: false,
        tier: 'strong',
        runtimes: ['wasm', 'python'],
        queued: 0,
        running: 0,
        ceiling: { cpuCores: 2, memoryMb: 2048, storageMb: 10_240, runSeconds: 3600 },
      },
      replication: {
        factor: 3,
        accept: true,
        draining: false,
        kept: 2,
        forOthers: { count: 1, bytes: 1_000_000, maxBytes: 10_000_000_000 },
        below: 1,
      },
      caches: {
        records: { entries: 3, bytes: 20_000, maxBytes: 16_777_216, hits: 93, misses: 7, evictions: 0 },
        indexes: { entries: 1, bytes: 5_000, maxBytes: 67_108_864, hits: 1, misses: 1, evictions: 0 },
        contents: { entries: 0, bytes: 0, maxBytes: 33_554_432, hits: 0, misses: 0, evictions: 0 },
      },
      memoryBytes: 150_000_000,
      networkNames: [
        {
          name: 'catalog.example.org',
          addresses: ['/ip4/192.0.2.10/udp/4414/quic-v1/p2p/12D3KooWMemory'],
          rootFingerprint: 'bdyqroot',
          askedAt: '2026-11-22T00:00:00Z',
          askAgainAt: '2026-11-22T00:05:00Z',
          problems: [],
        },
      ],
      membership: { root: `b${'a'.repeat(55)}`, state: 'current' as const },
      refusals: [],
    }
  }

  async peers() {
    return [
      {
        peer: '12D3KooWGRUeGHQyKzGqFXcPn2sL3sTqUpQZq5q9mXPcHsVh7Qhh',
        addresses: ['/ip4/192.0.2.10/udp/4414/quic-v1'],
        transport: 'quic',
        direction: 'outbound' as const,
        connectedSeconds: 61,
        dataConnections: 1,
        latencyMs: 1.25,
        offersExecution: true,
      },
    ]
  }

  async releases() {
    return [...this.releasesById.values()]
  }

  find(ref: string): ReleaseView {
    const found =
      this.releasesById.get(ref) ??
      [...this.releasesById.values()].find(
        ({ name, version }) => ref === name || ref === `${name}@${version}`,
      )
    if (found === undefined)
      throw new CatalogError(
        'not-found',
        `No release ${ref} is known. Look for it with \`catalog search\`.`,
        { ref },
      )
    return found
  }

  async show(ref: string): Promise<ReleaseDetail> {
    const release = this.find(ref)
    return {
      ...release,
      manifestPath: 'catalog.yaml',
      versions: [release.version],
      algorithms: ['falcon-1024-r3', 'ed25519'],
      providers: [{ peer: '12D3KooWMemory', complete: true }],
    }
  }

  async remove(ref: string) {
    const release = this.find(ref)
    this.releasesById.delete(release.id)
    return { id: release.id, name: release.name, version: release.version, bytesFreed: release.size }
  }

  async pin({ ref, remove = false }: PinRequest) {
    const { id, name, version, root } = this.find(ref)
    if (remove) this.pins.delete(id)
    else this.pins.add(id)
    this.releasesById.set(id, { ...this.find(id), pinned: !remove })
    return { id, name, version, root, pinned: !remove, bytesTransferred: 0 }
  }

  async yank({ ref, reason = 'No reason was given.', undo = false, revoke = false }: YankRequest) {
    const { id, name, version } = this.find(ref)
    const { yanked: _, ...rest } = this.find(ref)
    const mark = undo ? {} : { [revoke ? 'revoked' : 'yanked']: reason }
    this.releasesById.set(id, { ...rest, ...mark })
    return { name, sequence: 2, changed: true, marked: undo ? [] : [{ version, ...mark }] }
  }

  async deprecate({ ref, message = 'It is not kept up any more.', undo = false }: DeprecateRequest) {
    const { deprecated: _, ...rest } = this.find(ref)
    this.releasesById.set(rest.id, undo ? rest : { ...rest, deprecated: message })
    return {
      name: rest.name,
      sequence: 2,
      changed: true,
      marked: [],
      ...(undo ? {} : { deprecated: message }),
    }
  }

  async equivocations(): Promise<EquivocationView[]> {
    return []
  }

  async collect({ dryRun = false }: CollectRequest) {
    const [none, some] = [
      { contents: 0, bytes: 0 },
      { contents: 2, bytes: 5_000_000 },
    ]
    const leftovers = { files: 1, bytes: 1000 }
    return { dryRun, unreferenced: some, partial: none, results: none, leftovers, hints: 7, bytes: 5_001_000 }
  }

  async check({ refs, repair = false }: CheckRequest, { onProgress }: Parameters<NodeApi['check']>[1]) {
    const checked = refs?.map(ref => this.find(ref)) ?? [...this.releasesById.values()]
    const bytes = checked.reduce((sum, { size }) => sum + size, 0)
    onProgress?.({ phase: 'check', done: bytes, total: bytes })
    const damaged = this.damaged.map(damage => ({
      ...damage,
      repaired: repair && damage.error === undefined,
    }))
    return { contents: checked.length, bytes, damaged }
  }

  async search({ query, limit }: { query: string; limit?: number }) {
    const hits = [...this.releasesById.values()].filter(release => release.name.includes(query))
    return hits.slice(0, limit).map(release => ({ ...release, score: 1 }))
  }

  async content(ref: string) {
    return contentOf(this.contents.get(this.find(ref).id) ?? new Map())
  }

  async resultContent(id: string) {
    this.#run(id)
    return contentOf(new Map([['out.txt', Buffer.from(`the result of ${id}`)]]))
  }

  async publish({ path }: { path: string }, { signal, onProgress }: Parameters<NodeApi['publish']>[1]) {
    if (signal !== undefined) this.signals.push(signal)
    if (statSync(path, { throwIfNoEntry: false }) === undefined)
      throw new CatalogError('no-such-path', `Cannot publish ${path}: there is no such file or directory.`, {
        path,
      })
    const files = new Map(filesOf(path).map(name => [name, new Uint8Array(readFileSync(join(path, name)))]))
    const { name, version } = files.has('catalog.json')
      ? (await scanPackage(path)).manifest.metadata
      : { name: path.split('/').at(-1) ?? '', version: '1.0.0' }
    for (let done = 1; done <= this.progressLines; done++)
      onProgress?.({ phase: 'store', done, total: this.progressLines })
    await sleep(this.delayMs, undefined, { signal })
    const release = this.add(name, version, files)
    return { ...release, created: true, warnings: ['no tags'], milliseconds: 12 }
  }

  add(name: string, version: string, files: Map<string, Uint8Array>): ReleaseView {
    const number = this.releasesById.size + 1
    const release: ReleaseView = {
      id: id(number),
      name,
      version,
      root: id(number + 1000),
      size: [...files.values()].reduce((sum, bytes) => sum + bytes.byteLength, 0),
      files: files.size,
      publisher: 'publisher',
      description: `The package ${name} with a description that is long enough to be cut on a narrow terminal`,
      tags: ['text'],
      type: 'package',
      signedAt: '2026-11-22T00:00:00Z',
      held: 'complete',
      pinned: false,
    }
    this.releasesById.set(release.id, release)
    this.contents.set(release.id, files)
    return release
  }

  async fetch(
    { refs, out, outParent }: FetchRequest,
    { signal, onProgress }: Parameters<NodeApi['fetch']>[1],
  ): Promise<(FetchResult | FetchFailure)[]> {
    if (signal !== undefined) this.signals.push(signal)
    onProgress?.({ phase: 'resolve' })
    const results: (FetchResult | FetchFailure)[] = []
    for (const ref of refs) {
      try {
        const { id, name, version, files, size } = this.find(ref)
        const { root } = await this.content(id)
        for (let step = 1; step <= 10; step++) {
          onProgress?.({ phase: 'transfer', ref, done: (size * step) / 10, total: size })
          await sleep(this.delayMs / 10, undefined, { signal })
        }
        const target = out ?? (outParent === undefined ? undefined : `${outParent}/${name}-${version}`)
        results.push({
          ref,
          id,
          name,
          version,
          root,
          files,
          bytes: size,
          bytesTransferred: size,
          providers: [{ peer: '12D3KooWOther', bytes: size }],
          milliseconds: 40,
          ...(target === undefined ? {} : { out: target }),
          ...warningsOf(this.find(ref)),
        })
      } catch (error) {
        if (!(error instanceof CatalogError)) throw error
        results.push({ ref, error: error.toJSON() })
      }
    }
    return results
  }

  async file(release: string, path: string) {
    const bytes = this.contents.get(this.find(release).id)?.get(path)
    if (bytes === undefined)
      throw new CatalogError('no-such-file', `The release has no file ${path}.`, { path })
    return {
      size: bytes.byteLength,
      mode: 0o644,
      async *read(offset: number, length: number) {
        for (let at = offset; at < offset + length; at += 65_536)
          yield bytes.subarray(at, Math.min(at + 65_536, offset + length))
      },
    }
  }

  /** Echoes arguments and input; `exit N`, `signal N`, `sleep`, `binary`, `flood BYTES` and `lose` as first argument do what they say. */
  async execute(request: ExecuteRequest): Promise<ExecutionView> {
    const release = this.find(request.ref)
    const view: ExecutionView = {
      id: `run-${this.runs.size + 1}`,
      release: release.id,
      name: release.name,
      version: release.version,
      runtime: 'python',
      peer: '12D3KooWMemory',
      requester: '12D3KooWMemory',
      state: 'running',
      allocated: { cpuCores: 1, memoryMb: 128, storageMb: 64, runSeconds: 30 },
      createdAt: '2026-11-22T00:00:00Z',
    }
    const run = { view, events: [] as ExecutionEvent[], ended: new AbortController() }
    this.runs.set(view.id, run)
    void this.#play(run, request)
    return view
  }

  async #play(
    run: { view: ExecutionView; events: ExecutionEvent[]; ended: AbortController },
    request: ExecuteRequest,
  ) {
    const [verb, operand = '0'] = request.args
    const input = Buffer.from(request.inputBase64 ?? '', 'base64')
    const environment = Object.entries(request.env).map(([key, value]) => `${key}=${value}\n`)
    const output =
      verb === 'binary'
        ? Buffer.from([0xff, 0xfe, 0x00])
        : verb === 'flood'
          ? Buffer.alloc(Number(operand), 'x')
          : Buffer.from(`${request.args.join(' ')}\n${environment.join('')}${input.toString()}`)
    for (let at = 0; at < output.length; at += 65_536)
      run.events.push({ stream: 'stdout', base64: output.subarray(at, at + 65_536).toString('base64') })
    run.events.push({ stream: 'stderr', base64: Buffer.from('to stderr\n').toString('base64') })
    if (verb === 'sleep') await sleep(60_000, undefined, { signal: run.ended.signal }).catch(() => undefined)
    else await sleep(this.delayMs)
    if (run.view.state === 'cancelled') return
    const exitCode = verb === 'exit' ? Number(operand) : verb === 'signal' ? 128 + Number(operand) : 0
    const text = output.subarray(0, 1024 * 1024)
    const ending: Partial<ExecutionView> =
      verb === 'lose'
        ? { state: 'lost', error: { code: 'execution-lost', message: 'The node went away. Try another.' } }
        : { state: exitCode === 0 ? 'succeeded' : 'failed', exitCode }
    const { root: resultRoot } = await this.resultContent(run.view.id)
    run.view = {
      ...run.view,
      ...ending,
      resultRoot,
      ...(verb === 'binary' ? { stdoutBase64: text.toString('base64') } : { stdout: text.toString() }),
      stderr: 'to stderr\n',
    }
    run.ended.abort()
  }

  #run(id: string) {
    const run = this.runs.get(id)
    if (run === undefined)
      throw new CatalogError('no-such-execution', `There is no execution ${id}. See \`catalog executions\`.`)
    return run
  }

  async *followExecution(
    id: string,
    { signal }: { signal?: AbortSignal | undefined },
  ): AsyncIterable<ExecutionEvent> {
    const run = this.#run(id)
    for (let next = 0; signal?.aborted !== true; ) {
      const event = run.events[next]
      if (event !== undefined) {
        next++
        yield event
      } else if (run.ended.signal.aborted) break
      else await sleep(5)
    }
  }

  async executions() {
    return [...this.runs.values()].map(run => run.view)
  }

  async execution(id: string) {
    return this.#run(id).view
  }

  async cancelExecution(id: string) {
    const run = this.#run(id)
    run.view = { ...run.view, state: 'cancelled' }
    run.ended.abort()
    return run.view
  }

  async result(id: string, { out }: { out: string }) {
    if (this.#run(id).view.state === 'running')
      throw new CatalogError('result-not-ready', `The execution ${id} is still running. Wait for it.`)
    return { id, root: 'bafyroot', files: 1, bytes: 5, out }
  }

  async replicas(ref: string) {
    const { id, name, version, root, size } = this.find(ref)
    const peer = { here: true, state: 'whole', draining: false, checkedAt: '2026-11-22T00:00:00Z' }
    const peers = [
      { peer: '12D3KooWMemory', ...peer },
      { ...peer, peer: '12D3KooWOther', here: false },
    ]
    const refusals = [{ peer: '12D3KooWFull', reason: 'no-space' }]
    return { id, name, version, root, size, factor: this.factor, copies: 2, peers, refusals }
  }

  async setReplicas(ref: string, { factor }: { factor: number }) {
    this.factor = factor
    return this.replicas(ref)
  }

  async drain({ undo }: { undo?: boolean }, { onProgress }: Parameters<NodeApi['drain']>[1]) {
    onProgress?.({ phase: 'hand-over', message: '1 of 2 packages' })
    const left = undo === true ? [] : [await this.replicas([...this.releasesById.keys()][0] ?? '')]
    return { draining: undo !== true, handedOver: undo === true ? 0 : 1, left }
  }

  async announcements() {
    return { keys: 6, waiting: 1, announced: 5, failing: 0, waitingForPeers: false, overdue: 0 }
  }
}

const warningsOf = ({ name, version, yanked }: ReleaseView) =>
  yanked === undefined ? {} : { warnings: [`${name}@${version} was yanked by its publisher: ${yanked}`] }
