// Small contents that are asked for again, whole and in memory, in front of any ContentStore. What is here was verified
// as it was read, and is named by its hash, so it cannot be out of date; whether the root is still kept is asked of the
// store below each time, whichever way it went. Every other call goes straight to that store.
import type { ContentStore, ReadOptions } from '../assets/content-store.ts'
import { Cache, type CacheCounts } from '../base/cache.ts'
import type { CidText } from '../base/cid.ts'

export interface ContentCacheOptions {
  /** Bytes of memory for all contents; 0 switches it off. */
  readonly maxBytes: number
  /** Larger contents are always read from disk. */
  readonly maxContentBytes: number
}

export const defaultContentCacheOptions: ContentCacheOptions = {
  // A hundred contents of the largest size, thousands of the usual ones.
  maxBytes: 32 * 1024 * 1024,
  // What one request of a peer brings in one piece. Above it the disk's own cache does as well.
  maxContentBytes: 256 * 1024,
}

/** What the port allows. */
const maxChunkBytes = 1024 * 1024

/** `store` with the cache in front: all that `inner` can do, and how the cache does. */
export class ContentCache<S extends ContentStore> {
  readonly store: S
  readonly #inner: S
  readonly #options: ContentCacheOptions
  readonly #contents: Cache<Uint8Array>
  readonly #loading = new Map<CidText, Promise<Uint8Array | undefined>>()

  constructor(deps: { readonly store: S }, options: Partial<ContentCacheOptions> = {}) {
    this.#inner = deps.store
    this.#options = { ...defaultContentCacheOptions, ...options }
    this.#contents = new Cache({ bytesOf: bytes => bytes.byteLength }, this.#options)
    this.store = this.#inFront()
  }

  counts(): CacheCounts {
    return this.#contents.counts()
  }

  /** The inner store with some of its calls replaced; those that this file does not know are its own. */
  #inFront(): S {
    const inner = this.#inner
    const calls: Partial<ContentStore> = {
      read: (root, offset, length, options) => this.#read(root, offset, length, options),
      readShard: (root, shard) => this.#readShard(root, shard),
      remove: root => this.#dropping(root, inner.remove(root)),
      removeIdle: (root, keep) => this.#dropping(root, inner.removeIdle(root, keep)),
    }
    return new Proxy(inner, {
      get(_target, property) {
        if (Object.hasOwn(calls, property)) return calls[property as keyof ContentStore]
        const value: unknown = Reflect.get(inner, property, inner)
        return typeof value === 'function' ? value.bind(inner) : value
      },
    })
  }

  async *#read(
    root: CidText,
    offset: number,
    length: number,
    options: ReadOptions = {},
  ): AsyncGenerator<Uint8Array, void, undefined> {
    options.signal?.throwIfAborted()
    const content = await this.#content(root)
    const sound = Number.isSafeInteger(offset) && Number.isSafeInteger(length) && offset >= 0 && length > 0
    if (content === undefined || !sound || offset + length > content.byteLength)
      yield* this.#inner.read(root, offset, length, options)
    // Copies: what the caller does with its bytes is its own affair.
    else
      for (let at = offset; at < offset + length; at += maxChunkBytes)
        yield Buffer.from(content.subarray(at, Math.min(at + maxChunkBytes, offset + length)))
  }

  async #readShard(root: CidText, shard: number): Promise<Uint8Array | undefined> {
    const content = await this.#content(root)
    const shards = content === undefined ? undefined : (await this.#inner.index(root))?.shards
    const wanted = shards?.[shard]
    if (content === undefined || shards === undefined || wanted === undefined)
      return this.#inner.readShard(root, shard)
    let offset = 0
    for (let before = 0; before < shard; before++) offset += shards[before]?.length ?? 0
    return Buffer.from(content.subarray(offset, offset + wanted.length))
  }

  /** All bytes of a small content that is here in whole. */
  async #content(root: CidText): Promise<Uint8Array | undefined> {
    if (this.#options.maxBytes === 0 || (await this.#inner.state(root)) !== 'complete') return undefined
    if (this.#contents.has(root)) {
      // The store below must know that it is used, or it would be the first to be evicted.
      this.#inner.lease(root).release()
      return this.#contents.get(root)
    }
    const size = (await this.#inner.index(root))?.size
    if (size === undefined || size > this.#options.maxContentBytes || size === 0) return undefined
    const loading = this.#loading.get(root) ?? this.#load(root, size)
    this.#loading.set(root, loading)
    return loading
  }

  async #load(root: CidText, size: number): Promise<Uint8Array | undefined> {
    // Counts as missed.
    this.#contents.get(root)
    try {
      const bytes = Buffer.allocUnsafeSlow(size)
      let filled = 0
      for await (const chunk of this.#inner.read(root, 0, size)) {
        bytes.set(chunk, filled)
        filled += chunk.byteLength
      }
      if (filled !== size) return undefined
      this.#contents.set(root, bytes)
      return bytes
    } catch {
      // Damaged, or removed meanwhile: the caller's own read says so, or finds the part it wants sound.
      return undefined
    } finally {
      this.#loading.delete(root)
    }
  }

  async #dropping<T>(root: CidText, removed: Promise<T>): Promise<T> {
    try {
      return await removed
    } finally {
      this.#contents.delete(root)
    }
  }
}
