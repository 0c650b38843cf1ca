// Who is next: executions that wait, by priority, with ageing, so that none waits for ever behind better ones.

export type Priority = 'low' | 'normal' | 'high'

const rank: Readonly<Record<Priority, number>> = { low: 0, normal: 1, high: 2 }
/** Waiting this long is worth one step of priority. */
const ageStepMs = 30_000
/** For this long smaller executions may pass one that does not fit; then what it needs is kept free for it. */
const passMs = 10_000

export interface Waiting {
  readonly priority: Priority
  readonly since: number
}

export class WaitingLine<T extends Waiting> {
  readonly #waiting = new Set<T>()

  get length(): number {
    return this.#waiting.size
  }

  add(item: T): void {
    this.#waiting.add(item)
  }

  remove(item: T): boolean {
    return this.#waiting.delete(item)
  }

  *[Symbol.iterator](): Iterator<T> {
    yield* this.#waiting
  }

  /** Takes the best that fits. One that has waited long and does not fit holds up those behind it. */
  next(now: number, fits: (item: T) => boolean): T | undefined {
    const worth = (item: T): number => rank[item.priority] + (now - item.since) / ageStepMs
    for (const item of [...this.#waiting].sort((a, b) => worth(b) - worth(a) || a.since - b.since)) {
      if (fits(item)) {
        this.#waiting.delete(item)
        return item
      }
      if (now - item.since > passMs) return undefined
    }
    return undefined
  }
}
