// Reads a tar archive of a package into an empty, private directory: the door to tar-stream. The archive is hostile: its
// entries, bytes and headers are counted before anything is made of them, and the rules for paths, links, permissions
// and kinds are those of a package directory (entry-path.ts, package-tree.ts). Whoever calls removes the directory.
//
// Taken: ustar, GNU and pax archives with files, directories, symbolic links, and hard links to files before them (each
// becomes a file of its own, as in a package directory). Refused: everything else; two entries at one path; an entry
// below one that is no directory; sparse files; bytes that go on after the end.
import { constants } from 'node:fs'
import { link, mkdir, open, symlink } from 'node:fs/promises'
import { join } from 'node:path'
import { type Extract, extract, type Header } from 'tar-stream'
import { CatalogError } from '../base/errors.ts'
import type { CallOptions } from '../base/lifecycle.ts'
import { checkEntryPath, checkLinkTarget } from './entry-path.ts'
import { checkCount } from './package-tree/walk.ts'
import { ancestorsOf } from './path-ancestors.ts'

export interface UnpackOptions extends CallOptions {
  /** Of all files together. */
  readonly maxBytes: number
}

type ArchivedEntry = Extract extends AsyncIterable<infer Entry> ? Entry : never

/** What may stand between two entries, or behind the last: extended headers, and the padding of tar's records. */
const maxGapBytes = 1024 * 1024
const createFlags = constants.O_WRONLY | constants.O_CREAT | constants.O_EXCL | constants.O_NOFOLLOW

/**
 * @param source is left where it stopped being read; it is not closed.
 * @throws CatalogError `invalid-package`, `too-large` (entries), `quota-exceeded` (bytes); the source's own errors, the
 * file system's, and the signal's reason pass through
 */
export async function unpackArchive(
  source: AsyncIterable<Uint8Array>,
  directory: string,
  options: UnpackOptions,
): Promise<void> {
  const archive = extract()
  const unpacking = new Unpacking(directory, options)
  let ended: { readonly error: unknown } | undefined
  const feeding = feed(source, archive, unpacking).catch(error => {
    ended = { error }
    archive.destroy(null)
  })
  try {
    for await (const entry of archive) await unpacking.entry(entry)
    await feeding
  } catch (error) {
    archive.destroy(null)
    // When the source broke, it knows why.
    throw ended === undefined ? readable(error) : ended.error
  }
  if (ended !== undefined) throw ended.error
  await unpacking.finish()
}

/** Gives the archive its bytes, as fast as it takes them. Throws what the source throws. */
async function feed(
  source: AsyncIterable<Uint8Array>,
  archive: Extract,
  unpacking: Unpacking,
): Promise<void> {
  for await (const chunk of source) {
    if (archive.destroyed) return
    unpacking.fed(chunk.byteLength)
    if (!archive.write(chunk)) await taken(archive)
  }
  archive.end(null)
}

const taken = (archive: Extract): Promise<void> =>
  new Promise(resolve => {
    const done = () => {
      archive.off('drain', done)
      archive.off('close', done)
      resolve()
    }
    archive.on('drain', done)
    archive.on('close', done)
    if (archive.destroyed) done()
  })

/** The library's errors have no code; those of the file system and ours do. */
function readable(error: unknown): unknown {
  if (!(error instanceof Error) || error instanceof CatalogError) return error
  const { code } = error as NodeJS.ErrnoException
  if (code !== 'STREAM_DESTROYED' && (code !== undefined || error.constructor !== Error)) return error
  const why = code === undefined ? error.message.replace(/\.$/, '') : 'it ends within a file'
  return new CatalogError(
    'invalid-package',
    `The body is no tar archive that can be read: ${why}. Send what \`tar --format=pax -c\` writes, not compressed.`,
    {},
    error,
  )
}

class Unpacking {
  readonly #directory: string
  readonly #options: UnpackOptions
  /** Sizes of the files by path; of links, undefined. */
  readonly #entries = new Map<string, number | undefined>()
  readonly #directories = new Set<string>()
  readonly #links: { readonly path: string; readonly target: string }[] = []
  #bytes = 0
  /** Bytes that may still come before the next entry has to. */
  #allowance = maxGapBytes

  constructor(directory: string, options: UnpackOptions) {
    this.#directory = directory
    this.#options = options
  }

  fed(bytes: number): void {
    this.#options.signal?.throwIfAborted()
    this.#allowance -= bytes
    if (this.#allowance < 0)
      throw new CatalogError(
        'invalid-package',
        `The archive goes on for more than ${maxGapBytes} bytes without an entry. Send what \`tar --format=pax -c\` writes.`,
      )
  }

  async entry(entry: ArchivedEntry): Promise<void> {
    this.#options.signal?.throwIfAborted()
    const header = checkedHeader(entry.header)
    this.#allowance = header.size + maxGapBytes
    const path = pathOf(header)
    // The directory itself: `tar -c .` begins with it.
    if (path !== '') await this.#make(path, header, entry)
    // The library goes on once everything was taken; there is nothing where there was no file.
    entry.resume()
  }

  /** Links come last: nothing is ever written through one. */
  async finish(): Promise<void> {
    for (const { path, target } of this.#links) await this.#guard(path, () => symlink(target, this.#at(path)))
  }

  async #make(path: string, header: CheckedHeader, entry: ArchivedEntry): Promise<void> {
    if (header.type === 'directory') return this.#ensureDirectory(path)
    if (this.#entries.has(path) || this.#directories.has(path))
      throw refuse(path, 'it is there twice. Name it once')
    this.#count(0)
    for (const parent of ancestorsOf(path).reverse()) await this.#ensureDirectory(parent)
    if (header.type === 'symlink') {
      this.#links.push({ path, target: checkLinkTarget(path, targetOf(path, header)) })
      this.#entries.set(path, undefined)
    } else if (header.type === 'link') await this.#hardLink(path, header)
    else await this.#file(path, header, entry)
  }

  async #ensureDirectory(path: string): Promise<void> {
    if (this.#directories.has(path)) return
    for (const parent of ancestorsOf(path).reverse())
      if (!this.#directories.has(parent)) await this.#ensureDirectory(parent)
    if (this.#entries.has(path)) throw refuse(path, 'it is both a directory and none. Name it once')
    this.#directories.add(path)
    this.#count(0)
    await this.#guard(path, () => mkdir(this.#at(path), { mode: 0o700 }))
  }

  async #file(path: string, { size, mode }: CheckedHeader, entry: ArchivedEntry): Promise<void> {
    this.#count(size)
    this.#entries.set(path, size)
    await using file = await this.#guard(path, () => open(this.#at(path), createFlags, 0o600))
    for await (const chunk of entry as AsyncIterable<Uint8Array>) {
      this.#options.signal?.throwIfAborted()
      for (let offset = 0; offset < chunk.byteLength; )
        offset += (await file.write(chunk, offset, chunk.byteLength - offset)).bytesWritten
    }
    await file.chmod(mode)
  }

  async #hardLink(path: string, header: CheckedHeader): Promise<void> {
    const target = checkEntryPath(withoutDots(targetOf(path, header)))
    const size = this.#entries.get(target)
    if (size === undefined) throw refuse(path, 'it is a hard link to what is no file before it')
    this.#count(size)
    this.#entries.set(path, size)
    await this.#guard(path, () => link(this.#at(target), this.#at(path)))
  }

  #count(bytes: number): void {
    // Directories too: a few long paths can name very many.
    checkCount(this.#entries.size)
    checkCount(this.#directories.size)
    this.#bytes += bytes
    if (this.#bytes > this.#options.maxBytes)
      throw new CatalogError(
        'quota-exceeded',
        `The archive holds more than ${this.#options.maxBytes} bytes, the most that there is room for here.`,
        { maxBytes: this.#options.maxBytes },
      )
  }

  async #guard<T>(path: string, make: () => Promise<T>): Promise<T> {
    try {
      return await make()
    } catch (error) {
      const { code } = error as NodeJS.ErrnoException
      if (code === 'ENAMETOOLONG') throw refuse(path, 'its path is too long for this system')
      if (code === 'EEXIST') throw refuse(path, 'this file system takes two names of the package for one')
      throw error
    }
  }

  #at(path: string): string {
    return join(this.#directory, path)
  }
}

interface CheckedHeader {
  readonly type: 'file' | 'directory' | 'symlink' | 'link'
  readonly name: string
  readonly linkname: string
  readonly size: number
  readonly mode: number
}

const setIdBits = 0o6000
const kindsRefused: Readonly<Record<string, string>> = {
  'character-device': 'a device',
  'block-device': 'a device',
  fifo: 'a FIFO',
}

function checkedHeader(header: Header): CheckedHeader {
  const { name, type, size, mode, linkname } = header
  if (type !== 'file' && type !== 'directory' && type !== 'symlink' && type !== 'link')
    throw refuse(
      name,
      `it is ${kindsRefused[String(type)] ?? 'of a kind that no package holds'}. Leave it out`,
    )
  if (Object.keys(header.pax ?? {}).some(key => key.startsWith('GNU.sparse')))
    throw refuse(name, 'it is a sparse file. Pack it without --sparse')
  if (!Number.isSafeInteger(size) || size < 0 || (type !== 'file' && size !== 0))
    throw refuse(name, 'its size is none')
  if (type === 'file' && (mode & setIdBits) !== 0)
    throw refuse(name, 'it has a set-user-id or set-group-id bit. Remove it with chmod ug-s')
  return { type, name, linkname: (linkname as string | null) ?? '', size, mode: mode & 0o777 }
}

function pathOf({ name, type }: CheckedHeader): string {
  const path = withoutDots(type === 'directory' ? name.replace(/\/$/, '') : name)
  // The library shows what is not UTF-8 as this; a name that has it stands for one of many.
  if (path.includes('\ufffd')) throw refuse(path, 'its name is not valid UTF-8')
  return path === '' && type === 'directory' ? '' : checkEntryPath(path)
}

/** `tar -c .` writes `./a`. */
const withoutDots = (path: string): string => (path === '.' ? '' : path.replace(/^\.\//, ''))

function targetOf(path: string, { linkname }: CheckedHeader): string {
  if (linkname.includes('\ufffd')) throw refuse(path, 'its target is not valid UTF-8')
  return linkname
}

const refuse = (path: string, why: string) =>
  new CatalogError(
    'invalid-package',
    `${JSON.stringify(path.slice(0, 200))} of the archive cannot be in a package: ${why}.`,
    { path },
  )
