import { randomBytes } from 'node:crypto'
import fc from 'fast-check'
import { describe, expect, it } from 'vitest'
import { encodeCbor } from '../../src/base/cbor.ts'
import {
  decodeRanges,
  encodeRanges,
  IdSet,
  openReconciliation,
  reconcile,
} from '../../src/distribution/reconcile.ts'

const sorted = (ids: Iterable<Uint8Array>) => new IdSet([...ids].sort(Buffer.compare))
const texts = (ids: Iterable<Uint8Array>) => [...ids].map(id => Buffer.from(id).toString('hex')).sort()

/** Runs the exchange between two sets, over the wire form, and says what it cost. */
function exchange(mine: IdSet, theirs: IdSet) {
  let ranges = openReconciliation(mine)
  let steps = 0
  let bytes = 0
  let largest = 0
  const need: Uint8Array[] = []
  const have: Uint8Array[] = []
  while (ranges.length > 0) {
    const asked = encodeRanges(ranges)
    const answer = encodeRanges(reconcile(theirs, decodeRanges(asked), true).reply)
    const sizes = [encodeCbor(asked).byteLength, encodeCbor(answer).byteLength]
    bytes += (sizes[0] ?? 0) + (sizes[1] ?? 0)
    largest = Math.max(largest, ...sizes)
    const step = reconcile(mine, decodeRanges(answer), false)
    need.push(...step.need)
    have.push(...step.have)
    ranges = step.reply
    steps += 1
  }
  return { need, have, steps, bytes, largest }
}

const id = fc.uint8Array({ minLength: 32, maxLength: 32 })
const ids = fc.uniqueArray(id, { maxLength: 200, selector: bytes => Buffer.from(bytes).toString('hex') })

describe('range-based set reconciliation', () => {
  it('finds exactly what each side lacks, whatever the sets', () => {
    fc.assert(
      fc.property(ids, fc.infiniteStream(fc.constantFrom('mine', 'theirs', 'both')), (all, place) => {
        const where = all.map(() => place.next().value as string)
        const mine = sorted(all.filter((_, i) => where[i] !== 'theirs'))
        const theirs = sorted(all.filter((_, i) => where[i] !== 'mine'))
        const { need, have } = exchange(mine, theirs)
        expect(texts(need)).toEqual(texts(all.filter((_, i) => where[i] === 'theirs')))
        expect(texts(have)).toEqual(texts(all.filter((_, i) => where[i] === 'mine')))
      }),
      { numRuns: 300 },
    )
  })

  it('costs one short round trip when nothing differs', () => {
    const all = Array.from({ length: 5000 }, () => randomBytes(32))
    const { need, have, steps, bytes } = exchange(sorted(all), sorted(all))
    expect([need.length, have.length, steps]).toEqual([0, 0, 1])
    expect(bytes).toBeLessThan(1200)
  })

  it('follows the difference, not the catalogue: 100,000 records of which ten differ', () => {
    const all = Array.from({ length: 100_000 }, () => randomBytes(32))
    const { need, have, steps, bytes } = exchange(sorted(all.slice(0, -5)), sorted(all.slice(5)))
    expect([need.length, have.length]).toEqual([5, 5])
    expect(steps).toBeLessThanOrEqual(5)
    expect(bytes).toBeLessThan(64 * 1024)
  })

  it.each([
    [0, 60_000, 0],
    [10, 60_000, 0],
    [60_000, 0, 0],
    [30_000, 30_000, 0],
    [5_000, 60_000, 1_000],
    [20_000, 20_000, 20_000],
  ])(
    '%i records here, %i there, %i shared: every message stays within its bounds, and all is found',
    (here, there, shared) => {
      const all = Array.from({ length: here + there + shared }, () => randomBytes(32))
      const { need, have, steps, largest } = exchange(
        sorted(all.slice(0, here + shared)),
        sorted(all.slice(here)),
      )
      expect([need.length, have.length]).toEqual([there, here])
      expect(steps).toBeLessThanOrEqual(32)
      expect(largest).toBeLessThan(1024 * 1024)
    },
  )

  it('refuses malformed messages', () => {
    const bound = (first: number) => new Uint8Array(32).fill(first)
    for (const bad of [
      'ranges',
      [['x', 0]],
      [[new Uint8Array(31), 0]],
      [
        [bound(2), 0],
        [bound(1), 0],
      ],
      [
        [new Uint8Array(0), 0],
        [bound(1), 0],
      ],
      [[bound(1), 1, new Uint8Array(15)]],
      [[bound(1), 2, new Uint8Array(33)]],
      [[bound(1), 3]],
      [[bound(1), 0, 1]],
      Array.from({ length: 5000 }, () => [bound(1), 0]),
      [[new Uint8Array(0), 2, new Uint8Array(32 * 20_000)]],
    ])
      expect(() => decodeRanges(bad)).toThrow(/reconciliation message/)
  })
})
