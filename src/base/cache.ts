// A cache with a hard bound in bytes, which forgets what was used longest ago and counts what it did. It knows nothing
// of what it holds, and holds only what its owner has checked. What is bounded by number or by age is not its affair.
import { LRUCache } from 'lru-cache'

export interface CacheOptions {
  /** Bytes of everything in it, at any time; 0 switches it off. */
  readonly maxBytes: number
}

export interface CacheCounts {
  readonly entries: number
  readonly bytes: number
  readonly maxBytes: number
  readonly hits: number
  readonly misses: number
  /** Entries that made room for others, and never what was deleted or replaced. */
  readonly evictions: number
}

/** What the map, the list and the key of one entry take, beside its value. */
const entryBytes = 200

export class Cache<V extends object> {
  readonly #entries: LRUCache<string, V>
  readonly #maxBytes: number
  #hits = 0
  #misses = 0
  #evictions = 0

  /** `bytesOf` says what a value takes in memory, which must not change while it is here. */
  constructor(deps: { readonly bytesOf: (value: V) => number }, { maxBytes }: CacheOptions) {
    this.#maxBytes = maxBytes
    this.#entries = new LRUCache({
      // Without a bound of its own the library would refuse to be switched off.
      maxSize: Math.max(1, maxBytes),
      sizeCalculation: value => entryBytes + Math.ceil(deps.bytesOf(value)),
      dispose: (_value, _key, reason) => {
        if (reason === 'evict') this.#evictions += 1
      },
    })
  }

  /** Counts nothing, and does not make the entry the latest. */
  has(key: string): boolean {
    return this.#entries.has(key)
  }

  /** The value, which is the latest used then. */
  get(key: string): V | undefined {
    const found = this.#entries.get(key)
    if (found === undefined) this.#misses += 1
    else this.#hits += 1
    return found
  }

  /** Keeps a value, unless it is larger than the whole cache. */
  set(key: string, value: V): void {
    this.#entries.set(key, value)
  }

  delete(key: string): void {
    this.#entries.delete(key)
  }

  counts(): CacheCounts {
    return {
      entries: this.#entries.size,
      bytes: this.#entries.calculatedSize,
      maxBytes: this.#maxBytes,
      hits: this.#hits,
      misses: this.#misses,
      evictions: this.#evictions,
    }
  }
}
