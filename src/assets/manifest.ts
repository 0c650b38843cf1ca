// The manifest: what an author states about a package, as one schema (the contract of `catalog.v1`). The rules that
// join fields are in inspect-manifest.ts; parse-manifest.ts reads files and gives every problem its place.
import { z } from 'zod'
import { checkEntryPath } from './entry-path.ts'
import { isPackageName, isSemanticVersion, isVersionRange } from './name.ts'

export const manifestFileNames = ['catalog.yaml', 'catalog.yml', 'catalog.json', 'catalog.toml'] as const

export const manifestLimits = {
  /** Bytes of the source; inline binaries are inside. */
  maxBytes: 4 * 1024 * 1024,
  /** Maps and lists inside one another; the model itself needs five. */
  maxDepth: 16,
  /** Keys and values, with every YAML alias counted as what it stands for. */
  maxNodes: 20_000,
  maxAliases: 100,
  /** Tokens a YAML source is read into before anything is built of them. */
  maxTokens: 200_000,
  /** What one answer lists; a last problem says that there are more. */
  maxProblems: 500,
} as const

export const packageTypes = ['library', 'package', 'template', 'container', 'virtual-machine'] as const
export const categories = [
  'computational',
  'data-processing',
  'storage',
  'network-service',
  'ai-model',
  'distributed-system',
] as const
export const privacyLevels = ['private', 'private-network', 'p2p', 'public-network', 'full-public'] as const
export const runtimes = ['wasm', 'python', 'julia', 'container'] as const

// In this schema every `error` says what would be right: it becomes the `expected` of a problem.

const oneOf = <const T extends readonly [string, ...string[]]>(values: T) =>
  z.enum(values, { error: `one of ${values.join(', ')}` })

const flag = z.boolean({ error: 'true or false' })

/** A flag that only adds a requirement that always holds: a manifest may state it, and cannot turn it off. */
const fixedFlag = z
  .literal(true, { error: 'true, or nothing: a manifest cannot turn this off' })
  .default(true)

function whole(min: number, max: number) {
  const error = `a whole number from ${min} to ${max}`
  return z.int({ error }).min(min, { error }).max(max, { error })
}

function decimal(min: number, max: number) {
  const error = `a number from ${min} to ${max}`
  return z.number({ error }).min(min, { error }).max(max, { error })
}

function text(error: string, accepts: (value: string) => boolean) {
  return z
    .string({ error })
    .refine(value => value.isWellFormed() && !value.includes('\0') && accepts(value), {
      error,
    })
}

const words = (maxLength: number, what: string) =>
  text(`${what}: 1 to ${maxLength} characters`, value => value.trim() !== '' && value.length <= maxLength)

const argument = text(
  'a text in quotes, without NUL, of at most 32768 characters',
  value => value.length <= 32_768,
)

function isEntryPath(path: string): boolean {
  try {
    return checkEntryPath(path) === path
  } catch {
    return false
  }
}

const packagePath = (what: string) =>
  text(`${what}: a relative path with "/" between names, without "." or ".." as a name`, isEntryPath)

const packageName = text(
  'a package name: lower case letters, digits and dashes, with an optional scope, as in acme/word-count',
  isPackageName,
)

const identifier = (what: string) =>
  text(`${what}: letters, digits, "_", "." and "-"`, value => /^[A-Za-z0-9][A-Za-z0-9_.-]{0,63}$/.test(value))

/** RFC 4648 section 4, in its one canonical form. */
const isBase64 = (value: string) => Buffer.from(value, 'base64').toString('base64') === value

const date = /^\d{4}-\d{2}-\d{2}T\d{2}:\d{2}(?::\d{2}(?:\.\d{1,9})?)?(?:Z|[+-]\d{2}:\d{2})$/

const map = 'a map of fields'
const list = (of: string, max: number) => `a list of at most ${max} ${of}`

// Upper bounds are far above any machine of today; they keep sums exact and typing errors visible.
const demandFields = {
  cpu_cores: decimal(0.01, 4096).exactOptional(),
  cpu_architecture: identifier('an architecture such as x86_64 or aarch64').exactOptional(),
  gpu_memory_mb: whole(0, 16_777_216).exactOptional(),
  gpu_type: identifier('a GPU type such as CUDA').exactOptional(),
  memory_mb: whole(1, 16_777_216).exactOptional(),
  storage_mb: whole(0, 1_073_741_824).exactOptional(),
}

const seconds = (min: number) => decimal(min, 2_592_000).exactOptional()

const execution = z.strictObject(
  {
    ...demandFields,
    cpu_required: flag.default(true),
    gpu_required: flag.default(false),
    persistent_storage: flag.default(false),
    distributed: flag.default(false),
    min_nodes: whole(1, 10_000).exactOptional(),
    max_nodes: whole(1, 10_000).exactOptional(),
    runtime: oneOf(runtimes).exactOptional(),
    entrypoint: packagePath('a path in the package').exactOptional(),
    args: z
      .array(argument, { error: list('texts', 256) })
      .max(256, { error: list('texts', 256) })
      .default([]),
    env: z.record(z.string(), argument, { error: 'a map from names to texts' }).default({}),
    outputs: packagePath('a directory under the scratch directory').exactOptional(),
    network: oneOf(['none', 'instances', 'service']).default('none'),
    julia: z
      .strictObject(
        {
          packages: z
            .array(words(256, 'a Julia package'), { error: list('texts', 256) })
            .max(256, { error: list('texts', 256) })
            .default([]),
          threads: whole(1, 1024).exactOptional(),
          precompile: flag.default(true),
          optimization_level: whole(0, 3).exactOptional(),
        },
        { error: map },
      )
      .exactOptional(),
    delegation_strategy: oneOf(['auto', 'local', 'data-local', 'least-loaded']).default('auto'),
    minimum_consensus: whole(1, 1000).default(1),
    retry_policy: oneOf(['never', 'on-loss', 'on-failure']).default('on-loss'),
    max_concurrent: whole(1, 10_000).exactOptional(),
    priority: oneOf(['low', 'normal', 'high']).default('normal'),
    timeout_config: z
      .strictObject(
        { queue_seconds: seconds(0), run_seconds: seconds(0.001), total_seconds: seconds(0.001) },
        { error: map },
      )
      .exactOptional(),
    scheduling: z
      .strictObject(
        {
          at: text(
            'a date and time with its zone, as in 2026-12-01T00:00:00Z',
            value => date.test(value) && !Number.isNaN(Date.parse(value)),
          ).exactOptional(),
          every_seconds: whole(1, 31_536_000).exactOptional(),
        },
        { error: map },
      )
      .exactOptional(),
  },
  { error: map },
)

/** Fields of `catalog.v1`; what is not named here is refused. */
export const manifestSchema = z.strictObject(
  {
    apiVersion: z.literal('catalog.v1', { error: '"catalog.v1"' }),
    kind: z.literal('AssetPackage', { error: '"AssetPackage"' }),
    metadata: z.strictObject(
      {
        name: packageName,
        version: text('a semantic version in quotes, as in "1.2.0"', isSemanticVersion),
        tags: z
          .array(words(64, 'a tag'), { error: list('tags', 64) })
          .max(64, { error: list('tags', 64) })
          .default([]),
      },
      { error: 'a map with name and version' },
    ),
    spec: z.strictObject(
      {
        description: words(4096, 'a text that says what the package does'),
        type: oneOf(packageTypes).default('package'),
        category: oneOf(categories).exactOptional(),
        privacy: oneOf(privacyLevels).default('public-network'),
        resources: z
          .strictObject(
            { ...demandFields, network_bandwidth_mbps: whole(0, 10_000_000).exactOptional() },
            { error: map },
          )
          .prefault({}),
        execution: execution.prefault({}),
        security: z
          .strictObject(
            {
              trustchain_validation: fixedFlag,
              hypermesh_consensus: flag.default(true),
              resource_isolation: fixedFlag,
            },
            { error: map },
          )
          .prefault({}),
        binaries: z
          .array(
            z.strictObject(
              {
                path: packagePath('a path in the package'),
                base64: text('canonical base64 (RFC 4648), padded, without white space', isBase64),
              },
              { error: 'a map with path and base64' },
            ),
            { error: list('binaries', 1000) },
          )
          .max(1000, { error: list('binaries', 1000) })
          .default([]),
        dependencies: z
          .array(
            z.strictObject(
              {
                name: packageName,
                version: text('a version range in quotes, as in ">=1.0.0" or "^2.1.0"', isVersionRange),
              },
              { error: 'a map with name and version' },
            ),
            { error: list('dependencies', 1000) },
          )
          .max(1000, { error: list('dependencies', 1000) })
          .default([]),
      },
      { error: 'a map with at least a description' },
    ),
  },
  { error: 'a map with apiVersion, kind, metadata and spec' },
)

/** A valid manifest, with every default applied; what is absent has no default. */
export type Manifest = z.infer<typeof manifestSchema>
export type ExecutionSpec = Manifest['spec']['execution']
export type Runtime = (typeof runtimes)[number]
