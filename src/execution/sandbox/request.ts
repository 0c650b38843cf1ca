// Checks what a run is asked with before anything is made for it, and what it leaves before anything reads it.
import type { Stats } from 'node:fs'
import { lstat } from 'node:fs/promises'
import { join } from 'node:path'
import { CatalogError } from '../../base/errors.ts'
import type { RunRequest } from '../runtime.ts'

/** The kernel takes no single argument over 128 KiB; all together stay well under what it takes for one exec. */
const oneArgumentBytes = 128 * 1024 - 1
const allArgumentsBytes = 1024 * 1024

/** @throws CatalogError `invalid-request` */
export function checkRequest({ id, args, env, outputs, limits }: RunRequest): void {
  const refuse = (problem: string): never => {
    throw new CatalogError('invalid-request', `Cannot run ${id}: ${problem}.`)
  }
  if (!/^[A-Za-z0-9_-]{1,64}$/.test(id))
    refuse('its id must be 1 to 64 letters, digits, dashes or underscores')
  for (const name of Object.keys(env))
    if (!/^[A-Za-z_][A-Za-z0-9_]{0,127}$/.test(name))
      refuse(`${JSON.stringify(name)} is no name for an environment variable`)
  const words = [...args, ...Object.entries(env).map(([name, value]) => `${name}=${value}`)]
  if (words.some(word => word.includes('\0'))) refuse('an argument or environment variable has a NUL in it')
  const sizes = words.map(word => Buffer.byteLength(word) + 1)
  if (sizes.some(size => size > oneArgumentBytes)) refuse('an argument or variable is over 128 KiB')
  if (sizes.reduce((sum, size) => sum + size, 0) > allArgumentsBytes)
    refuse('its arguments and environment are over 1 MiB together')
  if (outputs !== undefined && !isInnerPath(outputs))
    refuse(`outputs must be a relative path inside the scratch directory, not ${JSON.stringify(outputs)}`)
  for (const [name, value] of Object.entries(limits))
    if (!Number.isFinite(value) || value <= 0)
      refuse(`its limit ${name} must be more than zero, not ${value}`)
}

/** A relative path of plain names: nothing empty, no `.` or `..`, no NUL. */
export const isInnerPath = (path: string): boolean =>
  path.length <= 1_024 &&
  !path.includes('\0') &&
  path.split('/').every(name => name !== '' && name !== '.' && name !== '..')

/** Where the path ends up, if every step down to it is real: a link on the way could lead to the host's files. */
async function descend(root: string, inner: string): Promise<{ path: string; stats: Stats } | undefined> {
  const names = inner.split('/')
  let path = root
  for (const [index, name] of names.entries()) {
    path = join(path, name)
    const stats = await lstat(path).catch(() => undefined)
    if (index === names.length - 1) return stats && { path, stats }
    if (stats?.isDirectory() !== true) return undefined
  }
  return undefined
}

/** The payload's outputs, if it made a real directory of them. */
export async function outputsDirectory(
  scratch: string,
  outputs: string | undefined,
): Promise<string | undefined> {
  const found = outputs === undefined ? undefined : await descend(scratch, outputs)
  return found?.stats.isDirectory() === true ? found.path : undefined
}

/**
 * @param packageDirectory where the package is laid out
 * @throws CatalogError `not-executable` unless the entrypoint is a plain file inside the package
 */
export async function checkEntrypoint(packageDirectory: string, entrypoint: string): Promise<void> {
  const found = isInnerPath(entrypoint) ? await descend(packageDirectory, entrypoint) : undefined
  if (found?.stats.isFile() !== true)
    throw new CatalogError(
      'not-executable',
      `The entrypoint ${JSON.stringify(entrypoint)} is not a file in the package. Name one in spec.execution.entrypoint.`,
      { fields: ['spec.execution.entrypoint'] },
    )
}
