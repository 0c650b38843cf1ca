// What `catalog init` signs when it makes a new network: the first root, an authority that works while the root's keys
// are away, and the certificates of the node and the publisher that it is made on.
import { randomBytes } from 'node:crypto'
import {
  type Certificate,
  type CertificateGrant,
  issueCertificate,
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

export interface FoundingKeys {
  readonly roots: readonly DocumentSigner[]
  readonly authority: DocumentSigner
  readonly node: PublicKeys
  readonly publisher: { readonly keys: PublicKeys; readonly fingerprint: string }
}

export interface Founded {
  readonly root: Root
  readonly authority: Chain
  readonly node: Chain
  readonly publisher: Chain
  readonly revocations: RevocationList
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
  const issue = (
    subject: PublicKeys,
    issuer: { readonly fingerprint: string; readonly signers: readonly DocumentSigner[] },
    notAfter: number,
    grant: CertificateGrant,
  ): Promise<Certificate> => {
    const common = {
      network: root.fingerprint,
      serial: new Uint8Array(randomBytes(16)),
      critical: {},
      extensions: {},
    }
    const body = { ...common, subject, issuer: issuer.fingerprint, notBefore, notAfter, ...grant }
    return issueCertificate(body, issuer.signers)
  }
  const byRoot = { fingerprint: root.fingerprint, signers: keys.roots.slice(0, threshold) }
  const authority = await issue(keys.authority.publicKeys, byRoot, now + lifetimes.authority, {
    type: 'authority',
    maxPathLength: 1,
    issues: ['authority', 'node', 'publisher'],
    names: ['*'],
  })
  const byAuthority = { fingerprint: authority.fingerprint, signers: [keys.authority] }
  const [node, publisher] = await Promise.all([
    issue(keys.node, byAuthority, now + lifetimes.node, {
      type: 'node',
      roles: nodeRoles,
      capabilities: nodeCapabilities,
    }),
    issue(keys.publisher.keys, byAuthority, now + lifetimes.publisher, {
      type: 'publisher',
      publisher: keys.publisher.fingerprint,
      names: ['*'],
      rights: publisherRights,
    }),
  ])
  const revocations = await signRevocations(
    {
      type: 'revocations',
      network: root.fingerprint,
      issuer: authority.fingerprint,
      sequence: 1,
      issuedAt: now,
      expiresAt: now + revocationLifetimeMs,
      revoked: [],
      chain: [authority.bytes],
    },
    keys.authority,
  )
  return {
    root,
    authority: [authority.bytes],
    node: [node.bytes, authority.bytes],
    publisher: [publisher.bytes, authority.bytes],
    revocations,
  }
}
