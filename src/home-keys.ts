// The keys of a home and what protects them: made by `catalog init`, opened by the daemon, put under another secret by
// `catalog keys`. Formats and files belong to trust/ and network/; where a passphrase comes from to config/.
import { readdir, rm } from 'node:fs/promises'
import { join } from 'node:path'
import { makeDirectory } from './assets/make-directory.ts'
import { equalBytes } from './base/cbor.ts'
import { CatalogError, isCatalogError } from './base/errors.ts'
import type { Log } from './base/log.ts'
import { loadConfig } from './config/config.ts'
import { type HomePaths, openHome } from './config/home.ts'
import { findPassphrase, readPassphrase } from './config/passphrase.ts'
import {
  loadOrCreateNodeKey,
  type NodeKey,
  type NodeKeyFile,
  peerOfNodeKey,
  rawNodeKey,
} from './network/identity.ts'
import { nextPublisherKey } from './next-publisher-keys.ts'
import type { KeyHolder, KeySecret, SecretKind } from './trust/key-encryption.ts'
import { KeyFile, type KeySecrets, type Protection } from './trust/key-file.ts'
import {
  decodeFalconKey,
  decodePublisherKeys,
  falconKeyName,
  generatePublisherKeys,
  loadOrCreateFalconKey,
  loadPublisherKeys,
  type PublisherKeys,
  publisherFingerprint,
  savePublisherKeys,
} from './trust/keys.ts'
import { syncDirectory } from './trust/private-file.ts'
import { loadOrCreateUnlockKey, loadUnlockKey } from './trust/unlock-key.ts'

export interface HomeKeys {
  readonly nodeKey: NodeKey
  /** The node's libp2p key with the Falcon key beside it: the subject of its certificate. */
  readonly node: PublisherKeys
  readonly publisherKeys: PublisherKeys
  /** Where this node is an authority of its network. */
  readonly authority?: PublisherKeys
  /** What new keys of the home come under; absent where its keys are plain. */
  readonly secret?: KeySecret
}

/** What `catalog keys` tells of one key. */
export interface KeyReport {
  readonly holds: KeyHolder
  /** Peer id or fingerprint. */
  readonly name: string
  readonly protection: Protection
  readonly path: string
}

/** What opens the keys of one home. */
class HomeSecrets implements KeySecrets {
  readonly #passphrase: KeySecret | undefined
  readonly #paths: HomePaths
  #unlockKey: Promise<KeySecret | undefined> | undefined

  constructor(deps: { readonly passphrase: KeySecret | undefined }, options: { readonly paths: HomePaths }) {
    this.#passphrase = deps.passphrase
    this.#paths = options.paths
  }

  async find(kind: SecretKind, what: string): Promise<KeySecret> {
    if (kind === 'passphrase') {
      if (this.#passphrase !== undefined) return this.#passphrase
      throw new CatalogError(
        'passphrase-needed',
        `${what} is encrypted with a passphrase, and none was given. Name the file that holds it with --passphrase-file, CATALOG_PASSPHRASE_FILE or keys.passphraseFile in the config.`,
      )
    }
    const path = this.#paths.unlockKey
    this.#unlockKey ??= loadUnlockKey(path)
    const key = await this.#unlockKey
    if (key !== undefined) return key
    throw new CatalogError(
      'passphrase-needed',
      `${what} is encrypted with the unlock key, and there is none at ${path}. Put it back from where it is kept.`,
      { path },
    )
  }
}

function keyFiles(paths: HomePaths, passphrase: KeySecret | undefined) {
  const secrets = new HomeSecrets({ passphrase }, { paths })
  const file = (name: string, holds: KeyHolder) =>
    new KeyFile({ secrets }, { path: join(paths.keys, name), holds })
  return {
    secrets,
    node: file('node.key', 'node'),
    nodeFalcon: file('node-falcon.key', 'node-falcon'),
    publisher: file('publisher.key', 'publisher'),
    nextPublisher: file(nextPublisherKey, 'publisher'),
    authority: file('authority.key', 'authority'),
  }
}

const rootKeyFile = (secrets: KeySecrets, path: string) => new KeyFile({ secrets }, { path, holds: 'root' })

/** The root keys that lie in a directory, opened. @throws as `loadPublisherKeys` */
export async function openRootKeys(
  paths: HomePaths,
  passphrase: KeySecret | undefined,
  directory = paths.rootKeys,
): Promise<PublisherKeys[]> {
  const { secrets } = keyFiles(paths, passphrase)
  const names = await rootKeyNames(directory)
  return Promise.all(names.map(name => loadPublisherKeys(rootKeyFile(secrets, join(directory, name)))))
}

const rootKeyNames = async (directory: string): Promise<string[]> =>
  (await readdir(directory).catch(() => [])).filter(name => name.endsWith('.key')).sort()

/** All files of the home that there are; root keys may have gone elsewhere. */
async function existingFiles(paths: HomePaths, passphrase: KeySecret | undefined): Promise<KeyFile[]> {
  const { secrets, node, nodeFalcon, publisher, nextPublisher, authority } = keyFiles(paths, passphrase)
  const roots = (await rootKeyNames(paths.rootKeys)).map(name =>
    rootKeyFile(secrets, join(paths.rootKeys, name)),
  )
  const optional = await Promise.all(
    [nodeFalcon, nextPublisher, authority].map(async file =>
      (await file.inspect()) === undefined ? [] : [file],
    ),
  )
  return [node, publisher, ...optional.flat(), ...roots]
}

/** A new node key comes under this secret; without one it is plain. */
const nodeKeyFile = (file: KeyFile, secret: KeySecret | undefined): NodeKeyFile => ({
  path: file.path,
  read: async () => (await file.read())?.bytes,
  create: (key, name) => file.create(key, name, secret),
})

/**
 * Makes the keys of a new home, or completes what an interrupted `init` began. `given`: the node's key, made elsewhere.
 * @throws CatalogError `already-initialised` where an interrupted one left another node key
 */
export async function createHomeKeys(
  paths: HomePaths,
  passphrase: KeySecret | undefined,
  given?: NodeKey,
): Promise<{ keys: HomeKeys; peerId: string; protection: SecretKind }> {
  const secret = passphrase ?? (await loadOrCreateUnlockKey(paths.unlockKey))
  const { node, nodeFalcon, publisher } = keyFiles(paths, passphrase)
  if (given !== undefined) await node.create(given, peerOfNodeKey(given), secret)
  const [nodeKey, falcon, publisherKeys] = await Promise.all([
    loadOrCreateNodeKey(nodeKeyFile(node, secret)),
    loadOrCreateFalconKey(nodeFalcon, secret),
    loadOrCreateKeys(publisher, secret),
  ])
  if (given !== undefined && !equalBytes(given, nodeKey))
    throw new CatalogError(
      'already-initialised',
      `The key was not imported: another one is at ${node.path}. Remove the unfinished home ${paths.home}, or choose another.`,
    )
  // An interrupted one may have begun with another secret.
  await protect(paths, passphrase, secret)
  const keys = { nodeKey, node: nodeIdentity(nodeKey, falcon), publisherKeys }
  return { keys, peerId: peerOfNodeKey(nodeKey), protection: secret.kind }
}

/** Makes the keys of a network's authority and of its root: those lie apart, plain unless there is a passphrase. */
export async function createFounderKeys(
  paths: HomePaths,
  passphrase: KeySecret | undefined,
  rootKeys: number,
): Promise<{ authority: PublisherKeys; roots: PublisherKeys[] }> {
  const { secrets, authority } = keyFiles(paths, passphrase)
  const secret = passphrase ?? (await loadOrCreateUnlockKey(paths.unlockKey))
  await makeDirectory(paths.rootKeys, 0o700)
  const made = [loadOrCreateKeys(authority, secret)]
  for (let at = 1; at <= rootKeys; at++)
    // Under the unlock key of this home a root key could not leave it.
    made.push(loadOrCreateKeys(rootKeyFile(secrets, join(paths.rootKeys, `root-${at}.key`)), passphrase))
  const [first, ...roots] = await Promise.all(made)
  return { authority: first as PublisherKeys, roots }
}

/** The keys of a node that is to be an authority; it is one once another has certified them. */
export async function createAuthorityKeys(
  paths: HomePaths,
  passphrase: KeySecret | undefined,
): Promise<PublisherKeys> {
  const secret = passphrase ?? (await loadOrCreateUnlockKey(paths.unlockKey))
  return loadOrCreateKeys(keyFiles(paths, passphrase).authority, secret)
}

/** Undefined where the home has none. @throws as `loadPublisherKeys` */
export async function openAuthorityKeys(
  paths: HomePaths,
  passphrase: KeySecret | undefined,
): Promise<PublisherKeys | undefined> {
  const { authority } = keyFiles(paths, passphrase)
  return (await authority.inspect()) === undefined ? undefined : loadPublisherKeys(authority)
}

async function loadOrCreateKeys(file: KeyFile, secret: KeySecret | undefined): Promise<PublisherKeys> {
  try {
    return await loadPublisherKeys(file)
  } catch (error) {
    if (!isCatalogError(error, 'not-initialised')) throw error
  }
  const keys = await generatePublisherKeys()
  await savePublisherKeys(file, keys, secret)
  return keys
}

function nodeIdentity(nodeKey: NodeKey, falcon: PublisherKeys['falcon']): PublisherKeys {
  const ed25519 = rawNodeKey(nodeKey)
  return { ed25519, falcon, fingerprint: publisherFingerprint(ed25519.publicKey, falcon.publicKey) }
}

/** The keys for the daemon. A node key that was deleted is made anew, protected as the publisher keys are. */
export async function openHomeKeys(
  paths: HomePaths,
  passphrase: KeySecret | undefined,
  log: Log,
): Promise<HomeKeys> {
  const { node, nodeFalcon, publisher, secrets } = keyFiles(paths, passphrase)
  const publisherKeys = await loadPublisherKeys(publisher)
  const protection = (await publisher.inspect())?.protection ?? 'none'
  const secret =
    protection === 'none' ? undefined : await secrets.find(protection, `The key at ${publisher.path}`)
  const nodeKey = await loadOrCreateNodeKey(nodeKeyFile(node, secret))
  const falcon = await loadOrCreateFalconKey(nodeFalcon, secret)
  const authority = await openAuthorityKeys(paths, passphrase)
  if (passphrase !== undefined && protection !== 'passphrase')
    log.warn(
      { protection },
      'a passphrase was given, but it does not protect the keys: `catalog keys --encrypt`',
    )
  return {
    nodeKey,
    node: nodeIdentity(nodeKey, falcon),
    publisherKeys,
    ...(secret === undefined ? {} : { secret }),
    ...(authority === undefined ? {} : { authority }),
  }
}

/**
 * `catalog keys`: tells what protects the keys, after it was changed where that was asked for. Each file is replaced in
 * one step; where it is interrupted between them, the same command completes it.
 * @throws CatalogError `not-initialised`, `passphrase-needed`, `wrong-passphrase`, `invalid-request`
 */
export async function homeKeys(options: {
  readonly home: string
  readonly passphraseFile?: string
  readonly encrypt?: boolean
  /** The file of the new passphrase. */
  readonly changePassphrase?: string
}): Promise<{ keys: KeyReport[]; changed: number }> {
  const { home, encrypt = false, changePassphrase } = options
  if (encrypt && changePassphrase !== undefined)
    throw new CatalogError(
      'invalid-request',
      'Take one of --encrypt and --change-passphrase: each does the whole.',
    )
  const paths = await openHome(home)
  let changed = 0
  // To look at encrypted keys needs no secret.
  if (encrypt || changePassphrase !== undefined) {
    const passphrase = await passphraseOf(paths, options.passphraseFile)
    const target =
      changePassphrase === undefined
        ? (passphrase ?? (await unlockTarget(paths)))
        : await readPassphrase(changePassphrase, '--change-passphrase')
    changed = await protect(paths, passphrase, target)
  }
  return { keys: await Promise.all((await existingFiles(paths, undefined)).map(report)), changed }
}

/** The passphrase that a command on a home that no daemon runs on is given. */
export function passphraseOf(paths: HomePaths, flag: string | undefined): Promise<KeySecret | undefined> {
  const configured = loadConfig({ home: paths.home, env: process.env }).keys.passphraseFile
  return findPassphrase({ flag, env: process.env, configured, home: paths.home })
}

/** Without a passphrase keys come under the unlock key, but those with a passphrase do not leave it by accident. */
async function unlockTarget(paths: HomePaths): Promise<KeySecret> {
  const { secrets } = keyFiles(paths, undefined)
  for (const file of await existingFiles(paths, undefined))
    if ((await file.inspect())?.protection === 'passphrase')
      await secrets.find('passphrase', `The key at ${file.path}`)
  return loadOrCreateUnlockKey(paths.unlockKey)
}

/** How many files came under another secret. */
async function protect(
  paths: HomePaths,
  passphrase: KeySecret | undefined,
  target: KeySecret,
): Promise<number> {
  const files = (await existingFiles(paths, passphrase)).filter(
    ({ holds }) => holds !== 'root' || target.kind === 'passphrase',
  )
  // All are opened before the first is changed: a wrong passphrase changes nothing.
  const due = await Promise.all(
    files.map(async file => {
      if (await file.opensWith(target)) return undefined
      const stored = await file.read()
      // Its backup may need the secret that goes.
      if (stored === undefined) throw missing(file)
      return { file, bytes: stored.bytes, name: nameOf(file, stored.bytes) }
    }),
  )
  let changed = 0
  for (const one of due) {
    if (one === undefined) continue
    await one.file.replace(one.bytes, one.name, target)
    one.bytes.fill(0)
    changed++
  }
  await removeLeftovers(paths.keys)
  await removeLeftovers(paths.rootKeys)
  if (target.kind === 'passphrase') {
    // It opens nothing any more.
    await rm(paths.unlockKey, { force: true })
    await syncDirectory(paths.home)
  }
  return changed
}

/** What a crash left half-written beside the keys. */
async function removeLeftovers(directory: string): Promise<void> {
  const names = await readdir(directory).catch(() => undefined)
  if (names === undefined) return
  const leftovers = names.filter(name => /^[a-z0-9-]+\.key\..+\.(new|tmp)$/.test(name))
  for (const name of leftovers) await rm(join(directory, name), { force: true })
  await syncDirectory(directory)
}

function nameOf({ holds, path }: KeyFile, bytes: Uint8Array): string {
  if (holds === 'node') return peerOfNodeKey(bytes)
  if (holds === 'node-falcon') return falconKeyName(decodeFalconKey(bytes, path))
  return decodePublisherKeys(bytes, path).fingerprint
}

async function report(file: KeyFile): Promise<KeyReport> {
  const { path, holds } = file
  const found = await file.inspect()
  if (found === undefined) throw missing(file)
  if (found.name !== undefined) return { holds, name: found.name, protection: found.protection, path }
  const bytes = (await file.read())?.bytes ?? new Uint8Array()
  try {
    return { holds, name: nameOf(file, bytes), protection: found.protection, path }
  } finally {
    bytes.fill(0)
  }
}

const missing = ({ holds, path }: KeyFile) =>
  new CatalogError(
    'not-initialised',
    `There is no ${holds} key at ${path}. Restore the file from a backup, and try again.`,
    { path },
  )
