// The 32-byte digests of record ids in ascending order, for reconciliation with peers: made when first asked for,
// then kept in order as records come and go.
import { digestBytes } from '../../base/hash.ts'

const base32 = new Map(
  [...'abcdefghijklmnopqrstuvwxyz234567'].map((letter, value) => [letter.charCodeAt(0), value]),
)

/**
 * The digest in a CID of ours that was checked when it came in: the last 32 bytes of its base32 text. Ten times as fast
 * as parsing it again, which would hold up the node for a second at 100,000 records.
 */
function digestOfKnownId(id: string): Uint8Array {
  const bytes = new Uint8Array(Math.floor(((id.length - 1) * 5) / 8))
  let bits = 0
  let held = 0
  let at = 0
  // The first character is the multibase prefix.
  for (let i = 1; i < id.length; i++) {
    bits = ((bits << 5) | (base32.get(id.charCodeAt(i)) ?? 0)) & 0xfff
    held += 5
    if (held < 8) continue
    held -= 8
    bytes[at++] = bits >> held
  }
  return bytes.slice(-digestBytes)
}

/** By the first six bytes as a number, which nearly always decides, then by all. */
function sortDigests(digests: readonly Uint8Array[]): Uint8Array[] {
  return digests
    .map(digest => ({ digest, first: Buffer.from(digest.buffer).readUIntBE(0, 6) }))
    .sort((a, b) => a.first - b.first || Buffer.compare(a.digest, b.digest))
    .map(({ digest }) => digest)
}

export class DigestList {
  readonly #all: () => Iterable<string>
  #digests: Uint8Array[] | undefined

  /** `all` gives every id, for the first time. */
  constructor(all: () => Iterable<string>) {
    this.#all = all
  }

  sorted(): readonly Uint8Array[] {
    this.#digests ??= sortDigests([...this.#all()].map(digestOfKnownId))
    return this.#digests
  }

  add(id: string): void {
    if (this.#digests === undefined) return
    const digest = digestOfKnownId(id)
    const place = this.#placeOf(digest)
    if (!isAt(this.#digests, place, digest)) this.#digests.splice(place, 0, digest)
  }

  remove(id: string): void {
    if (this.#digests === undefined) return
    const digest = digestOfKnownId(id)
    const place = this.#placeOf(digest)
    if (isAt(this.#digests, place, digest)) this.#digests.splice(place, 1)
  }

  #placeOf(digest: Uint8Array): number {
    const digests = this.#digests ?? []
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
