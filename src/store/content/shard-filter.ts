// Whether a shard may be somewhere on this disk: a Bloom filter (Bloom, 1970) over the hashes of all recorded shards. Most
// shards of a new content are nowhere here, and a question to the database for each costs more than moving the content.

const bitsEach = 16
/** Room for as many shards again, and a few more, before the filter has to be made anew. */
const growth = 2
const leastShards = 4096
/** So many of its shards may have gone, or this share, before they are looked for in vain too often. */
const leastGone = 256
const goneShare = 1 / 8
const probes = 4

export class ShardFilter {
  readonly #bits: Uint8Array
  readonly #mask: number
  #room: number
  #shards = 0
  #gone = 0

  /** For about so many shards; one in a thousand of those that are not here is taken for one that may be. */
  constructor(shards: number) {
    this.#room = Math.max(leastShards, shards * growth)
    const bits = 2 ** Math.ceil(Math.log2(this.#room * bitsEach))
    this.#bits = new Uint8Array(bits / 8)
    this.#mask = bits - 1
  }

  /** No longer as sharp as it should be: to be made anew. */
  get blunt(): boolean {
    return this.#room <= 0 || this.#gone > Math.max(leastGone, this.#shards * goneShare)
  }

  /** So many shards are not on this disk any more: they cannot be taken out one by one. */
  lose(shards: number): void {
    this.#gone += shards
  }

  add(hash: Uint8Array): void {
    this.#room -= 1
    this.#shards += 1
    for (const bit of this.#places(hash))
      this.#bits[bit >>> 3] = (this.#bits[bit >>> 3] as number) | (1 << (bit & 7))
  }

  mayHave(hash: Uint8Array): boolean {
    return this.#places(hash).every(bit => ((this.#bits[bit >>> 3] as number) & (1 << (bit & 7))) !== 0)
  }

  /** The bytes of a cryptographic hash are as good as hash functions of their own. */
  #places(hash: Uint8Array): number[] {
    const view = new DataView(hash.buffer, hash.byteOffset, hash.byteLength)
    return Array.from({ length: probes }, (_, probe) => (view.getUint32(probe * 4) & this.#mask) >>> 0)
  }
}
