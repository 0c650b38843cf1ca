// Who placed what here, and how much more of it they may place: counts and bytes by owner and in all. It stores
// nothing; the datastore asks before it writes.
import { CatalogError } from '../../base/errors.ts'

export interface QuotaLimits {
  /** Entries and bytes of one owner, and of all together. */
  readonly ownerEntries: number
  readonly ownerBytes: number
  readonly totalEntries: number
  readonly totalBytes: number
}

interface Entry {
  readonly owners: readonly string[]
  readonly bytes: number
}

interface Sum {
  entries: number
  bytes: number
}

export class Quota {
  readonly #what: string
  readonly #limits: QuotaLimits
  readonly #entries = new Map<string, Entry>()
  readonly #sums = new Map<string, Sum>()
  readonly #total: Sum = { entries: 0, bytes: 0 }

  constructor(what: string, limits: QuotaLimits) {
    this.#what = what
    this.#limits = limits
  }

  get total(): Readonly<Sum> {
    return this.#total
  }

  has(key: string): boolean {
    return this.#entries.has(key)
  }

  entriesOf(owner: string): number {
    return this.#sums.get(owner)?.entries ?? 0
  }

  /**
   * Counts the entry for its owners (a peer, a publisher), in place of what was under the key before.
   * @throws CatalogError `quota-exceeded`, and nothing is counted.
   */
  take(key: string, bytes: number, owners: readonly string[]): void {
    const before = this.#entries.get(key)
    const { ownerEntries, ownerBytes, totalEntries, totalBytes } = this.#limits
    const oldBytes = before?.bytes ?? 0
    this.#check('all peers together', this.#total, before, oldBytes, bytes, totalEntries, totalBytes)
    for (const owner of owners) {
      const mine = before?.owners.includes(owner) === true ? before : undefined
      const sum = this.#sums.get(owner) ?? { entries: 0, bytes: 0 }
      this.#check(owner, sum, mine, mine?.bytes ?? 0, bytes, ownerEntries, ownerBytes)
    }
    this.count(key, bytes, owners)
  }

  /** Counts without asking: what is here already, or this node's own. */
  count(key: string, bytes: number, owners: readonly string[]): void {
    this.release(key)
    this.#entries.set(key, { owners, bytes })
    this.#total.entries++
    this.#total.bytes += bytes
    for (const owner of owners) {
      const sum = this.#sums.get(owner) ?? { entries: 0, bytes: 0 }
      sum.entries++
      sum.bytes += bytes
      this.#sums.set(owner, sum)
    }
  }

  release(key: string): void {
    const entry = this.#entries.get(key)
    if (entry === undefined) return
    this.#entries.delete(key)
    this.#total.entries--
    this.#total.bytes -= entry.bytes
    for (const owner of entry.owners) {
      const sum = this.#sums.get(owner)
      if (sum === undefined) continue
      sum.entries--
      sum.bytes -= entry.bytes
      if (sum.entries === 0) this.#sums.delete(owner)
    }
  }

  #check(
    who: string,
    sum: Sum,
    before: Entry | undefined,
    oldBytes: number,
    bytes: number,
    maxEntries: number,
    maxBytes: number,
  ): void {
    const entries = sum.entries + (before === undefined ? 1 : 0)
    const size = sum.bytes - oldBytes + bytes
    if (entries <= maxEntries && size <= maxBytes) return
    throw new CatalogError(
      'quota-exceeded',
      `A ${this.#what} was refused: ${who} would have ${entries} of ${maxEntries} entries and ${size} of ${maxBytes} bytes here.`,
    )
  }
}
