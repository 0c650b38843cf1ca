// The Router over Kademlia (@libp2p/kad-dht 16) inside the host's libp2p node. Records are signed values that expire
// after 48 hours (announcer.ts puts them again); providers are peers that hold a content root or a head of a name.
//
// On the wire: the libp2p kad-dht protocol under `/catalog/<network>/kad/1.0.0`; record keys as record-key.ts says; a
// provider key is the SHA-256 multihash of the CID's text, because kad-dht reads the key as a CIDv0 and refuses every
// other hash. A record is refused where it is stored unless its key is ours, its size within `maxRecordBytes`, the
// validator passes it, and nothing better is stored under its key; what one peer or publisher places is bounded.
import type { KadDHTComponents } from '@libp2p/kad-dht'
import { multiaddr } from '@multiformats/multiaddr'
import type { CidText } from '../base/cid.ts'
import { raceAbort, withTimeout } from '../base/deadline.ts'
import { CatalogError } from '../base/errors.ts'
import type { CallOptions, Service } from '../base/lifecycle.ts'
import type { Log } from '../base/log.ts'
import type { PeerText } from './host.ts'
import { KadAnnouncing, type KadAnnouncingOptions, kadAnnouncingDefaults } from './kad/announcing.ts'
import { BoundedDatastore, type BoundedDatastoreOptions, type RecordRules } from './kad/bounded-datastore.ts'
import { type Dht, type PeerId, providerKey } from './kad/dht.ts'
import { type KadOptions, kadService } from './kad/service.ts'
import type { Libp2pHost } from './libp2p-host.ts'
import {
  headNamespace,
  parseRecordKey,
  recordKeyBytes,
  releaseNamespace,
  trustNamespace,
} from './record-key.ts'
import type {
  Announcement,
  Bulletin,
  KeyspaceRouter,
  RecordKey,
  RecordValidator,
  Region,
  Router,
} from './router.ts'

/**
 * `timeoutMs` bounds a whole operation on one key, where the caller's signal does not end it before, and each lookup;
 * `replication` is Kademlia's k.
 */
export interface KadRouterOptions
  extends Omit<KadOptions, 'network'>,
    BoundedDatastoreOptions,
    KadAnnouncingOptions {}

export const defaultKadRouterOptions: KadRouterOptions = {
  ...kadAnnouncingDefaults,
  // assets/release.ts: no record is larger.
  maxRecordBytes: 128 * 1024,
  maxStreamBytes: 192 * 1024,
  maxInboundPerPeer: 32,
  maxInbound: 128,
  maxAddressesPerPeer: 12,
  timeoutMs: 15_000,
  replication: 20,
  // A small network keeps everything everywhere: room for 50,000 records, a quarter of it for one peer or publisher.
  records: {
    ownerEntries: 12_500,
    ownerBytes: 64 * 1024 * 1024,
    totalEntries: 50_000,
    totalBytes: 256 * 1024 * 1024,
  },
  providers: {
    ownerEntries: 25_000,
    ownerBytes: 4 * 1024 * 1024,
    totalEntries: 100_000,
    totalBytes: 16 * 1024 * 1024,
  },
  maxProvidersPerKey: 64,
}

export interface KadRouterDeps extends RecordRules {
  readonly host: Libp2pHost
  readonly validate: RecordValidator
  readonly log: Log
}

const sweepIntervalMs = 3_600_000
const joinIntervalMs = 60_000

export class KadRouter implements Router, KeyspaceRouter, Service {
  readonly #deps: KadRouterDeps
  readonly #options: KadRouterOptions
  readonly #announcing: KadAnnouncing
  #dht: Dht | undefined
  #datastore: BoundedDatastore | undefined
  #peerStore: KadDHTComponents['peerStore'] | undefined
  #sweeper: NodeJS.Timeout | undefined
  readonly #stopping = new AbortController()
  #forgetListener: (() => void) | undefined
  #joinedAt = 0

  /** Joins the host's node: construct it before the host starts. */
  constructor(deps: KadRouterDeps, options: Partial<KadRouterOptions> = {}) {
    this.#deps = deps
    this.#options = { ...defaultKadRouterOptions, ...options }
    this.#announcing = new KadAnnouncing(
      {
        host: deps.host,
        running: () => this.#running(),
        learn: (peer, addresses) => this.#learn(peer, addresses),
      },
      // A stream is filled to what the other side reads of it, but for the room that lengths and tags take.
      { ...this.#options, maxStreamBytes: this.#options.maxStreamBytes - 16 * 1024 },
    )
    deps.host.addService('dht', components => this.#create(components as unknown as KadDHTComponents))
  }

  #create(components: KadDHTComponents): unknown {
    const check = (key: Uint8Array, value: Uint8Array) => this.#check(key, value)
    const best = (key: Uint8Array, values: Uint8Array[]) => this.#best(key, values)
    const service = kadService(
      {
        validators: { [releaseNamespace]: check, [headNamespace]: check, [trustNamespace]: check },
        selectors: { [releaseNamespace]: best, [headNamespace]: best, [trustNamespace]: best },
        wrapDatastore: inner => {
          this.#datastore = new BoundedDatastore(inner, this.#deps, this.#options)
          return this.#datastore.asDatastore()
        },
      },
      { ...this.#options, network: this.#deps.host.network },
    )
    this.#peerStore = components.peerStore
    const dht = service(components)
    this.#dht = dht as unknown as Dht
    return dht
  }

  /** After the host's. */
  async start(): Promise<void> {
    await this.#datastore?.load()
    this.#sweeper = setInterval(() => {
      this.#datastore
        ?.sweep()
        .catch(err => this.#deps.log.warn({ err }, 'expired records could not be removed'))
    }, sweepIntervalMs)
    this.#sweeper.unref()
    this.#forgetListener = this.#deps.host.onPeer((_peer, change) => {
      if (change === 'connected') this.#join()
    })
  }

  async stop(): Promise<void> {
    clearInterval(this.#sweeper)
    this.#forgetListener?.()
    this.#stopping.abort(new CatalogError('daemon-stopping', 'This node is stopping.'))
  }

  /** With the first peer, and now and then with another. */
  #join(): void {
    if (Date.now() - this.#joinedAt < joinIntervalMs) return
    this.#joinedAt = Date.now()
    this.#announcing
      .join(this.#stopping.signal)
      .catch(err => this.#deps.log.debug({ err }, 'this node could not be looked up'))
  }

  /** Peers in the routing table; all are or were members. */
  get contacts(): number {
    return this.#dht?.routingTable.size ?? 0
  }

  /** What other peers have placed here, and this node itself. */
  get counts(): { records: number; recordBytes: number; providers: number } {
    return this.#datastore?.counts ?? { records: 0, recordBytes: 0, providers: 0 }
  }

  /** Lookups made and streams opened for announcing, since the start. */
  get work(): { readonly lookups: number; readonly streams: number } {
    return this.#announcing.work
  }

  putRecord(key: RecordKey, value: Uint8Array, options: CallOptions = {}): Promise<number> {
    return this.#announceOne({ item: { kind: 'record', key }, value, told: new Set(), accepted: 0 }, options)
  }

  provide(cid: CidText, options: CallOptions = {}): Promise<number> {
    return this.#announceOne({ item: { kind: 'provide', cid }, told: new Set(), accepted: 0 }, options)
  }

  /**
   * Offers it to the connected peers nearest to the key at once, and to those that a lookup finds beside: a lookup
   * waits for dead peers, and what is published must be known to the connected ones within seconds.
   */
  async #announceOne(bulletin: Bulletin, options: CallOptions): Promise<number> {
    const signal = withTimeout(options.signal, this.#options.timeoutMs)
    const announcing = this.#announcing
    signal.throwIfAborted()
    await announcing.prepare(bulletin)
    const lookup = async () => {
      const { peers } = await announcing.explore(bulletin.item, { narrow: true, signal })
      await announcing.tell([bulletin], peers, { signal })
    }
    try {
      await Promise.all([announcing.tell([bulletin], announcing.neighbours(), { signal }), lookup()])
    } catch (error) {
      options.signal?.throwIfAborted()
      if (bulletin.accepted === 0 && signal.aborted)
        throw new CatalogError('timeout', `No peer answered in ${this.#options.timeoutMs} ms.`, {}, error)
      this.#deps.log.debug({ err: error }, 'a lookup in the DHT ended early')
    }
    return bulletin.accepted
  }

  locate(item: Announcement): Uint8Array {
    return this.#announcing.locate(item)
  }

  neighbours(): readonly PeerText[] {
    return this.#announcing.neighbours()
  }

  explore(item: Announcement, options: CallOptions & { readonly narrow?: boolean } = {}): Promise<Region> {
    return this.#announcing.explore(item, options)
  }

  tell(bulletins: readonly Bulletin[], peers: readonly PeerText[], options?: CallOptions): Promise<void> {
    return this.#announcing.tell(bulletins, peers, options)
  }

  unprovide(cid: CidText): Promise<void> {
    return this.#announcing.unprovide(cid)
  }

  async getRecord(key: RecordKey, options: CallOptions = {}): Promise<Uint8Array | undefined> {
    const { dht, datastore } = this.#running()
    const bytes = recordKeyBytes(key)
    const signal = withTimeout(options.signal, this.#options.timeoutMs)
    const values: Uint8Array[] = []
    const local = await datastore.value(bytes)
    if (local !== undefined && (await this.#isValid(bytes, local))) values.push(local)
    try {
      await raceAbort(this.#collect(dht, bytes, values, signal), signal)
    } catch (error) {
      options.signal?.throwIfAborted()
      // One stale or hostile replica ends kad-dht's query; what the others said is checked and worth the same.
      if (values.length === 0 && signal.aborted)
        throw new CatalogError(
          'timeout',
          `Nobody answered for the record in ${this.#options.timeoutMs} ms.`,
          {},
          error,
        )
    }
    const best = values[this.#best(bytes, values)]
    // Datastore and transport may give a Buffer: callers get what the port says.
    return best === undefined ? undefined : new Uint8Array(best)
  }

  /** Collects the values that passed the validator until the lookup ends; corrections go on behind the caller's back. */
  async #collect(dht: Dht, key: Uint8Array, values: Uint8Array[], signal: AbortSignal): Promise<void> {
    const events = dht.get(key, { signal })[Symbol.asyncIterator]()
    for (;;) {
      const { done, value: event } = await events.next()
      if (done === true) return
      if (event.name === 'PEER_RESPONSE' && event.path.index >= 0 && event.record !== undefined)
        values.push(event.record.value)
      if (event.path.index < 0) {
        void drain(events)
        return
      }
    }
  }

  async *findProviders(cid: CidText, options: CallOptions = {}): AsyncIterable<PeerText> {
    const { dht } = this.#running()
    const signal = withTimeout(options.signal, this.#options.timeoutMs)
    const seen = new Set([this.#deps.host.peer])
    const events = dht.findProviders(providerKey(cid), { signal })[Symbol.asyncIterator]()
    try {
      for (;;) {
        const { done, value: event } = await raceAbort(events.next(), signal)
        if (done === true) return
        if (event.name !== 'PROVIDER') continue
        for (const provider of event.providers) {
          const peer = provider.id.toString()
          if (seen.has(peer)) continue
          seen.add(peer)
          await this.#learn(provider.id, provider.multiaddrs)
          yield peer
        }
      }
    } catch (error) {
      options.signal?.throwIfAborted()
      this.#deps.log.debug({ err: error, cid }, 'a lookup of providers ended early')
    } finally {
      events.return?.(undefined).catch(() => undefined)
    }
  }

  /** So that the provider can be dialled when the caller opens a stream to it. */
  async #learn(peer: PeerId, addresses: readonly { toString(): string }[]): Promise<void> {
    const multiaddrs = addresses
      .slice(0, this.#options.maxAddressesPerPeer)
      .map(text => multiaddr(text.toString()))
    if (multiaddrs.length > 0) await this.#peerStore?.merge(peer, { multiaddrs }).catch(() => undefined)
  }

  async #check(key: Uint8Array, value: Uint8Array): Promise<void> {
    if (value.byteLength > this.#options.maxRecordBytes)
      throw new CatalogError('too-large', `A DHT record of ${value.byteLength} bytes was refused.`)
    const parsed = parseRecordKey(key)
    if (parsed === undefined) throw new CatalogError('bad-record', 'A DHT record has a key that is not ours.')
    await this.#deps.validate(parsed, value)
  }

  async #isValid(key: Uint8Array, value: Uint8Array): Promise<boolean> {
    return this.#check(key, value).then(
      () => true,
      () => false,
    )
  }

  #best(key: Uint8Array, values: readonly Uint8Array[]): number {
    const parsed = parseRecordKey(key)
    return parsed === undefined || values.length < 2 ? 0 : this.#deps.select(parsed, values)
  }

  #running(): { dht: Dht; datastore: BoundedDatastore } {
    if (this.#dht === undefined || this.#datastore === undefined)
      throw new CatalogError('daemon-stopping', 'The DHT is not running: the node is starting or stopping.')
    return { dht: this.#dht, datastore: this.#datastore }
  }
}

async function drain(events: AsyncIterator<unknown>): Promise<void> {
  try {
    while ((await events.next()).done !== true);
  } catch {
    // A replica that would not be corrected is its own loss.
  }
}
