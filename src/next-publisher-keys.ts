// The publisher's next keys on disk, from the moment they are made until they are in use: prepared beside the present
// ones, then put in their place together with the certificate for them. Whatever a crash interrupts, the home works: the
// present keys with their certificate, or the next ones with theirs. A part of the composition root.
//
//   keys/publisher-next.key      made; the authority may have certified it
//   trust/publisher-next.chain   certified: from here on the next keys are taken up, at the next start at the latest
import { rename, rm } from 'node:fs/promises'
import { dirname, join } from 'node:path'
import { CatalogError, isCatalogError } from './base/errors.ts'
import type { Log } from './base/log.ts'
import type { HomePaths } from './config/home.ts'
import { decodeChain } from './trust/certificate.ts'
import { type Chain, loadChain, saveChain } from './trust/certificate-files.ts'
import { subjectOf } from './trust/chain.ts'
import type { KeySecret } from './trust/key-encryption.ts'
import { KeyFile, type KeySecrets } from './trust/key-file.ts'
import {
  decodePublisherKeys,
  generatePublisherKeys,
  loadPublisherKeys,
  type PublisherKeys,
  savePublisherKeys,
} from './trust/keys.ts'
import { syncDirectory } from './trust/private-file.ts'

/** In the directory of the keys. */
export const nextPublisherKey = 'publisher-next.key'
const nextChainOf = ({ trust }: HomePaths): string => join(trust.directory, 'publisher-next.chain')
const keyPath = ({ keys }: HomePaths, which: 'publisher.key' | typeof nextPublisherKey): string =>
  join(keys, which)

export class NextPublisherKeys {
  readonly #secret: KeySecret | undefined
  readonly #paths: HomePaths

  /** `secret`: what the keys of the home are under; absent where they are plain. */
  constructor(deps: { readonly secret: KeySecret | undefined }, options: { readonly paths: HomePaths }) {
    this.#secret = deps.secret
    this.#paths = options.paths
  }

  async pending(): Promise<boolean> {
    return (await this.#file(nextPublisherKey).inspect()) !== undefined
  }

  /**
   * Those that lie there already, or new ones; durable when it resolves.
   * @throws CatalogError `wrong-passphrase` (the keys were put under another secret since the node started), `no-space`
   */
  async prepare(): Promise<PublisherKeys> {
    await this.#checkSecret()
    const file = this.#file(nextPublisherKey)
    try {
      return await loadPublisherKeys(file)
    } catch (error) {
      if (!isCatalogError(error, 'not-initialised')) throw error
    }
    const keys = await generatePublisherKeys()
    await savePublisherKeys(file, keys, this.#secret)
    return keys
  }

  /** The prepared keys in the place of the present ones, which are gone then. Durable when it resolves. */
  async commit(chain: Chain): Promise<void> {
    await saveChain(nextChainOf(this.#paths), chain)
    await takeKey(this.#paths)
    await takeChain(this.#paths)
  }

  async discard(): Promise<void> {
    await rm(keyPath(this.#paths, nextPublisherKey), { force: true })
    await syncDirectory(this.#paths.keys)
  }

  /** After a restart the present secret is all there is: what it cannot open would be lost. */
  async #checkSecret(): Promise<void> {
    const present = this.#file('publisher.key')
    const protection = (await present.inspect())?.protection
    const fits = this.#secret === undefined ? protection === 'none' : await present.opensWith(this.#secret)
    if (!fits)
      throw new CatalogError(
        'wrong-passphrase',
        'The keys were not rotated: since this node started they were put under another secret (`catalog keys`), which it does not know. Restart the node, then try again.',
      )
  }

  #file(which: 'publisher.key' | typeof nextPublisherKey): KeyFile {
    const secret = this.#secret
    const secrets: KeySecrets = {
      async find(_kind, what) {
        if (secret !== undefined) return secret
        throw new CatalogError(
          'passphrase-needed',
          `${what} is encrypted, and the other keys of this home are not.`,
        )
      },
    }
    return new KeyFile({ secrets }, { path: keyPath(this.#paths, which), holds: 'publisher' })
  }
}

/** Completes what a crash interrupted between the certificate and its use: before the home's keys are opened. */
export async function finishRotation(paths: HomePaths, log: Log): Promise<void> {
  const path = nextChainOf(paths)
  const chain = await loadChain(path)
  const [leaf] = chain === undefined ? [] : decodeChain(chain)
  if (leaf === undefined) return
  const keys = subjectOf(leaf)
  if ((await keysIn(keyPath(paths, nextPublisherKey))) === keys) await takeKey(paths)
  if ((await keysIn(keyPath(paths, 'publisher.key'))) === keys) {
    await takeChain(paths)
    log.info({ keys }, 'the rotation of the publisher keys that was interrupted is complete')
    return
  }
  await rm(path, { force: true })
  log.warn({ keys }, 'a certificate for new publisher keys was dropped: the keys are not here')
}

async function takeKey(paths: HomePaths): Promise<void> {
  await rename(keyPath(paths, nextPublisherKey), keyPath(paths, 'publisher.key'))
  await syncDirectory(paths.keys)
}

async function takeChain(paths: HomePaths): Promise<void> {
  await rename(nextChainOf(paths), paths.trust.publisher)
  await syncDirectory(dirname(paths.trust.publisher))
}

/** The fingerprint of the keys in a file, which an encrypted one tells as well. */
async function keysIn(path: string): Promise<string | undefined> {
  const secrets: KeySecrets = { find: () => Promise.reject(new TypeError('a plain file needs no secret')) }
  const file = new KeyFile({ secrets }, { path, holds: 'publisher' })
  const found = await file.inspect()
  if (found === undefined || found.name !== undefined) return found?.name
  const stored = await file.read()
  if (stored === undefined) return undefined
  try {
    return decodePublisherKeys(stored.bytes, path).fingerprint
  } finally {
    stored.bytes.fill(0)
  }
}
