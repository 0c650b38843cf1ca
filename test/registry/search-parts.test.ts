// The parts that search is made of, each against a plain definition of what it must give.
import fc from 'fast-check'
import { describe, expect, it } from 'vitest'
import { Best } from '../../src/registry/search/best.ts'
import { editDistance } from '../../src/registry/search/edit-distance.ts'
import { Postings } from '../../src/registry/search/postings.ts'
import { TermTable } from '../../src/registry/search/term-table.ts'

/** Few letters, so that words are near each other. */
const word = fc.string({ unit: fc.constantFrom(...'abcr1é日'), minLength: 1, maxLength: 9 })

/** By the recurrence, without a bound. */
function plainDistance(a: string, b: string): number {
  const known = new Map<string, number>()
  const distance = (i: number, j: number): number => {
    if (i === 0 || j === 0) return i + j
    const key = `${i} ${j}`
    let least = known.get(key)
    if (least === undefined) {
      const swapped = i > 1 && j > 1 && a[i - 1] === b[j - 2] && a[i - 2] === b[j - 1]
      least = Math.min(
        distance(i - 1, j) + 1,
        distance(i, j - 1) + 1,
        distance(i - 1, j - 1) + (a[i - 1] === b[j - 1] ? 0 : 1),
        swapped ? distance(i - 2, j - 2) + 1 : Number.POSITIVE_INFINITY,
      )
      known.set(key, least)
    }
    return least
  }
  return distance(a.length, b.length)
}

describe('the distance of two words', () => {
  it.each([
    ['word', 'word', 0],
    ['wrod', 'word', 1],
    ['wod', 'word', 1],
    ['words', 'word', 1],
    ['ward', 'word', 1],
    ['ca', 'abc', 3],
  ])('of %s and %s is %i', (a, b, distance) => {
    expect(editDistance(a, b, 3)).toBe(distance)
  })

  it('is what its definition says, up to the bound', () => {
    fc.assert(
      fc.property(word, word, fc.integer({ min: 1, max: 3 }), (a, b, max) => {
        expect(editDistance(a, b, max)).toBe(Math.min(plainDistance(a, b), max + 1))
      }),
      { numRuns: 500 },
    )
  })
})

describe('the table of terms', () => {
  it('finds every term that begins with a word or is nearly it, and no other', () => {
    fc.assert(
      fc.property(fc.array(word, { maxLength: 60 }), word, (words, wanted) => {
        const table = new TermTable()
        for (const each of words) table.add(each)
        const terms = [...new Set(words)]
        expect(table.size).toBe(terms.length)
        expect(terms.every(term => table.term(table.exact(term) as number) === term)).toBe(true)
        const longer = table.longer(wanted).map(id => table.term(id))
        expect(longer.sort()).toEqual(terms.filter(term => term.startsWith(wanted) && term !== wanted).sort())
        for (const max of [1, 2]) {
          const similar = table.similar(wanted, max).map(({ id, edits }) => `${table.term(id)} ${edits}`)
          const near = terms.map(term => ({ term, edits: plainDistance(wanted, term) }))
          expect(similar.sort()).toEqual(
            near
              .filter(({ edits }) => edits > 0 && edits <= max)
              .map(({ term, edits }) => `${term} ${edits}`)
              .sort(),
          )
        }
      }),
      { numRuns: 300 },
    )
  })

  it('takes no new term beyond the number it is given, and knows the old ones', () => {
    const table = new TermTable()
    expect(['a', 'b', 'c', 'a'].map(term => table.add(term, 2))).toEqual([0, 1, undefined, 0])
    expect(table.add('c', 3)).toBe(2)
  })
})

describe('posting lists', () => {
  it('give back what was added, each list its own, across blocks and pages', () => {
    const value = fc.integer({ min: 0, max: 2 ** 32 - 1 })
    const addition = fc.record({ list: fc.nat(40), count: fc.nat(2000), first: value })
    fc.assert(
      fc.property(fc.array(addition, { maxLength: 150 }), additions => {
        const postings = new Postings()
        const expected = new Map<number, number[]>()
        for (const { list, count, first } of additions)
          for (let i = 0; i < count; i++) {
            const added = (first + i) >>> 0
            postings.add(list, added)
            const values = expected.get(list) ?? []
            values.push(added)
            expected.set(list, values)
          }
        for (let list = 0; list <= 41; list++) {
          const values = expected.get(list) ?? []
          expect(postings.lengthOf(list)).toBe(values.length)
          const found = Buffer.from(postings.values(list).slice(0, values.length).buffer)
          expect(found.equals(Buffer.from(Uint32Array.from(values).buffer))).toBe(true)
        }
      }),
      { numRuns: 30 },
    )
  })
})

describe('the best of many', () => {
  it('are the first of all of them sorted', () => {
    fc.assert(
      fc.property(fc.array(fc.integer({ min: 0, max: 50 })), fc.nat(12), (items, count) => {
        const best = new Best<number>(count, (a, b) => b - a)
        for (const item of items) best.add(item)
        expect(best.sorted()).toEqual(items.toSorted((a, b) => b - a).slice(0, count))
      }),
    )
  })
})
