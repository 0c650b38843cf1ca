// The port to the network's shared memory: signed records by key, and who provides what. A hint, never a proof:
// whatever comes out is verified by the caller. Implementations: network/kad-router.ts (Kademlia),
// network/memory-router.ts.
import type { CidText } from '../base/cid.ts'
import type { CallOptions } from '../base/lifecycle.ts'
import type { PeerText } from './host.ts'

/**
 * A record's place: a release by its id, or the head of a name by publisher and name.
 * A name itself has no record; the peers that hold heads of it provide `nameTopic(name)`.
 */
export type RecordKey =
  | { readonly kind: 'release'; readonly id: CidText }
  | { readonly kind: 'head'; readonly publisher: string; readonly name: string }

export interface Router {
  /** Resolves to the number of peers that accepted the record; throws `timeout` or the signal's reason. */
  putRecord(key: RecordKey, value: Uint8Array, options?: CallOptions): Promise<number>
  /** The best valid record found, or undefined. */
  getRecord(key: RecordKey, options?: CallOptions): Promise<Uint8Array | undefined>
  /** Says that this node provides the content root or topic; resolves to the number of peers told. */
  provide(cid: CidText, options?: CallOptions): Promise<number>
  /** Stops saying so: forgets the own provider record and re-announces nothing. Other peers' copies expire. */
  unprovide(cid: CidText, options?: CallOptions): Promise<void>
  /** Providers as they are found, each peer once, this node excluded; ends when the lookup is exhausted. */
  findProviders(cid: CidText, options?: CallOptions): AsyncIterable<PeerText>
}

/**
 * Checks a record before it is stored or believed; wired to trust and the catalogue by the composition root.
 * Throws CatalogError for a wrong key, a bad signature, an oversize record, or a head older than one known here.
 */
export type RecordValidator = (key: RecordKey, value: Uint8Array) => Promise<void>

/** Of several valid values for one key, the index of the best (the highest sequence). */
export type RecordSelector = (key: RecordKey, values: readonly Uint8Array[]) => number
