// Reads one file of a package, and refuses it when it is not what was listed, or changes meanwhile.
import { constants } from 'node:fs'
import { type FileHandle, open } from 'node:fs/promises'
import { CatalogError } from '../../base/errors.ts'
import type { SourceFile } from '../package-tree.ts'

/** All bytes of a file, in a buffer of their own. */
export async function readWhole(file: SourceFile): Promise<Uint8Array> {
  if (file.source.kind === 'inline') {
    if (file.source.bytes.byteLength !== file.size) throw changed(file, 'its inline bytes have another size')
    return file.source.bytes
  }
  const bytes = Buffer.allocUnsafeSlow(file.size)
  const opened = await OpenedFile.open(file)
  try {
    await opened.fill(bytes, 0)
    await opened.requireUnchanged()
    return bytes
  } finally {
    await opened.close()
  }
}

export class OpenedFile {
  readonly #file: SourceFile
  readonly #handle: FileHandle
  readonly #before: { readonly mtimeMs: number; readonly ctimeMs: number }

  private constructor(
    file: SourceFile,
    handle: FileHandle,
    before: { readonly mtimeMs: number; readonly ctimeMs: number },
  ) {
    this.#file = file
    this.#handle = handle
    this.#before = before
  }

  /** @throws CatalogError `invalid-package` when it is not the regular file of that size that was listed */
  static async open(file: SourceFile): Promise<OpenedFile> {
    if (file.source.kind !== 'disk') throw new TypeError('only files on disk are opened')
    const handle = await openRegular(file, file.source.absolutePath)
    try {
      const before = await handle.stat()
      if (!before.isFile()) throw changed(file, 'it is no longer a regular file')
      if (before.size !== file.size)
        throw changed(file, `it has ${before.size} bytes instead of ${file.size}`)
      return new OpenedFile(file, handle, before)
    } catch (error) {
      await handle.close()
      throw error
    }
  }

  /** Fills `buffer` with what the file has at `offset`. */
  async fill(buffer: Uint8Array, offset: number): Promise<void> {
    for (let done = 0; done < buffer.byteLength; ) {
      const { bytesRead } = await this.#handle.read(buffer, done, buffer.byteLength - done, offset + done)
      if (bytesRead === 0) throw changed(this.#file, 'it became shorter')
      done += bytesRead
    }
  }

  /** Throws when the file was written to, or grew, since it was opened. */
  async requireUnchanged(): Promise<void> {
    const after = await this.#handle.stat()
    const { mtimeMs, ctimeMs } = this.#before
    if (after.size !== this.#file.size || after.mtimeMs !== mtimeMs || after.ctimeMs !== ctimeMs)
      throw changed(this.#file, 'it was written to')
  }

  close(): Promise<void> {
    return this.#handle.close()
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
