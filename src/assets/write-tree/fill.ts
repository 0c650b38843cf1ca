// Carries out a plan: removes what is in the way, makes directories, cuts the release's stream into files, and makes
// the links last. One pass over the stream; small files are written several at a time within a bound of memory.
import { constants } from 'node:fs'
import { chmod, type FileHandle, mkdir, open, rmdir, symlink, unlink } from 'node:fs/promises'
import { join } from 'node:path'
import { equalBytes } from '../../base/cbor.ts'
import { CatalogError } from '../../base/errors.ts'
import { blake3, blake3Hasher } from '../../base/hash.ts'
import type { FileEntry } from '../content-index.ts'
import type { ReadStream, TreePlan } from './plan.ts'

const createFlags = constants.O_WRONLY | constants.O_CREAT | constants.O_EXCL | constants.O_NOFOLLOW
/** Up to this size a file is gathered and written by one of the lanes; above it, as it comes. */
const smallFileBytes = 256 * 1024
const lanes = 16
/** A gap of files that are right already is read over when it is no longer than this: a new read costs more. */
const skippedBytes = 256 * 1024

interface FillOptions {
  readonly signal?: AbortSignal | undefined
  readonly onProgress?: (bytesDone: number) => void
}

export async function fillTree(
  read: ReadStream,
  root: string,
  plan: TreePlan,
  options: FillOptions,
): Promise<{ written: number; kept: number }> {
  const filling = new Filling(root, options)
  try {
    await filling.removeAndMakeDirectories(plan)
    filling.progress(plan.kept.reduce((sum, file) => sum + file.size, 0))
    for (const run of runsOf(plan.files)) await filling.run(run, read)
    await filling.finish(plan)
  } catch (error) {
    await filling.undo()
    throw error
  }
  return { written: plan.files.length, kept: plan.kept.length }
}

/** Files that follow one another in the stream, or nearly: each run is one read. */
function runsOf(files: readonly FileEntry[]): FileEntry[][] {
  const runs: FileEntry[][] = []
  let end = Number.NEGATIVE_INFINITY
  for (const file of files) {
    if (file.offset - end > skippedBytes) runs.push([])
    runs.at(-1)?.push(file)
    end = file.offset + file.size
  }
  return runs
}

class Filling {
  readonly #root: string
  readonly #options: FillOptions
  /** What this call made, in order: undone, last first, when it fails. */
  readonly #made: { readonly path: string; readonly directory: boolean }[] = []
  readonly #writing = new Set<Promise<void>>()
  #failure: { readonly error: unknown } | undefined
  #done = 0

  constructor(root: string, options: FillOptions) {
    this.#root = root
    this.#options = options
  }

  progress(bytes: number): void {
    this.#done += bytes
    this.#options.onProgress?.(this.#done)
  }

  async removeAndMakeDirectories(plan: TreePlan): Promise<void> {
    for (const { path, directory } of plan.remove) {
      this.#options.signal?.throwIfAborted()
      await (directory ? rmdir(this.#path(path)) : unlink(this.#path(path)))
    }
    for (const { path, present } of plan.directories) {
      this.#options.signal?.throwIfAborted()
      if (!present) {
        await this.#guard(path, () => mkdir(this.#path(path), 0o755))
        this.#made.push({ path, directory: true })
      }
      // The umask has a say in mkdir, and none in chmod.
      await chmod(this.#path(path), 0o755)
    }
  }

  async run(files: readonly FileEntry[], read: ReadStream): Promise<void> {
    const [first] = files
    const last = files.at(-1)
    if (first === undefined || last === undefined) return
    const source = new Cutter(read(first.offset, last.offset + last.size - first.offset), first.offset)
    try {
      for (const file of files) {
        this.#options.signal?.throwIfAborted()
        await source.skipTo(file.offset)
        if (file.size > smallFileBytes) await this.#large(file, source)
        else await this.#small(file, await source.take(file))
      }
      await source.end()
    } finally {
      await source.close()
      await this.#settle()
    }
    this.#rethrow()
  }

  async finish(plan: TreePlan): Promise<void> {
    for (const file of plan.wrongMode) await this.#restoreMode(file)
    for (const { path, target } of plan.links) {
      this.#options.signal?.throwIfAborted()
      await this.#guard(path, () => symlink(target, this.#path(path)))
      this.#made.push({ path, directory: false })
    }
  }

  async undo(): Promise<void> {
    await this.#settle()
    for (const { path, directory } of this.#made.reverse()) {
      // What cannot be removed stays: the error that led here is the one to tell.
      await (directory ? rmdir(this.#path(path)) : unlink(this.#path(path))).catch(() => {})
    }
  }

  /** Waits only while every lane is taken: at most `lanes` small files are in memory. */
  async #small(file: FileEntry, bytes: Uint8Array): Promise<void> {
    if (!equalBytes(blake3(bytes), file.blake3)) throw corrupt(file)
    const writing = this.#writeSmall(file, bytes)
      .catch(error => {
        this.#failure ??= { error }
      })
      .finally(() => this.#writing.delete(writing))
    this.#writing.add(writing)
    if (this.#writing.size >= lanes) await Promise.race(this.#writing)
    this.#rethrow()
  }

  async #writeSmall(file: FileEntry, bytes: Uint8Array): Promise<void> {
    await using handle = await this.#create(file)
    await writeAll(handle, bytes)
    await handle.chmod(file.mode)
    this.progress(bytes.byteLength)
  }

  async #large(file: FileEntry, source: Cutter): Promise<void> {
    await using handle = await this.#create(file)
    const hasher = blake3Hasher()
    for await (const chunk of source.chunks(file)) {
      this.#options.signal?.throwIfAborted()
      hasher.update(chunk)
      await writeAll(handle, chunk)
      this.progress(chunk.byteLength)
    }
    if (!equalBytes(hasher.digest(), file.blake3)) throw corrupt(file)
    await handle.chmod(file.mode)
  }

  async #create(file: FileEntry): Promise<FileHandle> {
    const handle = await this.#guard(file.path, () => open(this.#path(file.path), createFlags, 0o600))
    this.#made.push({ path: file.path, directory: false })
    return handle
  }

  async #restoreMode(file: FileEntry): Promise<void> {
    // By a handle that is no link's: chmod by path would follow one that was put here meanwhile.
    await using handle = await open(this.#path(file.path), constants.O_RDONLY | constants.O_NOFOLLOW)
    await handle.chmod(file.mode)
  }

  /** Something that was not there a moment ago, or that this file system takes for the same name. */
  async #guard<T>(path: string, make: () => Promise<T>): Promise<T> {
    try {
      return await make()
    } catch (error) {
      if ((error as NodeJS.ErrnoException).code !== 'EEXIST') throw error
      throw new CatalogError(
        'output-exists',
        `${JSON.stringify(path)} could not be written in ${this.#root}: something is there, or this file system takes two names of the release for one. Give another directory.`,
        { path },
        error,
      )
    }
  }

  async #settle(): Promise<void> {
    await Promise.all(this.#writing)
  }

  #rethrow(): void {
    if (this.#failure !== undefined) throw this.#failure.error
  }

  #path(path: string): string {
    return join(this.#root, path)
  }
}

async function writeAll(handle: FileHandle, bytes: Uint8Array): Promise<void> {
  for (let offset = 0; offset < bytes.byteLength; ) {
    const { bytesWritten } = await handle.write(bytes, offset, bytes.byteLength - offset)
    offset += bytesWritten
  }
}

/** Hands out the bytes of a stream file by file, whatever the sizes of its chunks. */
class Cutter {
  readonly #chunks: AsyncIterator<Uint8Array>
  #chunk: Uint8Array = new Uint8Array()
  #offset: number

  constructor(stream: AsyncIterable<Uint8Array>, offset: number) {
    this.#chunks = stream[Symbol.asyncIterator]()
    this.#offset = offset
  }

  /** The whole of a small file, in memory of its own. */
  async take(file: FileEntry): Promise<Uint8Array> {
    const bytes = new Uint8Array(file.size)
    let filled = 0
    for await (const chunk of this.chunks(file)) {
      bytes.set(chunk, filled)
      filled += chunk.byteLength
    }
    return bytes
  }

  async *chunks(file: FileEntry): AsyncGenerator<Uint8Array> {
    let missing = file.size
    while (missing > 0) {
      if (this.#chunk.byteLength === 0 && !(await this.#next())) throw corrupt(file)
      const part = this.#chunk.subarray(0, missing)
      this.#chunk = this.#chunk.subarray(part.byteLength)
      this.#offset += part.byteLength
      missing -= part.byteLength
      yield part
    }
  }

  async skipTo(offset: number): Promise<void> {
    while (this.#offset < offset) {
      if (this.#chunk.byteLength === 0 && !(await this.#next())) return
      const part = Math.min(this.#chunk.byteLength, offset - this.#offset)
      this.#chunk = this.#chunk.subarray(part)
      this.#offset += part
    }
  }

  /** @throws CatalogError `corrupt-content` when the stream goes on. */
  async end(): Promise<void> {
    if (this.#chunk.byteLength > 0 || (await this.#next()))
      throw new CatalogError('corrupt-content', 'The stream of the release is longer than its index says.')
  }

  async close(): Promise<void> {
    await this.#chunks.return?.()
  }

  async #next(): Promise<boolean> {
    for (;;) {
      const { done, value } = await this.#chunks.next()
      if (done === true) return false
      if (value.byteLength === 0) continue
      this.#chunk = value
      return true
    }
  }
}

const corrupt = (file: FileEntry) =>
  new CatalogError(
    'corrupt-content',
    `${JSON.stringify(file.path)} is not what the release's index says. Fetch the release again, then try once more.`,
    { path: file.path },
  )
