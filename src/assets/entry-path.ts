// The rules for paths and links inside a package: UTF-8, relative, `/`-separated, compared by bytes, and never
// leading outside. The same rules hold on publish and on fetch.
import { CatalogError } from '../base/errors.ts'

export const entryPathLimits = { maxBytes: 4096, maxNameBytes: 255, maxDepth: 100 } as const

/** Byte order of the UTF-8 forms; JavaScript's own order compares UTF-16 units and differs beyond U+FFFF. */
export function comparePaths(a: string, b: string): number {
  return Buffer.compare(Buffer.from(a), Buffer.from(b))
}

/**
 * Returns the path when it may stand in a package.
 * @throws CatalogError `invalid-package` with the path and what is wrong with it.
 */
export function checkEntryPath(path: string): string {
  const refuse = (why: string) =>
    new CatalogError(
      'invalid-package',
      `The path ${JSON.stringify(path.slice(0, 200))} cannot be in a package: ${why}.`,
      { path },
    )
  if (path === '') throw refuse('it is empty')
  if (!path.isWellFormed()) throw refuse('it is not valid UTF-8')
  if (Buffer.byteLength(path) > entryPathLimits.maxBytes)
    throw refuse(`it is longer than ${entryPathLimits.maxBytes} bytes`)
  if (path.includes('\0')) throw refuse('it contains a NUL byte')
  if (path.startsWith('/')) throw refuse('it is absolute')
  const names = path.split('/')
  // Checks of a path against the entries above it cost its depth: a hostile index must not make that thousands.
  if (names.length > entryPathLimits.maxDepth)
    throw refuse(`it is more than ${entryPathLimits.maxDepth} directories deep`)
  for (const name of names) {
    if (name === '' || name === '.' || name === '..') throw refuse(`it has the part ${JSON.stringify(name)}`)
    if (Buffer.byteLength(name) > entryPathLimits.maxNameBytes)
      throw refuse(`a part is longer than ${entryPathLimits.maxNameBytes} bytes`)
  }
  return path
}

/**
 * Returns the link's target when it stays inside the package whatever the other links are. A `..` may only lead:
 * nothing lies under a link, so leading `..` climb real directories, whereas one behind a name could climb from
 * wherever a link of that name points.
 * @throws CatalogError `invalid-package` when it is absolute, climbs out, or has a `..` behind a name.
 */
export function checkLinkTarget(path: string, target: string): string {
  const refuse = (why: string) =>
    new CatalogError(
      'invalid-package',
      `The symbolic link ${JSON.stringify(path)} is refused: its target ${JSON.stringify(target.slice(0, 200))} ${why}.`,
      { path },
    )
  if (target === '' || target.includes('\0') || !target.isWellFormed()) throw refuse('is not a valid path')
  if (Buffer.byteLength(target) > entryPathLimits.maxBytes) throw refuse('is too long')
  if (target.startsWith('/')) throw refuse('is absolute; make it relative')
  let depth = path.split('/').length - 1
  let named = false
  for (const name of target.split('/')) {
    if (name === '..') {
      if (named) throw refuse('has ".." behind a name; write it without')
      depth -= 1
    } else if (name !== '' && name !== '.') named = true
    if (depth < 0) throw refuse('leads outside the package')
  }
  return target
}
