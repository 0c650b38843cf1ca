// The one gate between strangers and this node's protocols. It wraps what libp2p hands to everybody else, before
// anybody has it: the registrar's handlers (streams that others open), each connection's `newStream` (streams that this
// node opens) and the registrar's topologies (how the DHT hears of peers). Until a connection's peer is a member, only
// identify, the membership protocol and protocols that are open to strangers pass. How one becomes a member is
// gate/introductions.ts's matter.
import { type Connection, type Stream, type StreamHandler, UnsupportedProtocolError } from '@libp2p/interface'
import { raceAbort } from '../../base/deadline.ts'
import { CatalogError } from '../../base/errors.ts'
import type { CallOptions } from '../../base/lifecycle.ts'
import type { Log } from '../../base/log.ts'
import type { Admission, Admissions } from '../admission.ts'
import type { ByteStream, PeerText } from '../host.ts'
import { Introductions } from './gate/introductions.ts'
import { exchangeTimeoutMs } from './gate/member-protocol.ts'
import { Members, type PeerListener } from './gate/members.ts'
import { gone, type Passage, Passages } from './gate/passages.ts'
import { type RefusalListener, RefusalNews } from './gate/refusal-news.ts'
import type { ServiceFactories } from './node.ts'

type Components = Parameters<ServiceFactories[string]>[0]
type Topology = Parameters<Components['registrar']['register']>[1]
type NewStream = Connection['newStream']

export interface GateOptions {
  readonly network: string
  /** The membership protocol as it stands on the wire. */
  readonly memberProtocol: string
  /** Whether the protocol, as on the wire, is open to strangers. */
  readonly isOpen: (protocol: string) => boolean
}

const identify = new Set(['/ipfs/id/1.0.0', '/ipfs/id/push/1.0.0'])
/** Streams that wait for their peer's admission; each holds up to 256 KiB. */
const maxHeldPerConnection = 32
const maxHeld = 256

export class Gate {
  readonly #options: GateOptions
  readonly #members: Members
  readonly #news: RefusalNews
  readonly #passages: Passages
  readonly #introductions: Introductions
  /** Peers and addresses that this node is about to dial as a stranger. */
  readonly #joiningTargets = new Map<string, number>()
  #held = 0

  constructor(
    { admissions, log }: { readonly admissions: Admissions; readonly log: Log },
    options: GateOptions,
  ) {
    const { network, memberProtocol: protocol } = options
    this.#options = options
    this.#news = new RefusalNews(log)
    const end = (peer: PeerText, refusal: Error) => void this.#introductions.dismiss(peer, refusal)
    const members = new Members({ admissions, log, end })
    const passages = new Passages({ members, news: this.#news })
    this.#members = members
    this.#passages = passages
    this.#introductions = new Introductions(
      { admissions, members, passages, news: this.#news, log },
      { network, protocol },
    )
  }

  /** The node's first service: whatever comes after it, and every connection, is behind the gate. */
  install({ registrar, events }: Components): object {
    const { getHandler, register } = registrar
    registrar.getHandler = protocol => {
      const record = getHandler.call(registrar, protocol)
      if (this.#isFree(protocol)) return record
      return { ...record, handler: this.#gated(protocol, record.handler) }
    }
    registrar.register = (protocol, topology, options) =>
      register.call(registrar, protocol, this.#gatedTopology(topology), options)
    events.addEventListener('connection:open', ({ detail }) => this.#opened(detail))
    events.addEventListener('connection:close', ({ detail }) => this.#passages.closed(detail))
    events.addEventListener('peer:identify', ({ detail }) => {
      const passage = this.#passages.get(detail.connection)
      if (passage !== undefined) this.#introductions.identified(passage, detail.protocols)
    })
    return {}
  }

  admissionOf(peer: PeerText): Admission | undefined {
    return this.#members.admissionOf(peer)
  }

  isConnected(peer: PeerText): boolean {
    return this.#members.isConnected(peer)
  }

  /** Whether the connection's peer is a member, and all may pass. */
  isIn(connection: Connection): boolean {
    const passage = this.#passages.get(connection)
    return passage !== undefined && this.#passages.isIn(passage)
  }

  onPeer(listener: PeerListener): () => void {
    return this.#members.onPeer(listener)
  }

  onRefused(listener: RefusalListener): () => void {
    return this.#news.onRefused(listener)
  }

  /** Tells nobody of peers. */
  clear(): void {
    this.#members.clear()
    this.#passages.clear()
  }

  /**
   * Resolves once the connection's peer is a member.
   * @throws CatalogError `not-a-member` with `{ peer, by, reason }`, `peer-unreachable`
   */
  async admitted(connection: Connection, options: CallOptions): Promise<void> {
    await this.#pass(this.#passageOf(connection), options.signal)
  }

  /**
   * Until `release` is called, no credential is shown on connections that this node makes to the target, a peer id or an
   * address.
   */
  expectJoining(target: string): { release(): void } {
    const targets = this.#joiningTargets
    targets.set(target, (targets.get(target) ?? 0) + 1)
    const release = () => {
      const left = (targets.get(target) ?? 1) - 1
      if (left > 0) targets.set(target, left)
      else targets.delete(target)
    }
    return { release }
  }

  /** A stream past the gate, for an open protocol of the peer's. @throws CatalogError `busy` */
  async joiningStream(connection: Connection, ...args: Parameters<NewStream>): Promise<Stream> {
    const passage = this.#passageOf(connection)
    if (!this.#passages.mayJoin(passage)) throw passage.refusal ?? tooManyJoining(passage.peer)
    return passage.newStream(...args)
  }

  /** The answering side of the membership protocol. */
  answer(stream: ByteStream, options: CallOptions): Promise<void> {
    return this.#introductions.answer(stream, options)
  }

  /** Tells a member that it lacks a capability, once in a while; it stays a member. */
  notify(peer: PeerText, denied: CatalogError): void {
    void this.#introductions.notify(peer, denied)
  }

  /** Shows this node's credential, perhaps a new one, to everybody who is connected. Never throws. */
  present(options: CallOptions): Promise<void> {
    return this.#introductions.presentToAll(options)
  }

  /** See `Members.recheck`; whoever is refused is told so and disconnected. */
  recheck(
    isStillGood: ((peer: PeerText, admission: Admission) => boolean) | undefined,
    options: CallOptions,
  ): Promise<PeerText[]> {
    return this.#members.recheck(isStillGood, options)
  }

  #isFree(protocol: string): boolean {
    return protocol === this.#options.memberProtocol || identify.has(protocol)
  }

  #passageOf(connection: Connection): Passage {
    const passage = this.#passages.get(connection)
    if (passage === undefined) throw gone(connection.remotePeer.toString())
    return passage
  }

  #opened(connection: Connection): void {
    // It was closed while it was made; no event will tell.
    if (connection.status !== 'open') return
    const passage = this.#passages.add(connection)
    connection.newStream = this.#gatedNewStream(passage)
    if (connection.direction === 'outbound' && !this.#isJoiningTarget(connection))
      void this.#introductions.introduce(passage)
  }

  async #pass(passage: Passage, signal: AbortSignal | undefined): Promise<void> {
    if (passage.refusal !== undefined) throw passage.refusal
    if (this.#passages.isIn(passage)) return
    const { promise } = passage.decided
    // Dialled as a stranger, or when this node had no credential.
    if (!passage.introduced && passage.connection.direction === 'outbound')
      void this.#introductions.introduce(passage)
    await raceAbort(promise, signal)
    if (!this.#passages.isIn(passage)) throw passage.refusal ?? gone(passage.peer)
  }

  /** What others open. */
  #gated(protocol: string, handler: StreamHandler): StreamHandler {
    return async (stream, connection) => {
      const passage = this.#passages.get(connection)
      if (passage === undefined) return stream.abort(gone(connection.remotePeer.toString()))
      if (this.#options.isOpen(protocol)) {
        if (!this.#passages.mayJoin(passage)) return stream.abort(tooManyJoining(passage.peer))
      } else if (!this.#passages.isIn(passage)) {
        await this.#hold(stream, passage)
        if (stream.status !== 'open') return
      }
      return handler(stream, connection)
    }
  }

  /** Keeps the stream until the peer is a member, or resets it. */
  async #hold(stream: Stream, passage: Passage): Promise<void> {
    if (passage.held >= maxHeldPerConnection || this.#held >= maxHeld)
      return stream.abort(
        new CatalogError('busy', `Too many streams of ${passage.peer} wait for its admission.`),
      )
    passage.held++
    this.#held++
    try {
      // Its sender is held back: what was sent already fits into one window.
      if (stream.readStatus === 'readable') stream.pause()
      await this.#pass(passage, AbortSignal.timeout(exchangeTimeoutMs))
      if (stream.readStatus === 'paused') stream.resume()
    } catch (error) {
      stream.abort(error as Error)
    } finally {
      passage.held--
      this.#held--
    }
  }

  /** What this node opens. */
  #gatedNewStream(passage: Passage): NewStream {
    return async (protocols, options) => {
      if (![protocols].flat().every(protocol => this.#isFree(protocol)) && !this.#passages.isIn(passage)) {
        // To libp2p's heartbeat this means a peer that lives and does not answer pings.
        if (passage.joining) throw new UnsupportedProtocolError(`${passage.peer} is no member yet`)
        await this.#pass(passage, options?.signal)
      }
      return passage.newStream(protocols, options)
    }
  }

  /** Who hears of peers. */
  #gatedTopology(topology: Topology): Topology {
    const { onConnect } = topology
    if (onConnect === undefined) return topology
    return {
      ...topology,
      // Not awaited: the registrar goes on to others only after this.
      onConnect: (peer, connection) => {
        this.admitted(connection, {})
          .then(() => connection.status === 'open' && onConnect(peer, connection))
          .catch(() => undefined)
      },
    }
  }

  #isJoiningTarget({ remotePeer, remoteAddr }: Connection): boolean {
    const address = remoteAddr.toString()
    const targets = [...this.#joiningTargets.keys()]
    return targets.some(
      target => target === remotePeer.toString() || address === target || address.startsWith(`${target}/`),
    )
  }
}

const tooManyJoining = (peer: PeerText) =>
  new CatalogError(
    'busy',
    `Too many connections of strangers who join are open; ${peer} may try again in a minute.`,
  )
