// A network made of certificates alone, signed with the test keys of the golden file: what the tests of trust/ share.
import { readFileSync } from 'node:fs'
import { silentLog } from '../../src/base/log.ts'
import {
  type AuthorityGrant,
  type Certificate,
  type CertificateBody,
  type CertificateGrant,
  issueCertificate,
  type NodeGrant,
  type PublisherGrant,
} from '../../src/trust/certificate.ts'
import type { DocumentSigner } from '../../src/trust/document.ts'
import { ed25519 } from '../../src/trust/ed25519-scheme.ts'
import { falcon } from '../../src/trust/falcon-scheme.ts'
import { type PublisherKeys, publisherFingerprint } from '../../src/trust/keys.ts'
import { type RevocationBody, type RevocationList, signRevocations } from '../../src/trust/revocation-list.ts'
import { decodeRoot, type Root, type RootBody, signRoot } from '../../src/trust/root.ts'
import { faultySignature } from '../../src/trust/signature-check.ts'
import { type Notices, TrustChain } from '../../src/trust/trust-chain.ts'

export const holders = [
  'root-1',
  'root-2',
  'root-3',
  'root-4',
  'root-5',
  'authority',
  'region',
  'node',
  'publisher',
  'delegate',
  'stranger',
] as const
export type Holder = (typeof holders)[number]

export interface Golden {
  readonly keys: Readonly<Record<Holder, { readonly ed25519: string; readonly falcon: string }>>
  readonly documents: Readonly<
    Record<
      string,
      {
        readonly fingerprint: string
        readonly messagesSha256: Readonly<Record<string, string>>
        readonly bytes: string
      }
    >
  >
}

export const golden = JSON.parse(
  readFileSync(new URL('../vectors/trust-v1.json', import.meta.url), 'utf8'),
) as Golden

export const day = 24 * 3600 * 1000
/** 2026-11-22T00:00:00Z: every test's now, wherever it runs. */
export const now = 1_795_305_600_000

/** What the node's store does for the trust chain: one record under each key, in the order of keys. */
export class MemoryNotices implements Notices {
  readonly kept = new Map<string, Uint8Array>()

  async putNotice(key: string, _: string, bytes: Uint8Array): Promise<void> {
    this.kept.set(key, bytes.slice())
  }

  async notice(key: string): Promise<Uint8Array | undefined> {
    return this.kept.get(key)
  }

  async *notices(prefix: string): AsyncIterable<{ key: string; bytes: Uint8Array }> {
    for (const key of [...this.kept.keys()].sort())
      if (key.startsWith(prefix)) yield { key, bytes: this.kept.get(key) as Uint8Array }
  }
}

/** Holds both secret keys and signs on this thread. */
export class TestSigner implements DocumentSigner {
  readonly keys: PublisherKeys

  constructor(secret: { readonly ed25519: string; readonly falcon: string }) {
    const pair = (scheme: typeof ed25519, text: string) => {
      const secretKey = new Uint8Array(Buffer.from(text, 'base64'))
      const publicKey = scheme.publicKeyOf(secretKey)
      if (publicKey === undefined) throw new Error('the golden file has a key that is none')
      return { publicKey, secretKey }
    }
    const [classical, quantumSafe] = [pair(ed25519, secret.ed25519), pair(falcon, secret.falcon)]
    const fingerprint = publisherFingerprint(classical.publicKey, quantumSafe.publicKey)
    this.keys = { ed25519: classical, falcon: quantumSafe, fingerprint }
  }

  get fingerprint(): string {
    return this.keys.fingerprint
  }

  get publicKeys() {
    return { ed25519: this.keys.ed25519.publicKey, falcon: this.keys.falcon.publicKey }
  }

  async sign(message: Uint8Array) {
    return [
      { signature: ed25519.sign(message, this.keys.ed25519.secretKey) },
      { signature: falcon.sign(message, this.keys.falcon.secretKey) },
    ]
  }
}

export const signers = Object.fromEntries(
  holders.map(name => [name, new TestSigner(golden.keys[name])]),
) as Readonly<Record<Holder, TestSigner>>

export const keysOf = (holder: Holder) => signers[holder].publicKeys
export const idOf = (holder: Holder) => signers[holder].fingerprint

export const bytesOf = (document: string): Uint8Array =>
  new Uint8Array(Buffer.from(golden.documents[document]?.bytes ?? '', 'base64'))

/** Root 1 to 3, two of which are needed; lives for ten years. */
export const goldenRoot: Root = decodeRoot(bytesOf('root-1'))
export const network = goldenRoot.fingerprint

let serials = 0
/** Not random: a failure can be played again. */
function serial(): Uint8Array {
  const bytes = new Uint8Array(16)
  new DataView(bytes.buffer).setUint32(12, ++serials)
  return bytes
}

export type Changes<G extends CertificateGrant> = Partial<CertificateBody<G>>

const bodyOf = <G extends CertificateGrant>(
  issuer: { readonly fingerprint: string } | undefined,
  grant: G,
  changes: Changes<G>,
): CertificateBody<G> =>
  ({
    network,
    serial: serial(),
    subject: keysOf('stranger'),
    issuer: issuer?.fingerprint ?? network,
    notBefore: now - day,
    notAfter: now + 90 * day,
    critical: {},
    extensions: {},
    ...grant,
    ...changes,
  }) as CertificateBody<G>

/** Signed by root 1 and 2, or by whoever is named. */
export const authority = (
  changes: Changes<AuthorityGrant> = {},
  by: readonly Holder[] = ['root-1', 'root-2'],
  issuer?: Certificate,
): Promise<Certificate<AuthorityGrant>> =>
  issueCertificate<AuthorityGrant>(
    bodyOf<AuthorityGrant>(
      issuer,
      { type: 'authority', maxPathLength: 2, issues: ['authority', 'node', 'publisher'], names: ['*'] },
      { subject: keysOf('authority'), ...changes },
    ),
    by.map(name => signers[name]),
  )

export const nodeCertificate = (
  issuer: Certificate,
  changes: Changes<NodeGrant> = {},
  by: readonly Holder[] = ['authority'],
): Promise<Certificate<NodeGrant>> =>
  issueCertificate<NodeGrant>(
    bodyOf<NodeGrant>(
      issuer,
      { type: 'node', roles: ['store'], capabilities: ['fetch', 'publish'] },
      { subject: keysOf('node'), ...changes },
    ),
    by.map(name => signers[name]),
  )

export const publisherCertificate = (
  issuer: Certificate,
  changes: Changes<PublisherGrant> = {},
  by: readonly Holder[] = ['authority'],
): Promise<Certificate<PublisherGrant>> =>
  issueCertificate<PublisherGrant>(
    bodyOf<PublisherGrant>(
      issuer,
      {
        type: 'publisher',
        publisher: idOf('publisher'),
        names: ['acme/*'],
        rights: ['delegate', 'freshen', 'publish'],
      },
      { subject: keysOf('publisher'), ...changes },
    ),
    by.map(name => signers[name]),
  )

/** What a node believes that has nothing but the first root. */
export async function newTrustChain(): Promise<TrustChain> {
  const trust = new TrustChain(
    {
      notices: new MemoryNotices(),
      check: async check => faultySignature(check),
      now: () => now,
      log: silentLog,
    },
    { firstRoot: goldenRoot.bytes, network },
  )
  await trust.start()
  return trust
}

export const rootBody = (changes: Partial<RootBody> = {}): RootBody => ({
  type: 'root',
  network: 'golden',
  version: 1,
  keys: [keysOf('root-1'), keysOf('root-2'), keysOf('root-3')],
  threshold: 2,
  notBefore: now - 30 * day,
  notAfter: now + 3650 * day,
  carried: [],
  revoked: [],
  ...changes,
})

/** The version after `before`, by the same keys unless they are changed. */
export const nextRoot = (before: Root, changes: Partial<RootBody>, by: readonly Holder[]): Promise<Root> => {
  const { network, version, keys, threshold, notBefore, notAfter, carried, revoked } = before
  const body = { type: 'root' as const, network, keys, threshold, notBefore, notAfter, carried, revoked }
  return signRoot(
    { ...body, version: version + 1, previous: before.fingerprint, ...changes },
    by.map(name => signers[name]),
  )
}

export const revocations = (
  issuer: Certificate,
  chain: readonly Certificate[],
  changes: Partial<RevocationBody> = {},
  by: Holder = 'authority',
): Promise<RevocationList> =>
  signRevocations(
    {
      type: 'revocations',
      network,
      issuer: issuer.fingerprint,
      sequence: 1,
      issuedAt: now,
      expiresAt: now + 30 * day,
      revoked: [],
      chain: chain.map(({ bytes }) => bytes),
      ...changes,
    },
    signers[by],
  )
