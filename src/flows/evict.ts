// evict: makes room for what is being stored, by removing what has not been used for longest and nothing keeps.
// The release stays in the catalogue: its content is fetched again when it is asked for.
//
//   bytes wanted -least recently used, kept by nothing-> withdrawn -removed if still idle-> free
import type { ContentStore, StoredContent } from '../assets/content-store.ts'
import type { Log } from '../base/log.ts'
import { type KeepDeps, reasonToKeep } from './keep.ts'

export interface EvictDeps extends KeepDeps {
  readonly store: ContentStore
  /** Says that this node provides the content no more, or that it does after all. */
  readonly withdrawContent: (root: string) => Promise<void>
  readonly announceContent: (root: string) => Promise<void>
  readonly log: Log
}

/** Words for the error that follows when it was not enough. */
const wordsFor = {
  published: 'published here',
  pinned: 'pinned',
  owed: 'kept for others',
  result: 'results of executions',
  inUse: 'in use',
} as const

/** Frees at least `bytes` where that much may go, and no content more than needed. Resolves to what stays, and why. */
export async function evict(
  deps: EvictDeps,
  bytes: number,
): Promise<{ readonly keptBytes: Readonly<Record<string, number>> }> {
  const keptBytes: Record<string, number> = {}
  const candidates: StoredContent[] = []
  for await (const content of deps.store.roots()) {
    const reason = reasonToKeep(deps, content.root) ?? (content.inUse ? 'inUse' : undefined)
    if (reason === undefined) candidates.push(content)
    else keptBytes[wordsFor[reason]] = (keptBytes[wordsFor[reason]] ?? 0) + content.storedBytes
  }
  // Nothing is taken in vain.
  if (candidates.reduce((sum, { storedBytes }) => sum + storedBytes, 0) < bytes) return { keptBytes }
  let freed = 0
  for (const candidate of candidates.sort((a, b) => a.usedAt - b.usedAt)) {
    if (freed >= bytes) break
    if (await evictOne(deps, candidate)) freed += candidate.storedBytes
  }
  return { keptBytes }
}

async function evictOne(deps: EvictDeps, { root, storedBytes }: StoredContent): Promise<boolean> {
  // First, so that nobody is sent here for what is gone.
  await deps.withdrawContent(root)
  if (await deps.store.removeIdle(root, () => reasonToKeep(deps, root) !== undefined)) {
    deps.log.info({ root, storedBytes }, 'a content was evicted to make room')
    return true
  }
  if ((await deps.store.state(root)) === 'complete') await deps.announceContent(root)
  return false
}
