// Who is a member now: the admissions of connected peers, kept with the credentials that earned them, so that they can
// be proved again when something was revoked, and ended when their time is up. It opens and closes no connection.
import { equalBytes } from '../../../base/cbor.ts'
import type { CallOptions } from '../../../base/lifecycle.ts'
import type { Log } from '../../../base/log.ts'
import { type Admission, type Admissions, asRefusal, refusalError } from '../../admission.ts'
import type { PeerText } from '../../host.ts'

export type PeerListener = (peer: PeerText, change: 'connected' | 'disconnected') => void

/** A credential that was proved, and when in the order of rechecks. */
export interface Proved {
  readonly credential: Uint8Array
  readonly admission: Admission
  readonly epoch: number
}

interface Member extends Proved {
  /** Its listeners have been told. */
  readonly told: boolean
}

interface MembersDeps {
  readonly admissions: Admissions
  readonly log: Log
  /** The peer's membership is over: `refusal` says why. */
  readonly end: (peer: PeerText, refusal: Error) => void
}

// Node's timers end at 2^31 ms, and a wall clock may be set: the time is looked at again this often.
const maxTimerMs = 10 * 60_000
const rechecksAtOnce = 8

export class Members {
  readonly #deps: MembersDeps
  readonly #members = new Map<PeerText, Member>()
  readonly #listeners = new Set<PeerListener>()
  /** Counts rechecks: what was proved before the last one is proved again before it counts. */
  #epoch = 0
  #timer: NodeJS.Timeout | undefined

  constructor(deps: MembersDeps) {
    this.#deps = deps
  }

  admissionOf(peer: PeerText): Admission | undefined {
    return this.#members.get(peer)?.admission
  }

  /** Whether listeners know of it. */
  isConnected(peer: PeerText): boolean {
    return this.#members.get(peer)?.told === true
  }

  /** Proves a credential; the same bytes as the peer's last are not proved twice. Throws what `admit` throws. */
  async prove(peer: PeerText, credential: Uint8Array, options: CallOptions): Promise<Proved> {
    const member = this.#members.get(peer)
    if (member?.epoch === this.#epoch && equalBytes(member.credential, credential)) return member
    for (;;) {
      const epoch = this.#epoch
      const admission = await this.#deps.admissions.admit(peer, credential, options)
      if (admission.notAfter <= Date.now()) throw expired(peer, admission)
      // A revocation that came meanwhile may have been looked at or not.
      if (epoch === this.#epoch) return { credential, admission, epoch }
    }
  }

  /** Whether nothing was revoked since the proof. */
  isCurrent(proved: Proved): boolean {
    return proved.epoch === this.#epoch
  }

  /** The peer is a member from now on, with this credential. Listeners hear of it from `tell`. */
  add(peer: PeerText, proved: Proved): void {
    const told = this.#members.get(peer)?.told ?? false
    this.#members.set(peer, { ...proved, told })
    this.#schedule()
  }

  tell(peer: PeerText): void {
    const member = this.#members.get(peer)
    if (member === undefined || member.told) return
    this.#members.set(peer, { ...member, told: true })
    this.#emit(peer, 'connected')
  }

  remove(peer: PeerText): void {
    const member = this.#members.get(peer)
    if (member === undefined) return
    this.#members.delete(peer)
    if (member.told) this.#emit(peer, 'disconnected')
  }

  /** Forgets all; tells nobody. */
  clear(): void {
    clearTimeout(this.#timer)
    this.#timer = undefined
    this.#members.clear()
  }

  onPeer(listener: PeerListener): () => void {
    this.#listeners.add(listener)
    return () => this.#listeners.delete(listener)
  }

  /** Ends the membership of those that the predicate, or a new proof of their credential, refuses. Returns them. */
  async recheck(
    isStillGood: ((peer: PeerText, admission: Admission) => boolean) | undefined,
    options: CallOptions,
  ): Promise<PeerText[]> {
    this.#epoch++
    const waiting = [...this.#members.keys()]
    const ended: PeerText[] = []
    const work = async () => {
      for (let peer = waiting.pop(); peer !== undefined; peer = waiting.pop())
        if (!(await this.#recheck(peer, isStillGood, options))) ended.push(peer)
    }
    await Promise.all(Array.from({ length: rechecksAtOnce }, work))
    return ended
  }

  async #recheck(
    peer: PeerText,
    isStillGood: ((peer: PeerText, admission: Admission) => boolean) | undefined,
    options: CallOptions,
  ): Promise<boolean> {
    const member = this.#members.get(peer)
    if (member === undefined) return true
    try {
      if (isStillGood === undefined) {
        const proved = await this.prove(peer, member.credential, options)
        // It may have shown a newer credential, or gone, meanwhile.
        if (this.#members.get(peer)?.credential === member.credential) this.add(peer, proved)
      } else if (!isStillGood(peer, member.admission)) throw revoked(peer, member.admission)
      return true
    } catch (error) {
      options.signal?.throwIfAborted()
      if (this.#members.get(peer)?.credential !== member.credential) return true
      this.#deps.end(peer, asRefusal(peer, error))
      return false
    }
  }

  /** One timer, for the first whose time is up. */
  #schedule(): void {
    clearTimeout(this.#timer)
    let first = Number.POSITIVE_INFINITY
    for (const { admission } of this.#members.values()) first = Math.min(first, admission.notAfter)
    if (first === Number.POSITIVE_INFINITY) return
    const delay = Math.min(Math.max(0, first - Date.now()), maxTimerMs)
    this.#timer = setTimeout(() => this.#expire(), delay).unref()
  }

  #expire(): void {
    const now = Date.now()
    for (const [peer, { admission }] of this.#members)
      if (admission.notAfter <= now) this.#deps.end(peer, expired(peer, admission))
    this.#schedule()
  }

  #emit(peer: PeerText, change: 'connected' | 'disconnected'): void {
    for (const listener of this.#listeners)
      try {
        listener(peer, change)
      } catch (err) {
        this.#deps.log.error({ err, peer, change }, 'a listener for peers failed')
      }
  }
}

const expired = (peer: PeerText, { certificate, notAfter }: Admission) =>
  refusalError(peer, {
    by: 'this-node',
    code: 'certificate-expired',
    message: `The certificate ${certificate} expired on ${new Date(notAfter).toISOString()}. Renew it.`,
  })

const revoked = (peer: PeerText, { certificate }: Admission) =>
  refusalError(peer, {
    by: 'this-node',
    code: 'certificate-revoked',
    message: `The certificate ${certificate} does not count any more.`,
  })
