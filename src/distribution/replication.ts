// Copies that stay: every content that is kept here by promise is known with its factor and its other holders, and
// whoever of the holders ranks first sees to it that there are enough whole copies. What the rest of the node sees of
// it; the parts are in replication/, what nodes say to each other and what is believed in replication-protocol.ts.
import { withTimeout } from '../base/deadline.ts'
import { CatalogError } from '../base/errors.ts'
import type { CallOptions, Service } from '../base/lifecycle.ts'
import { type DrainOptions, type DrainState, untilHandedOver } from './replication/drain.ts'
import { overviewOf, type ReplicaState } from './replication/overview.ts'
import {
  defaultReplicationOptions,
  makeParts,
  type ReplicationDeps,
  type ReplicationOptions,
  type ReplicationParts,
} from './replication/parts.ts'
import { Schedule } from './replication/schedule.ts'
import { serveReplication } from './replication/serve.ts'
import type { Tended } from './replication/tender.ts'
import { type Offer, type Refusal, replicateLimits, type Standing } from './replication-protocol.ts'

export interface ReplicationStatus {
  readonly factor: number
  readonly accept: boolean
  readonly draining: boolean
  /** Contents that this node keeps a copy of by promise; of these, for others. */
  readonly kept: number
  readonly forOthers: { readonly count: number; readonly bytes: number; readonly maxBytes: number }
  /** Contents with fewer whole copies than their factor, when they were last looked at. */
  readonly below: number
}

export class Replication implements Service {
  readonly #deps: ReplicationDeps
  readonly #options: ReplicationOptions
  readonly #parts: ReplicationParts
  readonly #schedule: Schedule
  readonly #below = new Set<string>()
  /** When each content was last looked at for letting go: others ask for it. */
  readonly #letGoAt = new Map<string, number>()
  readonly #background = new Set<Promise<unknown>>()
  #stopping = new AbortController()
  #unsubscribe: (() => void) | undefined

  constructor(deps: ReplicationDeps, options: Partial<ReplicationOptions> = {}) {
    this.#deps = deps
    this.#options = { ...defaultReplicationOptions, ...options }
    this.#parts = makeParts(deps, this.#options, {
      ownChange: (root, change) => this.#ownChange(root, change),
      peerChange: (peer, change) => this.#peerChange(peer, change),
    })
    const { retryMs, maxRetryMs, checkEveryMs } = this.#options
    this.#schedule = new Schedule(root => this.#tend(root), {
      concurrency: 8,
      settleMs: 100,
      gapMs: retryMs / 4,
      ...{ retryMs, maxRetryMs, checkEveryMs },
    })
    serveReplication(
      deps.host,
      {
        offer: (offer, from, call) => this.#offered(offer, from, call),
        meet: (root, from, standing) => this.#met(root, from, standing),
        told: (op, root, from) => this.#told(op, root, from),
      },
      { maxStreamsPerPeer: 16, maxStreams: 256 },
    )
  }

  /** Before anything is collected: what is owed is known from then on. */
  async load(): Promise<void> {
    await this.#parts.obligations.load()
  }

  async start(): Promise<void> {
    const { own, obligations, watch } = this.#parts
    this.#stopping = new AbortController()
    this.#unsubscribe = this.#deps.host.onPeer((peer, change) => {
      if (change === 'connected') this.#greet(peer)
    })
    await own.start()
    // All copies are to be proved anew; not all at once.
    const { graceMs, checkEveryMs } = this.#options
    const withinMs = Math.min(checkEveryMs, Math.max(graceMs, 100 * obligations.size))
    for (const { root } of obligations.all()) this.#schedule.later(root, withinMs)
    watch.start()
    this.#schedule.start()
  }

  async stop(): Promise<void> {
    this.#unsubscribe?.()
    this.#parts.watch.stop()
    this.#stopping.abort(new CatalogError('daemon-stopping', 'The daemon is stopping.'))
    await Promise.all([this.#parts.own.stop(), this.#schedule.stop(), ...this.#background])
  }

  /** Whether this node has promised to keep the content. From memory. */
  isOwed(root: string): boolean {
    return this.#parts.obligations.has(root)
  }

  /** Whether it is, or once was, kept here by promise. */
  wasKept(root: string): Promise<boolean> {
    return this.#parts.obligations.isKnown(root)
  }

  /** Keeps what is whole here, with so many copies in all; where it is kept already, changes the factor, if one is given. */
  async keep(
    release: { readonly id: string; readonly root: string; readonly size: number },
    factor?: number,
  ): Promise<void> {
    const { obligations, own, self } = this.#parts
    const { id, root, size } = release
    if (obligations.has(root)) return factor === undefined ? undefined : this.setFactor(root, factor)
    const now = Date.now()
    await obligations.add({
      ...{ root, release: id, size, factor: factor ?? this.#options.factor, factorVersion: 1 },
      ...{ origin: self, offeredBy: self, since: now, checkedAt: now, wasWhole: true, holders: [] },
    })
    await own.ensure(root)
    this.#schedule.soon(root)
    // `soon` finds it unsettled; a timer that is lost with the process is made up for by the next retry.
    setTimeout(() => obligations.has(root) && this.#schedule.soon(root), this.#options.settleMs + 10).unref()
  }

  /** @throws CatalogError `forbidden` for fewer copies than another node asked for, `not-found` where it is not kept here */
  async setFactor(root: string, factor: number): Promise<void> {
    const { obligations, self } = this.#parts
    const mine = obligations.get(root)
    if (mine === undefined)
      throw new CatalogError('not-found', `${root} is not kept on this node. Set its factor where it is.`, {
        root,
      })
    if (factor < 1 || factor > replicateLimits.maxFactor)
      throw new CatalogError(
        'invalid-request',
        `A factor is from 1 to ${replicateLimits.maxFactor}, not ${factor}.`,
      )
    const { origin } = mine
    if (factor < mine.factor && origin !== self)
      throw new CatalogError(
        'forbidden',
        `The node ${origin} asked for ${mine.factor} copies of ${root}; only it can ask for fewer. Run the command there.`,
        { root, origin },
      )
    if (factor !== mine.factor)
      await obligations.change(root, { factor, factorVersion: mine.factorVersion + 1 })
    this.#schedule.soon(root)
  }

  /** It is removed here: this node no longer keeps it, and tells those who do. */
  async leave(root: string): Promise<void> {
    const { obligations, tender } = this.#parts
    this.#schedule.forget(root)
    this.#below.delete(root)
    this.#letGoAt.delete(root)
    if (obligations.has(root))
      await tender.leave(root, { signal: withTimeout(this.#stopping.signal, this.#options.askMs) })
    await obligations.forget(root)
  }

  /** How a content is kept; asks its other holders first. Undefined where neither this node nor a peer keeps it. */
  replicas(root: string, options: CallOptions = {}): Promise<ReplicaState | undefined> {
    return overviewOf(this.#parts, root, options)
  }

  async status(): Promise<ReplicationStatus> {
    const { factor, accept } = this.#options
    const { obligations, offers, self } = this.#parts
    return {
      ...{ factor, accept, draining: obligations.draining },
      kept: obligations.size,
      forOthers: { ...obligations.bytesForOthers(self), maxBytes: (await offers.room()).total },
      below: this.#below.size,
    }
  }

  /**
   * From now on, also after a restart, this node takes no more copies, and hands over those it has. Resolves when
   * all are handed over, or nothing has moved for a while: what is left has too few other holders.
   */
  async drain(options: Omit<DrainOptions, 'patienceMs'> = {}): Promise<DrainState> {
    await this.#setDraining(true)
    return untilHandedOver(this.#parts, { ...options, patienceMs: this.#options.drainPatienceMs })
  }

  /** Takes copies again. */
  async undrain(): Promise<void> {
    await this.#setDraining(false)
  }

  async #setDraining(draining: boolean): Promise<void> {
    const { obligations } = this.#parts
    await obligations.setDraining(draining)
    for (const { root } of obligations.all()) this.#schedule.soon(root)
  }

  async #tend(root: string): Promise<Tended> {
    const { obligations, tender } = this.#parts
    if (!obligations.has(root)) this.#schedule.forget(root)
    try {
      const tended = await tender.tend(root, { signal: this.#stopping.signal })
      this.#note(root, tended.whole)
      return tended
    } catch (error) {
      if (!this.#stopping.signal.aborted)
        this.#deps.log.warn({ root, error: String(error) }, 'the copies of a content could not be seen to')
      throw error
    }
  }

  #note(root: string, whole: number): void {
    const factor = this.#parts.obligations.get(root)?.factor ?? 0
    const below = whole < factor
    if (below === this.#below.has(root)) return
    if (below) this.#below.add(root)
    else this.#below.delete(root)
    if (factor > 0)
      this.#deps.log.info(
        { root, whole, factor },
        below ? 'there are fewer copies than there should be' : 'there are as many copies as there should be',
      )
  }

  async #offered(offer: Offer, from: string, options: CallOptions): Promise<'accepted' | Refusal> {
    const answer = await this.#parts.offers.judge(offer, from, options)
    if (answer === 'accepted') this.#inBackground(this.#parts.own.ensure(offer.root))
    return answer
  }

  async #met(root: string, from: string, standing: Standing): Promise<Standing> {
    const { views, tender, self } = this.#parts
    if (await views.learn(root, from, standing, self)) this.#schedule.soon(root)
    return tender.standing(root)
  }

  async #told(op: 'check' | 'release' | 'leave', root: string, from: string): Promise<void> {
    const { obligations, own, views } = this.#parts
    // A stranger's word would cost disk reads, or questions to others.
    if (obligations.get(root)?.holders.includes(from) !== true) return
    if (op === 'check') own.suspect(root)
    else if (op === 'release') this.#letGo(root)
    else if (await views.drop(root, [from])) this.#schedule.soon(root)
  }

  #letGo(root: string): void {
    const now = performance.now()
    if (now - (this.#letGoAt.get(root) ?? Number.NEGATIVE_INFINITY) < this.#options.retryMs / 2) return
    this.#letGoAt.set(root, now)
    const letting = this.#parts.tender.letGo(root, { signal: this.#stopping.signal }).then(gone => {
      if (gone) this.#letGoAt.delete(root)
    })
    this.#inBackground(letting)
  }

  #ownChange(root: string, change: 'whole' | 'coming' | 'given-up'): void {
    const { tender } = this.#parts
    const { signal } = this.#stopping
    // The others hear of it now; what follows from it is seen to next.
    const telling =
      change === 'given-up'
        ? tender.leave(root, { signal })
        : tender.meetAll(root, { signal }).then(() => this.#schedule.soon(root))
    this.#inBackground(telling)
  }

  #peerChange(peer: string, change: 'gone' | 'back'): void {
    const { obligations } = this.#parts
    this.#deps.log.info(
      { peer },
      change === 'gone' ? 'a holder of copies is gone' : 'a holder of copies is back',
    )
    for (const { root, holders } of obligations.all()) if (holders.includes(peer)) this.#schedule.soon(root)
  }

  /** A peer has connected: it may take what is missing. */
  #greet(peer: string): void {
    this.#parts.tender.welcome(peer)
    for (const root of this.#below) this.#schedule.soon(root)
  }

  #inBackground(work: Promise<unknown>): void {
    const done = work
      .catch((error: unknown) => {
        if (!this.#stopping.signal.aborted)
          this.#deps.log.debug({ error: String(error) }, 'work on copies ended early')
      })
      .finally(() => this.#background.delete(done))
    this.#background.add(done)
  }
}
