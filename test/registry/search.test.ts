import fc from 'fast-check'
import { afterEach, beforeEach, describe, expect, it } from 'vitest'
import { silentLog } from '../../src/base/log.ts'
import { MemoryKeyValue } from '../../src/base/memory-key-value.ts'
import { Catalogue } from '../../src/registry/catalogue.ts'
import { Search, type SearchRequest, searchLimits } from '../../src/registry/search.ts'
import { alice, bob, type ReleaseFields, release } from './records.ts'

let catalogue: Catalogue
let search: Search

beforeEach(async () => {
  catalogue = new Catalogue({ records: new MemoryKeyValue(), log: silentLog })
  await catalogue.start()
  search = new Search({ source: catalogue, log: silentLog })
  await search.start()
})
afterEach(async () => {
  await search.stop()
  await catalogue.stop()
})

const add = async (...all: ReleaseFields[]) => {
  for (const fields of all) await catalogue.addRelease(release(fields))
}
const names = async (request: SearchRequest | string) =>
  (await search.search(typeof request === 'string' ? { query: request } : request)).map(
    ({ release: { name, version } }) => `${name}@${version}`,
  )

describe('a search', () => {
  beforeEach(() =>
    add(
      { name: 'word-count', description: 'Counts words in a text', tags: ['text', 'Statistics'] },
      { name: 'acme/parser', description: 'Parses text into words', tags: ['text'] },
      { name: 'text', description: 'A library of strings', type: 'library' },
      { name: 'image-resize', description: 'Resizes pictures', tags: ['image', 'gpu'], category: 'ai-model' },
      { name: 'matrix', description: 'Linear algebra on a GPU', category: 'computational' },
      { name: 'parser', description: 'Reads grammars', publisher: bob },
    ),
  )

  // Query, the names that must come first in this order, and whether there may be more.
  it.each<[string, string[]]>([
    ['word-count', ['word-count']],
    ['WORD-COUNT', ['word-count']],
    ['wordcount', ['word-count']],
    ['word', ['word-count', 'acme/parser']],
    ['wor', ['word-count', 'acme/parser']],
    ['wrod count', ['word-count']],
    ['text', ['text', 'acme/parser', 'word-count']],
    ['parser', ['parser', 'acme/parser']],
    ['acme/parser', ['acme/parser']],
    ['resiz', ['image-resize']],
    ['gpu', ['image-resize', 'matrix']],
    ['algebra nothing-has-this', ['matrix']],
    ['zzzzzz', []],
  ])('for %j gives %j', async (query, expected) => {
    const found = (await names(query)).map(text => text.slice(0, text.indexOf('@')))
    expect(found.slice(0, expected.length)).toEqual(expected)
    if (expected.length === 0) expect(found).toEqual([])
  })

  it.each<[SearchRequest, string[]]>([
    [{ query: '', tag: 'text' }, ['acme/parser@1.0.0', 'word-count@1.0.0']],
    [{ query: '', tag: 'tex' }, []],
    [{ query: 'words', tag: 'statistics' }, ['word-count@1.0.0']],
    [{ query: '', type: 'library' }, ['text@1.0.0']],
    [{ query: 'text', type: 'library' }, ['text@1.0.0']],
    [{ query: '', category: 'ai-model' }, ['image-resize@1.0.0']],
    [{ query: 'gpu', category: 'computational', type: 'package' }, ['matrix@1.0.0']],
    [{ query: '', limit: 2 }, ['acme/parser@1.0.0', 'image-resize@1.0.0']],
  ])('filters: %j', async (request, expected) => {
    expect(await names(request)).toEqual(expected)
  })

  it('is bounded, and says so', async () => {
    for (const query of ['x'.repeat(searchLimits.maxQueryLength + 1), 'a '.repeat(searchLimits.maxTerms + 1)])
      await expect(search.search({ query })).rejects.toMatchObject({ code: 'invalid-request' })
    expect(await names({ query: '', limit: 1_000_000 })).toHaveLength(6)
    for (const limit of [0, -5]) expect(await names({ query: '', limit })).toEqual([])
  })

  it('takes whatever characters come', async () => {
    for (const query of ['!!!', '\u0000', '".*+?^$', '日本語', '-'.repeat(200)])
      expect(Array.isArray(await names(query))).toBe(true)
  })
})

describe('search and time', () => {
  it('gives the latest version of each publisher’s package, as it describes itself', async () => {
    await add(
      { version: '1.0.0', description: 'an abacus' },
      { version: '1.2.0', description: 'a calculator' },
      { version: '2.0.0-beta.1', description: 'a computer' },
      { publisher: bob, version: '0.1.0' },
    )
    expect(await names('word-count')).toEqual(
      expect.arrayContaining(['word-count@1.2.0', 'word-count@0.1.0']),
    )
    expect(await names('word-count')).toHaveLength(2)
    expect(await names('calculator')).toEqual(['word-count@1.2.0'])
    expect(await names('abacus')).toEqual([])
  })

  it('follows what is published and forgotten after the index was built', async () => {
    await add({ version: '1.0.0', description: 'an abacus' })
    expect(await names('abacus')).toEqual(['word-count@1.0.0'])
    const next = release({ version: '1.1.0', description: 'a calculator' })
    await catalogue.addRelease(next)
    await add({ name: 'other', publisher: alice })
    expect(await names('calculator')).toEqual(['word-count@1.1.0'])
    expect(await names('abacus')).toEqual([])
    expect(await names('other')).toEqual(['other@1.0.0'])
    await catalogue.forget(next.id)
    expect(await names('abacus')).toEqual(['word-count@1.0.0'])
    expect(await names('calculator')).toEqual([])
  })

  it('drops its index when nobody searches, and builds it again', async () => {
    await search.stop()
    const built: unknown[] = []
    const log = { ...silentLog, info: (fields: Record<string, unknown>) => void built.push(fields) }
    search = new Search({ source: catalogue, log }, { idleMs: 30 })
    await search.start()
    await add({})
    await names('word-count')
    await names('word-count')
    expect(built).toHaveLength(1)
    await new Promise(resolve => setTimeout(resolve, 120))
    await add({ version: '1.1.0' })
    expect(await names('word-count')).toEqual(['word-count@1.1.0'])
    expect(built).toHaveLength(2)
  })

  it('is right when many search and publish at the same time', async () => {
    const all = Array.from({ length: 30 }, (_, i) => ({ name: `tool-${i}`, version: '1.0.0' }))
    await Promise.all(
      all.flatMap(fields => [
        add(fields),
        add({ ...fields, version: '1.1.0' }),
        names('tool').then(() => undefined),
      ]),
    )
    expect(await names({ query: 'tool', limit: 100 })).toHaveLength(30)
    expect((await names({ query: 'tool', limit: 100 })).every(text => text.endsWith('@1.1.0'))).toBe(true)
  })
})

describe('a search of many packages', () => {
  /** What the ranking must give, said plainly: every word in the package, the words of the name worth most. */
  const words = ['alpha', 'beta', 'gamma', 'delta', 'omega']

  it('finds exactly the packages that have every word, whatever changed before', async () => {
    const step = fc.record({
      name: fc.integer({ min: 0, max: 12 }),
      minor: fc.integer({ min: 0, max: 3 }),
      words: fc.subarray(words),
      forget: fc.boolean(),
    })
    await fc.assert(
      fc.asyncProperty(
        fc.array(step, { maxLength: 40 }),
        fc.subarray(words, { minLength: 1 }),
        async (steps, query) => {
          const all = new Catalogue({ records: new MemoryKeyValue(), log: silentLog })
          await all.start()
          const many = new Search({ source: all, log: silentLog })
          await many.start()
          const packages = new Map<string, Map<number, { id: string; words: readonly string[] }>>()
          for (const [place, { name, minor, words: has, forget }] of steps.entries()) {
            const versions = packages.get(`p${name}`) ?? new Map()
            packages.set(`p${name}`, versions)
            const known = versions.get(minor)
            if (forget && known !== undefined) {
              await all.forget(known.id)
              versions.delete(minor)
            } else if (known === undefined) {
              const made = release({
                name: `p${name}`,
                version: `1.${minor}.0`,
                description: `${place} ${has.join(' ')}`,
              })
              await all.addRelease(made)
              versions.set(minor, { id: made.id, words: has })
            }
            // The index follows from somewhere in the middle on.
            if (place % 7 === 3) await many.search({ query: 'alpha' })
          }
          const latest = [...packages.values()].flatMap(versions => {
            const highest = Math.max(...versions.keys())
            return versions.get(highest) ?? []
          })
          const expected = latest.filter(each => query.every(word => each.words.includes(word)))
          const found = await many.search({ query: query.join(' '), limit: 100 })
          // Where none has all of them, the lenient attempts follow.
          if (expected.length > 0)
            expect(found.map(({ release: { id } }) => id).sort()).toEqual(expected.map(({ id }) => id).sort())
          expect(found.every(({ release: { id } }) => latest.some(each => each.id === id))).toBe(true)
          await many.stop()
          await all.stop()
        },
      ),
      { numRuns: 60 },
    )
  })

  it('refuses more waiting queries than it can hold, and goes on', async () => {
    await add({})
    const asked = Array.from({ length: searchLimits.maxWaiting + 5 }, () => search.search({ query: 'word' }))
    const outcomes = await Promise.allSettled(asked)
    expect(outcomes.filter(({ status }) => status === 'rejected')).toHaveLength(5)
    expect(await names('word')).toEqual(['word-count@1.0.0'])
  })

  it('ends with its caller’s signal', async () => {
    await add({})
    const signal = AbortSignal.abort(new Error('nobody waits'))
    await expect(search.search({ query: 'word' }, { signal })).rejects.toThrow('nobody waits')
    expect(await names('word')).toEqual(['word-count@1.0.0'])
  })
})
