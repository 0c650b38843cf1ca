// Runs the membership exchange (member-protocol.ts) on connections, and does what follows: the peer becomes a member,
// or its connections are closed.
import { raceAbort, withTimeout } from '../../../base/deadline.ts'
import { type CatalogError, isCatalogError } from '../../../base/errors.ts'
import type { CallOptions } from '../../../base/lifecycle.ts'
import type { Log } from '../../../base/log.ts'
import { type Admissions, asRefusal, type Refusal, refusalError, refusalOf } from '../../admission.ts'
import { Libp2pByteStream } from '../../byte-stream.ts'
import type { ByteStream, PeerText } from '../../host.ts'
import { answer, dismiss, type Exchange, exchangeTimeoutMs, present } from './member-protocol.ts'
import type { Members, Proved } from './members.ts'
import { gone, type Passage, type Passages } from './passages.ts'
import type { RefusalNews } from './refusal-news.ts'

export interface IntroductionsDeps {
  readonly admissions: Admissions
  readonly members: Members
  readonly passages: Passages
  readonly news: RefusalNews
  readonly log: Log
}

/** Whoever cannot be identified (5 s) within this time is told of without. */
const identifyTimeoutMs = 6000
const dismissTimeoutMs = 2000
const exchangesAtOnce = 16
/** A peer that lacks a capability is told so this often. */
const notifyAgainAfterMs = 60_000
const maxNotified = 500

export class Introductions {
  readonly #deps: IntroductionsDeps
  readonly #network: string
  /** The membership protocol as it stands on the wire. */
  readonly #protocol: string
  /** When a peer was last told what it lacks. */
  readonly #notified = new Map<PeerText, number>()

  constructor(deps: IntroductionsDeps, options: { readonly network: string; readonly protocol: string }) {
    this.#deps = deps
    this.#network = options.network
    this.#protocol = options.protocol
  }

  /** The exchange as its opener. Never throws. */
  async introduce(passage: Passage, { signal }: CallOptions = {}): Promise<void> {
    const { peer } = passage
    const options = { signal: withTimeout(signal, exchangeTimeoutMs) }
    passage.introduced = true
    let stream: ByteStream | undefined
    try {
      // Before anything is sent: without a credential there is nothing to say.
      this.#deps.admissions.credential()
      stream = new Libp2pByteStream(await passage.newStream(this.#protocol, options), peer)
      const opened = stream
      await this.#exchange(peer, side => present(opened, side, options))
    } catch (error) {
      stream?.abort(error as Error)
      this.#notIntroduced(passage, error)
    }
  }

  /** The exchange as its answerer. */
  async answer(stream: ByteStream, { signal }: CallOptions): Promise<void> {
    const { peer } = stream
    try {
      const options = { signal: withTimeout(signal, exchangeTimeoutMs) }
      await this.#exchange(peer, side => answer(stream, side, options))
    } catch (error) {
      const said = refusalOf(error)
      if (said?.by === 'peer' && said.code === 'capability-missing') return this.#deps.news.tell(peer, said)
      // Whatever else went wrong, a peer that is no member yet still has its time.
      const refusal = isCatalogError(error, 'bad-peer-message') ? this.#unproved(peer, error) : error
      if (refusalOf(refusal) !== undefined) this.#deps.passages.refuse(peer, refusal as Error)
      throw error
    }
  }

  /** Introduces this node anew to everybody who is connected. Never throws. */
  async presentToAll(options: CallOptions): Promise<void> {
    const waiting = this.#deps.passages.onePerPeer()
    const work = async () => {
      for (let passage = waiting.pop(); passage !== undefined; passage = waiting.pop())
        await this.introduce(passage, options)
    }
    await Promise.all(Array.from({ length: exchangesAtOnce }, work))
  }

  /** Identify says which protocols the peer speaks: one without ours need not be waited for. */
  identified(passage: Passage, protocols: readonly string[]): void {
    const { passages, members } = this.#deps
    passage.identified = true
    members.tell(passage.peer)
    if (!protocols.includes(this.#protocol) && !passages.isIn(passage))
      passages.refuse(passage.peer, this.#foreign(passage.peer))
  }

  /** The peer is a member no longer: it is told why, and disconnected. Never throws. */
  async dismiss(peer: PeerText, error: Error): Promise<void> {
    const passages = this.#shut(peer, error)
    const [through] = passages
    if (through !== undefined) await this.#tell(through, error as CatalogError)
    for (const { connection } of passages) connection.abort(error)
  }

  /** The peer, a member, lacks a capability: it is told, so that somebody there can see why. Never throws. */
  async notify(peer: PeerText, { code, message }: CatalogError): Promise<void> {
    const [through] = this.#deps.passages.of(peer)
    const last = this.#notified.get(peer) ?? 0
    if (through === undefined || last > Date.now() - notifyAgainAfterMs) return
    this.#notified.set(peer, Date.now())
    const [oldest] = this.#notified.keys()
    if (this.#notified.size > maxNotified && oldest !== undefined) this.#notified.delete(oldest)
    await this.#tell(through, refusalError(peer, { by: 'this-node', code, message }))
  }

  async #exchange(peer: PeerText, run: (side: Exchange<Proved>) => Promise<Proved>): Promise<void> {
    const { admissions, members } = this.#deps
    let shut: readonly Passage[] = []
    const proved = run({
      credential: () => admissions.credential(),
      admit: (credential, options) => members.prove(peer, credential, options),
      refused: refusal => {
        shut = this.#shut(peer, refusal)
      },
    })
    try {
      await this.#admit(peer, await proved)
    } finally {
      // The peer has been told why, or does not listen.
      for (const { connection } of shut) connection.abort(new Error('no member of this network'))
    }
  }

  async #tell(through: Passage, refusal: CatalogError): Promise<void> {
    const options = { signal: AbortSignal.timeout(dismissTimeoutMs) }
    try {
      const stream = await raceAbort(through.newStream(this.#protocol, options), options.signal)
      await dismiss(new Libp2pByteStream(stream, through.peer), refusal, options)
    } catch {
      // It will notice.
    }
  }

  /** Nothing passes any more but the membership protocol, by which the peer hears why. */
  #shut(peer: PeerText, error: Error): Passage[] {
    return this.#deps.passages.shut(peer, error, ({ protocol }) => protocol === this.#protocol)
  }

  async #admit(peer: PeerText, first: Proved): Promise<void> {
    const { members, passages } = this.#deps
    const options = { signal: AbortSignal.timeout(exchangeTimeoutMs) }
    let proved = first
    // Something was revoked since it was proved.
    while (!members.isCurrent(proved))
      try {
        proved = await members.prove(peer, proved.credential, options)
      } catch (error) {
        const refusal = asRefusal(peer, error)
        void this.dismiss(peer, refusal)
        throw refusal
      }
    if (passages.of(peer).every(({ refusal }) => refusal !== undefined)) throw gone(peer)
    members.add(peer, proved)
    if (passages.settle(peer)) members.tell(peer)
    else setTimeout(() => members.tell(peer), identifyTimeoutMs).unref()
  }

  #notIntroduced(passage: Passage, error: unknown): void {
    const { peer, connection } = passage
    const { passages, members, log } = this.#deps
    if (refusalOf(error) !== undefined) passages.refuse(peer, error as Error)
    else if (isCatalogError(error, 'not-a-member')) {
      // This node has no credential: nobody is refused, and it may yet join on this connection.
      passage.introduced = false
      passages.disappoint(passage, error)
    } else if (members.admissionOf(peer) === undefined && connection.status === 'open')
      passages.refuse(peer, this.#unproved(peer, error))
    else log.debug({ peer, err: error }, 'a membership exchange failed')
  }

  #unproved(peer: PeerText, cause: unknown): CatalogError {
    const { name, message } = cause as Error
    if (name === 'UnsupportedProtocolError') return this.#foreign(peer)
    const why =
      name === 'TimeoutError'
        ? `It did not prove its membership within ${exchangeTimeoutMs / 1000} s.`
        : `It did not prove its membership: ${message}`
    return refusalError(peer, notMember(why), cause)
  }

  #foreign(peer: PeerText): CatalogError {
    const why = `It does not speak the membership protocol of the network ${this.#network}: it is of another network, or runs an older version.`
    return refusalError(peer, notMember(why))
  }
}

const notMember = (message: string): Refusal => ({ by: 'this-node', code: 'not-a-member', message })
