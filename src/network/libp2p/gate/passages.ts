// The connections, and how far each has come: whether its peer is a member, how long it may take, whether a stranger
// joins on it, what ended it. It asks nobody for proof and opens no stream.
import type { Connection, Stream } from '@libp2p/interface'
import { CatalogError } from '../../../base/errors.ts'
import { type Refusal, refusalError, refusalOf } from '../../admission.ts'
import type { PeerText } from '../../host.ts'
import { exchangeTimeoutMs } from './member-protocol.ts'
import type { Members } from './members.ts'
import type { RefusalNews } from './refusal-news.ts'

/** A connection on its way through the gate. */
export interface Passage {
  readonly peer: PeerText
  readonly connection: Connection
  /** The connection's own `newStream`, past the gate. */
  readonly newStream: Connection['newStream']
  /** Settles once the peer is a member, or is refused, or has gone. */
  decided: PromiseWithResolvers<void>
  /** The membership is over, or never was: nothing passes until the connection is closed. */
  refusal?: Error
  timer?: NodeJS.Timeout
  /** This side has begun an exchange. */
  introduced: boolean
  /** A stranger uses it for an open protocol. */
  joining: boolean
  identified: boolean
  /** Streams that wait for the admission. */
  held: number
}

const joiningTimeoutMs = 60_000
const maxJoining = 8
const maxJoiningPerPeer = 2
/** Connections whose peers are strangers, made by them; of more, the oldest goes: honest peers take milliseconds. */
const maxStrangers = 64

export class Passages {
  readonly #members: Members
  readonly #news: RefusalNews
  readonly #passages = new Map<Connection, Passage>()

  constructor(deps: { readonly members: Members; readonly news: RefusalNews }) {
    this.#members = deps.members
    this.#news = deps.news
  }

  /** Of an open connection that has no passage yet. */
  add(connection: Connection): Passage {
    const passage: Passage = {
      peer: connection.remotePeer.toString(),
      connection,
      newStream: connection.newStream.bind(connection),
      decided: undecided(),
      introduced: false,
      joining: false,
      identified: false,
      held: 0,
    }
    this.#passages.set(connection, passage)
    if (this.isIn(passage)) passage.decided.resolve()
    else this.#limitTime(passage, exchangeTimeoutMs)
    if (connection.direction === 'inbound') this.#limitStrangers()
    return passage
  }

  get(connection: Connection): Passage | undefined {
    return this.#passages.get(connection)
  }

  of(peer: PeerText): Passage[] {
    return [...this.#passages.values()].filter(passage => passage.peer === peer)
  }

  /** One for each peer that is connected, whether member or not. */
  onePerPeer(): Passage[] {
    const open = [...this.#passages.values()].filter(
      ({ refusal, connection }) => refusal === undefined && connection.status === 'open',
    )
    return [...new Map(open.map(passage => [passage.peer, passage])).values()]
  }

  isIn({ refusal, peer }: Passage): boolean {
    return refusal === undefined && this.#members.admissionOf(peer) !== undefined
  }

  closed(connection: Connection): void {
    const passage = this.#passages.get(connection)
    if (passage === undefined) return
    clearTimeout(passage.timer)
    this.#passages.delete(connection)
    passage.refusal ??= gone(passage.peer)
    passage.decided.reject(passage.refusal)
    // Once libp2p has counted the connection out: whoever hears of it may dial again at once.
    queueMicrotask(() => {
      if (this.of(passage.peer).length === 0) this.#members.remove(passage.peer)
    })
  }

  clear(): void {
    for (const { timer } of this.#passages.values()) clearTimeout(timer)
    this.#passages.clear()
  }

  /** The peer is a member from now on. Returns whether it was identified on any of its connections. */
  settle(peer: PeerText): boolean {
    const passages = this.of(peer)
    for (const passage of passages) {
      clearTimeout(passage.timer)
      passage.joining = false
      passage.decided.resolve()
    }
    return passages.some(({ identified }) => identified)
  }

  /** Whoever waits now waits in vain; later the peer may still become a member on this connection. */
  disappoint(passage: Passage, error: Error): void {
    passage.decided.reject(error)
    passage.decided = undecided()
  }

  /** The peer is no member: its connections are closed, but for one on which it joins. */
  refuse(peer: PeerText, error: Error): void {
    for (const { connection } of this.shut(peer, error)) connection.abort(error)
  }

  /** From here on nothing passes on the peer's connections but `free` protocols; they are the caller's to close. */
  shut(peer: PeerText, error: Error, isFree: (stream: Stream) => boolean = () => true): Passage[] {
    const passages = this.of(peer).filter(({ joining, refusal }) => !joining && refusal === undefined)
    for (const passage of passages) {
      clearTimeout(passage.timer)
      passage.refusal = error
      passage.decided.reject(error)
      for (const stream of passage.connection.streams) if (!isFree(stream)) stream.abort(error)
    }
    this.#members.remove(peer)
    const refusal = refusalOf(error)
    const address = passages[0]?.connection.remoteAddr.toString()
    if (refusal !== undefined && address !== undefined) this.#news.tell(peer, refusal, address)
    return passages
  }

  /** Whether a stranger may use the connection for an open protocol; a member always may. */
  mayJoin(passage: Passage): boolean {
    if (passage.refusal !== undefined) return false
    if (passage.joining || this.isIn(passage)) return true
    const joining = [...this.#passages.values()].filter(each => each.joining)
    const ofPeer = joining.filter(({ peer }) => peer === passage.peer)
    if (joining.length >= maxJoining || ofPeer.length >= maxJoiningPerPeer) return false
    passage.joining = true
    this.#limitTime(passage, joiningTimeoutMs)
    return true
  }

  #limitTime(passage: Passage, timeoutMs: number): void {
    clearTimeout(passage.timer)
    const late = () => {
      const { peer, connection, joining } = passage
      const message = `It did not prove its membership within ${timeoutMs / 1000} s.`
      const refusal: Refusal = { by: 'this-node', code: 'not-a-member', message }
      if (!joining) this.#news.tell(peer, refusal, connection.remoteAddr.toString())
      this.#end(passage, refusalError(peer, refusal))
    }
    passage.timer = setTimeout(late, timeoutMs).unref()
  }

  #limitStrangers(): void {
    const strangers = [...this.#passages.values()].filter(
      passage => passage.connection.direction === 'inbound' && !passage.joining && !this.isIn(passage),
    )
    for (const passage of strangers.slice(0, Math.max(0, strangers.length - maxStrangers)))
      this.#end(passage, new CatalogError('busy', 'Too many connections wait for their admission.'))
  }

  #end(passage: Passage, error: Error): void {
    passage.refusal ??= error
    passage.decided.reject(passage.refusal)
    passage.connection.abort(passage.refusal)
  }
}

function undecided(): PromiseWithResolvers<void> {
  const decided = Promise.withResolvers<void>()
  // Often nobody waits.
  decided.promise.catch(() => undefined)
  return decided
}

export const gone = (peer: PeerText) =>
  new CatalogError('peer-unreachable', `The connection with ${peer} ended before its membership was proved.`)
