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
   * Verifies one or more whole, consecutive shards against the index, then writes them; the bytes must not change until
   * this resolves, and are the caller's again afterwards.
   * @throws CatalogError `corrupt-content` when a shard does not have its hash and length; none of them is written then.
   */
  put(first: number, bytes: Uint8Array): Promise<void>
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
  /** The most that all payloads together may take; absent: what the disk has. */
  readonly quotaBytes?: number
}

/** While it is held, nothing removes the root. */
export interface ContentLease {
  /** Safe to call twice. */
  release(): void
  [Symbol.dispose](): void
}

/** A root that is here, whole or in part, as who decides about keeping it needs to see it. */
export interface StoredContent {
  readonly root: CidText
  readonly complete: boolean
  readonly size: number
  /** Bytes that its file takes, and all that an open fetch of it has been promised. */
  readonly storedBytes: number
  /** Milliseconds since 1970 of its last use; no two are equal, so they give an order. Coarse across a restart. */
  readonly usedAt: number
  /** Leased, being fetched or being changed. */
  readonly inUse: boolean
}

export interface ReadOptions extends CallOptions {
  /**
   * Memory of the caller's that the store may read into, of so many bytes. A chunk either lies in what this gave, which
   * no other chunk shares, or elsewhere.
   */
  readonly allocate?: ((bytes: number) => Uint8Array) | undefined
}

export interface CheckOptions extends CallOptions {
  /** Awaited after each shard: for progress, and to let others go first. */
  readonly onShard?: (bytes: number) => void | Promise<void>
}

/** What no root, writer or fetch belongs to. */
export interface Leftovers {
  readonly files: number
  readonly fileBytes: number
  /** Records of where shards of removed roots were. */
  readonly hints: number
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
  read(root: CidText, offset: number, length: number, options?: ReadOptions): AsyncIterable<Uint8Array>
  /** One whole shard, verified against its hash; undefined when it is not here. */
  readShard(root: CidText, shard: number): Promise<Uint8Array | undefined>
  /** Which shards of a partial or complete root can be served: undefined when the root is unknown. */
  available(root: CidText): Promise<{ readonly complete: boolean; has(shard: number): boolean } | undefined>
  /**
   * Holds a root, here or not: from now on it is removed by nobody until the release. One taken while the root is
   * being removed comes too late, and finds nothing: the root is gone from the moment that this was decided. It counts
   * as a use of the root unless `isUse` is false.
   */
  lease(root: CidText, options?: { readonly isUse?: boolean }): ContentLease
  /**
   * Deletes a root, whole or partial, its records first; a fetch of it ends with `not-found`. Running reads finish on
   * the open file. Resolves to false when a lease keeps it.
   */
  remove(root: CidText): Promise<boolean>
  /**
   * The same for who makes room: never waits for others, and leaves what is in use. `keep` is asked at the moment of
   * deciding, with nothing in between. Resolves to false when it stays.
   */
  removeIdle(root: CidText, keep: () => boolean): Promise<boolean>
  roots(): AsyncIterable<StoredContent>
  usage(): Promise<ContentUsage>
  /** Re-hashes every stored shard of a root; resolves to the numbers of bad ones. */
  check(root: CidText, options?: CheckOptions): Promise<number[]>
  /** Finds what interrupted work left and no record names, and deletes it unless `dryRun`. */
  sweep(options?: CallOptions & { readonly dryRun?: boolean }): Promise<Leftovers>
}
