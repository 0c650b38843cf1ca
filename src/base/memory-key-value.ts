// KeyValue in memory: for tests, and the executable definition of the port.
import type { KeyRange, KeyValue, KeyValueWrite } from './key-value.ts'

export class MemoryKeyValue implements KeyValue {
  readonly #records = new Map<string, Uint8Array>()

  async get(key: string): Promise<Uint8Array | undefined> {
    return this.#records.get(key)?.slice()
  }

  async put(key: string, value: Uint8Array): Promise<void> {
    this.#records.set(key, value.slice())
  }

  async delete(key: string): Promise<void> {
    this.#records.delete(key)
  }

  async batch(writes: readonly KeyValueWrite[]): Promise<void> {
    for (const write of writes)
      if (write.type === 'put') this.#records.set(write.key, write.value.slice())
      else this.#records.delete(write.key)
  }

  async *entries(range: KeyRange): AsyncIterable<readonly [string, Uint8Array]> {
    for (const key of this.#select(range)) {
      const value = this.#records.get(key)
      if (value !== undefined) yield [key, value.slice()]
    }
  }

  async *keys(range: KeyRange): AsyncIterable<string> {
    yield* this.#select(range)
  }

  #select({ prefix, after, limit, reverse }: KeyRange): string[] {
    const order = (a: string, b: string) => Buffer.compare(Buffer.from(a), Buffer.from(b))
    let keys = [...this.#records.keys()].filter(key => key.startsWith(prefix)).sort(order)
    if (reverse === true) keys.reverse()
    if (after !== undefined)
      keys = keys.filter(key => (reverse === true ? order(key, after) < 0 : order(key, after) > 0))
    return limit === undefined ? keys : keys.slice(0, limit)
  }
}
