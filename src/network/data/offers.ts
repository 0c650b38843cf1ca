// What a node has agreed on and waits for: keys that each open one data connection, bounded in number and time. It knows
// no socket.
import { randomBytes } from 'node:crypto'
import type { PeerText } from '../host.ts'
import { dataLimits, identityOf, type Offer } from './protocol.ts'

export interface Expected {
  readonly peer: PeerText
  readonly protocol: string
  /** The IP addresses from which the peer is connected. */
  readonly from: readonly string[]
  readonly key: Uint8Array
  readonly until: number
}

export class Offers {
  readonly #expected = new Map<string, Expected>()
  readonly #now: () => number

  /** `now`: milliseconds of a clock that never goes back. */
  constructor(now: () => number = () => performance.now()) {
    this.#now = now
  }

  /** Undefined where there are too many. */
  make(peer: PeerText, protocol: string, from: readonly string[], port: number): Offer | undefined {
    this.#forgetOld()
    const mine = [...this.#expected.values()].filter(each => each.peer === peer).length
    if (mine >= dataLimits.maxOffersPerPeer || this.#expected.size >= dataLimits.maxOffers) return undefined
    const [id, key] = [randomBytes(dataLimits.idBytes), randomBytes(dataLimits.keyBytes)]
    const until = this.#now() + dataLimits.offerMs
    this.#expected.set(identityOf(id), { peer, protocol, from, key, until })
    return { port, id, key }
  }

  /** The offer with this identity, once; undefined where there is none, or not any more. */
  take(identity: string): Expected | undefined {
    const expected = this.#expected.get(identity)
    this.#expected.delete(identity)
    return expected === undefined || expected.until < this.#now() ? undefined : expected
  }

  /** How many connections may still come from an address. */
  expectedFrom(address: string): number {
    this.#forgetOld()
    return [...this.#expected.values()].filter(({ from }) => from.includes(address)).length
  }

  /** Nothing that a peer was offered holds any more. */
  forget(peer: PeerText): void {
    for (const [identity, each] of this.#expected) if (each.peer === peer) this.#expected.delete(identity)
  }

  clear(): void {
    this.#expected.clear()
  }

  /** They were made in the order in which they end. */
  #forgetOld(): void {
    for (const [identity, { until }] of this.#expected) {
      if (until >= this.#now()) return
      this.#expected.delete(identity)
    }
  }
}
