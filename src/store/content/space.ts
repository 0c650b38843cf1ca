// The budget for payload bytes: the disk's free space less a reserve, and a quota, both less what open writers and
// fetches have been promised and not yet written. Asked before bytes are taken, so that they are not lost half-way,
// and never exceeded by a byte. What does not fit is tried once more after others have made room.
import { CatalogError } from '../../base/errors.ts'
import type { FileSystem } from '../file-system.ts'

export interface SpaceOptions {
  readonly directory: string
  readonly reserveBytes: number
  readonly maxBytes: number
}

/** What making room came to: bytes that are kept, by the reason, for the error that follows when it was not enough. */
export interface RoomReport {
  readonly keptBytes: Readonly<Record<string, number>>
}

export interface SpaceDeps {
  readonly fileSystem: FileSystem
  /** Bytes that the files of payloads take now, less what is promised or staged here. */
  readonly storedBytes: () => number
  /** Frees at least so many bytes where it may. Must not ask for space itself. */
  readonly makeRoom?: ((bytes: number) => Promise<RoomReport>) | undefined
}

export class SpaceBudget {
  readonly #deps: SpaceDeps
  readonly #options: SpaceOptions
  #promised = 0
  /** Written, but not yet among the stored bytes. */
  #staged = 0
  #lastTurn: Promise<unknown> = Promise.resolve()

  constructor(deps: SpaceDeps, options: SpaceOptions) {
    this.#deps = deps
    this.#options = options
  }

  /** Bytes that could be promised now, without making room. */
  async freeBytes(): Promise<number> {
    const { disk, quota } = await this.#left()
    return Math.max(0, Math.min(disk, quota))
  }

  /** @throws CatalogError `no-space` or `quota-exceeded` */
  async promise(bytes: number): Promise<SpaceGrant> {
    const grant = new SpaceGrant(this, (promised, staged) => {
      this.#promised += promised
      this.#staged += staged
    })
    await grant.grow(bytes)
    return grant
  }

  /**
   * One after another: two that would fit alone must not refuse each other. `take` runs in the same step as the last
   * look at what is left; it gets `wanted` where so much is free, else `bytes`, for which room is made.
   */
  admit(bytes: number, wanted: number, take: (bytes: number) => void): Promise<void> {
    const turn = this.#lastTurn.then(() => this.#admit(bytes, wanted, take))
    this.#lastTurn = turn.catch(() => undefined)
    return turn
  }

  async #admit(bytes: number, wanted: number, take: (bytes: number) => void): Promise<void> {
    let left = await this.#left()
    if (Math.min(left.disk, left.quota) >= wanted) return take(wanted)
    let kept: RoomReport['keptBytes'] = {}
    const lacking = bytes - Math.min(left.disk, left.quota)
    // More than there is in all cannot be had by making room.
    if (lacking > 0 && bytes <= this.#options.maxBytes && this.#deps.makeRoom !== undefined) {
      kept = (await this.#deps.makeRoom(lacking)).keptBytes
      left = await this.#left()
    }
    if (left.disk < bytes) throw this.#noSpace(bytes, left.disk)
    if (left.quota < bytes) throw this.#quotaExceeded(bytes, left.quota, kept)
    take(bytes)
  }

  #noSpace(bytes: number, free: number): CatalogError {
    const { directory, reserveBytes } = this.#options
    const freeBytes = Math.max(0, free)
    return new CatalogError(
      'no-space',
      `Storing ${bytes} bytes in ${directory} does not fit: ${freeBytes} bytes are free after a reserve of ${reserveBytes} and what other transfers were promised. Free some space, or remove releases.`,
      { neededBytes: bytes, freeBytes },
    )
  }

  #quotaExceeded(bytes: number, free: number, keptBytes: RoomReport['keptBytes']): CatalogError {
    const { maxBytes } = this.#options
    const freeBytes = Math.max(0, free)
    const held = Object.entries(keptBytes).filter(([, kept]) => kept > 0)
    const holders =
      held.length === 0 ? '' : ` What cannot be evicted: ${held.map(([why, n]) => `${n} ${why}`).join(', ')}.`
    return new CatalogError(
      'quota-exceeded',
      `Storing ${bytes} bytes would exceed this store's quota of ${maxBytes} bytes: ${freeBytes} are left.${holders} Unpin or remove releases, or raise storage.maxBytes in the config.`,
      { neededBytes: bytes, freeBytes, maxBytes, keptBytes },
    )
  }

  async #left(): Promise<{ readonly disk: number; readonly quota: number }> {
    const { directory, reserveBytes, maxBytes } = this.#options
    const { bavail, bsize } = await this.#deps.fileSystem.statfs(directory)
    return {
      disk: bavail * bsize - reserveBytes - this.#promised,
      quota: maxBytes - this.#deps.storedBytes() - this.#staged - this.#promised,
    }
  }
}

/** Bytes promised to one writer or fetch. */
export class SpaceGrant {
  readonly #budget: SpaceBudget
  readonly #change: (promised: number, staged: number) => void
  #left = 0
  #staged = 0

  constructor(budget: SpaceBudget, change: (promised: number, staged: number) => void) {
    this.#budget = budget
    this.#change = change
  }

  get left(): number {
    return this.#left
  }

  /** @throws CatalogError `no-space` or `quota-exceeded` */
  grow(bytes: number, wanted = bytes): Promise<void> {
    return this.#budget.admit(bytes, wanted, taken => this.#add(taken, 0))
  }

  /** The promise from now on, where as much as it grows by has just ceased to be counted elsewhere. */
  settle(bytes: number): void {
    this.#add(bytes - this.#left, 0)
  }

  /** These bytes are on the disk now, and counted among the stored ones. */
  spend(bytes: number): void {
    this.#add(-Math.min(bytes, this.#left), 0)
  }

  /** These bytes are about to be written, and count here until the release. False when they were not promised. */
  stage(bytes: number): boolean {
    if (bytes > this.#left) return false
    this.#add(-bytes, bytes)
    return true
  }

  release(): void {
    this.#add(-this.#left, -this.#staged)
  }

  #add(left: number, staged: number): void {
    this.#left += left
    this.#staged += staged
    this.#change(left, staged)
  }
}
