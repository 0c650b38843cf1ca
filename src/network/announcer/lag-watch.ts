// Looks now and then how late announcing is, keeps the figures for `state`, and warns where peers begin to forget.
import type { Log } from '../../base/log.ts'
import type { KeyspaceRouter } from '../router.ts'
import { type Lag, measureLag } from './lag.ts'
import type { AnnouncementQueue } from './queue.ts'
import type { Regions } from './regions.ts'

export interface LagWatchDeps {
  readonly router: Pick<KeyspaceRouter, 'locate' | 'neighbours'>
  readonly queue: AnnouncementQueue
  readonly regions: Regions
  readonly log: Log
}

export interface LagWatchOptions {
  /** How long peers keep what they were told. */
  readonly lifetimeMs: number
  /** What is overdue by this part of the lifetime is warned about. */
  readonly lagWarning: number
  /** What is late by less is not called overdue. */
  readonly graceMs: number
  readonly measureEveryMs: number
}

/** What is announced again next, and when, in ms since 1970. */
export interface NextRegion {
  readonly prefix: string
  readonly dueMs: number
}

const hours = (ms: number) => `${(ms / 3_600_000).toFixed(1)} h`

export class LagWatch {
  readonly #deps: LagWatchDeps
  readonly #options: LagWatchOptions
  #lag: Lag = { overdue: 0 }
  #measuredAt = 0
  #next: NextRegion | undefined
  #warned = false

  constructor(deps: LagWatchDeps, options: LagWatchOptions) {
    this.#deps = deps
    this.#options = options
  }

  /** As it was measured last. */
  get lag(): Lag {
    return this.#lag
  }

  get nextRegion(): NextRegion | undefined {
    return this.#next
  }

  isDue(now: number): boolean {
    return now - this.#measuredAt > this.#options.measureEveryMs
  }

  async measure(now: number): Promise<void> {
    const { queue, regions, router, log } = this.#deps
    this.#measuredAt = now
    this.#lag = await measureLag(queue, now, this.#options.graceMs)
    this.#next = undefined
    for await (const { at, item } of queue.inOrder('told', { limit: 1 }))
      this.#next = { prefix: regions.prefixAt(router.locate(item)), dueMs: at }
    const isLate = this.warning() !== undefined
    const { overdue, oldestOverdueMs } = this.#lag
    if (isLate && !this.#warned)
      log.warn({ overdue, oldestOverdueMs }, 'announcements are late: peers begin to forget them')
    if (!isLate && this.#warned) log.info({}, 'announcements are in time again')
    this.#warned = isLate
  }

  /** A node that has never told anything has nothing that could be forgotten. */
  warning(): string | undefined {
    const { overdue, oldestOverdueMs = 0 } = this.#lag
    const { lifetimeMs, lagWarning } = this.#options
    const { told, failing } = this.#deps.queue.counts
    if (oldestOverdueMs < lifetimeMs * lagWarning || told + failing === 0) return undefined
    const next =
      this.#deps.router.neighbours().length === 0
        ? 'No peer is connected: check the bootstrap addresses and the network.'
        : 'Peers refuse them or the uplink is too slow: see the last error.'
    return `${overdue} announcements are late, the oldest by ${hours(oldestOverdueMs)}; peers forget what they were told after ${hours(lifetimeMs)}. ${next}`
  }
}
