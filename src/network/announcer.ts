// What this node tells the DHT: its records and what it provides. An announcement is durable before `add` resolves, told
// at once, and told again before peers forget it: by keyspace sweep, so that the lookups of a cycle grow with the network
// and not with the number of keys. This file keeps time and says how things stand; the parts are in announcer/.

import { pause, settleWithin } from '../base/deadline.ts'
import { CatalogError } from '../base/errors.ts'
import type { KeyValue } from '../base/key-value.ts'
import type { Service } from '../base/lifecycle.ts'
import type { Log } from '../base/log.ts'
import { type CycleCost, CycleRecord, type Lag } from './announcer/lag.ts'
import { LagWatch, type LagWatchOptions, type NextRegion } from './announcer/lag-watch.ts'
import { News } from './announcer/news.ts'
import { AnnouncementQueue } from './announcer/queue.ts'
import { Regions } from './announcer/regions.ts'
import { Rounds } from './announcer/round.ts'
import { Sweep } from './announcer/sweep.ts'
import type { Announcement, KeyspaceRouter, RecordKey } from './router.ts'

/** As in control/api.ts. */
export interface AnnouncementState extends Lag {
  readonly keys: number
  /** Not told to anybody yet. */
  readonly waiting: number
  readonly announced: number
  /** Peers were there, and none accepted it. */
  readonly failing: number
  /** No member of the network is connected: nothing is tried until one is. */
  readonly waitingForPeers: boolean
  readonly cycle?: CycleCost
  readonly lastCycle?: CycleCost
  readonly nextRegion?: NextRegion
  readonly lastError?: string
  /** Where announcing is so late that peers begin to forget. */
  readonly warning?: string
}

export interface AnnouncerOptions extends LagWatchOptions {
  /** A cycle: everything is told again once in it. */
  readonly intervalMs: number
  /** Announcements, and bytes of records, under way together. */
  readonly pageItems: number
  readonly pageBytes: number
  readonly pageTimeoutMs: number
  readonly exploreTimeoutMs: number
  /** Pages of new announcements at once, and regions explored at once for each. */
  readonly newsRounds: number
  readonly explorations: number
  /** For how long a region that was explored is taken as it was. */
  readonly freshMs: number
  /** After a failure, doubling up to the second figure. */
  readonly retryMs: number
  readonly maxRetryMs: number
  /** Without a peer: how often to look whether there is one, beside being woken. */
  readonly lonelyMs: number
}

const hourMs = 3_600_000

export const defaultAnnouncerOptions: AnnouncerOptions = {
  // A gap is at most 9/8 of it: 22.5 h, the interval of go-libp2p-kad-dht, below the 24 h after which peers that follow
  // the specification forget providers.
  intervalMs: 20 * hourMs,
  // kad-dht 16, records and providers alike.
  lifetimeMs: 48 * hourMs,
  // 4.8 h: a day before the first is forgotten.
  lagWarning: 0.1,
  graceMs: 10 * 60_000,
  measureEveryMs: 30_000,
  pageItems: 256,
  pageBytes: 4 * 1024 * 1024,
  // A page for one peer is at most 4 MiB: 0.6 Mbit/s.
  pageTimeoutMs: 60_000,
  exploreTimeoutMs: 120_000,
  newsRounds: 4,
  explorations: 4,
  freshMs: 30_000,
  retryMs: 2000,
  maxRetryMs: 5 * 60_000,
  lonelyMs: 30_000,
}

export interface AnnouncerDeps {
  readonly router: KeyspaceRouter
  readonly records: KeyValue
  /** The record as it is now; undefined when it is no longer here: then its announcement ends. */
  recordBytes(key: RecordKey): Promise<Uint8Array | undefined>
  readonly log: Log
}

interface Parts {
  readonly cycles: CycleRecord
  readonly rounds: Rounds
  readonly regions: Regions
  readonly sweep: Sweep
  readonly news: News
  readonly watch: LagWatch
  readonly stopping: AbortController
}

export class Announcer implements Service {
  readonly #deps: AnnouncerDeps
  readonly #options: AnnouncerOptions
  readonly #queue: AnnouncementQueue
  readonly #running = new Set<Promise<void>>()
  #parts: Parts | undefined
  #revision = 0
  #newsRounds = 0
  #filling = false
  #fillAgain = false
  #kick = new AbortController()
  #kicked = false
  #retryMs = 0
  #sweepError: string | undefined

  constructor(deps: AnnouncerDeps, options: Partial<AnnouncerOptions> = {}) {
    this.#deps = deps
    this.#options = { ...defaultAnnouncerOptions, ...options }
    this.#queue = new AnnouncementQueue({
      records: deps.records,
      locate: item => deps.router.locate(item),
    })
  }

  async start(): Promise<void> {
    if (this.#parts !== undefined) return
    const { router, records, log } = this.#deps
    const options = this.#options
    const now = Date.now
    await this.#queue.load()
    const cycles = await CycleRecord.load(records, options.intervalMs, now())
    const queue = this.#queue
    const regions = new Regions(options.freshMs, cycles.depth)
    const recordBytes = (key: RecordKey) => this.#deps.recordBytes(key)
    const rounds = new Rounds({ router, queue, now, log, recordBytes }, options)
    const parts = { router, queue, rounds, regions, now }
    const sweep = new Sweep(parts, options, cycles.cycle)
    const news = new News(parts, options, cycles.cycle)
    const watch = new LagWatch({ ...parts, log }, options)
    await watch.measure(now())
    this.#parts = { cycles, rounds, regions, sweep, news, watch, stopping: new AbortController() }
    this.#track(this.#sweepOn(this.#parts))
    this.#tellNews()
  }

  async stop(): Promise<void> {
    this.#parts?.stopping.abort(new CatalogError('daemon-stopping', 'This node is stopping.'))
    this.#parts = undefined
    this.#wakeSweep()
    await settleWithin(Promise.all(this.#running), 1000)
  }

  /** Durable when it resolves; told in the background, at once. Adding again tells again (a head has changed). */
  async add(item: Announcement): Promise<void> {
    const at = Date.now()
    const revision = this.#nextRevision()
    await this.#queue.change(item, () => ({ state: 'new', at, since: at, triedAt: 0, failures: 0, revision }))
    this.#tellNews()
  }

  /** Adds what is not in the queue, and leaves the rest to its time. */
  async ensure(item: Announcement): Promise<void> {
    if ((await this.#queue.read(item)) === undefined) await this.add(item)
  }

  /** Forgets the announcement; what peers hold of it expires there. Durable when it resolves. */
  async remove(item: Announcement): Promise<void> {
    await this.#queue.change(item, () => undefined)
    if (item.kind !== 'provide') return
    await this.#deps.router.unprovide(item.cid).catch(err => {
      this.#deps.log.debug({ err, cid: item.cid }, 'the own provider record could not be withdrawn')
    })
  }

  /** A peer has connected: whatever has not been told to anybody is tried now. */
  wake(): void {
    this.#parts?.regions.stale()
    this.#parts?.sweep.revisit()
    this.#retryMs = 0
    this.#wakeSweep()
    this.#tellNews()
  }

  state(): AnnouncementState {
    const { new: waiting, told: announced, failing } = this.#queue.counts
    const costs = this.#parts?.cycles.costs(Date.now())
    const lastError = failing > 0 ? this.#parts?.rounds.lastError : this.#sweepError
    const { lag = { overdue: 0 }, nextRegion } = this.#parts?.watch ?? {}
    const warning = this.#parts?.watch.warning()
    return {
      keys: waiting + announced + failing,
      waiting,
      announced,
      failing,
      waitingForPeers: this.#isAlone(),
      ...lag,
      ...(costs === undefined ? {} : { cycle: costs.current }),
      ...(costs?.last === undefined ? {} : { lastCycle: costs.last }),
      ...(nextRegion === undefined ? {} : { nextRegion }),
      ...(lastError === undefined ? {} : { lastError }),
      ...(warning === undefined ? {} : { warning }),
    }
  }

  /** Greater than every one before, also of earlier runs: what they wrote may still be in the queue. */
  #nextRevision(): number {
    this.#revision = Math.max(this.#revision + 1, Date.now() * 1000)
    return this.#revision
  }

  #isAlone(): boolean {
    return this.#deps.router.neighbours().length === 0
  }

  #track(work: Promise<void>): void {
    this.#running.add(work)
    void work.finally(() => this.#running.delete(work))
  }

  /** Starts rounds for what is new while there is room; one filler at a time. */
  #tellNews(): void {
    this.#fillAgain = true
    if (this.#filling || this.#parts === undefined) return
    this.#filling = true
    const filled = this.#fill(this.#parts)
      .catch(err => this.#deps.log.error({ err }, 'the announcement queue cannot be read'))
      .finally(() => {
        this.#filling = false
        if (this.#fillAgain) this.#tellNews()
      })
    this.#track(filled)
  }

  async #fill({ news, stopping }: Parts): Promise<void> {
    while (this.#fillAgain && !stopping.signal.aborted) {
      this.#fillAgain = false
      while (this.#newsRounds < this.#options.newsRounds && !stopping.signal.aborted && !this.#isAlone()) {
        const queued = await news.next()
        if (queued.length === 0) break
        this.#newsRounds++
        const round = news
          .tell(queued, stopping.signal)
          .catch(err => this.#deps.log.error({ err }, 'announcements could not be recorded'))
          .finally(() => {
            this.#newsRounds--
            // What failed has a time of its own now.
            this.#wakeSweep()
            this.#tellNews()
          })
        this.#track(round)
      }
    }
  }

  async #sweepOn(parts: Parts): Promise<void> {
    const { signal } = parts.stopping
    while (!signal.aborted) {
      let restMs: number
      try {
        restMs = await this.#sweepOnce(parts)
      } catch (error) {
        if (signal.aborted) return
        const { retryMs, maxRetryMs } = this.#options
        this.#retryMs = Math.min(maxRetryMs, Math.max(retryMs, this.#retryMs * 2))
        this.#sweepError = `announcing a region again: ${(error as Error).message}`
        this.#deps.log.debug({ err: error }, 'a region could not be announced')
        restMs = this.#retryMs
      }
      if (parts.watch.isDue(Date.now()))
        await parts.watch
          .measure(Date.now())
          .catch(err => this.#deps.log.error({ err }, 'the announcement queue cannot be read'))
      await this.#rest(restMs)
    }
  }

  /** Resolves to the time until there is something to do, in ms. */
  async #sweepOnce({ sweep, cycles, stopping }: Parts): Promise<number> {
    const { lonelyMs, measureEveryMs } = this.#options
    if (this.#isAlone()) return lonelyMs
    const next = await sweep.next()
    if ('at' in next) {
      // What is new and met no peer is looked after too.
      if (this.#queue.counts.new > 0) this.#tellNews()
      return Math.max(1, Math.min(next.at - Date.now(), measureEveryMs))
    }
    const startedAt = Date.now()
    const swept = await sweep.announceRegionOf(next.item, stopping.signal)
    this.#retryMs = 0
    this.#sweepError = undefined
    await cycles.add(swept, Date.now() - startedAt, Date.now())
    // What is due is told or put off by every sweep; were it ever not, this must not spin.
    return swept.due > 0 ? 0 : this.#options.retryMs
  }

  /** Until the time is over or something has happened. */
  async #rest(ms: number): Promise<void> {
    if (!this.#kicked && ms > 0) await pause(ms, this.#kick.signal)
    this.#kicked = false
    this.#kick = new AbortController()
  }

  #wakeSweep(): void {
    this.#kicked = true
    this.#kick.abort()
  }
}
