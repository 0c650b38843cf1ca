// How `catalog init` makes a home a member of a network that exists by an invite, over the network; a home whose
// certificates have lapsed comes back by a new one. By files: join-by-file.ts, with what both need from here.
import { readFile } from 'node:fs/promises'
import { CatalogError, isCatalogError } from './base/errors.ts'
import type { CallOptions } from './base/lifecycle.ts'
import { silentLog } from './base/log.ts'
import { type HomePaths, openHome } from './config/home.ts'
import { lockHome } from './config/home-lock.ts'
import { type HomeKeys, openHomeKeys, passphraseOf } from './home-keys.ts'
import {
  authorityOf,
  type InitOptions,
  type InitResult,
  type Membership,
  makeHome,
  saveMembership,
} from './init.ts'
import { lookUpBy, redeemInvite } from './membership/redeem-invite.ts'
import type { Admissions } from './network/admission.ts'
import { DnsNames } from './network/dns.ts'
import { type NodeKey, peerOfNodeKey } from './network/identity.ts'
import { Libp2pHost } from './network/libp2p-host.ts'
import { finishRotation } from './next-publisher-keys.ts'
import { decodeInvite, type Invite } from './trust/invite.ts'
import type { Joined } from './trust/joined.ts'
import type { KeySecret } from './trust/key-encryption.ts'
import type { PublisherKeys } from './trust/keys.ts'
import type { RequestSigners } from './trust/request.ts'
import { decodeRoot } from './trust/root.ts'
import { Signer } from './trust/signer.ts'
import { Verifier } from './trust/verifier.ts'

export interface JoinOptions
  extends Pick<InitOptions, 'home' | 'passphraseFile' | 'certificate'>,
    CallOptions {
  readonly label?: string | undefined
}

/**
 * `catalog init --join INVITE`.
 * @throws CatalogError as `initHome`, and `invite-…`, `peer-unreachable`, `root-not-trusted`, `certificate-…`
 */
export async function joinByInvite(options: JoinOptions & { readonly invite: string }): Promise<InitResult> {
  const invite = decodeInvite(options.invite)
  try {
    return await makeHome(options, async ({ keys, label }) => {
      const joined = await redeem(invite, keys, { ...options, label: options.label ?? label })
      return { membership: membershipOf(joined, invite) }
    })
  } catch (error) {
    if (!isCatalogError(error, 'already-initialised')) throw error
    return rejoin(invite, options, error)
  }
}

/** New certificates for a home that is of the same network. */
function rejoin(invite: Invite, options: JoinOptions, refusal: CatalogError): Promise<InitResult> {
  return inHome(options, invite.root, refusal, async ({ paths, keys, passphrase }) => {
    const membership = membershipOf(await redeem(invite, keys, options), invite)
    await saveMembership(paths, membership)
    return made(paths, keys, membership, passphrase)
  })
}

export interface OpenedHome {
  readonly paths: HomePaths
  readonly keys: HomeKeys
  readonly passphrase: KeySecret | undefined
  readonly root: string
}

/** With a home that is of this network (of any, where it is undefined) and that no daemon runs on. */
export async function inHome<T>(
  options: Pick<JoinOptions, 'home' | 'passphraseFile'>,
  network: string | undefined,
  refusal: CatalogError,
  use: (home: OpenedHome) => Promise<T>,
): Promise<T> {
  const paths = await openHome(options.home)
  const firstRoot = await readFile(paths.trust.firstRoot).catch(() => undefined)
  const root = firstRoot === undefined ? undefined : decodeRoot(new Uint8Array(firstRoot)).fingerprint
  if (root === undefined || (network !== undefined && root !== network)) throw refusal
  const lock = await lockHome(paths)
  try {
    const passphrase = await passphraseOf(paths, options.passphraseFile)
    await finishRotation(paths, silentLog)
    const keys = await openHomeKeys(paths, passphrase, silentLog)
    return await use({ paths, keys, passphrase, root })
  } finally {
    await lock.release()
  }
}

export const made = (
  paths: HomePaths,
  keys: HomeKeys,
  membership: Membership,
  passphrase: KeySecret | undefined,
): InitResult => ({
  home: paths.home,
  network: membership.network,
  root: decodeRoot(membership.firstRoot).fingerprint,
  peerId: peerOfNodeKey(keys.nodeKey),
  publisher: keys.publisherKeys.fingerprint,
  ...authorityOf(membership),
  protection: passphrase === undefined ? 'key-file' : 'passphrase',
})

export function membershipOf(
  joined: Joined,
  { network, addresses, name }: Pick<Invite, 'network' | 'addresses' | 'name'>,
): Membership {
  const [firstRoot, ...later] = joined.roots
  if (firstRoot === undefined) throw new CatalogError('root-not-trusted', "The network's root is missing.")
  const { node, publisher, authority, revocations } = joined
  return {
    ...{ network, firstRoot, node, publisher },
    ...(authority === undefined ? {} : { authority }),
    notices: [...later, ...revocations],
    bootstrap: [...addresses, ...(name === undefined ? [] : [name])],
  }
}

export interface JoiningKeys {
  readonly nodeKey: NodeKey
  readonly node: PublisherKeys
  readonly publisherKeys: PublisherKeys
  /** Of a node that is to be an authority. */
  readonly authority?: PublisherKeys | undefined
}

async function redeem(invite: Invite, keys: JoiningKeys, options: JoinOptions): Promise<Joined> {
  const host = new Libp2pHost(
    { privateKey: keys.nodeKey, admissions: stranger, log: silentLog },
    { network: invite.network, listen: [] },
  )
  const dns = new DnsNames({ log: silentLog })
  await host.start()
  try {
    return await withSigners(keys, (signers, verifier) =>
      redeemInvite(host, invite, signers, {
        signal: options.signal,
        label: options.label,
        check: check => verifier.check(check),
        now: Date.now,
        lookUp: lookUpBy(dns),
      }),
    )
  } finally {
    await Promise.all([host.stop(), dns.stop()])
  }
}

/** Who has no certificate yet shows none and admits nobody. */
const stranger: Admissions = {
  credential() {
    throw new CatalogError('not-a-member', 'This node is about to join.')
  },
  admit: async () => {
    throw new CatalogError('not-a-member', 'This node is about to join.')
  },
}

export async function withSigners<T>(
  { node, publisherKeys, authority }: Omit<JoiningKeys, 'nodeKey'>,
  use: (signers: RequestSigners, verifier: Verifier) => Promise<T>,
): Promise<T> {
  const signers = {
    node: new Signer({ keys: node }),
    publisher: new Signer({ keys: publisherKeys }),
    ...(authority === undefined ? {} : { authority: new Signer({ keys: authority }) }),
  }
  const verifier = new Verifier({ proveStatement: async () => undefined })
  try {
    return await use(signers, verifier)
  } finally {
    await Promise.all([...Object.values(signers), verifier].map(part => part.stop()))
  }
}
