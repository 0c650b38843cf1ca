// Makes files of this installation (the Node.js binary, the WASI runner) readable to a payload's uid: as they are
// where anyone may read them, else as a copy in the staging area, made once. No permission is ever widened.
import { constants } from 'node:fs'
import { chmod, copyFile, realpath, stat } from 'node:fs/promises'
import { basename, dirname, join } from 'node:path'
import type { StagingArea } from '../staging.ts'

export class HostFiles {
  readonly #staging: StagingArea
  readonly #copyUnreachable: boolean
  readonly #known = new Map<string, Promise<string>>()

  constructor(staging: StagingArea, options: { copyUnreachable: boolean }) {
    this.#staging = staging
    this.#copyUnreachable = options.copyUnreachable
  }

  /** A path to the same bytes that every uid can reach. */
  reachable(path: string): Promise<string> {
    if (!this.#copyUnreachable) return Promise.resolve(path)
    let known = this.#known.get(path)
    if (known === undefined) {
      known = this.#find(path)
      this.#known.set(path, known)
      known.catch(() => this.#known.delete(path))
    }
    return known
  }

  async #find(link: string): Promise<string> {
    const path = await realpath(link)
    if (await anyoneMayRead(path)) return path
    const directory = await this.#staging.create('file', 'shared')
    const copy = join(directory.path, basename(path))
    await copyFile(path, copy, constants.COPYFILE_FICLONE)
    await chmod(copy, 0o755)
    await chmod(directory.path, 0o711)
    return copy
  }
}

async function anyoneMayRead(path: string): Promise<boolean> {
  const { mode } = await stat(path)
  const needed = (mode & 0o100) === 0 ? 0o004 : 0o005
  if ((mode & needed) !== needed) return false
  for (let directory = dirname(path); ; directory = dirname(directory)) {
    if (((await stat(directory)).mode & 0o001) === 0) return false
    if (directory === dirname(directory)) return true
  }
}
