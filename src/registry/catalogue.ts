// The local index of every release and head that this node knows: durable, bounded, asked by every verb. It takes
// only envelopes whose signatures were proved, and owns the rules between records: a head never goes back, never
// forks, never delists. It knows nothing of contents (store/) nor of peers (distribution/).
//
//   key                              value
//   release/<id>                     envelope of a release
//   release-summary/<id>             its summary, JSON (release-summary.ts): what `start` reads
//   head/<publisher>/<name>          envelope of the current head
//   head-summary/<publisher>/<name>  { id, sequence, bytes }, JSON
//   forgotten/<id>                   a release that was removed here and is not to come back by itself: the envelope of
//                                    this node's own publisher, so that publishing the same again can be the same
//                                    release; empty for any other
//   equivocation/<publisher>/<name>  the first proof against the publisher: CBOR { kept, refused }, two envelopes
import {
  decodeEnvelope,
  type Envelope,
  type HeadStatement,
  type ReleaseStatement,
} from '../assets/release.ts'
import type { Verified } from '../assets/stage.ts'
import { decodeCbor, encodeCbor } from '../base/cbor.ts'
import type { CidText } from '../base/cid.ts'
import { CatalogError } from '../base/errors.ts'
import type { KeyValue, KeyValueWrite } from '../base/key-value.ts'
import type { Log } from '../base/log.ts'
import { checkSuccession, type HeadEntry } from './head-rules.ts'
import {
  decodeSummary,
  encodeSummary,
  entryOf,
  type ReleaseEntry,
  type ReleaseSummary,
  summaryOf,
} from './release-summary.ts'
import { DigestList } from './tables/digest-list.ts'
import { Quota, type QuotaOptions } from './tables/quota.ts'
import { type Page, ReleaseTable } from './tables/release-table.ts'
import { Turns } from './turns.ts'

export type ReleaseEnvelope = Envelope<ReleaseStatement>
export type HeadEnvelope = Envelope<HeadStatement>

export interface CatalogueOptions extends QuotaOptions {
  /** Fingerprint of this node's own publisher, whose records no quota refuses. */
  readonly ownPublisher?: string
}

export const defaultCatalogueOptions: CatalogueOptions = {
  // A busy publisher has hundreds of packages with dozens of versions; a release record is 4-20 KiB.
  maxRecordsPerPublisher: 20_000,
  maxBytesPerPublisher: 256 * 1024 * 1024,
  // About 250 MiB of memory at 500 bytes each.
  maxRecords: 500_000,
  maxBytes: 8 * 1024 * 1024 * 1024,
}

/** A record that has become durable here. */
export interface RecordEvent {
  readonly kind: 'release' | 'head'
  readonly id: CidText
  readonly publisher: string
  readonly name: string
}

export class Catalogue {
  readonly #records: KeyValue
  readonly #log: Log
  readonly #quota: Quota
  readonly #ownPublisher: string | undefined
  readonly #releases = new ReleaseTable()
  /** By publisher/name, and the publishers that have a head of a name. */
  readonly #heads = new Map<string, HeadEntry>()
  readonly #headPublishers = new Map<string, Set<string>>()
  readonly #headKeyById = new Map<CidText, string>()
  readonly #forgotten = new Set<CidText>()
  readonly #digests = new DigestList(() => this.#allIds())
  readonly #turns = new Turns()
  readonly #recordListeners = new Set<(event: RecordEvent) => void>()
  readonly #forgetListeners = new Set<(entry: ReleaseEntry) => void>()

  constructor(
    deps: { readonly records: KeyValue; readonly log: Log },
    options: Partial<CatalogueOptions> = {},
  ) {
    this.#records = deps.records
    this.#log = deps.log
    const { ownPublisher, ...quota } = { ...defaultCatalogueOptions, ...options }
    this.#quota = new Quota(quota, ownPublisher)
    this.#ownPublisher = ownPublisher
  }

  /** Reads every summary: under a second for 100,000. */
  async start(): Promise<void> {
    for await (const [, value] of this.#records.entries({ prefix: 'release-summary/' }))
      this.#index(entryOf(decodeSummary(value)))
    for await (const [key, value] of this.#records.entries({ prefix: 'head-summary/' })) {
      const headKey = key.slice('head-summary/'.length)
      const entry = JSON.parse(Buffer.from(value).toString()) as HeadEntry
      this.#indexHead(headKey, entry)
      this.#quota.count(headKey.slice(0, headKey.indexOf('/')), 1, entry.bytes)
    }
    for await (const key of this.#records.keys({ prefix: 'forgotten/' }))
      this.#forgotten.add(key.slice('forgotten/'.length))
  }

  /** Waits for the writes under way. */
  async stop(): Promise<void> {
    await this.#turns.idle()
    this.#recordListeners.clear()
    this.#forgetListeners.clear()
  }

  /** Number of known releases. */
  get count(): number {
    return this.#releases.size
  }

  /**
   * Durable when it resolves. `forgotten`: it was removed here and stays away until `remember(id)`.
   * @throws CatalogError `quota-exceeded`, and what the disk throws
   */
  addRelease(envelope: Verified<ReleaseEnvelope>): Promise<'added' | 'known' | 'forgotten'> {
    const { id } = envelope
    return this.#turns.take(id, async () => {
      if (this.#releases.get(id) !== undefined) return 'known'
      if (this.#forgotten.has(id)) return 'forgotten'
      await this.#admit(envelope)
      return 'added'
    })
  }

  /** Takes a forgotten release back in one step. @throws as `addRelease` */
  restore(envelope: Verified<ReleaseEnvelope>): Promise<void> {
    const { id } = envelope
    return this.#turns.take(id, async () => {
      if (this.#releases.get(id) !== undefined) return
      await this.#admit(envelope, [{ type: 'delete', key: `forgotten/${id}` }])
      this.#forgotten.delete(id)
    })
  }

  async #admit(envelope: Verified<ReleaseEnvelope>, more: readonly KeyValueWrite[] = []): Promise<void> {
    const { id, statement, bytes } = envelope
    const { publisher, name } = statement
    this.#quota.reserve(publisher, 1, bytes.byteLength)
    const summary = summaryOf(envelope)
    try {
      await this.#records.batch([
        { type: 'put', key: `release/${id}`, value: bytes },
        { type: 'put', key: `release-summary/${id}`, value: encodeSummary(summary) },
        ...more,
      ])
    } catch (error) {
      this.#quota.count(publisher, -1, -bytes.byteLength)
      throw error
    }
    this.#releases.add(entryOf(summary))
    this.#digests.add(id)
    this.#tell(this.#recordListeners, { kind: 'release', id, publisher, name })
  }

  /**
   * Durable when it resolves; the head before it is gone then.
   * @throws CatalogError `stale-record` (a later head is known); `bad-record` with data `{ equivocation: true, kept,
   *   refused }` (another head under the same number; the first is kept, both are stored as proof), `{ fork: true }`
   *   (it does not follow from the known one), `{ delisted }` or `{ replaced }` (it drops or changes a version);
   *   `quota-exceeded`
   */
  addHead(envelope: Verified<HeadEnvelope>): Promise<'added' | 'known'> {
    const { publisher, name, sequence } = envelope.statement
    const key = `${publisher}/${name}`
    return this.#turns.take(key, async () => {
      const known = this.#heads.get(key)
      if (known?.id === envelope.id) return 'known'
      if (known !== undefined) await this.#checkAgainst(known, envelope)
      const { id, bytes } = envelope
      const entry: HeadEntry = { id, sequence, bytes: bytes.byteLength }
      const growth = known === undefined ? 1 : 0
      this.#quota.reserve(publisher, growth, entry.bytes - (known?.bytes ?? 0))
      try {
        await this.#records.batch([
          { type: 'put', key: `head/${key}`, value: bytes },
          { type: 'put', key: `head-summary/${key}`, value: Buffer.from(JSON.stringify(entry)) },
        ])
      } catch (error) {
        this.#quota.count(publisher, -growth, (known?.bytes ?? 0) - entry.bytes)
        throw error
      }
      this.#indexHead(key, entry, known)
      this.#tell(this.#recordListeners, { kind: 'head', id, publisher, name })
      return 'added'
    })
  }

  /** `addRelease` or `addHead`, whichever the record is. */
  add(envelope: Verified<Envelope>): Promise<'added' | 'known' | 'forgotten'> {
    return envelope.statement.type === 'release'
      ? this.addRelease(envelope as Verified<ReleaseEnvelope>)
      : this.addHead(envelope as Verified<HeadEnvelope>)
  }

  /** The envelope of a release. @throws CatalogError `storage-failed` when the stored bytes are damaged. */
  async release(id: CidText): Promise<ReleaseEnvelope | undefined> {
    const bytes = await this.releaseBytes(id)
    return bytes === undefined ? undefined : (this.#decode(bytes, id) as ReleaseEnvelope)
  }

  async releaseBytes(id: CidText): Promise<Uint8Array | undefined> {
    return this.#releases.get(id) === undefined ? undefined : this.#records.get(`release/${id}`)
  }

  async summary(id: CidText): Promise<ReleaseSummary | undefined> {
    if (this.#releases.get(id) === undefined) return undefined
    const bytes = await this.#records.get(`release-summary/${id}`)
    return bytes === undefined ? undefined : decodeSummary(bytes)
  }

  /** Every summary, in no useful order. */
  async *summaries(): AsyncIterable<ReleaseSummary> {
    for await (const [, value] of this.#records.entries({ prefix: 'release-summary/' }))
      yield decodeSummary(value)
  }

  entry(id: CidText): ReleaseEntry | undefined {
    return this.#releases.get(id)
  }

  /** The current head of a publisher's name. */
  async head(publisher: string, name: string): Promise<HeadEnvelope | undefined> {
    const key = `${publisher}/${name}`
    const known = this.#heads.get(key)
    if (known === undefined) return undefined
    const bytes = await this.#records.get(`head/${key}`)
    return bytes === undefined ? undefined : (this.#decode(bytes) as HeadEnvelope)
  }

  /** Its id and number, without reading it. */
  headEntry(publisher: string, name: string): HeadEntry | undefined {
    return this.#heads.get(`${publisher}/${name}`)
  }

  /** The current heads of a name, one for each publisher, by fingerprint. */
  async headsOf(name: string): Promise<HeadEnvelope[]> {
    const publishers = [...(this.#headPublishers.get(name) ?? [])].sort()
    const heads = await Promise.all(publishers.map(publisher => this.head(publisher, name)))
    return heads.filter(head => head !== undefined)
  }

  /** Highest version first. */
  releasesOf(name: string): readonly ReleaseEntry[] {
    return this.#releases.byName(name)
  }

  releasesByRoot(root: CidText): readonly ReleaseEntry[] {
    return this.#releases.byRoot(root)
  }

  /** By name, highest version first. `after` is the last id of the page before. */
  list(page: Page = {}): ReleaseEntry[] {
    return this.#releases.page(page)
  }

  /**
   * The release that this version is. Where a publisher signed several, the one its head lists; without a head
   * the one signed first.
   */
  async find(publisher: string, name: string, version: string): Promise<ReleaseEntry | undefined> {
    const candidates = this.releasesOf(name).filter(
      entry => entry.publisher === publisher && entry.version === version,
    )
    const head = await this.head(publisher, name)
    const listed = head?.statement.versions.find(item => item.version === version)
    if (listed !== undefined) return candidates.find(entry => entry.id === listed.id)
    return candidates.sort((a, b) => a.signedAt - b.signedAt || (a.id < b.id ? -1 : 1))[0]
  }

  /**
   * The digests of all current records, ascending: releases, heads, and the ids of forgotten releases, which count as
   * known so that a peer does not send them again (`record` does not give them).
   */
  recordIds(): readonly Uint8Array[] {
    return this.#digests.sorted()
  }

  /** The bytes of a current release or head by its id. */
  async record(id: CidText): Promise<Uint8Array | undefined> {
    const headKey = this.#headKeyById.get(id)
    return headKey === undefined ? this.releaseBytes(id) : this.#records.get(`head/${headKey}`)
  }

  /** Whether sync needs not bring it: it is here, or was forgotten on purpose. */
  isKnown(id: CidText): boolean {
    return this.#releases.get(id) !== undefined || this.#headKeyById.has(id) || this.#forgotten.has(id)
  }

  /** Called after a record became durable. Returns the unsubscriber. */
  onRecord(listener: (event: RecordEvent) => void): () => void {
    this.#recordListeners.add(listener)
    return () => this.#recordListeners.delete(listener)
  }

  /** Called after a release was forgotten. Returns the unsubscriber. */
  onForget(listener: (entry: ReleaseEntry) => void): () => void {
    this.#forgetListeners.add(listener)
    return () => this.#forgetListeners.delete(listener)
  }

  /** Removes a release here and keeps it away; durable when it resolves. False when it was not known. */
  forget(id: CidText): Promise<boolean> {
    return this.#turns.take(id, async () => {
      const entry = this.#releases.get(id)
      if (entry === undefined) return false
      const own =
        entry.publisher === this.#ownPublisher ? await this.#records.get(`release/${id}`) : undefined
      await this.#records.batch([
        { type: 'delete', key: `release/${id}` },
        { type: 'delete', key: `release-summary/${id}` },
        { type: 'put', key: `forgotten/${id}`, value: own ?? new Uint8Array(0) },
      ])
      this.#releases.remove(id)
      this.#forgotten.add(id)
      this.#quota.count(entry.publisher, -1, -entry.recordBytes)
      this.#tell(this.#forgetListeners, entry)
      return true
    })
  }

  /** The envelope of a forgotten release of this node's own publisher, as it was signed. */
  async forgottenBytes(id: CidText): Promise<Uint8Array | undefined> {
    const bytes = this.#forgotten.has(id) ? await this.#records.get(`forgotten/${id}`) : undefined
    return bytes === undefined || bytes.byteLength === 0 ? undefined : bytes
  }

  isForgotten(id: CidText): boolean {
    return this.#forgotten.has(id)
  }

  /** Lets a forgotten release come back, because the user asks for it again. */
  remember(id: CidText): Promise<void> {
    return this.#turns.take(id, async () => {
      if (!this.#forgotten.has(id)) return
      await this.#records.delete(`forgotten/${id}`)
      this.#forgotten.delete(id)
      this.#digests.remove(id)
    })
  }

  /** The proof that a publisher signed two heads under one number: both envelopes. */
  async equivocation(
    publisher: string,
    name: string,
  ): Promise<{ readonly kept: Uint8Array; readonly refused: Uint8Array } | undefined> {
    const bytes = await this.#records.get(`equivocation/${publisher}/${name}`)
    return bytes === undefined
      ? undefined
      : (decodeCbor(bytes, 1024 * 1024, 'An equivocation proof') as { kept: Uint8Array; refused: Uint8Array })
  }

  async #checkAgainst(known: HeadEntry, next: HeadEnvelope): Promise<void> {
    const { publisher, name } = next.statement
    const current = await this.head(publisher, name)
    if (current === undefined) throw this.#damaged(known.id)
    const refusal = checkSuccession(current, next)
    if (refusal === undefined) return
    const key = `equivocation/${publisher}/${name}`
    if (refusal.data['equivocation'] === true && (await this.#records.get(key)) === undefined) {
      this.#log.warn(
        { publisher, package: name, ...refusal.data },
        'a publisher signed two heads under one number',
      )
      await this.#records.put(key, encodeCbor({ kept: current.bytes, refused: next.bytes }))
    }
    throw refusal
  }

  #index(entry: ReleaseEntry): void {
    this.#releases.add(entry)
    this.#quota.count(entry.publisher, 1, entry.recordBytes)
  }

  #indexHead(key: string, entry: HeadEntry, replaced?: HeadEntry): void {
    const slash = key.indexOf('/')
    const [publisher, name] = [key.slice(0, slash), key.slice(slash + 1)]
    this.#heads.set(key, entry)
    this.#headKeyById.set(entry.id, key)
    const publishers = this.#headPublishers.get(name) ?? new Set()
    this.#headPublishers.set(name, publishers.add(publisher))
    this.#digests.add(entry.id)
    if (replaced !== undefined) {
      this.#headKeyById.delete(replaced.id)
      this.#digests.remove(replaced.id)
    }
  }

  *#allIds(): Iterable<CidText> {
    yield* this.#releases.ids()
    yield* this.#headKeyById.keys()
    yield* this.#forgotten
  }

  #decode(bytes: Uint8Array, id?: CidText): Envelope {
    const envelope = decodeEnvelope(bytes)
    if (id !== undefined && envelope.id !== id) throw this.#damaged(id)
    return envelope
  }

  #damaged(id: CidText): CatalogError {
    return new CatalogError(
      'storage-failed',
      `The stored record ${id} is damaged or gone. Remove the release and fetch it again; if this recurs, check the disk.`,
      { id },
    )
  }

  #tell<T>(listeners: Iterable<(value: T) => void>, value: T): void {
    for (const listener of listeners)
      try {
        listener(value)
      } catch (error) {
        this.#log.error({ error }, 'a listener of the catalogue failed')
      }
  }
}
