// The QUIC transport of libp2p over the native code: dials within the caller's signal, checks who answers, makes
// listeners. It reports the counters of @chainsafe/libp2p-quic under their names. Everything else is in its streams.
import { privateKeyToProtobuf } from '@libp2p/crypto/keys'
import {
  type ComponentLogger,
  type Connection,
  type CounterGroup,
  type CreateListenerOptions,
  type DialTransportOptions,
  type Listener,
  type Metrics,
  type PrivateKey,
  type Startable,
  serviceCapabilities,
  type Transport,
  transportSymbol,
} from '@libp2p/interface'
import { peerIdFromString } from '@libp2p/peer-id'
import type { Multiaddr } from '@multiformats/multiaddr'
import { raceAbort } from '../../../base/deadline.ts'
import { namedPeer, onlyQuic, udpAddress } from './addresses.ts'
import type { NativeClient, NativeConnection, QuicBinding, QuinnConfig, QuinnSettings } from './binding.ts'
import { QuicConnection } from './connection.ts'
import { QuicListener } from './listener.ts'
import { quicMuxerFactory } from './muxer.ts'
import { defaultQuicOptions, type QuicOptions } from './options.ts'

/** What libp2p gives a transport. */
export interface QuicComponents {
  readonly privateKey: PrivateKey
  readonly logger: ComponentLogger
  readonly metrics?: Metrics
}

export interface QuicTransportDeps extends QuicComponents {
  readonly binding: QuicBinding
}

/** A transport for libp2p's list. */
export function quic(
  binding: QuicBinding,
  options: Partial<QuicOptions> = {},
): (components: QuicComponents) => QuicTransport {
  return components =>
    new QuicTransport(
      {
        binding,
        privateKey: components.privateKey,
        logger: components.logger,
        ...(components.metrics === undefined ? {} : { metrics: components.metrics }),
      },
      options,
    )
}

export class QuicTransport implements Transport, Startable {
  readonly [transportSymbol] = true
  readonly [Symbol.toStringTag] = 'quic'
  readonly [serviceCapabilities] = ['@libp2p/transport']
  readonly #deps: QuicTransportDeps
  readonly #options: QuicOptions
  readonly #config: QuinnConfig
  readonly #events: CounterGroup | undefined
  readonly #errors: CounterGroup | undefined
  /** One socket for all that is dialled, per family; opened when it is first needed. */
  readonly #clients = new Map<4 | 6, NativeClient>()
  #stopped = false

  constructor(deps: QuicTransportDeps, options: Partial<QuicOptions> = {}) {
    this.#deps = deps
    this.#options = { ...defaultQuicOptions, ...options }
    this.#config = new deps.binding.QuinnConfig(settingsOf(deps.privateKey, this.#options))
    this.#events = deps.metrics?.registerCounterGroup('libp2p_quic_dialer_events_total', {
      label: 'event',
      help: 'Total count of QUIC dialer events by type',
    })
    this.#errors = deps.metrics?.registerCounterGroup('libp2p_quic_dialer_errors_total', {
      label: 'event',
      help: 'Total count of QUIC dialer errors by type',
    })
  }

  listenFilter(addresses: Multiaddr[]): Multiaddr[] {
    return onlyQuic(addresses)
  }

  dialFilter(addresses: Multiaddr[]): Multiaddr[] {
    return onlyQuic(addresses)
  }

  async start(): Promise<void> {
    this.#stopped = false
  }

  /** Ends what was dialled, and dials under way. */
  async stop(): Promise<void> {
    this.#stopped = true
    for (const client of this.#clients.values()) client.abort()
    this.#clients.clear()
  }

  createListener(options: CreateListenerOptions): Listener {
    const { binding, logger, metrics } = this.#deps
    return new QuicListener(
      { binding, config: this.#config, upgrader: options.upgrader, logger, metrics },
      this.#options,
    )
  }

  /** @throws Error where nobody answers, or another peer than the address names; the signal's reason */
  async dial(address: Multiaddr, options: DialTransportOptions): Promise<Connection> {
    options.signal.throwIfAborted()
    const connection = await this.#connect(address, options.signal)
    let wrapped: QuicConnection | undefined
    try {
      wrapped = this.#wrap(connection)
      checkPeer(address, wrapped)
      return await options.upgrader.upgradeOutbound(wrapped, {
        skipEncryption: true,
        skipProtection: true,
        remotePeer: wrapped.remotePeer,
        muxerFactory: quicMuxerFactory(connection, this.#options),
        signal: options.signal,
      })
    } catch (error) {
      this.#errors?.increment({
        [wrapped === undefined ? 'outbound_to_connection' : 'outbound_upgrade']: true,
      })
      wrapped?.abort(error as Error)
      connection.abort()
      throw error
    }
  }

  async #connect(address: Multiaddr, signal: AbortSignal): Promise<NativeConnection> {
    const { family, host, port } = udpAddress(address)
    const dialing = this.#client(family).outboundConnection(host, port)
    try {
      const connection = await raceAbort(dialing, signal)
      this.#events?.increment({ connect: true })
      return connection
    } catch (error) {
      this.#events?.increment({ error: true })
      // The native code cannot be called off: a connection that comes later is closed at once.
      dialing.then(
        connection => connection.abort(),
        () => undefined,
      )
      if (signal.aborted) throw error
      throw new Error(`${address}: ${(error as Error).message}`, { cause: error })
    }
  }

  #wrap(connection: NativeConnection): QuicConnection {
    const { logger } = this.#deps
    return new QuicConnection({ connection, direction: 'outbound', logger, metrics: this.#events })
  }

  #client(family: 4 | 6): NativeClient {
    if (this.#stopped) throw new Error('the QUIC transport is stopped')
    const open = this.#clients.get(family)
    if (open !== undefined) return open
    const client = new this.#deps.binding.Client(this.#config, family === 4 ? 0 : 1)
    this.#clients.set(family, client)
    return client
  }
}

function checkPeer(address: Multiaddr, connection: QuicConnection): void {
  const expected = namedPeer(address)
  if (expected === undefined || peerIdFromString(expected).equals(connection.remotePeer)) return
  throw new Error(`${address}: ${connection.remotePeer} answered in place of the peer that the address names`)
}

/** The native settings for these options. */
export function settingsOf(privateKey: PrivateKey, options: QuicOptions): QuinnSettings {
  return {
    privateKeyProto: privateKeyToProtobuf(privateKey),
    handshakeTimeout: options.handshakeTimeoutMs,
    maxIdleTimeout: options.maxIdleMs,
    keepAliveInterval: options.keepAliveMs,
    shutdownTimeout: options.closeTimeoutMs,
    maxConcurrentStreamLimit: options.maxInboundStreams,
    maxStreamData: options.maxStreamBytes,
    maxConnectionData: options.maxConnectionBytes,
    receiveBufferSize: options.socketReceiveBytes,
    sendBufferSize: options.socketSendBytes,
  }
}
