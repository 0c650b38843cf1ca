// Members of one network without waiting for daemons: a home is founded as `catalog init` does it, and others get
// their certificates from its authority's key, as it would issue them to who redeems an invite. Joining by invite is
// tested on its own (joining.test.ts). Whoever holds a certificate can be made to issue any other, allowed or not.
import { randomBytes } from 'node:crypto'
import { encodeCbor } from '../../src/base/cbor.ts'
import { silentLog } from '../../src/base/log.ts'
import { homePaths } from '../../src/config/home.ts'
import { openHomeKeys } from '../../src/home-keys.ts'
import { type InitResult, initHome, makeHome } from '../../src/init.ts'
import type { Admissions } from '../../src/network/admission.ts'
import {
  type Certificate,
  type CertificateGrant,
  decodeChain,
  issueCertificate,
  nodeCapabilities,
  nodeRoles,
  publisherRights,
} from '../../src/trust/certificate.ts'
import { type Chain, loadChain, loadFirstRoot, loadNotices } from '../../src/trust/certificate-files.ts'
import type { PublicKeys } from '../../src/trust/fields.ts'
import { issuedBeforeMs } from '../../src/trust/founding.ts'
import type { PublisherKeys } from '../../src/trust/keys.ts'
import { type RevocationBody, type RevocationList, signRevocations } from '../../src/trust/revocation-list.ts'
import { Signer } from '../../src/trust/signer.ts'
import { everybody } from '../network/admissions.ts'

const dayMs = 24 * 3600 * 1000

export interface Grants {
  /** Default: every name, so that any node of a test may publish. */
  readonly names?: readonly string[]
  readonly capabilities?: typeof nodeCapabilities
  readonly notBefore?: number
  readonly notAfter?: number
}

/** A home that founded a network, and the notices that it had before its daemon took them over. */
export interface Founder {
  readonly home: string
  readonly notices: readonly Uint8Array[]
}

export async function found(home: string, network: string): Promise<Founder> {
  await initHome({ home, network })
  return { home, notices: await loadNotices(homePaths(home).trust.notices) }
}

export async function makeMember(
  home: string,
  { founder, network, ...grants }: { founder: Founder; network: string } & Grants,
): Promise<InitResult> {
  const firstRoot = await loadFirstRoot(homePaths(founder.home).trust.firstRoot)
  if (firstRoot === undefined) throw new Error(`${founder.home} did not found a network`)
  const { notices } = founder
  return withHolder(founder.home, 'authority', authority =>
    makeHome({ home }, async ({ keys: { node, publisherKeys } }) => ({
      membership: {
        ...{ network, firstRoot, notices },
        node: await authority.issue(publicKeysOf(node), nodeGrant(grants.capabilities), grants),
        publisher: await authority.issue(
          publicKeysOf(publisherKeys),
          publisherGrant(publisherKeys.fingerprint, grants.names),
          grants,
        ),
        bootstrap: [],
      },
    })),
  )
}

export const nodeGrant = (capabilities = nodeCapabilities): CertificateGrant => ({
  type: 'node',
  roles: nodeRoles,
  capabilities,
})

export const publisherGrant = (publisher: string, names: readonly string[] = ['*']): CertificateGrant => ({
  ...{ type: 'publisher', publisher, names },
  rights: publisherRights,
})

/** What may be told otherwise than it is. */
export interface Changes {
  readonly notBefore?: number
  readonly notAfter?: number
  /** Root fingerprint of another network. */
  readonly network?: string
}

/** Somebody with keys and a certificate, who signs whatever is asked for. */
export interface Holder {
  readonly signer: Signer
  readonly chain: Chain
  readonly certificate: Certificate
  /** A chain whose leaf is for the subject, signed by this holder whether it may issue or not. */
  issue(subject: PublicKeys, grant: CertificateGrant, changes?: Changes): Promise<Chain>
  /** A revocation list by this holder. */
  revoke(changes: Partial<RevocationBody> & Pick<RevocationBody, 'sequence'>): Promise<RevocationList>
}

export async function withHolder<T>(
  home: string,
  who: 'authority' | 'node' | 'publisher',
  use: (holder: Holder) => Promise<T>,
): Promise<T> {
  const { trust } = homePaths(home)
  const [keys, chain] = await Promise.all([keysOf(home), loadChain(trust[who])])
  const own = { authority: keys.authority, node: keys.node, publisher: keys.publisherKeys }[who]
  if (own === undefined || chain === undefined) throw new Error(`${home} has no ${who} with a certificate`)
  const signer = new Signer({ keys: own })
  try {
    return await use(holder(signer, chain))
  } finally {
    await signer.stop()
  }
}

function holder(signer: Signer, chain: Chain): Holder {
  const certificate = decodeChain(chain)[0] as Certificate
  return {
    ...{ signer, chain, certificate },
    issue: async (subject, grant, changes = {}) => {
      const { notBefore = Date.now() - issuedBeforeMs, notAfter = Date.now() + 90 * dayMs } = changes
      const common = { serial: new Uint8Array(randomBytes(16)), critical: {}, extensions: {} }
      const network = changes.network ?? certificate.network
      const body = {
        ...common,
        network,
        subject,
        issuer: certificate.fingerprint,
        notBefore,
        notAfter,
        ...grant,
      }
      return [(await issueCertificate(body, [signer])).bytes, ...chain]
    },
    revoke: changes =>
      signRevocations(
        {
          ...{ type: 'revocations', network: certificate.network, issuer: certificate.fingerprint },
          ...{ issuedAt: Date.now(), expiresAt: Date.now() + 30 * dayMs, revoked: [], chain },
          ...changes,
        },
        signer,
      ),
  }
}

export const keysOf = (home: string) => openHomeKeys(homePaths(home), undefined, silentLog)

/** What a program of its own needs to be the member whose home this is; it admits whoever shows something. */
export async function membershipOf(
  home: string,
): Promise<{ privateKey: Uint8Array; admissions: Admissions }> {
  const [{ nodeKey }, chain] = await Promise.all([keysOf(home), loadChain(homePaths(home).trust.node)])
  const credential = encodeCbor({ v: 1, chain: chain ?? [], roots: [] })
  return { privateKey: nodeKey, admissions: { ...everybody, credential: () => credential } }
}

export const publicKeysOf = ({ ed25519, falcon }: Pick<PublisherKeys, 'ed25519' | 'falcon'>): PublicKeys => ({
  ed25519: ed25519.publicKey,
  falcon: falcon.publicKey,
})
