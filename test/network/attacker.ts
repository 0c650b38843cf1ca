// A hostile member of the network: plain libp2p and kad-dht without any of our rules, for tests.
import { identify } from '@libp2p/identify'
import type { Libp2p, Stream } from '@libp2p/interface'
import { Record as KadRecord, kadDHT, MessageType, passthroughMapper } from '@libp2p/kad-dht'
import { noise } from '@libp2p/noise'
import { peerIdFromString } from '@libp2p/peer-id'
import { ping } from '@libp2p/ping'
import { tcp } from '@libp2p/tcp'
import { yamux } from '@libp2p/yamux'
import { multiaddr } from '@multiformats/multiaddr'
import { createLibp2p } from 'libp2p'

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

export class Attacker {
  readonly node: Libp2p
  readonly #dht: RawDht

  private constructor(node: Libp2p, dht: RawDht) {
    this.node = node
    this.#dht = dht
  }

  static async start(): Promise<Attacker> {
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
    await node.handle('/catalog/main/member/1', stream => void stream.close())
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
    const options = {
      signal: AbortSignal.timeout(5000),
      path: { index: -1, queued: 0, running: 0, total: 0 },
    }
    const type = what === 'record' ? MessageType.GET_VALUE : MessageType.GET_PROVIDERS
    for await (const event of this.#dht.network.sendRequest(peerIdFromString(to), { type, key }, options))
      if (event.name === 'PEER_RESPONSE')
        return {
          record: event.record !== undefined,
          providers: (event.providers ?? []).map(({ id }) => id.toString()),
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
