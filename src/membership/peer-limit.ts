// Counts what single peers did lately, and refuses those with too much of it. Peer ids cost nothing, so this holds back
// honest machines that try for ever and members that do not stop asking; what one question costs is bounded elsewhere.
import { CatalogError } from '../base/errors.ts'

export interface PeerLimitOptions {
  /** What is counted, for the message: `failed attempts`. */
  readonly what: string
  readonly maxPerPeer: number
  readonly windowMs: number
}

/** Of all peers together; the oldest are forgotten first. */
const maxRemembered = 1000

export class PeerLimit {
  readonly #now: () => number
  readonly #options: PeerLimitOptions
  #events: { readonly peer: string; readonly at: number }[] = []

  constructor({ now }: { readonly now: () => number }, options: PeerLimitOptions) {
    this.#now = now
    this.#options = options
  }

  /** @throws CatalogError `busy` */
  check(peer: string): void {
    const { what, maxPerPeer, windowMs } = this.#options
    const since = this.#now() - windowMs
    this.#events = this.#events.filter(({ at }) => at > since)
    if (this.#events.filter(event => event.peer === peer).length >= maxPerPeer)
      throw new CatalogError(
        'busy',
        `There were too many ${what} by ${peer}. Try again in ${Math.ceil(windowMs / 60_000)} minutes.`,
      )
  }

  add(peer: string): void {
    if (this.#events.length >= maxRemembered) this.#events.shift()
    this.#events.push({ peer, at: this.#now() })
  }
}
