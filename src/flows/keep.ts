// keep: why a content stays on this node although nobody uses it at the moment. Whoever frees space asks here; what
// is in use is the store's to know (leases).
import type { ContentStore } from '../assets/content-store.ts'

export interface KeepDeps {
  readonly publisher: string
  readonly catalogue: {
    releasesByRoot(root: string): readonly { readonly id: string; readonly publisher: string }[]
  }
  readonly pins: { has(id: string): boolean }
  /** Whether this node has promised others to keep it. */
  readonly isOwed: (root: string) => boolean
  /** Whether it is the outputs of an execution on record; `expired` when they were kept long enough. */
  readonly resultState: (root: string) => 'kept' | 'expired' | undefined
}

export type KeepReason = 'published' | 'pinned' | 'owed' | 'result'

/** Undefined: it may go when its space is needed. Synchronous, so that it can be asked in the step that removes. */
export function reasonToKeep(deps: KeepDeps, root: string): KeepReason | undefined {
  const releases = deps.catalogue.releasesByRoot(root)
  // Nobody else may have it yet.
  if (releases.some(({ publisher }) => publisher === deps.publisher)) return 'published'
  if (releases.some(({ id }) => deps.pins.has(id))) return 'pinned'
  if (deps.isOwed(root)) return 'owed'
  // One that a release names as well can be fetched again.
  if (releases.length === 0 && deps.resultState(root) === 'kept') return 'result'
  return undefined
}

/** Bytes stored here by what keeps them; `inUse` are those that only their use keeps. */
export interface Holdings extends Readonly<Record<KeepReason | 'inUse' | 'evictable', number>> {
  readonly used: number
}

export async function holdings(deps: KeepDeps & { readonly store: ContentStore }): Promise<Holdings> {
  const bytes = { published: 0, pinned: 0, owed: 0, result: 0, inUse: 0, evictable: 0, used: 0 }
  for await (const { root, storedBytes, inUse } of deps.store.roots()) {
    bytes[reasonToKeep(deps, root) ?? (inUse ? 'inUse' : 'evictable')] += storedBytes
    bytes.used += storedBytes
  }
  return bytes
}
