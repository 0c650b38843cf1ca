// Counts the bytes that pass in one direction: all since the start, and how many a second of late.

/** The rate is the mean over this many whole seconds, and the one that runs. */
const seconds = 4

export class TrafficMeter {
  #total = 0
  readonly #slots = new Float64Array(seconds + 1)
  #second = 0

  count(bytes: number, now: number = performance.now()): void {
    this.#turn(now)
    const slot = this.#second % this.#slots.length
    this.#slots[slot] = (this.#slots[slot] ?? 0) + bytes
    this.#total += bytes
  }

  get totalBytes(): number {
    return this.#total
  }

  bytesPerSecond(now: number = performance.now()): number {
    this.#turn(now)
    const bytes = this.#slots.reduce((sum, each) => sum + each, 0)
    return Math.round(bytes / (seconds + (now / 1000 - this.#second)))
  }

  /** Empties the slots of the seconds that have begun since the last look. */
  #turn(now: number): void {
    const second = Math.floor(now / 1000)
    const empty = Math.min(second - this.#second, this.#slots.length)
    for (let step = 1; step <= empty; step++) this.#slots[(this.#second + step) % this.#slots.length] = 0
    this.#second = Math.max(this.#second, second)
  }
}
