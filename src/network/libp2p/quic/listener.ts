// Listens on one UDP address: accepts connections, several handshakes at a time, and hands them to libp2p's upgrader.
// Closing ends within a time. It opens nothing itself.
import type {
  ComponentLogger,
  CounterGroup,
  Listener,
  ListenerEvents,
  Logger,
  Metrics,
  Upgrader,
} from '@libp2p/interface'
import { TypedEventEmitter } from '@libp2p/interface'
import type { Multiaddr } from '@multiformats/multiaddr'
import { settleWithin } from '../../../base/deadline.ts'
import { reachable, type UdpAddress, udpAddress } from './addresses.ts'
import {
  isServerClosed,
  type NativeConnection,
  type NativeServer,
  type QuicBinding,
  type QuinnConfig,
} from './binding.ts'
import { QuicConnection } from './connection.ts'
import { quicMuxerFactory } from './muxer.ts'
import type { QuicOptions } from './options.ts'

export interface QuicListenerDeps {
  readonly binding: QuicBinding
  readonly config: QuinnConfig
  readonly upgrader: Upgrader
  readonly logger: ComponentLogger
  readonly metrics: Metrics | undefined
}

export class QuicListener extends TypedEventEmitter<ListenerEvents> implements Listener {
  readonly #deps: QuicListenerDeps
  readonly #options: QuicOptions
  readonly #log: Logger
  readonly #events: CounterGroup | undefined
  readonly #errors: CounterGroup | undefined
  readonly #connections = new Set<QuicConnection>()
  readonly #closing = new AbortController()
  #server: NativeServer | undefined
  #address: UdpAddress | undefined
  #closed: Promise<void> | undefined

  constructor(deps: QuicListenerDeps, options: QuicOptions) {
    super()
    this.#deps = deps
    this.#options = options
    this.#log = deps.logger.forComponent('libp2p:quic:listener')
    deps.metrics?.registerMetricGroup('libp2p_quic_inbound_connections_total', {
      label: 'address',
      help: 'Current active connections in QUIC listener',
      calculate: () => ({ [this.#label]: this.#connections.size }),
    })
    this.#events = deps.metrics?.registerCounterGroup('libp2p_quic_listener_events_total', {
      label: 'address',
      help: 'Total count of QUIC listener events by type',
    })
    this.#errors = deps.metrics?.registerCounterGroup('libp2p_quic_listener_errors_total', {
      label: 'address',
      help: 'Total count of QUIC listener errors by type',
    })
  }

  get #label(): string {
    return this.#address === undefined ? 'unknown' : `${this.#address.host}:${this.#address.port}`
  }

  /** @throws Error where the address is none of this machine's, or taken. */
  async listen(address: Multiaddr): Promise<void> {
    const wanted = udpAddress(address)
    try {
      this.#server = new this.#deps.binding.Server(this.#deps.config, wanted.host, wanted.port)
    } catch (error) {
      throw new Error(`${address}: ${(error as Error).message}`, { cause: error })
    }
    // Asked once: the native call ends the process when the server is gone.
    this.#address = { ...wanted, port: this.#server.port() }
    for (let i = 0; i < this.#options.maxPendingHandshakes; i++) void this.#accept(this.#server)
    this.safeDispatchEvent('listening')
  }

  getAddrs(): Multiaddr[] {
    return this.#address === undefined || this.#closed !== undefined ? [] : reachable(this.#address)
  }

  updateAnnounceAddrs(): void {
    // What is announced does not change what is listened on.
  }

  /** Ends connections and gives the port back, within `closeTimeoutMs`. Safe twice. */
  async close(): Promise<void> {
    this.#closed ??= this.#close()
    await this.#closed
  }

  async #close(): Promise<void> {
    if (this.#server === undefined) return
    this.#closing.abort(new Error('the listener is closing'))
    for (const connection of this.#connections) connection.abort(new Error('the listener is closing'))
    this.#connections.clear()
    await settleWithin(this.#server.abort(), this.#options.closeTimeoutMs)
    this.safeDispatchEvent('close')
  }

  /** One of several: each has one handshake under way, and fails with it alone. */
  async #accept(server: NativeServer): Promise<void> {
    while (!this.#closing.signal.aborted) {
      try {
        const connection = await server.inboundConnection()
        this.#events?.increment({ [`${this.#label} connect`]: true })
        void this.#upgrade(connection)
      } catch (error) {
        if (isServerClosed(error)) return
        this.#events?.increment({ [`${this.#label} error`]: true })
        this.#log.error('a handshake failed - %e', error)
      }
    }
  }

  async #upgrade(connection: NativeConnection): Promise<void> {
    let wrapped: QuicConnection | undefined
    try {
      this.#closing.signal.throwIfAborted()
      wrapped = this.#wrap(connection)
      await this.#deps.upgrader.upgradeInbound(wrapped, {
        skipEncryption: true,
        skipProtection: true,
        remotePeer: wrapped.remotePeer,
        muxerFactory: quicMuxerFactory(connection, this.#options),
        signal: this.#closing.signal,
      })
    } catch (error) {
      const step = wrapped === undefined ? 'inbound_to_connection' : 'inbound_upgrade'
      this.#errors?.increment({ [`${this.#label} ${step}`]: true })
      this.#log.error('a connection was not accepted - %e', error)
      wrapped?.abort(error as Error)
      connection.abort()
    }
  }

  /** Counted from here on, so that closing ends what is being upgraded too. */
  #wrap(connection: NativeConnection): QuicConnection {
    const wrapped = new QuicConnection({
      connection,
      direction: 'inbound',
      logger: this.#deps.logger,
      metrics: this.#events,
      metricPrefix: `${this.#label} `,
    })
    this.#connections.add(wrapped)
    wrapped.addEventListener('close', () => this.#connections.delete(wrapped), { once: true })
    return wrapped
  }
}
