// Judges a value against the manifest model: the schema, and the rules that join fields. Everything that is wrong is
// found at once, each with its path and what would be right. It knows no text: parse-manifest.ts adds the places.
import type { z } from 'zod'
import { type FieldPath, formatPath } from './field-path.ts'
import { type Manifest, manifestSchema } from './manifest.ts'
import { insteadOf } from './manifest-keys.ts'
import { ancestorsOf } from './path-ancestors.ts'

/** One thing that is wrong with a value: where in the value, what, and what would be right. */
export interface Finding {
  readonly kind: 'missing' | 'unknown' | 'wrong'
  readonly path: FieldPath
  readonly message: string
  readonly expected: string
}

/** Everything that is wrong with a value; `manifest` is there when nothing is. */
export function inspectManifest(value: unknown): {
  readonly manifest?: Manifest
  readonly findings: readonly Finding[]
} {
  const result = manifestSchema.safeParse(value)
  const findings = result.success ? [] : result.error.issues.flatMap(issue => findingsOf(issue, value))
  findings.push(...crossFindings(value))
  const seen = new Set<string>()
  const distinct = findings.filter(finding => {
    const key = formatPath(finding.path)
    return seen.has(key) ? false : seen.add(key)
  })
  return result.success && distinct.length === 0
    ? { manifest: result.data, findings: [] }
    : { findings: distinct }
}

function findingsOf(issue: z.core.$ZodIssue, root: unknown): Finding[] {
  const path = issue.path.map(part => (typeof part === 'number' ? part : String(part)))
  if (issue.code === 'unrecognized_keys') return issue.keys.map(key => unknownKey([...path, key]))
  const value = valueAt(root, path)
  const name = formatPath(path)
  if (value === undefined)
    return [
      { kind: 'missing', path, message: `${name || 'The manifest'} is missing.`, expected: issue.message },
    ]
  return [wrong(path, `${name || 'The manifest'} cannot be ${showValue(value)}.`, issue.message)]
}

const wrong = (path: FieldPath, message: string, expected: string): Finding => ({
  kind: 'wrong',
  path,
  message,
  expected,
})

function unknownKey(path: FieldPath): Finding {
  const key = String(path.at(-1))
  const parent = path.slice(0, -1)
  const owner = parent.length === 0 ? 'of a manifest' : `of ${formatPath(parent)}`
  return {
    kind: 'unknown',
    path,
    message: `${JSON.stringify(key.slice(0, 80))} is not a known key ${owner}.`,
    expected: insteadOf(key, parent),
  }
}

// ---- Rules that join fields; each looks at the raw value, so that it speaks even where other fields are wrong.

function crossFindings(root: unknown): Finding[] {
  const spec = ['spec']
  const execution = mapAt(root, ['spec', 'execution'])
  return [
    ...nodeRange(execution),
    ...conflicts(root),
    ...entrypointOf(execution),
    ...environmentNames(mapAt(root, ['spec', 'execution', 'env'])),
    ...repeated(root, [...spec, 'dependencies'], 'name'),
    ...repeated(root, [...spec, 'binaries'], 'path'),
    ...nestedBinaries(root),
    ...dependsOnItself(root),
  ]
}

function nodeRange(execution: Record<string, unknown>): Finding[] {
  const { min_nodes: min = 1, max_nodes: max } = execution
  if (typeof min !== 'number' || typeof max !== 'number' || min <= max) return []
  return [
    wrong(
      ['spec', 'execution', 'min_nodes'],
      `spec.execution.min_nodes is ${min}, more than max_nodes, which is ${max}.`,
      `a whole number from 1 to ${max}, or a larger max_nodes`,
    ),
  ].filter(() => 'min_nodes' in execution)
}

function conflicts(root: unknown): Finding[] {
  const resources = mapAt(root, ['spec', 'resources'])
  const execution = mapAt(root, ['spec', 'execution'])
  return (['cpu_architecture', 'gpu_type'] as const)
    .filter(
      key =>
        typeof resources[key] === 'string' &&
        typeof execution[key] === 'string' &&
        resources[key] !== execution[key],
    )
    .map(key =>
      wrong(
        ['spec', 'execution', key],
        `spec.execution.${key} and spec.resources.${key} differ.`,
        `${showValue(resources[key])}, as in spec.resources, or only one of the two`,
      ),
    )
}

function entrypointOf(execution: Record<string, unknown>): Finding[] {
  if (execution['runtime'] === undefined || execution['entrypoint'] !== undefined) return []
  return [
    {
      kind: 'missing',
      path: ['spec', 'execution', 'entrypoint'],
      message: 'spec.execution.entrypoint is missing, and spec.execution.runtime needs it.',
      expected: 'the path in the package of what the runtime starts',
    },
  ]
}

function environmentNames(env: Record<string, unknown>): Finding[] {
  const names = Object.keys(env)
  const bad = names.filter(
    name => !/^[A-Za-z_][A-Za-z0-9_]{0,254}$/.test(name) || name.startsWith('CATALOG_'),
  )
  const findings = bad.map(name =>
    wrong(
      ['spec', 'execution', 'env', name],
      `${JSON.stringify(name.slice(0, 80))} cannot be the name of an environment variable.`,
      'letters, digits and "_", not starting with a digit or with CATALOG_',
    ),
  )
  if (names.length > 256)
    findings.push(
      wrong(
        ['spec', 'execution', 'env'],
        `spec.execution.env has ${names.length} variables.`,
        'at most 256 variables',
      ),
    )
  return findings
}

function repeated(root: unknown, path: FieldPath, key: string): Finding[] {
  const first = new Map<unknown, number>()
  return listAt(root, path).flatMap((item, index) => {
    const value = asMap(item)[key]
    const earlier = first.get(value)
    if (typeof value !== 'string' || earlier === undefined) {
      first.set(value, index)
      return []
    }
    const here = [...path, index, key]
    return [
      wrong(here, `${formatPath(here)} repeats ${formatPath([...path, earlier, key])}.`, `each ${key} once`),
    ]
  })
}

function nestedBinaries(root: unknown): Finding[] {
  const path = ['spec', 'binaries']
  const items = listAt(root, path).map(item => asMap(item)['path'])
  const files = new Set(items)
  return items.flatMap((file, index) => {
    if (typeof file !== 'string') return []
    const above = ancestorsOf(file).find(directory => files.has(directory))
    if (above === undefined) return []
    const here = [...path, index, 'path']
    return [
      wrong(
        here,
        `${formatPath(here)} lies under ${showValue(above)}, which is a file.`,
        'a path under no other file',
      ),
    ]
  })
}

function dependsOnItself(root: unknown): Finding[] {
  const name = mapAt(root, ['metadata'])['name']
  return listAt(root, ['spec', 'dependencies']).flatMap((item, index) =>
    typeof name === 'string' && asMap(item)['name'] === name
      ? [
          wrong(
            ['spec', 'dependencies', index, 'name'],
            `spec.dependencies[${index}].name is the package itself.`,
            'the name of another package',
          ),
        ]
      : [],
  )
}

/** Where both `resources` and `execution` give an amount and the two differ: the larger is demanded, and the author is told. */
export function differingDemands(
  manifest: Manifest,
): { readonly path: FieldPath; readonly message: string }[] {
  const { resources, execution } = manifest.spec
  return (['cpu_cores', 'gpu_memory_mb', 'memory_mb', 'storage_mb'] as const).flatMap(key => {
    const a = resources[key]
    const b = execution[key]
    if (a === undefined || b === undefined || a === b) return []
    const message = `spec.execution.${key} is ${b} and spec.resources.${key} is ${a}; the larger, ${Math.max(a, b)}, is demanded.`
    return [{ path: ['spec', 'execution', key], message }]
  })
}

// ---- Paths and values, for people.

function showValue(value: unknown): string {
  if (value === null) return 'empty'
  if (Array.isArray(value)) return 'a list'
  if (typeof value === 'object') return 'a map'
  if (typeof value !== 'string') return String(value)
  return JSON.stringify(value.length > 60 ? `${value.slice(0, 60)}…` : value)
}

const asMap = (value: unknown): Record<string, unknown> =>
  value !== null && typeof value === 'object' && !Array.isArray(value)
    ? (value as Record<string, unknown>)
    : {}

function valueAt(root: unknown, path: FieldPath): unknown {
  return path.reduce<unknown>((value, part) => {
    if (value === null || typeof value !== 'object') return undefined
    return Object.hasOwn(value, part) ? (value as Record<string | number, unknown>)[part] : undefined
  }, root)
}

const mapAt = (root: unknown, path: FieldPath) => asMap(valueAt(root, path))

function listAt(root: unknown, path: FieldPath): unknown[] {
  const value = valueAt(root, path)
  return Array.isArray(value) ? value : []
}
