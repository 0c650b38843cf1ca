// Counting what peers place here: sums stay true over any sequence of writes and deletes.
import fc from 'fast-check'
import { expect, test } from 'vitest'
import { isCatalogError } from '../../src/base/errors.ts'
import { Quota } from '../../src/network/kad/quota.ts'

const limits = { ownerEntries: 5, ownerBytes: 60, totalEntries: 8, totalBytes: 100 }

const operation = fc.record({
  key: fc.constantFrom('a', 'b', 'c', 'd', 'e', 'f', 'g', 'h', 'i', 'j'),
  bytes: fc.integer({ min: 1, max: 30 }),
  owners: fc.subarray(['peer x', 'peer y', 'publisher p', 'publisher q'], { minLength: 1 }),
  remove: fc.boolean(),
})

test('no owner and no total ever exceeds its limit, and what is released can be taken again', () => {
  fc.assert(
    fc.property(fc.array(operation, { maxLength: 60 }), operations => {
      const quota = new Quota('record', limits)
      const model = new Map<string, { bytes: number; owners: string[] }>()
      for (const { key, bytes, owners, remove } of operations) {
        if (remove) {
          quota.release(key)
          model.delete(key)
          continue
        }
        try {
          quota.take(key, bytes, owners)
          model.set(key, { bytes, owners })
        } catch (error) {
          if (!isCatalogError(error, 'quota-exceeded')) throw error
        }
      }
      const all = [...model.values()]
      const sum = (entries: { bytes: number }[]) => entries.reduce((total, entry) => total + entry.bytes, 0)
      expect(quota.total).toEqual({ entries: all.length, bytes: sum(all) })
      expect(all.length).toBeLessThanOrEqual(limits.totalEntries)
      expect(sum(all)).toBeLessThanOrEqual(limits.totalBytes)
      for (const owner of ['peer x', 'peer y', 'publisher p', 'publisher q']) {
        const mine = all.filter(entry => entry.owners.includes(owner))
        expect(quota.entriesOf(owner)).toBe(mine.length)
        expect(mine.length).toBeLessThanOrEqual(limits.ownerEntries)
        expect(sum(mine)).toBeLessThanOrEqual(limits.ownerBytes)
      }
    }),
  )
})
