// The Router over Kademlia (@libp2p/kad-dht 16) inside the host's libp2p node. Records are signed values that expire
// after 48 hours (announcer.ts puts them again); providers are peers that hold a content root or a head of a name.
//
// On the wire: the libp2p kad-dht protocol under `/catalog/<network>/kad/1.0.0`; record keys as record-key.ts says; a
// provider key is the SHA-256 multihash of the CID's text, because kad-dht reads the key as a CIDv0 and refuses every
// other hash. A record is refused where it is stored unless its key is ours, its size within `maxRecordBytes`, the
// validator passes it, and nothing better is stored under its key; what one peer or publisher places is bounded.
import { type KadDHTComponents, Record as KadRecord, MessageType, type QueryEvent } from '@libp2p/kad-dht'
import { peerIdFromString } from '@libp2p/peer-id'
import { multiaddr } from '@multiformats/multiaddr'
import { CID } from 'multiformats/cid'
import * as Digest from 'multiformats/hashes/digest'
import { equalBytes } from '../base/cbor.ts'
import type { CidText } from '../base/cid.ts'
import { CatalogError } from '../base/errors.ts'
import { sha256 } from '../base/hash.ts'
import type { CallOptions, Service } from '../base/lifecycle.ts'
import type { Log } from '../base/log.ts'
import { raceAbort, withTimeout } from './deadline.ts'
import type { PeerText } from './host.ts'
import { BoundedDatastore, type BoundedDatastoreOptions, type RecordRules } from './kad/bounded-datastore.ts'
import { type KadOptions, kadService } from './kad/service.ts'
import type { Libp2pHost } from './libp2p-host.ts'
import { headNamespace, parseRecordKey, recordKeyBytes, releaseNamespace } from './record-key.ts'
import type { RecordKey, RecordValidator, Router } from './router.ts'

export interface KadRouterOptions extends Omit<KadOptions, 'network'>, BoundedDatastoreOptions {
  readonly maxRecordBytes: number
  /** A whole operation, where the caller's signal does not end it before. */
  readonly timeoutMs: number
  /** Peers that a record or provider is offered to: Kademlia's k. */
  readonly replication: number
}

export const defaultKadRouterOptions: KadRouterOptions = {
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

/** The parts of kad-dht that are used beside its documented interface, which cannot say who accepted a record. */
interface Dht {
  readonly network: {
    sendRequest(to: PeerId, message: KadMessage, options: SendOptions): AsyncIterable<QueryEvent>
    sendMessage(to: PeerId, message: KadMessage, options: SendOptions): AsyncIterable<QueryEvent>
  }
  readonly providers: {
    addProvider(cid: CID, peer: PeerId): Promise<void>
    removeProvider(cid: CID, peer: PeerId): Promise<void>
  }
  getClosestPeers(key: Uint8Array, options: CallOptions): AsyncIterable<QueryEvent>
  get(key: Uint8Array, options: CallOptions): AsyncIterable<QueryEvent>
  findProviders(cid: CID, options: CallOptions): AsyncIterable<QueryEvent>
}

type PeerId = ReturnType<typeof peerIdFromString>

interface KadMessage {
  readonly type: MessageType
  readonly key: Uint8Array
  readonly record?: Uint8Array
  readonly providers?: readonly { readonly id: Uint8Array; readonly multiaddrs: readonly Uint8Array[] }[]
}

interface SendOptions extends CallOptions {
  readonly path: { index: number; queued: number; running: number; total: number }
}

const noPath = { index: -1, queued: 0, running: 0, total: 0 }
const sweepIntervalMs = 3_600_000

export class KadRouter implements Router, Service {
  readonly #deps: KadRouterDeps
  readonly #options: KadRouterOptions
  #dht: Dht | undefined
  #datastore: BoundedDatastore | undefined
  #peerStore: KadDHTComponents['peerStore'] | undefined
  #sweeper: NodeJS.Timeout | undefined

  /** Joins the host's node: construct it before the host starts. */
  constructor(deps: KadRouterDeps, options: Partial<KadRouterOptions> = {}) {
    this.#deps = deps
    this.#options = { ...defaultKadRouterOptions, ...options }
    deps.host.addService('dht', components => this.#create(components as unknown as KadDHTComponents))
  }

  #create(components: KadDHTComponents): unknown {
    const check = (key: Uint8Array, value: Uint8Array) => this.#check(key, value)
    const best = (key: Uint8Array, values: Uint8Array[]) => this.#best(key, values)
    const service = kadService(
      {
        validators: { [releaseNamespace]: check, [headNamespace]: check },
        selectors: { [releaseNamespace]: best, [headNamespace]: best },
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
  }

  async stop(): Promise<void> {
    clearInterval(this.#sweeper)
  }

  /** What other peers have placed here, and this node itself. */
  get counts(): { records: number; recordBytes: number; providers: number } {
    return this.#datastore?.counts ?? { records: 0, recordBytes: 0, providers: 0 }
  }

  async putRecord(key: RecordKey, value: Uint8Array, options: CallOptions = {}): Promise<number> {
    if (value.byteLength > this.#options.maxRecordBytes)
      throw new CatalogError(
        'too-large',
        `The record is ${value.byteLength} bytes; peers accept ${this.#options.maxRecordBytes}.`,
      )
    const { dht, datastore } = this.#running()
    const bytes = recordKeyBytes(key)
    const record = new KadRecord(bytes, value, new Date()).serialize().slice()
    await datastore.putOwn(bytes, record)
    const message = { type: MessageType.PUT_VALUE, key: bytes, record }
    return this.#offer(bytes, options, async (peer, signal) => {
      for await (const event of dht.network.sendRequest(peer, message, { signal, path: noPath }))
        if (event.name === 'PEER_RESPONSE' && event.record !== undefined)
          return equalBytes(event.record.value, value)
      return false
    })
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

  async provide(cid: CidText, options: CallOptions = {}): Promise<number> {
    const { dht } = this.#running()
    const key = providerKey(cid)
    const self = peerIdFromString(this.#deps.host.peer)
    await dht.providers.addProvider(key, self)
    const addresses = this.#deps.host.addresses().slice(0, this.#options.maxAddressesPerPeer)
    const message = {
      type: MessageType.ADD_PROVIDER,
      key: key.multihash.bytes,
      providers: [{ id: self.toMultihash().bytes, multiaddrs: addresses.map(text => multiaddr(text).bytes) }],
    }
    return this.#offer(key.multihash.bytes, options, async (peer, signal) => {
      for await (const event of dht.network.sendMessage(peer, message, { signal, path: noPath }))
        if (event.name === 'PEER_RESPONSE') return true
      return false
    })
  }

  async unprovide(cid: CidText): Promise<void> {
    const { dht } = this.#running()
    await dht.providers.removeProvider(providerKey(cid), peerIdFromString(this.#deps.host.peer))
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
  async #learn(peer: PeerId, addresses: { toString(): string }[]): Promise<void> {
    const multiaddrs = addresses
      .slice(0, this.#options.maxAddressesPerPeer)
      .map(text => multiaddr(text.toString()))
    if (multiaddrs.length > 0) await this.#peerStore?.merge(peer, { multiaddrs }).catch(() => undefined)
  }

  /**
   * Offers something to the connected peers nearest to the key at once, and to those that a lookup finds beside:
   * a lookup waits for dead peers, and what is published must be known to the connected ones within seconds.
   */
  async #offer(
    key: Uint8Array,
    options: CallOptions,
    send: (peer: PeerId, signal: AbortSignal) => Promise<boolean>,
  ): Promise<number> {
    const { dht } = this.#running()
    const signal = withTimeout(options.signal, this.#options.timeoutMs)
    const told = new Set([this.#deps.host.peer])
    let accepted = 0
    const tell = async (peer: PeerId): Promise<void> => {
      if (told.has(peer.toString())) return
      told.add(peer.toString())
      if (await send(peer, signal).catch(() => false)) accepted++
    }
    const lookup = async (): Promise<void> => {
      const found: Promise<void>[] = []
      for await (const event of dht.getClosestPeers(key, { signal }))
        if (event.name === 'FINAL_PEER') found.push(tell(event.peer.id))
      await Promise.all(found)
    }
    try {
      await raceAbort(Promise.all([...this.#nearest(key).map(tell), lookup()]), signal)
    } catch (error) {
      options.signal?.throwIfAborted()
      if (accepted === 0 && signal.aborted)
        throw new CatalogError('timeout', `No peer answered in ${this.#options.timeoutMs} ms.`, {}, error)
      this.#deps.log.debug({ err: error }, 'a lookup in the DHT ended early')
    }
    return accepted
  }

  /** The connected members nearest to the key, by Kademlia's distance (SHA-256, XOR). */
  #nearest(key: Uint8Array): PeerId[] {
    const { host } = this.#deps
    const peers = new Set(host.connections().map(connection => connection.peer))
    const target = sha256(key)
    return [...peers]
      .filter(peer => host.isConnected(peer))
      .map(peer => {
        const id = peerIdFromString(peer)
        return { id, distance: sha256(id.toMultihash().bytes).map((byte, i) => byte ^ (target[i] ?? 0)) }
      })
      .sort((a, b) => Buffer.compare(a.distance, b.distance))
      .slice(0, this.#options.replication)
      .map(({ id }) => id)
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

/** kad-dht reads provider keys as CIDv0, which can only carry SHA-256; so the CID's text is hashed. */
function providerKey(cid: CidText): CID {
  return CID.createV1(0x55, Digest.create(0x12, sha256(new TextEncoder().encode(cid))))
}

async function drain(events: AsyncIterator<unknown>): Promise<void> {
  try {
    while ((await events.next()).done !== true);
  } catch {
    // A replica that would not be corrected is its own loss.
  }
}
