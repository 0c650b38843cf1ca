// The budget for payload bytes: the disk's free space less a reserve, and a quota, both less what open writers and
// fetches have been promised and not yet written. Asked before bytes are taken, so that they are not lost half-way.
import { CatalogError } from '../../base/errors.ts'
import type { FileSystem } from '../file-system.ts'

export interface SpaceOptions {
  readonly directory: string
  readonly reserveBytes: number
  readonly maxBytes: number
}

export class SpaceBudget {
  readonly #fileSystem: FileSystem
  readonly #options: SpaceOptions
  readonly #storedBytes: () => number
  #promised = 0
  /** Written, but not yet among the stored bytes. */
  #staged = 0

  constructor(fileSystem: FileSystem, storedBytes: () => number, options: SpaceOptions) {
    this.#fileSystem = fileSystem
    this.#storedBytes = storedBytes
    this.#options = options
  }

  /** Bytes that could be promised now. */
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

  /** Checks what has been promised already, this request included. */
  async check(bytes: number): Promise<void> {
    const { disk, quota } = await this.#left()
    const { directory, reserveBytes, maxBytes } = this.#options
    if (disk < 0)
      throw new CatalogError(
        'no-space',
        `Storing ${bytes} bytes in ${directory} does not fit: ${Math.max(0, disk + bytes)} bytes are free after a reserve of ${reserveBytes} and what other transfers were promised. Free some space, or remove releases.`,
        { neededBytes: bytes, freeBytes: Math.max(0, disk + bytes) },
      )
    if (quota < 0)
      throw new CatalogError(
        'quota-exceeded',
        `Storing ${bytes} bytes would exceed this store's limit of ${maxBytes} bytes: ${Math.max(0, quota + bytes)} are left. Remove releases, or raise the limit in the config.`,
        { neededBytes: bytes, freeBytes: Math.max(0, quota + bytes), maxBytes },
      )
  }

  async #left(): Promise<{ readonly disk: number; readonly quota: number }> {
    const { bavail, bsize } = await this.#fileSystem.statfs(this.#options.directory)
    return {
      disk: bavail * bsize - this.#options.reserveBytes - this.#promised,
      quota: this.#options.maxBytes - this.#storedBytes() - this.#staged - this.#promised,
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

  async grow(bytes: number): Promise<void> {
    this.#add(bytes, 0)
    try {
      await this.#budget.check(bytes)
    } catch (error) {
      this.#add(-bytes, 0)
      throw error
    }
  }

  /** These bytes are on the disk now, and counted among the stored ones. */
  spend(bytes: number): void {
    this.#add(-Math.min(bytes, this.#left), 0)
  }

  /** These bytes are on the disk now, and count here until the release. */
  stage(bytes: number): void {
    this.#add(-Math.min(bytes, this.#left), bytes)
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
