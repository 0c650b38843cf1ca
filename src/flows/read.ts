// read: one file of a release, before all of the release is here.
//
//   Release -index-> Entry -range-> VerifiedShard*, those first -> bytes, in order

import type { ContentIndex } from '../assets/content-index.ts'
import { eitherSignal } from '../base/deadline.ts'
import { CatalogError } from '../base/errors.ts'
import type { CallOptions } from '../base/lifecycle.ts'
import type { FetchOptions } from '../distribution/content-fetcher.ts'
import { checkAgainstStatement, type FetchDeps, fetchRelease } from './fetch.ts'
import type { Release } from './resolve.ts'

export interface ReadDeps extends FetchDeps {
  readonly fetcher: FetchDeps['fetcher'] & {
    index(root: string, options: FetchOptions): Promise<ContentIndex>
    read(root: string, offset: number, length: number, options: FetchOptions): AsyncIterable<Uint8Array>
  }
}

export interface ReleaseFile {
  readonly size: number
  readonly mode: number
  /** Bytes of the file; those that are missing are fetched first, and what else comes meanwhile is kept. */
  read(offset: number, length: number): AsyncIterable<Uint8Array>
}

/** @throws CatalogError `no-such-file`, and as `fetchRelease` */
export async function openFile(
  deps: ReadDeps,
  release: Release,
  path: string,
  options: CallOptions,
): Promise<ReleaseFile> {
  const { root, size, name, version } = release.statement
  const known = (await deps.store.state(root)) === 'complete' ? await deps.store.index(root) : undefined
  const index = known ?? (await deps.fetcher.index(root, { ...options, expectedSize: size }))
  checkAgainstStatement(release, index)
  const entry = index.entries.find(each => each.path === path)
  if (entry?.kind !== 'file')
    throw new CatalogError('no-such-file', `${name}@${version} has no file ${JSON.stringify(path)}.`, {
      id: release.id,
      path,
    })
  const read = (offset: number, length: number) =>
    readRange(deps, release, entry.offset + offset, length, options)
  return { size: entry.size, mode: entry.mode, read }
}

async function* readRange(
  deps: ReadDeps,
  release: Release,
  offset: number,
  length: number,
  options: CallOptions,
): AsyncGenerator<Uint8Array, void, undefined> {
  const { root } = release.statement
  using _lease = deps.store.lease(root)
  const leaving = new AbortController()
  // Should all of it come to be here meanwhile, it is a fetch like any other: announced, and kept as one.
  const whole = fetchRelease(deps, release, { signal: eitherSignal(options.signal, leaving.signal) })
  whole.catch(() => undefined)
  try {
    yield* deps.fetcher.read(root, offset, length, options)
  } finally {
    leaving.abort(new CatalogError('cancelled', 'The file has been read.'))
    await whole.catch(() => undefined)
  }
}
