// The datastore that the DHT sees: the node's own, with the rules that kad-dht lacks. A record never replaces a better
// one (compared and written under one lock), and what one peer or publisher may place here is bounded. It knows how
// kad-dht 16 names its entries: `/dht/record/<base32 key>` and `/dht/provider/<base32 multihash>/<peer>`.
import { AsyncLocalStorage } from 'node:async_hooks'
import { type KadDHTComponents, Record as KadRecord } from '@libp2p/kad-dht'
import { base32 } from 'multiformats/bases/base32'
import { equalBytes } from '../../base/cbor.ts'
import { CatalogError } from '../../base/errors.ts'
import { parseRecordKey } from '../record-key.ts'
import type { RecordKey, RecordSelector } from '../router.ts'
import { Quota, type QuotaLimits } from './quota.ts'

export type Datastore = KadDHTComponents['datastore']
type Key = Parameters<Datastore['get']>[0]
type Options = Parameters<Datastore['get']>[1]

/** The peer whose request is being answered: kad-dht does not tell its validators and datastore. */
export const requester = new AsyncLocalStorage<string>()

export interface BoundedDatastoreOptions {
  readonly records: QuotaLimits
  readonly providers: QuotaLimits
  readonly maxProvidersPerKey: number
}

export interface RecordRules {
  readonly select: RecordSelector
  /** Who signed the record, where that can be told: counted like the peer that sent it. */
  readonly publisherOf?: ((key: RecordKey, value: Uint8Array) => string | undefined) | undefined
}

const recordPrefix = '/dht/record/'
const providerPrefix = '/dht/provider/'
/** How long kad-dht serves a record after it was received, in milliseconds. */
const recordLifeMs = 48 * 3_600_000

export class BoundedDatastore {
  readonly #inner: Datastore
  readonly #rules: RecordRules
  readonly #options: BoundedDatastoreOptions
  readonly #records: Quota
  readonly #providers: Quota
  readonly #providersPerKey = new Map<string, number>()
  readonly #locks = new Map<string, Promise<unknown>>()
  #loaded: Promise<void> | undefined

  constructor(inner: Datastore, rules: RecordRules, options: BoundedDatastoreOptions) {
    this.#inner = inner
    this.#rules = rules
    this.#options = options
    this.#records = new Quota('record', options.records)
    this.#providers = new Quota('provider record', options.providers)
  }

  get counts(): { records: number; recordBytes: number; providers: number } {
    const { entries, bytes } = this.#records.total
    return { records: entries, recordBytes: bytes, providers: this.#providers.total.entries }
  }

  /** What kad-dht is given in place of the node's datastore: everything else passes through. */
  asDatastore(): Datastore {
    return new Proxy(this.#inner, {
      get: (inner, name) => {
        if (name === 'put')
          return (key: Key, value: Uint8Array, options?: Options) => this.put(key, value, options)
        if (name === 'delete') return (key: Key, options?: Options) => this.delete(key, options)
        const member = Reflect.get(inner, name)
        return typeof member === 'function' ? member.bind(inner) : member
      },
    })
  }

  async put(key: Key, value: Uint8Array, options?: Options): Promise<Key> {
    const text = key.toString()
    await this.load()
    if (text.startsWith(recordPrefix)) return this.#locked(text, () => this.#putRecord(key, value, options))
    if (text.startsWith(providerPrefix))
      return this.#locked(text, () => this.#putProvider(key, value, options))
    return this.#inner.put(key, value, options)
  }

  /** Stores this node's own record, unless a better one is here. */
  async putOwn(key: Uint8Array, serialized: Uint8Array): Promise<void> {
    await this.put(recordKey(key), serialized)
  }

  /** The record stored here, unchecked. */
  value(key: Uint8Array): Promise<Uint8Array | undefined> {
    return this.#value(recordKey(key))
  }

  async delete(key: Key, options?: Options): Promise<void> {
    const text = key.toString()
    this.#records.release(text)
    this.#releaseProvider(text)
    await this.#inner.delete(key, options)
  }

  async #putRecord(key: Key, serialized: Uint8Array, options?: Options): Promise<Key> {
    const text = key.toString()
    const record = KadRecord.deserialize(serialized)
    const parsed = parseRecordKey(record.key)
    if (parsed === undefined) throw new CatalogError('bad-record', 'A DHT record has a key that is not ours.')
    const stored = await this.#value(key)
    if (stored !== undefined && !equalBytes(stored, record.value))
      if (this.#rules.select(parsed, [stored, record.value]) === 0)
        throw new CatalogError('stale-record', 'A DHT record is older than the one that is stored here.')
    const owners = this.#owners(parsed, record.value)
    if (requester.getStore() === undefined) this.#records.count(text, serialized.byteLength, owners)
    else this.#records.take(text, serialized.byteLength, owners)
    return this.#inner.put(key, serialized, options)
  }

  async #putProvider(key: Key, value: Uint8Array, options?: Options): Promise<Key> {
    const text = key.toString()
    const peer = requester.getStore()
    const { cid, known } = this.#provider(text)
    if (peer !== undefined && !known) {
      if ((this.#providersPerKey.get(cid) ?? 0) >= this.#options.maxProvidersPerKey)
        throw new CatalogError('quota-exceeded', `${cid} has as many providers here as are kept.`)
      this.#providers.take(text, text.length, [peer])
    } else this.#providers.count(text, text.length, peer === undefined ? [] : [peer])
    if (!known) this.#addProvider(text)
    return this.#inner.put(key, value, options)
  }

  /** Counts what is on disk from before, and drops records that nobody serves any more. */
  load(): Promise<void> {
    this.#loaded ??= this.#load()
    return this.#loaded
  }

  async #load(): Promise<void> {
    const expired: Key[] = []
    for await (const { key, value } of this.#inner.query({ prefix: recordPrefix })) {
      const record = deserialize(value)
      const parsed = record === undefined ? undefined : parseRecordKey(record.key)
      if (record === undefined || parsed === undefined || isExpired(record)) expired.push(key)
      else this.#records.count(key.toString(), value.byteLength, this.#publisher(parsed, record.value))
    }
    for (const key of expired) await this.delete(key)
    for await (const key of this.#inner.queryKeys({ prefix: providerPrefix })) {
      const text = key.toString()
      this.#providers.count(text, text.length, [text.slice(text.lastIndexOf('/') + 1)])
      this.#addProvider(text)
    }
  }

  /** Deletes expired records; kad-dht itself does so only when one is asked for. */
  async sweep(): Promise<void> {
    const expired: Key[] = []
    for await (const { key, value } of this.#inner.query({ prefix: recordPrefix })) {
      const record = deserialize(value)
      if (record === undefined || isExpired(record)) expired.push(key)
    }
    for (const key of expired) await this.delete(key)
  }

  async #value(key: Key): Promise<Uint8Array | undefined> {
    try {
      return deserialize(await this.#inner.get(key))?.value
    } catch (error) {
      if ((error as Error).name === 'NotFoundError') return undefined
      throw error
    }
  }

  #owners(key: RecordKey, value: Uint8Array): string[] {
    const peer = requester.getStore()
    return peer === undefined ? this.#publisher(key, value) : [peer, ...this.#publisher(key, value)]
  }

  #publisher(key: RecordKey, value: Uint8Array): string[] {
    const publisher = key.kind === 'head' ? key.publisher : this.#rules.publisherOf?.(key, value)
    return publisher === undefined ? [] : [`publisher ${publisher}`]
  }

  #provider(text: string): { cid: string; known: boolean } {
    return { cid: text.slice(providerPrefix.length, text.lastIndexOf('/')), known: this.#providers.has(text) }
  }

  #addProvider(text: string): void {
    const { cid } = this.#provider(text)
    this.#providersPerKey.set(cid, (this.#providersPerKey.get(cid) ?? 0) + 1)
  }

  #releaseProvider(text: string): void {
    if (!this.#providers.has(text)) return
    const { cid } = this.#provider(text)
    this.#providers.release(text)
    const left = (this.#providersPerKey.get(cid) ?? 1) - 1
    if (left > 0) this.#providersPerKey.set(cid, left)
    else this.#providersPerKey.delete(cid)
  }

  /** One writer of a key at a time: comparing and writing are two steps. */
  async #locked<T>(key: string, work: () => Promise<T>): Promise<T> {
    const before = this.#locks.get(key) ?? Promise.resolve()
    const mine = before.then(work, work)
    const settled = mine.catch(() => undefined)
    this.#locks.set(key, settled)
    try {
      return await mine
    } finally {
      if (this.#locks.get(key) === settled) this.#locks.delete(key)
    }
  }
}

/** kad-dht's own name for it. The datastores behind use nothing of a key but its text. */
function recordKey(key: Uint8Array): Key {
  const text = `${recordPrefix}${base32.baseEncode(key)}`
  return { toString: () => text } as Key
}

function deserialize(bytes: Uint8Array): KadRecord | undefined {
  try {
    return KadRecord.deserialize(bytes)
  } catch {
    return undefined
  }
}

function isExpired(record: KadRecord): boolean {
  return Date.now() - (record.timeReceived?.getTime() ?? 0) > recordLifeMs
}
