// Tending one content: asks the other holders how they stand, proves their copies and, where this node is the one to
// act, offers copies to further nodes and lets go of what is too many. When it is tended is decided elsewhere.
import { LRUCache } from 'lru-cache'
import type { CallOptions } from '../../base/lifecycle.ts'
import type { Log } from '../../base/log.ts'
import { type Refusal, replicateLimits, type Standing } from '../replication-protocol.ts'
import type { CopyViews } from './copy-views.ts'
import type { Obligation, Obligations } from './obligations.ts'
import type { OwnCopies } from './own-copies.ts'
import type { PeerWatch } from './peer-watch.ts'
import { type Copy, plan, rank } from './placement.ts'
import type { ReplicationSessions } from './sessions.ts'

export interface TenderOptions {
  /** A proved copy is sampled again after this long. */
  readonly checkEveryMs: number
  /** What was published here a shorter while ago, and nobody else keeps, is not offered yet. */
  readonly settleMs: number
  /** How long each who may act has before the next one does. */
  readonly turnMs: number
  /** How long a refusal is believed: `no-space` and `busy` pass, the others less soon. */
  readonly refusedMs: number
  readonly refusedLongMs: number
}

export interface TenderDeps {
  readonly self: string
  readonly obligations: Obligations
  readonly views: CopyViews
  readonly own: OwnCopies
  readonly watch: PeerWatch
  readonly sessions: ReplicationSessions
  readonly sample: (peer: string, root: string, options: CallOptions) => Promise<'good' | 'bad' | 'unsure'>
  /** Peers that may take a copy: connected ones, and others that are known. */
  readonly candidates: () => { readonly connected: readonly string[]; readonly known: readonly string[] }
  readonly log: Log
}

export interface Tended {
  /** Copies that are proved whole, this node's included. */
  readonly whole: number
  /** Nothing is missing, coming, unproved or too many. */
  readonly atRest: boolean
}

export class Tender {
  readonly #deps: TenderDeps
  readonly #options: TenderOptions
  readonly #leaving = new Set<string>()
  /** Monotonic milliseconds. */
  readonly #missingSince = new Map<string, number>()
  readonly #refused = new LRUCache<string, Refusal | 'unreachable'>({ max: 10_000 })

  constructor(deps: TenderDeps, options: TenderOptions) {
    this.#deps = deps
    this.#options = options
  }

  standing(root: string): Standing {
    const { obligations, own, watch } = this.#deps
    const mine = obligations.get(root)
    if (mine === undefined) return { state: 'none' }
    const { factor, factorVersion, origin, size } = mine
    // Only who has been heard here: of two nodes that each have it from the other, neither would ever notice a loss.
    const holders = mine.holders.filter(peer => !watch.isGone(peer))
    const whole = own.isWhole(root)
    return {
      state: this.#leaving.has(root) ? 'leaving' : whole ? 'whole' : 'coming',
      bytes: whole ? size : own.bytes(root),
      draining: obligations.draining,
      ...{ factor, factorVersion, origin, holders },
    }
  }

  copies(root: string): Copy[] {
    const { self, obligations, views, watch } = this.#deps
    const mine = obligations.get(root)
    const standing = this.standing(root)
    if (mine === undefined || standing.state === 'none') return []
    const whole = standing.state === 'whole'
    const here: Copy = {
      peer: self,
      present: true,
      standing: standing.state,
      proved: whole,
      draining: standing.draining,
      since: whole ? mine.since : Number.MAX_SAFE_INTEGER,
    }
    const copyOf = (peer: string): Copy => {
      if (!watch.isGone(peer)) return views.copy(root, peer, true)
      // Seen by others only, it counts as one that may be whole, and not as one for which another may go.
      return { ...views.copy(root, peer, this.#isSeenElsewhere(root, mine, peer)), proved: false }
    }
    const all = [here, ...mine.holders.map(copyOf)]
    // Where it was published it stays in any case.
    return all.map(copy => (copy.peer === mine.origin ? { ...copy, since: 0 } : copy))
  }

  /** Two nodes behind address translation may not reach each other, and both be there for everybody else. */
  #isSeenElsewhere(root: string, { holders }: Obligation, peer: string): boolean {
    const { views, watch } = this.#deps
    return holders.some(other => other !== peer && !watch.isSilent(other) && views.hears(root, other, peer))
  }

  /** Why nodes did not take a copy when they were last asked. */
  refusals(root: string): { readonly peer: string; readonly reason: string }[] {
    const holders = this.#deps.obligations.get(root)?.holders ?? []
    return this.#deps
      .candidates()
      .connected.filter(peer => !holders.includes(peer))
      .map(peer => ({ peer, reason: this.#reasonOf(root, peer) ?? '' }))
      .filter(({ reason }) => reason !== '')
  }

  /** A peer is there anew: what it refused before it may take now. */
  welcome(peer: string): void {
    this.#refused.delete(peer)
  }

  async tend(root: string, options: CallOptions): Promise<Tended> {
    if (!this.#deps.obligations.has(root)) return { whole: 0, atRest: true }
    await this.meetAll(root, options)
    await this.#proveAll(root, options)
    const mine = this.#deps.obligations.get(root)
    if (mine === undefined) return { whole: 0, atRest: true }
    const copies = this.copies(root)
    const { actors, missing, drop, release } = plan(root, mine.factor, copies)
    if (missing === 0) this.#missingSince.delete(root)
    await this.#deps.views.drop(root, drop)
    if (missing > 0 && this.#isSettled(mine) && this.#isOurTurn(root, actors))
      await this.#place(root, missing, options)
    if (actors[0] === this.#deps.self) await this.#letGoOf(root, release, options)
    const whole = copies.filter(({ proved, present }) => proved && present).length
    const inOrder = copies.every(({ proved, present }) => proved && present)
    return { whole, atRest: missing === 0 && release.length === 0 && inOrder }
  }

  #isSettled({ origin, since, holders }: Obligation): boolean {
    if (origin !== this.#deps.self || holders.length > 0) return true
    const age = Date.now() - since
    // A clock that was set back must not keep it from being offered.
    return age < 0 || age >= this.#options.settleMs
  }

  /** The first acts at once, each further one where what is missing is still so after its turn has come. */
  #isOurTurn(root: string, actors: readonly string[]): boolean {
    const place = actors.indexOf(this.#deps.self)
    if (place === -1) return false
    const since = this.#missingSince.get(root) ?? performance.now()
    this.#missingSince.set(root, since)
    return performance.now() - since >= place * this.#options.turnMs
  }

  /** Tells every other holder how this one stands, and hears how they do. */
  async meetAll(root: string, options: CallOptions): Promise<void> {
    const holders = this.#deps.obligations.get(root)?.holders ?? []
    await Promise.all(holders.map(peer => this.#meet(root, peer, options)))
  }

  async #meet(root: string, peer: string, options: CallOptions): Promise<void> {
    const { watch, sessions, views, self, log } = this.#deps
    // Who is silent is redialled by the watch; asking too would only wait.
    if (watch.isSilent(peer)) return
    try {
      const theirs = await sessions.meet(peer, root, this.standing(root), options)
      watch.heard(peer)
      await views.learn(root, peer, theirs, self)
    } catch (error) {
      options.signal?.throwIfAborted()
      log.debug({ root, peer, error: String(error) }, 'a holder did not answer')
      watch.failed(peer)
    }
  }

  async #proveAll(root: string, options: CallOptions): Promise<void> {
    const { watch } = this.#deps
    const others = this.#deps.obligations.get(root)?.holders ?? []
    await Promise.all(
      others
        .filter(peer => !watch.isSilent(peer) && this.#isDue(root, peer))
        .map(peer => this.#prove(root, peer, options)),
    )
  }

  #isDue(root: string, peer: string): boolean {
    const view = this.#deps.views.get(root, peer)
    if (view.standing !== 'whole') return false
    if (view.provedSince === undefined || view.sampledAt === undefined) return true
    return Date.now() - view.sampledAt >= this.#options.checkEveryMs
  }

  /** Resolves to whether the bytes of the copy were right. */
  async #prove(root: string, peer: string, options: CallOptions): Promise<boolean> {
    const { sample, views, sessions, watch, log } = this.#deps
    try {
      const found = await sample(peer, root, options)
      if (found === 'unsure') return false
      views.sampled(root, peer, found === 'good')
      if (found === 'good') return true
      log.warn({ root, peer }, 'a copy on another node is damaged')
      await sessions.tell(peer, 'check', root, options)
    } catch (error) {
      options.signal?.throwIfAborted()
      log.debug({ root, peer, error: String(error) }, 'a copy could not be sampled')
      watch.failed(peer)
    }
    return false
  }

  /** Offers the content, best in rank first, until enough have accepted. Resolves to how many did. */
  async #place(root: string, missing: number, options: CallOptions): Promise<number> {
    const mine = this.#deps.obligations.get(root)
    if (mine === undefined || !this.#deps.own.isWhole(root)) return 0
    const { connected, known } = this.#deps.candidates()
    const taken = new Set([this.#deps.self, ...mine.holders])
    const free = (peers: readonly string[]) =>
      rank(root, peers).filter(peer => !taken.has(peer) && this.#reasonOf(root, peer) === undefined)
    const order = [...free(connected), ...free(known.filter(peer => !connected.includes(peer)))]
    let placed = 0
    for (const peer of order) {
      if (placed >= missing || mine.holders.length + placed >= replicateLimits.maxHolders) break
      if (await this.#offer(mine, peer, options)) placed++
    }
    return placed
  }

  async #offer(mine: Obligation, peer: string, options: CallOptions): Promise<boolean> {
    const { sessions, self, views, watch, log } = this.#deps
    const { root, release, size, factor, factorVersion, origin } = mine
    const holders = [self, ...mine.holders.filter(each => !watch.isGone(each))].slice(
      0,
      replicateLimits.maxHolders,
    )
    try {
      const offer = { root, release, size, factor, factorVersion, origin, holders }
      const answer = await sessions.offer(peer, offer, options)
      log.debug({ root, peer, answer }, 'offered a copy')
      if (answer !== 'accepted') {
        const passing = answer === 'no-space' || answer === 'busy' || answer === 'unwanted'
        // What is refused for this content may be accepted for another.
        const key = passing ? `${root}/${peer}` : peer
        this.#refused.set(key, answer, {
          ttl: passing ? this.#options.refusedMs : this.#options.refusedLongMs,
        })
        return false
      }
      const standing = { state: 'coming', bytes: 0, draining: false, ...offer } as const
      return await views.learn(root, peer, standing, self)
    } catch (error) {
      options.signal?.throwIfAborted()
      log.debug({ root, peer, error: String(error) }, 'a copy could not be offered')
      this.#refused.set(peer, 'unreachable', { ttl: this.#options.refusedMs })
      return false
    }
  }

  #reasonOf(root: string, peer: string): string | undefined {
    return this.#refused.get(peer) ?? this.#refused.get(`${root}/${peer}`)
  }

  async #letGoOf(root: string, peers: readonly string[], options: CallOptions): Promise<void> {
    const { self, sessions, watch, log } = this.#deps
    for (const peer of peers)
      if (peer === self) await this.letGo(root, options)
      else if (!watch.isSilent(peer))
        await sessions.tell(peer, 'release', root, options).catch((error: unknown) => {
          options.signal?.throwIfAborted()
          log.debug({ root, peer, error: String(error) }, 'a holder could not be told to let go')
        })
  }

  /**
   * Ends this node's promise, after it has itself seen that enough others keep theirs; true when it has ended.
   * While it looks it says `leaving`, so that of two that would leave at once neither takes the other for a reason to.
   */
  async letGo(root: string, options: CallOptions): Promise<boolean> {
    const { obligations, views, watch, log } = this.#deps
    if (this.#leaving.has(root)) return false
    this.#leaving.add(root)
    try {
      await this.meetAll(root, options)
      const mine = obligations.get(root)
      if (mine === undefined) return false
      const whole = mine.holders.filter(peer => {
        const { standing, draining } = views.get(root, peer)
        return standing === 'whole' && !draining && !watch.isSilent(peer)
      })
      const proofs = await Promise.all(whole.map(peer => this.#prove(root, peer, options)))
      if (proofs.filter(Boolean).length < mine.factor) return false
      await this.leave(root, options)
      log.debug({ root }, 'a copy is no longer kept here: enough others are')
      return true
    } finally {
      this.#leaving.delete(root)
      // Who stays after all says so.
      if (obligations.has(root)) await this.meetAll(root, options)
    }
  }

  /** Ends this node's promise, and tells the others. */
  async leave(root: string, options: CallOptions): Promise<void> {
    const { obligations, views, own, sessions } = this.#deps
    const holders = obligations.get(root)?.holders ?? []
    await obligations.delete(root)
    views.forget(root)
    own.forget(root)
    this.#missingSince.delete(root)
    await Promise.all(holders.map(peer => sessions.tell(peer, 'leave', root, options).catch(() => undefined)))
  }
}
