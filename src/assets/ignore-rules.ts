// The door to `ignore`: which paths a package's `.catalogignore` leaves out, in the syntax of gitignore(5). Only the
// file at the package's root counts; it is itself part of the release. Names are compared with case, everywhere.
import { isUtf8 } from 'node:buffer'
import ignore from 'ignore'
import { CatalogError } from '../base/errors.ts'

export const ignoreFileName = '.catalogignore'

export const ignoreLimits = {
  maxBytes: 256 * 1024,
  maxLineLength: 1024,
  /** Each `*` of a pattern multiplies the work of matching a name: beyond a few, one line could stall a scan. */
  maxStarsPerName: 4,
} as const

export interface IgnoreRules {
  /** A directory that is left out takes everything below it along: nothing in it can be brought back. */
  leavesOut(path: string, kind: 'file' | 'directory'): boolean
}

/** @throws CatalogError `invalid-package` when the rules are not text, or out of bounds. */
export function parseIgnoreRules(bytes: Uint8Array): IgnoreRules {
  if (bytes.byteLength > ignoreLimits.maxBytes)
    throw refused(`it is ${bytes.byteLength} bytes; at most ${ignoreLimits.maxBytes} are read`)
  if (!isUtf8(bytes)) throw refused('it is not valid UTF-8')
  const lines = Buffer.from(bytes).toString('utf8').split(/\r?\n/)
  lines.forEach(checkLine)
  const rules = ignore({ ignorecase: false }).add(lines)
  return { leavesOut: (path, kind) => rules.ignores(kind === 'directory' ? `${path}/` : path) }
}

export const noIgnoreRules: IgnoreRules = { leavesOut: () => false }

function checkLine(line: string, index: number): void {
  if (line.startsWith('#')) return
  if (line.length > ignoreLimits.maxLineLength)
    throw refused(`line ${index + 1} is longer than ${ignoreLimits.maxLineLength} characters`)
  const stars = line.split('/').map(name => name.replaceAll(/\*+/g, '*').split('*').length - 1)
  if (Math.max(...stars) > ignoreLimits.maxStarsPerName)
    throw refused(`line ${index + 1} has more than ${ignoreLimits.maxStarsPerName} "*" in one name`)
}

const refused = (why: string) =>
  new CatalogError('invalid-package', `The ${ignoreFileName} of the package is refused: ${why}.`, {
    path: ignoreFileName,
  })
