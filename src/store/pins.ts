// The releases that this node's user wants kept: durable, and asked by id without waiting.
//
//   key            value
//   release/<id>   empty
import type { CidText } from '../base/cid.ts'
import type { KeyValue } from '../base/key-value.ts'

const prefix = 'release/'

export class Pins {
  readonly #records: KeyValue
  readonly #pinned = new Set<CidText>()

  constructor(deps: { readonly records: KeyValue }) {
    this.#records = deps.records
  }

  async start(): Promise<void> {
    this.#pinned.clear()
    for await (const key of this.#records.keys({ prefix })) this.#pinned.add(key.slice(prefix.length))
  }

  has(id: CidText): boolean {
    return this.#pinned.has(id)
  }

  /** Holds at once, and is durable when it resolves. */
  async add(id: CidText): Promise<void> {
    this.#pinned.add(id)
    await this.#records.put(prefix + id, new Uint8Array())
  }

  /** Ends once that is durable. Resolves to whether there was a pin. */
  async remove(id: CidText): Promise<boolean> {
    if (!this.#pinned.has(id)) return false
    await this.#records.delete(prefix + id)
    return this.#pinned.delete(id)
  }
}
