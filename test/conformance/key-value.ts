// What every KeyValue must do; each implementation's test calls this with a way to make an empty one.
import fc from 'fast-check'
import { afterEach, beforeEach, describe, expect, it } from 'vitest'
import type { KeyRange, KeyValue, KeyValueWrite } from '../../src/base/key-value.ts'

export interface OpenKeyValue {
  readonly store: KeyValue
  close(): Promise<void>
}

const bytes = (text: string) => new TextEncoder().encode(text)
const text = (value: Uint8Array | undefined) => value && new TextDecoder().decode(value)

export async function collect<T>(items: AsyncIterable<T>): Promise<T[]> {
  const all: T[] = []
  for await (const item of items) all.push(item)
  return all
}

export function keyValueConformance(name: string, open: () => Promise<OpenKeyValue>): void {
  describe(`KeyValue: ${name}`, () => {
    let opened: OpenKeyValue
    let store: KeyValue
    beforeEach(async () => {
      opened = await open()
      store = opened.store
    })
    afterEach(() => opened.close())

    it('gives back what was put, and undefined for what was not', async () => {
      await store.put('a', bytes('1'))
      await store.put('empty', new Uint8Array(0))
      expect(text(await store.get('a'))).toBe('1')
      expect(await store.get('empty')).toHaveLength(0)
      expect(await store.get('b')).toBeUndefined()
    })

    it('replaces and deletes; deleting what is not there is harmless', async () => {
      await store.put('a', bytes('1'))
      await store.put('a', bytes('2'))
      expect(text(await store.get('a'))).toBe('2')
      await store.delete('a')
      await store.delete('never')
      expect(await store.get('a')).toBeUndefined()
    })

    it('keeps its own copy of a value', async () => {
      const value = bytes('one')
      await store.put('a', value)
      value.fill(0)
      const got = (await store.get('a')) as Uint8Array
      expect(text(got)).toBe('one')
      got.fill(0)
      expect(text(await store.get('a'))).toBe('one')
    })

    it('applies a batch in its order', async () => {
      await store.put('gone', bytes('x'))
      await store.batch([
        { type: 'put', key: 'a', value: bytes('1') },
        { type: 'put', key: 'a', value: bytes('2') },
        { type: 'delete', key: 'gone' },
        { type: 'put', key: 'b', value: bytes('3') },
        { type: 'delete', key: 'b' },
      ])
      await store.batch([])
      expect(text(await store.get('a'))).toBe('2')
      expect(await store.get('gone')).toBeUndefined()
      expect(await store.get('b')).toBeUndefined()
    })

    it('keeps the order of writes that are not awaited', async () => {
      const writes = Array.from({ length: 100 }, (_, i) => store.put('a', bytes(String(i))))
      await Promise.all([...writes, store.delete('b')])
      expect(text(await store.get('a'))).toBe('99')
    })

    it('lists a prefix in byte order, pages through it, and both ways', async () => {
      const keys = ['p/', 'p/1', 'p/10', 'p/2', 'p/é', 'p/\uffff', 'p/😀', 'p0', 'o', 'q', 'p/\u{10ffff}x']
      for (const key of keys) await store.put(key, bytes(key))
      const inside = keys
        .filter(key => key.startsWith('p/'))
        .sort((a, b) => Buffer.compare(Buffer.from(a), Buffer.from(b)))
      expect(await collect(store.keys({ prefix: 'p/' }))).toEqual(inside)
      expect(await collect(store.keys({ prefix: 'p/', reverse: true }))).toEqual(inside.toReversed())
      expect(await collect(store.keys({ prefix: 'p/', after: 'p/10', limit: 2 }))).toEqual(['p/2', 'p/é'])
      expect(await collect(store.keys({ prefix: 'p/', after: 'p/10', reverse: true }))).toEqual(['p/1', 'p/'])
      expect(
        (await collect(store.entries({ prefix: 'p/' }))).map(([key, value]) => [key, text(value)]),
      ).toEqual(inside.map(key => [key, key]))
    })

    it('behaves like a sorted map', async () => {
      const key = fc.string({
        minLength: 1,
        maxLength: 4,
        unit: fc.constantFrom('a', 'b', '/', 'é', '\uffff', '😀'),
      })
      const write: fc.Arbitrary<KeyValueWrite> = fc.oneof(
        fc.record({ type: fc.constant('put' as const), key, value: fc.uint8Array({ maxLength: 4 }) }),
        fc.record({ type: fc.constant('delete' as const), key }),
      )
      const range: fc.Arbitrary<KeyRange> = fc.record(
        {
          prefix: fc.oneof(fc.constant(''), key),
          after: key,
          limit: fc.integer({ min: 1, max: 5 }),
          reverse: fc.boolean(),
        },
        { requiredKeys: ['prefix'] },
      )
      const model = new Map<string, Uint8Array>()
      await fc.assert(
        fc.asyncProperty(fc.array(write, { maxLength: 20 }), range, async (writes, asked) => {
          await store.batch(writes)
          for (const w of writes) w.type === 'put' ? model.set(w.key, w.value) : model.delete(w.key)
          const got = await collect(store.entries(asked))
          expect(got.map(([k, v]) => [k, [...v]])).toEqual(select(model, asked).map(([k, v]) => [k, [...v]]))
          expect(await collect(store.keys(asked))).toEqual(got.map(([k]) => k))
        }),
        { numRuns: 200 },
      )
    })
  })
}

function select(model: ReadonlyMap<string, Uint8Array>, { prefix, after, limit, reverse }: KeyRange) {
  const order = (a: string, b: string) =>
    Buffer.compare(Buffer.from(a), Buffer.from(b)) * (reverse === true ? -1 : 1)
  return [...model]
    .filter(([key]) => key.startsWith(prefix) && (after === undefined || order(key, after) > 0))
    .sort(([a], [b]) => order(a, b))
    .slice(0, limit)
}
