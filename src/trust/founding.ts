// What `catalog init` signs when it makes a new network: the first root, an authority that works while the root's keys
// are away, and the certificates of the node and the publisher that it is made on.
import { randomBytes } from 'node:crypto'
import {
  type AuthorityGrant,
  type CertificateGrant,
  issueCertificate,
  leafOf,
  nodeCapabilities,
  nodeRoles,
  publisherRights,
} from './certificate.ts'
import type { Chain } from './certificate-files.ts'
import type { DocumentSigner } from './document.ts'
import type { PublicKeys } from './fields.ts'
import { type RevocationList, revocationLifetimeMs, signRevocations } from './revocation-list.ts'
import { type Root, signRoot } from './root.ts'

const dayMs = 24 * 3600 * 1000

/** How long certificates last, in milliseconds; an issuer never gives more than it has left. */
export const lifetimes = {
  // Whoever holds the keys of a root lives for years with them, and a root in time makes the next one.
  root: 20 * 365 * dayMs,
  authority: 3 * 365 * dayMs,
  // Renews itself when a third is left: a node that is away for two months comes back as a member.
  node: 90 * dayMs,
  publisher: 365 * dayMs,
} as const

/** Clocks differ: what was just issued already holds on a node that is a little behind. */
export const issuedBeforeMs = 5 * 60 * 1000

/** What an authority directly below the root may do: everything, and make authorities that make none. */
export const rootGrant: AuthorityGrant = {
  type: 'authority',
  maxPathLength: 1,
  issues: ['authority', 'node', 'publisher'],
  names: ['*'],
}

/** Of the node that an authority runs on. */
export interface OwnKeys {
  readonly node: PublicKeys
  readonly publisher: { readonly keys: PublicKeys; readonly fingerprint: string }
}

export interface FoundingKeys extends OwnKeys {
  readonly roots: readonly DocumentSigner[]
  readonly authority: DocumentSigner
}

/** What an authority signs before its daemon runs: its own node's certificates, and its first revocation list. */
export interface OwnCertified {
  readonly node: Chain
  readonly publisher: Chain
  readonly revocations: RevocationList
}

export interface Founded extends OwnCertified {
  readonly root: Root
  readonly authority: Chain
}

/** `threshold` of the root's keys are needed for its next version. The publisher holds every name. */
export async function foundNetwork(
  keys: FoundingKeys,
  { network, threshold, now }: { readonly network: string; readonly threshold: number; readonly now: number },
): Promise<Founded> {
  const notBefore = now - issuedBeforeMs
  const root = await signRoot(
    {
      type: 'root',
      network,
      version: 1,
      keys: keys.roots.map(({ publicKeys }) => publicKeys),
      threshold,
      notBefore,
      notAfter: now + lifetimes.root,
      carried: [],
      revoked: [],
    },
    keys.roots,
  )
  const authority = await issueCertificate(
    bodyOf(root.fingerprint, root.fingerprint, keys.authority.publicKeys, rootGrant, {
      notBefore,
      notAfter: now + lifetimes.authority,
    }),
    keys.roots.slice(0, threshold),
  )
  const chain = [authority.bytes]
  const own = await certifyOwn({ chain, signer: keys.authority }, keys, { names: ['*'], now })
  return { root, authority: chain, ...own }
}

/** What an authority gives its own node, as long as it gives anybody. `chain`: the authority's, leaf first. */
export async function certifyOwn(
  { chain, signer }: { readonly chain: Chain; readonly signer: DocumentSigner },
  { node, publisher }: OwnKeys,
  { names, now }: { readonly names: readonly string[]; readonly now: number },
): Promise<OwnCertified> {
  const authority = leafOf(chain)
  const { network, fingerprint: issuer, notAfter: end } = authority
  const issue = async (subject: PublicKeys, grant: CertificateGrant): Promise<Chain> => {
    const validity = {
      notBefore: now - issuedBeforeMs,
      notAfter: Math.min(now + lifetimes[grant.type], end),
    }
    const body = bodyOf(network, issuer, subject, grant, validity)
    return [(await issueCertificate(body, [signer])).bytes, ...chain]
  }
  const [nodeChain, publisherChain, revocations] = await Promise.all([
    issue(node, { type: 'node', roles: nodeRoles, capabilities: nodeCapabilities }),
    issue(publisher.keys, {
      ...{ type: 'publisher', publisher: publisher.fingerprint },
      ...{ names, rights: publisherRights },
    }),
    signRevocations(
      {
        ...{ type: 'revocations', network, issuer, sequence: 1 },
        ...{ issuedAt: now, expiresAt: now + revocationLifetimeMs, revoked: [], chain },
      },
      signer,
    ),
  ])
  return { node: nodeChain, publisher: publisherChain, revocations }
}

const bodyOf = (
  network: string,
  issuer: string,
  subject: PublicKeys,
  grant: CertificateGrant,
  validity: { readonly notBefore: number; readonly notAfter: number },
) => ({
  ...{ network, issuer, subject, serial: new Uint8Array(randomBytes(16)) },
  ...{ critical: {}, extensions: {} },
  ...validity,
  ...grant,
})
