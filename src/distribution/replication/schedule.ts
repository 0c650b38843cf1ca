// When each content is tended: soon after something changed, again and again while it is not at rest, and at long
// intervals otherwise; a few at once, one at a time for each. What tending is, is not its business.
import type { Tended } from './tender.ts'

export interface ScheduleOptions {
  readonly concurrency: number
  /** Changes that come together are tended together. */
  readonly settleMs: number
  /** At least, from the end of one tending of a content to the next: others may cause it. */
  readonly gapMs: number
  /** While a content is not at rest: doubles, as long as nothing changes, up to the second figure. */
  readonly retryMs: number
  readonly maxRetryMs: number
  /** At rest. */
  readonly checkEveryMs: number
}

interface Due {
  /** Monotonic milliseconds. */
  at: number
  /** When it was last tended. */
  endedAt: number
  retries: number
  running: boolean
  again: boolean
}

export class Schedule {
  readonly #tend: (root: string) => Promise<Tended>
  readonly #options: ScheduleOptions
  readonly #due = new Map<string, Due>()
  readonly #running = new Set<Promise<void>>()
  #timer: NodeJS.Timeout | undefined
  #stopped = true

  constructor(tend: (root: string) => Promise<Tended>, options: ScheduleOptions) {
    this.#tend = tend
    this.#options = options
  }

  start(): void {
    this.#stopped = false
    this.#timer = setInterval(() => this.#fill(), Math.min(250, this.#options.settleMs)).unref()
  }

  /** The signal of what runs has been aborted by the caller. */
  async stop(): Promise<void> {
    this.#stopped = true
    clearInterval(this.#timer)
    await Promise.all(this.#running)
  }

  /** Something has changed. */
  soon(root: string): void {
    const due = this.#due.get(root)
    const { settleMs, gapMs } = this.#options
    const at = Math.max(performance.now() + settleMs, (due?.endedAt ?? 0) + gapMs)
    if (due === undefined) this.#due.set(root, newDue(at))
    else if (due.running) due.again = true
    else Object.assign(due, { at: Math.min(due.at, at), retries: 0 })
  }

  /** Known from before the start: some time in the first part of the interval, not all at once. */
  later(root: string, withinMs: number): void {
    if (this.#due.has(root)) return
    const at = performance.now() + Math.random() * withinMs
    this.#due.set(root, newDue(at))
  }

  forget(root: string): void {
    this.#due.delete(root)
  }

  #fill(): void {
    const now = performance.now()
    for (const [root, due] of this.#due) {
      if (this.#stopped || this.#running.size >= this.#options.concurrency) return
      if (due.running || due.at > now) continue
      due.running = true
      const run = this.#run(root, due).finally(() => this.#running.delete(run))
      this.#running.add(run)
    }
  }

  async #run(root: string, due: Due): Promise<void> {
    const { gapMs, retryMs, maxRetryMs, checkEveryMs } = this.#options
    const atRest = await this.#tend(root).then(
      tended => tended.atRest,
      () => false,
    )
    const retry = Math.min(maxRetryMs, checkEveryMs, retryMs * 2 ** Math.min(due.retries, 20))
    const wait = due.again ? gapMs : (atRest ? checkEveryMs : retry) * (0.9 + Math.random() * 0.2)
    due.retries = due.again || atRest ? 0 : due.retries + 1
    due.endedAt = performance.now()
    due.at = due.endedAt + wait
    due.again = false
    due.running = false
  }
}

const newDue = (at: number): Due => ({
  at,
  endedAt: Number.NEGATIVE_INFINITY,
  retries: 0,
  running: false,
  again: false,
})
