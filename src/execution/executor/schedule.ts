// When an admitted execution starts: who waits, who runs, and what is set aside for those who run.
import { Allocations, type Ceiling, type Shares } from './allocations.ts'
import type { LiveExecution } from './live.ts'
import { WaitingLine } from './waiting-line.ts'

export class Schedule {
  readonly #allocations: Allocations
  readonly #atOnce: number
  readonly #start: (live: LiveExecution) => void
  readonly #line = new WaitingLine<LiveExecution>()
  readonly #running = new Set<LiveExecution>()
  #stopped = false
  #timer: NodeJS.Timeout | undefined

  constructor(
    limits: { readonly ceiling: Ceiling; readonly running: number },
    start: (live: LiveExecution) => void,
  ) {
    this.#allocations = new Allocations(limits.ceiling)
    this.#atOnce = limits.running
    this.#start = start
  }

  get running(): number {
    return this.#running.size
  }

  get allocated(): Shares {
    return this.#allocations.held
  }

  add(live: LiveExecution): void {
    this.#line.add(live)
  }

  /** Takes it out of the line; false when it does not stand there. */
  withdraw(live: LiveExecution): boolean {
    return this.#line.remove(live)
  }

  /** What it held is free again, for the next `pump`. */
  release(live: LiveExecution): void {
    this.#allocations.release(live.spec.id)
    this.#running.delete(live)
  }

  /** Starts whatever fits now; looks again while something waits, because waiting changes the order. */
  pump(): void {
    clearTimeout(this.#timer)
    if (this.#stopped) return
    while (this.#running.size < this.#atOnce) {
      const next = this.#line.next(Date.now(), live => this.#mayStart(live))
      if (next === undefined) break
      this.#allocations.take(next.spec.id, next.spec.limits)
      this.#running.add(next)
      this.#start(next)
    }
    if (this.#line.length > 0) this.#timer = setTimeout(() => this.pump(), 1_000)
  }

  /** Nothing starts any more. */
  stop(): void {
    this.#stopped = true
    clearTimeout(this.#timer)
  }

  #mayStart({ spec }: LiveExecution): boolean {
    const same = [...this.#running].filter(({ spec: other }) => other.name === spec.name).length
    return same < (spec.maxConcurrent ?? Number.POSITIVE_INFINITY) && this.#allocations.fits(spec.limits)
  }
}
