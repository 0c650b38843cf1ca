// A NodeApi in memory: what the control socket and the command line are tested against. It keeps releases in a
// map, reads real package directories on publish, and "executes" by echoing, slowly where the test asks for it.
import { readdirSync, readFileSync, statSync } from 'node:fs'
import { join } from 'node:path'
import { setTimeout as sleep } from 'node:timers/promises'
import { CatalogError } from '../../src/base/errors.ts'
import type {
  ExecuteRequest,
  ExecutionEvent,
  ExecutionView,
  FetchFailure,
  FetchRequest,
  FetchResult,
  NodeApi,
  ReleaseDetail,
  ReleaseView,
} from '../../src/control/api.ts'

const id = (number: number) => `bafyr4i${String(number).padStart(52, 'a')}`

export class MemoryNode implements NodeApi {
  readonly releasesById = new Map<string, ReleaseView>()
  readonly contents = new Map<string, Map<string, Uint8Array>>()
  readonly runs = new Map<string, { view: ExecutionView; events: ExecutionEvent[]; ended: AbortController }>()
  /** The signals of calls, as the server gave them. */
  readonly signals: AbortSignal[] = []
  /** How long each execution and fetch takes. */
  delayMs = 0
  progressLines = 3

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
      announcements: await this.announcements(),
      execution: {
        local: true,
        offer: false,
        tier: 'strong',
        runtimes: ['wasm', 'python'],
        queued: 0,
        running: 0,
        ceiling: { cpuCores: 2, memoryMb: 2048, storageMb: 10_240, runSeconds: 3600 },
      },
      memoryBytes: 150_000_000,
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

  async search({ query, limit }: { query: string; limit?: number }) {
    const hits = [...this.releasesById.values()].filter(release => release.name.includes(query))
    return hits.slice(0, limit).map(release => ({ ...release, score: 1 }))
  }

  async publish({ path }: { path: string }, { signal, onProgress }: Parameters<NodeApi['publish']>[1]) {
    if (signal !== undefined) this.signals.push(signal)
    if (statSync(path, { throwIfNoEntry: false }) === undefined)
      throw new CatalogError('no-such-path', `Cannot publish ${path}: there is no such file or directory.`, {
        path,
      })
    const files = new Map(
      readdirSync(path).map(name => [name, new Uint8Array(readFileSync(join(path, name)))] as const),
    )
    for (let done = 1; done <= this.progressLines; done++)
      onProgress?.({ phase: 'store', done, total: this.progressLines })
    await sleep(this.delayMs, undefined, { signal })
    const release = this.add(path.split('/').at(-1) ?? '', '1.0.0', files)
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
        const { id, name, version, root, files, size } = this.find(ref)
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
    run.view = {
      ...run.view,
      ...ending,
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

  async announcements() {
    return { waiting: 1, announced: 5, failing: 0 }
  }
}
