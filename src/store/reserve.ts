// A file that holds disk space back. A full disk keeps LevelDB from even opening: giving these bytes free lets it
// open, and lets deletes be recorded. The file is made again as soon as there is room.
import { open, rm, stat, statfs } from 'node:fs/promises'
import { dirname } from 'node:path'

const blockBytes = 1024 * 1024

export class DiskReserve {
  readonly #path: string
  readonly #bytes: number
  #held = false

  /** The directory of `path` must exist when the reserve is used. */
  constructor(path: string, bytes: number) {
    this.#path = path
    this.#bytes = bytes
  }

  /** Bytes of the disk that are free for new values: what the reserve lacks is not. */
  async freeBytes(): Promise<number> {
    const { bavail, bsize } = await statfs(dirname(this.#path))
    return bavail * bsize - (this.#held ? 0 : this.#bytes)
  }

  /** Makes the file if it is not there in full and the disk has room for it. Never fails for want of room. */
  async restore(): Promise<void> {
    if (this.#held) return
    this.#held = await this.#isWhole()
    // Twice its size must be free: the database goes on growing.
    if (this.#held || (await this.freeBytes()) < this.#bytes) return
    try {
      await this.#fill()
      this.#held = true
    } catch (error) {
      await this.release()
      if (!['ENOSPC', 'EDQUOT'].includes((error as NodeJS.ErrnoException).code ?? '')) throw error
    }
  }

  async release(): Promise<void> {
    this.#held = false
    await rm(this.#path, { force: true })
  }

  async #isWhole(): Promise<boolean> {
    const size = await stat(this.#path).then(
      found => found.size,
      () => 0,
    )
    return size === this.#bytes
  }

  /** Written, not truncated to size: a hole reserves nothing. */
  async #fill(): Promise<void> {
    const file = await open(this.#path, 'w', 0o600)
    try {
      const block = Buffer.alloc(blockBytes)
      for (let done = 0; done < this.#bytes; ) {
        const length = Math.min(blockBytes, this.#bytes - done)
        done += (await file.write(block, 0, length, done)).bytesWritten
      }
      await file.datasync()
    } finally {
      await file.close()
    }
  }
}
