// What the control socket can ask of a node: each call of control/api.ts as one or two flows, and the views that
// people and programs see. It owns no state but what is being looked at.

import { isAbsolute, join } from 'node:path'
import type { ContentStore } from './assets/content-store.ts'
import { withTimeout } from './base/deadline.ts'
import { CatalogError, isCatalogError, toCatalogError } from './base/errors.ts'
import type { CallOptions } from './base/lifecycle.ts'
import type {
  AnnouncementState,
  ContentView,
  FetchFailure,
  FetchRequest,
  FetchResult,
  NetworkNameStatus,
  NodeApi,
  PeerView,
  ProgressOptions,
  PublishRequest,
  PublishResult,
  ReleaseDetail,
  ReleaseView,
  SearchHit,
  SearchQuery,
  Status,
} from './control/api.ts'
import type { CertificatesApi } from './control/certificates-api.ts'
import type { RootsApi } from './control/roots-api.ts'
import type { TrustApi } from './control/trust-calls.ts'
import { type FetchOptions, fetchRelease, writeContent } from './flows/fetch.ts'
import { type Marks, marksReader } from './flows/marks.ts'
import { type PublishDeps, publish } from './flows/publish.ts'
import { openFile, type ReadDeps } from './flows/read.ts'
import { type Release, type ResolveDeps, resolution, resolve } from './flows/resolve.ts'
import type { YankDeps } from './flows/yank.ts'
import { createKeepingApi, type KeepingFlows, storageOf } from './keeping-api.ts'
import { createMarksApi, markedVersions } from './marks-api.ts'
import type { NetworkNameState } from './network/dns.ts'
import type { Host } from './network/host.ts'
import type { RecentRefusal } from './network/recent-refusals.ts'
import type { Catalogue } from './registry/catalogue.ts'
import type { ReleaseSummary } from './registry/release-summary.ts'
import type { Search } from './registry/search.ts'
import type { ReplicationApi } from './replication-api.ts'

export interface NodeApiDeps {
  readonly version: string
  readonly home: string
  readonly network: string
  readonly publisher: string
  readonly host: Host
  readonly store: ContentStore
  readonly catalogue: Catalogue
  readonly search: Search
  readonly flows: {
    readonly publish: PublishDeps
    readonly fetch: ReadDeps
    readonly resolve: ResolveDeps
    readonly yank: (name: string) => YankDeps
  } & KeepingFlows
  readonly pins: { has(id: string): boolean }
  readonly announcements: () => AnnouncementState
  readonly caches: () => Status['caches']
  readonly bandwidth: () => Status['bandwidth']
  readonly networkNames: () => NetworkNameState[]
  readonly membership: () => Status['membership']
  readonly refusals: () => RecentRefusal[]
  /** Peers that hold a root, each with whether in whole. */
  readonly holders: (root: string, options: CallOptions) => Promise<{ peer: string; complete: boolean }[]>
  readonly executions: ExecutionsApi
  readonly replication: ReplicationApi
  readonly certificates: CertificatesApi
  readonly roots: RootsApi
  readonly trust: TrustApi
}

/** The execution calls of NodeApi, which execution-api.ts answers. */
export type ExecutionsApi = Pick<
  NodeApi,
  'execute' | 'followExecution' | 'executions' | 'execution' | 'cancelExecution' | 'result' | 'resultContent'
> & {
  status(): Promise<Status['execution']>
  offersExecution(peer: string): Promise<boolean>
}

/** How long `show` waits for providers to answer. */
const holdersMs = 4_000

export function createNodeApi(deps: NodeApiDeps): NodeApi {
  const { catalogue, store, flows, executions } = deps
  const startedAt = Date.now()
  return {
    status: () => statusOf(deps, startedAt),
    peers: () => peersOf(deps),
    releases: heldOnly => releasesOf(deps, heldOnly),
    show: (ref, options) => show(deps, ref, options),
    ...createKeepingApi(deps),
    ...createMarksApi(deps),
    search: query => searchReleases(deps, query),
    publish: (request, options) => publishPath(deps, request, options),
    fetch: (request, options) => fetchAll(deps, request, options),
    file: (id, path, options) => fileOf(deps, id, path, options),
    content: (ref, options) => contentOf(deps, ref, options),
    announcements: async () => deps.announcements(),
    execute: (request, options) => executions.execute(request, options),
    followExecution: (id, options) => executions.followExecution(id, options),
    executions: () => executions.executions(),
    execution: id => executions.execution(id),
    cancelExecution: id => executions.cancelExecution(id),
    result: (id, request, options) => executions.result(id, request, options),
    resultContent: (id, options) => executions.resultContent(id, options),
    replicas: (ref, options) => deps.replication.replicas(ref, options),
    setReplicas: (ref, request, options) => deps.replication.setReplicas(ref, request, options),
    drain: (request, options) => deps.replication.drain(request, options),
    certificates: deps.certificates,
    roots: deps.roots,
    trust: deps.trust,
  }

  async function statusOf({ host }: NodeApiDeps, since: number): Promise<Status> {
    const usage = await store.usage()
    return {
      version: deps.version,
      peerId: host.peer,
      publisher: deps.publisher,
      network: deps.network,
      addresses: host.addresses(),
      home: deps.home,
      uptimeSeconds: Math.floor((Date.now() - since) / 1000),
      peers: new Set(host.connections().map(({ peer }) => peer)).size,
      releases: {
        known: catalogue.count,
        held: usage.contents,
        bytes: usage.completeBytes + usage.partialBytes,
      },
      freeBytes: usage.freeBytes,
      storage: await storageOf(flows.collect, usage),
      announcements: deps.announcements(),
      bandwidth: deps.bandwidth(),
      execution: await executions.status(),
      replication: await deps.replication.status(),
      caches: deps.caches(),
      memoryBytes: process.memoryUsage.rss(),
      networkNames: deps.networkNames().map(nameStatus),
      membership: deps.membership(),
      refusals: deps.refusals().map(refusal => ({ ...refusal, at: new Date(refusal.at).toISOString() })),
    }
  }
}

function nameStatus({ askedAt, askAgainAt, ...state }: NetworkNameState): NetworkNameStatus {
  const asked = askedAt === undefined ? {} : { askedAt: new Date(askedAt).toISOString() }
  return { ...state, ...asked, askAgainAt: new Date(askAgainAt).toISOString() }
}

async function peersOf({ host, executions }: NodeApiDeps): Promise<PeerView[]> {
  const views = new Map<string, Omit<PeerView, 'offersExecution'>>()
  for (const connection of host.connections()) {
    const { peer, addresses, transport, direction, connectedAt, latencyMs } = connection
    const before = views.get(peer)
    views.set(peer, {
      peer,
      addresses: [...(before?.addresses ?? []), ...addresses],
      transport: before === undefined || transport === 'quic' ? transport : before.transport,
      direction: before?.direction ?? direction,
      connectedSeconds: Math.floor((Date.now() - connectedAt) / 1000),
      dataConnections: connection.dataConnections ?? 0,
      ...(latencyMs === undefined ? {} : { latencyMs }),
    })
  }
  // Bounded by the connections that the host allows, and by the time that one question has.
  return Promise.all(
    [...views.values()].map(async view => ({
      ...view,
      offersExecution: await executions.offersExecution(view.peer),
    })),
  )
}

/** Of one list: what is said of a name is looked up once for it. */
type MarksOf = (summary: ReleaseSummary) => Promise<Marks>

async function viewOf(
  { store, pins }: NodeApiDeps,
  summary: ReleaseSummary,
  marksOf: MarksOf,
): Promise<ReleaseView> {
  const { id, name, version, root, size, files, publisher, description, tags, type, category, signedAt } =
    summary
  return {
    ...{ id, name, version, root, size, files, publisher, description, tags, type },
    ...(category === undefined ? {} : { category }),
    signedAt: new Date(signedAt).toISOString(),
    held: (await store.state(root)) ?? 'none',
    pinned: pins.has(id),
    ...(await marksOf(summary)),
  }
}

async function releasesOf(deps: NodeApiDeps, heldOnly: boolean): Promise<ReleaseView[]> {
  const views: ReleaseView[] = []
  const marksOf = marksReader(deps.flows.resolve)
  for (const { id } of deps.catalogue.list()) {
    const summary = await deps.catalogue.summary(id)
    if (summary === undefined) continue
    const view = await viewOf(deps, summary, marksOf)
    if (!heldOnly || view.held !== 'none') views.push(view)
  }
  return views
}

async function show(
  deps: NodeApiDeps,
  ref: string,
  options: CallOptions & { publisher?: string },
): Promise<ReleaseDetail> {
  const { release, warnings } = await resolution(deps.flows.resolve, ref, { ...options, purpose: 'look' })
  const { statement, signatures } = release
  const summary = await deps.catalogue.summary(release.id)
  const head = await deps.catalogue.head(statement.publisher, statement.name)
  const signal = withTimeout(options.signal, holdersMs)
  const state = await deps.store.state(statement.root)
  const here = state === undefined ? [] : [{ peer: deps.host.peer, complete: state === 'complete' }]
  return {
    ...(await viewOf(deps, summary as ReleaseSummary, marksReader(deps.flows.resolve))),
    ...(statement.manifest === undefined ? {} : { manifest: statement.manifest }),
    manifestPath: statement.manifestPath,
    ...(head === undefined ? {} : { sequence: head.statement.sequence }),
    versions: head?.statement.versions.map(({ version }) => version) ?? [statement.version],
    ...(head === undefined ? {} : { marked: markedVersions(head) }),
    warnings,
    algorithms: signatures.map(({ algorithm }) => algorithm),
    providers: [...here, ...(await deps.holders(statement.root, { signal }))],
  }
}

async function searchReleases(deps: NodeApiDeps, query: SearchQuery): Promise<SearchHit[]> {
  const results = await deps.search.search(query)
  const marksOf = marksReader(deps.flows.resolve)
  return Promise.all(
    results.map(async ({ release, score }) => ({ ...(await viewOf(deps, release, marksOf)), score })),
  )
}

async function publishPath(
  deps: NodeApiDeps,
  { path, replicas }: PublishRequest,
  options: ProgressOptions,
): Promise<PublishResult> {
  requireAbsolute(path)
  const started = performance.now()
  const { release, created, warnings } = await publish(deps.flows.publish, path, {
    signal: options.signal,
    onProgress: (phase, done, total) =>
      options.onProgress?.({ phase, ...(total > 0 ? { done, total } : {}) }),
  })
  const keptWarnings = await deps.replication.published(release, replicas)
  const { name, version, root, size, files, publisher } = release.statement
  return {
    id: release.id,
    name,
    version,
    root,
    size,
    files,
    publisher,
    created,
    warnings: [...warnings, ...keptWarnings],
    milliseconds: Math.round(performance.now() - started),
  }
}

function requireAbsolute(path: string): void {
  if (!isAbsolute(path))
    throw new CatalogError(
      'invalid-request',
      `The path ${JSON.stringify(path)} is not absolute; requests name absolute paths.`,
    )
}

/** Several REFs give one result each: one failure does not end the others. */
async function fetchAll(
  deps: NodeApiDeps,
  request: FetchRequest,
  options: ProgressOptions,
): Promise<(FetchResult | FetchFailure)[]> {
  if (request.out !== undefined) requireAbsolute(request.out)
  if (request.outParent !== undefined) requireAbsolute(request.outParent)
  if (request.refs.length === 1) return [await fetchOne(deps, request.refs[0] as string, request, options)]
  const results: (FetchResult | FetchFailure)[] = []
  for (const ref of request.refs) {
    try {
      results.push(await fetchOne(deps, ref, request, options))
    } catch (error) {
      options.signal?.throwIfAborted()
      results.push({ ref, error: toCatalogError(error).toJSON() })
    }
  }
  return results
}

async function fetchOne(
  deps: NodeApiDeps,
  ref: string,
  request: FetchRequest,
  options: ProgressOptions,
): Promise<FetchResult> {
  const { signal } = options
  options.onProgress?.({ phase: 'resolve', ref })
  const { publisher, allowStale } = request
  const { release, warnings, stale } = await resolution(deps.flows.resolve, ref, {
    ...{ signal, publisher, allowStale },
  })
  const onProgress: FetchOptions['onProgress'] = (phase, done, total) =>
    options.onProgress?.({ phase, ref, done, total })
  const { statement } = release
  // From the fetch to the last byte written.
  using _lease = deps.store.lease(statement.root)
  options.onProgress?.({ phase: 'find', ref })
  const fetched = await fetchRelease(deps.flows.fetch, release, { signal, onProgress })
  const out = outputOf(request, release)
  const write = (to: string) =>
    writeContent(deps.flows.fetch, statement.root, to, { signal, onProgress, force: request.force === true })
  const writeMilliseconds =
    out === undefined
      ? undefined
      : await write(out).catch(async error => {
          if (!isCatalogError(error, 'corrupt-content')) throw error
          // A shard on this disk is damaged: fetching again looks at every one, and replaces those that are.
          await deps.flows.fetch.fetcher.fetch(statement.root, { signal, expectedSize: statement.size })
          return write(out)
        })
  return {
    ref,
    id: release.id,
    ...{
      name: statement.name,
      version: statement.version,
      root: statement.root,
      files: statement.files,
      bytes: statement.size,
    },
    bytesTransferred: fetched.bytesTransferred,
    providers: fetched.providers,
    milliseconds: fetched.milliseconds,
    ...(writeMilliseconds === undefined ? {} : { writeMilliseconds }),
    ...(out === undefined ? {} : { out }),
    ...(warnings.length === 0 ? {} : { warnings }),
    ...(stale === undefined ? {} : { stale: new Date(stale.since).toISOString() }),
  }
}

function outputOf(
  { out, outParent, refs }: FetchRequest,
  { statement: { name, version } }: Release,
): string | undefined {
  const directory = `${name.replace('/', '-')}-${version}`
  if (out !== undefined) return refs.length === 1 ? out : join(out, directory)
  return outParent === undefined ? undefined : join(outParent, directory)
}

async function fileOf(
  { flows }: NodeApiDeps,
  ref: string,
  path: string,
  options: CallOptions & { allowStale?: boolean },
) {
  const { release, warnings } = await resolution(flows.resolve, ref, options)
  return { ...(await openFile(flows.fetch, release, path, options)), warnings }
}

async function contentOf(
  { flows, store }: NodeApiDeps,
  ref: string,
  options: CallOptions,
): Promise<ContentView> {
  const release = await resolve(flows.resolve, ref, options)
  const { root } = release.statement
  const { index } = await fetchRelease(flows.fetch, release, options)
  return { root, index, read: (offset, length) => readLeased(store, root, offset, length, options) }
}

/** Bytes of a content that stays here until they are read. */
export async function* readLeased(
  store: ContentStore,
  root: string,
  offset: number,
  length: number,
  options: CallOptions,
): AsyncGenerator<Uint8Array, void, undefined> {
  using _lease = store.lease(root)
  yield* store.read(root, offset, length, options)
}
