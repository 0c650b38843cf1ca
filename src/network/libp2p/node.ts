// Builds the libp2p node that the host drives: transports, limits, datastore, services. It decides nothing at run time.
import { identify } from '@libp2p/identify'
import type { Address, AddressSorter, Libp2p, PrivateKey, Transport } from '@libp2p/interface'
import { noise } from '@libp2p/noise'
import { ping } from '@libp2p/ping'
import { tcp } from '@libp2p/tcp'
import { yamux } from '@libp2p/yamux'
import type { Multiaddr } from '@multiformats/multiaddr'
import { createLibp2p, type Libp2pOptions } from 'libp2p'
import { maxBufferedBytes } from '../host.ts'
import { loadQuicBinding, type QuicBinding } from './quic/binding.ts'
import { type QuicComponents, quic } from './quic/transport.ts'
import { silentLogger } from './silent-logger.ts'

export type Datastore = NonNullable<Libp2pOptions['datastore']>
export type ServiceFactories = NonNullable<Libp2pOptions['services']>

export interface NodeOptions {
  readonly privateKey: PrivateKey
  /** Absent: libp2p's own, in memory. */
  readonly datastore?: Datastore
  readonly listen: readonly string[]
  readonly network: string
  readonly mdns: boolean
  readonly maxConnections: number
  readonly maxInboundConnectionsPerSecond: number
  readonly maxPendingInbound: number
  readonly dialTimeoutMs: number
  readonly addressDialTimeoutMs: number
  /** Made before all others, so that they are behind it. */
  readonly gate: ServiceFactories[string]
  readonly services: ServiceFactories
}

const hourMs = 3_600_000
/** Provider records live 48 hours; without its provider's addresses such a record is worth nothing. */
const addressAgeMs = 48 * hourMs

/** Builds the node without starting it. */
export async function createNode(options: NodeOptions): Promise<Libp2p> {
  const binding = await loadQuicBinding()
  const silent = new SilentAddresses()
  return createLibp2p({
    start: false,
    logger: silentLogger,
    privateKey: options.privateKey,
    ...(options.datastore === undefined ? {} : { datastore: options.datastore }),
    nodeInfo: { name: 'hypermesh-catalog', version: '1', userAgent: 'hypermesh-catalog/1' },
    addresses: { listen: [...options.listen] },
    transports: [
      quicTransport(binding, options.dialTimeoutMs, silent),
      tcp({ maxConnections: options.maxConnections }),
    ],
    connectionEncrypters: [noise()],
    // The window never grows beyond what may wait unread, so a paused stream holds its sender back and is not cut.
    streamMuxers: [
      yamux({
        streamOptions: { maxStreamWindowSize: maxBufferedBytes, maxReadBufferLength: maxBufferedBytes },
      }),
    ],
    connectionManager: {
      maxConnections: options.maxConnections,
      inboundConnectionThreshold: options.maxInboundConnectionsPerSecond,
      maxIncomingPendingConnections: options.maxPendingInbound,
      maxParallelDials: 32,
      maxDialQueueLength: 200,
      maxPeerAddrsToDial: 12,
      dialTimeout: options.dialTimeoutMs,
      addressDialTimeout: options.addressDialTimeoutMs,
      addressSorter: compareAddresses(silent) as AddressSorter,
      inboundUpgradeTimeout: options.dialTimeoutMs,
      // We redial the peers that matter ourselves (known-peers.ts).
      reconnectRetries: 0,
      // Only this node's operator names names (dns.ts): a peer's address never makes this node ask DNS.
      resolvers: {},
    },
    // A busy event loop answers late: patience here, QUIC has its own idle timeout.
    connectionMonitor: { pingInterval: 15_000, pingTimeout: { minTimeout: 15_000 } },
    // Private addresses are what a private network is made of: nothing is filtered.
    connectionGater: { denyDialMultiaddr: () => false },
    peerStore: { maxAddressAge: addressAgeMs, maxPeerAge: addressAgeMs },
    peerDiscovery: options.mdns
      ? // Loaded where it is wanted: most nodes go without.
        [
          (await import('@libp2p/mdns')).mdns({
            serviceTag: `_catalog-${options.network.replaceAll('.', '-')}._udp.local`,
          }),
        ]
      : [],
    services: {
      gate: options.gate,
      identify: identify({ timeout: 5000, maxMessageSize: 32 * 1024, maxObservedAddresses: 10 }),
      ping: ping({ maxInboundStreams: 4 }),
      ...options.services,
    },
  })
}

/** QUIC addresses that did not answer lately, and when: they go behind TCP, where a network may drop all UDP. */
class SilentAddresses {
  readonly #since = new Map<string, number>()

  add(address: Multiaddr): void {
    const key = address.toString()
    this.#since.delete(key)
    this.#since.set(key, Date.now())
    const oldest = this.#since.keys().next().value
    if (this.#since.size > 500 && oldest !== undefined) this.#since.delete(oldest)
  }

  delete(address: Multiaddr): void {
    this.#since.delete(address.toString())
  }

  has(address: Multiaddr): boolean {
    return (this.#since.get(address.toString()) ?? 0) > Date.now() - 60_000
  }
}

/** Our QUIC transport, which remembers the addresses that did not answer. */
function quicTransport(
  binding: QuicBinding,
  dialTimeoutMs: number,
  silent: SilentAddresses,
): (components: QuicComponents) => Transport {
  const create = quic(binding, { handshakeTimeoutMs: dialTimeoutMs })
  return components => {
    const transport = create(components)
    const dial = transport.dial.bind(transport)
    transport.dial = async (address, options) => {
      try {
        const connection = await dial(address, options)
        silent.delete(address)
        return connection
      } catch (error) {
        silent.add(address)
        throw error
      }
    }
    return transport
  }
}

/** The order to dial in: direct before relayed, QUIC before TCP unless it was silent, other machines' loopback last. */
function compareAddresses(silent: SilentAddresses): (a: Address, b: Address) => number {
  const rank = ({ multiaddr }: Address) =>
    (isRelayed(multiaddr) ? 8 : 0) +
    (silent.has(multiaddr) ? 4 : 0) +
    (isQuic(multiaddr) ? 0 : 2) +
    (isLoopback(multiaddr) ? 1 : 0)
  return (a, b) => rank(a) - rank(b)
}

const names = (address: Multiaddr) => address.getComponents().map(component => component.name)
export const isQuic = (address: Multiaddr) => names(address).includes('quic-v1')
const isRelayed = (address: Multiaddr) => names(address).includes('p2p-circuit')
const isLoopback = (address: Multiaddr) => /^\/ip(4\/127\.|6\/::1\/)/.test(address.toString())
