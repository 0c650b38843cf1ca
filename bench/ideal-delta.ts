// The yardstick for a second version's transfer: the fewest bytes that any scheme could move that moves pieces of a
// given size and knows both versions.
//
//   1. The new stream is aligned with all that the receiver has, at any offset: every stretch of it that lies in the
//      old stream, or in the new one before it, counts as had. A match is found by one whole block of 1 KiB and then
//      grows to the byte on both sides. What is left are the changed ranges.
//   2. The changed ranges are covered with pieces of the given size, each laid where the first byte not yet covered is:
//      for pieces of one size that is the smallest cover there is (an exchange argument: no piece of another cover
//      begins later and reaches that byte). A piece may lie anywhere, as no real scheme's may: real ones must find
//      their pieces without seeing the other version.
//
// It errs against us: it may move a piece for each 256 KiB that changed, where cuts by content, made blindly, must take
// in the shard on each side of every change. It leaves out what every scheme has to send besides: the list of pieces.

const blockBytes = 1024
/** Places with one block's hash that are tried; the longest match wins. */
const maxTried = 8
const tableBits = 22
const multiplier = 0x01000193
const leading = power(multiplier, blockBytes)

/** Bytes from `start` to before `end`. */
export interface ByteRange {
  readonly start: number
  readonly end: number
}

/** The ranges of `next`, ascending, whose bytes are neither in `old` nor earlier in `next`. */
export function changedRanges(old: Uint8Array, next: Uint8Array): ByteRange[] {
  const all = Buffer.concat([old, next])
  const blocks = new BlockTable(all)
  blocks.add(old.byteLength)
  const ranges: ByteRange[] = []
  let at = old.byteLength
  let changedFrom = at
  let hash: number | undefined
  while (at + blockBytes <= all.byteLength) {
    hash ??= blockHash(all, at)
    const source = blocks.longest(hash, at)
    if (source === undefined) {
      hash = rolled(hash, all, at)
      at += 1
      blocks.add(at)
      continue
    }
    let [start, from] = [at, source]
    while (start > changedFrom && from > 0 && all[start - 1] === all[from - 1]) {
      start -= 1
      from -= 1
    }
    if (start > changedFrom) ranges.push({ start: changedFrom - old.byteLength, end: start - old.byteLength })
    at += matchLength(all, source, at)
    changedFrom = at
    blocks.add(at)
    hash = undefined
  }
  if (changedFrom < all.byteLength) ranges.push({ start: changedFrom - old.byteLength, end: next.byteLength })
  return ranges
}

/** Bytes of the smallest cover of the ranges (ascending) with pieces of `pieceBytes`, at most `size`. */
export function coverBytes(ranges: readonly ByteRange[], pieceBytes: number, size: number): number {
  let bytes = 0
  let covered = 0
  for (const { start, end } of ranges) {
    const from = Math.max(start, covered)
    if (from >= end) continue
    const pieces = Math.ceil((end - from) / pieceBytes)
    bytes += pieces * pieceBytes
    covered = from + pieces * pieceBytes
  }
  return Math.min(bytes, size)
}

/** Where blocks with a hash begin, at multiples of the block size. */
class BlockTable {
  readonly #bytes: Buffer
  readonly #last = new Int32Array(2 ** tableBits)
  readonly #before: Int32Array
  #count = 0

  constructor(bytes: Buffer) {
    this.#bytes = bytes
    this.#before = new Int32Array(Math.ceil(bytes.byteLength / blockBytes) + 1)
  }

  /** The blocks that end by `end`. */
  add(end: number): void {
    for (; (this.#count + 1) * blockBytes <= end; this.#count++) {
      const slot = slotOf(blockHash(this.#bytes, this.#count * blockBytes))
      this.#before[this.#count + 1] = this.#last[slot] as number
      this.#last[slot] = this.#count + 1
    }
  }

  /** Where the longest match of what is at `at` begins, of those places that are tried. */
  longest(hash: number, at: number): number | undefined {
    let found: number | undefined
    let length = blockBytes - 1
    let block = this.#last[slotOf(hash)] as number
    for (let tried = 0; block !== 0 && tried < maxTried; tried++) {
      const source = (block - 1) * blockBytes
      const matched = matchLength(this.#bytes, source, at, 64 * blockBytes)
      if (matched > length) {
        found = source
        length = matched
      }
      block = this.#before[block] as number
    }
    return found
  }
}

function matchLength(bytes: Buffer, source: number, at: number, most = bytes.byteLength): number {
  const end = Math.min(bytes.byteLength - at, most)
  let length = 0
  while (length < end && bytes[source + length] === bytes[at + length]) length += 1
  return length
}

function blockHash(bytes: Uint8Array, at: number): number {
  let hash = 0
  for (let i = at; i < at + blockBytes; i++)
    hash = (Math.imul(hash, multiplier) + (bytes[i] as number) + 1) | 0
  return hash
}

const rolled = (hash: number, bytes: Uint8Array, at: number): number =>
  (Math.imul(hash, multiplier) +
    (bytes[at + blockBytes] ?? 0) +
    1 -
    Math.imul(leading, (bytes[at] as number) + 1)) |
  0

const slotOf = (hash: number) => Math.imul(hash, 0x9e3779b1) >>> (32 - tableBits)

function power(base: number, exponent: number): number {
  let result = 1
  for (let i = 0; i < exponent; i++) result = Math.imul(result, base)
  return result
}
