// kad-dht, configured for this network and fenced: what its handlers see of the node is wrapped, so that they know
// who asks, read no more than a request can be, and survive peers that are forgotten. It decides nothing about values.
import { type KadDHTComponents, type KadDHTInit, kadDHT, passthroughMapper } from '@libp2p/kad-dht'
import { CatalogError } from '../../base/errors.ts'
import { type Datastore, requester } from './bounded-datastore.ts'

type Registrar = KadDHTComponents['registrar']
type PeerStore = KadDHTComponents['peerStore']
type Handler = Parameters<Registrar['handle']>[1]

export interface KadOptions {
  readonly network: string
  /** All that one stream may bring: a record, its key and the framing. In bytes. */
  readonly maxStreamBytes: number
  /** Requests being answered at once, for one peer and in all. */
  readonly maxInboundPerPeer: number
  readonly maxInbound: number
  /** Addresses kept of what one message says about a peer. */
  readonly maxAddressesPerPeer: number
  /** Kademlia's k. */
  readonly replication: number
}

export interface KadParts {
  readonly validators: NonNullable<KadDHTInit['validators']>
  readonly selectors: NonNullable<KadDHTInit['selectors']>
  wrapDatastore(inner: Datastore): Datastore
}

/** Parties: any two members. Messages and limits: https://github.com/libp2p/specs/tree/master/kad-dht, and `KadOptions`. */
export const kadProtocol = (network: string) => `/catalog/${network}/kad/1.0.0`

export function kadService(parts: KadParts, options: KadOptions) {
  const create = kadDHT({
    protocol: kadProtocol(options.network),
    // A private network has no public addresses by which a client would become a server.
    clientMode: false,
    peerInfoMapper: passthroughMapper,
    allowQueryWithZeroPeers: true,
    kBucketSize: options.replication,
    // Announcing again is announcer.ts's: kad-dht would look up every key of this node by itself. It still cleans up.
    reprovide: { threshold: Number.NEGATIVE_INFINITY },
    validators: { ...parts.validators, pk: refuse },
    selectors: parts.selectors,
    maxInboundStreams: options.maxInboundPerPeer,
    maxOutboundStreams: 64,
    incomingMessageTimeout: 5000,
    routingTableUpdateMaxQueueSize: 1024,
    networkDialTimeout: { minTimeout: 3000, maxTimeout: 8000 },
  })
  return (components: KadDHTComponents) => {
    const registrar = fencedRegistrar(components.registrar, options)
    const peerStore = patientPeerStore(components, options.maxAddressesPerPeer)
    const datastore = parts.wrapDatastore(components.datastore)
    const replaced: Partial<KadDHTComponents> = { registrar, peerStore, datastore }
    const all = new Proxy(components, {
      get: (target, name) => Reflect.get(replaced, name) ?? Reflect.get(target, name),
    })
    return create(all)
  }
}

/** kad-dht would also store any peer's public key for anybody; no record of ours needs that. */
function refuse(): never {
  throw new CatalogError('bad-record', 'This network keeps no public key records.')
}

function fencedRegistrar(inner: Registrar, options: KadOptions): Registrar {
  let open = 0
  const fence =
    (handler: Handler): Handler =>
    async (stream, connection) => {
      if (open >= options.maxInbound) {
        stream.abort(new CatalogError('busy', 'Too many DHT requests are being answered.'))
        return
      }
      open++
      let bytes = 0
      stream.maxReadBufferLength = options.maxStreamBytes
      stream.addEventListener('message', event => {
        bytes += event.data.byteLength
        if (bytes > options.maxStreamBytes)
          stream.abort(
            new CatalogError('too-large', `A DHT stream brought more than ${options.maxStreamBytes} bytes.`),
          )
      })
      try {
        await requester.run(connection.remotePeer.toString(), async () => handler(stream, connection))
      } catch (error) {
        stream.abort(error as Error)
      } finally {
        open--
      }
    }
  return withMethods(inner, {
    handle: (protocol, handler, handleOptions) => inner.handle(protocol, fence(handler), handleOptions),
  })
}

/**
 * While a peer's request is answered, a peer that the store has forgotten has no addresses rather than ending the
 * whole answer (kad-dht 16: one forgotten provider hides all others), this node's own addresses are those it has now
 * (libp2p writes them down a second late), and nobody fills the store with addresses.
 */
function patientPeerStore(components: KadDHTComponents, maxAddresses: number): PeerStore {
  const { peerStore: inner, peerId, addressManager } = components
  return withMethods(inner, {
    get: async (id, options) => {
      try {
        const peer = await inner.get(id, options)
        if (!id.equals(peerId) || peer.addresses.length > 0) return peer
        const addresses = addressManager.getAddresses().map(multiaddr => ({ multiaddr, isCertified: false }))
        return { ...peer, addresses }
      } catch (error) {
        if (requester.getStore() === undefined || (error as Error).name !== 'NotFoundError') throw error
        return { id, addresses: [], protocols: [], metadata: new Map(), tags: new Map() }
      }
    },
    merge: (id, data, options) => {
      const addresses = data.multiaddrs?.slice(0, maxAddresses)
      return inner.merge(id, addresses === undefined ? data : { ...data, multiaddrs: addresses }, options)
    },
  })
}

function withMethods<T extends object>(inner: T, methods: Partial<T>): T {
  return new Proxy(inner, {
    get: (target, name) => {
      const own = Reflect.get(methods, name)
      if (own !== undefined) return own
      const member = Reflect.get(target, name)
      return typeof member === 'function' ? member.bind(target) : member
    },
  })
}
