// `catalog init`: makes a node's home with its keys. It starts nothing, asks nothing, and an interrupted one can be
// run again.
import { writeFile } from 'node:fs/promises'
import { join } from 'node:path'
import { isCatalogError } from './base/errors.ts'
import { createHome, finishHome, type HomePaths } from './config/home.ts'
import { loadOrCreateNodeKey, peerOfNodeKey } from './network/identity.ts'
import { generatePublisherKeys, loadPublisherKeys, savePublisherKeys } from './trust/keys.ts'

/** Where a home keeps its secrets; each file is 0600. */
export const keyPaths = ({ keys }: HomePaths) => ({
  node: join(keys, 'node.key'),
  publisher: join(keys, 'publisher.key'),
})

export interface InitResult {
  readonly home: string
  readonly peerId: string
  readonly publisher: string
  readonly network: string
}

/** @throws CatalogError `already-initialised`, `output-exists`, `home-not-owned`, `socket-path-too-long` */
export async function initHome(options: {
  readonly home: string
  readonly network?: string
}): Promise<InitResult> {
  const paths = await createHome(options.home)
  const keys = keyPaths(paths)
  const peerId = peerOfNodeKey(await loadOrCreateNodeKey(keys.node))
  const publisher = await publisherKeys(keys.publisher)
  const network = options.network ?? 'catalog'
  const config = `# Settings of this node; every key and its default is in config/catalog.yaml of the sources.\nnetwork: ${network}\n`
  await writeFile(paths.config, config, { mode: 0o600, flush: true })
  await finishHome(paths)
  return { home: paths.home, peerId, publisher, network }
}

async function publisherKeys(path: string): Promise<string> {
  try {
    return (await loadPublisherKeys(path)).fingerprint
  } catch (error) {
    if (!isCatalogError(error, 'not-initialised')) throw error
  }
  const keys = await generatePublisherKeys()
  await savePublisherKeys(path, keys)
  return keys.fingerprint
}
