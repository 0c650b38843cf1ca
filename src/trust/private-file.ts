// Small files that hold secrets. Read whole, after checks on the open descriptor; written whole or not at all, durable
// when the call resolves. What is in them belongs to others.
import { randomBytes } from 'node:crypto'
import { constants } from 'node:fs'
import { type FileHandle, link, open, realpath, rename, unlink } from 'node:fs/promises'
import { dirname } from 'node:path'
import { CatalogError, toCatalogError } from '../base/errors.ts'

export interface PrivateFileRules {
  /** Begins every sentence about it: "The node key". */
  readonly what: string
  readonly maxBytes: number
  readonly followLinks: boolean
  /** The system may own what it hands to a service. */
  readonly rootMayOwn?: boolean
  /** An access list of the one user who may read shows up as rights of the group (systemd writes credentials so). */
  readonly groupMayRead?: boolean
  /** The next step for a file that cannot be used; default: restore it. */
  readonly remedy?: string
}

/**
 * The bytes of a file that only its owner reads; undefined where there is none.
 * @throws CatalogError `forbidden` (others may read or change it), `home-not-owned`, `invalid-config` (no regular
 *   file, a link, or too large)
 */
export async function readPrivateFile(
  path: string,
  rules: PrivateFileRules,
): Promise<Uint8Array | undefined> {
  const links = rules.followLinks ? 0 : constants.O_NOFOLLOW
  let file: FileHandle
  try {
    // One descriptor for checks and reading: what was checked is what is read. A pipe must not block.
    file = await open(path, constants.O_RDONLY | constants.O_NONBLOCK | links)
  } catch (error) {
    const { code } = error as NodeJS.ErrnoException
    if (code === 'ENOENT') return undefined
    if (code === 'ELOOP') throw unusable(path, rules, 'it is a symbolic link')
    throw toCatalogError(error)
  }
  try {
    const size = await checkedSize(file, path, rules)
    const bytes = new Uint8Array(size)
    const { bytesRead } = await file.read(bytes, 0, size, 0)
    return bytes.subarray(0, bytesRead)
  } finally {
    await file.close()
  }
}

async function checkedSize(file: FileHandle, path: string, rules: PrivateFileRules): Promise<number> {
  const stat = await file.stat()
  if (!stat.isFile()) throw unusable(path, rules, 'it is not a regular file')
  const user = process.getuid?.()
  const owned = user === undefined || stat.uid === user || (rules.rootMayOwn === true && stat.uid === 0)
  if (!owned)
    throw new CatalogError(
      'home-not-owned',
      `${rules.what} at ${path} belongs to user ${stat.uid}, not to ${user} who runs this. Run as its owner.`,
      { path },
    )
  const mode = stat.mode & 0o777
  if ((mode & (rules.groupMayRead === true ? 0o037 : 0o077)) !== 0)
    throw new CatalogError(
      'forbidden',
      `${rules.what} at ${path} can be read or changed by others (mode ${mode.toString(8)}). Run \`chmod 600 ${path}\`.`,
      { path },
    )
  if (stat.size > rules.maxBytes)
    throw unusable(path, rules, `it has ${stat.size} bytes, and at most ${rules.maxBytes} are read`)
  return stat.size
}

const unusable = (path: string, rules: PrivateFileRules, why: string) =>
  new CatalogError(
    'invalid-config',
    `${rules.what} at ${path} cannot be used: ${why}. ${rules.remedy ?? 'Restore the file from a backup.'}`,
    { path },
  )

/** Makes the file. False, with nothing changed, where one is there: whoever was first keeps it. */
export async function createPrivateFile(path: string, bytes: Uint8Array): Promise<boolean> {
  const temporary = await writeBeside(path, bytes)
  try {
    // A hard link, not a rename: it fails where the name exists, in one step.
    await link(temporary, path)
  } catch (error) {
    if ((error as NodeJS.ErrnoException).code === 'EEXIST') return false
    throw toCatalogError(error)
  } finally {
    await unlink(temporary)
  }
  await syncDirectory(dirname(path))
  return true
}

/** Puts the file in the place of another (of a link's target), or where there was none: never half of it. */
export async function replacePrivateFile(path: string, bytes: Uint8Array): Promise<void> {
  const target = await realpath(path).catch(() => path)
  const temporary = await writeBeside(target, bytes)
  try {
    await rename(temporary, target)
  } catch (error) {
    await unlink(temporary).catch(() => undefined)
    throw toCatalogError(error)
  }
  await syncDirectory(dirname(target))
}

async function writeBeside(path: string, bytes: Uint8Array): Promise<string> {
  const temporary = `${path}.${randomBytes(6).toString('hex')}.new`
  try {
    const file = await open(temporary, 'wx', 0o600)
    try {
      // Whatever the umask took away.
      await file.chmod(0o600)
      await file.writeFile(bytes)
      await file.sync()
    } finally {
      await file.close()
    }
    return temporary
  } catch (error) {
    await unlink(temporary).catch(() => undefined)
    throw toCatalogError(error)
  }
}

export async function syncDirectory(path: string): Promise<void> {
  const directory = await open(path, constants.O_RDONLY)
  await directory.sync().finally(() => directory.close())
}
