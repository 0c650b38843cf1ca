// `catalog init`: makes a node's home with its keys, and with its certificates: those of a network that it founds, or
// of one that it joins. It starts no daemon, asks nothing, and an interrupted one can be run again.
import { writeFile } from 'node:fs/promises'
import { CatalogError } from './base/errors.ts'
import { parseNetworkName } from './base/network-name.ts'
import { createHome, finishHome, type HomePaths } from './config/home.ts'
import { findPassphrase } from './config/passphrase.ts'
import { createFounderKeys, createHomeKeys, type HomeKeys } from './home-keys.ts'
import { type NodeKey, nodeKeyOfSeed } from './network/identity.ts'
import { decodeChain } from './trust/certificate.ts'
import { type Chain, saveChain, saveFirstRoot, saveNotices } from './trust/certificate-files.ts'
import { foundNetwork } from './trust/founding.ts'
import type { KeySecret, SecretKind } from './trust/key-encryption.ts'
import type { PublisherKeys } from './trust/keys.ts'
import { readPrivateFile } from './trust/private-file.ts'
import { decodeRoot, rootLimits } from './trust/root.ts'
import { Signer } from './trust/signer.ts'
import { importX509 } from './trust/x509-import.ts'

export interface InitOptions {
  readonly home: string
  /** The name of a new network. */
  readonly network?: string
  readonly passphraseFile?: string
  /** Keys of a new network's root, and how many of them its next version needs. */
  readonly rootKeys?: number
  readonly rootThreshold?: number
  /** A PEM file with an X.509 certificate and its Ed25519 key, which becomes the node's. */
  readonly certificate?: string
}

export interface InitResult {
  readonly home: string
  readonly peerId: string
  readonly publisher: string
  /** Fingerprint of its authority certificate, where it certifies others. */
  readonly authority?: string
  readonly network: string
  /** Fingerprint of the network's root: what names the network for ever. */
  readonly root: string
  /** What opens the keys: a passphrase, or the unlock key in the home. */
  readonly protection: 'passphrase' | 'key-file'
  readonly unlockKey?: string
  /** Where the root's keys lie, on a node that founds a network. */
  readonly rootKeys?: string
}

/** What makes a home a member, from whoever gave it. */
export interface Membership {
  readonly network: string
  readonly firstRoot: Uint8Array
  readonly node: Chain
  readonly publisher: Chain
  readonly authority?: Chain
  /** Later roots and revocation lists. */
  readonly notices: readonly Uint8Array[]
  /** Where the network is reached. */
  readonly bootstrap: readonly string[]
}

/**
 * @throws CatalogError `already-initialised`, `output-exists`, `home-not-owned`, `socket-path-too-long`,
 *   `invalid-request`, and for a passphrase that is named and cannot be had, what `findPassphrase` throws
 */
export async function initHome(options: InitOptions): Promise<InitResult> {
  const { rootKeys = 1, rootThreshold = 1, network = 'catalog' } = options
  if (
    rootKeys < 1 ||
    rootKeys > 12 ||
    rootThreshold < 1 ||
    rootThreshold > Math.min(rootKeys, rootLimits.maxThreshold)
  )
    throw new CatalogError(
      'invalid-request',
      `A root of ${rootThreshold} of ${rootKeys} keys cannot be made: there are 1 to 12 keys, and the threshold is at most their number and at most ${rootLimits.maxThreshold}.`,
    )
  return makeHome(options, async ({ paths, keys, passphrase }) => {
    const founder = await createFounderKeys(paths, passphrase, rootKeys)
    return { membership: await found(keys, founder, network, rootThreshold), rootKeys: paths.rootKeys }
  })
}

/** A home whose keys are there, and which becomes a member now. */
export interface NewHome {
  readonly paths: HomePaths
  readonly keys: HomeKeys
  readonly passphrase: KeySecret | undefined
  /** What an imported certificate calls the node. */
  readonly label?: string
}

/** The home and its keys, then whatever makes it a member; it counts only once all is there. */
export async function makeHome(
  options: Pick<InitOptions, 'home' | 'passphraseFile' | 'certificate'>,
  join: (home: NewHome) => Promise<{ membership: Membership; rootKeys?: string }>,
): Promise<InitResult> {
  const made = await makeKeys(options)
  const { paths, keys, peerId, protection, passphrase } = made
  const { membership, rootKeys } = await join(made)
  const { fingerprint: root } = decodeRoot(membership.firstRoot)
  await saveMembership(paths, membership)
  await writeFile(paths.config, configText(membership, root), { mode: 0o600, flush: true })
  await finishHome(paths)
  return {
    home: paths.home,
    network: membership.network,
    root,
    peerId,
    publisher: keys.publisherKeys.fingerprint,
    ...authorityOf(membership),
    protection,
    ...(passphrase === undefined ? { unlockKey: paths.unlockKey } : {}),
    ...(rootKeys === undefined ? {} : { rootKeys }),
  }
}

export function authorityOf({ authority }: Pick<Membership, 'authority'>): Pick<InitResult, 'authority'> {
  const [leaf] = authority === undefined ? [] : decodeChain(authority)
  return leaf === undefined ? {} : { authority: leaf.fingerprint }
}

/** A home with keys that is no member yet; made again, it is the same. */
export async function makeKeys({
  home,
  passphraseFile: flag,
  certificate,
}: Pick<InitOptions, 'home' | 'passphraseFile' | 'certificate'>): Promise<
  NewHome & { readonly peerId: string; readonly protection: SecretKind }
> {
  const passphrase = await findPassphrase({ flag, env: process.env, home })
  const imported = certificate === undefined ? undefined : await importKey(certificate)
  const paths = await createHome(home)
  const made = await createHomeKeys(paths, passphrase, imported?.key)
  return { paths, passphrase, ...made, ...(imported?.label === undefined ? {} : { label: imported.label }) }
}

/** @throws CatalogError `invalid-config`, `no-such-path`, `certificate-expired` … */
async function importKey(path: string): Promise<{ key: NodeKey; label: string | undefined }> {
  const what = `The file ${path}`
  const bytes = await readPrivateFile(path, { what, maxBytes: 64 * 1024, followLinks: true })
  if (bytes === undefined)
    throw new CatalogError('no-such-path', `There is no file ${path} with a certificate and its key.`, {
      path,
    })
  const { nodeKeySeed, label } = importX509(Buffer.from(bytes).toString('utf8'), what, Date.now())
  try {
    return { key: await nodeKeyOfSeed(nodeKeySeed), label }
  } finally {
    nodeKeySeed.fill(0)
    bytes.fill(0)
  }
}

async function found(
  keys: HomeKeys,
  founder: { readonly authority: PublisherKeys; readonly roots: readonly PublisherKeys[] },
  network: string,
  threshold: number,
): Promise<Membership> {
  const authority = new Signer({ keys: founder.authority })
  const roots = founder.roots.map(root => new Signer({ keys: root }))
  try {
    const founded = await foundNetwork(
      {
        roots,
        authority,
        node: { ed25519: keys.node.ed25519.publicKey, falcon: keys.node.falcon.publicKey },
        publisher: {
          keys: {
            ed25519: keys.publisherKeys.ed25519.publicKey,
            falcon: keys.publisherKeys.falcon.publicKey,
          },
          fingerprint: keys.publisherKeys.fingerprint,
        },
      },
      { network, threshold, now: Date.now() },
    )
    const { root, revocations, ...chains } = founded
    return { network, firstRoot: root.bytes, ...chains, notices: [revocations.bytes], bootstrap: [] }
  } finally {
    await Promise.all([authority, ...roots].map(signer => signer.stop()))
  }
}

/** Durable when it resolves: what was there is replaced. */
export async function saveMembership({ trust }: HomePaths, membership: Membership): Promise<void> {
  await saveFirstRoot(trust.firstRoot, membership.firstRoot)
  await saveNotices(trust.notices, membership.notices)
  if (membership.authority !== undefined) await saveChain(trust.authority, membership.authority)
  await saveChain(trust.publisher, membership.publisher)
  await saveChain(trust.node, membership.node)
}

function configText({ network, bootstrap }: Membership, root: string): string {
  const lines = [
    '# Settings of this node; every key and its default is in config/catalog.yaml of the sources.',
    `network: ${network}`,
    'trust:',
    "  # The fingerprint of the network's first root: it alone decides which network this is.",
    `  root: ${root}`,
  ]
  if (bootstrap.length > 0)
    lines.push(
      'bootstrap:',
      ...bootstrap.map(
        entry => `  - ${parseNetworkName(entry) === undefined ? JSON.stringify(entry) : entry}`,
      ),
    )
  return `${lines.join('\n')}\n`
}
