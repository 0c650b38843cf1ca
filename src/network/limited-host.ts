// A host whose streams share limited bandwidth: what this node sends and receives over them, in all and with each
// peer. It wraps any Host; without a limit nobody needs it. The order of turns is bandwidth.ts.
//
// A flow is what shares the link evenly with others, whatever its number of streams: on a stream that this node
// opened, the one that the caller names (a fetch names its content root), else the peer; on one that a peer opened,
// the peer. Bulk protocols go after all others. Bytes that libp2p exchanges itself (handshakes, identify, the DHT's
// own streams) and the transport's packaging are not counted.
import { CatalogError } from '../base/errors.ts'
import type { Service } from '../base/lifecycle.ts'
import type { Admission } from './admission.ts'
import type { TrafficKind } from './bandwidth.ts'
import type {
  ByteStream,
  ConnectionView,
  DialOptions,
  Host,
  OpenOptions,
  PeerText,
  ProtocolOptions,
  StreamHandler,
} from './host.ts'
import { type Direction, LimitedStream } from './limited/limited-stream.ts'
import { Pacer } from './limited/pacer.ts'
import { TrafficMeter } from './traffic-meter.ts'

/** Bytes per second; 0: unlimited. */
export interface BandwidthLimits {
  readonly up: number
  readonly down: number
  readonly perPeerUp: number
  readonly perPeerDown: number
}

export interface LimitedHostOptions extends BandwidthLimits {
  /** Protocols that move contents, which wait for all others. */
  readonly bulkProtocols: readonly string[]
}

export interface Traffic {
  /** The mean of the last seconds. */
  readonly bytesPerSecond: number
  readonly totalBytes: number
}

export const limitsAnything = ({ up, down, perPeerUp, perPeerDown }: BandwidthLimits): boolean =>
  up > 0 || down > 0 || perPeerUp > 0 || perPeerDown > 0

export class LimitedHost implements Host, Service {
  readonly #host: Host
  readonly #bulk: ReadonlySet<string>
  readonly #up: Direction
  readonly #down: Direction

  constructor(deps: { readonly host: Host }, options: LimitedHostOptions) {
    this.#host = deps.host
    this.#bulk = new Set(options.bulkProtocols)
    this.#up = direction(options.up, options.perPeerUp)
    this.#down = direction(options.down, options.perPeerDown)
  }

  get peer(): PeerText {
    return this.#host.peer
  }

  async start(): Promise<void> {
    this.#up.pacer.start()
    this.#down.pacer.start()
  }

  /** Whatever waits for its turn is turned away. Does not stop the host within. */
  async stop(): Promise<void> {
    const reason = new CatalogError('daemon-stopping', 'This node is stopping.')
    this.#up.pacer.stop(reason)
    this.#down.pacer.stop(reason)
  }

  /** What has passed since this was made. */
  traffic(): { readonly up: Traffic; readonly down: Traffic } {
    const of = ({ meter }: Direction) => ({
      bytesPerSecond: meter.bytesPerSecond(),
      totalBytes: meter.totalBytes,
    })
    return { up: of(this.#up), down: of(this.#down) }
  }

  handle(protocol: string, handler: StreamHandler, options: ProtocolOptions): void {
    const serve: StreamHandler = async (stream, call) => {
      const limited = this.#limited(stream, protocol, undefined)
      const over = () => limited.leave(call.signal.reason as Error)
      call.signal.addEventListener('abort', over, { once: true })
      try {
        await handler(limited, call)
        await limited.flush()
      } finally {
        call.signal.removeEventListener('abort', over)
        limited.leave(new Error('the handler has ended'))
      }
    }
    this.#host.handle(protocol, serve, options)
  }

  async open(peer: PeerText, protocol: string, options?: OpenOptions): Promise<ByteStream> {
    return this.#limited(await this.#host.open(peer, protocol, options), protocol, options?.flow)
  }

  async openBulk(peer: PeerText, protocol: string, options?: OpenOptions): Promise<ByteStream | undefined> {
    const stream = await this.#host.openBulk(peer, protocol, options)
    return stream === undefined ? undefined : this.#limited(stream, protocol, options?.flow)
  }

  addresses(): string[] {
    return this.#host.addresses()
  }

  connections(): ConnectionView[] {
    return this.#host.connections()
  }

  isConnected(peer: PeerText): boolean {
    return this.#host.isConnected(peer)
  }

  admissionOf(peer: PeerText): Admission | undefined {
    return this.#host.admissionOf(peer)
  }

  dial(address: string, options?: DialOptions): Promise<PeerText> {
    return this.#host.dial(address, options)
  }

  disconnect(peer: PeerText): Promise<void> {
    return this.#host.disconnect(peer)
  }

  onPeer(listener: (peer: PeerText, change: 'connected' | 'disconnected') => void): () => void {
    return this.#host.onPeer(listener)
  }

  #limited(stream: ByteStream, protocol: string, flow: string | undefined): LimitedStream {
    const kind: TrafficKind = this.#bulk.has(protocol) ? 'bulk' : 'control'
    // A fetch and a peer never have one name.
    const name = flow === undefined ? `peer ${stream.peer}` : `flow ${flow}`
    return new LimitedStream(stream, { up: this.#up, down: this.#down }, { kind, flow: name })
  }
}

const direction = (total: number, perPeer: number): Direction => ({
  pacer: new Pacer({ total: total || undefined, perPeer: perPeer || undefined }),
  meter: new TrafficMeter(),
})
