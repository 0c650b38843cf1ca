import fc from 'fast-check'
import { describe, expect, it } from 'vitest'
import { Cache } from '../../src/base/cache.ts'

interface Value {
  readonly bytes: number
}
const cacheOf = (maxBytes: number) => new Cache<Value>({ bytesOf: ({ bytes }) => bytes }, { maxBytes })

describe('a cache', () => {
  it('never holds more bytes than its bound, whatever is done with it, and counts what it did', () => {
    const key = fc.integer({ min: 0, max: 20 }).map(String)
    const step = fc.oneof(
      fc.record({ do: fc.constant('set' as const), key, bytes: fc.nat(4000) }),
      fc.record({ do: fc.constant('get' as const), key }),
      fc.record({ do: fc.constant('delete' as const), key }),
    )
    fc.assert(
      fc.property(fc.nat(10_000), fc.array(step, { maxLength: 200 }), (maxBytes, steps) => {
        const cache = cacheOf(maxBytes)
        /** What may be here: everything set and not deleted since. */
        const set = new Map<string, Value>()
        const counted = { hits: 0, misses: 0 }
        for (const now of steps) {
          if (now.do === 'set') {
            const value = { bytes: now.bytes }
            cache.set(now.key, value)
            set.set(now.key, value)
          } else if (now.do === 'delete') {
            cache.delete(now.key)
            set.delete(now.key)
          } else {
            const found = cache.get(now.key)
            counted[found === undefined ? 'misses' : 'hits'] += 1
            if (found !== undefined) expect(found).toBe(set.get(now.key))
          }
          const { entries, bytes } = cache.counts()
          const held = [...set].filter(([each]) => cache.has(each))
          expect(entries).toBe(held.length)
          expect(bytes).toBeLessThanOrEqual(maxBytes)
          expect(bytes).toBeGreaterThanOrEqual(held.reduce((sum, [, value]) => sum + value.bytes, 0))
        }
        expect(cache.counts()).toMatchObject({ ...counted, maxBytes })
      }),
    )
  })

  it('forgets what was used longest ago', () => {
    const cache = cacheOf(3000)
    for (const key of ['a', 'b', 'c']) cache.set(key, { bytes: 700 })
    cache.get('a')
    cache.set('d', { bytes: 700 })
    expect(['a', 'b', 'c', 'd'].filter(key => cache.has(key))).toEqual(['a', 'c', 'd'])
    expect(cache.counts().evictions).toBe(1)
  })

  it('does not keep what is larger than all of it, and loses nothing for it', () => {
    const cache = cacheOf(1000)
    cache.set('small', { bytes: 100 })
    cache.set('large', { bytes: 1000 })
    expect(['small', 'large'].map(key => cache.has(key))).toEqual([true, false])
  })

  it('can be switched off', () => {
    const cache = cacheOf(0)
    cache.set('a', { bytes: 0 })
    expect(cache.counts()).toEqual({ entries: 0, bytes: 0, maxBytes: 0, hits: 0, misses: 0, evictions: 0 })
  })
})
