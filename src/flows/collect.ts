// collect: at start, contents that no release and no result refers to are removed: what a crash between storing
// and signing left. Nothing else runs yet, so nothing live can be taken.
import type { ContentStore } from '../assets/content-store.ts'

export interface CollectDeps {
  readonly store: ContentStore
  readonly isReferenced: (root: string) => boolean
}

/** Resolves to the number of contents removed. */
export async function collect(deps: CollectDeps): Promise<number> {
  const orphans: string[] = []
  for await (const { root } of deps.store.roots()) if (!deps.isReferenced(root)) orphans.push(root)
  for (const root of orphans) await deps.store.remove(root)
  return orphans.length
}
