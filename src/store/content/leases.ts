// Who holds which root: counts in memory. A lease says nothing of whether the root is here.
import type { ContentLease } from '../../assets/content-store.ts'
import type { CidText } from '../../base/cid.ts'

export class Leases {
  readonly #counts = new Map<CidText, number>()

  has(root: CidText): boolean {
    return this.#counts.has(root)
  }

  take(root: CidText): ContentLease {
    this.#counts.set(root, (this.#counts.get(root) ?? 0) + 1)
    let held = true
    const release = () => {
      if (held) this.#drop(root)
      held = false
    }
    return { release, [Symbol.dispose]: release }
  }

  #drop(root: CidText): void {
    const left = (this.#counts.get(root) ?? 1) - 1
    if (left === 0) this.#counts.delete(root)
    else this.#counts.set(root, left)
  }
}
