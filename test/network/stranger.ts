// A raw libp2p node over QUIC and TCP without the gate: it speaks what it likes, when it likes, and counts what it is
// asked. For tests of what a stranger gets.
import type { Connection, Libp2p, Stream } from '@libp2p/interface'
import { multiaddr } from '@multiformats/multiaddr'
import { Libp2pByteStream } from '../../src/network/byte-stream.ts'
import { createNodeKey, parseNodeKey } from '../../src/network/identity.ts'
import { present } from '../../src/network/libp2p/gate/member-protocol.ts'
import { createNode } from '../../src/network/libp2p/node.ts'
import { defaultHostOptions } from '../../src/network/libp2p-host.ts'

export const memberProtocol = '/catalog/main/member/2'

export class Stranger {
  readonly node: Libp2p
  /** Protocols of the streams that others opened here. */
  readonly asked: string[] = []

  private constructor(node: Libp2p) {
    this.node = node
  }

  /** Claims to speak the protocols, and says nothing on them. */
  static async start(listen: string, protocols: readonly string[] = []): Promise<Stranger> {
    const node = await createNode({
      ...defaultHostOptions,
      privateKey: parseNodeKey(await createNodeKey(), 'The key of a stranger'),
      listen: [listen],
      gate: () => ({}),
      services: {},
    })
    const stranger = new Stranger(node)
    for (const protocol of [memberProtocol, ...protocols])
      await node.handle(protocol, () => void stranger.asked.push(protocol))
    await node.start()
    return stranger
  }

  get peer(): string {
    return this.node.peerId.toString()
  }

  dial(address: string): Promise<Connection> {
    // Always a new connection.
    return this.node.dial(multiaddr(address), { force: true })
  }

  /** Shows the credential, and believes the other side. */
  async introduce(connection: Connection, credential: Uint8Array): Promise<void> {
    const stream = new Libp2pByteStream(
      await connection.newStream(memberProtocol),
      connection.remotePeer.toString(),
    )
    const side = { credential: () => credential, admit: async () => undefined, refused: () => undefined }
    await present(stream, side, { signal: AbortSignal.timeout(15_000) })
  }

  async stop(): Promise<void> {
    await this.node.stop()
  }
}

/** Resolves to whether the stream was reset, rather than left open, within the time. */
export function wasReset(stream: Stream, withinMs: number): Promise<boolean> {
  return new Promise(resolve => {
    const timer = setTimeout(() => resolve(false), withinMs)
    const ended = () => {
      clearTimeout(timer)
      resolve(true)
    }
    if (stream.status !== 'open') ended()
    stream.addEventListener('close', ended)
  })
}
