// The payload directory: where files lie, how one becomes durable, and what a failing disk does to the store.
// A sync that failed may have dropped the bytes while later syncs succeed (https://wiki.postgresql.org/wiki/Fsync_Errors),
// so from then on nothing is written here until the daemon is restarted; reads go on.
import { randomUUID } from 'node:crypto'
import { join } from 'node:path'
import { type CidText, digestOfCid, isCid } from '../../base/cid.ts'
import { CatalogError, toCatalogError } from '../../base/errors.ts'
import { type FileSystem, isMissing, type OpenFile, syncDirectory } from '../file-system.ts'

const stagedSuffix = '.new'

export interface Leftover {
  readonly path: string
  /** Whose payload it would be; absent for a staged file. */
  readonly root?: CidText
}

export class PayloadDisk {
  readonly fileSystem: FileSystem
  readonly #directory: string
  readonly #known = new Set<string>()
  /** Staged files whose writers are at work. */
  readonly #staging = new Set<string>()
  #failure: CatalogError | undefined

  constructor(fileSystem: FileSystem, directory: string) {
    this.fileSystem = fileSystem
    this.#directory = directory
  }

  /** Directories of 1/256 of the roots each: the first byte of the digest. */
  #shelf(root: CidText): string {
    return join(this.#directory, 'content', Buffer.from(digestOfCid(root).subarray(0, 1)).toString('hex'))
  }

  path(root: CidText): string {
    return join(this.#shelf(root), root)
  }

  newStagedPath(): string {
    const path = join(this.#directory, 'staging', `${randomUUID()}${stagedSuffix}`)
    this.#staging.add(path)
    return path
  }

  /** Nobody writes to it any more. */
  unstage(path: string): void {
    this.#staging.delete(path)
  }

  async start(): Promise<void> {
    this.#failure = undefined
    for (const name of ['content', 'staging'])
      await this.fileSystem.mkdir(join(this.#directory, name), { recursive: true, mode: 0o700 })
    await this.#syncDirectory(this.#directory)
  }

  /** What interrupted work left: staged files that no writer has, and payloads that no record names. */
  async *leftovers(isRecorded: (root: CidText) => boolean): AsyncIterable<Leftover> {
    const staging = join(this.#directory, 'staging')
    for (const name of await this.fileSystem.readdir(staging)) {
      const path = join(staging, name)
      if (name.endsWith(stagedSuffix) && !this.#staging.has(path)) yield { path }
    }
    for (const shelf of await this.fileSystem.readdir(join(this.#directory, 'content')))
      if (/^[0-9a-f]{2}$/.test(shelf))
        for (const root of await this.fileSystem.readdir(join(this.#directory, 'content', shelf)))
          if (isCid(root) && !isRecorded(root)) yield { path: this.path(root), root }
  }

  /** The directory of a root's file, made durably. */
  async makeShelf(root: CidText): Promise<void> {
    const shelf = this.#shelf(root)
    if (this.#known.has(shelf)) return
    await this.fileSystem.mkdir(shelf, { recursive: true, mode: 0o700 })
    await this.#syncDirectory(join(this.#directory, 'content'))
    this.#known.add(shelf)
  }

  /** The root's file under its name, durably. Its bytes must have been synced. */
  async moveIn(stagedPath: string, root: CidText): Promise<void> {
    await this.makeShelf(root)
    await this.fileSystem.rename(stagedPath, this.path(root))
    await this.#syncDirectory(this.#shelf(root))
  }

  async openOrMake(root: CidText): Promise<OpenFile> {
    await this.makeShelf(root)
    try {
      return await this.fileSystem.open(this.path(root), 'r+')
    } catch (error) {
      if (!isMissing(error)) throw error
    }
    return this.fileSystem.open(this.path(root), 'wx+', 0o600)
  }

  /** The file's bytes and its name are durable when this resolves. */
  async makeDurable(file: OpenFile, root: CidText): Promise<void> {
    await this.sync(file)
    await this.#syncDirectory(this.#shelf(root))
  }

  async sync(file: OpenFile): Promise<void> {
    await this.#guardSync('syncing a payload file', () => file.datasync())
  }

  async #syncDirectory(path: string): Promise<void> {
    await this.#guardSync('syncing a directory of payload files', () => syncDirectory(this.fileSystem, path))
  }

  async discard(path: string): Promise<void> {
    await this.fileSystem.unlink(path).catch(() => undefined)
  }

  /** @throws CatalogError `storage-failed` once the disk has failed. */
  requireWritable(): void {
    if (this.#failure !== undefined) throw this.#failure
  }

  get readOnly(): boolean {
    return this.#failure !== undefined
  }

  async #guardSync(attempted: string, sync: () => Promise<void>): Promise<void> {
    this.requireWritable()
    try {
      await sync()
    } catch (error) {
      throw this.#becomeReadOnly(attempted, error)
    }
  }

  #becomeReadOnly(attempted: string, error: unknown): CatalogError {
    const cause = error instanceof Error ? error.message : String(error)
    this.#failure ??= new CatalogError(
      'storage-failed',
      `The store in ${this.#directory} is read-only since ${attempted} failed (${cause}). Check the disk, then restart the daemon.`,
      {},
      error,
    )
    return this.#failure
  }

  /** What a failed file operation means: a full disk may pass, a failing one ends writing. */
  typed(attempted: string, error: unknown): CatalogError {
    if (error instanceof CatalogError) return error
    const errno = (error as NodeJS.ErrnoException).code
    if (errno === 'EIO' || errno === 'EROFS') return this.#becomeReadOnly(attempted, error)
    const typed = toCatalogError(error)
    if (typed.code !== 'internal') return typed
    return new CatalogError(
      'storage-failed',
      `The store in ${this.#directory} failed ${attempted} (${typed.message}). Check the disk and its permissions, then try again.`,
      {},
      error,
    )
  }
}
