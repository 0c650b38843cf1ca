// What a node has agreed on: keys that each open one data connection, bounded in number and time from the answer to the
// end of the handshake. It knows no socket.
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
  readonly #open = new Map<string, Expected>()
  /** Taken by a connection that is in mid-handshake. */
  readonly #taken = new Map<string, Expected>()
  readonly #now: () => number

  /** `now`: milliseconds of a clock that never goes back. */
  constructor(now: () => number = () => performance.now()) {
    this.#now = now
  }

  /** Undefined where there are too many, those of connections in mid-handshake among them. */
  make(peer: PeerText, protocol: string, from: readonly string[], port: number): Offer | undefined {
    this.#forgetOld()
    const all = [...this.#open.values(), ...this.#taken.values()]
    const mine = all.filter(each => each.peer === peer).length
    if (mine >= dataLimits.maxOffersPerPeer || all.length >= dataLimits.maxOffers) return undefined
    const [id, key] = [randomBytes(dataLimits.idBytes), randomBytes(dataLimits.keyBytes)]
    const until = this.#now() + dataLimits.offerMs
    this.#open.set(identityOf(id), { peer, protocol, from, key, until })
    return { port, id, key }
  }

  /** The offer with this identity, once; undefined where there is none, or not any more. It counts until `release`. */
  take(identity: string): Expected | undefined {
    const expected = this.#open.get(identity)
    if (expected === undefined || expected.until < this.#now()) return undefined
    this.#open.delete(identity)
    this.#taken.set(identity, expected)
    return expected
  }

  /** The handshake for which it was taken is over. */
  release(identity: string): void {
    this.#taken.delete(identity)
  }

  /** How many connections may still come from an address. */
  expectedFrom(address: string): number {
    this.#forgetOld()
    return [...this.#open.values()].filter(({ from }) => from.includes(address)).length
  }

  /** Nothing that a peer was offered opens anything any more. */
  forget(peer: PeerText): void {
    for (const [identity, each] of this.#open) if (each.peer === peer) this.#open.delete(identity)
  }

  clear(): void {
    this.#open.clear()
  }

  /** They were made in the order in which they end. */
  #forgetOld(): void {
    for (const [identity, { until }] of this.#open) {
      if (until >= this.#now()) return
      this.#open.delete(identity)
    }
  }
}
