// A bell: whoever waits for something to change is woken, and looks again at what it waits for.

export class Changes {
  readonly #waiting = new Set<() => void>()

  /** Wakes everybody who waits now. */
  tell(): void {
    for (const wake of [...this.#waiting]) wake()
  }

  /** Resolves at the next `tell`, or after `timeoutMs`. Look at the condition first: what was told before is not told again. */
  next(timeoutMs?: number): Promise<void> {
    return new Promise(resolve => {
      const wake = () => {
        clearTimeout(timer)
        this.#waiting.delete(wake)
        resolve()
      }
      const timer = timeoutMs === undefined ? undefined : setTimeout(wake, Math.max(1, timeoutMs))
      timer?.unref()
      this.#waiting.add(wake)
    })
  }
}
