// The port to the network's shared memory: signed records by key, and who provides what. A hint, never a proof:
// whatever comes out is verified by the caller. `Router` is for one key, `KeyspaceRouter` announces many.
// Implementations: network/kad-router.ts (Kademlia), network/memory-router.ts.
import type { CidText } from '../base/cid.ts'
import type { CallOptions } from '../base/lifecycle.ts'
import type { PeerText } from './host.ts'

/**
 * A record's place: a release by its id, the head of a name by publisher and name, or a notice of the network's trust
 * (`root/000002`, `revocations/<issuer>`).
 * A name itself has no record; the peers that hold heads of it provide `nameTopic(name)`.
 */
export type RecordKey =
  | { readonly kind: 'release'; readonly id: CidText }
  | { readonly kind: 'head'; readonly publisher: string; readonly name: string }
  | { readonly kind: 'notice'; readonly notice: string }

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

/** What a node tells the DHT under one key, and tells again before peers forget it. */
export type Announcement =
  | { readonly kind: 'record'; readonly key: RecordKey }
  | { readonly kind: 'provide'; readonly cid: CidText }

/** A stretch of the keyspace, and the peers that keep what lies in it. */
export interface Region {
  /** The first bits of every key in it, as text of 0 and 1; all 256 for a single key, none for the whole keyspace. */
  readonly prefix: string
  /** The k nearest of each of its keys are among these. */
  readonly peers: readonly PeerText[]
  readonly lookups: number
}

/** One announcement on its way: `told` and `accepted` are filled in by `KeyspaceRouter.tell`. */
export interface Bulletin {
  readonly item: Announcement
  /** Of a record. */
  readonly value?: Uint8Array
  /** Peers that it was sent to, whatever came of it. */
  readonly told: Set<PeerText>
  /** Peers that have confirmed it. */
  accepted: number
  refusal?: string
}

/** The side of the DHT that announces many keys at once, region by region. */
export interface KeyspaceRouter {
  /** Where the announcement's key lies: 32 bytes. */
  locate(item: Announcement): Uint8Array
  /** Connected members of the network. */
  neighbours(): readonly PeerText[]
  /** The region round the item's key; with `narrow`, for that key alone, in one lookup. */
  explore(item: Announcement, options?: CallOptions & { readonly narrow?: boolean }): Promise<Region>
  /** Sends each to its k nearest of these peers, unless it was told already; few streams to each. Throws only the signal's reason. */
  tell(bulletins: readonly Bulletin[], peers: readonly PeerText[], options?: CallOptions): Promise<void>
  unprovide(cid: CidText, options?: CallOptions): Promise<void>
}

/**
 * Checks a record before it is stored or believed; wired to trust and the catalogue by the composition root.
 * Throws CatalogError for a wrong key, a bad signature, an oversize record, or a head older than one known here.
 */
export type RecordValidator = (key: RecordKey, value: Uint8Array) => Promise<void>

/** Of several valid values for one key, the index of the best (the highest sequence). */
export type RecordSelector = (key: RecordKey, values: readonly Uint8Array[]) => number
