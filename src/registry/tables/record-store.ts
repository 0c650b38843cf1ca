// The catalogue's records on disk, and the decoded ones in memory: bytes in, checked envelopes out. What may be stored
// when is the catalogue's to decide. A decoded record is kept by its id, which is the hash of its bytes: it can be
// forgotten, never be out of date.
//
//   key                              value
//   release/<id>                     envelope of a release
//   release-summary/<id>             its summary, JSON (release-summary.ts): what `start` reads
//   head/<publisher>/<name>          envelope of the current head
//   head-summary/<publisher>/<name>  { id, sequence, bytes }, JSON
//   forgotten/<id>                   a release that was removed here and is not to come back by itself: the envelope of
//                                    this node's own publisher, so that publishing the same again can be the same
//                                    release; empty for any other
import {
  decodeEnvelope,
  type Envelope,
  type HeadStatement,
  type ReleaseStatement,
} from '../../assets/release.ts'
import { Cache, type CacheCounts, type CacheOptions } from '../../base/cache.ts'
import type { CidText } from '../../base/cid.ts'
import { CatalogError } from '../../base/errors.ts'
import type { KeyValue, KeyValueWrite } from '../../base/key-value.ts'
import type { HeadEntry } from '../head-rules.ts'
import { decodeSummary, encodeSummary, type ReleaseSummary, summaryOf } from '../release-summary.ts'

export type ReleaseEnvelope = Envelope<ReleaseStatement>
export type HeadEnvelope = Envelope<HeadStatement>

/**
 * What a decoded record takes in memory: its bytes, the copies of its parts, and an object for each field (measured:
 * 6 KiB for a release of 750 bytes, 37 KiB for a head of 100 versions in 8 KiB).
 */
const decodedBytes = ({ bytes }: Envelope): number => 4096 + 5 * bytes.byteLength

export class RecordStore {
  readonly #records: KeyValue
  readonly #decoded: Cache<Envelope>

  constructor(deps: { readonly records: KeyValue }, options: CacheOptions) {
    this.#records = deps.records
    this.#decoded = new Cache({ bytesOf: decodedBytes }, options)
  }

  /** Of the decoded records in memory. */
  cacheCounts(): CacheCounts {
    return this.#decoded.counts()
  }

  async putRelease(envelope: ReleaseEnvelope, more: readonly KeyValueWrite[]): Promise<ReleaseSummary> {
    const summary = summaryOf(envelope)
    await this.#records.batch([
      { type: 'put', key: `release/${envelope.id}`, value: envelope.bytes },
      { type: 'put', key: `release-summary/${envelope.id}`, value: encodeSummary(summary) },
      ...more,
    ])
    return summary
  }

  /** @throws CatalogError `storage-failed` when the stored bytes are not the release */
  async release(id: CidText): Promise<ReleaseEnvelope | undefined> {
    const kept = this.#decoded.get(id)
    if (kept !== undefined) return kept as ReleaseEnvelope
    const bytes = await this.#records.get(`release/${id}`)
    return bytes === undefined ? undefined : (this.#decode(bytes, id) as ReleaseEnvelope)
  }

  async releaseBytes(id: CidText): Promise<Uint8Array | undefined> {
    return this.#records.get(`release/${id}`)
  }

  async summary(id: CidText): Promise<ReleaseSummary | undefined> {
    const bytes = await this.#records.get(`release-summary/${id}`)
    return bytes === undefined ? undefined : decodeSummary(bytes)
  }

  async *summaries(isWanted: (id: CidText) => boolean = () => true): AsyncIterable<ReleaseSummary> {
    const prefix = 'release-summary/'
    for await (const [key, value] of this.#records.entries({ prefix }))
      if (isWanted(key.slice(prefix.length))) yield decodeSummary(value)
  }

  /** `key` is publisher/name. The head before is gone when it resolves. */
  async putHead(
    key: string,
    { bytes }: HeadEnvelope,
    entry: HeadEntry,
    replaced: HeadEntry | undefined,
    more: readonly KeyValueWrite[],
  ): Promise<void> {
    await this.#records.batch([
      { type: 'put', key: `head/${key}`, value: bytes },
      { type: 'put', key: `head-summary/${key}`, value: Buffer.from(JSON.stringify(entry)) },
      ...more,
    ])
    if (replaced !== undefined) this.#decoded.delete(replaced.id)
  }

  async deleteHead(key: string, { id }: HeadEntry, more: readonly KeyValueWrite[]): Promise<void> {
    await this.#records.batch([
      { type: 'delete', key: `head/${key}` },
      { type: 'delete', key: `head-summary/${key}` },
      ...more,
    ])
    this.#decoded.delete(id)
  }

  async head(key: string, id: CidText): Promise<HeadEnvelope | undefined> {
    const kept = this.#decoded.get(id)
    if (kept !== undefined) return kept as HeadEnvelope
    const bytes = await this.headBytes(key)
    return bytes === undefined ? undefined : (this.#decode(bytes) as HeadEnvelope)
  }

  async headBytes(key: string): Promise<Uint8Array | undefined> {
    return this.#records.get(`head/${key}`)
  }

  async *heads(): AsyncIterable<readonly [key: string, entry: HeadEntry]> {
    const prefix = 'head-summary/'
    for await (const [key, value] of this.#records.entries({ prefix }))
      yield [key.slice(prefix.length), JSON.parse(Buffer.from(value).toString()) as HeadEntry]
  }

  async forget(id: CidText, options: { readonly keepBytes: boolean }): Promise<void> {
    const kept = options.keepBytes ? await this.releaseBytes(id) : undefined
    await this.#records.batch([
      { type: 'delete', key: `release/${id}` },
      { type: 'delete', key: `release-summary/${id}` },
      { type: 'put', key: `forgotten/${id}`, value: kept ?? new Uint8Array(0) },
    ])
    this.#decoded.delete(id)
  }

  /** For the batch of what brings a forgotten release back. */
  recalling(id: CidText): KeyValueWrite {
    return { type: 'delete', key: `forgotten/${id}` }
  }

  remember(id: CidText): Promise<void> {
    return this.#records.delete(`forgotten/${id}`)
  }

  async forgottenBytes(id: CidText): Promise<Uint8Array | undefined> {
    const bytes = await this.#records.get(`forgotten/${id}`)
    return bytes === undefined || bytes.byteLength === 0 ? undefined : bytes
  }

  async *forgotten(): AsyncIterable<CidText> {
    const prefix = 'forgotten/'
    for await (const key of this.#records.keys({ prefix })) yield key.slice(prefix.length)
  }

  #decode(bytes: Uint8Array, id?: CidText): Envelope {
    const envelope = decodeEnvelope(bytes)
    if (id !== undefined && envelope.id !== id) throw damagedRecord(id)
    this.#decoded.set(envelope.id, envelope)
    return envelope
  }
}

export const damagedRecord = (id: CidText): CatalogError =>
  new CatalogError(
    'storage-failed',
    `The stored record ${id} is damaged or gone. Remove the release and fetch it again; if this recurs, check the disk.`,
    { id },
  )
