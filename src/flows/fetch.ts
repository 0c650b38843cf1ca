// fetch: from a REF to verified bytes in this node's store, and from there to a directory.
//
//   Ref -resolve-> Release -find-> Provider* -transfer-> VerifiedShard* -store-> complete -announce-> provider
//       -write-> files
import { type ContentIndex, countFiles } from '../assets/content-index.ts'
import type { ContentStore } from '../assets/content-store.ts'
import { writeTree } from '../assets/write-tree.ts'
import { equalBytes } from '../base/cbor.ts'
import { CatalogError } from '../base/errors.ts'
import type { CallOptions } from '../base/lifecycle.ts'
import type { FetchReport, FetchOptions as TransferOptions } from '../distribution/content-fetcher.ts'
import type { Release } from './resolve.ts'

export interface FetchDeps {
  readonly store: ContentStore
  readonly fetcher: { fetch(root: string, options: TransferOptions): Promise<FetchReport> }
  /** Makes it durable that this node provides the release. */
  readonly announce: (release: Release) => Promise<void>
}

export interface FetchOptions extends CallOptions {
  readonly onProgress?: (phase: 'transfer' | 'write', done: number, total: number) => void
}

export interface Fetched {
  readonly index: ContentIndex
  readonly bytesTransferred: number
  readonly providers: readonly { readonly peer: string; readonly bytes: number }[]
  readonly milliseconds: number
}

/**
 * Resolves once the release's bytes are complete and durable here.
 * @throws CatalogError `no-providers`, `no-space`, `quota-exceeded`, `bad-record`
 */
export async function fetchRelease(
  deps: FetchDeps,
  release: Release,
  options: FetchOptions = {},
): Promise<Fetched> {
  const started = performance.now()
  const { root, size } = release.statement
  // Whoever goes on to read holds a lease of its own, taken before.
  using _lease = deps.store.lease(root)
  const fetched = await ensureHere(deps, root, size, options)
  checkAgainstStatement(release, fetched.index)
  if (fetched.bytesTransferred > 0 || fetched.providers.length > 0 || fetched.fresh)
    await deps.announce(release)
  return { ...fetched, milliseconds: Math.round(performance.now() - started) }
}

async function ensureHere(
  deps: FetchDeps,
  root: string,
  expectedSize: number,
  options: FetchOptions,
): Promise<Omit<Fetched, 'milliseconds'> & { fresh: boolean }> {
  if ((await deps.store.state(root)) === 'complete') {
    const index = await deps.store.index(root)
    if (index !== undefined) return { index, bytesTransferred: 0, providers: [], fresh: false }
  }
  const onProgress = (done: number, total: number) => options.onProgress?.('transfer', done, total)
  const report = await deps.fetcher.fetch(root, { signal: options.signal, expectedSize, onProgress })
  return { ...report, fresh: true }
}

// The index hashes to the root that is signed; these say the same twice, and a release that contradicts itself is refused.
export function checkAgainstStatement({ statement, id }: Release, index: ContentIndex): void {
  if (
    index.size === statement.size &&
    countFiles(index) === statement.files &&
    equalBytes(index.blake3, statement.blake3) &&
    equalBytes(index.sha256, statement.sha256)
  )
    return
  throw new CatalogError(
    'bad-record',
    `The signed release ${statement.name}@${statement.version} and its content index contradict each other; its publisher made it wrong.`,
    { id },
  )
}

/** Writes a complete content as files under `out`. @throws CatalogError `output-exists`, `no-space`, `corrupt-content` */
export async function writeContent(
  deps: Pick<FetchDeps, 'store'>,
  root: string,
  out: string,
  options: FetchOptions & { readonly force?: boolean } = {},
): Promise<number> {
  using _lease = deps.store.lease(root)
  const index = await deps.store.index(root)
  if (index === undefined)
    throw new CatalogError('not-found', `The content ${root} is not on this node; fetch it first.`, { root })
  const started = performance.now()
  await writeTree(
    index,
    (offset, length) => deps.store.read(root, offset, length, { signal: options.signal }),
    out,
    {
      marker: root,
      force: options.force ?? false,
      signal: options.signal,
      onProgress: (done: number) => options.onProgress?.('write', done, index.size),
    },
  )
  return Math.round(performance.now() - started)
}
