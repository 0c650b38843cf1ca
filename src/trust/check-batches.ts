// Takes signature checks one by one and gives them to the thread many at once: a message to a thread and its answer
// cost a good part of what one check costs. A check that comes alone goes alone, and at once.
import { setImmediate } from 'node:timers/promises'
import { CatalogError } from '../base/errors.ts'
import type { SignatureCheck } from './signature-check.ts'
import type { SignatureAlgorithm } from './signature-scheme.ts'

export interface CheckBatchesDeps {
  /** Checks all, and answers in their order: the thread. */
  readonly checkAll: (
    checks: readonly SignatureCheck[],
  ) => Promise<readonly (SignatureAlgorithm | undefined)[]>
}

export interface CheckBatchesOptions {
  /** Checks in one message. */
  readonly maxBatch: number
  /** Checks that may wait; more are refused with `busy`. */
  readonly maxWaiting: number
}

export const defaultCheckBatchesOptions: CheckBatchesOptions = {
  // About 3 ms in the thread: short enough for who comes next, long enough that the message no longer counts.
  maxBatch: 16,
  // A full message to be checked is at most 128 KiB, so 128 MiB and typically 5.
  maxWaiting: 1_000,
}

interface Waiting {
  readonly check: SignatureCheck
  readonly resolve: (faulty: SignatureAlgorithm | undefined) => void
  readonly reject: (error: unknown) => void
}

export class CheckBatches {
  readonly #deps: CheckBatchesDeps
  readonly #options: CheckBatchesOptions
  readonly #waiting: Waiting[] = []
  #working = false

  constructor(deps: CheckBatchesDeps, options: Partial<CheckBatchesOptions> = {}) {
    this.#deps = deps
    this.#options = { ...defaultCheckBatchesOptions, ...options }
  }

  /** The algorithm whose signature does not hold; undefined when both do. @throws CatalogError `busy`, and what the thread throws */
  check(check: SignatureCheck): Promise<SignatureAlgorithm | undefined> {
    if (this.#waiting.length >= this.#options.maxWaiting)
      return Promise.reject(
        new CatalogError('busy', `${this.#waiting.length} signature checks wait already; try again later.`),
      )
    return new Promise((resolve, reject) => {
      this.#waiting.push({ check, resolve, reject })
      if (!this.#working) void this.#work()
    })
  }

  /** Sends one batch after the other until nothing waits. Never rejects. */
  async #work(): Promise<void> {
    this.#working = true
    // What comes in the same turn of the event loop goes along.
    for (await setImmediate(); this.#waiting.length > 0; await setImmediate()) {
      const batch = this.#waiting.splice(0, this.#options.maxBatch)
      try {
        const faulty = await this.#deps.checkAll(batch.map(({ check }) => check))
        for (const [at, { resolve }] of batch.entries()) resolve(faulty[at])
      } catch (error) {
        for (const { reject } of batch) reject(error)
      }
    }
    this.#working = false
  }
}
