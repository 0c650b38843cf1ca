// Which memberships were denied lately, by this node or to it, for a person who asks why there are no peers. It decides
// nothing; the gate does, and its log says more.
import type { Service } from '../base/lifecycle.ts'
import type { Refusal } from './admission.ts'
import type { PeerText } from './host.ts'
import type { Libp2pHost } from './libp2p-host.ts'

export interface RecentRefusal extends Refusal {
  readonly peer: PeerText
  /** Milliseconds since 1970, of the last time. */
  readonly at: number
}

/** Anybody may be refused, again and again: only the latest few count. */
const maxKept = 16
/** Whoever was refused tries again within minutes; what nobody repeats for an hour is past. */
const keptMs = 3_600_000

export class RecentRefusals implements Service {
  readonly #host: Pick<Libp2pHost, 'onRefused' | 'onPeer'>
  readonly #now: () => number
  readonly #refusals = new Map<string, RecentRefusal>()
  #unsubscribe: readonly (() => void)[] = []

  constructor(deps: { readonly host: Pick<Libp2pHost, 'onRefused' | 'onPeer'>; readonly now: () => number }) {
    this.#host = deps.host
    this.#now = deps.now
  }

  async start(): Promise<void> {
    this.#unsubscribe = [
      this.#host.onRefused((peer, refusal) => this.#add(peer, refusal)),
      // Both sides believe each other now: what was said before is past.
      this.#host.onPeer((peer, change) => {
        if (change === 'connected')
          for (const by of ['peer', 'this-node']) this.#refusals.delete(`${by} ${peer}`)
      }),
    ]
  }

  async stop(): Promise<void> {
    for (const unsubscribe of this.#unsubscribe) unsubscribe()
  }

  /** The latest first. */
  list(): RecentRefusal[] {
    const since = this.#now() - keptMs
    return [...this.#refusals.values()].filter(({ at }) => at >= since).reverse()
  }

  #add(peer: PeerText, refusal: Refusal): void {
    const key = `${refusal.by} ${peer}`
    this.#refusals.delete(key)
    this.#refusals.set(key, { ...refusal, peer, at: this.#now() })
    const [oldest] = this.#refusals.keys()
    if (this.#refusals.size > maxKept && oldest !== undefined) this.#refusals.delete(oldest)
  }
}
