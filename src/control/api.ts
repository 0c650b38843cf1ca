// The contract of the control socket, as types: what each call takes and gives. The server (control/server.ts)
// checks requests against it, the client (control/client.ts) and the command line speak it, and the composition
// root implements `NodeApi`. Field names are public: changing one is a breaking change.
//
//   GET    /v1/status                         Status
//   GET    /v1/peers                          { peers: PeerView[] }
//   GET    /v1/releases                       { releases: ReleaseView[] }            (here and known; ?held=true for held only)
//   GET    /v1/releases/{ref}                 ReleaseDetail                          (REF percent-encoded)
//   DELETE /v1/releases/{ref}                 RemoveResult
//   GET    /v1/releases/{id}/files/{path}     the file's bytes; Range supported
//   GET    /v1/search?q=&tag=&type=&category=&limit=   { results: SearchHit[] }
//   POST   /v1/publish                        PublishRequest  -> stream of Progress, then PublishResult
//   POST   /v1/fetch                          FetchRequest    -> stream of Progress, then { results: (FetchResult | {ref, error})[] }
//   POST   /v1/execute                        ExecuteRequest  -> stream of ExecutionEvent, then ExecutionView; detach: 202 { id }
//   GET    /v1/executions                     { executions: ExecutionView[] }
//   GET    /v1/executions/{id}                ExecutionView
//   GET    /v1/executions/{id}/logs?follow=   stream of { stream: 'stdout'|'stderr', text | base64 }
//   POST   /v1/executions/{id}/result         ResultRequest   -> stream, then ResultResult
//   POST   /v1/executions/{id}/cancel         ExecutionView
//   GET    /v1/announcements                  AnnouncementState
//   GET    /v1/openapi.json                   the OpenAPI document
//
// A stream is newline-delimited JSON: {"progress":…} lines ({"event":…} for execute), then one {"result":…} or
// {"error":…}. Before the first line is sent, an error is a plain HTTP error with {"error":…} as its body.
// A closed connection cancels the work, unless it was asked to detach.
import type { CallOptions } from '../base/lifecycle.ts'

export interface Progress {
  /** For example `scan`, `store`, `sign`, `resolve`, `find`, `transfer`, `write`. */
  readonly phase: string
  readonly ref?: string
  /** Bytes done of `total` bytes, where the phase moves bytes. */
  readonly done?: number
  readonly total?: number
  readonly message?: string
}

export interface ProgressOptions extends CallOptions {
  readonly onProgress?: (progress: Progress) => void
}

export interface Status {
  readonly version: string
  readonly peerId: string
  readonly publisher: string
  readonly network: string
  readonly addresses: readonly string[]
  readonly home: string
  readonly uptimeSeconds: number
  readonly peers: number
  readonly releases: { readonly known: number; readonly held: number; readonly bytes: number }
  readonly freeBytes: number
  readonly announcements: AnnouncementState
  readonly execution: ExecutionStatus
  readonly memoryBytes: number
}

/** The persisted queue of DHT announcements: what waits, what failed last and why, when the oldest was due. */
export interface AnnouncementState {
  readonly waiting: number
  readonly announced: number
  readonly failing: number
  readonly oldestDueMs?: number
  readonly lastError?: string
}

export interface ExecutionStatus {
  /** Whether this node runs for its own user, and for others. */
  readonly local: boolean
  readonly offer: boolean
  /** `strong` (dedicated uid and cgroup), `user` (user namespace and what else there is), or `none`. */
  readonly tier: string
  readonly tierReason?: string
  readonly runtimes: readonly string[]
  readonly queued: number
  readonly running: number
  readonly ceiling: {
    readonly cpuCores: number
    readonly memoryMb: number
    readonly storageMb: number
    readonly runSeconds: number
  }
}

export interface PeerView {
  readonly peer: string
  readonly addresses: readonly string[]
  readonly transport: string
  readonly direction: 'inbound' | 'outbound'
  readonly connectedSeconds: number
  readonly latencyMs?: number
  readonly offersExecution: boolean
}

export interface ReleaseView {
  readonly id: string
  readonly name: string
  readonly version: string
  readonly root: string
  readonly size: number
  readonly files: number
  readonly publisher: string
  readonly description: string
  readonly tags: readonly string[]
  readonly type: string
  readonly category?: string
  readonly signedAt: string
  /** `complete`, `partial` or `none`: how much of it is on this node. */
  readonly held: string
}

export interface ReleaseDetail extends ReleaseView {
  readonly manifest?: unknown
  readonly manifestPath: string
  readonly sequence?: number
  readonly versions: readonly string[]
  readonly algorithms: readonly string[]
  readonly providers: readonly { readonly peer: string; readonly complete: boolean }[]
}

export interface SearchQuery {
  readonly query: string
  readonly tag?: string
  readonly type?: string
  readonly category?: string
  readonly limit?: number
}

export interface SearchHit extends ReleaseView {
  readonly score: number
}

export interface PublishRequest {
  /** Absolute path of a package directory or of a manifest file alone. */
  readonly path: string
}

export interface PublishResult {
  readonly id: string
  readonly name: string
  readonly version: string
  readonly root: string
  readonly size: number
  readonly files: number
  readonly publisher: string
  /** False when this very content was already published under this version. */
  readonly created: boolean
  readonly warnings: readonly string[]
  readonly milliseconds: number
}

export interface FetchRequest {
  readonly refs: readonly string[]
  /** Absolute directory; absent: only into the store. With several refs each gets `out/name-version`. */
  readonly out?: string
  /** Absolute directory under which the default `./name-version` directories are made; used when `out` is absent. */
  readonly outParent?: string
  readonly force?: boolean
  readonly publisher?: string
}

export interface FetchResult {
  readonly ref: string
  readonly id: string
  readonly name: string
  readonly version: string
  readonly root: string
  readonly files: number
  readonly bytes: number
  readonly bytesTransferred: number
  readonly providers: readonly { readonly peer: string; readonly bytes: number }[]
  /** From the accepted request to durable in the store; writing `out` is `writeMilliseconds`. */
  readonly milliseconds: number
  readonly writeMilliseconds?: number
  readonly out?: string
}

export interface FetchFailure {
  readonly ref: string
  readonly error: Record<string, unknown>
}

export interface RemoveResult {
  readonly id: string
  readonly name: string
  readonly version: string
  readonly bytesFreed: number
}

export interface ExecuteRequest {
  readonly ref: string
  /** `auto`, `local` or a peer id. */
  readonly on: string
  readonly args: readonly string[]
  readonly env: Readonly<Record<string, string>>
  /** Standard input, base64; at most 16 MiB. */
  readonly inputBase64?: string
  readonly timeoutSeconds?: number
  readonly nodes?: number
  readonly detach?: boolean
  readonly publisher?: string
}

export type ExecutionState =
  | 'queued'
  | 'fetching'
  | 'running'
  | 'succeeded'
  | 'failed'
  | 'cancelled'
  | 'timed-out'
  | 'lost'

export interface ExecutionView {
  readonly id: string
  readonly release: string
  readonly name: string
  readonly version: string
  readonly runtime: string
  /** The node that runs it. */
  readonly peer: string
  readonly requester: string
  readonly state: ExecutionState
  readonly exitCode?: number
  /** Which limit ended it: memory, time, output, processes, storage. */
  readonly limit?: string
  readonly reason?: string
  /** Each output as UTF-8 text, or base64 where it is not UTF-8; `stdoutBytes` counts what was written before cutting. */
  readonly stdout?: string
  readonly stdoutBase64?: string
  readonly stderr?: string
  readonly stderrBase64?: string
  readonly stdoutTruncated?: boolean
  readonly stderrTruncated?: boolean
  readonly allocated: {
    readonly cpuCores: number
    readonly memoryMb: number
    readonly storageMb: number
    readonly runSeconds: number
  }
  readonly used?: { readonly cpuSeconds?: number; readonly memoryMb?: number; readonly wallSeconds?: number }
  readonly createdAt: string
  readonly startedAt?: string
  readonly endedAt?: string
  /** Content root of the kept outputs, where the manifest names an `outputs` directory. */
  readonly resultRoot?: string
  readonly error?: Record<string, unknown>
}

export type ExecutionEvent =
  | { readonly state: ExecutionState; readonly id: string; readonly peer?: string }
  | { readonly stream: 'stdout' | 'stderr'; readonly base64: string }

export interface ResultRequest {
  readonly out: string
  readonly force?: boolean
}

export interface ResultResult {
  readonly id: string
  readonly root: string
  readonly files: number
  readonly bytes: number
  readonly out: string
}

/** What the composition root offers to the control socket. Every method may throw CatalogError. */
export interface NodeApi {
  status(): Promise<Status>
  peers(): Promise<PeerView[]>
  releases(heldOnly: boolean): Promise<ReleaseView[]>
  show(ref: string, options: CallOptions & { publisher?: string }): Promise<ReleaseDetail>
  remove(ref: string): Promise<RemoveResult>
  search(query: SearchQuery): Promise<SearchHit[]>
  publish(request: PublishRequest, options: ProgressOptions): Promise<PublishResult>
  fetch(request: FetchRequest, options: ProgressOptions): Promise<(FetchResult | FetchFailure)[]>
  /** The size of one file and a way to read a range of it; the release is fetched first when it is not here. */
  file(
    id: string,
    path: string,
    options: CallOptions,
  ): Promise<{ size: number; mode: number; read(offset: number, length: number): AsyncIterable<Uint8Array> }>
  /** Resolves as soon as the execution is on record; follow it with `followExecution`. */
  execute(request: ExecuteRequest, options: CallOptions): Promise<ExecutionView>
  /** Events until the execution ends; ends early with the signal (which does not cancel the execution). */
  followExecution(id: string, options: CallOptions): AsyncIterable<ExecutionEvent>
  executions(): Promise<ExecutionView[]>
  execution(id: string): Promise<ExecutionView>
  cancelExecution(id: string): Promise<ExecutionView>
  result(id: string, request: ResultRequest, options: ProgressOptions): Promise<ResultResult>
  announcements(): Promise<AnnouncementState>
}
