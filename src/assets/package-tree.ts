// Finds what a release of a directory, or of a manifest alone, is made of: the manifest, and every file, link and
// empty directory with its mode and size, sorted. Nothing but the manifest and the ignore rules is read here; the
// packer reads the files, and checks that they still are what was found.
import type { Stats } from 'node:fs'
import { realpath, stat } from 'node:fs/promises'
import { basename, extname, join } from 'node:path'
import { CatalogError } from '../base/errors.ts'
import type { CallOptions } from '../base/lifecycle.ts'
import { comparePaths } from './entry-path.ts'
import { ignoreFileName, ignoreLimits, noIgnoreRules, parseIgnoreRules } from './ignore-rules.ts'
import { type Manifest, manifestFileNames, manifestLimits } from './manifest.ts'
import { namesOf, permissions, readSmall, unreadable } from './package-tree/disk.ts'
import { checkCount, Walk } from './package-tree/walk.ts'
import {
  invalidManifestError,
  manifestFormatOf,
  type ParsedManifest,
  type Problem,
  parseManifest,
} from './parse-manifest.ts'
import { ancestorsOf } from './path-ancestors.ts'

/** What a release is made from. `mode` is the nine permission bits; sizes are bytes, as found. */
export type SourceEntry = SourceFile | SourceDirectory | SourceLink

export interface SourceFile {
  readonly kind: 'file'
  readonly path: string
  readonly mode: number
  readonly size: number
  readonly source:
    | { readonly kind: 'disk'; readonly absolutePath: string }
    | { readonly kind: 'inline'; readonly bytes: Uint8Array }
}

/** A directory that holds nothing in the release. */
export interface SourceDirectory {
  readonly kind: 'directory'
  readonly path: string
}

export interface SourceLink {
  readonly kind: 'link'
  readonly path: string
  readonly target: string
}

export interface PackageTree {
  readonly manifest: Manifest
  /** The manifest's path in the release, for example `catalog.yaml`. */
  readonly manifestPath: string
  /** Read once: these bytes were judged, and these go into the release. */
  readonly manifestBytes: Uint8Array
  readonly warnings: readonly Problem[]
  /** Sorted by the bytes of their paths. Directories that hold something are implied. */
  readonly entries: readonly SourceEntry[]
  readonly totalBytes: number
}

const inlineMode = 0o644

/**
 * @param path absolute: a package directory, or a manifest file of any name with a known extension.
 * @throws CatalogError `no-such-path`, `invalid-package`, `invalid-manifest` (with its problems), `too-large`, `forbidden`
 */
export async function scanPackage(path: string, options: CallOptions = {}): Promise<PackageTree> {
  const real = await locate(path)
  const status = await stat(real)
  if (status.isDirectory()) return await scanDirectory(real, options)
  if (!status.isFile())
    throw invalid(
      path,
      'is neither a directory nor a manifest file',
      'Give the directory that holds catalog.yaml.',
    )
  return await scanManifestAlone(real)
}

async function locate(path: string): Promise<string> {
  try {
    return await realpath(path)
  } catch (error) {
    const code = (error as NodeJS.ErrnoException).code
    if (code === 'ENOENT' || code === 'ENOTDIR' || code === 'ELOOP')
      throw new CatalogError(
        'no-such-path',
        `There is nothing at ${path}. Give a package directory or a manifest file.`,
        { path },
        error,
      )
    throw unreadable(path, error)
  }
}

async function scanManifestAlone(path: string): Promise<PackageTree> {
  if (manifestFormatOf(basename(path)) === undefined)
    throw invalid(path, 'is not a manifest by its name', 'A manifest ends in .yaml, .yml, .json or .toml.')
  const manifestPath = `catalog${extname(path)}`
  const { bytes, status } = await readSmall(path, basename(path), manifestLimits.maxBytes)
  const parsed = judge(bytes, manifestPath, basename(path))
  return assemble(manifestPath, bytes, parsed, [manifestEntry(manifestPath, bytes, status)])
}

async function scanDirectory(root: string, options: CallOptions): Promise<PackageTree> {
  const names = await namesOf(root, '')
  const found = names.filter(item => (manifestFileNames as readonly string[]).includes(item.name))
  const [only] = found
  if (only === undefined)
    throw invalid(
      root,
      'holds no manifest',
      `Write one of ${manifestFileNames.join(', ')}; "catalog validate" checks it.`,
    )
  if (found.length > 1)
    throw invalid(root, `holds ${found.map(item => item.name).join(' and ')}`, 'Keep exactly one manifest.')
  const { bytes, status } = await readSmall(join(root, only.name), only.name, manifestLimits.maxBytes)
  const parsed = judge(bytes, only.name, only.name)
  const rules = names.some(item => item.name === ignoreFileName)
    ? parseIgnoreRules(
        (await readSmall(join(root, ignoreFileName), ignoreFileName, ignoreLimits.maxBytes)).bytes,
      )
    : noIgnoreRules
  if (rules.leavesOut(only.name, 'file'))
    throw invalid(root, `leaves out its own manifest by ${ignoreFileName}`, `Add the line "!/${only.name}".`)
  const walk = new Walk(root, rules, only.name, options.signal)
  const entries = await walk.run()
  return assemble(only.name, bytes, parsed, [...entries, manifestEntry(only.name, bytes, status)])
}

/** Every file of a plain directory, without manifest or ignore rules: what an execution left as its result. */
export async function scanFiles(root: string, options: CallOptions = {}): Promise<SourceEntry[]> {
  const entries = await new Walk(root, noIgnoreRules, '', options.signal).run()
  return entries.sort((a, b) => comparePaths(a.path, b.path))
}

function judge(bytes: Uint8Array, manifestPath: string, shownName: string): ParsedManifest {
  const parsed = parseManifest(bytes, manifestFormatOf(manifestPath) ?? 'yaml')
  if (parsed.problems.length > 0) throw invalidManifestError(parsed.problems, shownName)
  return parsed
}

const manifestEntry = (path: string, bytes: Uint8Array, status: Stats): SourceFile => ({
  kind: 'file',
  path,
  mode: permissions(path, status),
  size: bytes.byteLength,
  source: { kind: 'inline', bytes },
})

function assemble(
  manifestPath: string,
  manifestBytes: Uint8Array,
  parsed: ParsedManifest,
  found: SourceEntry[],
): PackageTree {
  if (parsed.manifest === undefined) throw invalidManifestError(parsed.problems)
  const entries = withInlineBinaries(found, parsed.manifest)
  checkCount(entries.length)
  entries.sort((a, b) => comparePaths(a.path, b.path))
  const totalBytes = entries.reduce((sum, entry) => (entry.kind === 'file' ? sum + entry.size : sum), 0)
  if (!Number.isSafeInteger(totalBytes))
    throw new CatalogError('too-large', `The package holds ${totalBytes} bytes, more than can be counted.`)
  return {
    manifest: parsed.manifest,
    manifestPath,
    manifestBytes,
    warnings: [...parsed.warnings, ...entrypointWarning(parsed, parsed.manifest, entries)],
    entries,
    totalBytes,
  }
}

function withInlineBinaries(found: readonly SourceEntry[], manifest: Manifest): SourceEntry[] {
  const { binaries } = manifest.spec
  if (binaries.length === 0) return [...found]
  const kindOf = new Map(found.map(entry => [entry.path, entry.kind]))
  const directories = new Set(found.flatMap(entry => ancestorsOf(entry.path)))
  const added = binaries.map(({ path, base64 }): SourceFile => {
    if (kindOf.has(path) || directories.has(path)) throw collides(path, path)
    const above = ancestorsOf(path)
    const blocked = above.find(parent => kindOf.has(parent) && kindOf.get(parent) !== 'directory')
    if (blocked !== undefined) throw collides(path, blocked)
    const bytes = Buffer.from(base64, 'base64')
    return { kind: 'file', path, mode: inlineMode, size: bytes.byteLength, source: { kind: 'inline', bytes } }
  })
  // An empty directory that an inline binary lies in is empty no more.
  const filled = new Set(added.flatMap(entry => ancestorsOf(entry.path)))
  return [...found.filter(entry => !filled.has(entry.path)), ...added]
}

const collides = (path: string, at: string) =>
  new CatalogError(
    'invalid-package',
    `The inline binary ${JSON.stringify(path)} cannot be in the package: ${at === path ? 'something is already at its path' : `${JSON.stringify(at)} is no directory`}. Give it another path, or remove one of the two.`,
    { path },
  )

/** An entrypoint that is nowhere to be seen is most likely misspelt; another step may still bring it. */
function entrypointWarning(
  parsed: ParsedManifest,
  manifest: Manifest,
  entries: readonly SourceEntry[],
): Problem[] {
  const { runtime, entrypoint } = manifest.spec.execution
  if (runtime === undefined || entrypoint === undefined) return []
  if (entries.some(entry => entry.path === entrypoint || entry.path.startsWith(`${entrypoint}/`))) return []
  return [
    {
      path: 'spec.execution.entrypoint',
      ...parsed.locate(['spec', 'execution', 'entrypoint']),
      message: `spec.execution.entrypoint is ${JSON.stringify(entrypoint)}, and the package has no such file.`,
      expected: 'the path of a file of the package',
    },
  ]
}

const invalid = (path: string, why: string, next: string) =>
  new CatalogError('invalid-package', `${path} is not a package: it ${why}. ${next}`, { path })
