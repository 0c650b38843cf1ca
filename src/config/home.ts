// A node's home directory: where it is, what lies in it, and the checks before anything in it is believed.
// One daemon per home is home-lock.ts; what config.yaml says is config.ts.
import { chmod, lstat, readdir, readFile, rename, stat, writeFile } from 'node:fs/promises'
import { homedir, userInfo } from 'node:os'
import { join, resolve } from 'node:path'
import { makeDirectory } from '../assets/make-directory.ts'
import { CatalogError } from '../base/errors.ts'

/** What lies in a home, as absolute paths. */
export interface HomePaths {
  readonly home: string
  readonly config: string
  readonly keys: string
  /** Keys of the network's root, on the node that founded it: they can go offline. */
  readonly rootKeys: string
  /** This node's certificates and the network's first root. */
  readonly trust: TrustPaths
  /** Opens the keys where there is no passphrase. Not among them: a copy of `keys` alone opens nothing. */
  readonly unlockKey: string
  readonly store: string
  readonly content: string
  readonly socket: string
  /** Packages that come in as archives, until they are published. */
  readonly uploads: string
  readonly lock: string
  readonly version: string
}

export interface TrustPaths {
  readonly directory: string
  readonly firstRoot: string
  readonly node: string
  readonly publisher: string
  readonly authority: string
  /** Certificates by which others let this node's keys sign for them: a file each. */
  readonly delegations: string
  /** What came with the certificates and waits for the daemon. */
  readonly notices: string
}

/** The layout of a home; a daemon refuses a newer one and migrates an older one. */
export const homeVersion = 2

/** `--home`, CATALOG_HOME, else ~/.local/share/catalog; absolute. */
export function homeOf(
  flags: { readonly home?: string | undefined },
  env: Readonly<Record<string, string | undefined>>,
): string {
  // An unset variable in a script (`--home "$DIR"`) must not mean the user's own node.
  if (flags.home === '')
    throw new CatalogError(
      'invalid-request',
      'The --home option is empty. Name a directory, or leave it out.',
    )
  const named = flags.home ?? env['CATALOG_HOME']
  if (named !== undefined && named !== '') return resolve(named)
  return join(env['HOME'] || homedir(), '.local', 'share', 'catalog')
}

export function homePaths(dir: string): HomePaths {
  const home = resolve(dir)
  const trust = join(home, 'trust')
  return {
    home,
    config: join(home, 'config.yaml'),
    keys: join(home, 'keys'),
    rootKeys: join(home, 'root-keys'),
    trust: {
      directory: trust,
      firstRoot: join(trust, 'root.cbor'),
      node: join(trust, 'node.chain'),
      publisher: join(trust, 'publisher.chain'),
      authority: join(trust, 'authority.chain'),
      delegations: join(trust, 'delegations'),
      notices: join(trust, 'notices'),
    },
    unlockKey: join(home, 'unlock.key'),
    store: join(home, 'store'),
    content: join(home, 'content'),
    socket: join(home, 'control.sock'),
    uploads: join(home, 'uploads'),
    lock: join(home, 'daemon.lock'),
    version: join(home, 'version'),
  }
}

/**
 * Checks a home that `catalog init` made: it exists, is this user's, closed to others, and of a version we know.
 * @throws CatalogError `not-initialised`, `home-not-owned`, `store-too-new`, `socket-path-too-long`
 */
export async function openHome(dir: string): Promise<HomePaths> {
  const paths = homePaths(dir)
  checkSocketPath(paths.socket)
  const version = await readVersion(paths)
  if (version === undefined)
    throw new CatalogError(
      'not-initialised',
      `There is no Catalog home at ${paths.home}. Run \`catalog init${homeFlag(paths.home)}\` to make one.`,
      { home: paths.home },
    )
  await checkOwner(paths.home)
  if (version === 1)
    throw new CatalogError(
      'not-a-member',
      `The home ${paths.home} was made before networks had certificates, so it belongs to none. Move it away, and make one anew with \`catalog init${homeFlag(paths.home)}\` or join a network with \`catalog init --join INVITE${homeFlag(paths.home)}\`; what it published is published again.`,
      { home: paths.home },
    )
  if (version > homeVersion)
    throw new CatalogError(
      'store-too-new',
      `The home ${paths.home} has version ${version}; this Catalog knows ${homeVersion}. Use a newer Catalog, or another home.`,
      { home: paths.home, version, known: homeVersion },
    )
  return paths
}

/**
 * Makes an empty home with private directories. `finishHome` makes it count: until then a failed `init` leaves
 * something that the next one completes.
 * @throws CatalogError `already-initialised`, `output-exists` (a directory with other things in it), `home-not-owned`
 */
export async function createHome(dir: string): Promise<HomePaths> {
  const paths = homePaths(dir)
  checkSocketPath(paths.socket)
  if ((await readVersion(paths)) !== undefined)
    throw new CatalogError(
      'already-initialised',
      `The home ${paths.home} is initialised already; nothing was changed. Run \`catalog daemon${homeFlag(paths.home)}\`, or name another with --home.`,
      { home: paths.home },
    )
  await makeDirectory(paths.home, 0o700)
  await checkOwner(paths.home)
  const ours = new Set([...Object.values(paths), paths.trust.directory, `${paths.version}.new`])
  const isOurs = (path: string) => ours.has(path) || path.startsWith(`${paths.unlockKey}.`)
  const foreign = (await readdir(paths.home)).find(name => !isOurs(join(paths.home, name)))
  if (foreign !== undefined)
    throw new CatalogError(
      'output-exists',
      `Cannot make a home at ${paths.home}: the directory has other things in it (${foreign}). Name an empty or new directory.`,
      { home: paths.home },
    )
  for (const part of [paths.keys, paths.trust.directory, paths.store, paths.content])
    await makeDirectory(part, 0o700)
  return paths
}

/** The last step of `init`: from here on the home is initialised. */
export async function finishHome(paths: HomePaths): Promise<void> {
  await writeFile(`${paths.version}.new`, `${homeVersion}\n`, { mode: 0o600, flush: true })
  await rename(`${paths.version}.new`, paths.version)
}

async function readVersion({ home, version }: HomePaths): Promise<number | undefined> {
  let text: string
  try {
    const { size } = await stat(version)
    text = size > 32 ? '' : await readFile(version, 'utf8')
  } catch (error) {
    const { code } = error as NodeJS.ErrnoException
    if (code === 'ENOENT') return undefined
    if (code === 'ENOTDIR')
      throw new CatalogError(
        'not-initialised',
        `The home ${home} is not a directory. Name another with --home.`,
        { home },
      )
    // A home of another user is 0700: its owner says more than "permission denied".
    if (code === 'EACCES') await checkOwner(home)
    throw error
  }
  if (!/^\d{1,9}\n?$/.test(text))
    throw new CatalogError(
      'not-initialised',
      `The file ${version} does not hold a version number: ${home} is not a Catalog home, or is damaged. Name another with --home.`,
      { home },
    )
  return Number(text)
}

/** The home holds private keys: it must be ours and closed. An open one is closed, a foreign one refused. */
async function checkOwner(home: string): Promise<void> {
  const found = await lstat(home).then(entry => (entry.isSymbolicLink() ? stat(home) : entry))
  const uid = process.getuid?.()
  if (uid !== undefined && found.uid !== uid)
    throw new CatalogError(
      'home-not-owned',
      `The home ${home} belongs to uid ${found.uid}, not to you (${userInfo().username}, uid ${uid}). Run as its owner, or name another with --home.`,
      { home, owner: found.uid },
    )
  if ((found.mode & 0o077) !== 0) await chmod(home, 0o700)
}

/** Linux gives a socket's path 108 bytes, its closing NUL among them (unix(7)); macOS 104. */
const maxSocketPathBytes = process.platform === 'darwin' ? 103 : 107

/** @throws CatalogError `socket-path-too-long` */
export function checkSocketPath(path: string): void {
  const bytes = Buffer.byteLength(path)
  if (bytes > maxSocketPathBytes)
    throw new CatalogError(
      'socket-path-too-long',
      `The control socket ${path} has a path of ${bytes} bytes; this system allows ${maxSocketPathBytes}. Name a shorter home with --home (a symbolic link to the long one will do).`,
      { path, bytes, most: maxSocketPathBytes },
    )
}

const homeFlag = (home: string): string => ` --home ${home}`
