// Keeps the rows of ARCHITECTURE.md (rules 1-5) over src/: which file may import which, and which may import a
// package. The tables come first; a new folder or package belongs in them. Prints file:line and the rule that is
// broken, and fails when it sees no files.
// Usage: node scripts/check-layers.ts [ROOT]
import { existsSync, readdirSync, readFileSync } from 'node:fs'
import { builtinModules } from 'node:module'
import { dirname, join, relative, resolve } from 'node:path'

/** Each folder, or file of src/ itself, with its row. A file imports from its own folder and from lower rows. */
const rows: Readonly<Record<string, number>> = {
  base: 0,
  assets: 1,
  versions: 2,
  registry: 2,
  store: 2,
  trust: 2,
  admission: 2,
  network: 2,
  resources: 2,
  monitoring: 2,
  distribution: 3,
  execution: 3,
  membership: 3,
  state: 3,
  flows: 4,
  config: 5,
  control: 5,
  'node.ts': 6,
  cli: 7,
  'daemon.ts': 7,
}

/** Files of src/ that are one part with another: the composition root in pieces. */
const partners: Readonly<Record<string, string>> = {
  'execution-api.ts': 'node.ts',
  'head-signing.ts': 'node.ts',
  'node-api.ts': 'node.ts',
  'replication-api.ts': 'node.ts',
  'home-keys.ts': 'node.ts',
  'init.ts': 'node.ts',
  'join.ts': 'node.ts',
  'join-by-file.ts': 'node.ts',
  'keeping-api.ts': 'node.ts',
  'membership-parts.ts': 'node.ts',
  'marks-api.ts': 'node.ts',
  'network-trust.ts': 'node.ts',
  'node-options.ts': 'node.ts',
  'next-publisher-keys.ts': 'node.ts',
  'own-catalogue.ts': 'node.ts',
  'root-files.ts': 'node.ts',
  'roots-api.ts': 'node.ts',
  'trust-api.ts': 'node.ts',
  'upkeep.ts': 'node.ts',
}

/** Folders that see a row only as types: their values arrive through `deps`. */
const typesOnly: Readonly<Record<string, readonly number[]>> = { flows: [2, 3] }

/** Folders that may import from these alone. */
const only: Readonly<Record<string, readonly string[]>> = {
  cli: ['cli', 'base', 'assets', 'config', 'control'],
}

/** Single ways past the rules, each with its reason. */
const allowed: readonly (readonly [from: string, to: string, why: string])[] = [
  ['cli/main.ts', 'init.ts', 'the process hands `init` over'],
  ['cli/main.ts', 'join.ts', 'the process hands the other ways of `init` over'],
  ['cli/main.ts', 'join-by-file.ts', 'the process hands the other ways of `init` over'],
  ['cli/main.ts', 'home-keys.ts', 'the process hands `keys` over'],
  ['cli/main.ts', 'root-files.ts', 'the process hands `rootFiles` over'],
  ['cli/main.ts', 'daemon.ts', 'the process hands `daemon` over'],
]

/** Who may import a package: files or folders of src/. A package that is not here may be imported by nobody. */
const doors: Readonly<Record<string, readonly string[]>> = {
  '@chainsafe/libp2p-quic': ['network'],
  '@fastify/swagger': ['control/openapi.ts'],
  '@ipld/dag-cbor': ['base/cbor.ts'],
  '@libp2p/*': ['network'],
  '@multiformats/multiaddr': ['network'],
  '@napi-rs/blake-hash': ['base/hash.ts'],
  '@noble/hashes': ['base/hash.ts'],
  '@noble/post-quantum': ['trust'],
  '@peculiar/asn1-schema': ['trust/x509.ts', 'trust/x509-import.ts'],
  '@peculiar/asn1-x509': ['trust/x509.ts', 'trust/x509-import.ts'],
  'cli-progress': ['cli/progress.ts'],
  'cli-table3': ['cli/table.ts'],
  commander: ['cli/program.ts'],
  'datastore-level': ['network', 'store'],
  fastify: ['control'],
  ignore: ['assets/ignore-rules.ts'],
  'it-pipe': ['assets', 'flows', 'store'],
  level: ['store/level-key-value.ts'],
  libp2p: ['network'],
  'lru-cache': ['base', 'registry', 'store', 'trust', 'network', 'distribution'],
  multiformats: ['base/cid.ts', 'network', 'trust'],
  'p-queue': ['trust', 'distribution', 'execution', 'flows'],
  picocolors: ['cli'],
  pino: ['daemon.ts'],
  semver: ['assets'],
  'smol-toml': ['assets/syntax/toml.ts'],
  'tar-stream': ['assets/unpack-archive.ts'],
  yaml: ['assets/syntax/yaml.ts'],
  zod: ['assets', 'execution', 'config', 'control'],
}

/** Who reads process.env beside config/. */
const environmentReaders: readonly string[] = [
  'cli/program.ts', // where the home is
  'base/hash.ts', // CATALOG_PORTABLE_HASH, read before any config is
  'init.ts',
  'home-keys.ts',
  'root-files.ts',
  'network/libp2p/quic/binding.ts', // how many threads the native code makes
  'daemon.ts',
]

/** Names that say nothing of what a file owns. */
const bannedNames = ['index.ts', 'utils.ts', 'helpers.ts', 'common.ts']

interface Import {
  readonly line: number
  readonly specifier: string
  readonly types: boolean
}

const root = resolve(process.argv[2] ?? join(import.meta.dirname, '..'))
const source = join(root, 'src')
const files = existsSync(source)
  ? readdirSync(source, { recursive: true, encoding: 'utf8' })
      .filter(path => path.endsWith('.ts'))
      .sort()
  : []
const problems = files.flatMap(checkFile)
for (const problem of problems) console.error(problem)
if (files.length === 0) console.error(`check-layers: there are no files in ${source}`)
else console.error(`check-layers: ${files.length} files, ${problems.length} problems`)
process.exit(files.length === 0 || problems.length > 0 ? 1 : 0)

function checkFile(file: string): string[] {
  const text = blankComments(readFileSync(join(source, file), 'utf8'))
  const at = (line: number, message: string) => `src/${file}:${line}: ${message}`
  const found: string[] = []
  if (rows[partOf(file)] === undefined)
    found.push(at(1, `${partOf(file)} has no row (rule 1): put it into the table of scripts/check-layers.ts`))
  if (bannedNames.includes(file.split('/').at(-1) ?? ''))
    found.push(at(1, 'no barrels, no index.ts, no utils.ts (rule 3)'))
  for (const [line, content] of text.split('\n').entries()) {
    if (/^\s*export\s+(type\s+)?(\*|\{[^}]*\})\s*(as\s+\w+\s+)?from\b/.test(content))
      found.push(at(line + 1, 're-exports are barrels (rule 3): import from the file that owns it'))
    if (/\bprocess\s*\.\s*env\b/.test(content) && !isIn(file, ['config', ...environmentReaders]))
      found.push(at(line + 1, 'process.env is read in config loading alone (rule 5)'))
  }
  for (const one of importsOf(text)) {
    const problem = one.specifier.startsWith('.') ? checkOwn(file, one) : checkPackage(file, one)
    if (problem !== undefined) found.push(at(one.line, problem))
  }
  return found
}

function checkOwn(file: string, { specifier, types }: Import): string | undefined {
  const target = relative(source, resolve(source, dirname(file), specifier)).replaceAll('\\', '/')
  if (target.startsWith('..')) return undefined
  if (!existsSync(join(source, target))) return `${specifier} does not exist`
  const [from, to] = [partOf(file), partOf(target)]
  if (allowed.some(([one, other]) => one === file && other === target)) return undefined
  if (from !== to) {
    if (target.split('/').length > 2) return `${target} is private to ${to}/ (rule 3)`
    const inside = only[from]
    if (inside !== undefined && !inside.includes(to))
      return `${from}/ imports only ${inside.join(', ')} (rule 4), not ${to}`
    const [fromRow, toRow] = [rows[from] ?? -1, rows[to] ?? 99]
    if (toRow >= fromRow) return `${from} (row ${fromRow}) may not import ${to} (row ${toRow}) (rule 1)`
    if (!types && typesOnly[from]?.includes(toRow) === true)
      return `${from}/ sees ${to}/ as types only (rule 2): take the value through deps`
  }
  return undefined
}

function checkPackage(file: string, { specifier }: Import): string | undefined {
  if (specifier.startsWith('node:')) return undefined
  if (builtinModules.includes(specifier)) return `write node:${specifier}`
  const name = specifier
    .split('/')
    .slice(0, specifier.startsWith('@') ? 2 : 1)
    .join('/')
  const door = doors[name] ?? doors[`${name.split('/')[0]}/*`]
  if (door === undefined)
    return `${name} has no door (rule 5): put it into the table of scripts/check-layers.ts`
  return isIn(file, door) ? undefined : `${name} is imported only by ${door.join(', ')} (rule 5)`
}

/** The folder of src/ that a file is in, or the file itself where it lies in src/. */
function partOf(file: string): string {
  const [part = ''] = file.split('/')
  return partners[part] ?? part
}

function isIn(file: string, places: readonly string[]): boolean {
  return places.some(place => file === place || file.startsWith(`${place}/`))
}

/** Static, dynamic and re-exporting imports, import() types, and require of a literal. */
function importsOf(text: string): Import[] {
  const pattern =
    /^[ \t]*(import|export)\s+(type\s+)?(?:([\w*\s{},$]*?)\s*from\s*)?(['"])([^'"\n]+)\4|\b(?:(typeof\s+)?import|require)\s*\(\s*(['"])([^'"\n]+)\7/gm
  return [...text.matchAll(pattern)].map(match => {
    const [, , type, names = '', , specifier, typeQuery, , called] = match
    const members =
      /^\s*\{(.*)\}\s*$/s
        .exec(names)?.[1]
        ?.split(',')
        .map(name => name.trim())
        .filter(Boolean) ?? []
    const allTypes = members.length > 0 && members.every(name => name.startsWith('type '))
    return {
      line: text.slice(0, match.index).split('\n').length,
      specifier: specifier ?? called ?? '',
      types: type !== undefined || typeQuery !== undefined || allTypes,
    }
  })
}

/** Comments and templates as blanks, so that line numbers stay; strings are kept. */
function blankComments(text: string): string {
  return text.replace(
    /'(?:\\.|[^'\\\n])*'|"(?:\\.|[^"\\\n])*"|`(?:\\.|[^`\\])*`|\/\/[^\n]*|\/\*[\s\S]*?\*\//g,
    found => (/^(?:\/\/|\/\*|`)/.test(found) ? found.replace(/[^\n]/g, ' ') : found),
  )
}
