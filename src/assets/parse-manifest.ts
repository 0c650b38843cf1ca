// Reads a manifest's bytes in YAML, JSON or TOML: every problem at once, each with its path, line, column and what
// would be right, in the order of the source. Hostile bytes give problems, never a crash, a hang or a large memory.
import { isUtf8 } from 'node:buffer'
import { CatalogError } from '../base/errors.ts'
import { type FieldPath, formatPath } from './field-path.ts'
import { differingDemands, type Finding, inspectManifest } from './inspect-manifest.ts'
import { type Manifest, manifestLimits } from './manifest.ts'
import { readJson } from './syntax/json.ts'
import { plainValue, type SourceNode, type SourceProblem, type SourceTree } from './syntax/source-node.ts'
import { readToml } from './syntax/toml.ts'
import { readYaml } from './syntax/yaml.ts'

/** `line` and `column` count from 1, columns in UTF-16 units, as editors do. */
export interface Problem {
  /** For example `spec.dependencies[0].version`; empty for the manifest as a whole. */
  readonly path: string
  readonly line: number
  readonly column: number
  readonly message: string
  /** What would be right. */
  readonly expected: string
}

export type ManifestFormat = 'yaml' | 'json' | 'toml'

export interface ParsedManifest {
  /** There when there are no problems. */
  readonly manifest?: Manifest
  readonly problems: readonly Problem[]
  readonly warnings: readonly Problem[]
  /** Where a field stands, for warnings that need more than the manifest. */
  readonly locate: (path: FieldPath) => { readonly line: number; readonly column: number }
}

/** The format that a file's name tells; undefined for another extension. */
export function manifestFormatOf(fileName: string): ManifestFormat | undefined {
  const extension = /\.(yaml|yml|json|toml)$/.exec(fileName)?.[1]
  return extension === 'yml' ? 'yaml' : (extension as ManifestFormat | undefined)
}

const readers: Readonly<Record<ManifestFormat, (source: string) => SourceTree>> = {
  yaml: readYaml,
  json: readJson,
  toml: readToml,
}

/** @throws CatalogError `too-large` over `manifestLimits.maxBytes`; whoever reads a file checks before reading. */
export function parseManifest(bytes: Uint8Array, format: ManifestFormat): ParsedManifest {
  if (bytes.byteLength > manifestLimits.maxBytes) throw manifestTooLarge('The manifest', bytes.byteLength)
  const source = decode(bytes)
  if (typeof source !== 'string') return refusedWhole(source)
  const places = new Places(source)
  const control = controlCharacter.exec(source)
  if (control !== null) return refusedWhole({ ...places.at(control.index), ...controlProblem })
  return judge(readers[format](source), places)
}

export const manifestTooLarge = (what: string, bytes: number) =>
  new CatalogError(
    'too-large',
    `${what} is ${bytes} bytes; at most ${manifestLimits.maxBytes} are accepted. Make large inline binaries files of the package.`,
    { bytes, maxBytes: manifestLimits.maxBytes },
  )

/** The error of a manifest that is refused; its data carries the problems. */
export function invalidManifestError(problems: readonly Problem[], file = 'The manifest'): CatalogError {
  const shown = problems
    .slice(0, 3)
    .map(problem => `line ${problem.line}: ${problem.message} Expected: ${problem.expected}.`)
  const rest = problems.length - shown.length
  const count = problems.length === 1 ? 'a problem' : `${problems.length} problems`
  const more = rest > 0 ? ` And ${rest} more.` : ''
  return new CatalogError('invalid-manifest', `${file} has ${count}. ${shown.join(' ')}${more}`, { problems })
}

/**
 * Checks a manifest that came inside a signed record.
 * @throws CatalogError `bad-record` with the first things that are wrong.
 */
export function validateManifestValue(value: unknown): Manifest {
  const { manifest, findings } = inspectManifest(value)
  if (manifest !== undefined) return manifest
  const shown = findings.slice(0, 3).map(finding => finding.message)
  throw new CatalogError('bad-record', `The record is refused: its manifest is invalid. ${shown.join(' ')}`)
}

/** The manifest as plain data for a signed record: without its inline binaries, whose bytes are in the release. */
export function manifestForRecord(manifest: Manifest): unknown {
  const { binaries: _, ...spec } = manifest.spec
  return structuredClone({ ...manifest, spec })
}

function judge(tree: SourceTree, places: Places): ParsedManifest {
  const locator = new Locator(tree.root)
  const locate = (path: FieldPath) => places.at(locator.valueAt(path))
  const syntax = tree.problems.map(({ at, message, expected, key }) => ({
    at,
    problem: { path: locator.pathOf(key), ...places.at(at), message, expected },
  }))
  if (tree.root === undefined && syntax.length === 0)
    syntax.push({ at: 0, problem: { path: '', line: 1, column: 1, ...emptyProblem } })
  const { manifest, findings } = tree.root === undefined ? empty : inspectManifest(plainValue(tree.root))
  const isSure = sureOf(tree)
  const semantic = findings
    .map(finding => ({ at: locator.positionOf(finding), finding }))
    .filter(({ at, finding }) => isSure(finding, at))
    .map(({ at, finding: { path, message, expected } }) => ({
      at,
      problem: { path: formatPath(path), ...places.at(at), message, expected },
    }))
  const problems = [...syntax, ...semantic].sort((a, b) => a.at - b.at).map(({ problem }) => problem)
  if (problems.length > 0 || manifest === undefined)
    return { problems: capped(problems), warnings: [], locate }
  const warnings = differingDemands(manifest).map(({ path, message }) => ({
    path: formatPath(path),
    ...locate(path),
    message,
    expected: 'one amount, or the same in both places',
  }))
  return { manifest, problems: [], warnings, locate }
}

const empty: ReturnType<typeof inspectManifest> = { findings: [] }

/**
 * Behind a syntax error nothing is known: only wrong values before it are told, and nothing is called missing.
 * The value that the error cut short (an open quote) is not judged either.
 */
function sureOf(tree: SourceTree): (finding: Finding, at: number) => boolean {
  if (tree.brokenAt === undefined) return () => true
  const end = lastScalarBefore(tree.brokenAt, tree.root)
  return (finding, at) => finding.kind !== 'missing' && at < end
}

function lastScalarBefore(end: number, node: SourceNode | undefined): number {
  if (node === undefined) return 0
  if (node.kind === 'scalar') return node.at < end ? node.at : 0
  const children = node.kind === 'list' ? node.items : [...node.entries.values()].map(entry => entry.node)
  return children.reduce((last, child) => Math.max(last, lastScalarBefore(end, child)), 0)
}

function capped(problems: readonly Problem[]): readonly Problem[] {
  const last = problems[manifestLimits.maxProblems - 1]
  if (last === undefined || problems.length === manifestLimits.maxProblems) return problems
  const more = problems.length - manifestLimits.maxProblems + 1
  return [
    ...problems.slice(0, manifestLimits.maxProblems - 1),
    {
      ...last,
      message: `There are ${more} more problems from here on.`,
      expected: 'the ones above put right',
    },
  ]
}

const emptyProblem = {
  message: 'The manifest is empty.',
  expected: 'apiVersion, kind, metadata and spec',
} as const

const controlProblem = {
  path: '',
  message: 'The manifest holds a control character.',
  expected: 'text; binary data as base64',
} as const

// biome-ignore lint/suspicious/noControlCharactersInRegex: they are what is looked for.
const controlCharacter = /[\u0000-\u0008\u000b\u000c\u000e-\u001f\u007f]/

const refusedWhole = (problem: Problem): ParsedManifest => ({
  problems: [problem],
  warnings: [],
  locate: () => ({ line: 1, column: 1 }),
})

function decode(bytes: Uint8Array): string | Problem {
  const problem = { path: '', line: 1, column: 1 }
  let source: string
  try {
    source = new TextDecoder('utf-8', { fatal: true, ignoreBOM: true }).decode(bytes)
  } catch {
    const { line, column } = firstInvalid(bytes)
    return {
      path: '',
      line,
      column,
      message: 'The manifest is not valid UTF-8.',
      expected: 'a file in UTF-8',
    }
  }
  if (source.startsWith('\ufeff'))
    return {
      ...problem,
      message: 'The manifest starts with a byte order mark.',
      expected: 'UTF-8 without one',
    }
  return source
}

/** Line breaks never stand inside a character of UTF-8: the first line that is not valid is where to look. */
function firstInvalid(bytes: Uint8Array): { line: number; column: number } {
  let line = 1
  for (let start = 0; start <= bytes.byteLength; line++) {
    const newline = bytes.indexOf(0x0a, start)
    const end = newline === -1 ? bytes.byteLength : newline
    const part = bytes.subarray(start, end)
    if (!isUtf8(part)) return { line, column: validColumns(part) + 1 }
    start = end + 1
  }
  return { line: 1, column: 1 }
}

function validColumns(bytes: Uint8Array): number {
  let columns = 0
  let offset = 0
  for (const character of new TextDecoder('utf-8', { ignoreBOM: true }).decode(bytes)) {
    const genuine = bytes[offset] === 0xef && bytes[offset + 1] === 0xbf && bytes[offset + 2] === 0xbd
    if (character === '\ufffd' && !genuine) break
    offset += Buffer.byteLength(character)
    columns += character.length
  }
  return columns
}

/** Offsets to lines and columns. */
class Places {
  readonly #starts: number[] = [0]

  constructor(source: string) {
    for (let end = source.indexOf('\n'); end !== -1; end = source.indexOf('\n', end + 1))
      this.#starts.push(end + 1)
  }

  at(offset: number): { readonly line: number; readonly column: number } {
    let low = 0
    let high = this.#starts.length - 1
    while (low < high) {
      const middle = Math.ceil((low + high) / 2)
      if ((this.#starts[middle] ?? 0) <= offset) low = middle
      else high = middle - 1
    }
    return { line: low + 1, column: offset - (this.#starts[low] ?? 0) + 1 }
  }
}

/** Finds the nodes that paths lead to, and the keys under which they stand. */
class Locator {
  readonly #root: SourceNode | undefined

  constructor(root: SourceNode | undefined) {
    this.#root = root
  }

  positionOf(finding: Finding): number {
    if (finding.kind === 'missing') return this.#find(finding.path.slice(0, -1)).keyAt
    const found = this.#find(finding.path)
    return finding.kind === 'unknown' ? found.keyAt : found.at
  }

  valueAt(path: FieldPath): number {
    return this.#find(path).at
  }

  /** The path of a key that a reader found fault with; empty where it names none. */
  pathOf(key: SourceProblem['key']): string {
    const map = key && this.#root && pathToMap(this.#root, key.entries, [])
    return key === undefined || map === undefined ? '' : formatPath([...map, key.name])
  }

  #find(path: FieldPath): { keyAt: number; at: number } {
    let node = this.#root
    let keyAt = node?.at ?? 0
    for (const part of path) {
      if (node?.kind === 'map') {
        const entry = node.entries.get(String(part))
        if (entry === undefined) break
        keyAt = entry.keyAt
        node = entry.node
      } else if (node?.kind === 'list') {
        node = node.items[Number(part)]
        keyAt = node?.at ?? keyAt
      } else break
    }
    return { keyAt, at: node?.at ?? keyAt }
  }
}

function pathToMap(node: SourceNode, sought: unknown, path: FieldPath): FieldPath | undefined {
  if (node.kind === 'scalar') return undefined
  if (node.kind === 'map' && node.entries === sought) return path
  const children: (readonly [string | number, SourceNode])[] =
    node.kind === 'list'
      ? node.items.map((item, index) => [index, item])
      : [...node.entries].map(([key, entry]) => [key, entry.node])
  for (const [part, child] of children) {
    const found = pathToMap(child, sought, [...path, part])
    if (found !== undefined) return found
  }
  return undefined
}
