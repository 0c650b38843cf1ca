// What this node has promised to keep, durable: one record per content root, all of them in memory too, because
// "is it owed?" is asked synchronously wherever bytes might be deleted.
//
// KeyValue: `kept/<root>` → CBOR of the fields below; `known/<root>` → 1 for roots that were kept at some time, so that
// a start does not promise again what was handed over; `draining` → 1.
import { decodeCbor, encodeCbor } from '../../base/cbor.ts'
import type { KeyValue } from '../../base/key-value.ts'
import type { Terms } from '../replication-protocol.ts'

export interface Obligation extends Terms {
  readonly root: string
  readonly release: string
  readonly size: number
  /** Who offered it; this node itself for what it published. */
  readonly offeredBy: string
  /** Milliseconds since 1970: of the promise, and of the last time that every byte here was verified (0: never). */
  readonly since: number
  readonly checkedAt: number
  /** It has been whole here: from then on this node does not give up by itself. */
  readonly wasWhole: boolean
  /** The other holders, as far as is known. */
  readonly holders: readonly string[]
}

const prefix = 'kept/'
const knownPrefix = 'known/'
const maxRecordBytes = 16 * 1024
const one = new Uint8Array([1])

export class Obligations {
  readonly #records: KeyValue
  readonly #kept = new Map<string, Obligation>()
  #draining = false

  constructor(records: KeyValue) {
    this.#records = records
  }

  async load(): Promise<void> {
    for await (const [key, value] of this.#records.entries({ prefix })) {
      const fields = decodeCbor(value, maxRecordBytes, 'An obligation') as Omit<Obligation, 'root'>
      const root = key.slice(prefix.length)
      this.#kept.set(root, { ...fields, root })
    }
    this.#draining = (await this.#records.get('draining')) !== undefined
  }

  get(root: string): Obligation | undefined {
    return this.#kept.get(root)
  }

  has(root: string): boolean {
    return this.#kept.has(root)
  }

  get size(): number {
    return this.#kept.size
  }

  all(): Iterable<Obligation> {
    return this.#kept.values()
  }

  get draining(): boolean {
    return this.#draining
  }

  /** True at once, durable when it resolves. */
  async setDraining(draining: boolean): Promise<void> {
    this.#draining = draining
    await (draining ? this.#records.put('draining', one) : this.#records.delete('draining'))
  }

  /** Whether it is or was kept here. */
  async isKnown(root: string): Promise<boolean> {
    return this.#kept.has(root) || (await this.#records.get(knownPrefix + root)) !== undefined
  }

  /** Owed at once, durable when it resolves; not owed where that fails. */
  async add(obligation: Obligation): Promise<void> {
    const { root } = obligation
    this.#kept.set(root, obligation)
    try {
      await this.#records.batch([
        { type: 'put', key: prefix + root, value: encode(obligation) },
        { type: 'put', key: knownPrefix + root, value: one },
      ])
    } catch (error) {
      this.#kept.delete(root)
      throw error
    }
  }

  /** Nothing where it is not owed (any more). */
  async change(root: string, changes: Partial<Omit<Obligation, 'root'>>): Promise<void> {
    const before = this.#kept.get(root)
    if (before === undefined) return
    const after = { ...before, ...changes }
    this.#kept.set(root, after)
    await this.#records.put(prefix + root, encode(after))
  }

  async delete(root: string): Promise<void> {
    if (this.#kept.delete(root)) await this.#records.delete(prefix + root)
  }

  /** Also that it ever was: it is new here when it comes again. */
  async forget(root: string): Promise<void> {
    this.#kept.delete(root)
    await this.#records.batch([
      { type: 'delete', key: prefix + root },
      { type: 'delete', key: knownPrefix + root },
    ])
  }

  /** Bytes kept for others, of all or of one peer's offers; what is still to come is counted whole. */
  bytesForOthers(self: string, offeredBy?: string): { readonly count: number; readonly bytes: number } {
    let count = 0
    let bytes = 0
    for (const each of this.#kept.values()) {
      if (each.offeredBy === self || (offeredBy !== undefined && each.offeredBy !== offeredBy)) continue
      count += 1
      bytes += each.size
    }
    return { count, bytes }
  }
}

function encode({ root: _, ...fields }: Obligation): Uint8Array {
  return encodeCbor(fields)
}
