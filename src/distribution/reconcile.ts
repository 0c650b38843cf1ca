// Range-based set reconciliation (A. Meyer, "Range-Based Set Reconciliation", SRDS 2023; the fingerprint is
// Negentropy's): two nodes find out which records differ at a cost that follows the difference, not the
// catalogue. Pure: sets in, messages out. The ids are BLAKE3 digests, so they spread evenly and need no
// timestamp in front.
//
// A message is a list of ranges that cover the id space in order. Each range ends before `end` (exclusive;
// empty bytes: the end of the space) and says of the sender's ids in it:
//   [end, 0]               nothing: skip
//   [end, 1, fingerprint]  16 bytes: BLAKE3(sum of the ids mod 2^256, little endian || count, varint)[0..16)
//   [end, 2, ids]          every id, 32 bytes each, ascending
// A message lists at most `maxIdsSent` ids and has at most `maxRanges` ranges: what does not fit any more is said by
// a fingerprint, and comes to its turn in a later step.

import { CatalogError } from '../base/errors.ts'
import { blake3, digestBytes } from '../base/hash.ts'

export type Range =
  | { readonly end: Uint8Array; readonly kind: 'skip' }
  | { readonly end: Uint8Array; readonly kind: 'fingerprint'; readonly fingerprint: Uint8Array }
  | { readonly end: Uint8Array; readonly kind: 'ids'; readonly ids: readonly Uint8Array[] }

export const reconcileLimits = {
  /** A range that differs is cut into this many. */
  fanOut: 16,
  /** A range of at most this many ids is sent whole. */
  maxListed: 24,
  /** Ids in one message of ours: 256 KiB. An answer to a list may be as long as this. */
  maxIdsSent: 8192,
  /** Ranges and ids accepted in one message. */
  maxRanges: 4096,
  maxIds: 16_384,
  fingerprintBytes: 16,
} as const

const endOfSpace = new Uint8Array(0)

/** An immutable set of 32-byte ids, given in ascending order. */
export class IdSet {
  readonly ids: readonly Uint8Array[]

  constructor(ids: readonly Uint8Array[]) {
    this.ids = ids
  }

  get size(): number {
    return this.ids.length
  }

  /** The place of the first id that is not below `bound`. */
  lowerBound(bound: Uint8Array): number {
    if (bound.byteLength === 0) return this.ids.length
    let low = 0
    let high = this.ids.length
    while (low < high) {
      const middle = (low + high) >>> 1
      if (Buffer.compare(this.ids[middle] as Uint8Array, bound) < 0) low = middle + 1
      else high = middle
    }
    return low
  }

  /** Whether a list of ids is not what is here between two places. */
  differs(from: number, to: number, ids: readonly Uint8Array[]): boolean {
    // Lengths first: a short list must not cost a look at everything here.
    return ids.length !== to - from || missingFrom(ids, this.ids.slice(from, to)).length > 0
  }

  fingerprint(from: number, to: number): Uint8Array {
    const sum = new Uint32Array(8)
    for (let place = from; place < to; place++) {
      const id = this.ids[place] as Uint8Array
      const view = new DataView(id.buffer, id.byteOffset, digestBytes)
      let carry = 0
      for (let limb = 0; limb < 8; limb++) {
        const total = (sum[limb] as number) + view.getUint32(limb * 4, true) + carry
        sum[limb] = total >>> 0
        carry = total > 0xffffffff ? 1 : 0
      }
    }
    const bytes = new Uint8Array(digestBytes + 8)
    const view = new DataView(bytes.buffer)
    for (let limb = 0; limb < 8; limb++) view.setUint32(limb * 4, sum[limb] as number, true)
    view.setBigUint64(digestBytes, BigInt(to - from), true)
    return blake3(bytes).subarray(0, reconcileLimits.fingerprintBytes)
  }
}

/** The opening message: the whole space as one fingerprint, or as a list where that is small. */
export function openReconciliation(set: IdSet): Range[] {
  const reply = new Reply(set, 1)
  reply.describe(0, set.size, endOfSpace, reconcileLimits.maxListed)
  return reply.ranges
}

export interface ReconcileStep {
  /** The answer; empty once there is nothing left to compare. */
  readonly reply: Range[]
  /** For the initiator: ids that only the other side has, and that only this side has, in ranges the other listed. */
  readonly need: Uint8Array[]
  readonly have: Uint8Array[]
}

/**
 * Compares a message with the own set. Where a range differs it is cut up or listed in the reply. The responder
 * answers a list with its own (`listBack`), the initiator does not: so it alone learns both sides' differences,
 * and the exchange ends.
 */
export function reconcile(set: IdSet, message: readonly Range[], listBack: boolean): ReconcileStep {
  const reply = new Reply(set, message.length)
  const need: Uint8Array[] = []
  const have: Uint8Array[] = []
  let from = 0
  for (const range of message) {
    const { end } = range
    const to = set.lowerBound(end)
    if (range.kind === 'ids' && !listBack) {
      const own = set.ids.slice(from, to)
      for (const id of missingFrom(range.ids, own)) need.push(id)
      for (const id of missingFrom(own, range.ids)) have.push(id)
      reply.skip(end)
    } else if (range.kind === 'ids' && set.differs(from, to, range.ids))
      reply.describe(from, to, end, reconcileLimits.maxIdsSent)
    else if (
      range.kind === 'fingerprint' &&
      Buffer.compare(range.fingerprint, set.fingerprint(from, to)) !== 0
    )
      reply.describe(from, to, end, reconcileLimits.maxListed)
    else reply.skip(end)
    from = to
  }
  const { ranges } = reply
  return { reply: ranges.every(({ kind }) => kind === 'skip') ? [] : ranges, need, have }
}

const textOf = (id: Uint8Array) => Buffer.from(id.buffer, id.byteOffset, id.byteLength).toString('latin1')

/** The members of `ids` that `others` lacks. */
function missingFrom(ids: readonly Uint8Array[], others: readonly Uint8Array[]): Uint8Array[] {
  const known = new Set(others.map(textOf))
  return ids.filter(id => !known.has(textOf(id)))
}

/** A message being made, within its bounds; there is always room for one range for each of those it answers. */
class Reply {
  readonly ranges: Range[] = []
  readonly #set: IdSet
  /** Ranges that may be used beyond the one that each range of the other side's message has. */
  #spareRanges: number
  #spareIds: number = reconcileLimits.maxIdsSent

  constructor(set: IdSet, answered: number) {
    this.#set = set
    this.#spareRanges = reconcileLimits.maxRanges - answered
  }

  skip(end: Uint8Array): void {
    if (this.ranges.at(-1)?.kind === 'skip') this.ranges.pop()
    this.ranges.push({ end, kind: 'skip' })
  }

  /** A differing range: as a list when it has at most `listed` ids, else as fingerprints of its parts. */
  describe(from: number, to: number, end: Uint8Array, listed: number): void {
    const count = to - from
    if (count <= listed && count <= this.#spareIds) {
      this.#spareIds -= count
      this.ranges.push({ end, kind: 'ids', ids: this.#set.ids.slice(from, to) })
      return
    }
    const parts = count > listed && this.#spareRanges >= reconcileLimits.fanOut ? reconcileLimits.fanOut : 1
    this.#spareRanges -= parts - 1
    for (let part = 0; part < parts; part++) {
      const first = from + Math.floor((count * part) / parts)
      const next = from + Math.floor((count * (part + 1)) / parts)
      const bound = next === to ? end : (this.#set.ids[next] as Uint8Array)
      this.ranges.push({ end: bound, kind: 'fingerprint', fingerprint: this.#set.fingerprint(first, next) })
    }
  }
}

const codes = { skip: 0, fingerprint: 1, ids: 2 } as const

/** The wire form of a message, ready for CBOR. */
export const encodeRanges = (ranges: readonly Range[]): unknown[] =>
  ranges.map(range =>
    range.kind === 'skip'
      ? [range.end, codes.skip]
      : range.kind === 'fingerprint'
        ? [range.end, codes.fingerprint, range.fingerprint]
        : [range.end, codes.ids, Buffer.concat(range.ids)],
  )

/** @throws CatalogError `bad-peer-message` when a range is malformed, out of order, or there are too many. */
export function decodeRanges(value: unknown): Range[] {
  if (!Array.isArray(value) || value.length > reconcileLimits.maxRanges) throw malformed('ranges')
  let previous: Uint8Array | undefined
  let total = 0
  return value.map((item: unknown): Range => {
    if (!Array.isArray(item) || !(item[0] instanceof Uint8Array)) throw malformed('a range')
    const end = item[0]
    if (end.byteLength !== 0 && end.byteLength !== digestBytes) throw malformed('a bound')
    if (
      previous !== undefined &&
      (previous.byteLength === 0 || (end.byteLength !== 0 && Buffer.compare(previous, end) >= 0))
    )
      throw malformed('the order of ranges')
    previous = end
    if (item[1] === codes.skip && item.length === 2) return { end, kind: 'skip' }
    const bytes: unknown = item[2]
    if (item.length !== 3 || !(bytes instanceof Uint8Array)) throw malformed('a range')
    if (item[1] === codes.fingerprint && bytes.byteLength === reconcileLimits.fingerprintBytes)
      return { end, kind: 'fingerprint', fingerprint: bytes }
    if (item[1] !== codes.ids || bytes.byteLength % digestBytes !== 0) throw malformed('a list of ids')
    total += bytes.byteLength / digestBytes
    if (total > reconcileLimits.maxIds) throw malformed('the number of ids')
    return {
      end,
      kind: 'ids',
      ids: Array.from({ length: bytes.byteLength / digestBytes }, (_, i) =>
        bytes.subarray(i * digestBytes, (i + 1) * digestBytes),
      ),
    }
  })
}

const malformed = (what: string) =>
  new CatalogError('bad-peer-message', `A peer's reconciliation message is wrong in ${what}.`)
