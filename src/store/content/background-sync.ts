// Lets the disk start early on what is written to a payload file, so that little is left to wait for at the end.
import type { OpenFile } from '../file-system.ts'
import type { PayloadDisk } from './payload-disk.ts'

const syncEveryBytes = 32 * 1024 * 1024

export class BackgroundSync {
  readonly #disk: PayloadDisk
  readonly #file: OpenFile
  #unsynced = 0
  #running = false

  constructor(disk: PayloadDisk, file: OpenFile) {
    this.#disk = disk
    this.#file = file
  }

  /** The sync that these bytes made due, if they did; one at a time. Its failure makes the disk read-only. */
  wrote(bytes: number): Promise<void> | undefined {
    this.#unsynced += bytes
    if (this.#unsynced < syncEveryBytes || this.#running) return undefined
    this.#unsynced = 0
    this.#running = true
    return this.#disk.sync(this.#file).finally(() => {
      this.#running = false
    })
  }
}
