// replicate: how a copy that another node asked for comes here. Its release is proved like any other before anything
// is promised; its bytes come by the same way as a user's fetch.
//
//   offer -record from the offering peer, accept-> Release -same root and size?-> promise -fetch-> complete
import { CatalogError } from '../base/errors.ts'
import type { CallOptions } from '../base/lifecycle.ts'
import type { FetchReport, FetchOptions as TransferOptions } from '../distribution/content-fetcher.ts'
import { type FetchDeps, fetchRelease } from './fetch.ts'
import type { Release } from './resolve.ts'

export interface ReplicateDeps extends FetchDeps {
  readonly catalogue: { release(id: string): Promise<Release | undefined> }
  /** Brings records of a peer through the accept flow. */
  readonly ask: (peer: string, question: { ids: string[] }, options: CallOptions) => Promise<void>
  readonly fetcher: { fetch(root: string, options: TransferOptions): Promise<FetchReport> }
}

interface Offered {
  readonly release: string
  readonly root: string
  readonly size: number
}

export interface ReplicateOptions extends CallOptions {
  readonly onProgress: (doneBytes: number) => void
}

/**
 * Makes sure that the release is known here, proved, and what the offer says.
 * @throws CatalogError `not-found` (no record came, or it was removed here), `bad-record`
 */
export async function proveOffered(
  deps: ReplicateDeps,
  offer: Offered,
  from: string,
  options: CallOptions,
): Promise<void> {
  const { statement } = await releaseOf(deps, offer, from, options)
  if (statement.root === offer.root && statement.size === offer.size) return
  throw new CatalogError(
    'bad-record',
    `The peer ${from} offered ${offer.release} as ${offer.root} of ${offer.size} bytes; its signed release says otherwise.`,
    { id: offer.release, peer: from },
  )
}

/** Fetches what was promised; complete, durable and announced when it resolves. */
export async function pullCopy(deps: ReplicateDeps, kept: Offered, options: ReplicateOptions): Promise<void> {
  const release = await releaseOf(deps, kept, undefined, options)
  const onProgress = (_phase: string, done: number) => options.onProgress(done)
  await fetchRelease(deps, release, { signal: options.signal, onProgress })
}

/** Fetches anew what is damaged of a content that is here: the fetcher looks at every shard, and keeps the good ones. */
export async function mendCopy(deps: ReplicateDeps, kept: Offered, options: ReplicateOptions): Promise<void> {
  const { signal, onProgress } = options
  await deps.fetcher.fetch(kept.root, { signal, onProgress, expectedSize: kept.size })
}

async function releaseOf(
  deps: ReplicateDeps,
  { release: id }: Offered,
  from: string | undefined,
  options: CallOptions,
): Promise<Release> {
  const known = await deps.catalogue.release(id)
  if (known !== undefined) return known
  if (from !== undefined) await deps.ask(from, { ids: [id] }, options)
  const brought = await deps.catalogue.release(id)
  if (brought !== undefined) return brought
  throw new CatalogError('not-found', `The release ${id} is not known here, or was removed here.`, { id })
}
