// Connections of their own for streams that move much, beside the connection over which two members are connected:
// TLS 1.3 over TCP costs a quarter of the processor time of QUIC, because the kernel moves it in large pieces and not
// in packets. The agreement is data/protocol.ts. Whoever cannot be reached so is asked over the usual connection.
import { raceAbort, withTimeout } from '../base/deadline.ts'
import { CatalogError, isCatalogError } from '../base/errors.ts'
import type { CallOptions } from '../base/lifecycle.ts'
import type { Log } from '../base/log.ts'
import { listenHosts, plainAddress, portFor } from './data/address.ts'
import { connectData } from './data/connect.ts'
import { DataListener } from './data/listener.ts'
import { type Expected, Offers } from './data/offers.ts'
import { dataLimits, dataProtocol, type Offer, readAnswer, readRequest } from './data/protocol.ts'
import { TlsStream } from './data/tls-stream.ts'
import { encodeFrame, FrameReader } from './frames.ts'
import type { ByteStream, OpenOptions, PeerText, ProtocolOptions } from './host.ts'

export interface DataConnectionOptions {
  /** Whether this node takes and makes them. */
  readonly enabled: boolean
  /** The TCP port; 0 for any free one. */
  readonly port: number
  /** The multiaddrs on which the node listens: these listen on the same addresses. */
  readonly listen: readonly string[]
}

export interface DataConnectionDeps {
  readonly open: (peer: PeerText, protocol: string, options: OpenOptions) => Promise<ByteStream>
  /** The IP addresses at which a peer is connected now, the best first; none where it is relayed. */
  readonly addressesOf: (peer: PeerText) => readonly string[]
  readonly isConnected: (peer: PeerText) => boolean
  readonly isBulk: (protocol: string) => boolean
  readonly accept: (protocol: string, stream: TlsStream) => Promise<void>
  readonly log: Log
}

/** How many ask at once: from one peer, and in all. */
export const dataProtocolLimits: ProtocolOptions = { maxInboundPerPeer: 8, maxInbound: 64 }

const connectTimeoutMs = 3000
/** A peer with which it went wrong is asked over the usual connection for so long. */
const avoidedMs = 60_000
const maxAvoided = 500

export class DataConnections {
  readonly #deps: DataConnectionDeps
  readonly #options: DataConnectionOptions
  readonly #offers = new Offers()
  readonly #listener: DataListener
  readonly #streams = new Set<TlsStream>()
  /** Until when, on the monotonic clock. */
  readonly #avoided = new Map<PeerText, number>()

  constructor(deps: DataConnectionDeps, options: DataConnectionOptions) {
    this.#deps = deps
    this.#options = options
    this.#listener = new DataListener({
      offers: this.#offers,
      onConnection: (socket, expected) => {
        const stream = new TlsStream(expected.peer, { opener: false }).attach(socket, { reads: 'data' })
        this.#answer(stream, expected)
      },
      log: deps.log,
    })
  }

  async start(): Promise<void> {
    if (!this.#options.enabled) return
    await this.#listener.start(listenHosts(this.#options.listen), this.#options.port)
  }

  stop(): void {
    this.#offers.clear()
    for (const stream of this.#streams)
      stream.abort(new CatalogError('daemon-stopping', 'This node is stopping.'))
    this.#listener.stop()
  }

  /** Undefined where it cannot be had. @throws the signal's reason */
  async open(peer: PeerText, protocol: string, options: OpenOptions = {}): Promise<TlsStream | undefined> {
    const address = this.#deps.addressesOf(peer)[0]
    if (!this.#options.enabled || address === undefined || this.#isAvoided(peer)) return undefined
    const signal = withTimeout(options.signal, connectTimeoutMs)
    try {
      const offer = await raceAbort(this.#ask(peer, { protocol, address }, signal), signal)
      if (offer === 'busy') return undefined
      if (offer === 'unavailable') return this.#avoid(peer, 'it takes none')
      const stream = await connectData(peer, address, offer, signal)
      stream.ended.addEventListener('abort', () => {
        const reason: unknown = stream.broken ?? stream.ended.reason
        // A reader that waited too long ends it itself.
        if (stream.broken !== undefined || isCatalogError(reason, 'timeout'))
          this.#avoid(peer, String(reason))
      })
      return this.#keep(stream)
    } catch (error) {
      options.signal?.throwIfAborted()
      return this.#avoid(peer, error instanceof Error ? error.message : String(error))
    }
  }

  /** The listener's side of the protocol. */
  async serve(stream: ByteStream, options: CallOptions): Promise<void> {
    const message = await new FrameReader(stream).message(dataLimits.maxMessageBytes, options)
    if (message === undefined) return
    const { protocol, address } = readRequest(message)
    const from = this.#deps.addressesOf(stream.peer)
    const port = portFor(plainAddress(address), this.#listener.ports)
    let answer: Offer | 'busy' | 'unavailable' = 'unavailable'
    if (port !== undefined && this.#deps.isBulk(protocol))
      answer = this.#offers.make(stream.peer, protocol, from, port) ?? 'busy'
    const frame = typeof answer === 'string' ? { code: answer } : { code: 'ok', ...answer }
    await stream.write(encodeFrame(frame), options)
  }

  /** The peer is gone, or a member no more: so is whatever it has here. */
  left(peer: PeerText): void {
    this.#offers.forget(peer)
    for (const stream of this.#streams)
      if (stream.peer === peer)
        stream.abort(new CatalogError('peer-unreachable', `The connection with ${peer} is gone.`))
  }

  async #ask(
    peer: PeerText,
    request: { readonly protocol: string; readonly address: string },
    signal: AbortSignal,
  ): Promise<Offer | 'busy' | 'unavailable'> {
    const stream = await this.#deps.open(peer, dataProtocol, { signal })
    try {
      await stream.write(encodeFrame(request), { signal })
      const answer = await new FrameReader(stream).message(dataLimits.maxMessageBytes, { signal })
      if (answer === undefined) return 'unavailable'
      await stream.close()
      return readAnswer(peer, answer)
    } catch (error) {
      stream.abort(error as Error)
      throw error
    }
  }

  #answer(stream: TlsStream, { peer, protocol }: Expected): void {
    this.#keep(stream)
    if (!this.#deps.isConnected(peer)) {
      stream.abort(new CatalogError('not-a-member', `${peer} is not connected any more.`))
      return
    }
    this.#deps.log.debug({ peer, protocol }, 'a data connection came')
    void this.#deps.accept(protocol, stream)
  }

  #keep(stream: TlsStream): TlsStream {
    this.#streams.add(stream)
    stream.ended.addEventListener('abort', () => this.#streams.delete(stream), { once: true })
    return stream
  }

  #isAvoided(peer: PeerText): boolean {
    return (this.#avoided.get(peer) ?? 0) > performance.now()
  }

  #avoid(peer: PeerText, why: string): undefined {
    this.#deps.log.debug({ peer, why }, 'no data connection: its contents come over the usual one')
    this.#avoided.delete(peer)
    this.#avoided.set(peer, performance.now() + avoidedMs)
    const oldest = this.#avoided.keys().next().value
    if (this.#avoided.size > maxAvoided && oldest !== undefined) this.#avoided.delete(oldest)
  }
}
