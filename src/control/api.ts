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
//   GET    /v1/releases/{id}/archive          all of it as a tar archive; fetched first where it is not here
//   GET    /v1/releases/{id}/index            its content index: canonical CBOR, which hashes to the content root
//   GET    /v1/releases/{id}/content          its byte stream; Range supported
//   GET    /v1/search?q=&tag=&type=&category=&limit=   { results: SearchHit[] }
//   POST   /v1/publish                        PublishRequest  -> stream of Progress, then PublishResult
//          with a body of application/x-tar   a package as a tar archive; ?replicas=; the same answer
//   POST   /v1/fetch                          FetchRequest    -> stream of Progress, then { results: (FetchResult | {ref, error})[] }
//   POST   /v1/execute                        ExecuteRequest  -> stream of ExecutionEvent, then ExecutionView; detach: 202 { id }
//   POST   /v1/pin                            PinRequest      -> stream of Progress, then PinResult
//   POST   /v1/gc                             CollectRequest  -> stream of Progress, then CollectResult
//   POST   /v1/check                          CheckRequest    -> stream of Progress, then CheckResult
//   GET    /v1/executions                     { executions: ExecutionView[] }
//   GET    /v1/executions/{id}                ExecutionView
//   GET    /v1/executions/{id}/logs?follow=   stream of { stream: 'stdout'|'stderr', text | base64 }
//   POST   /v1/executions/{id}/result         ResultRequest   -> stream, then ResultResult
//   GET    /v1/executions/{id}/archive        the outputs it left, as of a release; also /index and /content
//   POST   /v1/executions/{id}/cancel         ExecutionView
//   GET    /v1/releases/{ref}/replicas        ReplicasView
//   POST   /v1/releases/{ref}/replicas        ReplicasRequest -> ReplicasView
//   POST   /v1/drain                          DrainRequest    -> stream of Progress, then DrainResult
//   POST   /v1/yank                           YankRequest      -> MarkResult
//   POST   /v1/deprecate                      DeprecateRequest -> MarkResult
//   GET    /v1/equivocations                  { equivocations: EquivocationView[] }
//   GET    /v1/announcements                  AnnouncementState
//   GET    /v1/tokens                         { tokens: TokenView[] }
//   POST   /v1/tokens                         TokenRequest    -> CreatedToken: the token's text, this once
//   DELETE /v1/tokens/{id}                    TokenView
//   /v1/trust/…                               certificates-api.ts, roots-api.ts, trust-calls.ts
//   GET    /v1/openapi.json                   the OpenAPI document
//
// Each call requires a capability (access.ts): the owner's socket has all. On the shared socket every request carries
// `Authorization: Bearer TOKEN`; there no field of a request names a path of the server's, and executions are seen by
// the token that started them alone.
//
// A stream is newline-delimited JSON: {"progress":…} lines ({"event":…} for execute), then one {"result":…} or
// {"error":…}. Before the first line is sent, an error is a plain HTTP error with {"error":…} as its body.
// A closed connection cancels the work, unless it was asked to detach.
import type { ContentIndex } from '../assets/content-index.ts'
import type { CallOptions } from '../base/lifecycle.ts'
import type { Grantable } from './access.ts'
import type { CertificatesApi } from './certificates-api.ts'
import type { RootsApi } from './roots-api.ts'
import type { TrustApi } from './trust-calls.ts'

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
  readonly membership: {
    /** Fingerprint of the network's root. */
    readonly root: string
    /** What this node's own certificate is worth now; where something is wrong, `why` is a sentence. */
    readonly state: 'current' | 'stale' | 'refused'
    readonly why?: string
    /** A sentence, where most members that this node has met have another time. */
    readonly clock?: string
  }
  readonly addresses: readonly string[]
  readonly home: string
  readonly uptimeSeconds: number
  readonly peers: number
  readonly releases: { readonly known: number; readonly held: number; readonly bytes: number }
  readonly freeBytes: number
  readonly storage: StorageStatus
  readonly announcements: AnnouncementState
  readonly bandwidth: { readonly up: BandwidthStatus; readonly down: BandwidthStatus }
  readonly execution: ExecutionStatus
  readonly replication: ReplicationStatus
  readonly caches: {
    /** Decoded records, content indexes, and small contents as a whole. */
    readonly records: CacheStatus
    readonly indexes: CacheStatus
    readonly contents: CacheStatus
  }
  readonly memoryBytes: number
  /** Of the names among the bootstrap addresses. */
  readonly networkNames: readonly NetworkNameStatus[]
  /** Memberships that were denied within the last hour, the latest first; at most 16. */
  readonly refusals: readonly RefusalView[]
}

/** A membership that this node denied to a peer, or a peer to this node. */
export interface RefusalView {
  readonly peer: string
  readonly by: 'this-node' | 'peer'
  /** Of the table of error codes; from a peer, any text of that form. */
  readonly code: string
  /** A sentence; from a peer, not to be believed. */
  readonly message: string
  readonly at: string
}

/** What DNS says of a name: a hint that nothing trusts. */
export interface NetworkNameStatus {
  readonly name: string
  /** Multiaddrs with /p2p/…. */
  readonly addresses: readonly string[]
  readonly rootFingerprint?: string
  /** When DNS last answered; absent: it has not yet. When it will be asked again. */
  readonly askedAt?: string
  readonly askAgainAt: string
  readonly problems: readonly string[]
}

/** What a cache in memory holds and did since the start. */
export interface CacheStatus {
  readonly entries: number
  readonly bytes: number
  readonly maxBytes: number
  readonly hits: number
  readonly misses: number
  readonly evictions: number
}

export interface ReplicationStatus {
  /** Copies there should be of what is published here, this node's included. */
  readonly factor: number
  /** Whether this node keeps copies for others, and whether it is handing over what it has. */
  readonly accept: boolean
  readonly draining: boolean
  /** Packages that this node has promised to keep a copy of; of these, for others. */
  readonly kept: number
  readonly forOthers: { readonly count: number; readonly bytes: number; readonly maxBytes: number }
  /** Packages that had fewer whole copies than their factor when they were last looked at. */
  readonly below: number
}

export interface ReplicasView {
  readonly id: string
  readonly name: string
  readonly version: string
  readonly root: string
  readonly size: number
  readonly factor: number
  /** Whole copies on nodes that are not draining. */
  readonly copies: number
  readonly peers: readonly ReplicaView[]
  /** Connected nodes that did not take a copy when they were last asked, and why. */
  readonly refusals: readonly { readonly peer: string; readonly reason: string }[]
}

export interface ReplicaView {
  readonly peer: string
  readonly here: boolean
  /** `whole`, `coming`, `leaving`, `failed`, `unknown` (not heard since the start) or `gone`. */
  readonly state: string
  readonly draining: boolean
  /** When this node last found bytes of it right. */
  readonly checkedAt?: string
}

export interface ReplicasRequest {
  readonly factor: number
}

export interface DrainRequest {
  /** Take copies again. */
  readonly undo?: boolean
}

export interface DrainResult {
  readonly draining: boolean
  /** Packages that other nodes keep instead, and those for which there are not enough of them. */
  readonly handedOver: number
  readonly left: readonly ReplicasView[]
}

/** What this node may send or receive, in all and with each peer: bytes per second, 0 without a limit. */
export interface BandwidthStatus {
  readonly limit: number
  readonly perPeerLimit: number
  /** The mean of the last seconds, and all since the start; counted where anything is limited. */
  readonly bytesPerSecond?: number
  readonly totalBytes?: number
}

/** The bytes of contents here, each counted once, by what keeps it: the first of these that does. */
export interface StorageStatus {
  /** The most that contents may take here; absent: what the disk has. */
  readonly quotaBytes?: number
  readonly usedBytes: number
  /** Published on this node; pinned; promised to others as a replica; outputs of executions. */
  readonly publishedBytes: number
  readonly pinnedBytes: number
  readonly owedBytes: number
  readonly resultBytes: number
  /** Only being read or fetched keeps these at the moment. */
  readonly inUseBytes: number
  /** These go, the least recently used first, when space is needed. */
  readonly evictableBytes: number
}

/** The persisted queue of DHT announcements. Times are in ms since 1970, durations in ms. */
export interface AnnouncementState {
  /** All of the queue: waiting, announced and failing. */
  readonly keys: number
  /** Not told to anybody yet. */
  readonly waiting: number
  readonly announced: number
  /** Peers were there, and none accepted it. */
  readonly failing: number
  /** No member of the network is connected: nothing is tried until one is. */
  readonly waitingForPeers: boolean
  /** What should have been announced, or announced again, ten minutes ago or more; and how late the oldest is. */
  readonly overdue: number
  readonly oldestOverdueMs?: number
  /** When the oldest that waits or fails was due. */
  readonly oldestDueMs?: number
  /** What announcing again has cost: in the cycle that goes on, and in the last one that is over. */
  readonly cycle?: AnnouncementCycle
  readonly lastCycle?: AnnouncementCycle
  /** The stretch of the keyspace, by its first bits, that comes up next. */
  readonly nextRegion?: { readonly prefix: string; readonly dueMs: number }
  readonly lastError?: string
  /** Where announcing is so late that peers begin to forget, with the next step. */
  readonly warning?: string
}

export interface AnnouncementCycle {
  readonly startedMs: number
  /** Time spent looking up and telling. */
  readonly busyMs: number
  readonly keys: number
  readonly regions: number
  readonly lookups: number
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
  /** Connections of their own that contents are travelling on now, beside this one. */
  readonly dataConnections: number
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
  /** Kept here until it is unpinned or removed. */
  readonly pinned: boolean
  /** Why its publisher wants nobody to take it up, or to install it at all; and what is said of the whole package. */
  readonly yanked?: string
  readonly revoked?: string
  readonly deprecated?: string
  /** Since when nobody can say whether its publisher's list of it still holds. */
  readonly stale?: string
  /** No head of its publisher that holds lists it; its publisher signed two heads that contradict each other. */
  readonly unlisted?: true
  readonly heldBack?: true
}

export interface ReleaseDetail extends ReleaseView {
  readonly manifest?: unknown
  readonly manifestPath: string
  readonly sequence?: number
  readonly versions: readonly string[]
  /** Those of them that were yanked or revoked, and why. */
  readonly marked?: readonly VersionMarks[]
  /** What one should know before taking it. */
  readonly warnings?: readonly string[]
  readonly algorithms: readonly string[]
  readonly providers: readonly { readonly peer: string; readonly complete: boolean }[]
}

export interface VersionMarks {
  readonly version: string
  readonly yanked?: string
  readonly revoked?: string
}

export interface YankRequest {
  /** A release id, or a name with its exact version. */
  readonly ref: string
  /** At most 200 characters. */
  readonly reason?: string
  /** Ends the yank. */
  readonly undo?: boolean
  /** For good: nobody installs it any more, not even by its exact version. */
  readonly revoke?: boolean
}

export interface DeprecateRequest {
  /** A name. */
  readonly ref: string
  /** At most 500 characters. */
  readonly message?: string
  /** Ends the deprecation. */
  readonly undo?: boolean
}

/** What the newest head says now. */
export interface MarkResult {
  readonly name: string
  readonly sequence: number
  /** False when it said so already. */
  readonly changed: boolean
  readonly deprecated?: string
  readonly marked: readonly VersionMarks[]
}

/** Two heads that a publisher signed under one number. */
export interface EquivocationView {
  readonly name: string
  readonly publisher: string
  readonly sequence: number
  /** Ids of the heads, and of the record that proves it. */
  readonly heads: readonly string[]
  readonly proof: string
  /** The name is held back because of it; false once a later head has put it right. */
  readonly heldBack: boolean
  /** One key signed both: somebody else has it, or a backup of it was restored. */
  readonly sameKey: boolean
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
  /** How many copies there should be, this node's included; absent: as the config says, or as it was. */
  readonly replicas?: number
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
  /** Take it even where nobody can say whether its publisher's list of it still holds. */
  readonly allowStale?: boolean
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
  /** What one should know of it; absent: nothing. */
  readonly warnings?: readonly string[]
  /** Since when nobody can say whether its publisher's list of it still holds. */
  readonly stale?: string
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
  /** Something is reading or fetching the bytes: they go with the next collection of garbage. */
  readonly inUse?: true
}

export interface PinRequest {
  readonly ref: string
  /** Ends the pin. */
  readonly remove?: boolean
  readonly publisher?: string
  readonly allowStale?: boolean
}

export interface PinResult {
  readonly id: string
  readonly name: string
  readonly version: string
  readonly root: string
  readonly pinned: boolean
  /** What is not here is fetched before it is pinned. */
  readonly bytesTransferred: number
}

export interface CollectRequest {
  /** Only says what would go. */
  readonly dryRun?: boolean
}

interface Freed {
  readonly contents: number
  readonly bytes: number
}

export interface CollectResult {
  readonly dryRun: boolean
  /** Contents that no release here names. */
  readonly unreferenced: Freed
  /** Fetches that were left, and not gone on with for `storage.keepPartialsSeconds`. */
  readonly partial: Freed
  /** Outputs of executions older than `storage.keepResultsSeconds`. */
  readonly results: Freed
  /** Files that interrupted work left. */
  readonly leftovers: { readonly files: number; readonly bytes: number }
  /** Records of where shards of removed contents were. */
  readonly hints: number
  /** All of it. */
  readonly bytes: number
}

export interface CheckRequest {
  /** Absent: everything that is here. */
  readonly refs?: readonly string[]
  /** Fetch damaged shards anew from other nodes. */
  readonly repair?: boolean
}

export interface CheckResult {
  readonly contents: number
  /** Bytes that were read and hashed. */
  readonly bytes: number
  readonly damaged: readonly DamagedContent[]
}

export interface DamagedContent {
  readonly root: string
  /** The releases that have this content; none for the outputs of an execution. */
  readonly releases: readonly { readonly id: string; readonly name: string; readonly version: string }[]
  /** Numbers of the damaged shards; empty when the content index itself cannot be read. */
  readonly shards: readonly number[]
  readonly repaired: boolean
  readonly bytesTransferred: number
  /** Why it could not be repaired. */
  readonly error?: Record<string, unknown>
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
  readonly allowStale?: boolean
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
  /** What one should know of the release; only in the answer to the one who started it. */
  readonly warnings?: readonly string[]
}

export type ExecutionEvent =
  | {
      readonly state: ExecutionState
      readonly id: string
      readonly peer?: string
      readonly warnings?: readonly string[]
    }
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

export interface TokenRequest {
  /** For people: whom or what it is for. */
  readonly label: string
  readonly can: readonly Grantable[]
  /** Patterns of the names it may publish, execute and keep; absent: all. */
  readonly names?: readonly string[]
  /** Absent: 30 days. */
  readonly expiresSeconds?: number
}

export interface TokenView {
  readonly id: string
  readonly label: string
  readonly can: readonly Grantable[]
  readonly names: readonly string[]
  readonly createdAt: string
  readonly expiresAt: string
  readonly expired: boolean
}

export interface CreatedToken extends TokenView {
  /** The text: shown once, kept nowhere. */
  readonly token: string
}

/** A content that is complete here, and a way to read ranges of its byte stream. */
export interface ContentView {
  readonly root: string
  readonly index: ContentIndex
  read(offset: number, length: number): AsyncIterable<Uint8Array>
}

/** What the composition root offers to the control socket. Every method may throw CatalogError. */
export interface NodeApi {
  status(): Promise<Status>
  peers(): Promise<PeerView[]>
  releases(heldOnly: boolean): Promise<ReleaseView[]>
  show(ref: string, options: CallOptions & { publisher?: string }): Promise<ReleaseDetail>
  remove(ref: string): Promise<RemoveResult>
  pin(request: PinRequest, options: ProgressOptions): Promise<PinResult>
  collect(request: CollectRequest, options: ProgressOptions): Promise<CollectResult>
  check(request: CheckRequest, options: ProgressOptions): Promise<CheckResult>
  search(query: SearchQuery): Promise<SearchHit[]>
  publish(request: PublishRequest, options: ProgressOptions): Promise<PublishResult>
  fetch(request: FetchRequest, options: ProgressOptions): Promise<(FetchResult | FetchFailure)[]>
  /** The size of one file and a way to read a range of it; the release is fetched first when it is not here. */
  file(
    id: string,
    path: string,
    options: CallOptions & { allowStale?: boolean },
  ): Promise<{
    size: number
    mode: number
    read(offset: number, length: number): AsyncIterable<Uint8Array>
    warnings?: readonly string[]
  }>
  /** All of a release; it is fetched first where it is not here. */
  content(ref: string, options: CallOptions): Promise<ContentView>
  /** The outputs of an execution; they are fetched first where they are not here. */
  resultContent(id: string, options: CallOptions): Promise<ContentView>
  /** Resolves as soon as the execution is on record; follow it with `followExecution`. */
  execute(request: ExecuteRequest, options: CallOptions): Promise<ExecutionView>
  /** Events until the execution ends; ends early with the signal (which does not cancel the execution). */
  followExecution(id: string, options: CallOptions): AsyncIterable<ExecutionEvent>
  executions(): Promise<ExecutionView[]>
  execution(id: string): Promise<ExecutionView>
  cancelExecution(id: string): Promise<ExecutionView>
  result(id: string, request: ResultRequest, options: ProgressOptions): Promise<ResultResult>
  yank(request: YankRequest, options: CallOptions): Promise<MarkResult>
  deprecate(request: DeprecateRequest, options: CallOptions): Promise<MarkResult>
  equivocations(): Promise<EquivocationView[]>
  announcements(): Promise<AnnouncementState>
  replicas(ref: string, options: CallOptions): Promise<ReplicasView>
  setReplicas(ref: string, request: ReplicasRequest, options: CallOptions): Promise<ReplicasView>
  drain(request: DrainRequest, options: ProgressOptions): Promise<DrainResult>
  readonly certificates: CertificatesApi
  readonly roots: RootsApi
  readonly trust: TrustApi
}
