// pin: keeps a release on this node until it is unpinned or removed, whatever else needs the space.
//
//   Release -fetch, held by a lease-> complete here -record-> pinned
import { type FetchDeps, type FetchOptions, fetchRelease } from './fetch.ts'
import type { Release } from './resolve.ts'

export interface PinDeps extends FetchDeps {
  readonly pins: {
    has(id: string): boolean
    add(id: string): Promise<void>
    remove(id: string): Promise<boolean>
  }
}

/** Durable when it resolves; what is not here is fetched first. Resolves to the bytes that were received for it. */
export async function pin(deps: PinDeps, release: Release, options: FetchOptions = {}): Promise<number> {
  using _lease = deps.store.lease(release.statement.root)
  const { bytesTransferred } = await fetchRelease(deps, release, options)
  await deps.pins.add(release.id)
  return bytesTransferred
}

/** The release stays until its space is needed. Resolves to whether it was pinned. */
export const unpin = ({ pins }: Pick<PinDeps, 'pins'>, { id }: Release): Promise<boolean> => pins.remove(id)
