// Lets pieces of work follow one another, each beginning when the one before is over, whether or not it failed.

export class OneAtATime {
  #last: Promise<unknown> = Promise.resolve()

  run<T>(work: () => Promise<T>): Promise<T> {
    const result = this.#last.then(work, work)
    this.#last = result.catch(() => undefined)
    return result
  }

  /** Resolves when what was begun so far is over. */
  async settled(): Promise<void> {
    await this.#last
  }
}
