// collect: frees what nobody will ask for again. Runs at start, at intervals, and when the user says so, beside all
// other work: what is leased, open or kept is looked at in the very step that would remove it, and stays.
//
//   content -not in use, not kept-> unreferenced | expired result | abandoned partial -withdrawn-> removed
//   file or hint that no record names -> removed
import type { ContentStore, StoredContent } from '../assets/content-store.ts'
import type { CallOptions } from '../base/lifecycle.ts'
import { type KeepDeps, reasonToKeep } from './keep.ts'

export interface CollectDeps extends KeepDeps {
  readonly store: ContentStore
  readonly now: () => number
  /** A partial content that was not touched for so long is not resumed any more. */
  readonly partialAgeMs: number
  readonly withdrawContent: (root: string) => Promise<void>
}

export interface CollectOptions extends CallOptions {
  /** Only says what would go. */
  readonly dryRun?: boolean
  /** Leaves out what takes long in a large store: files and hints that no record names. */
  readonly contentsOnly?: boolean
}

interface Freed {
  readonly contents: number
  readonly bytes: number
}

export interface Collected {
  /** No release here names them. */
  readonly unreferenced: Freed
  /** Fetches that were left, and not gone on with for too long. */
  readonly partial: Freed
  /** Outputs of executions that were kept long enough. */
  readonly results: Freed
  /** Files of interrupted work, and records of where shards of removed contents were. */
  readonly leftovers: { readonly files: number; readonly bytes: number }
  readonly hints: number
  readonly bytes: number
}

type Kind = 'unreferenced' | 'partial' | 'results'

export async function collect(deps: CollectDeps, options: CollectOptions = {}): Promise<Collected> {
  const { signal, dryRun = false, contentsOnly = false } = options
  const freed = { unreferenced: none(), partial: none(), results: none() }
  // Each is looked at as it is now, not as it was when the listing began.
  for await (const content of deps.store.roots()) {
    signal?.throwIfAborted()
    const kind = content.inUse ? undefined : kindOf(deps, content)
    if (kind === undefined) continue
    if (!dryRun && !(await removed(deps, content))) continue
    freed[kind].contents += 1
    freed[kind].bytes += content.storedBytes
  }
  const { files, fileBytes, hints } = contentsOnly
    ? { files: 0, fileBytes: 0, hints: 0 }
    : await deps.store.sweep({ signal, dryRun })
  const contents = Object.values(freed).reduce((sum, { bytes }) => sum + bytes, 0)
  return { ...freed, leftovers: { files, bytes: fileBytes }, hints, bytes: contents + fileBytes }
}

const none = () => ({ contents: 0, bytes: 0 })

async function removed(deps: CollectDeps, content: StoredContent): Promise<boolean> {
  const { root } = content
  const gone = await deps.store.removeIdle(root, () => kindOf(deps, content) === undefined)
  // After: a content that stays must stay announced, and this one hardly anybody asks for.
  if (gone) await deps.withdrawContent(root)
  return gone
}

/** What makes it garbage; undefined when it is none. */
function kindOf(deps: CollectDeps, { root, complete, usedAt }: StoredContent): Kind | undefined {
  if (reasonToKeep(deps, root) !== undefined) return undefined
  const old = usedAt + deps.partialAgeMs <= deps.now()
  const named = deps.catalogue.releasesByRoot(root).length > 0
  if (!complete) return old || !named ? 'partial' : undefined
  if (named) return undefined
  return deps.resultState(root) === 'expired' ? 'results' : 'unreferenced'
}
