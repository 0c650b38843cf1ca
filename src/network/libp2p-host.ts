// The Host over libp2p 3: QUIC, and TCP + Noise + Yamux beside it, with this network's protocol prefix. It owns the
// node's life, its connections and the fences round handlers; what the streams carry is its callers' matter.
//
// On the wire the protocol `/transfer/1` of the network `main` is `/catalog/main/transfer/1`, negotiated by
// multistream-select. Who belongs to the network, and what passes for others, is libp2p/gate.ts's matter.
import type { Connection, Libp2p, Stream } from '@libp2p/interface'
import { peerIdFromPrivateKey } from '@libp2p/peer-id'
import { pause, raceAbort, settleWithin, withTimeout } from '../base/deadline.ts'
import { CatalogError, isCatalogError } from '../base/errors.ts'
import type { CallOptions, Service } from '../base/lifecycle.ts'
import type { Log } from '../base/log.ts'
import type { Admission, Admissions } from './admission.ts'
import { Libp2pByteStream } from './byte-stream.ts'
import { dataProtocol } from './data/protocol.ts'
import { DataConnections, dataProtocolLimits } from './data-connections.ts'
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
import { type NodeKey, parseNodeKey } from './identity.ts'
import { InboundStreams } from './inbound-streams.ts'
import { parseAddress, parsePeer } from './libp2p/addresses.ts'
import { addressesOf, bestConnection, forgetPeers, viewOf } from './libp2p/connections.ts'
import { type OpenDatastore, openDatastore } from './libp2p/datastore.ts'
import { dialFailure, startFailure } from './libp2p/failures.ts'
import type { PeerListener } from './libp2p/gate/members.ts'
import type { RefusalListener } from './libp2p/gate/refusal-news.ts'
import { Gate } from './libp2p/gate.ts'
import { createNode, type ServiceFactories } from './libp2p/node.ts'

export interface HostOptions {
  /** Multiaddrs to listen on. */
  readonly listen: readonly string[]
  /** Names the network: nodes of another name do not talk to each other. Lower case, digits, dots, dashes. */
  readonly network: string
  readonly mdns: boolean
  /** Whether bulk may travel on TCP connections of its own, and the port that takes them; 0 for any free one. */
  readonly dataConnections: { readonly enabled: boolean; readonly port: number }
  readonly maxConnections: number
  /** From one peer at once; a second is normal when both sides dial. */
  readonly maxConnectionsPerPeer: number
  /** From one address in a second, and in all while they are being set up. */
  readonly maxInboundConnectionsPerSecond: number
  readonly maxPendingInbound: number
  /** A whole dial, and each of its addresses. */
  readonly dialTimeoutMs: number
  readonly addressDialTimeoutMs: number
  /** Streams that this node opens on one connection at once; QUIC hangs at the 257th. */
  readonly maxOutboundStreamsPerConnection: number
  readonly stopTimeoutMs: number
  /** Peers whose addresses are kept; anyone can become one by connecting. */
  readonly maxStoredPeers: number
}

export const defaultHostOptions: HostOptions = {
  listen: ['/ip4/0.0.0.0/udp/0/quic-v1', '/ip4/0.0.0.0/tcp/0'],
  network: 'main',
  mdns: false,
  dataConnections: { enabled: true, port: 0 },
  // Each costs a few hundred KiB; a DHT of thousands of nodes needs no more neighbours.
  maxConnections: 256,
  maxConnectionsPerPeer: 4,
  // libp2p's own 5 and 10 break a swarm behind one address (a laboratory, a NAT, a test).
  maxInboundConnectionsPerSecond: 50,
  maxPendingInbound: 64,
  dialTimeoutMs: 5000,
  // Five round trips of TCP and Noise at 300 ms each.
  addressDialTimeoutMs: 1500,
  maxOutboundStreamsPerConnection: 128,
  stopTimeoutMs: 3500,
  maxStoredPeers: 2000,
}

export interface HostDeps {
  readonly privateKey: NodeKey
  /** Who belongs to the network, and this node's own proof that it does. */
  readonly admissions: Admissions
  /** A directory of its own for the peer store and the DHT; absent: in memory. */
  readonly datastoreDirectory?: string
  readonly log: Log
}

const sweepIntervalMs = 10 * 60_000
/** A connection that one side has ended is gone within this time. */
const closingMs = 100

const memberProtocol = '/member/2'
/** Both sides may renew on each of a peer's connections; as many streams as there can be connections. */
const memberLimits: ProtocolOptions = { maxInboundPerPeer: 8, maxInbound: 512, open: true }

/** An upper bound that libp2p applies before ours; per peer and per connection. */
const libp2pStreamSlack = 2

export class Libp2pHost implements Host, Service {
  readonly peer: PeerText
  readonly #deps: HostDeps
  readonly #options: HostOptions
  readonly #streams: InboundStreams
  readonly #services: ServiceFactories = {}
  readonly #gate: Gate
  readonly #data: DataConnections
  #node: Libp2p | undefined
  #sweeper: NodeJS.Timeout | undefined
  #datastore: OpenDatastore | undefined
  #stopped: Promise<void> | undefined

  constructor(deps: HostDeps, options: Partial<HostOptions> = {}) {
    this.#deps = deps
    this.#options = { ...defaultHostOptions, ...options }
    if (!/^[a-z0-9]([a-z0-9.-]{0,62}[a-z0-9])?$/.test(this.#options.network))
      throw new CatalogError(
        'invalid-config',
        `The network name ${JSON.stringify(this.#options.network)} is not lower case letters, digits, dots and dashes.`,
      )
    this.peer = peerIdFromPrivateKey(parseNodeKey(deps.privateKey, 'The node key')).toString()
    this.#streams = new InboundStreams(deps.log, (peer, denied) => this.#gate.notify(peer, denied))
    this.#gate = new Gate(deps, {
      network: this.#options.network,
      memberProtocol: this.#wire(memberProtocol),
      isOpen: wire => this.#isOpen(wire),
    })
    this.handle(memberProtocol, (stream, call) => this.#gate.answer(stream, call), memberLimits)
    this.#data = this.#dataConnections()
    this.handle(dataProtocol, (stream, call) => this.#data.serve(stream, call), dataProtocolLimits)
    this.#gate.onPeer((member, change) => change === 'disconnected' && this.#data.left(member))
  }

  get network(): string {
    return this.#options.network
  }

  /** Adds a libp2p service (the DHT) to the node; only before `start`. For this folder alone. */
  addService(name: string, factory: ServiceFactories[string]): void {
    if (this.#node !== undefined) throw new Error(`the service ${name} comes after the start`)
    this.#services[name] = factory
  }

  async start(): Promise<void> {
    if (this.#node !== undefined) return
    const { privateKey, datastoreDirectory, log } = this.#deps
    this.#stopped = undefined
    this.#streams.start()
    this.#datastore = await openDatastore(datastoreDirectory, log)
    try {
      const datastore = this.#datastore.datastore
      const node = await createNode({
        ...this.#options,
        privateKey: parseNodeKey(privateKey, 'The node key'),
        ...(datastore === undefined ? {} : { datastore }),
        gate: components => this.#gate.install(components),
        services: this.#services,
      })
      this.#listen(node)
      for (const protocol of this.#streams.protocols) await this.#register(node, protocol)
      await node.start()
      this.#node = node
      await this.#data.start()
      this.#sweeper = setInterval(() => {
        forgetPeers(node, this.#options.maxStoredPeers).catch(err =>
          log.warn({ err }, 'old peers could not be forgotten'),
        )
      }, sweepIntervalMs)
      this.#sweeper.unref()
    } catch (error) {
      await this.#datastore.close().catch(() => undefined)
      throw startFailure(error, this.#options.listen)
    }
  }

  /** Ends streams, connections and listeners within `stopTimeoutMs`, whatever a transport does. Safe twice. */
  async stop(): Promise<void> {
    this.#stopped ??= this.#stop()
    await this.#stopped
  }

  async #stop(): Promise<void> {
    const node = this.#node
    if (node === undefined) return
    clearInterval(this.#sweeper)
    const deadline = Date.now() + this.#options.stopTimeoutMs
    const remaining = () => Math.max(100, deadline - Date.now())
    this.#data.stop()
    await this.#streams.stop(500)
    for (const connection of node.getConnections()) connection.abort(new Error('this node is stopping'))
    const finished = await settleWithin(Promise.resolve(node.stop()), remaining())
    if (!finished) this.#deps.log.warn({}, 'the network did not stop in time; leaving it behind')
    this.#node = undefined
    await settleWithin(this.#datastore?.close() ?? Promise.resolve(), 500)
    this.#gate.clear()
  }

  addresses(): string[] {
    return this.#node?.getMultiaddrs().map(address => address.toString()) ?? []
  }

  connections(): ConnectionView[] {
    return (this.#node?.getConnections() ?? [])
      .filter(connection => connection.status === 'open' && this.#gate.isIn(connection))
      .map(connection => {
        const view = viewOf(connection)
        const dataConnections = this.#data.openWith(view.peer)
        return dataConnections === 0 ? view : { ...view, dataConnections }
      })
  }

  isConnected(peer: PeerText): boolean {
    return this.#gate.isConnected(peer)
  }

  admissionOf(peer: PeerText): Admission | undefined {
    return this.#gate.admissionOf(peer)
  }

  handle(protocol: string, handler: StreamHandler, options: ProtocolOptions): void {
    this.#streams.register(protocol, handler, options)
    const node = this.#node
    if (node === undefined) return
    this.#register(node, protocol).catch(err =>
      this.#deps.log.error({ protocol, err }, 'a protocol could not be registered'),
    )
  }

  async open(peer: PeerText, protocol: string, options: OpenOptions = {}): Promise<ByteStream> {
    const node = this.#running()
    const signal = withTimeout(options.signal, this.#options.dialTimeoutMs)
    const id = parsePeer(peer)
    const connect = async () =>
      bestConnection(node, id) ?? this.#dialAs(peer, () => node.dial(id, { signal }), options, signal)
    const open = async (connection: Connection) => {
      if (connection.streams.length >= this.#options.maxOutboundStreamsPerConnection)
        throw new CatalogError('busy', `Too many streams to ${peer} are open; finish some first.`)
      return raceAbort(this.#openStream(connection, protocol, options, signal), signal)
    }
    try {
      const stream = await this.#meet(connect, options, signal, open)
      return new Libp2pByteStream(stream, peer)
    } catch (error) {
      throw dialFailure(error, options.signal, `opening ${protocol} to ${peer}`)
    }
  }

  async openBulk(
    peer: PeerText,
    protocol: string,
    options: OpenOptions = {},
  ): Promise<ByteStream | undefined> {
    this.#running()
    return this.#data.open(peer, protocol, options)
  }

  #dataConnections(): DataConnections {
    const { log } = this.#deps
    const { dataConnections, listen } = this.#options
    return new DataConnections(
      {
        open: (peer, protocol, options) => this.open(peer, protocol, options),
        addressesOf: peer => (this.#node === undefined ? [] : addressesOf(this.#node, parsePeer(peer))),
        isConnected: peer => this.isConnected(peer),
        isBulk: protocol => this.#streams.optionsOf(protocol)?.bulk === true,
        accept: (protocol, stream) =>
          this.#streams.accept(protocol, stream, this.#gate.admissionOf(stream.peer)),
        log,
      },
      { ...dataConnections, listen },
    )
  }

  #openStream(
    connection: Connection,
    protocol: string,
    { joining }: OpenOptions,
    signal: AbortSignal,
  ): Promise<Stream> {
    const limited = { signal, maxOutboundStreams: this.#options.maxOutboundStreamsPerConnection }
    const opened = joining
      ? this.#gate.joiningStream(connection, [this.#wire(protocol)], limited)
      : connection.newStream([this.#wire(protocol)], limited)
    // A stream that opens after its caller has left is not left open.
    opened.then(
      stream => signal.aborted && stream.abort(new Error('nobody waits for it any more')),
      () => undefined,
    )
    return opened
  }

  async dial(address: string, options: DialOptions = {}): Promise<PeerText> {
    const node = this.#running()
    const target = parseAddress(address)
    const signal = withTimeout(options.signal, this.#options.dialTimeoutMs)
    try {
      const dial = () => node.dial(target, { signal })
      const connect = () => this.#dialAs(target.toString(), dial, options, signal)
      return await this.#meet(connect, options, signal, async ({ remotePeer }) => remotePeer.toString())
    } catch (error) {
      throw dialFailure(error, options.signal, `dialling ${address}`)
    }
  }

  /** Uses a connection whose peer is a member, or to which this node comes as a stranger. */
  async #meet<T>(
    connect: () => Promise<Connection>,
    { joining }: DialOptions,
    signal: AbortSignal,
    use: (connection: Connection) => Promise<T>,
  ): Promise<T> {
    for (let again = false; ; again = true) {
      const connection = await connect()
      let met = false
      try {
        if (joining !== true) await this.#gate.admitted(connection, { signal })
        met = joining !== true
        return await use(connection)
      } catch (error) {
        // libp2p may give one that is about to be closed, after a refusal: only a new one says what is the matter.
        const isEnding = !isCatalogError(error) || error.code === 'peer-unreachable'
        if (again || met || signal.aborted || !isEnding) throw error
        await pause(closingMs, signal)
      }
    }
  }

  /** `target`: the peer or address, for the gate to know whom this node meets as a stranger. */
  async #dialAs(
    target: string,
    dial: () => Promise<Connection>,
    { joining }: DialOptions,
    signal: AbortSignal,
  ): Promise<Connection> {
    const expected = joining === true ? this.#gate.expectJoining(target) : undefined
    try {
      return await raceAbort(dial(), signal)
    } finally {
      expected?.release()
    }
  }

  async disconnect(peer: PeerText): Promise<void> {
    const node = this.#node
    if (node === undefined) return
    const reason = new Error('disconnected')
    const connections = node.getConnections(parsePeer(peer))
    // A hang-up would end each stream as if all had been said: the other side must see that it broke off.
    for (const connection of connections) for (const stream of connection.streams) stream.abort(reason)
    const signal = AbortSignal.timeout(1000)
    await raceAbort(node.hangUp(parsePeer(peer), { signal }), signal).catch(() => {
      for (const connection of connections) connection.abort(reason)
    })
  }

  /** The addresses at which the peer says it listens, each with /p2p/…; beyond the port, for known-peers.ts. */
  async knownAddresses(peer: PeerText): Promise<string[]> {
    const stored = await this.#running().peerStore.get(parsePeer(peer))
    return stored.addresses.map(({ multiaddr: address }) => {
      const text = address.toString()
      return text.includes('/p2p/') ? text : `${text}/p2p/${peer}`
    })
  }

  onPeer(listener: PeerListener): () => void {
    return this.#gate.onPeer(listener)
  }

  /** Called when a peer refuses this node, or this node a peer: who, which code, and a sentence. Returns the unsubscriber. */
  onRefused(listener: RefusalListener): () => void {
    return this.#gate.onRefused(listener)
  }

  /**
   * Checks every connected member again, after something was revoked: by the predicate, or by proving the credential
   * that it gave. Whoever is refused is told why and disconnected. Resolves to those.
   */
  recheck(
    isStillGood?: (peer: PeerText, admission: Admission) => boolean,
    options: CallOptions = {},
  ): Promise<PeerText[]> {
    return this.#gate.recheck(isStillGood, options)
  }

  /** Shows this node's new credential to everybody who is connected; resolves when each has answered, or after 10 s. */
  present(options: CallOptions = {}): Promise<void> {
    return this.#gate.present(options)
  }

  #running(): Libp2p {
    if (this.#node === undefined)
      throw new CatalogError(
        'daemon-stopping',
        'The network is not running: the node is starting or stopping.',
      )
    return this.#node
  }

  #wire(protocol: string): string {
    return `/catalog/${this.#options.network}${protocol}`
  }

  #isOpen(wire: string): boolean {
    const prefix = this.#wire('')
    return wire.startsWith(prefix) && this.#streams.optionsOf(wire.slice(prefix.length))?.open === true
  }

  async #register(node: Libp2p, protocol: string): Promise<void> {
    const limit = (this.#streams.optionsOf(protocol)?.maxInboundPerPeer ?? 0) + libp2pStreamSlack
    await node.handle(
      this.#wire(protocol),
      (stream, connection) => {
        const peer = connection.remotePeer.toString()
        const wrapped = new Libp2pByteStream(stream, peer)
        return this.#streams.accept(protocol, wrapped, this.#gate.admissionOf(peer))
      },
      { maxInboundStreams: limit, maxOutboundStreams: this.#options.maxOutboundStreamsPerConnection },
    )
  }

  #listen(node: Libp2p): void {
    node.addEventListener('connection:open', ({ detail }) => this.#limitConnections(node, detail))
    if (this.#options.mdns)
      node.addEventListener('peer:discovery', ({ detail }) => {
        if (node.getConnections().length >= this.#options.maxConnections / 4) return
        node
          .dial(detail.id, { signal: AbortSignal.timeout(this.#options.dialTimeoutMs) })
          .catch(() => undefined)
      })
  }

  #limitConnections(node: Libp2p, connection: Connection): void {
    if (node.getConnections(connection.remotePeer).length <= this.#options.maxConnectionsPerPeer) return
    this.#deps.log.debug(
      { peer: connection.remotePeer.toString() },
      'connection closed: too many from one peer',
    )
    connection.abort(new Error('too many connections from one peer'))
  }
}
