// The local index of every release and head that this node knows: durable, bounded, asked by every verb. It takes
// only records whose signatures were proved. What may follow what among heads is heads.ts; how records lie on disk and
// in memory is tables/. It knows nothing of contents (store/) nor of peers (distribution/).
import type { Equivocation } from '../assets/equivocation.ts'
import type { Envelope } from '../assets/release.ts'
import type { Verified } from '../assets/stage.ts'
import type { CacheCounts } from '../base/cache.ts'
import type { CidText } from '../base/cid.ts'
import type { KeyValue, KeyValueWrite } from '../base/key-value.ts'
import type { Log } from '../base/log.ts'
import type { HeadEntry } from './head-rules.ts'
import { type FreshnessEnvelope, type HeadEvent, Heads } from './heads.ts'
import { entryOf, type ReleaseEntry, type ReleaseSummary } from './release-summary.ts'
import { DigestList } from './tables/digest-list.ts'
import { Notices } from './tables/notices.ts'
import { Quota, type QuotaOptions } from './tables/quota.ts'
import { type HeadEnvelope, RecordStore, type ReleaseEnvelope } from './tables/record-store.ts'
import { type Page, ReleaseTable } from './tables/release-table.ts'
import { Turns } from './turns.ts'

export type { HeadEnvelope, ReleaseEnvelope }

export interface CatalogueOptions extends QuotaOptions {
  /** Fingerprint of this node's own publisher, whose records no quota refuses. */
  readonly ownPublisher?: string
  /** Bytes of memory for decoded records. */
  readonly cacheBytes: number
}

export const defaultCatalogueOptions: CatalogueOptions = {
  // A busy publisher has hundreds of packages with dozens of versions; a release record is 4-20 KiB.
  maxRecordsPerPublisher: 20_000,
  maxBytesPerPublisher: 256 * 1024 * 1024,
  // About 250 MiB of memory at 500 bytes each.
  maxRecords: 500_000,
  maxBytes: 8 * 1024 * 1024 * 1024,
  // About a thousand records as they are in practice: what one user, or the peers of a busy hour, ask for again.
  cacheBytes: 16 * 1024 * 1024,
}

/** A record that has become durable here. */
export type RecordEvent =
  | HeadEvent
  | { readonly kind: 'release'; readonly id: CidText; readonly publisher: string; readonly name: string }
  | { readonly kind: 'notice'; readonly id: CidText; readonly key: string }

export class Catalogue {
  readonly #records: RecordStore
  readonly #log: Log
  readonly #quota: Quota
  readonly #ownPublisher: string | undefined
  readonly #releases = new ReleaseTable()
  readonly #heads: Heads
  readonly #notices: Notices
  readonly #forgotten = new Set<CidText>()
  readonly #digests = new DigestList()
  readonly #turns = new Turns()
  readonly #recordListeners = new Set<(event: RecordEvent) => void>()
  readonly #forgetListeners = new Set<(entry: ReleaseEntry) => void>()

  constructor(
    deps: { readonly records: KeyValue; readonly log: Log },
    options: Partial<CatalogueOptions> = {},
  ) {
    const { ownPublisher, cacheBytes, ...quota } = { ...defaultCatalogueOptions, ...options }
    this.#records = new RecordStore(deps, { maxBytes: cacheBytes })
    this.#log = deps.log
    this.#quota = new Quota(quota, ownPublisher)
    this.#ownPublisher = ownPublisher
    this.#notices = new Notices(deps, ownPublisher)
    this.#heads = new Heads({
      records: this.#records,
      notices: this.#notices,
      quota: this.#quota,
      digests: this.#digests,
      turns: this.#turns,
      log: deps.log,
      tell: event => this.#tell(this.#recordListeners, event),
    })
  }

  /** Reads every summary: under a second for 100,000. */
  async start(): Promise<void> {
    for await (const summary of this.#records.summaries()) {
      this.#releases.add(entryOf(summary))
      this.#quota.count(summary.publisher, 1, summary.recordBytes)
      this.#digests.load(summary.id)
    }
    await this.#notices.load()
    for (const id of this.#notices.ids()) this.#digests.load(id)
    await this.#heads.load()
    for await (const id of this.#records.forgotten()) {
      this.#forgotten.add(id)
      this.#digests.load(id)
    }
  }

  /** Waits for the writes under way. */
  async stop(): Promise<void> {
    await this.#turns.idle()
    this.#recordListeners.clear()
    this.#forgetListeners.clear()
  }

  /** Of the decoded records in memory. */
  cacheCounts(): CacheCounts {
    return this.#records.cacheCounts()
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
      await this.#admit(envelope, [this.#records.recalling(id)])
      this.#forgotten.delete(id)
    })
  }

  async #admit(envelope: Verified<ReleaseEnvelope>, more: readonly KeyValueWrite[] = []): Promise<void> {
    const { id, statement, bytes } = envelope
    const { publisher, name } = statement
    this.#quota.reserve(publisher, 1, bytes.byteLength)
    try {
      this.#releases.add(entryOf(await this.#records.putRelease(envelope, more)))
    } catch (error) {
      this.#quota.count(publisher, -1, -bytes.byteLength)
      throw error
    }
    this.#digests.add(id)
    this.#tell(this.#recordListeners, { kind: 'release', id, publisher, name })
  }

  /** As `Heads.add`. */
  addHead(
    envelope: Verified<HeadEnvelope>,
    options?: { readonly unseen?: boolean },
  ): Promise<'added' | 'known'> {
    return this.#heads.add(envelope, options)
  }

  /** As `Heads.addFreshness`. */
  addFreshness(envelope: Verified<FreshnessEnvelope>): Promise<'added' | 'known' | 'waiting'> {
    return this.#heads.addFreshness(envelope)
  }

  /** As `Heads.addEquivocation`. */
  addEquivocation(proof: Verified<Equivocation>): Promise<'added' | 'known'> {
    return this.#heads.addEquivocation(proof)
  }

  /** Whichever of the three the record is. */
  add(envelope: Verified<Envelope>): Promise<'added' | 'known' | 'forgotten' | 'waiting'> {
    const { type } = envelope.statement
    if (type === 'release') return this.addRelease(envelope as Verified<ReleaseEnvelope>)
    if (type === 'head') return this.addHead(envelope as Verified<HeadEnvelope>)
    return this.addFreshness(envelope as Verified<FreshnessEnvelope>)
  }

  /** Keeps a proved record under its key, in place of the one before. @throws CatalogError `quota-exceeded` */
  putNotice(key: string, id: CidText, bytes: Uint8Array): Promise<void> {
    return this.#turns.take(`notice/${key}`, async () => {
      if (this.#notices.entry(key)?.id === id) return
      const replaced = await this.#notices.put(key, id, bytes)
      this.#digests.add(id)
      if (replaced !== undefined) this.#digests.remove(replaced.id)
      this.#tell(this.#recordListeners, { kind: 'notice', id, key })
    })
  }

  notice(key: string): Promise<Uint8Array | undefined> {
    return this.#notices.get(key)
  }

  /** By key, ascending. */
  notices(prefix: string): AsyncIterable<{ readonly key: string; readonly bytes: Uint8Array }> {
    return this.#notices.entries(prefix)
  }

  /** The envelope of a release. @throws CatalogError `storage-failed` when the stored bytes are damaged. */
  async release(id: CidText): Promise<ReleaseEnvelope | undefined> {
    return this.#releases.get(id) === undefined ? undefined : this.#records.release(id)
  }

  async releaseBytes(id: CidText): Promise<Uint8Array | undefined> {
    return this.#releases.get(id) === undefined ? undefined : this.#records.releaseBytes(id)
  }

  async summary(id: CidText): Promise<ReleaseSummary | undefined> {
    return this.#releases.get(id) === undefined ? undefined : this.#records.summary(id)
  }

  /** The summaries of the releases that are wanted, in no useful order. */
  summaries(isWanted?: (id: CidText) => boolean): AsyncIterable<ReleaseSummary> {
    return this.#records.summaries(isWanted)
  }

  /** Every name that has a release, in no useful order. */
  names(): Iterable<string> {
    return this.#releases.names()
  }

  entry(id: CidText): ReleaseEntry | undefined {
    return this.#releases.get(id)
  }

  /** The current head of a publisher's name. */
  head(publisher: string, name: string): Promise<HeadEnvelope | undefined> {
    return this.#heads.get(publisher, name)
  }

  /** Its id and number, without reading it. */
  headEntry(publisher: string, name: string): HeadEntry | undefined {
    return this.#heads.entry(publisher, name)
  }

  /** The current heads of a name, one for each publisher, by fingerprint. */
  headsOf(name: string): Promise<HeadEnvelope[]> {
    return this.#heads.ofName(name)
  }

  /** What extends the life of a current head, where something does. */
  freshness(publisher: string, name: string): Promise<FreshnessEnvelope | undefined> {
    return this.#heads.freshness(publisher, name)
  }

  /** As `Heads.contradictions`. */
  contradictions(publisher: string, name: string): Promise<Equivocation[]> {
    return this.#heads.contradictions(publisher, name)
  }

  /** As `Heads.divergent`. */
  divergent(publisher: string, name: string): Promise<readonly HeadEnvelope[]> {
    return this.#heads.divergent(publisher, name)
  }

  /** Every proof that is kept, put right or not. */
  equivocations(): AsyncIterable<Equivocation> {
    return this.#heads.equivocations()
  }

  /** What a peer that asks for a name should know: its heads, each with what keeps it fresh, then proofs against it. */
  async recordsOf(name: string): Promise<Uint8Array[]> {
    const heads = await this.headsOf(name)
    const fresh = await Promise.all(heads.map(({ statement }) => this.freshness(statement.publisher, name)))
    const proofs = await Promise.all(
      heads.map(({ statement }) => this.#heads.contradictionBytes(statement.publisher, name)),
    )
    const envelopes = heads.flatMap((head, at) => [head, ...(fresh[at] === undefined ? [] : [fresh[at]])])
    return [...envelopes.map(({ bytes }) => bytes), ...proofs.flat()]
  }

  /** As `Heads.drop`. */
  dropHeads(isRefused: (record: HeadEnvelope | FreshnessEnvelope) => boolean): Promise<CidText[]> {
    return this.#heads.drop(isRefused)
  }

  /** As `Heads.dropOf`. */
  dropHeadsOf(
    publisher: string,
    name: string,
    isRefused: (record: HeadEnvelope | FreshnessEnvelope) => boolean,
  ): Promise<CidText[]> {
    return this.#heads.dropOf(publisher, name, isRefused)
  }

  /**
   * Whether releases that are worth little may take of a publisher's share, so that there is enough left for others. Of
   * this node's own publisher none may: they would take versions that it is to publish.
   */
  hasRoomFor(publisher: string): boolean {
    return publisher !== this.#ownPublisher && !this.#quota.isCrowded(publisher)
  }

  /** As `Heads.noteSeen`. */
  noteSeen(publisher: string, name: string, sequence: number): void {
    this.#heads.noteSeen(publisher, name, sequence)
  }

  /** As `Heads.highestSeen`. */
  highestSeen(publisher: string, name: string): number {
    return this.#heads.highestSeen(publisher, name)
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
   * The digests of all current records, ascending: releases, heads, notices, and the ids of forgotten releases, which count as
   * known so that a peer does not send them again (`record` does not give them).
   */
  recordIds(): readonly Uint8Array[] {
    return this.#digests.sorted()
  }

  /** The bytes of a current release, head or notice by its id. */
  async record(id: CidText): Promise<Uint8Array | undefined> {
    const headKey = this.#heads.keyOf(id)
    if (headKey !== undefined) return this.#records.headBytes(headKey)
    const noticeKey = this.#notices.keyOf(id)
    return noticeKey === undefined ? this.releaseBytes(id) : this.#notices.get(noticeKey)
  }

  /** Whether sync needs not bring it: it is here, or was forgotten on purpose. */
  isKnown(id: CidText): boolean {
    return (
      this.#releases.get(id) !== undefined ||
      this.#heads.keyOf(id) !== undefined ||
      this.#notices.keyOf(id) !== undefined ||
      this.#forgotten.has(id)
    )
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
      await this.#records.forget(id, { keepBytes: entry.publisher === this.#ownPublisher })
      this.#releases.remove(id)
      this.#forgotten.add(id)
      this.#quota.count(entry.publisher, -1, -entry.recordBytes)
      this.#tell(this.#forgetListeners, entry)
      return true
    })
  }

  /** The envelope of a forgotten release of this node's own publisher, as it was signed. */
  async forgottenBytes(id: CidText): Promise<Uint8Array | undefined> {
    return this.#forgotten.has(id) ? this.#records.forgottenBytes(id) : undefined
  }

  isForgotten(id: CidText): boolean {
    return this.#forgotten.has(id)
  }

  /** Lets a forgotten release come back, because the user asks for it again. */
  remember(id: CidText): Promise<void> {
    return this.#turns.take(id, async () => {
      if (!this.#forgotten.has(id)) return
      await this.#records.remember(id)
      this.#forgotten.delete(id)
      this.#digests.remove(id)
    })
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
