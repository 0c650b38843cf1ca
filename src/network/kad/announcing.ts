// The KeyspaceRouter of Kademlia: explores regions by lookups of its own, and sends what belongs into them by the
// messages of kad-dht, many on a stream. What is told is stored here too, as kad-dht does.
import { Record as KadRecord, MessageType } from '@libp2p/kad-dht'
import { peerIdFromString } from '@libp2p/peer-id'
import { multiaddr } from '@multiformats/multiaddr'
import { equalBytes } from '../../base/cbor.ts'
import type { CidText } from '../../base/cid.ts'
import { raceAbort, withTimeout } from '../../base/deadline.ts'
import { CatalogError } from '../../base/errors.ts'
import { sha256 } from '../../base/hash.ts'
import type { CallOptions } from '../../base/lifecycle.ts'
import type { Host, PeerText } from '../host.ts'
import { recordKeyBytes } from '../record-key.ts'
import type { Announcement, Bulletin, KeyspaceRouter, Region } from '../router.ts'
import type { BoundedDatastore } from './bounded-datastore.ts'
import { type Delivery, type DeliveryOptions, deliver } from './delivery.ts'
import { announcementKey, type Dht, noPath, type PeerId, providerKey } from './dht.ts'
import { type Contact, exploreRegion } from './explore.ts'
import { lookupNearest } from './lookup.ts'
import { addProviderMessage, messageTypes, pingMessage, putValueMessage } from './messages.ts'
import { tellNearest } from './telling.ts'

export interface KadAnnouncingOptions extends DeliveryOptions {
  readonly replication: number
  readonly maxRecordBytes: number
  readonly maxAddressesPerPeer: number
  /** One lookup; one question of it. */
  readonly timeoutMs: number
  readonly askTimeoutMs: number
  readonly lookupConcurrency: number
  readonly maxAsked: number
  readonly maxLookups: number
  /** Peers that are sent to at once. */
  readonly tellConcurrency: number
}

export const kadAnnouncingDefaults = {
  // Below what the other side reads of one stream (`KadOptions.maxStreamBytes`), with room for one record of any size.
  maxStreamMessages: 512,
  answerTimeoutMs: 8000,
  maxBroken: 4,
  maxAnswerBytes: 192 * 1024,
  askTimeoutMs: 4000,
  lookupConcurrency: 8,
  maxAsked: 200,
  // As go-libp2p-kad-dht: far more than a region of 20 to 60 peers needs.
  maxLookups: 64,
  tellConcurrency: 16,
}

export interface KadAnnouncingDeps {
  readonly host: Pick<Host, 'peer' | 'addresses' | 'connections' | 'isConnected' | 'open'>
  /** @throws CatalogError `daemon-stopping` */
  readonly running: () => { readonly dht: Dht; readonly datastore: BoundedDatastore }
  /** Keeps addresses, so that the peer can be dialled. */
  readonly learn: (peer: PeerId, addresses: readonly { toString(): string }[]) => Promise<void>
}

const kadProtocolSuffix = '/kad/1.0.0'

export class KadAnnouncing implements KeyspaceRouter {
  readonly #deps: KadAnnouncingDeps
  readonly #options: KadAnnouncingOptions
  readonly #prepared = new WeakMap<Bulletin, Promise<Delivery>>()
  readonly #locations = new WeakMap<Bulletin, Uint8Array>()
  #lookups = 0
  #streams = 0

  constructor(deps: KadAnnouncingDeps, options: KadAnnouncingOptions) {
    this.#deps = deps
    this.#options = options
  }

  /** Lookups made and streams opened since the start. */
  get work(): { readonly lookups: number; readonly streams: number } {
    return { lookups: this.#lookups, streams: this.#streams }
  }

  locate(item: Announcement): Uint8Array {
    return sha256(announcementKey(item))
  }

  neighbours(): readonly PeerText[] {
    const { host } = this.#deps
    const peers = new Set(host.connections().map(({ peer }) => peer))
    return [...peers].filter(peer => host.isConnected(peer))
  }

  async explore(
    item: Announcement,
    options: CallOptions & { readonly narrow?: boolean } = {},
  ): Promise<Region> {
    const { replication, maxLookups } = this.#options
    return exploreRegion(announcementKey(item), options.narrow === true, {
      replication,
      maxLookups,
      locate: sha256,
      lookup: key => this.#lookup(key, options.signal),
    })
  }

  /**
   * Looks this node itself up, so that those who are nearest know it: without that they are not told what is theirs to
   * keep. kad-dht does so a second after the start, when there may be no peer yet, and then every five minutes.
   */
  async join(signal: AbortSignal): Promise<void> {
    await this.#lookup(peerIdFromString(this.#deps.host.peer).toMultihash().bytes, signal)
  }

  async #lookup(key: Uint8Array, caller: AbortSignal | undefined): Promise<readonly Contact[]> {
    caller?.throwIfAborted()
    const { dht } = this.#deps.running()
    const { replication, lookupConcurrency, maxAsked, timeoutMs } = this.#options
    const target = sha256(key)
    const near = dht.routingTable.closestPeers(target).map(peer => peer.toString())
    const start = [...new Set([...near, ...this.neighbours()])].map(contactOf)
    const signal = withTimeout(caller, timeoutMs)
    this.#lookups++
    const work = lookupNearest(target, start, {
      replication,
      maxAsked,
      concurrency: lookupConcurrency,
      ask: peer => this.#ask(dht, peer, key, signal),
    })
    return raceAbort(work, signal)
  }

  /** FIND_NODE. */
  async #ask(dht: Dht, peer: PeerText, key: Uint8Array, lookup: AbortSignal): Promise<readonly Contact[]> {
    const signal = withTimeout(lookup, this.#options.askTimeoutMs)
    const question = async (): Promise<readonly Contact[]> => {
      const request = { type: MessageType.FIND_NODE, key }
      const events = dht.network.sendRequest(peerIdFromString(peer), request, { signal, path: noPath })
      for await (const event of events) {
        if (event.name === 'QUERY_ERROR') throw event.error
        if (event.name !== 'PEER_RESPONSE') continue
        const others = event.closer.filter(({ id }) => id.toString() !== this.#deps.host.peer)
        const named = others.slice(0, 2 * this.#options.replication)
        await Promise.all(named.map(({ id, multiaddrs }) => this.#learn(id, multiaddrs)))
        return named.map(({ id }) => contactOf(id.toString()))
      }
      throw new Error('the peer did not answer')
    }
    return raceAbort(question(), signal)
  }

  async #learn(id: PeerId, addresses: readonly { toString(): string }[]): Promise<void> {
    if (!this.#deps.host.isConnected(id.toString())) await this.#deps.learn(id, addresses)
  }

  async tell(
    bulletins: readonly Bulletin[],
    peers: readonly PeerText[],
    options: CallOptions = {},
  ): Promise<void> {
    options.signal?.throwIfAborted()
    const ready: Bulletin[] = []
    for (const bulletin of bulletins)
      try {
        await this.prepare(bulletin)
        ready.push(bulletin)
      } catch (error) {
        bulletin.refusal = (error as Error).message
      }
    const contacts = [...new Set(peers)].filter(peer => peer !== this.#deps.host.peer).map(contactOf)
    const { replication, tellConcurrency } = this.#options
    await tellNearest(
      ready,
      contacts,
      {
        replication,
        concurrency: tellConcurrency,
        locate: bulletin => this.#locate(bulletin),
        send: (peer, mine, signal) => this.#send(peer, mine, signal),
      },
      options.signal ?? new AbortController().signal,
    )
  }

  /** Stores what is told here too, and makes its message; once for each. @throws CatalogError `too-large`, `stale-record` */
  async prepare(bulletin: Bulletin): Promise<void> {
    await this.#delivery(bulletin)
  }

  #delivery(bulletin: Bulletin): Promise<Delivery> {
    const delivery = this.#prepared.get(bulletin) ?? this.#makeDelivery(bulletin)
    this.#prepared.set(bulletin, delivery)
    return delivery
  }

  async #makeDelivery({ item, value }: Bulletin): Promise<Delivery> {
    if (item.kind === 'provide') return this.#prepareProvider(item.cid)
    if (value === undefined)
      throw new CatalogError('bad-record', 'A record was to be announced without its bytes.')
    return this.#prepareRecord(recordKeyBytes(item.key), value)
  }

  async #prepareRecord(key: Uint8Array, value: Uint8Array): Promise<Delivery> {
    const { maxRecordBytes } = this.#options
    if (value.byteLength > maxRecordBytes)
      throw new CatalogError(
        'too-large',
        `The record is ${value.byteLength} bytes; peers accept ${maxRecordBytes}.`,
      )
    const record = new KadRecord(key, value, new Date()).serialize().slice()
    await this.#deps.running().datastore.putOwn(key, record)
    return {
      bytes: putValueMessage(key, record),
      confirms: answer =>
        answer.type === messageTypes.putValue &&
        answer.record !== undefined &&
        equalBytes(KadRecord.deserialize(answer.record).value, value),
    }
  }

  async #prepareProvider(cid: CidText): Promise<Delivery> {
    const key = providerKey(cid)
    const self = peerIdFromString(this.#deps.host.peer)
    await this.#deps.running().dht.providers.addProvider(key, self)
    const addresses = this.#deps.host.addresses().slice(0, this.#options.maxAddressesPerPeer)
    const message = addProviderMessage(
      key.multihash.bytes,
      self.toMultihash().bytes,
      addresses.map(text => multiaddr(text).bytes),
    )
    return {
      bytes: new Uint8Array(Buffer.concat([message, pingMessage()])),
      confirms: answer => answer.type === messageTypes.ping,
    }
  }

  async unprovide(cid: CidText): Promise<void> {
    const self = peerIdFromString(this.#deps.host.peer)
    await this.#deps.running().dht.providers.removeProvider(providerKey(cid), self)
  }

  async #send(peer: PeerText, bulletins: readonly Bulletin[], signal: AbortSignal): Promise<void> {
    const deliveries = await Promise.all(bulletins.map(bulletin => this.#delivery(bulletin)))
    const open = (openSignal: AbortSignal) => {
      this.#streams++
      return this.#deps.host.open(peer, kadProtocolSuffix, { signal: openSignal })
    }
    const { confirmed, broken } = await deliver(deliveries, open, this.#options, signal)
    for (const [i, bulletin] of bulletins.entries())
      if (confirmed[i] === true) bulletin.accepted++
      else if (broken !== undefined) bulletin.refusal = `${peer}: ${broken.message}`
  }

  #locate(bulletin: Bulletin): Uint8Array {
    const location = this.#locations.get(bulletin) ?? this.locate(bulletin.item)
    this.#locations.set(bulletin, location)
    return location
  }
}

const contactOf = (peer: PeerText): Contact => ({
  peer,
  location: sha256(peerIdFromString(peer).toMultihash().bytes),
})
