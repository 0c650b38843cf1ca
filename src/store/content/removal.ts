// Taking a root away, so that whoever holds a lease keeps all of it, and whoever comes later finds nothing: decided in
// one step, in which the root leaves memory; then its records go, then its file.
import type { ContentLease } from '../../assets/content-store.ts'
import type { CidText } from '../../base/cid.ts'
import type { Changes } from './changes.ts'
import type { HeldRoots } from './held-roots.ts'
import type { LastUse } from './last-use.ts'
import { Leases } from './leases.ts'
import type { PayloadDisk } from './payload-disk.ts'
import type { ContentRecords } from './records.ts'

export interface RemovalDeps {
  readonly disk: PayloadDisk
  readonly records: ContentRecords
  readonly held: HeldRoots
  readonly uses: LastUse
  readonly changes: Changes
}

export class Removal {
  readonly #deps: RemovalDeps
  readonly #leases = new Leases()

  constructor(deps: RemovalDeps) {
    this.#deps = deps
  }

  lease(root: CidText): ContentLease {
    return this.#leases.take(root)
  }

  /** Waits for the changes of the root before it. False when a lease keeps it. */
  remove(root: CidText): Promise<boolean> {
    return this.#deps.changes.run(root, () => this.#remove(root, () => this.#leases.has(root)))
  }

  /** Waits for nobody: who makes room for one root must not wait for another that waits for room. */
  async removeIdle(root: CidText, keep: () => boolean): Promise<boolean> {
    if (this.isInUse(root)) return false
    return this.#deps.changes.run(root, () => this.#remove(root, () => this.#isLive(root) || keep()))
  }

  isInUse(root: CidText): boolean {
    return this.#isLive(root) || this.#deps.changes.has(root)
  }

  #isLive(root: CidText): boolean {
    return this.#leases.has(root) || this.#deps.held.get(root)?.open !== undefined
  }

  async #remove(root: CidText, keep: () => boolean): Promise<boolean> {
    const { disk, records, held, uses } = this.#deps
    if (!held.has(root)) return true
    disk.requireWritable()
    const layout = await held.layout(root).catch(() => undefined)
    const known = held.get(root)
    if (known === undefined) return true
    if (keep()) return false
    // From here on nobody finds it: a lease that is taken now holds nothing.
    const { left } = held.leave(root)
    try {
      await known.open?.close()
      await records.forget(root, layout, known)
    } catch (error) {
      known.open = undefined
      held.set(root, known)
      left()
      throw error
    }
    uses.forget(root)
    // A file that stays behind has no record, and is swept later.
    await disk.discard(disk.path(root))
    left()
    return true
  }
}
