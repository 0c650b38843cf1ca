// Notices: small trust records that travel beside releases and heads. Each has a key, under which a later one replaces
// the one before; what is later, and what may stand there at all, is for whoever puts them in. Bounded for each kind
// (the key up to the first slash) and each owner (from there to the next), so that no kind crowds out another.
//
//   key                   value
//   notice/<key>          the record
//   notice-summary/<key>  { id, bytes }, JSON
import type { CidText } from '../../base/cid.ts'
import { CatalogError } from '../../base/errors.ts'
import type { KeyValue, KeyValueWrite } from '../../base/key-value.ts'
import { Quota, type QuotaOptions } from './quota.ts'

export interface NoticeEntry {
  readonly id: CidText
  readonly bytes: number
}

const bounds: QuotaOptions = {
  // A publisher has at most a few for each of its names.
  maxRecordsPerPublisher: 10_000,
  maxBytesPerPublisher: 128 * 1024 * 1024,
  maxRecords: 100_000,
  maxBytes: 1024 * 1024 * 1024,
}

const maxKeyLength = 512

export class Notices {
  readonly #records: KeyValue
  readonly #exempt: string | undefined
  readonly #byKey = new Map<string, NoticeEntry>()
  readonly #keyById = new Map<CidText, string>()
  readonly #quotas = new Map<string, Quota>()

  /** Those of the `exempt` owner are counted and never refused. */
  constructor(deps: { readonly records: KeyValue }, exempt: string | undefined) {
    this.#records = deps.records
    this.#exempt = exempt
  }

  async load(): Promise<void> {
    const prefix = 'notice-summary/'
    for await (const [key, value] of this.#records.entries({ prefix })) {
      const entry = JSON.parse(Buffer.from(value).toString()) as NoticeEntry
      this.#set(key.slice(prefix.length), entry)
      this.#quotaOf(key.slice(prefix.length)).count(ownerOf(key.slice(prefix.length)), 1, entry.bytes)
    }
  }

  entry(key: string): NoticeEntry | undefined {
    return this.#byKey.get(key)
  }

  keyOf(id: CidText): string | undefined {
    return this.#keyById.get(id)
  }

  keys(): Iterable<string> {
    return this.#byKey.keys()
  }

  ids(): Iterable<CidText> {
    return this.#keyById.keys()
  }

  async get(key: string): Promise<Uint8Array | undefined> {
    return this.#byKey.has(key) ? this.#records.get(`notice/${key}`) : undefined
  }

  /** By key, ascending. */
  async *entries(prefix: string): AsyncIterable<{ readonly key: string; readonly bytes: Uint8Array }> {
    const start = 'notice/'
    for await (const [key, bytes] of this.#records.entries({ prefix: start + prefix }))
      yield { key: key.slice(start.length), bytes }
  }

  /** Durable when it resolves; gives the one that it replaced. @throws CatalogError `quota-exceeded` */
  async put(key: string, id: CidText, bytes: Uint8Array): Promise<NoticeEntry | undefined> {
    if (key.length > maxKeyLength || !key.includes('/'))
      throw new CatalogError('internal', `A notice cannot be kept under ${key.slice(0, 80)}.`)
    const replaced = this.#byKey.get(key)
    const entry = { id, bytes: bytes.byteLength }
    const quota = this.#quotaOf(key)
    const [records, growth] = [replaced === undefined ? 1 : 0, entry.bytes - (replaced?.bytes ?? 0)]
    quota.reserve(ownerOf(key), records, growth)
    try {
      await this.#records.batch([
        { type: 'put', key: `notice/${key}`, value: bytes },
        { type: 'put', key: `notice-summary/${key}`, value: Buffer.from(JSON.stringify(entry)) },
      ])
    } catch (error) {
      quota.count(ownerOf(key), -records, -growth)
      throw error
    }
    this.#set(key, entry)
    return replaced
  }

  /** For the batch of what makes it void; then `removed`. */
  removing(key: string): KeyValueWrite[] {
    return [
      { type: 'delete', key: `notice/${key}` },
      { type: 'delete', key: `notice-summary/${key}` },
    ]
  }

  /** After that batch; gives what it was. */
  removed(key: string): NoticeEntry | undefined {
    const entry = this.#byKey.get(key)
    if (entry === undefined) return undefined
    this.#byKey.delete(key)
    this.#keyById.delete(entry.id)
    this.#quotaOf(key).count(ownerOf(key), -1, -entry.bytes)
    return entry
  }

  async remove(key: string): Promise<NoticeEntry | undefined> {
    await this.#records.batch(this.removing(key))
    return this.removed(key)
  }

  #set(key: string, entry: NoticeEntry): void {
    const replaced = this.#byKey.get(key)
    if (replaced !== undefined) this.#keyById.delete(replaced.id)
    this.#byKey.set(key, entry)
    this.#keyById.set(entry.id, key)
  }

  #quotaOf(key: string): Quota {
    const kind = key.slice(0, key.indexOf('/'))
    const quota = this.#quotas.get(kind) ?? new Quota(bounds, this.#exempt)
    this.#quotas.set(kind, quota)
    return quota
  }
}

const ownerOf = (key: string): string => key.split('/', 2)[1] ?? ''
