// `catalog init`: makes a node's home with its keys. It starts nothing, asks nothing, and an interrupted one can be
// run again.
import { writeFile } from 'node:fs/promises'
import { createHome, finishHome } from './config/home.ts'
import { findPassphrase } from './config/passphrase.ts'
import { createHomeKeys } from './home-keys.ts'

export interface InitResult {
  readonly home: string
  readonly peerId: string
  readonly publisher: string
  readonly network: string
  /** What opens the keys: a passphrase, or the unlock key in the home. */
  readonly protection: 'passphrase' | 'key-file'
  readonly unlockKey?: string
}

/**
 * @throws CatalogError `already-initialised`, `output-exists`, `home-not-owned`, `socket-path-too-long`, and for a
 *   passphrase that is named and cannot be had, what `findPassphrase` throws
 */
export async function initHome(options: {
  readonly home: string
  readonly network?: string
  readonly passphraseFile?: string
}): Promise<InitResult> {
  const { home, passphraseFile: flag } = options
  const passphrase = await findPassphrase({ flag, env: process.env, home })
  const paths = await createHome(home)
  const keys = await createHomeKeys(paths, passphrase)
  const network = options.network ?? 'catalog'
  const config = `# Settings of this node; every key and its default is in config/catalog.yaml of the sources.\nnetwork: ${network}\n`
  await writeFile(paths.config, config, { mode: 0o600, flush: true })
  await finishHome(paths)
  const unlockKey = passphrase === undefined ? { unlockKey: paths.unlockKey } : {}
  return { home: paths.home, network, ...keys, ...unlockKey }
}
