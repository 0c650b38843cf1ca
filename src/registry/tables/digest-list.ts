// The 32-byte digests of record ids in ascending order, for reconciliation with peers, kept in order as records come
// and go.
import { digestBytes } from '../../base/hash.ts'

/** The value of each character of base32, by its code. */
const base32 = new Uint8Array(128)
for (const [value, letter] of [...'abcdefghijklmnopqrstuvwxyz234567'].entries())
  base32[letter.charCodeAt(0)] = value

/**
 * The digest in a CID of ours that was checked when it came in: the last 32 bytes of its base32 text. Far faster than
 * parsing it again, which would hold up the node for a second at 100,000 records.
 */
function digestOfKnownId(id: string): Uint8Array {
  const length = Math.floor(((id.length - 1) * 5) / 8)
  const digest = new Uint8Array(digestBytes)
  let bits = 0
  let held = 0
  let at = digestBytes - length
  // The first character is the multibase prefix.
  for (let i = 1; i < id.length; i++) {
    bits = ((bits << 5) | (base32[id.charCodeAt(i)] as number)) & 0xfff
    held += 5
    if (held < 8) continue
    held -= 8
    if (at >= 0) digest[at] = bits >> held
    at += 1
  }
  return digest
}

/** Of the 53 bits of a number: so many name the place, the others are the first of the digest, which nearly always decide. */
const placeBits = 20

/** In order, each once. Numbers are sorted far faster than bytes are compared: this must not hold up the node. */
function sortDigests(digests: readonly Uint8Array[]): Uint8Array[] {
  if (digests.length >= 2 ** placeBits) return withoutTwins(digests.toSorted(Buffer.compare))
  const keys = new Float64Array(digests.length)
  for (let place = 0; place < digests.length; place++)
    keys[place] = firstBits(digests[place] as Uint8Array) * 2 ** placeBits + place
  keys.sort()
  const sorted: Uint8Array[] = []
  for (let i = 0; i < keys.length; i++)
    sorted.push(digests[(keys[i] as number) % 2 ** placeBits] as Uint8Array)
  for (let i = 1; i < sorted.length; i++)
    for (
      let at = i;
      at > 0 && Buffer.compare(sorted[at - 1] as Uint8Array, sorted[at] as Uint8Array) > 0;
      at--
    )
      [sorted[at - 1], sorted[at]] = [sorted[at] as Uint8Array, sorted[at - 1] as Uint8Array]
  return withoutTwins(sorted)
}

/** The first 33. */
const firstBits = (digest: Uint8Array): number =>
  (((digest[0] as number) * 256 + (digest[1] as number)) * 256 + (digest[2] as number)) * 512 +
  (digest[3] as number) * 2 +
  ((digest[4] as number) >> 7)

const withoutTwins = (sorted: readonly Uint8Array[]): Uint8Array[] =>
  sorted.filter((digest, place) => place === 0 || !isAt(sorted, place - 1, digest))

export class DigestList {
  #digests: Uint8Array[] = []
  #isSorted = true

  /** Adds one of many: they are put in order when they are first asked for. */
  load(id: string): void {
    this.#digests.push(digestOfKnownId(id))
    this.#isSorted = false
  }

  sorted(): readonly Uint8Array[] {
    if (!this.#isSorted) this.#digests = sortDigests(this.#digests)
    this.#isSorted = true
    return this.#digests
  }

  add(id: string): void {
    const digest = digestOfKnownId(id)
    const place = this.#placeOf(digest)
    if (!isAt(this.#digests, place, digest)) this.#digests.splice(place, 0, digest)
  }

  remove(id: string): void {
    const digest = digestOfKnownId(id)
    const place = this.#placeOf(digest)
    if (isAt(this.#digests, place, digest)) this.#digests.splice(place, 1)
  }

  #placeOf(digest: Uint8Array): number {
    const digests = this.sorted()
    let low = 0
    let high = digests.length
    while (low < high) {
      const middle = (low + high) >>> 1
      if (Buffer.compare(digests[middle] ?? digest, digest) < 0) low = middle + 1
      else high = middle
    }
    return low
  }
}

function isAt(digests: readonly Uint8Array[], place: number, digest: Uint8Array): boolean {
  const found = digests[place]
  return found !== undefined && Buffer.compare(found, digest) === 0
}
