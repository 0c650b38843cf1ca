// Issues certificates below one chain: an authority's, or a publisher's that delegates. What is issued is proved like
// anybody's certificate before it leaves, so an issuer can grant nothing that others would refuse, and it is in the
// ledger before it leaves.
import { randomBytes } from 'node:crypto'
import {
  type Certificate,
  type CertificateBody,
  type CertificateGrant,
  decodeChain,
  issueCertificate,
  leafOf,
  type NodeGrant,
  type PublisherGrant,
} from './certificate.ts'
import type { DocumentSigner } from './document.ts'
import type { PublicKeys } from './fields.ts'
import { issuedBeforeMs, lifetimes } from './founding.ts'
import { publisherFingerprint } from './keys.ts'
import type { Ledger, LedgerEntry } from './ledger.ts'
import type { TrustChain } from './trust-chain.ts'

export interface IssuerOptions {
  /** Milliseconds that certificates live, never beyond their issuer's. */
  readonly lifetimeMs: Readonly<Record<CertificateGrant['type'], number>>
  /** How long before now they begin: for clocks that are a little behind. */
  readonly backdateMs: number
}

export const defaultIssuerOptions: IssuerOptions = {
  lifetimeMs: lifetimes,
  backdateMs: issuedBeforeMs,
}

export interface IssuerDeps {
  readonly signer: DocumentSigner
  /** The issuer's own certificates, leaf first; asked for anew each time. */
  readonly chain: () => readonly Uint8Array[]
  readonly ledger: Ledger
  readonly trust: Pick<TrustChain, 'prove' | 'root' | 'revocationLists' | 'withdrawalsOf'>
  readonly now: () => number
}

export interface IssueRequest<G extends CertificateGrant = CertificateGrant> {
  readonly grant: G
  readonly subject: PublicKeys
  readonly label?: string | undefined
  readonly lifetimeMs?: number | undefined
  /** Ed25519 key of the node that gets it. */
  readonly holder?: Uint8Array | undefined
}

export class Issuer {
  readonly #deps: IssuerDeps
  readonly #options: IssuerOptions
  #lastAt = 0

  constructor(deps: IssuerDeps, options: Partial<IssuerOptions> = {}) {
    this.#deps = deps
    this.#options = { ...defaultIssuerOptions, ...options }
  }

  get ledger(): Ledger {
    return this.#deps.ledger
  }

  /**
   * A new chain, leaf first; in the ledger when it resolves.
   * @throws CatalogError as `TrustChain.prove`: the issuer lacks what it grants, or its own certificate holds no more
   */
  async issue<G extends CertificateGrant>(request: IssueRequest<G>): Promise<readonly Uint8Array[]> {
    const { signer, trust, now, ledger } = this.#deps
    const above = this.#deps.chain()
    const [issuer] = decodeChain(above)
    // One after the other in the ledger as they were made: the newest of a use is the one that counts.
    this.#lastAt = Math.max(now(), this.#lastAt + 1)
    const at = this.#lastAt
    const lifetimeMs = request.lifetimeMs ?? this.#options.lifetimeMs[request.grant.type]
    const { network, fingerprint, notAfter, notBefore } = issuer as Certificate
    const body = {
      ...request.grant,
      ...{ network, issuer: fingerprint, subject: request.subject, serial: new Uint8Array(randomBytes(16)) },
      notBefore: Math.min(at, Math.max(at - this.#options.backdateMs, notBefore)),
      notAfter: Math.max(at, Math.min(at + lifetimeMs, notAfter)),
      ...(request.label === undefined ? {} : { label: request.label }),
      ...{ critical: {}, extensions: {} },
    } as CertificateBody<G>
    const certificate = await issueCertificate(body, [signer])
    const chain = [certificate.bytes, ...above]
    await trust.prove(chain, { kind: 'any' })
    const { holder } = request
    await ledger.add({ certificate, issuedAt: at, ...(holder === undefined ? {} : { holder }) })
    return chain
  }

  /** Whether somebody above it, or this issuer, or the root has taken it back. */
  isRevoked({ fingerprint, issuer }: Pick<Certificate, 'fingerprint' | 'issuer'>): boolean {
    const { trust } = this.#deps
    if (trust.root.revoked.includes(fingerprint)) return true
    const chain = decodeChain(this.#deps.chain())
    const above = new Set([issuer, ...chain.map(one => one.fingerprint)])
    const lists = trust.revocationLists().filter(list => above.has(list.issuer))
    const [self] = chain
    const own = self?.type === 'publisher' ? trust.withdrawalsOf(self) : undefined
    return [...lists, ...(own === undefined ? [] : [own])].some(list =>
      list.revoked.some(({ certificate }) => certificate === fingerprint),
    )
  }

  /** The newest valid certificate for each use (itself, a publisher that it signs for) that a node got here. */
  async current(holder: Uint8Array): Promise<LedgerEntry[]> {
    const now = this.#deps.now()
    const found = new Map<string, LedgerEntry>()
    for (const entry of await this.ledger.ofHolder(holder)) {
      const { certificate } = entry
      const key = useOf(certificate)
      if (found.has(key) || certificate.notAfter < now || this.isRevoked(certificate)) continue
      found.set(key, entry)
    }
    return [...found.values()]
  }

  /**
   * What a node got here, issued anew where less than a third of its life is left; empty where nothing of it holds.
   * @throws CatalogError as `issue`, where none can be issued
   */
  async renewFor(holder: Uint8Array): Promise<(readonly Uint8Array[])[]> {
    const entries = await this.current(holder)
    const renewed = await Promise.allSettled(entries.map(entry => this.#renew(entry)))
    const chains = renewed.flatMap(one => (one.status === 'fulfilled' ? [one.value] : []))
    const failed = renewed.find(one => one.status === 'rejected')
    if (chains.length === 0 && failed !== undefined) throw failed.reason
    return chains
  }

  async #renew({ certificate, holder }: LedgerEntry): Promise<readonly Uint8Array[]> {
    const above = this.#deps.chain()
    const unchanged = certificate.issuer === leafOf(above).fingerprint
    if (unchanged && !isDue(certificate, this.#deps.now())) return [certificate.bytes, ...above]
    const { subject, label } = certificate
    return this.issue({ grant: grantOf(certificate), subject, label, holder })
  }
}

/** Less than a third of its life is left: time to renew it. */
export const isDue = (
  { notBefore, notAfter }: Pick<Certificate, 'notBefore' | 'notAfter'>,
  now: number,
): boolean => notAfter - now < (notAfter - notBefore) / 3

/**
 * Certificates of one use replace each other. A node signs for a publisher with one pair of keys: after a rotation the
 * certificate of the old ones is not renewed any more.
 */
const useOf = (certificate: Certificate): string =>
  certificate.type === 'publisher'
    ? `publisher ${certificate.publisher}`
    : `${certificate.type} ${publisherFingerprint(certificate.subject.ed25519, certificate.subject.falcon)}`

function grantOf(certificate: Certificate): CertificateGrant {
  const { type } = certificate
  if (type === 'node')
    return { type, roles: certificate.roles, capabilities: certificate.capabilities } satisfies NodeGrant
  const { names } = certificate
  if (type === 'publisher')
    return {
      type,
      publisher: certificate.publisher,
      names,
      rights: certificate.rights,
    } satisfies PublisherGrant
  return { type, names, issues: certificate.issues, maxPathLength: certificate.maxPathLength }
}
