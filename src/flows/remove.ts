// remove: forgets a release here. Its record and, unless another release has the same content, its bytes go; this
// node stops announcing it. Others who hold it keep it: nothing is recalled from a network.
import type { ContentStore } from '../assets/content-store.ts'
import type { Release } from './resolve.ts'

export interface RemoveDeps {
  readonly store: ContentStore
  readonly catalogue: {
    forget(id: string): Promise<boolean>
    releasesByRoot(root: string): readonly { readonly id: string }[]
    releasesOf(name: string): readonly { readonly id: string; readonly root: string }[]
  }
  readonly pins: { remove(id: string): Promise<unknown> }
  /** Takes what concerns the release off the announcement queue. */
  readonly withdraw: (release: Release, keep: { content: boolean; name: boolean }) => Promise<void>
}

export interface Removed {
  readonly bytesFreed: number
  /** Something is reading or fetching the bytes: they go with the first `collect` afterwards. */
  readonly inUse: boolean
}

/** Announcements go first, so that nobody is sent here for what is gone. */
export async function remove(deps: RemoveDeps, release: Release): Promise<Removed> {
  const { root, name } = release.statement
  const others = deps.catalogue.releasesOf(name).filter(({ id }) => id !== release.id)
  const held = await Promise.all(others.map(other => deps.store.state(other.root)))
  const shared = deps.catalogue.releasesByRoot(root).some(({ id }) => id !== release.id)
  await deps.withdraw(release, { content: shared, name: held.some(state => state !== undefined) })
  await deps.catalogue.forget(release.id)
  await deps.pins.remove(release.id)
  if (shared || (await deps.store.state(root)) === undefined) return { bytesFreed: 0, inUse: false }
  const bytes = await bytesHere(deps.store, root)
  const gone = await deps.store.remove(root)
  return { bytesFreed: gone ? bytes : 0, inUse: !gone }
}

/** What is here of a content that may be here in part only. */
async function bytesHere(store: ContentStore, root: string): Promise<number> {
  const [index, available] = await Promise.all([store.index(root), store.available(root)])
  if (index === undefined || available === undefined) return 0
  return index.shards.reduce((sum, { length }, shard) => (available.has(shard) ? sum + length : sum), 0)
}
