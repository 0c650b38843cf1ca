// Work that is asked for more often than it need be done: one run at a time, and however often it is asked for during a
// run, one more after it and a pause.
import { pause } from './deadline.ts'

export class Coalesced {
  readonly #work: () => Promise<void>
  readonly #pauseMs: number
  readonly #stopping = new AbortController()
  #running: Promise<void> | undefined
  #again = false

  /** The work tells its failures itself. */
  constructor(deps: { readonly work: () => Promise<void> }, options: { readonly pauseMs: number }) {
    this.#work = deps.work
    this.#pauseMs = options.pauseMs
  }

  ask(): void {
    this.#again = true
    this.#running ??= this.#run().finally(() => {
      this.#running = undefined
      // Asked for between the last look and this.
      if (this.#again && !this.#stopping.signal.aborted) this.ask()
    })
  }

  /** No more runs; waits for the one that is under way. */
  async stop(): Promise<void> {
    this.#stopping.abort()
    await this.#running
  }

  async #run(): Promise<void> {
    const { signal } = this.#stopping
    while (this.#again && !signal.aborted) {
      this.#again = false
      await this.#work()
      await pause(this.#pauseMs, signal)
    }
  }
}
