// The Host in one process, for tests: the same port, limits and backpressure as over libp2p, with connections that a
// test can cut, slow down or partition. Nothing here touches the network.
import { randomBytes } from 'node:crypto'
import { eitherSignal, pause, raceAbort } from '../base/deadline.ts'
import { CatalogError } from '../base/errors.ts'
import type { CallOptions } from '../base/lifecycle.ts'
import { type Log, silentLog } from '../base/log.ts'
import { type Admission, type Admissions, asRefusal, refusalError, refusalOf } from './admission.ts'
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
import { InboundStreams } from './inbound-streams.ts'
import { ReadQueue } from './read-queue.ts'

/** One hop of the imaginary wire. */
const pieceBytes = 64 * 1024

export interface LinkConditions {
  /** Before each piece of up to 64 KiB, in milliseconds. */
  readonly latencyMs?: number
  readonly bytesPerSecond?: number
}

/** All hosts that can reach each other, and what lies between them. */
export class MemoryNetwork {
  readonly #hosts = new Map<PeerText, MemoryHost>()
  readonly #conditions = new Map<PeerText, LinkConditions>()
  readonly #groups = new Map<PeerText, number>()

  /** Without `admissions` the host takes everybody for a member with every capability, and is one itself. */
  createHost(
    peer = `memory-${randomBytes(6).toString('hex')}`,
    log: Log = silentLog,
    admissions: Admissions = everybody,
  ): MemoryHost {
    if (this.#hosts.has(peer)) throw new Error(`the peer ${peer} exists`)
    const host = new MemoryHost(this, { peer, log, admissions })
    this.#hosts.set(peer, host)
    return host
  }

  /** What the peer sends is slowed down from now on. */
  slow(peer: PeerText, conditions: LinkConditions): void {
    this.#conditions.set(peer, conditions)
  }

  /** Ends the connection between two peers; they may dial again. */
  cut(a: PeerText, b: PeerText): void {
    this.#hosts.get(a)?.drop(b)
    this.#hosts.get(b)?.drop(a)
  }

  /** Peers of different groups cannot reach each other; those not named are in group 0. No groups: heals. */
  partition(...groups: readonly PeerText[][]): void {
    this.#groups.clear()
    groups.forEach((group, index) => {
      for (const peer of group) this.#groups.set(peer, index + 1)
    })
    for (const a of this.#hosts.keys())
      for (const b of this.#hosts.keys()) if (!this.#reachable(a, b)) this.cut(a, b)
  }

  /** The host at the other end, if it runs and can be reached. */
  find(from: PeerText, to: PeerText): MemoryHost | undefined {
    const host = this.#hosts.get(to)
    return host?.running === true && this.#reachable(from, to) ? host : undefined
  }

  conditionsOf(peer: PeerText): LinkConditions {
    return this.#conditions.get(peer) ?? {}
  }

  #reachable(a: PeerText, b: PeerText): boolean {
    return (this.#groups.get(a) ?? 0) === (this.#groups.get(b) ?? 0)
  }
}

const everybody: Admissions = {
  credential: () => new Uint8Array(0),
  admit: async peer => ({
    capabilities: new Set(['fetch', 'publish', 'replicate', 'execute'] as const),
    roles: new Set(),
    certificate: peer,
    notAfter: Number.POSITIVE_INFINITY,
  }),
}

interface Link {
  readonly view: ConnectionView
  /** Absent while the peer is a stranger. */
  admission?: Admission
  readonly streams: Set<MemoryStream>
}

export class MemoryHost implements Host {
  readonly peer: PeerText
  readonly #network: MemoryNetwork
  readonly #streams: InboundStreams
  readonly #admissions: Admissions
  readonly #links = new Map<PeerText, Link>()
  readonly #listeners = new Set<(peer: PeerText, change: 'connected' | 'disconnected') => void>()
  running = true

  constructor(
    network: MemoryNetwork,
    deps: { readonly peer: PeerText; readonly log: Log; readonly admissions: Admissions },
  ) {
    this.#network = network
    this.peer = deps.peer
    this.#admissions = deps.admissions
    this.#streams = new InboundStreams(deps.log)
  }

  async start(): Promise<void> {
    this.#streams.start()
    this.running = true
  }

  async stop(): Promise<void> {
    this.running = false
    await this.#streams.stop(500)
    for (const peer of [...this.#links.keys()]) this.#network.cut(this.peer, peer)
  }

  addresses(): string[] {
    return [`/memory/${this.peer}/p2p/${this.peer}`]
  }

  connections(): ConnectionView[] {
    return [...this.#links.values()].filter(link => link.admission !== undefined).map(link => link.view)
  }

  isConnected(peer: PeerText): boolean {
    return this.admissionOf(peer) !== undefined
  }

  admissionOf(peer: PeerText): Admission | undefined {
    return this.#links.get(peer)?.admission
  }

  handle(protocol: string, handler: StreamHandler, options: ProtocolOptions): void {
    this.#streams.register(protocol, handler, options)
  }

  async dial(address: string, options: DialOptions = {}): Promise<PeerText> {
    options.signal?.throwIfAborted()
    const peer = /^\/memory\/([^/]+)(?:\/p2p\/([^/]+))?$/.exec(address)?.[1]
    if (peer === undefined)
      throw new CatalogError(
        'invalid-request',
        `${JSON.stringify(address)} is not an address of a memory host.`,
      )
    await this.#connect(peer, options)
    return peer
  }

  async open(peer: PeerText, protocol: string, options: OpenOptions = {}): Promise<ByteStream> {
    options.signal?.throwIfAborted()
    const remote = await this.#connect(peer, options)
    if (remote.#streams.optionsOf(protocol) === undefined)
      throw new CatalogError(
        'peer-unreachable',
        `Failed opening ${protocol} to ${peer}: it does not speak it.`,
      )
    const [here, there] = MemoryStream.pair(this.peer, peer, this.#network)
    this.#join(peer, here)
    remote.#join(this.peer, there)
    void remote.#streams.accept(protocol, there, remote.admissionOf(this.peer))
    return here
  }

  async openBulk(
    peer: PeerText,
    protocol: string,
    options: OpenOptions = {},
  ): Promise<ByteStream | undefined> {
    options.signal?.throwIfAborted()
    const remote = this.#network.find(this.peer, peer)
    const takesBulk = remote !== undefined && remote.#streams.optionsOf(protocol)?.bulk === true
    if (!takesBulk || !this.isConnected(peer)) return undefined
    return this.open(peer, protocol, options).catch(() => undefined)
  }

  async disconnect(peer: PeerText): Promise<void> {
    this.#network.cut(this.peer, peer)
  }

  onPeer(listener: (peer: PeerText, change: 'connected' | 'disconnected') => void): () => void {
    this.#listeners.add(listener)
    return () => this.#listeners.delete(listener)
  }

  /** For the network: this side of a connection is gone. */
  drop(peer: PeerText): void {
    const link = this.#links.get(peer)
    if (link === undefined) return
    this.#links.delete(peer)
    for (const stream of link.streams)
      stream.abort(new CatalogError('peer-unreachable', `The connection with ${peer} is gone.`))
    if (link.admission !== undefined) for (const listener of this.#listeners) listener(peer, 'disconnected')
  }

  async #connect(peer: PeerText, { joining, signal }: DialOptions): Promise<MemoryHost> {
    const remote = peer === this.peer || !this.running ? undefined : this.#network.find(this.peer, peer)
    if (remote === undefined)
      throw new CatalogError('peer-unreachable', `Failed dialling ${peer}: nobody is there.`)
    if (joining === true) {
      this.#link(peer, 'outbound')
      remote.#link(this.peer, 'inbound')
    } else if (!this.isConnected(peer) || !remote.isConnected(this.peer)) await this.#meet(remote, { signal })
    return remote
  }

  /** Each admits the other, the dialled host first; or neither is connected. */
  async #meet(remote: MemoryHost, options: CallOptions): Promise<void> {
    const own = this.#admissions.credential()
    const there = await remote.#admit(this.peer, own, options).catch((error: unknown) => {
      const refusal = refusalOf(error)
      throw refusal === undefined ? error : refusalError(remote.peer, { ...refusal, by: 'peer' }, error)
    })
    const here = await this.#admit(remote.peer, remote.#admissions.credential(), options)
    this.#link(remote.peer, 'outbound', here)
    remote.#link(this.peer, 'inbound', there)
  }

  async #admit(peer: PeerText, credential: Uint8Array, options: CallOptions): Promise<Admission> {
    try {
      return await this.#admissions.admit(peer, credential, options)
    } catch (error) {
      options.signal?.throwIfAborted()
      throw asRefusal(peer, error)
    }
  }

  #link(peer: PeerText, direction: 'inbound' | 'outbound', admission?: Admission): void {
    const addresses = [`/memory/${peer}/p2p/${peer}`]
    const view = { peer, addresses, transport: 'memory', direction, connectedAt: Date.now() } as const
    const link: Link = this.#links.get(peer) ?? { view, streams: new Set() }
    this.#links.set(peer, link)
    if (admission === undefined || link.admission !== undefined) return
    link.admission = admission
    for (const listener of this.#listeners) listener(peer, 'connected')
  }

  #join(peer: PeerText, stream: MemoryStream): void {
    const streams = this.#links.get(peer)?.streams
    streams?.add(stream)
    stream.ended.addEventListener('abort', () => streams?.delete(stream), { once: true })
  }
}

class MemoryStream implements ByteStream {
  readonly peer: PeerText
  readonly #queue = new ReadQueue({ pause: () => this.#hold(), resume: () => this.#letGo() })
  readonly #conditions: () => LinkConditions
  readonly #ended = new AbortController()
  #remote: MemoryStream = this
  #room: PromiseWithResolvers<void> | undefined
  #writeOpen = true
  #remoteOpen = true
  #broken: Error | undefined

  private constructor(peer: PeerText, conditions: () => LinkConditions) {
    this.peer = peer
    this.#conditions = conditions
  }

  static pair(a: PeerText, b: PeerText, network: MemoryNetwork): [MemoryStream, MemoryStream] {
    const atA = new MemoryStream(b, () => network.conditionsOf(a))
    const atB = new MemoryStream(a, () => network.conditionsOf(b))
    atA.#remote = atB
    atB.#remote = atA
    return [atA, atB]
  }

  get ended(): AbortSignal {
    return this.#ended.signal
  }

  read(maxBytes?: number, options?: CallOptions): Promise<Uint8Array | undefined> {
    return this.#queue.take(maxBytes, options?.signal)
  }

  async write(bytes: Uint8Array, options: CallOptions = {}): Promise<void> {
    for (let offset = 0; offset < bytes.byteLength; offset += pieceBytes) {
      const piece = bytes.slice(offset, offset + pieceBytes)
      await this.#travel(piece.byteLength, options.signal)
      this.#throwIfClosed()
      this.#remote.#queue.push(piece)
    }
  }

  async closeWrite(): Promise<void> {
    if (!this.#writeOpen) return
    this.#writeOpen = false
    this.#remote.#queue.end()
    this.#remote.#remoteOpen = false
    this.#settleBoth()
  }

  async close(): Promise<void> {
    this.#queue.ignore()
    await this.closeWrite()
  }

  abort(error: Error): void {
    this.#break(error)
    this.#remote.#break(
      new CatalogError('peer-unreachable', `The stream with ${this.#remote.peer} was reset by the peer.`),
    )
  }

  #break(error: Error): void {
    if (this.#ended.signal.aborted) return
    this.#broken = error
    this.#writeOpen = false
    this.#remoteOpen = false
    this.#queue.fail(error)
    this.#letGo()
    this.#ended.abort(error)
  }

  /** Waits for latency and rate, then until the other side has room; ends with the stream or the signal. */
  async #travel(bytes: number, signal: AbortSignal | undefined): Promise<void> {
    const over = eitherSignal(signal, this.#ended.signal)
    const { latencyMs = 0, bytesPerSecond = Number.POSITIVE_INFINITY } = this.#conditions()
    const waitMs = latencyMs + (bytes / bytesPerSecond) * 1000
    if (waitMs > 0) await pause(waitMs, over)
    const room = this.#remote.#room
    if (room !== undefined) await raceAbort(room.promise, over).catch(() => undefined)
    signal?.throwIfAborted()
  }

  #throwIfClosed(): void {
    if (this.#broken !== undefined) throw this.#broken
    if (!this.#writeOpen)
      throw new CatalogError('peer-unreachable', `The stream with ${this.peer} broke off: it was closed.`)
  }

  #settleBoth(): void {
    for (const side of [this, this.#remote])
      if (!side.#writeOpen && !side.#remoteOpen && !side.#ended.signal.aborted)
        side.#ended.abort(new Error('the stream has ended'))
  }

  #hold(): void {
    this.#room ??= Promise.withResolvers<void>()
  }

  #letGo(): void {
    this.#room?.resolve()
    this.#room = undefined
  }
}
