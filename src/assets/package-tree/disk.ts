// What a scan asks the file system, in a package's terms: names, links, permissions and small files, each refused with
// the path that it is about.
import { constants, type Dirent, type Stats } from 'node:fs'
import { open, readdir, readlink } from 'node:fs/promises'
import { CatalogError, toCatalogError } from '../../base/errors.ts'
import { checkLinkTarget } from '../entry-path.ts'
import { ignoreFileName } from '../ignore-rules.ts'
import { manifestTooLarge } from '../parse-manifest.ts'

const setIdBits = 0o6000

export async function namesOf(
  absolutePath: string,
  path: string,
): Promise<{ readonly name: string; readonly isDirectory: boolean }[]> {
  let items: Dirent<Buffer>[]
  try {
    items = await readdir(absolutePath, { withFileTypes: true, encoding: 'buffer' })
  } catch (error) {
    throw unreadable(path === '' ? absolutePath : path, error)
  }
  return items.map(item => {
    const name = item.name.toString('utf8')
    if (!Buffer.from(name).equals(item.name))
      throw new CatalogError(
        'invalid-package',
        `A name in ${JSON.stringify(path || '.')} is not valid UTF-8: ${JSON.stringify(item.name.toString('latin1'))} (shown as Latin-1). Rename it.`,
        { path },
      )
    return { name, isDirectory: item.isDirectory() }
  })
}

export async function linkTarget(path: string, absolutePath: string): Promise<string> {
  const bytes = await readlink(absolutePath, { encoding: 'buffer' })
  const target = bytes.toString('utf8')
  if (!Buffer.from(target).equals(bytes))
    throw new CatalogError(
      'invalid-package',
      `The symbolic link ${JSON.stringify(path)} is refused: its target is not valid UTF-8. Make it point to a name that is.`,
      { path },
    )
  return checkLinkTarget(path, target)
}

export function permissions(path: string, status: Stats): number {
  if ((status.mode & setIdBits) !== 0)
    throw new CatalogError(
      'invalid-package',
      `${JSON.stringify(path)} cannot be in a package: it has a set-user-id or set-group-id bit. Remove it with chmod ug-s.`,
      { path },
    )
  return status.mode & 0o777
}

export function notStorable(path: string, status: Stats): CatalogError {
  const what = status.isFIFO()
    ? 'a FIFO'
    : status.isSocket()
      ? 'a socket'
      : status.isDirectory()
        ? 'a directory now, and was none a moment ago'
        : 'a device'
  return new CatalogError(
    'invalid-package',
    `${JSON.stringify(path)} cannot be in a package: it is ${what}. Remove it, or name it in ${ignoreFileName}.`,
    { path },
  )
}

/** Reads a file that must be small and regular; its size is known before anything is read. */
export async function readSmall(
  absolutePath: string,
  path: string,
  maxBytes: number,
): Promise<{ bytes: Uint8Array; status: Stats }> {
  try {
    // Not through a link, and without waiting for the writer of a FIFO.
    const flags = constants.O_RDONLY | constants.O_NOFOLLOW | constants.O_NONBLOCK
    await using file = await open(absolutePath, flags)
    const status = await file.stat()
    if (!status.isFile()) throw notStorable(path, status)
    if (status.size > maxBytes) throw tooLarge(path, status.size, maxBytes)
    // One byte more than there should be shows a file that grows.
    const bytes = Buffer.alloc(status.size + 1)
    let filled = 0
    while (filled < bytes.byteLength) {
      const { bytesRead } = await file.read(bytes, filled, bytes.byteLength - filled)
      if (bytesRead === 0) return { bytes: new Uint8Array(bytes.subarray(0, filled)), status }
      filled += bytesRead
    }
    throw new CatalogError('busy', `${path} grows while it is read. Try again when it is written.`, { path })
  } catch (error) {
    if ((error as NodeJS.ErrnoException).code === 'ELOOP')
      throw new CatalogError(
        'invalid-package',
        `${path} is a symbolic link; it has to be a regular file of the package.`,
        { path },
        error,
      )
    throw unreadable(path, error)
  }
}

function tooLarge(path: string, bytes: number, maxBytes: number): CatalogError {
  if (path !== ignoreFileName) return manifestTooLarge(path, bytes)
  return new CatalogError('invalid-package', `${path} is ${bytes} bytes; at most ${maxBytes} are read.`, {
    path,
  })
}

/** What the file system answered, with the path it was about; errors with a code, and abort reasons, as they are. */
export function unreadable(path: string, error: unknown): unknown {
  if (error instanceof CatalogError || (error as NodeJS.ErrnoException).syscall === undefined) return error
  const { code, message } = error as NodeJS.ErrnoException
  if (code === 'EACCES' || code === 'EPERM')
    return new CatalogError(
      'forbidden',
      `${JSON.stringify(path)} cannot be read: permission denied. Allow it, or name it in ${ignoreFileName}.`,
      { path },
      error,
    )
  if (code === 'ENOENT' || code === 'ENOTDIR' || code === 'ENAMETOOLONG' || code === 'ELOOP')
    return new CatalogError(
      'invalid-package',
      `${JSON.stringify(path)} cannot be read: ${code === 'ENAMETOOLONG' ? 'its path is too long for this system' : 'it changed while the package was scanned; try again'}.`,
      { path },
      error,
    )
  const known = toCatalogError(error)
  return new CatalogError(known.code, `${JSON.stringify(path)} cannot be read: ${message}.`, { path }, error)
}
