// The DHT's keyspace: 256-bit locations, how far apart two are (XOR), and the prefixes that name its regions. Pure.
// A key lies at the SHA-256 of its bytes, a peer at that of its id (Maymounkov and Mazières, Kademlia, 2002).
import { sha256 } from '../base/hash.ts'

/** 32 bytes. */
export type Location = Uint8Array

/** The first bits of locations, as text of `0` and `1`; the empty prefix is the whole keyspace. */
export type Prefix = string

export const locationBits = 256

export const bitAt = (at: Location, bit: number): number => ((at[bit >> 3] ?? 0) >> (7 - (bit & 7))) & 1

export function prefixOf(at: Location, bits: number): Prefix {
  let prefix = ''
  for (let bit = 0; bit < bits; bit++) prefix += bitAt(at, bit)
  return prefix
}

export function isUnder(prefix: Prefix, at: Location): boolean {
  for (let bit = 0; bit < prefix.length; bit++) if (bitAt(at, bit) !== Number(prefix[bit])) return false
  return true
}

/** The other half of the region above. */
export const siblingOf = (prefix: Prefix): Prefix => prefix.slice(0, -1) + (prefix.endsWith('0') ? '1' : '0')

export function sharedBits(a: Location, b: Location): number {
  for (let i = 0; i < 32; i++) {
    const difference = (a[i] ?? 0) ^ (b[i] ?? 0)
    if (difference !== 0) return i * 8 + Math.clz32(difference) - 24
  }
  return locationBits
}

/** Negative where `a` is nearer to the target than `b`. */
export function compareDistance(target: Location, a: Location, b: Location): number {
  for (let i = 0; i < 32; i++) {
    const difference = ((a[i] ?? 0) ^ (target[i] ?? 0)) - ((b[i] ?? 0) ^ (target[i] ?? 0))
    if (difference !== 0) return difference
  }
  return 0
}

/** The `count` nearest to the target, nearest first. */
export const nearest = <T extends { readonly location: Location }>(
  target: Location,
  among: readonly T[],
  count: number,
): T[] => among.toSorted((a, b) => compareDistance(target, a.location, b.location)).slice(0, count)

/** Where in the keyspace the prefix begins, from 0 to 1. */
export function fractionOf(prefix: Prefix): number {
  let fraction = 0
  for (let bit = 0; bit < prefix.length && bit < 52; bit++)
    if (prefix[bit] === '1') fraction += 2 ** -(bit + 1)
  return fraction
}

/** 2^18 hashes take half a second: a region of that depth is one in 250,000, of a network of millions. */
const maxTries = 2 ** 18

/** Bytes that lie under the prefix: peers hash what they are asked for. Undefined where none is found in bounded time. */
export function keyUnder(prefix: Prefix): Uint8Array | undefined {
  const key = Buffer.from(crypto.getRandomValues(new Uint8Array(16)))
  for (let attempt = 0; attempt < maxTries; attempt++) {
    key.writeUInt32BE(attempt, 12)
    if (isUnder(prefix, sha256(key))) return new Uint8Array(key)
  }
  return undefined
}
