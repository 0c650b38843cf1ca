// When each root was last used, in order. Kept in memory, written in batches now and then: a crash forgets the last
// minute, which costs at most an eviction in another order.
import type { CidText } from '../../base/cid.ts'
import type { Log } from '../../base/log.ts'
import type { ContentRecords } from './records.ts'

/** Between two writes while roots are used. */
const saveEveryMs = 60_000

export class LastUse {
  readonly #records: Pick<ContentRecords, 'uses' | 'saveUses'>
  readonly #log: Log
  readonly #times = new Map<CidText, number>()
  readonly #unsaved = new Set<CidText>()
  #latest = 0
  #timer: NodeJS.Timeout | undefined

  constructor(records: Pick<ContentRecords, 'uses' | 'saveUses'>, log: Log) {
    this.#records = records
    this.#log = log
  }

  async load(): Promise<void> {
    this.#times.clear()
    this.#latest = Date.now()
    for await (const { root, usedAt } of this.#records.uses()) {
      this.#times.set(root, usedAt)
      this.#latest = Math.max(this.#latest, usedAt)
    }
  }

  /** Strictly later than every touch before, also within a millisecond. */
  touch(root: CidText): void {
    this.#latest = Math.max(Date.now(), this.#latest + 0.001)
    this.#times.set(root, this.#latest)
    this.#unsaved.add(root)
    this.#timer ??= setTimeout(() => void this.save(), saveEveryMs).unref()
  }

  /** What is not on record counts as used now. */
  assume(root: CidText): void {
    if (!this.#times.has(root)) this.touch(root)
  }

  /** 0 for a root that was never used or assumed. */
  at(root: CidText): number {
    return this.#times.get(root) ?? 0
  }

  forget(root: CidText): void {
    this.#times.delete(root)
    this.#unsaved.delete(root)
  }

  /** Never fails: an order of eviction is not worth an error. */
  async save(): Promise<void> {
    clearTimeout(this.#timer)
    this.#timer = undefined
    const uses = [...this.#unsaved].map(root => ({ root, usedAt: this.at(root) }))
    this.#unsaved.clear()
    if (uses.length === 0) return
    await this.#records
      .saveUses(uses)
      .catch((error: unknown) => this.#log.debug({ error: String(error) }, 'last uses were not recorded'))
  }
}
