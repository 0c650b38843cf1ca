// A hostile member of the network: plain libp2p and kad-dht without any of our rules, for tests. Or a hostile stranger,
// that does not take part in the membership protocol.
import { identify } from '@libp2p/identify'
import type { Connection, Libp2p, Stream } from '@libp2p/interface'
import { Record as KadRecord, kadDHT, MessageType, passthroughMapper } from '@libp2p/kad-dht'
import { noise } from '@libp2p/noise'
import { peerIdFromString } from '@libp2p/peer-id'
import { ping } from '@libp2p/ping'
import { tcp } from '@libp2p/tcp'
import { yamux } from '@libp2p/yamux'
import { multiaddr } from '@multiformats/multiaddr'
import { createLibp2p } from 'libp2p'
import { Libp2pByteStream } from '../../src/network/byte-stream.ts'
import { answer, present } from '../../src/network/libp2p/gate/member-protocol.ts'

interface RawDht {
  network: {
    sendRequest(
      to: unknown,
      message: object,
      options: object,
    ): AsyncIterable<{
      name: string
      record?: { value: Uint8Array }
      providers?: { id: { toString(): string } }[]
    }>
    sendMessage(to: unknown, message: object, options: object): AsyncIterable<{ name: string }>
  }
}

const memberProtocol = '/catalog/main/member/2'

export class Attacker {
  readonly node: Libp2p
  readonly #dht: RawDht

  private constructor(node: Libp2p, dht: RawDht) {
    this.node = node
    this.#dht = dht
  }

  /** `credential`: what it shows; a stranger shows none, and answers nobody. */
  static async start(credential: Uint8Array | 'stranger' = new Uint8Array([1])): Promise<Attacker> {
    const lax = { 'catalog-head': async () => undefined, 'catalog-release': async () => undefined }
    const node = await createLibp2p({
      addresses: { listen: ['/ip4/127.0.0.1/tcp/0'] },
      transports: [tcp()],
      connectionEncrypters: [noise()],
      streamMuxers: [yamux()],
      services: {
        identify: identify(),
        ping: ping(),
        dht: kadDHT({
          protocol: '/catalog/main/kad/1.0.0',
          clientMode: false,
          peerInfoMapper: passthroughMapper,
          allowQueryWithZeroPeers: true,
          validators: lax,
          selectors: { 'catalog-head': () => 0, 'catalog-release': () => 0 },
        }),
      },
    })
    if (credential !== 'stranger') await takePart(node, credential)
    return new Attacker(node, node.services['dht'] as unknown as RawDht)
  }

  dial(address: string) {
    return this.node.dial(multiaddr(address))
  }

  /** Whether the peer says that it stored the value: it answers with what it stored. */
  async put(to: string, key: Uint8Array, value: Uint8Array, recordKey = key): Promise<boolean> {
    const message = {
      type: MessageType.PUT_VALUE,
      key,
      record: new KadRecord(recordKey, value, new Date()).serialize(),
    }
    return this.#request(to, message)
  }

  async putRaw(to: string, key: Uint8Array, serialized: Uint8Array): Promise<boolean> {
    return this.#request(to, { type: MessageType.PUT_VALUE, key, record: serialized })
  }

  async #request(to: string, message: object): Promise<boolean> {
    const options = {
      signal: AbortSignal.timeout(5000),
      path: { index: -1, queued: 0, running: 0, total: 0 },
    }
    for await (const event of this.#dht.network.sendRequest(peerIdFromString(to), message, options))
      if (event.name === 'PEER_RESPONSE') return true
    return false
  }

  /** What the peer itself holds under the key: a record, and providers. Nobody else is asked. */
  async held(
    to: string,
    key: Uint8Array,
    what: 'record' | 'provide',
  ): Promise<{ record: boolean; providers: string[] }> {
    const type = what === 'record' ? MessageType.GET_VALUE : MessageType.GET_PROVIDERS
    // A busy machine answers late.
    for (let attempt = 0; attempt < 3; attempt++) {
      const options = {
        signal: AbortSignal.timeout(5000),
        path: { index: -1, queued: 0, running: 0, total: 0 },
      }
      for await (const event of this.#dht.network.sendRequest(peerIdFromString(to), { type, key }, options))
        if (event.name === 'PEER_RESPONSE')
          return {
            record: event.record !== undefined,
            providers: (event.providers ?? []).map(({ id }) => id.toString()),
          }
    }
    throw new Error(`${to} did not answer`)
  }

  async provide(to: string, multihash: Uint8Array, addresses: readonly string[]): Promise<void> {
    const message = {
      type: MessageType.ADD_PROVIDER,
      key: multihash,
      providers: [
        {
          id: this.node.peerId.toMultihash().bytes,
          multiaddrs: addresses.map(text => multiaddr(text).bytes),
        },
      ],
    }
    const options = {
      signal: AbortSignal.timeout(5000),
      path: { index: -1, queued: 0, running: 0, total: 0 },
    }
    for await (const _event of this.#dht.network.sendMessage(peerIdFromString(to), message, options));
  }

  /** A stream of the protocol, to write anything on. */
  async raw(to: string, protocol: string): Promise<Stream> {
    const [connection] = this.node.getConnections(peerIdFromString(to))
    if (connection === undefined) throw new Error('the attacker is not connected')
    return connection.newStream([protocol], { maxOutboundStreams: 100 })
  }

  async stop(): Promise<void> {
    await this.node.stop()
  }
}

async function takePart(node: Libp2p, credential: Uint8Array): Promise<void> {
  const side = { credential: () => credential, admit: async () => undefined, refused: () => undefined }
  const signal = AbortSignal.timeout(60_000)
  const wrap = (stream: Stream, connection: Connection) =>
    new Libp2pByteStream(stream, connection.remotePeer.toString())
  await node.handle(memberProtocol, async (stream, connection) => {
    const wrapped = wrap(stream, connection)
    await answer(wrapped, side, { signal }).catch(() => undefined)
    await wrapped.close()
  })
  node.addEventListener('connection:open', ({ detail: connection }) => {
    if (connection.direction === 'inbound') return
    connection
      .newStream(memberProtocol)
      .then(stream => present(wrap(stream, connection), side, { signal }))
      .catch(() => undefined)
  })
}
