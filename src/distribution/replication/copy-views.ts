// What the other holders have said and shown of their copies, in memory: after a restart it is asked for again. Here
// it is decided which word of whom is taken; what follows from it is the tender's business.
import { LRUCache } from 'lru-cache'
import { replicateLimits, type Standing } from '../replication-protocol.ts'
import type { Obligations } from './obligations.ts'
import type { Copy } from './placement.ts'

export interface CopyView {
  standing: 'whole' | 'coming' | 'leaving' | 'unknown'
  draining: boolean
  /** The holders that it has itself heard of late. */
  names: readonly string[]
  bytes: number
  /** Monotonic milliseconds at which it last came nearer to being whole. */
  progressAt: number
  /** Samples that were wrong, in a row. */
  failures: number
  /** Milliseconds since 1970: proved first, without a failure since; sampled last. */
  provedSince: number | undefined
  sampledAt: number | undefined
}

export interface CopyViewsOptions {
  /** A copy that came no nearer for this long is not counted on. */
  readonly stalledMs: number
}

/** Wrong samples in a row after which a copy is given up: once may be a damage that is being mended. */
const maxFailures = 2

export class CopyViews {
  readonly #obligations: Obligations
  readonly #options: CopyViewsOptions
  readonly #views = new Map<string, Map<string, CopyView>>()
  /** Peers that let go or were dropped: taken as holders again on their own word, not on another's. */
  readonly #dropped = new LRUCache<string, true>({ max: 10_000, ttl: 600_000 })
  /** Peers whose copies were wrong: not taken on their own word either, for a while. */
  readonly #distrusted = new LRUCache<string, true>({ max: 10_000, ttl: 3_600_000 })

  constructor(obligations: Obligations, options: CopyViewsOptions) {
    this.#obligations = obligations
    this.#options = options
  }

  get(root: string, peer: string): CopyView {
    const peers = this.#views.get(root) ?? new Map<string, CopyView>()
    this.#views.set(root, peers)
    const view = peers.get(peer) ?? unheard()
    peers.set(peer, view)
    return view
  }

  forget(root: string): void {
    this.#views.delete(root)
  }

  /**
   * Takes in what a peer says of itself and of others. Resolves to whether something of weight changed. A stranger
   * may say that it is a holder; only who is known as one may name others or change the terms.
   */
  async learn(root: string, peer: string, said: Standing, self: string): Promise<boolean> {
    const mine = this.#obligations.get(root)
    if (mine === undefined) return false
    if (said.state === 'none') return this.drop(root, [peer])
    const known = mine.holders.includes(peer)
    const full = mine.holders.length >= replicateLimits.maxHolders
    if (!known && (full || this.#distrusted.has(`${root}/${peer}`))) return false
    const view = this.get(root, peer)
    const changed =
      !known ||
      view.standing !== said.state ||
      view.draining !== said.draining ||
      view.names.join() !== said.holders.join()
    if (view.standing !== said.state || said.bytes > view.bytes) view.progressAt = performance.now()
    if (said.state !== 'whole') view.provedSince = undefined
    view.standing = said.state
    view.draining = said.draining
    view.names = said.holders
    view.bytes = said.bytes
    this.#dropped.delete(`${root}/${peer}`)
    const named = known ? said.holders.filter(each => this.#isNews(root, each, self, mine.holders)) : []
    const holders = [...mine.holders, ...(known ? [] : [peer]), ...named].slice(0, replicateLimits.maxHolders)
    // Anybody among the holders may ask for more copies; fewer only who asked for them first.
    const newTerms =
      known && said.factorVersion > mine.factorVersion && (said.factor >= mine.factor || peer === mine.origin)
    if (holders.length === mine.holders.length && !newTerms) return changed
    const { factor, factorVersion } = said
    await this.#obligations.change(root, { holders, ...(newTerms ? { factor, factorVersion } : {}) })
    return true
  }

  #isNews(root: string, peer: string, self: string, holders: readonly string[]): boolean {
    return peer !== self && !holders.includes(peer) && !this.#dropped.has(`${root}/${peer}`)
  }

  /** These no longer hold it. Resolves to whether one was thought to. */
  async drop(root: string, peers: readonly string[]): Promise<boolean> {
    const mine = this.#obligations.get(root)
    const holders = mine?.holders.filter(peer => !peers.includes(peer))
    if (mine === undefined || holders === undefined || holders.length === mine.holders.length) return false
    for (const peer of peers) {
      if (this.#hasFailed(root, peer)) this.#distrusted.set(`${root}/${peer}`, true)
      this.#views.get(root)?.delete(peer)
      this.#dropped.set(`${root}/${peer}`, true)
    }
    await this.#obligations.change(root, { holders })
    return true
  }

  /** A sample of its bytes was fetched. */
  sampled(root: string, peer: string, good: boolean): void {
    const view = this.get(root, peer)
    view.sampledAt = Date.now()
    view.failures = good ? 0 : view.failures + 1
    view.provedSince = good ? (view.provedSince ?? Date.now()) : undefined
  }

  #hasFailed(root: string, peer: string): boolean {
    return (this.#views.get(root)?.get(peer)?.failures ?? 0) >= maxFailures
  }

  /** Whether a holder, whose copy was proved here or who at least says that it is whole, hears another peer. */
  hears(root: string, holder: string, peer: string): boolean {
    const { standing, names } = this.get(root, holder)
    return standing === 'whole' && !this.#hasFailed(root, holder) && names.includes(peer)
  }

  copy(root: string, peer: string, present: boolean): Copy {
    const view = this.get(root, peer)
    const stalled =
      view.standing === 'coming' && performance.now() - view.progressAt > this.#options.stalledMs
    const failed = this.#hasFailed(root, peer) || stalled
    return {
      peer,
      present,
      standing: failed && view.standing !== 'leaving' ? 'failed' : view.standing,
      proved: view.standing === 'whole' && view.provedSince !== undefined,
      draining: view.draining,
      since: view.provedSince ?? Number.MAX_SAFE_INTEGER,
    }
  }
}

const unheard = (): CopyView => ({
  standing: 'unknown',
  draining: false,
  names: [],
  bytes: 0,
  progressAt: performance.now(),
  failures: 0,
  provedSince: undefined,
  sampledAt: undefined,
})
