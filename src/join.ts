// The ways in which `catalog init` makes a home a member of a network that exists: by an invite, over the network; or
// by files, where the node cannot connect: it writes a request, an authority answers it, and the answer completes it.
// A home whose certificates have lapsed comes back by a new invite.
import { readFile, stat, writeFile } from 'node:fs/promises'
import { CatalogError, isCatalogError } from './base/errors.ts'
import type { CallOptions } from './base/lifecycle.ts'
import { silentLog } from './base/log.ts'
import { openHome } from './config/home.ts'
import { lockHome } from './config/home-lock.ts'
import { createAuthorityKeys, openAuthorityKeys, openHomeKeys, passphraseOf } from './home-keys.ts'
import {
  type InitOptions,
  type InitResult,
  type Membership,
  makeHome,
  makeKeys,
  saveMembership,
} from './init.ts'
import { lookUpBy, redeemInvite } from './membership/redeem-invite.ts'
import type { Admissions } from './network/admission.ts'
import { DnsNames } from './network/dns.ts'
import { type NodeKey, peerOfNodeKey } from './network/identity.ts'
import { Libp2pHost } from './network/libp2p-host.ts'
import { finishRotation } from './next-publisher-keys.ts'
import { decodeInvite, type Invite } from './trust/invite.ts'
import { type Joined, proveJoined } from './trust/joined.ts'
import type { PublisherKeys } from './trust/keys.ts'
import { decodeMembershipFile, encodeRequest, type RequestSigners } from './trust/request.ts'
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
async function rejoin(invite: Invite, options: JoinOptions, refusal: CatalogError): Promise<InitResult> {
  const paths = await openHome(options.home)
  const firstRoot = await readFile(paths.trust.firstRoot).catch(() => undefined)
  if (firstRoot === undefined || decodeRoot(new Uint8Array(firstRoot)).fingerprint !== invite.root)
    throw refusal
  const lock = await lockHome(paths)
  try {
    const passphrase = await passphraseOf(paths, options.passphraseFile)
    await finishRotation(paths, silentLog)
    const keys = await openHomeKeys(paths, passphrase, silentLog)
    await saveMembership(paths, membershipOf(await redeem(invite, keys, options), invite))
    return {
      home: paths.home,
      network: invite.network,
      root: invite.root,
      peerId: peerOfNodeKey(keys.nodeKey),
      publisher: keys.publisherKeys.fingerprint,
      protection: passphrase === undefined ? 'key-file' : 'passphrase',
    }
  } finally {
    await lock.release()
  }
}

function membershipOf(
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

interface JoiningKeys {
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

async function withSigners<T>(
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

/**
 * `catalog init --request FILE`: the keys, and the file that an authority answers with `catalog trust issue`.
 * @throws CatalogError as `initHome`, `output-exists`
 */
export async function requestMembership(
  options: JoinOptions & {
    readonly request: string
    /** The node is to be an authority. */
    readonly authority?: boolean
  },
): Promise<{ home: string; peerId: string; publisher: string; request: string }> {
  const { paths, keys: made, peerId, label, passphrase } = await makeKeys(options)
  const keys =
    options.authority === true ? { ...made, authority: await createAuthorityKeys(paths, passphrase) } : made
  const about = { label: options.label ?? label, time: Date.now() }
  const text = await withSigners(keys, signers => encodeRequest(about, signers))
  await writeFile(options.request, text, { flag: 'wx', flush: true }).catch(
    (error: NodeJS.ErrnoException) => {
      if (error.code !== 'EEXIST') throw error
      throw new CatalogError(
        'output-exists',
        `The request was not written: ${options.request} exists. Name another file, or move it away.`,
        { path: options.request },
      )
    },
  )
  return { home: paths.home, peerId, publisher: keys.publisherKeys.fingerprint, request: options.request }
}

/**
 * `catalog init --membership FILE`: completes a home by the answer to its request. The file is believed for the root
 * fingerprint that was given beside it, or else for what it says: then it must come from a trusted hand.
 * @throws CatalogError as `initHome`, `certificate-…`, `root-not-trusted`
 */
export async function joinByFile(
  options: JoinOptions & { readonly membership: string; readonly root?: string },
): Promise<InitResult> {
  const joined = decodeMembershipFile(await readSmallFile(options.membership))
  const firstRoot = decodeRoot(joined.roots[0] ?? new Uint8Array())
  return makeHome(options, async ({ keys, paths, passphrase }) => {
    const authorityKeys = await openAuthorityKeys(paths, passphrase)
    await withSigners({ ...keys, authority: authorityKeys }, ({ node, publisher, authority }, verifier) =>
      proveJoined(
        joined,
        options.root ?? firstRoot.fingerprint,
        { node: node.publicKeys, publisher: publisher.publicKeys, authority: authority?.publicKeys },
        { check: check => verifier.check(check), now: Date.now },
      ),
    )
    return { membership: membershipOf(joined, { network: firstRoot.network, addresses: [] }) }
  })
}

const maxFileBytes = 2 * 1024 * 1024

async function readSmallFile(path: string): Promise<string> {
  const found = await stat(path).catch(() => undefined)
  if (found === undefined) throw new CatalogError('no-such-path', `There is no file ${path}.`, { path })
  if (found.size > maxFileBytes)
    throw new CatalogError('too-large', `${path} is ${found.size} bytes, too large for what it should be.`, {
      path,
    })
  return readFile(path, 'utf8')
}
