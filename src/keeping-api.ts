// The calls of the control socket that decide what stays on this node: remove, pin, collect, check; and what the
// status says of the space.
import type { ContentUsage } from './assets/content-store.ts'
import { CatalogError } from './base/errors.ts'
import type { CallOptions } from './base/lifecycle.ts'
import type {
  CheckRequest,
  CheckResult,
  NodeApi,
  PinRequest,
  PinResult,
  ProgressOptions,
  RemoveResult,
  StorageStatus,
} from './control/api.ts'
import { type CheckDeps, check } from './flows/check.ts'
import { type CollectDeps, collect } from './flows/collect.ts'
import { holdings } from './flows/keep.ts'
import { type PinDeps, pin, unpin } from './flows/pin.ts'
import { type RemoveDeps, remove } from './flows/remove.ts'
import { type Release, type ResolveDeps, resolve } from './flows/resolve.ts'
import type { Catalogue } from './registry/catalogue.ts'

export interface KeepingFlows {
  readonly remove: RemoveDeps
  readonly pin: PinDeps
  readonly collect: CollectDeps
  readonly check: CheckDeps
}

export interface KeepingApiDeps {
  readonly catalogue: Pick<
    Catalogue,
    'release' | 'head' | 'headsOf' | 'freshness' | 'contradictions' | 'releasesByRoot'
  >
  readonly flows: KeepingFlows & { readonly resolve: ResolveDeps }
}

export function createKeepingApi(
  deps: KeepingApiDeps,
): Pick<NodeApi, 'remove' | 'pin' | 'collect' | 'check'> {
  return {
    remove: ref => removeRef(deps, ref),
    pin: (request, options) => pinRef(deps, request, options),
    collect: async ({ dryRun = false }, { signal, onProgress }) => {
      onProgress?.({ phase: 'collect' })
      return { dryRun, ...(await collect(deps.flows.collect, { dryRun, signal })) }
    },
    check: (request, options) => checkRefs(deps, request, options),
  }
}

/** Only what is known here is meant: no network is asked, and what was removed before stays away. */
function resolveHere(
  { catalogue, flows }: KeepingApiDeps,
  ref: string,
  options: CallOptions & { publisher?: string | undefined } = {},
): Promise<Release> {
  const here: ResolveDeps['catalogue'] = {
    release: id => catalogue.release(id),
    head: (publisher, name) => catalogue.head(publisher, name),
    headsOf: name => catalogue.headsOf(name),
    freshness: (publisher, name) => catalogue.freshness(publisher, name),
    contradictions: (publisher, name) => catalogue.contradictions(publisher, name),
    releasesByRoot: root => catalogue.releasesByRoot(root),
    remember: async () => undefined,
  }
  const silent = { ...flows.resolve, catalogue: here, peers: () => [], router: silentRouter }
  return resolve(silent, ref, { ...options, purpose: 'look' })
}

const silentRouter: ResolveDeps['router'] = {
  putRecord: async () => 0,
  getRecord: async () => undefined,
  provide: async () => 0,
  unprovide: async () => undefined,
  async *findProviders() {},
}

async function removeRef(deps: KeepingApiDeps, ref: string): Promise<RemoveResult> {
  const release = await resolveHere(deps, ref)
  const { bytesFreed, inUse } = await remove(deps.flows.remove, release)
  const { name, version } = release.statement
  return { id: release.id, name, version, bytesFreed, ...(inUse ? { inUse } : {}) }
}

async function pinRef(
  deps: KeepingApiDeps,
  { ref, remove: ends = false, publisher, allowStale }: PinRequest,
  options: ProgressOptions,
): Promise<PinResult> {
  const { signal } = options
  options.onProgress?.({ phase: 'resolve', ref })
  const release = ends
    ? await resolveHere(deps, ref, { signal, publisher })
    : await resolve(deps.flows.resolve, ref, { signal, publisher, allowStale })
  let bytesTransferred = 0
  if (ends) {
    if (!(await unpin(deps.flows.pin, release))) throw notPinned(release)
  } else
    bytesTransferred = await pin(deps.flows.pin, release, {
      signal,
      onProgress: (phase, done, total) => options.onProgress?.({ phase, ref, done, total }),
    })
  const { name, version, root } = release.statement
  return { id: release.id, name, version, root, pinned: !ends, bytesTransferred }
}

const notPinned = ({ id, statement: { name, version } }: Release) =>
  new CatalogError(
    'not-found',
    `${name}@${version} is not pinned here, so there is nothing to unpin. "catalog pin --list" shows what is.`,
    { id },
  )

async function checkRefs(
  deps: KeepingApiDeps,
  { refs, repair = false }: CheckRequest,
  { signal, onProgress }: ProgressOptions,
): Promise<CheckResult> {
  const roots: string[] = []
  for (const ref of refs ?? []) roots.push((await resolveHere(deps, ref, { signal })).statement.root)
  if (refs === undefined) for await (const { root } of deps.flows.check.store.roots()) roots.push(root)
  const checked = await check(deps.flows.check, roots, {
    signal,
    repair,
    onProgress: (phase, done, total) => onProgress?.({ phase, done, total }),
  })
  const releasesOf = (root: string) =>
    deps.catalogue.releasesByRoot(root).map(({ id, name, version }) => ({ id, name, version }))
  const damaged = checked.damaged.map(damage => ({ ...damage, releases: releasesOf(damage.root) }))
  return { ...checked, damaged }
}

export async function storageOf(deps: CollectDeps, { quotaBytes }: ContentUsage): Promise<StorageStatus> {
  const { used, published, pinned, owed, result, inUse, evictable } = await holdings(deps)
  return {
    ...(quotaBytes === undefined ? {} : { quotaBytes }),
    usedBytes: used,
    publishedBytes: published,
    pinnedBytes: pinned,
    owedBytes: owed,
    resultBytes: result,
    inUseBytes: inUse,
    evictableBytes: evictable,
  }
}
