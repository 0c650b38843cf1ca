// A QUIC connection as libp2p's MultiaddrConnection: who is at the other end, and its closing. Bytes travel in streams
// alone (muxer.ts).
import type { ComponentLogger, CounterGroup, MultiaddrConnection, PeerId } from '@libp2p/interface'
import { peerIdFromString } from '@libp2p/peer-id'
import { AbstractMultiaddrConnection, type SendResult } from '@libp2p/utils'
import { multiaddr } from '@multiformats/multiaddr'
import type { NativeConnection } from './binding.ts'

export interface QuicConnectionInit {
  readonly connection: NativeConnection
  readonly direction: 'inbound' | 'outbound'
  readonly logger: ComponentLogger
  readonly metrics: CounterGroup | undefined
  readonly metricPrefix?: string
}

export class QuicConnection extends AbstractMultiaddrConnection {
  /** Proved by the handshake. */
  readonly remotePeer: PeerId
  readonly #connection: NativeConnection

  constructor(init: QuicConnectionInit) {
    const { connection, direction } = init
    const remoteAddr = multiaddr(connection.remoteMultiaddr())
    super({
      remoteAddr,
      direction,
      log: init.logger.forComponent(`libp2p:quic:connection:${connection.id()}:${direction}`),
      ...(init.metrics === undefined ? {} : { metrics: init.metrics }),
      ...(init.metricPrefix === undefined ? {} : { metricPrefix: init.metricPrefix }),
    })
    this.remotePeer = peerOf(remoteAddr)
    this.#connection = connection
    connection.closed().then(
      () => this.onTransportClosed(),
      error => this.onTransportClosed(error),
    )
  }

  override sendData(): SendResult {
    throw new Error('bytes were sent on a QUIC connection outside its streams')
  }

  override sendReset(): void {
    this.#connection.abort()
  }

  override async sendClose(): Promise<void> {
    this.#connection.abort()
  }

  override sendPause(): void {
    // Each stream holds its own sender back.
  }

  override sendResume(): void {
    // As above.
  }
}

function peerOf(address: MultiaddrConnection['remoteAddr']): PeerId {
  const text = address.getComponents().find(component => component.name === 'p2p')?.value
  if (text === undefined) throw new Error(`the QUIC connection names no peer: ${address}`)
  return peerIdFromString(text)
}
