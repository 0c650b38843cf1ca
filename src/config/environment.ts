// CATALOG_* variables as settings: each key of the config file has one, its path in capitals
// (`execution.ceiling.memoryMb` is CATALOG_EXECUTION_CEILING_MEMORY_MB), or the short name that is listed here.
import { nearestKey } from '../assets/nearest-key.ts'
import { CatalogError } from '../base/errors.ts'

type Environment = Readonly<Record<string, string | undefined>>
type Kind = 'text' | 'number' | 'boolean' | 'list' | 'map'

/** Every setting that a variable can give. Lists are separated by commas, maps are written key=value,key=value. */
export const variableKinds: Readonly<Record<string, Kind>> = {
  network: 'text',
  listen: 'list',
  bootstrap: 'list',
  'dns.servers': 'list',
  mdns: 'boolean',
  'dataConnections.enabled': 'boolean',
  'dataConnections.port': 'number',
  'keys.passphraseFile': 'text',
  'sync.enabled': 'boolean',
  'sync.intervalSeconds': 'number',
  'execution.local': 'boolean',
  'execution.offer': 'boolean',
  'execution.requireStrongSandbox': 'boolean',
  'execution.ceiling.cpuCores': 'number',
  'execution.ceiling.memoryMb': 'number',
  'execution.ceiling.storageMb': 'number',
  'execution.ceiling.runSeconds': 'number',
  'execution.ceiling.processes': 'number',
  'execution.ceiling.outputMb': 'number',
  'execution.maxQueued': 'number',
  'caches.recordsBytes': 'number',
  'caches.contentsBytes': 'number',
  'storage.maxBytes': 'number',
  'storage.reserveBytes': 'number',
  'storage.collectSeconds': 'number',
  'storage.keepPartialsSeconds': 'number',
  'storage.keepResultsSeconds': 'number',
  'limits.maxConnections': 'number',
  'bandwidth.up': 'text',
  'bandwidth.down': 'text',
  'bandwidth.perPeerUp': 'text',
  'bandwidth.perPeerDown': 'text',
  'replication.factor': 'number',
  'replication.accept': 'boolean',
  'replication.maxBytes': 'number',
  'replication.checkEverySeconds': 'number',
  'replication.verifyEverySeconds': 'number',
  'replication.graceSeconds': 'number',
  'replication.settleSeconds': 'number',
  'trust.root': 'text',
  'trust.pinnedPeers': 'list',
  'publishers.pins': 'map',
  'control.shared.path': 'text',
  'control.shared.group': 'text',
  'log.level': 'text',
}

/** Variables of ours that are no settings. */
const others = [
  'CATALOG_HOME',
  'CATALOG_NO_INSTALL',
  'CATALOG_PORTABLE_HASH',
  'CATALOG_SCRATCH',
  'CATALOG_SOCKET',
  'CATALOG_TOKEN_FILE',
]

/** Names that are shorter than their paths. */
const shortNames: Readonly<Record<string, string>> = { 'keys.passphraseFile': 'CATALOG_PASSPHRASE_FILE' }

export const variableName = (path: string): string =>
  shortNames[path] ?? `CATALOG_${path.replaceAll('.', '_').replace(/[A-Z]/g, '_$&').toUpperCase()}`

/**
 * The settings that the variables give, nested as in the file.
 * @throws CatalogError `invalid-config` for a value of the wrong kind, and for a name that is nearly a known one
 */
export function readEnvironment(env: Environment): Record<string, unknown> {
  const settings: Record<string, unknown> = {}
  const known = new Set(others)
  for (const [path, kind] of Object.entries(variableKinds)) {
    const name = variableName(path)
    known.add(name)
    const text = env[name]
    if (text !== undefined && text !== '') assign(settings, path.split('.'), parse(name, text, kind))
  }
  refuseMistypedNames(env, known)
  return settings
}

/** Foreign CATALOG_* names are left alone; one letter off a known name is a setting that would silently not hold. */
function refuseMistypedNames(env: Environment, known: ReadonlySet<string>): void {
  const prefix = 'CATALOG_'
  const suffixes = [...known].map(name => name.slice(prefix.length))
  for (const name of Object.keys(env)) {
    // Among four letters, any two words are near.
    if (!name.startsWith(prefix) || known.has(name) || name.length < prefix.length + 5) continue
    const near = nearestKey(name.slice(prefix.length), suffixes)
    if (near !== undefined) throw refuse(name, `is no setting; did you mean ${prefix}${near}?`)
  }
}

function assign(settings: Record<string, unknown>, [step = '', ...rest]: string[], value: unknown): void {
  if (rest.length === 0) settings[step] = value
  else {
    settings[step] ??= {}
    assign(settings[step] as Record<string, unknown>, rest, value)
  }
}

function parse(name: string, text: string, kind: Kind): unknown {
  switch (kind) {
    case 'text':
      return text
    case 'number':
      if (!/^\d+(\.\d+)?$/.test(text)) throw refuse(name, `must be a number, not ${JSON.stringify(text)}.`)
      return Number(text)
    case 'boolean':
      if (text === 'true' || text === '1') return true
      if (text === 'false' || text === '0') return false
      throw refuse(name, `must be true or false, not ${JSON.stringify(text)}.`)
    case 'list':
      return text.split(',').map(item => item.trim())
    case 'map':
      return Object.fromEntries(text.split(',').map(pair => parsePair(name, pair.trim())))
  }
}

function parsePair(name: string, pair: string): [string, string] {
  const equals = pair.indexOf('=')
  if (equals < 1) throw refuse(name, `must be written key=value,key=value, not ${JSON.stringify(pair)}.`)
  return [pair.slice(0, equals), pair.slice(equals + 1)]
}

const refuse = (name: string, why: string): CatalogError =>
  new CatalogError('invalid-config', `The variable ${name} ${why}`, {
    source: name,
    problems: [{ path: name, message: why }],
  })
