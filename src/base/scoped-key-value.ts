// A KeyValue limited to the keys under one prefix: each owner of records gets its own and cannot see the others'.
import type { KeyRange, KeyValue, KeyValueWrite } from './key-value.ts'

/** The part of `store` whose keys start with `prefix`; inside, keys are without it. */
export const scoped = (store: KeyValue, prefix: string): KeyValue => new ScopedKeyValue(store, prefix)

class ScopedKeyValue implements KeyValue {
  readonly #store: KeyValue
  readonly #prefix: string

  constructor(store: KeyValue, prefix: string) {
    this.#store = store
    this.#prefix = prefix
  }

  get(key: string): Promise<Uint8Array | undefined> {
    return this.#store.get(this.#prefix + key)
  }

  put(key: string, value: Uint8Array): Promise<void> {
    return this.#store.put(this.#prefix + key, value)
  }

  delete(key: string): Promise<void> {
    return this.#store.delete(this.#prefix + key)
  }

  batch(writes: readonly KeyValueWrite[]): Promise<void> {
    return this.#store.batch(writes.map(write => ({ ...write, key: this.#prefix + write.key })))
  }

  async *entries(range: KeyRange): AsyncIterable<readonly [string, Uint8Array]> {
    for await (const [key, value] of this.#store.entries(this.#outer(range)))
      yield [key.slice(this.#prefix.length), value]
  }

  async *keys(range: KeyRange): AsyncIterable<string> {
    for await (const key of this.#store.keys(this.#outer(range))) yield key.slice(this.#prefix.length)
  }

  #outer(range: KeyRange): KeyRange {
    const prefix = this.#prefix + range.prefix
    return range.after === undefined
      ? { ...range, prefix }
      : { ...range, prefix, after: this.#prefix + range.after }
  }
}
