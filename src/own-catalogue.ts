// The catalogue as the flows see it that sign for this node's publishers: it remembers the last head that was signed
// here of each name. A head is dropped when its certificate is revoked; what it listed goes on in the next one, under
// another certificate, and what others signed with the same keys does not. A part of the composition root.
//
//   records: `<publisher>/<name>` = the bytes of the head
import { decodeEnvelope, type Envelope, type HeadStatement } from './assets/release.ts'
import type { Verified } from './assets/stage.ts'
import type { KeyValue } from './base/key-value.ts'
import type { Catalogue } from './registry/catalogue.ts'

type Head = Envelope<HeadStatement>

export class OwnCatalogue {
  readonly #catalogue: Catalogue
  readonly #records: KeyValue
  readonly list: Catalogue['list']
  readonly find: Catalogue['find']
  readonly release: Catalogue['release']
  readonly addRelease: Catalogue['addRelease']
  readonly restore: Catalogue['restore']
  readonly contradictions: Catalogue['contradictions']
  readonly divergent: Catalogue['divergent']
  readonly freshness: Catalogue['freshness']
  readonly addFreshness: Catalogue['addFreshness']

  constructor({ catalogue, records }: { readonly catalogue: Catalogue; readonly records: KeyValue }) {
    this.#catalogue = catalogue
    this.#records = records
    this.list = page => catalogue.list(page)
    this.find = (publisher, name, version) => catalogue.find(publisher, name, version)
    this.release = id => catalogue.release(id)
    this.addRelease = envelope => catalogue.addRelease(envelope)
    this.restore = envelope => catalogue.restore(envelope)
    this.contradictions = (publisher, name) => catalogue.contradictions(publisher, name)
    this.divergent = (publisher, name) => catalogue.divergent(publisher, name)
    this.freshness = (publisher, name) => catalogue.freshness(publisher, name)
    this.addFreshness = envelope => catalogue.addFreshness(envelope)
  }

  /** The current head, or the last one that was signed here. */
  async head(publisher: string, name: string): Promise<Head | undefined> {
    return (await this.#catalogue.head(publisher, name)) ?? this.signedHere(publisher, name)
  }

  /** The last head of the name that this node signed, whatever came after it. */
  async signedHere(publisher: string, name: string): Promise<Head | undefined> {
    const bytes = await this.#records.get(`${publisher}/${name}`)
    return bytes === undefined ? undefined : (decodeEnvelope(bytes) as Head)
  }

  /** As `Catalogue.addHead`, for a head that this node signed. */
  async addHead(envelope: Verified<Head>, options: { readonly unseen: boolean }): Promise<'added' | 'known'> {
    const outcome = await this.#catalogue.addHead(envelope, options)
    await this.#records.put(`${envelope.statement.publisher}/${envelope.statement.name}`, envelope.bytes)
    return outcome
  }
}
