// A node's settings: defaults < HOME/config.yaml < CATALOG_* variables < flags; parsed once, checked, frozen.
// config/catalog.yaml documents every key. Where the home is, and what lies in it, is home.ts.
import { readFileSync, statSync } from 'node:fs'
import { z } from 'zod'
import { isPackageName } from '../assets/name.ts'
import { nearestKey } from '../assets/nearest-key.ts'
import { parseYaml } from '../assets/yaml.ts'
import { CatalogError } from '../base/errors.ts'
import { parseDnsServer, parseNetworkName } from '../base/network-name.ts'
import { byteRate } from './byte-rate.ts'
import { readEnvironment } from './environment.ts'
import { homePaths } from './home.ts'

const count = z.number().int().positive()
const address = z
  .string()
  .max(1024)
  .regex(/^\/[^\s,]+$/, 'a multiaddr, for example /ip4/0.0.0.0/udp/4414/quic-v1')

const bootstrapEntry = z
  .string()
  .max(1024)
  .refine(
    text =>
      parseNetworkName(text) !== undefined || (/^\/[^\s,]+$/.test(text) && !text.startsWith('/dnsaddr/')),
    'a multiaddr, for example /ip4/192.0.2.10/udp/4414/quic-v1/p2p/12D3KooW…, or a name, for example catalog.example.org',
  )

const dnsServer = z
  .string()
  .max(128)
  .refine(
    text => parseDnsServer(text) !== undefined,
    'the address of a DNS server, for example 192.0.2.53, 192.0.2.53:5353 or [2001:db8::53]:53',
  )

const configSchema = z.strictObject({
  network: z
    .string()
    .regex(
      /^[a-z0-9](?:[a-z0-9.-]{0,62}[a-z0-9])?$/,
      'lower case letters, digits, dots and dashes, at most 64',
    ),
  listen: z.array(address).max(32),
  bootstrap: z.array(bootstrapEntry).max(256),
  dns: z.strictObject({ servers: z.array(dnsServer).max(8) }),
  mdns: z.boolean(),
  dataConnections: z.strictObject({ enabled: z.boolean(), port: z.number().int().min(0).max(65_535) }),
  keys: z.strictObject({ passphraseFile: z.string().max(4096) }),
  sync: z.strictObject({ enabled: z.boolean(), intervalSeconds: count.max(86_400) }),
  execution: z.strictObject({
    local: z.boolean(),
    offer: z.boolean(),
    requireStrongSandbox: z.boolean(),
    ceiling: z.strictObject({
      cpuCores: z.number().positive().max(4096).optional(),
      memoryMb: count.optional(),
      storageMb: count.optional(),
      runSeconds: count,
      processes: count.max(65_536),
      outputMb: count.max(1024),
    }),
    maxQueued: count.max(100_000),
  }),
  caches: z.strictObject({
    recordsBytes: z.number().int().nonnegative(),
    contentsBytes: z.number().int().nonnegative(),
  }),
  storage: z.strictObject({
    maxBytes: count.optional(),
    reserveBytes: z.number().int().nonnegative(),
    collectSeconds: count.max(86_400),
    keepPartialsSeconds: count,
    keepResultsSeconds: count,
  }),
  limits: z.strictObject({ maxConnections: count.max(100_000) }),
  bandwidth: z.strictObject({ up: byteRate, down: byteRate, perPeerUp: byteRate, perPeerDown: byteRate }),
  replication: z.strictObject({
    factor: count.max(16),
    accept: z.boolean(),
    maxBytes: count.optional(),
    checkEverySeconds: count.max(2_592_000),
    verifyEverySeconds: count.max(31_536_000),
    graceSeconds: count.max(86_400),
    settleSeconds: z.number().int().min(0).max(86_400),
  }),
  trust: z.strictObject({
    root: z.string().regex(/^(?:b[a-z2-7]{55})?$/, 'the fingerprint of a root: 56 characters, the first a b'),
    pinnedPeers: z.array(address).max(16),
  }),
  publishers: z.strictObject({
    pins: z.record(z.string().refine(isPackageName, 'a package name'), z.string().min(1).max(256)),
  }),
  control: z.strictObject({
    shared: z
      .strictObject({
        path: z
          .string()
          .max(103, 'at most 103 characters: systems allow no longer path for a socket')
          .regex(/^\/[^\0]+$/, 'an absolute path, for example /run/catalog/shared.sock'),
        group: z.union([z.string().regex(/^[^\s:]{1,64}$/), z.number().int().nonnegative()], {
          error: 'the name or the number of a group',
        }),
      })
      .optional(),
  }),
  log: z.strictObject({ level: z.enum(['silent', 'error', 'warn', 'info', 'debug']) }),
})

type Frozen<T> = T extends (infer Item)[]
  ? readonly Item[]
  : T extends object
    ? { readonly [Key in keyof T]: Frozen<T[Key]> }
    : T

export type Config = Frozen<z.infer<typeof configSchema>>

export const defaultConfig: Config = freezeDeep<z.infer<typeof configSchema>>({
  // Nodes of another name speak other protocols: they never meet this one.
  network: 'catalog',
  // Free ports: several nodes start on one machine without a word. A node that others bootstrap from sets fixed ones.
  listen: ['/ip4/0.0.0.0/udp/0/quic-v1', '/ip4/0.0.0.0/tcp/0'],
  bootstrap: [],
  // None: the system's.
  dns: { servers: [] },
  // Off: announcing oneself on a foreign local network is the operator's choice.
  mdns: false,
  // A free port, as above: peers are told which.
  dataConnections: { enabled: true, port: 0 },
  // Empty is none: the keys of a home made without a passphrase are opened by its unlock.key.
  keys: { passphraseFile: '' },
  // A release is pushed to connected peers at once; this interval repairs what that missed.
  sync: { enabled: true, intervalSeconds: 60 },
  execution: {
    local: true,
    // Running other people's code needs a decision.
    offer: false,
    // Off: a daemon that is not root has no dedicated uid and often no cgroup, and can still run its owner's packages.
    requireStrongSandbox: false,
    // What is absent is taken from the machine: its cores, half of its memory, the free space above the reserve.
    ceiling: {
      runSeconds: 3600,
      // Enough for a build tool's workers, far below what a fork bomb needs to hurt.
      processes: 256,
      // A megabyte is kept by default; this bounds what one execution may ask to keep.
      outputMb: 16,
    },
    maxQueued: 100,
  },
  // LevelDB cannot even open on a full disk: stop taking bytes while it still can write.
  // About a thousand decoded records; a hundred contents of the largest size kept (256 KiB), thousands of the usual.
  caches: { recordsBytes: 16 * 1024 * 1024, contentsBytes: 32 * 1024 * 1024 },
  storage: {
    reserveBytes: 256 * 1024 * 1024,
    collectSeconds: 3600,
    // An interrupted fetch is gone on with within days, or not at all.
    keepPartialsSeconds: 3 * 86_400,
    // What an execution left has no other copy: a week to take it away.
    keepResultsSeconds: 7 * 86_400,
  },
  // About 100 KiB of memory each.
  limits: { maxConnections: 200 },
  // None: what a link may carry is for its owner to say.
  bandwidth: { up: 0, down: 0, perPeerUp: 0, perPeerDown: 0 },
  // Two of three copies may be lost at once. A node that restarts is back within the grace time, and a check an hour
  // costs about 2 MB for each copy.
  replication: {
    factor: 3,
    accept: true,
    checkEverySeconds: 3600,
    verifyEverySeconds: 86_400,
    graceSeconds: 30,
    settleSeconds: 10,
  },
  // `catalog init` writes it: without one there is no network to belong to.
  trust: { root: '', pinnedPeers: [] },
  publishers: { pins: {} },
  // No shared socket: letting other users in is the owner's decision.
  control: {},
  log: { level: 'info' },
})

/** What `catalog daemon` takes on the command line. `listen` replaces, `bootstrap` adds. */
export interface ConfigFlags {
  readonly listen?: readonly string[]
  readonly bootstrap?: readonly string[]
  readonly offerExecution?: boolean
  readonly mdns?: boolean
  readonly passphraseFile?: string
  readonly logLevel?: string
}

export interface ConfigSources {
  readonly home: string
  readonly env: Readonly<Record<string, string | undefined>>
  readonly flags?: ConfigFlags
}

/** @throws CatalogError `invalid-config`, with `problems` as [{ path, line?, column?, message }] and `source` */
export function loadConfig({ home, env, flags = {} }: ConfigSources): Config {
  const path = homePaths(home).config
  let merged: Settings = structuredClone(defaultConfig) as Settings
  const file = readFile(path)
  if (file !== undefined) merged = checked(merge(merged, file.settings), path, file.positionOf)
  merged = checked(merge(merged, readEnvironment(env)), 'the CATALOG_* variables')
  return freezeDeep(checked(withFlags(merged, flags), 'the command line') as z.infer<typeof configSchema>)
}

type Settings = Record<string, unknown>
type PositionOf = ReturnType<typeof parseYaml>['positionOf']

const maxFileBytes = 256 * 1024

function readFile(path: string): { settings: Settings; positionOf: PositionOf } | undefined {
  const size = statSync(path, { throwIfNoEntry: false })?.size
  if (size === undefined) return undefined
  if (size > maxFileBytes)
    throw refuse(path, [{ path: '', message: `the file is ${size} bytes; at most ${maxFileBytes} are read` }])
  const { value, problems, positionOf } = parseYaml(readFileSync(path, 'utf8'))
  if (problems.length > 0)
    throw refuse(
      path,
      problems.map(problem => ({ path: '', ...problem })),
    )
  if (value !== undefined && !isSettings(value))
    throw refuse(path, [{ path: '', message: 'the file must be a map of settings' }])
  return { settings: value ?? {}, positionOf }
}

function withFlags(settings: Settings, flags: ConfigFlags): Settings {
  const changes: Settings = {}
  if (flags.listen !== undefined && flags.listen.length > 0) changes['listen'] = [...flags.listen]
  if (flags.bootstrap !== undefined)
    changes['bootstrap'] = [...(settings['bootstrap'] as string[]), ...flags.bootstrap]
  if (flags.offerExecution === true) changes['execution'] = { offer: true }
  if (flags.mdns === true) changes['mdns'] = true
  if (flags.passphraseFile !== undefined) changes['keys'] = { passphraseFile: flags.passphraseFile }
  if (flags.logLevel !== undefined) changes['log'] = { level: flags.logLevel }
  return merge(settings, changes)
}

const isSettings = (value: unknown): value is Settings =>
  typeof value === 'object' && value !== null && !Array.isArray(value)

/** Maps are merged key by key, everything else is replaced; a null in the file (a key with no value) is no value. */
function merge(base: Settings, changes: Settings): Settings {
  const result: Settings = { ...base }
  for (const [key, value] of Object.entries(changes)) {
    if (value === null || value === undefined) continue
    const old = Object.hasOwn(base, key) ? base[key] : undefined
    result[key] = isSettings(old) && isSettings(value) ? merge(old, value) : value
  }
  return result
}

interface ConfigProblem {
  readonly path: string
  readonly line?: number
  readonly column?: number
  readonly message: string
}

function checked(settings: Settings, source: string, positionOf?: PositionOf): Settings {
  const parsed = configSchema.safeParse(settings)
  if (parsed.success) return parsed.data
  const problems = parsed.error.issues.flatMap((issue): ConfigProblem[] => {
    const path = issue.path.map(step => (typeof step === 'number' ? step : String(step)))
    const place = (steps: readonly (string | number)[]) => ({
      path: steps.join('.'),
      ...positionOf?.(steps),
    })
    if (issue.code !== 'unrecognized_keys')
      return [
        { ...place(path), message: issue.code === 'invalid_key' ? 'not a package name' : issue.message },
      ]
    return issue.keys.map(key => ({ ...place([...path, key]), message: unknownKey(path, key) }))
  })
  throw refuse(source, problems)
}

function unknownKey(parent: readonly (string | number)[], key: string): string {
  const near = nearestKey(key, knownKeys(parent))
  return near === undefined ? 'unknown key' : `unknown key; did you mean ${near}?`
}

/** The keys that the schema knows at a path. */
function knownKeys(path: readonly (string | number)[]): string[] {
  let schema: z.ZodType | undefined = configSchema
  for (const step of path)
    schema = schema instanceof z.ZodObject ? (schema.shape[step] as z.ZodType) : undefined
  return schema instanceof z.ZodObject ? Object.keys(schema.shape) : []
}

function refuse(source: string, problems: readonly ConfigProblem[]): CatalogError {
  const lines = problems.map(({ path, line, message }) =>
    [line === undefined ? '' : `line ${line}: `, path === '' ? '' : `${path}: `, message].join(''),
  )
  return new CatalogError(
    'invalid-config',
    `The settings in ${source} are not valid: ${lines.join('; ')}. Correct them; config/catalog.yaml documents every key.`,
    { source, problems },
  )
}

function freezeDeep<T>(value: T): Frozen<T> {
  if (typeof value === 'object' && value !== null) {
    for (const part of Object.values(value)) freezeDeep(part)
    Object.freeze(value)
  }
  return value as Frozen<T>
}
