// Changes of one root happen one after another; those of different roots side by side.
import type { CidText } from '../../base/cid.ts'

export class Changes {
  /** The end of the last change of each root that is being changed. */
  readonly #last = new Map<CidText, Promise<void>>()

  /** Whether a change of the root is under way or waits. */
  has(root: CidText): boolean {
    return this.#last.has(root)
  }

  async run<T>(root: CidText, change: () => Promise<T>): Promise<T> {
    const before = this.#last.get(root) ?? Promise.resolve()
    const result = before.then(change)
    const ended = result.then(
      () => undefined,
      () => undefined,
    )
    this.#last.set(root, ended)
    try {
      return await result
    } finally {
      if (this.#last.get(root) === ended) this.#last.delete(root)
    }
  }

  /** Resolves when those under way have ended. */
  async ended(): Promise<void> {
    await Promise.all(this.#last.values())
  }
}
