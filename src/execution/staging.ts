// The directories that a run uses on the host: the package laid out for it, its scratch directory, its kept outputs.
// Owns where they are, who may enter them, and that none outlives its run or a killed daemon. Does not fill them.
//
// A daemon of root's runs payloads under another uid, which cannot reach anything below a home of mode 0700, and the
// home is never widened: its staging root lies outside, in a root-owned directory that cannot be listed.
import { execFile } from 'node:child_process'
import { chmod, lstat, mkdir, opendir, rm } from 'node:fs/promises'
import { join } from 'node:path'
import { promisify } from 'node:util'
import { CatalogError } from '../base/errors.ts'
import { blake3 } from '../base/hash.ts'

const run = promisify(execFile)

const systemParent = '/var/lib/catalog-runs'

/** A short name for a home, for what its daemon makes outside of it: directories, cgroups. */
export const homeTag = (home: string): string =>
  Buffer.from(blake3(Buffer.from(home)))
    .toString('hex')
    .slice(0, 12)

/** Where the daemon of `home` stages its runs: outside the home for root, inside it for anyone else. */
export const stagingRoot = (home: string): string =>
  process.getuid?.() === 0 ? join(systemParent, homeTag(home)) : join(home, 'runs')

export interface StagedDirectory {
  readonly path: string
  dispose(): Promise<void>
}

export class StagingArea {
  readonly root: string
  #count = 0

  constructor(root: string) {
    this.root = root
  }

  /** Makes the root and removes what an earlier daemon left in it. */
  async start(): Promise<void> {
    const parent = join(this.root, '..')
    await mkdir(parent, { recursive: true, mode: 0o711 })
    await mkdir(this.root, { recursive: true, mode: 0o711 })
    const { uid } = await lstat(this.root)
    if (uid !== process.getuid?.())
      throw new CatalogError(
        'home-not-owned',
        `The staging directory ${this.root} belongs to uid ${uid}. Remove it, or start the daemon as that user.`,
      )
    await chmod(this.root, 0o711)
    await this.cleanStale()
  }

  /** A new private directory (0700, ours). Its name starts with `kind-id`. */
  async create(kind: string, id: string): Promise<StagedDirectory> {
    const path = join(this.root, `${kind}-${id}-${process.pid}-${this.#count++}`)
    await mkdir(path, { mode: 0o700 })
    return { path, dispose: () => removeTree(path) }
  }

  async cleanStale(): Promise<void> {
    for await (const entry of await opendir(this.root)) await removeTree(join(this.root, entry.name))
  }

  /** Removes the root and everything in it. */
  async stop(): Promise<void> {
    await removeTree(this.root)
  }
}

/** `rm -r` that also takes what a payload made unreadable, or nested too deep for a path. */
async function removeTree(path: string): Promise<void> {
  try {
    await rm(path, { recursive: true, force: true })
  } catch {
    await run('/bin/chmod', ['-R', 'u+rwX', '--', path], { env: {} }).catch(() => undefined)
    await run('/bin/rm', ['-rf', '--', path], { env: {} })
  }
}
