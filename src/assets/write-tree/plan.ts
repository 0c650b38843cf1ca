// What has to be done so that a directory holds a release: which files are right already, what has to be made, and
// what has to go first. Looks only; nothing is changed here.
import { constants, type Stats } from 'node:fs'
import { lstat, open, readdir, readlink } from 'node:fs/promises'
import { join } from 'node:path'
import { equalBytes } from '../../base/cbor.ts'
import { CatalogError } from '../../base/errors.ts'
import { blake3Hasher } from '../../base/hash.ts'
import {
  type ContentIndex,
  contentIndexLimits,
  type Entry,
  type FileEntry,
  type LinkEntry,
} from '../content-index.ts'
import { ancestorsOf } from '../path-ancestors.ts'

export type ReadStream = (offset: number, length: number) => AsyncIterable<Uint8Array>

export interface TreePlan {
  /** Every directory of the release, parents first; `present` ones are real directories already. */
  readonly directories: readonly { readonly path: string; readonly present: boolean }[]
  readonly files: readonly FileEntry[]
  readonly links: readonly LinkEntry[]
  /** Files whose bytes are right, and those of them whose modes are not. */
  readonly kept: readonly FileEntry[]
  readonly wrongMode: readonly FileEntry[]
  /** Paths of files and links, and of empty directories, that have to go before anything is made. */
  readonly remove: readonly { readonly path: string; readonly directory: boolean }[]
}

export interface PlanOptions {
  /** Entries of the release replace what is at their paths. */
  readonly force: boolean
  /** What is no entry of the release goes too: for a directory that is ours alone. */
  readonly prune: boolean
  readonly signal?: AbortSignal | undefined
}

interface Wanted {
  readonly directories: ReadonlySet<string>
  readonly entries: ReadonlyMap<string, Entry>
}

/** @throws CatalogError `output-exists` when something is there that may not be replaced. */
export async function planTree(
  index: ContentIndex,
  read: ReadStream,
  root: string,
  options: PlanOptions,
): Promise<TreePlan> {
  const wanted = wantedOf(index)
  const survey = new Survey(root, wanted, read, options)
  await survey.directory('')
  const { present, remove } = survey
  const kept = new Set(survey.kept)
  return {
    directories: [...wanted.directories].map(path => ({ path, present: present.has(path) })),
    files: index.entries.filter(entry => entry.kind === 'file').filter(entry => !kept.has(entry.path)),
    links: index.entries.filter(entry => entry.kind === 'link').filter(entry => !kept.has(entry.path)),
    kept: index.entries.filter(entry => entry.kind === 'file').filter(entry => kept.has(entry.path)),
    wrongMode: survey.wrongMode,
    remove,
  }
}

function wantedOf(index: ContentIndex): Wanted {
  const directories = new Set<string>()
  for (const entry of index.entries) {
    if (entry.kind === 'directory') directories.add(entry.path)
    for (const path of ancestorsOf(entry.path)) {
      if (directories.has(path)) break
      directories.add(path)
    }
    // Few long paths can name very many directories.
    if (directories.size > contentIndexLimits.maxEntries)
      throw new CatalogError(
        'too-large',
        `The release has more than ${contentIndexLimits.maxEntries} directories, and cannot be written out. Read its files one by one instead.`,
      )
  }
  // A parent is shorter than what is in it.
  const sorted = [...directories].sort((a, b) => a.length - b.length)
  return { directories: new Set(sorted), entries: new Map(index.entries.map(entry => [entry.path, entry])) }
}

/** One pass over what is in the directory, never through a link. */
class Survey {
  readonly present = new Set<string>()
  readonly kept: string[] = []
  readonly wrongMode: FileEntry[] = []
  readonly remove: { path: string; directory: boolean }[] = []
  readonly #root: string
  readonly #wanted: Wanted
  readonly #read: ReadStream
  readonly #options: PlanOptions

  constructor(root: string, wanted: Wanted, read: ReadStream, options: PlanOptions) {
    this.#root = root
    this.#wanted = wanted
    this.#read = read
    this.#options = options
  }

  async directory(directory: string): Promise<void> {
    const names = await readdir(join(this.#root, directory))
    for (const name of names) {
      this.#options.signal?.throwIfAborted()
      const path = directory === '' ? name : `${directory}/${name}`
      const status = await lstat(join(this.#root, path))
      if (this.#wanted.directories.has(path)) await this.#whereDirectory(path, status)
      else await this.#whereEntry(path, status, this.#wanted.entries.get(path))
    }
  }

  async #whereDirectory(path: string, status: Stats): Promise<void> {
    if (!status.isDirectory()) return this.#replace(path, 'is not a directory')
    this.present.add(path)
    await this.directory(path)
  }

  async #whereEntry(path: string, status: Stats, entry: Entry | undefined): Promise<void> {
    if (entry === undefined) {
      if (this.#options.prune) return status.isDirectory() ? await this.#prune(path) : this.#drop(path, false)
      if (!this.#options.force) throw exists(this.#root, path, 'is no file of the release')
      return
    }
    if (status.isDirectory()) {
      if (this.#options.prune) return await this.#prune(path)
      const empty = (await readdir(join(this.#root, path))).length === 0
      if (!empty || !this.#options.force)
        throw exists(this.#root, path, 'is a directory, where the release has none', !empty)
      return this.#drop(path, true)
    }
    if (entry.kind === 'link') return await this.#whereLink(entry, status)
    if (entry.kind === 'file') await this.#whereFile(entry, status)
  }

  async #whereLink(entry: LinkEntry, status: Stats): Promise<void> {
    const same = status.isSymbolicLink() && (await readlink(join(this.#root, entry.path))) === entry.target
    if (same) this.kept.push(entry.path)
    else this.#replace(entry.path, 'is another link')
  }

  async #whereFile(entry: FileEntry, status: Stats): Promise<void> {
    if (!status.isFile() || status.size > entry.size) return this.#replace(entry.path, 'is another file')
    const { signal } = this.#options
    const found = await hashFile(join(this.#root, entry.path), status.size, signal)
    if (status.size === entry.size && found !== undefined && equalBytes(found, entry.blake3)) {
      this.kept.push(entry.path)
      if ((status.mode & 0o7777) !== entry.mode) this.wrongMode.push(entry)
      return
    }
    if (this.#options.force) return this.#drop(entry.path, false)
    // The beginning of the right file is what an interrupted run leaves.
    const right = await hashStream(this.#read(entry.offset, status.size), signal)
    if (status.size === entry.size || found === undefined || !equalBytes(found, right))
      throw exists(this.#root, entry.path, 'has other content')
    this.#drop(entry.path, false)
  }

  #replace(path: string, why: string): void {
    if (!this.#options.force) throw exists(this.#root, path, why)
    this.#drop(path, false)
  }

  #drop(path: string, directory: boolean): void {
    this.remove.push({ path, directory })
  }

  async #prune(path: string): Promise<void> {
    for (const name of await readdir(join(this.#root, path))) {
      const inside = `${path}/${name}`
      const status = await lstat(join(this.#root, inside))
      if (status.isDirectory()) await this.#prune(inside)
      else this.#drop(inside, false)
    }
    this.#drop(path, true)
  }
}

const exists = (root: string, path: string, why: string, evenForced = false) =>
  new CatalogError(
    'output-exists',
    `${root} is not empty, and ${JSON.stringify(path)} in it ${why}. ${evenForced ? 'Remove it' : 'Use --force to replace what is in the way'}, or give another directory.`,
    { path: join(root, path) },
  )

/** BLAKE3 of a file; undefined when it may not be read, or is no longer of the size. */
async function hashFile(
  path: string,
  size: number,
  signal: AbortSignal | undefined,
): Promise<Uint8Array | undefined> {
  try {
    await using file = await open(path, constants.O_RDONLY | constants.O_NOFOLLOW | constants.O_NONBLOCK)
    const buffer = Buffer.allocUnsafe(Math.min(Math.max(size, 1), 1024 * 1024))
    const hasher = blake3Hasher()
    let total = 0
    for (;;) {
      signal?.throwIfAborted()
      const { bytesRead } = await file.read(buffer, 0, buffer.byteLength)
      if (bytesRead === 0) return total === size ? hasher.digest() : undefined
      total += bytesRead
      if (total > size) return undefined
      hasher.update(buffer.subarray(0, bytesRead))
    }
  } catch (error) {
    const { code } = error as NodeJS.ErrnoException
    if (code === 'EACCES' || code === 'ELOOP' || code === 'ENOENT') return undefined
    throw error
  }
}

async function hashStream(
  stream: AsyncIterable<Uint8Array>,
  signal: AbortSignal | undefined,
): Promise<Uint8Array> {
  const hasher = blake3Hasher()
  for await (const chunk of stream) {
    signal?.throwIfAborted()
    hasher.update(chunk)
  }
  return hasher.digest()
}
