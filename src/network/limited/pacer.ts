// The scheduler of one direction at work: whoever wants to move bytes waits here until its turn has come. One timer
// while somebody waits for time to pass, none otherwise.
import { BandwidthScheduler, type Rates, type Turn } from '../bandwidth.ts'

/** A turn that was not given at once. */
export interface Waiting {
  /** Resolves when the bytes may move; rejects with the reason of whoever took it out of the queue. */
  readonly come: Promise<void>
  leave(reason: Error): void
}

export class Pacer {
  readonly #scheduler: BandwidthScheduler
  readonly #waiting = new Map<Turn, PromiseWithResolvers<void>>()
  #timer: NodeJS.Timeout | undefined
  #timerDue = Number.POSITIVE_INFINITY
  #giving = false
  #stopped: Error | undefined

  constructor(rates: Rates) {
    this.#scheduler = new BandwidthScheduler(rates)
  }

  /** The most bytes of one turn. */
  get quantum(): number {
    return this.#scheduler.quantum
  }

  /** Undefined where the bytes may move at once. */
  take(turn: Turn): Waiting | undefined {
    if (this.#stopped !== undefined) throw this.#stopped
    if (this.#scheduler.pass(turn, performance.now())) return undefined
    const pending = Promise.withResolvers<void>()
    this.#scheduler.add(turn)
    this.#waiting.set(turn, pending)
    this.#give()
    return {
      come: pending.promise,
      leave: reason => {
        if (!this.#waiting.delete(turn)) return
        this.#scheduler.remove(turn)
        pending.reject(reason)
        if (this.#scheduler.waiting === 0) this.#forgetTimer()
      },
    }
  }

  /** Whoever waits or comes is turned away with the reason, until `start`. */
  stop(reason: Error): void {
    this.#stopped = reason
    this.#forgetTimer()
    const turns = this.#scheduler.clear()
    for (const turn of turns) this.#waiting.get(turn)?.reject(reason)
    this.#waiting.clear()
  }

  start(): void {
    this.#stopped = undefined
  }

  /** Gives the next turn if it is due, and comes back for the others. */
  #give(): void {
    if (this.#giving) return
    const next = this.#scheduler.next(performance.now())
    if (typeof next === 'object') this.#serve(next)
    else if (next !== undefined) this.#wakeIn(next)
    if (this.#scheduler.waiting === 0) this.#forgetTimer()
  }

  #serve(turn: Turn): void {
    this.#waiting.get(turn)?.resolve()
    this.#waiting.delete(turn)
    if (this.#scheduler.waiting === 0) return
    // Whoever was served is back in line, unless it waits for more than promises, before another turn is given: so a
    // flow of one stream gets as much as one of many also where several turns are due at once.
    this.#giving = true
    queueMicrotask(() =>
      process.nextTick(() => {
        this.#giving = false
        this.#give()
      }),
    )
  }

  #wakeIn(waitMs: number): void {
    const due = performance.now() + waitMs
    // A turn that comes earlier than the timer moves it; one that comes later is looked at when it fires.
    if (this.#timer !== undefined && this.#timerDue <= due) return
    this.#forgetTimer()
    this.#timerDue = due
    this.#timer = setTimeout(() => {
      this.#forgetTimer()
      this.#give()
    }, Math.ceil(waitMs))
  }

  #forgetTimer(): void {
    clearTimeout(this.#timer)
    this.#timer = undefined
    this.#timerDue = Number.POSITIVE_INFINITY
  }
}
