// Connections of their own for streams that move much, beside the connection over which two members are connected:
// TLS 1.3 over TCP costs a quarter of the processor time of QUIC, because the kernel moves it in large pieces and not
// in packets. The agreement is data/protocol.ts. Whoever cannot be reached so is asked over the usual connection.
import { LRUCache } from 'lru-cache'
import { eitherSignal, raceAbort, withTimeout } from '../base/deadline.ts'
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
/** A peer with which it went wrong is asked over the usual connection for so long, twice as long each time in a row. */
const avoidedMs = 60_000
const maxAvoidedMs = 3_600_000
const maxAvoided = 500

/** A data connection that is being made. */
interface Making {
  readonly peer: PeerText
  readonly life: AbortController
}

export class DataConnections {
  readonly #deps: DataConnectionDeps
  readonly #options: DataConnectionOptions
  readonly #offers = new Offers()
  readonly #listener: DataListener
  readonly #streams = new Set<TlsStream>()
  readonly #making = new Set<Making>()
  /** Until when, on the monotonic clock, and the how manieth time. */
  readonly #avoided = new LRUCache<PeerText, { readonly until: number; readonly times: number }>({
    max: maxAvoided,
  })

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
    const reason = new CatalogError('daemon-stopping', 'This node is stopping.')
    this.#offers.clear()
    for (const { life } of this.#making) life.abort(reason)
    for (const stream of this.#streams) stream.abort(reason)
    this.#listener.stop()
  }

  /** Undefined where it cannot be had. @throws the signal's reason */
  async open(peer: PeerText, protocol: string, options: OpenOptions = {}): Promise<TlsStream | undefined> {
    const address = this.#deps.addressesOf(peer)[0]
    const isMember = this.#deps.isConnected(peer)
    if (!this.#options.enabled || address === undefined || !isMember || this.#isAvoided(peer))
      return undefined
    const making: Making = { peer, life: new AbortController() }
    this.#making.add(making)
    try {
      const signal = withTimeout(options.signal, connectTimeoutMs)
      const stream = await this.#make(peer, { protocol, address }, eitherSignal(signal, making.life.signal))
      if (!making.life.signal.aborted) return stream
      stream?.abort(making.life.signal.reason as Error)
      return undefined
    } catch (error) {
      options.signal?.throwIfAborted()
      // This node's own doing says nothing of the peer.
      const isOurs = making.life.signal.aborted || isCatalogError(error, 'busy')
      return isOurs ? undefined : this.#avoid(peer, error)
    } finally {
      this.#making.delete(making)
    }
  }

  async #make(
    peer: PeerText,
    request: { readonly protocol: string; readonly address: string },
    signal: AbortSignal,
  ): Promise<TlsStream | undefined> {
    const offer = await raceAbort(this.#ask(peer, request, signal), signal)
    if (offer === 'busy') return undefined
    if (offer === 'unavailable') return this.#avoid(peer, offer)
    const stream = await connectData(peer, request.address, offer, signal)
    stream.ended.addEventListener('abort', () => {
      const reason: unknown = stream.broken ?? stream.ended.reason
      // A reader that waited too long ends it itself.
      if (stream.broken !== undefined || isCatalogError(reason, 'timeout')) this.#avoid(peer, reason)
      else this.#avoided.delete(peer)
    })
    return this.#keep(stream)
  }

  /** The listener's side of the protocol. */
  async serve(stream: ByteStream, { signal: ended }: CallOptions): Promise<void> {
    const signal = withTimeout(ended, dataLimits.offerMs)
    const message = await new FrameReader(stream).message(dataLimits.maxMessageBytes, { signal })
    if (message === undefined) return
    const answer = this.#offer(stream.peer, readRequest(message))
    const frame = typeof answer === 'string' ? { code: answer } : { code: 'ok', ...answer }
    await stream.write(encodeFrame(frame), { signal })
  }

  #offer(
    peer: PeerText,
    { protocol, address }: { readonly protocol: string; readonly address: string },
  ): Offer | 'busy' | 'unavailable' {
    const from = this.#deps.addressesOf(peer)
    const reached = plainAddress(address)
    const port = portFor(reached, this.#listener.ports)
    const isPossible = from.length > 0 && reached !== '' && this.#deps.isBulk(protocol)
    if (port === undefined || !isPossible) return 'unavailable'
    return this.#offers.make(peer, protocol, from, port) ?? 'busy'
  }

  /** How many are open with a peer, both ways. */
  openWith(peer: PeerText): number {
    return [...this.#streams].filter(stream => stream.peer === peer).length
  }

  /** The peer is gone, or a member no more: so is whatever it has here. */
  left(peer: PeerText): void {
    const reason = new CatalogError('peer-unreachable', `The connection with ${peer} is gone.`)
    this.#offers.forget(peer)
    for (const making of this.#making) if (making.peer === peer) making.life.abort(reason)
    for (const stream of this.#streams) if (stream.peer === peer) stream.abort(reason)
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
    return (this.#avoided.peek(peer)?.until ?? 0) > performance.now()
  }

  #avoid(peer: PeerText, why: unknown): undefined {
    this.#deps.log.debug({ peer, why: String(why) }, 'no data connection: contents come over the usual one')
    const times = (this.#avoided.peek(peer)?.times ?? 0) + 1
    const until = performance.now() + Math.min(avoidedMs * 2 ** (times - 1), maxAvoidedMs)
    this.#avoided.set(peer, { until, times })
  }
}
