// The dedicated uids of the strong tier: one for each run at a time, out of a range that no account, container or
// system service uses. Never 0, never shared between two runs.
import { readFileSync } from 'node:fs'
import { CatalogError } from '../../base/errors.ts'

/** Above systemd's container range (524288 to 1879048191) and below 2^31 (https://systemd.io/UIDS-GIDS). */
const rangeStart = 1_900_000_000
const ranges = 1_000_000

export class UidSlots {
  readonly #free: number[]

  constructor(base: number, count: number) {
    this.#free = Array.from({ length: count }, (_, index) => base + count - 1 - index)
  }

  /** The slots of one home; inside a container with few uids, the highest that it has. */
  static find(
    homeTag: string,
    count: number,
    uidMap: string = readFileSync('/proc/self/uid_map', 'utf8'),
  ): UidSlots {
    const base = rangeStart + (Number.parseInt(homeTag.slice(0, 8), 16) % ranges) * count
    const mapped = uidMap
      .trim()
      .split('\n')
      .map(line => line.trim().split(/\s+/).map(Number))
      .map(([first = 0, , length = 0]) => ({ first, end: first + length }))
    if (mapped.some(({ first, end }) => first <= base && base + count <= end))
      return new UidSlots(base, count)
    // Below nobody (65534), which a container's range of 65536 has too.
    const highest = Math.max(...mapped.map(({ end }) => end)) - 2 - count
    if (highest < 10_000)
      throw new Error(`this user namespace has no spare uids for payloads (uid_map: ${uidMap.trim()})`)
    return new UidSlots(highest, count)
  }

  /** @throws CatalogError `busy` when every slot is taken */
  take(): { readonly uid: number; release(): void } {
    const uid = this.#free.pop()
    if (uid === undefined)
      throw new CatalogError('busy', 'Every sandbox slot is in use. Try again when a run has ended.')
    let taken = true
    return {
      uid,
      release: () => {
        if (taken) this.#free.push(uid)
        taken = false
      },
    }
  }
}
