// Turns a package's tree into content: one pass over its files in path order that reads, hashes and cuts them and
// hands the shards to a writer. Describes the result in a content index; does not encode, record or publish it.
import { constants } from 'node:fs'
import { type FileHandle, open } from 'node:fs/promises'
import { CatalogError } from '../base/errors.ts'
import { blake3, blake3Hasher, type Hasher, sha256Hasher } from '../base/hash.ts'
import type { ContentIndex, Entry, ShardEntry } from './content-index.ts'
import type { ContentWriter } from './content-store.ts'
import { Cutter } from './cutter.ts'
import type { SourceEntry, SourceFile } from './package-tree.ts'

export interface PackOptions {
  readonly signal?: AbortSignal | undefined
  /** Bytes read, hashed and cut so far. */
  readonly onProgress?: ((bytesDone: number) => void) | undefined
}

const readBytes = 1024 * 1024
/** Files up to this size are read whole, ahead of their turn. */
const smallFileBytes = 128 * 1024
const filesAhead = 32
/** Shards handed to the writer whose writes have not ended. */
const maxWritingBytes = 4 * 1024 * 1024

/**
 * Reads the entries (ascending by `comparePaths`) into the writer, and describes them. Memory stays within a few MiB
 * for any size. The caller commits or aborts the writer.
 * @throws CatalogError `invalid-package` when a file is not what it was when the entries were listed, or changes while
 * it is read; whatever the writer throws; the signal's reason
 */
export async function packTree(
  entries: readonly SourceEntry[],
  writer: ContentWriter,
  options: PackOptions = {},
): Promise<ContentIndex> {
  const files = entries.filter(entry => entry.kind === 'file')
  const shards = new ShardSink(writer)
  const stream = files.filter(file => file.size > 0).length === 1 ? undefined : new Digests()
  const described: Entry[] = []
  const reader = new TreeReader(files)
  let offset = 0
  let whole: FileDigests | undefined
  try {
    for (const entry of entries) {
      options.signal?.throwIfAborted()
      if (entry.kind !== 'file') {
        described.push(entry)
        continue
      }
      const digests = new Digests()
      for await (const bytes of reader.next()) {
        options.signal?.throwIfAborted()
        digests.update(bytes)
        stream?.update(bytes)
        await shards.push(bytes)
        offset += bytes.byteLength
        options.onProgress?.(offset)
      }
      const file = digests.digest()
      if (entry.size > 0) whole = file
      const { path, mode, size } = entry
      described.push({ kind: 'file', path, mode, size, offset: offset - size, ...file })
    }
    const total = stream?.digest() ?? (whole as FileDigests)
    return { size: offset, ...total, entries: described, shards: await shards.end() }
  } finally {
    await reader.close()
    await shards.settle()
  }
}

interface FileDigests {
  readonly blake3: Uint8Array
  readonly sha256: Uint8Array
}

class Digests {
  readonly #blake3: Hasher = blake3Hasher()
  readonly #sha256: Hasher = sha256Hasher()

  update(bytes: Uint8Array): void {
    this.#blake3.update(bytes)
    this.#sha256.update(bytes)
  }

  digest(): FileDigests {
    return { blake3: this.#blake3.digest(), sha256: this.#sha256.digest() }
  }
}

/** Cuts, hashes and hands on; lets a few writes be under way while the next bytes are read. */
class ShardSink {
  readonly #writer: ContentWriter
  readonly #cutter = new Cutter()
  readonly #shards: ShardEntry[] = []
  readonly #writing = new Set<Promise<void>>()
  #writingBytes = 0
  #failure: unknown

  constructor(writer: ContentWriter) {
    this.#writer = writer
  }

  async push(bytes: Uint8Array): Promise<void> {
    for (const shard of this.#cutter.push(bytes)) await this.#add(shard)
  }

  async end(): Promise<readonly ShardEntry[]> {
    const last = this.#cutter.flush()
    if (last !== undefined) await this.#add(last)
    await this.settle()
    if (this.#failure !== undefined) throw this.#failure
    return this.#shards
  }

  async settle(): Promise<void> {
    await Promise.all(this.#writing)
  }

  async #add(shard: Uint8Array): Promise<void> {
    this.#shards.push({ hash: blake3(shard), length: shard.byteLength })
    this.#writingBytes += shard.byteLength
    const write = this.#writer
      .append(shard)
      .catch(error => {
        this.#failure ??= error
      })
      .finally(() => {
        this.#writing.delete(write)
        this.#writingBytes -= shard.byteLength
      })
    this.#writing.add(write)
    while (this.#writingBytes > maxWritingBytes) await Promise.race(this.#writing)
    if (this.#failure !== undefined) throw this.#failure
  }
}

/** Reads files in order: small ones whole and ahead of their turn, large ones piece by piece. */
class TreeReader {
  readonly #files: readonly SourceFile[]
  readonly #ahead: (Promise<Uint8Array> | undefined)[] = []
  #started = 0
  #turn = 0

  constructor(files: readonly SourceFile[]) {
    this.#files = files
  }

  /** The bytes of the next file. */
  async *next(): AsyncGenerator<Uint8Array, void, undefined> {
    const file = this.#files[this.#turn] as SourceFile
    this.#turn += 1
    this.#readAhead()
    const ready = this.#ahead.shift()
    if (ready !== undefined) yield await ready
    else yield* readLarge(file)
  }

  async close(): Promise<void> {
    await Promise.allSettled(this.#ahead)
  }

  #readAhead(): void {
    for (; this.#started < Math.min(this.#files.length, this.#turn + filesAhead); this.#started++) {
      const file = this.#files[this.#started] as SourceFile
      const small = file.source.kind === 'inline' || file.size <= smallFileBytes
      const reading = small ? readSmall(file) : undefined
      // Its turn may never come; then nobody asks.
      reading?.catch(() => undefined)
      this.#ahead.push(reading)
    }
  }
}

async function readSmall(file: SourceFile): Promise<Uint8Array> {
  if (file.source.kind === 'inline') {
    if (file.source.bytes.byteLength !== file.size) throw changed(file, 'its inline bytes have another size')
    return file.source.bytes
  }
  const bytes = Buffer.allocUnsafeSlow(file.size)
  await withFile(file, async handle => {
    if ((await fill(handle, bytes, 0)) < file.size) throw changed(file, 'it became shorter')
  })
  return bytes
}

async function* readLarge(file: SourceFile): AsyncGenerator<Uint8Array, void, undefined> {
  const opened = await openUnchanged(file)
  try {
    const read = (offset: number) => readPiece(file, opened.handle, offset)
    let next = read(0)
    for (let offset = 0; offset < file.size; ) {
      const bytes = await next
      offset += bytes.byteLength
      // The next piece is read while this one is hashed.
      if (offset < file.size) next = read(offset)
      next.catch(() => undefined)
      yield bytes
    }
    await opened.requireUnchanged()
  } finally {
    await opened.handle.close()
  }
}

async function readPiece(file: SourceFile, handle: FileHandle, offset: number): Promise<Uint8Array> {
  const bytes = Buffer.allocUnsafeSlow(Math.min(readBytes, file.size - offset))
  if ((await fill(handle, bytes, offset)) < bytes.byteLength) throw changed(file, 'it became shorter')
  return bytes
}

async function fill(handle: FileHandle, buffer: Uint8Array, offset: number): Promise<number> {
  let done = 0
  while (done < buffer.byteLength) {
    const { bytesRead } = await handle.read(buffer, done, buffer.byteLength - done, offset + done)
    if (bytesRead === 0) break
    done += bytesRead
  }
  return done
}

async function withFile(file: SourceFile, use: (handle: FileHandle) => Promise<void>): Promise<void> {
  const opened = await openUnchanged(file)
  try {
    await use(opened.handle)
    await opened.requireUnchanged()
  } finally {
    await opened.handle.close()
  }
}

interface OpenedFile {
  readonly handle: FileHandle
  /** Throws when the file was written to, or grew, since it was opened. */
  requireUnchanged(): Promise<void>
}

async function openUnchanged(file: SourceFile): Promise<OpenedFile> {
  if (file.source.kind !== 'disk') throw new TypeError('only files on disk are opened')
  const handle = await openRegular(file, file.source.absolutePath)
  try {
    const before = await handle.stat()
    if (!before.isFile()) throw changed(file, 'it is no longer a regular file')
    if (before.size !== file.size) throw changed(file, `it has ${before.size} bytes instead of ${file.size}`)
    const requireUnchanged = async () => {
      const after = await handle.stat()
      if (after.size !== before.size || after.mtimeMs !== before.mtimeMs || after.ctimeMs !== before.ctimeMs)
        throw changed(file, 'it was written to')
    }
    return { handle, requireUnchanged }
  } catch (error) {
    await handle.close()
    throw error
  }
}

/** A link or a FIFO put in the file's place is neither followed nor waited for. */
async function openRegular(file: SourceFile, path: string): Promise<FileHandle> {
  try {
    return await open(path, constants.O_RDONLY | constants.O_NOFOLLOW | constants.O_NONBLOCK)
  } catch (error) {
    const { code, message } = error as NodeJS.ErrnoException
    if (code === 'ENOENT' || code === 'ENOTDIR') throw changed(file, 'it was deleted')
    if (code === 'ELOOP') throw changed(file, 'a symbolic link took its place')
    throw new CatalogError(
      'invalid-package',
      `The file ${JSON.stringify(file.path)} cannot be read: ${message}. Make it readable, then publish again.`,
      { path: file.path },
      error,
    )
  }
}

const changed = (file: SourceFile, how: string) =>
  new CatalogError(
    'invalid-package',
    `The file ${JSON.stringify(file.path)} changed while being published: ${how}. Publish again when nothing writes to it.`,
    { path: file.path },
  )
