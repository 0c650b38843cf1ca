// Builds the libp2p node that the host drives: transports, limits, datastore, services. It decides nothing at run time.
import { type QuicComponents, quic } from '@chainsafe/libp2p-quic'
import { identify } from '@libp2p/identify'
import type { Address, AddressSorter, Libp2p, PrivateKey, Transport } from '@libp2p/interface'
import { mdns } from '@libp2p/mdns'
import { noise } from '@libp2p/noise'
import { ping } from '@libp2p/ping'
import { tcp } from '@libp2p/tcp'
import { yamux } from '@libp2p/yamux'
import type { Multiaddr } from '@multiformats/multiaddr'
import { createLibp2p, type Libp2pOptions } from 'libp2p'
import { raceAbort } from '../deadline.ts'
import { maxBufferedBytes } from '../host.ts'
import { mendQuicBinding } from './quic-binding.ts'
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
  readonly services: ServiceFactories
}

const hourMs = 3_600_000
/** Provider records live 48 hours; without its provider's addresses such a record is worth nothing. */
const addressAgeMs = 48 * hourMs

/** Builds the node without starting it. */
export async function createNode(options: NodeOptions): Promise<Libp2p> {
  await mendQuicBinding()
  const silent = new SilentAddresses()
  return createLibp2p({
    start: false,
    logger: silentLogger,
    privateKey: options.privateKey,
    ...(options.datastore === undefined ? {} : { datastore: options.datastore }),
    nodeInfo: { name: 'hypermesh-catalog', version: '1', userAgent: 'hypermesh-catalog/1' },
    addresses: { listen: [...options.listen] },
    transports: [
      quicTransport(options.dialTimeoutMs, silent),
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
    },
    // A busy event loop answers late: patience here, QUIC has its own idle timeout.
    connectionMonitor: { pingInterval: 15_000, pingTimeout: { minTimeout: 15_000 } },
    // Private addresses are what a private network is made of: nothing is filtered.
    connectionGater: { denyDialMultiaddr: () => false },
    peerStore: { maxAddressAge: addressAgeMs, maxPeerAge: addressAgeMs },
    peerDiscovery: options.mdns
      ? [mdns({ serviceTag: `_catalog-${options.network.replaceAll('.', '-')}._udp.local` })]
      : [],
    services: {
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

function quicTransport(
  dialTimeoutMs: number,
  silent: SilentAddresses,
): (components: QuicComponents) => Transport {
  const config = {
    handshakeTimeout: dialTimeoutMs,
    // A peer that is killed says nothing: this long until its streams break off. In milliseconds.
    maxIdleTimeout: 10_000,
    keepAliveInterval: 4_000,
    maxConcurrentStreamLimit: 256,
    maxStreamData: maxBufferedBytes,
    // One stream that nobody reads must not use up the window of all others on its connection.
    maxConnectionData: 6 * maxBufferedBytes,
    // The native code refuses to construct without it; the wrapper's type does not know it. In milliseconds.
    shutdownTimeout: 3000,
  }
  return components => {
    const transport = quic(config as Parameters<typeof quic>[0])(components)
    const dial = transport.dial.bind(transport)
    // The wrapper's dial ignores its signal: a dead address would block the next one for ten seconds. One that
    // succeeds later closes itself: the upgrade that follows sees the same signal.
    transport.dial = async (address, options) => {
      try {
        const connection = await raceAbort(dial(address, options), options.signal)
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
