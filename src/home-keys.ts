// The keys of a home and what protects them: made by `catalog init`, opened by the daemon, put under another secret by
// `catalog keys`. Formats and files belong to trust/ and network/; where a passphrase comes from to config/.
import { readdir, rm } from 'node:fs/promises'
import { join } from 'node:path'
import { CatalogError, isCatalogError } from './base/errors.ts'
import type { Log } from './base/log.ts'
import { loadConfig } from './config/config.ts'
import { type HomePaths, openHome } from './config/home.ts'
import { findPassphrase, readPassphrase } from './config/passphrase.ts'
import { loadOrCreateNodeKey, type NodeKey, type NodeKeyFile, peerOfNodeKey } from './network/identity.ts'
import type { KeySecret, SecretKind } from './trust/key-encryption.ts'
import { KeyFile, type KeySecrets, type Protection } from './trust/key-file.ts'
import {
  decodePublisherKeys,
  generatePublisherKeys,
  loadPublisherKeys,
  type PublisherKeys,
  savePublisherKeys,
} from './trust/keys.ts'
import { syncDirectory } from './trust/private-file.ts'
import { loadOrCreateUnlockKey, loadUnlockKey } from './trust/unlock-key.ts'

export interface HomeKeys {
  readonly nodeKey: NodeKey
  readonly publisherKeys: PublisherKeys
}

/** What `catalog keys` tells of one key. */
export interface KeyReport {
  readonly holds: 'node' | 'publisher'
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
  return {
    secrets,
    node: new KeyFile({ secrets }, { path: join(paths.keys, 'node.key'), holds: 'node' }),
    publisher: new KeyFile({ secrets }, { path: join(paths.keys, 'publisher.key'), holds: 'publisher' }),
  }
}

/** A new node key comes under this secret; without one it is plain. */
const nodeKeyFile = (file: KeyFile, secret: KeySecret | undefined): NodeKeyFile => ({
  path: file.path,
  read: async () => (await file.read())?.bytes,
  create: (key, name) => file.create(key, name, secret),
})

/** Makes the keys of a new home, or completes what an interrupted `init` began. */
export async function createHomeKeys(
  paths: HomePaths,
  passphrase: KeySecret | undefined,
): Promise<{ peerId: string; publisher: string; protection: SecretKind }> {
  const secret = passphrase ?? (await loadOrCreateUnlockKey(paths.unlockKey))
  const { node, publisher } = keyFiles(paths, passphrase)
  const peerId = peerOfNodeKey(await loadOrCreateNodeKey(nodeKeyFile(node, secret)))
  const made = { peerId, publisher: await publisherName(publisher, secret), protection: secret.kind }
  // An interrupted one may have begun with another secret.
  await protect(paths, passphrase, secret)
  return made
}

async function publisherName(file: KeyFile, secret: KeySecret): Promise<string> {
  try {
    return (await loadPublisherKeys(file)).fingerprint
  } catch (error) {
    if (!isCatalogError(error, 'not-initialised')) throw error
  }
  const keys = await generatePublisherKeys()
  await savePublisherKeys(file, keys, secret)
  return keys.fingerprint
}

/** The keys for the daemon. A node key that was deleted is made anew, protected as the publisher keys are. */
export async function openHomeKeys(
  paths: HomePaths,
  passphrase: KeySecret | undefined,
  log: Log,
): Promise<HomeKeys> {
  const { node, publisher, secrets } = keyFiles(paths, passphrase)
  const publisherKeys = await loadPublisherKeys(publisher)
  const protection = (await publisher.inspect())?.protection ?? 'none'
  const secret =
    protection === 'none' ? undefined : await secrets.find(protection, `The key at ${publisher.path}`)
  const nodeKey = await loadOrCreateNodeKey(nodeKeyFile(node, secret))
  if (passphrase !== undefined && protection !== 'passphrase')
    log.warn(
      { protection },
      'a passphrase was given, but it does not protect the keys: `catalog keys --encrypt`',
    )
  return { nodeKey, publisherKeys }
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
    const configured = loadConfig({ home: paths.home, env: process.env }).keys.passphraseFile
    const flag = options.passphraseFile
    const passphrase = await findPassphrase({ flag, env: process.env, configured, home: paths.home })
    const target =
      changePassphrase === undefined
        ? (passphrase ?? (await unlockTarget(paths)))
        : await readPassphrase(changePassphrase, '--change-passphrase')
    changed = await protect(paths, passphrase, target)
  }
  const { node, publisher } = keyFiles(paths, undefined)
  return { keys: [await report(node), await report(publisher)], changed }
}

/** Without a passphrase keys come under the unlock key, but those with a passphrase do not leave it by accident. */
async function unlockTarget(paths: HomePaths): Promise<KeySecret> {
  const { node, publisher, secrets } = keyFiles(paths, undefined)
  for (const file of [node, publisher])
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
  const { node, publisher } = keyFiles(paths, passphrase)
  // All are opened before the first is changed: a wrong passphrase changes nothing.
  const due = await Promise.all(
    [node, publisher].map(async file => {
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
  if (target.kind === 'passphrase') {
    // It opens nothing any more.
    await rm(paths.unlockKey, { force: true })
    await syncDirectory(paths.home)
  }
  return changed
}

/** What a crash left half-written beside the keys; homes from before encryption may have a plain key there. */
async function removeLeftovers(directory: string): Promise<void> {
  const leftovers = (await readdir(directory)).filter(name =>
    /^(node|publisher)\.key\..+\.(new|tmp)$/.test(name),
  )
  for (const name of leftovers) await rm(join(directory, name), { force: true })
  await syncDirectory(directory)
}

const nameOf = ({ holds, path }: KeyFile, bytes: Uint8Array): string =>
  holds === 'node' ? peerOfNodeKey(bytes) : decodePublisherKeys(bytes, path).fingerprint

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
