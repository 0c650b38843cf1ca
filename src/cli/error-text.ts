// An error for people: what went wrong and the next step, and a manifest's problems where an editor finds them.
import { existsSync, statSync } from 'node:fs'
import { join } from 'node:path'
import type { CatalogError } from '../base/errors.ts'
import { harmless, harmlessLine } from './text.ts'

interface Problem {
  readonly path?: unknown
  readonly line?: unknown
  readonly column?: unknown
  readonly message?: unknown
  readonly expected?: unknown
}

/** `operands` are the command's: the first is the package whose manifest was refused. */
export async function formatError(error: CatalogError, operands: readonly string[]): Promise<string> {
  const problems = error.data['problems']
  if (error.code === 'invalid-manifest' && Array.isArray(problems) && problems.length > 0) {
    const file = await manifestFile(operands[0] ?? 'catalog.yaml')
    const count = problems.length === 1 ? 'a problem' : `${problems.length} problems`
    return [
      ...problems.map(problem => formatProblem(file, problem as Problem)),
      `catalog: ${file} has ${count}. Correct and try again; \`catalog validate ${file}\` checks it without a daemon.`,
    ].join('\n')
  }
  return `catalog: ${harmless(error.message)}`
}

export function formatProblem(file: string, { path, line, column, message, expected }: Problem): string {
  const field = path === undefined || path === '' ? '' : `${path}: `
  const right = expected === undefined || expected === '' ? '' : ` (expected ${expected})`
  return harmlessLine(`${file}:${line}:${column}: ${field}${message}${right}`)
}

/** The manifest of a package directory, or the file that was named. */
export async function manifestFile(path: string): Promise<string> {
  if (statSync(path, { throwIfNoEntry: false })?.isDirectory() !== true) return path
  const { manifestFileNames } = await import('../assets/manifest.ts')
  const name = manifestFileNames.find(name => existsSync(join(path, name)))
  return join(path, name ?? 'catalog.yaml')
}
