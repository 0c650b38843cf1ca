// The port for release bytes: one byte stream per content root, whole or in part, read by range.
// Implementations: store/file-content-store.ts (payload files + KeyValue), store/memory-content-store.ts.
// It stores what it is given; that a shard has the hash its index promises is checked here once more on `put`,
// so that nothing unverified is ever durable.

import type { CidText } from '../base/cid.ts'
import type { CallOptions } from '../base/lifecycle.ts'
import type { ContentIndex } from './content-index.ts'

/** Bytes being published, in stream order, before their root is known. */
export interface ContentWriter {
  /** Appends one shard; resolves when the write was accepted (not yet durable). */
  append(shard: Uint8Array): Promise<void>
  /** Makes everything durable under its root: file synced, renamed, directory synced, then recorded. Publishing what is already complete is harmless. */
  commit(index: ContentIndex): Promise<CidText>
  /** Discards what was written. Safe to call after commit. */
  abort(): Promise<void>
}

/** A root being fetched. Shards are numbered by their place in the index. */
export interface PartialContent {
  readonly index: ContentIndex
  /** True for a shard that is here and verified. Live: it changes as shards arrive. */
  has(shard: number): boolean
  missing(): number[]
  /**
   * Verifies one shard against the index, then writes it.
   * @throws CatalogError `corrupt-content` when the bytes do not have the shard's hash and length.
   */
  put(shard: number, bytes: Uint8Array): Promise<void>
  /** Copies every missing shard that another root on this disk holds (verified on the way). Resolves to the bytes saved. */
  copyLocal(options?: CallOptions): Promise<number>
  /** All shards are here: durable under the root, in the crash order. */
  complete(): Promise<void>
  /** Keeps what is here for a later resume. */
  close(): Promise<void>
}

export interface ContentUsage {
  /** Bytes of complete contents, and of partial ones. */
  readonly completeBytes: number
  readonly partialBytes: number
  readonly contents: number
  /** Bytes free on the disk for new payloads, after the reserve. */
  readonly freeBytes: number
}

export interface ContentStore {
  /** 'complete', 'partial', or undefined for a root that is not here. */
  state(root: CidText): Promise<'complete' | 'partial' | undefined>
  /** The index of a root that is here, whole or in part. */
  index(root: CidText): Promise<ContentIndex | undefined>
  /** The canonical bytes of the same. */
  indexBytes(root: CidText): Promise<Uint8Array | undefined>
  /** @throws CatalogError `no-space` when `expectedBytes` (0: unknown) do not fit. */
  createWriter(expectedBytes: number): Promise<ContentWriter>
  /** Opens or resumes a fetch; what an earlier process left is verified again and kept. One opener at a time per root (`busy`). */
  openPartial(root: CidText, indexBytes: Uint8Array): Promise<PartialContent>
  /**
   * Streams bytes [offset, offset + length) of a root in chunks of at most 1 MiB. Bytes of a partial root are
   * served only where the covering shards are here.
   * @throws CatalogError `not-found`, `invalid-range`, `corrupt-content` (a stored shard no longer has its hash)
   */
  read(root: CidText, offset: number, length: number, options?: CallOptions): AsyncIterable<Uint8Array>
  /** One whole shard, verified against its hash; undefined when it is not here. */
  readShard(root: CidText, shard: number): Promise<Uint8Array | undefined>
  /** Which shards of a partial or complete root can be served: undefined when the root is unknown. */
  available(root: CidText): Promise<{ readonly complete: boolean; has(shard: number): boolean } | undefined>
  /** Deletes a root, whole or partial, its records first. Running reads finish on the open file. */
  remove(root: CidText): Promise<void>
  roots(): AsyncIterable<{ readonly root: CidText; readonly complete: boolean; readonly size: number }>
  usage(): Promise<ContentUsage>
  /** Re-hashes every stored shard of a root; resolves to the numbers of bad ones. */
  check(root: CidText, options?: CallOptions): Promise<number[]>
}
