// Where each shard of a root lies in its payload file, and reading one so that only verified bytes come out.
import { type ContentIndex, decodeContentIndex } from '../../assets/content-index.ts'
import { equalBytes } from '../../base/cbor.ts'
import type { CidText } from '../../base/cid.ts'
import { allocateOnce } from '../../base/external-memory.ts'
import { blake3 } from '../../base/hash.ts'
import { type ReadableFile, readFully } from '../file-system.ts'

const keyOf = (hash: Uint8Array) => Buffer.from(hash).toString('latin1')

export class Layout {
  readonly root: CidText
  readonly index: ContentIndex
  readonly indexBytes: Uint8Array
  readonly #offsets: Float64Array
  #places: Map<string, number[]> | undefined

  /** @throws CatalogError `corrupt-content` or `bad-record` when the bytes are not a good index of `root`. */
  constructor(root: CidText, indexBytes: Uint8Array) {
    this.root = root
    this.indexBytes = indexBytes
    this.index = decodeContentIndex(indexBytes, root)
    this.#offsets = new Float64Array(this.count)
    let offset = 0
    for (const [shard, { length }] of this.index.shards.entries()) {
      this.#offsets[shard] = offset
      offset += length
    }
  }

  get count(): number {
    return this.index.shards.length
  }

  get size(): number {
    return this.index.size
  }

  offset(shard: number): number {
    return this.#offsets[shard] as number
  }

  length(shard: number): number {
    return this.index.shards[shard]?.length as number
  }

  hash(shard: number): Uint8Array {
    return this.index.shards[shard]?.hash as Uint8Array
  }

  /** The shard that holds the byte at `offset` (binary search; offsets ascend). */
  shardAt(offset: number): number {
    let low = 0
    let high = this.count - 1
    while (low < high) {
      const middle = (low + high + 1) >>> 1
      if (this.offset(middle) <= offset) low = middle
      else high = middle - 1
    }
    return low
  }

  /** Every shard with this hash. */
  twins(hash: Uint8Array): number[] {
    this.#places ??= Map.groupBy(this.index.shards.keys(), shard => keyOf(this.hash(shard)))
    return this.#places.get(keyOf(hash)) ?? []
  }

  matches(shard: number, bytes: Uint8Array): boolean {
    return bytes.byteLength === this.length(shard) && equalBytes(blake3(bytes), this.hash(shard))
  }

  /** The shard's bytes, or undefined when what the file has there is not the shard. */
  async readVerified(file: ReadableFile, shard: number): Promise<Uint8Array | undefined> {
    return readVerified(file, this.offset(shard), this.length(shard), this.hash(shard))
  }
}

export async function readVerified(
  file: ReadableFile,
  offset: number,
  length: number,
  hash: Uint8Array,
): Promise<Uint8Array | undefined> {
  const bytes = allocateOnce(length)
  if ((await readFully(file, bytes, offset)) < length) return undefined
  return equalBytes(blake3(bytes), hash) ? bytes : undefined
}
