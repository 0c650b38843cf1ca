// What the control socket takes and gives, as schemas: requests are checked against them, and the OpenAPI
// document is made of them. Each is held to its type in api.ts by the compiler.
import { isAbsolute } from 'node:path'
import { z } from 'zod'
import { recordLimits } from '../assets/release.ts'
import { isNamePattern } from '../trust/name-pattern.ts'
import { grantable } from './access.ts'
import type {
  AnnouncementState,
  CheckRequest,
  CheckResult,
  CollectRequest,
  CollectResult,
  CreatedToken,
  DeprecateRequest,
  DrainRequest,
  DrainResult,
  EquivocationView,
  ExecuteRequest,
  ExecutionView,
  FetchRequest,
  FetchResult,
  MarkResult,
  PeerView,
  PinRequest,
  PinResult,
  PublishRequest,
  PublishResult,
  ReleaseDetail,
  ReleaseView,
  RemoveResult,
  ReplicasRequest,
  ReplicasView,
  ReplicationStatus,
  ResultRequest,
  ResultResult,
  SearchHit,
  Status,
  TokenRequest,
  TokenView,
  VersionMarks,
  YankRequest,
} from './api.ts'

/** Absent where the type says optional: JSON has no undefined, so the two are one here. */
type Loose<T> = T extends readonly (infer Item)[]
  ? readonly Loose<Item>[]
  : T extends object
    ? { readonly [Key in keyof T]: Loose<T[Key]> | (undefined extends T[Key] ? undefined : never) }
    : T
export type SchemaOf<T> = z.ZodType<Loose<T>>

// Requests: everything is bounded, an unknown field is refused.

const absolutePath = z
  .string()
  .min(1)
  .max(4096)
  .refine(path => isAbsolute(path) && !path.includes('\0'), 'must be an absolute path')
const ref = z.string().min(1).max(512)
const publisher = z.string().min(1).max(256).optional()
const allowStale = z.boolean().optional()
const executionId = z.string().regex(/^[A-Za-z0-9_-]{1,128}$/, 'is no execution id')
const flag = z.enum(['true', 'false']).optional()

const replicas = z.number().int().min(1).max(16)

/** Who needs one for longer makes another. */
const maxTokenSeconds = 366 * 24 * 3600

const maxArgs = 256
const maxArgBytes = 128 * 1024
const maxInputBytes = 16 * 1024 * 1024

export const requests = {
  publish: z.strictObject({
    path: absolutePath,
    replicas: replicas.optional(),
  }) satisfies SchemaOf<PublishRequest>,
  replicas: z.strictObject({ factor: replicas }) satisfies SchemaOf<ReplicasRequest>,
  drain: z.strictObject({ undo: z.boolean().optional() }) satisfies SchemaOf<DrainRequest>,
  fetch: z.strictObject({
    refs: z.array(ref).min(1).max(1000),
    out: absolutePath.optional(),
    outParent: absolutePath.optional(),
    force: z.boolean().optional(),
    publisher,
    allowStale,
  }) satisfies SchemaOf<FetchRequest>,
  execute: z.strictObject({
    ref,
    on: z.string().min(1).max(128).default('auto'),
    args: z.array(z.string().max(maxArgBytes)).max(maxArgs).default([]),
    env: z
      .record(z.string().regex(/^[A-Za-z_][A-Za-z0-9_]{0,127}$/), z.string().max(maxArgBytes))
      .refine(env => Object.keys(env).length <= maxArgs, `has more than ${maxArgs} variables`)
      .default({}),
    inputBase64: z
      .string()
      .max(Math.ceil(maxInputBytes / 3) * 4, `is more than ${maxInputBytes} bytes of input`)
      .refine(isBase64, 'is not base64')
      .optional(),
    timeoutSeconds: z.number().positive().max(31_536_000).optional(),
    nodes: z.number().int().positive().max(1000).optional(),
    detach: z.boolean().optional(),
    publisher,
    allowStale,
  }) satisfies SchemaOf<ExecuteRequest>,
  pin: z.strictObject({
    ref,
    remove: z.boolean().optional(),
    publisher,
    allowStale,
  }) satisfies SchemaOf<PinRequest>,
  yank: z.strictObject({
    ref,
    reason: z.string().min(1).max(recordLimits.maxReasonLength).optional(),
    undo: z.boolean().optional(),
    revoke: z.boolean().optional(),
  }) satisfies SchemaOf<YankRequest>,
  deprecate: z.strictObject({
    ref,
    message: z.string().min(1).max(recordLimits.maxDeprecationLength).optional(),
    undo: z.boolean().optional(),
  }) satisfies SchemaOf<DeprecateRequest>,
  collect: z.strictObject({ dryRun: z.boolean().optional() }) satisfies SchemaOf<CollectRequest>,
  check: z.strictObject({
    refs: z.array(ref).min(1).max(1000).optional(),
    repair: z.boolean().optional(),
  }) satisfies SchemaOf<CheckRequest>,
  result: z.strictObject({
    out: absolutePath,
    force: z.boolean().optional(),
  }) satisfies SchemaOf<ResultRequest>,
  token: z.strictObject({
    label: z
      .string()
      .min(1)
      .max(64)
      .refine(text => !/\p{C}/u.test(text), 'has control characters'),
    can: z
      .array(z.enum(grantable))
      .min(1)
      .max(grantable.length)
      .refine(can => new Set(can).size === can.length, 'names a capability twice'),
    names: z
      .array(z.string().max(130).refine(isNamePattern, 'is no name, scope/* or prefix-*'))
      .min(1)
      .max(64)
      .optional(),
    expiresSeconds: z.number().int().positive().max(maxTokenSeconds).optional(),
  }) satisfies SchemaOf<TokenRequest>,
}

export const queries = {
  none: z.strictObject({}),
  releases: z.strictObject({ held: flag }),
  file: z.strictObject({ allowStale: flag }),
  show: z.strictObject({ publisher }),
  publish: z.strictObject({
    replicas: z
      .string()
      .regex(/^([1-9]|1[0-6])$/, 'must be a number from 1 to 16')
      .optional(),
  }),
  search: z.strictObject({
    q: z.string().max(1024).default(''),
    tag: z.string().max(128).optional(),
    type: z.string().max(64).optional(),
    category: z.string().max(64).optional(),
    limit: z
      .string()
      .regex(/^[1-9]\d{0,3}$/, 'must be a number from 1 to 9999')
      .optional(),
  }),
  logs: z.strictObject({ follow: flag }),
}

export const parameters = {
  ref: z.strictObject({ ref }),
  file: z.strictObject({ id: ref, '*': z.string().min(1).max(4096) }),
  content: z.strictObject({ id: ref }),
  execution: z.strictObject({ id: executionId }),
  token: z.strictObject({ id: z.string().regex(/^[0-9a-f]{16}$/, 'is no id of a token') }),
}

/** Strict base64 (RFC 4648) with padding. A regular expression over 20 MB would use up the stack. */
function isBase64(text: string): boolean {
  if (text.length % 4 !== 0) return false
  const padding = text.endsWith('==') ? 2 : text.endsWith('=') ? 1 : 0
  return Buffer.from(text, 'base64').byteLength === (text.length / 4) * 3 - padding
}

// Answers: only documented, never checked (they are ours).

const text = z.string()
const count = z.number().int().nonnegative()
const failure = z.looseObject({ code: text, message: text })

const announcementCycle = z.object({
  startedMs: z.number(),
  busyMs: z.number(),
  keys: count,
  regions: count,
  lookups: count,
})

const announcements = z.object({
  keys: count,
  waiting: count,
  announced: count,
  failing: count,
  waitingForPeers: z.boolean(),
  overdue: count,
  oldestOverdueMs: z.number().optional(),
  oldestDueMs: z.number().optional(),
  cycle: announcementCycle.optional(),
  lastCycle: announcementCycle.optional(),
  nextRegion: z.object({ prefix: text, dueMs: z.number() }).optional(),
  lastError: text.optional(),
  warning: text.optional(),
}) satisfies SchemaOf<AnnouncementState>

const limits = { cpuCores: z.number(), memoryMb: z.number(), storageMb: z.number(), runSeconds: z.number() }

const bandwidth = z.object({
  limit: count.describe('Bytes per second; 0: unlimited'),
  perPeerLimit: count,
  bytesPerSecond: count.optional(),
  totalBytes: count.optional(),
})

const replication = z.object({
  factor: count,
  accept: z.boolean(),
  draining: z.boolean(),
  kept: count,
  forOthers: z.object({ count, bytes: count, maxBytes: count }),
  below: count.describe('Packages with fewer whole copies than their factor'),
}) satisfies SchemaOf<ReplicationStatus>

const replicasView = z.object({
  id: text,
  name: text,
  version: text,
  root: text,
  size: count,
  factor: count,
  copies: count,
  peers: z.array(
    z.object({
      peer: text,
      here: z.boolean(),
      state: text.describe('whole, coming, leaving, failed, unknown or gone'),
      draining: z.boolean(),
      checkedAt: text.optional(),
    }),
  ),
  refusals: z.array(z.object({ peer: text, reason: text })),
}) satisfies SchemaOf<ReplicasView>

const drained = z.object({
  draining: z.boolean(),
  handedOver: count,
  left: z.array(replicasView),
}) satisfies SchemaOf<DrainResult>

const cache = z.object({
  entries: count,
  bytes: count,
  maxBytes: count,
  hits: count,
  misses: count,
  evictions: count,
})

const status = z.object({
  version: text,
  peerId: text,
  publisher: text,
  network: text,
  membership: z.object({
    root: text,
    state: z.enum(['current', 'stale', 'refused']),
    why: text.optional(),
    clock: text.optional(),
  }),
  addresses: z.array(text),
  home: text,
  uptimeSeconds: z.number(),
  peers: count,
  releases: z.object({ known: count, held: count, bytes: count }),
  freeBytes: count,
  storage: z.object({
    quotaBytes: count.optional(),
    usedBytes: count,
    publishedBytes: count,
    pinnedBytes: count,
    owedBytes: count,
    resultBytes: count,
    inUseBytes: count,
    evictableBytes: count,
  }),
  announcements,
  bandwidth: z.object({ up: bandwidth, down: bandwidth }),
  execution: z.object({
    local: z.boolean(),
    offer: z.boolean(),
    tier: text.describe('strong, user or none'),
    tierReason: text.optional(),
    runtimes: z.array(text),
    queued: count,
    running: count,
    ceiling: z.object(limits),
  }),
  replication,
  caches: z.object({ records: cache, indexes: cache, contents: cache }),
  memoryBytes: count,
  networkNames: z.array(
    z.object({
      name: text,
      addresses: z.array(text),
      rootFingerprint: text.optional().describe('what DNS says; a hint that nothing trusts'),
      askedAt: text.optional(),
      askAgainAt: text,
      problems: z.array(text),
    }),
  ),
  refusals: z.array(
    z.object({
      peer: text,
      by: z.enum(['this-node', 'peer']),
      code: text,
      message: text,
      at: text,
    }),
  ),
}) satisfies SchemaOf<Status>

const peer = z.object({
  peer: text,
  addresses: z.array(text),
  transport: text,
  direction: z.enum(['inbound', 'outbound']),
  connectedSeconds: z.number(),
  dataConnections: count.describe('Connections of their own that contents are travelling on now'),
  latencyMs: z.number().optional(),
  offersExecution: z.boolean(),
}) satisfies SchemaOf<PeerView>

const release = z.object({
  id: text.describe('The release id: the CID of the signed envelope'),
  name: text,
  version: text,
  root: text.describe('The content root'),
  size: count,
  files: count,
  publisher: text,
  description: text,
  tags: z.array(text),
  type: text,
  category: text.optional(),
  signedAt: text,
  held: text.describe('complete, partial or none'),
  pinned: z.boolean(),
  yanked: text.describe('Why nobody should take it up').optional(),
  revoked: text.describe('Why nobody may install it').optional(),
  deprecated: text.describe('What its publisher says of the whole package').optional(),
  stale: text.describe('Since when nobody can say whether it still holds').optional(),
  unlisted: z.literal(true).describe('No head of its publisher that holds lists it').optional(),
  heldBack: z.literal(true).describe('Its publisher signed heads that contradict each other').optional(),
}) satisfies SchemaOf<ReleaseView>

const marked = z.array(
  z.object({
    version: text,
    yanked: text.optional(),
    revoked: text.optional(),
  }) satisfies SchemaOf<VersionMarks>,
)

const markResult = z.object({
  name: text,
  sequence: count.describe('Of the newest head'),
  changed: z.boolean(),
  deprecated: text.optional(),
  marked,
}) satisfies SchemaOf<MarkResult>

const equivocation = z.object({
  name: text,
  publisher: text,
  sequence: count,
  heads: z.array(text),
  proof: text,
  heldBack: z.boolean(),
  sameKey: z.boolean(),
}) satisfies SchemaOf<EquivocationView>

const releaseDetail = release.extend({
  manifest: z.unknown().optional(),
  manifestPath: text,
  sequence: count.optional(),
  versions: z.array(text),
  marked: marked.optional(),
  warnings: z.array(text).optional(),
  algorithms: z.array(text),
  providers: z.array(z.object({ peer: text, complete: z.boolean() })),
}) satisfies SchemaOf<ReleaseDetail>

const searchHit = release.extend({ score: z.number() }) satisfies SchemaOf<SearchHit>

const published = z.object({
  id: text,
  name: text,
  version: text,
  root: text,
  size: count,
  files: count,
  publisher: text,
  created: z.boolean(),
  warnings: z.array(text),
  milliseconds: z.number(),
}) satisfies SchemaOf<PublishResult>

const fetched = z.object({
  ref: text,
  id: text,
  name: text,
  version: text,
  root: text,
  files: count,
  bytes: count,
  bytesTransferred: count,
  providers: z.array(z.object({ peer: text, bytes: count })),
  milliseconds: z.number(),
  writeMilliseconds: z.number().optional(),
  out: text.optional(),
  warnings: z.array(text).optional(),
  stale: text.optional(),
}) satisfies SchemaOf<FetchResult>

const removed = z.object({
  id: text,
  name: text,
  version: text,
  bytesFreed: count,
  inUse: z.literal(true).describe('The bytes go once nothing reads or fetches them').optional(),
}) satisfies SchemaOf<RemoveResult>

const pinned = z.object({
  id: text,
  name: text,
  version: text,
  root: text,
  pinned: z.boolean(),
  bytesTransferred: count,
}) satisfies SchemaOf<PinResult>

const freed = z.object({ contents: count, bytes: count })
const collected = z.object({
  dryRun: z.boolean(),
  unreferenced: freed,
  partial: freed,
  results: freed,
  leftovers: z.object({ files: count, bytes: count }),
  hints: count,
  bytes: count,
}) satisfies SchemaOf<CollectResult>

const checked = z.object({
  contents: count,
  bytes: count,
  damaged: z.array(
    z.object({
      root: text,
      releases: z.array(z.object({ id: text, name: text, version: text })),
      shards: z.array(count),
      repaired: z.boolean(),
      bytesTransferred: count,
      error: z.record(text, z.unknown()).optional(),
    }),
  ),
}) satisfies SchemaOf<CheckResult>

const execution = z.object({
  id: text,
  release: text,
  name: text,
  version: text,
  runtime: text,
  peer: text.describe('The node that runs it'),
  requester: text,
  state: z.enum(['queued', 'fetching', 'running', 'succeeded', 'failed', 'cancelled', 'timed-out', 'lost']),
  exitCode: z.number().int().optional(),
  limit: text.describe('Which limit ended it: memory, time, output, processes, storage').optional(),
  reason: text.optional(),
  stdout: text.optional(),
  stdoutBase64: text.optional(),
  stderr: text.optional(),
  stderrBase64: text.optional(),
  stdoutTruncated: z.boolean().optional(),
  stderrTruncated: z.boolean().optional(),
  allocated: z.object(limits),
  used: z
    .object({
      cpuSeconds: z.number().optional(),
      memoryMb: z.number().optional(),
      wallSeconds: z.number().optional(),
    })
    .optional(),
  createdAt: text,
  startedAt: text.optional(),
  endedAt: text.optional(),
  resultRoot: text.optional(),
  error: z.record(text, z.unknown()).optional(),
  warnings: z.array(text).optional(),
}) satisfies SchemaOf<ExecutionView>

const result = z.object({
  id: text,
  root: text,
  files: count,
  bytes: count,
  out: text,
}) satisfies SchemaOf<ResultResult>

const tokenView = {
  id: text,
  label: text,
  can: z.array(z.enum(grantable)),
  names: z.array(text),
  createdAt: text,
  expiresAt: text,
  expired: z.boolean(),
}
const token = z.object(tokenView) satisfies SchemaOf<TokenView>
const createdToken = z.object({
  ...tokenView,
  token: text.describe('Its text: shown this once'),
}) satisfies SchemaOf<CreatedToken>

export const answers = {
  status,
  peers: z.object({ peers: z.array(peer) }),
  releases: z.object({ releases: z.array(release) }),
  releaseDetail,
  removed,
  pinned,
  collected,
  checked,
  search: z.object({ results: z.array(searchHit) }),
  published,
  fetched: z.object({ results: z.array(z.union([fetched, z.object({ ref: text, error: failure })])) }),
  execution,
  detached: z.object({ id: text }),
  executions: z.object({ executions: z.array(execution) }),
  result,
  marked: markResult,
  equivocations: z.object({ equivocations: z.array(equivocation) }),
  announcements,
  replicas: replicasView,
  drained,
  token,
  tokens: z.object({ tokens: z.array(token) }),
  createdToken,
  error: z.object({ error: failure }),
}
