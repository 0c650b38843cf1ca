// An authority's side of the rotation of a publisher's keys (certificates-protocol.ts, `rotate` and `retire`): another
// pair of keys goes on under the same publisher id, with the same names. The node that asks must be the one that the
// certificate was issued to (the connection proves its key), and hold the old keys as well as the new ones.
//
//   Keys whose certificate was revoked prove nothing: others may hold them too. Their node gets a certificate for new
//   keys only where the operator of this authority said, when he revoked, that he still trusts that node
//   (`catalog trust revoke CERTIFICATE --allow-rotation`); once.
//
//   records: `<certificate>` = canonical CBOR { v: 1, at }: a rotation that is allowed though it was revoked
import { encodeCbor, equalBytes } from '../base/cbor.ts'
import { CatalogError } from '../base/errors.ts'
import type { KeyValue } from '../base/key-value.ts'
import type { Log } from '../base/log.ts'
import type { OneAtATime } from '../base/one-at-a-time.ts'
import type { PeerText } from '../network/host.ts'
import { keyOfPeer } from '../network/identity.ts'
import type { Authority } from '../trust/authority.ts'
import type { Certificate, PublisherGrant } from '../trust/certificate.ts'
import { subjectOf } from '../trust/chain.ts'
import type { PublicKeys } from '../trust/fields.ts'
import type { LedgerEntry } from '../trust/ledger.ts'
import { possessionCheck } from '../trust/possession.ts'
import type { TrustChain, TrustChainDeps } from '../trust/trust-chain.ts'
import { type Chain, type RotationRequest, rotationMessage } from './certificates-protocol.ts'
import { PeerLimit } from './peer-limit.ts'

export interface RotationsDeps {
  /** This node. */
  readonly self: PeerText
  readonly authority: Authority
  readonly records: KeyValue
  readonly trust: Pick<TrustChain, 'network'>
  readonly check: TrustChainDeps['check']
  readonly now: () => number
  readonly log: Log
  /** What is issued to publishers, in order: a grant for keys that are just being replaced would make them the newest. */
  readonly issuing: OneAtATime
}

/** Each adds 6 KiB to the ledger for good; keys are rotated once in years. */
const rotationLimit = { what: 'rotations', maxPerPeer: 4, windowMs: 24 * 3600 * 1000 }

/**
 * Pairs of keys of one node whose certificates were revoked and have not expired: those that it retires itself fill the
 * list of a thousand that this authority has for all.
 */
const maxRetired = 16

type PublisherCertificate = Certificate<PublisherGrant>

export class Rotations {
  readonly #deps: RotationsDeps
  readonly #made: PeerLimit

  constructor(deps: RotationsDeps) {
    this.#deps = deps
    this.#made = new PeerLimit(deps, rotationLimit)
  }

  /**
   * A certificate for the new keys, or the one that the same question got before.
   * @throws CatalogError `not-found`, `stale-record`, `certificate-revoked`, `certificate-expired`,
   *   `certificate-bad-signature`, `busy`, and as `Issuer.issue`
   */
  rotate(asker: PeerText, request: RotationRequest): Promise<Chain> {
    // The same question twice at once would make two certificates.
    return this.#deps.issuing.run(() => this.#rotate(asker, request))
  }

  async #rotate(asker: PeerText, request: RotationRequest): Promise<Chain> {
    const { authority, records, log } = this.#deps
    const { certificate, holder } = await this.#issuedTo(asker, request.certificate)
    await this.#checkPossession(asker, certificate, request)
    const newest = await this.#newest(holder, certificate.publisher)
    if (newest !== undefined && isFor(newest, request.keys)) return this.#chainOf(newest)
    const granted = await this.#replaceable(certificate, newest)
    this.#made.check(asker)
    const { publisher, names, rights, label } = granted
    const chain = await authority.issuePublisher({
      ...{ subject: request.keys, publisher, names, rights, label, holder },
    })
    this.#made.add(asker)
    await records.delete(certificate.fingerprint)
    log.info({ peer: asker, publisher, before: certificate.fingerprint }, 'a publisher has new keys')
    return chain
  }

  /** Whose names the new keys get. */
  async #replaceable(
    shown: PublisherCertificate,
    newest: PublisherCertificate | undefined,
  ): Promise<PublisherCertificate> {
    const { authority, records, now } = this.#deps
    if (authority.issuer.isRevoked(shown)) {
      if ((await records.get(shown.fingerprint)) !== undefined) return shown
      throw new CatalogError(
        'certificate-revoked',
        `The certificate ${shown.fingerprint} was revoked, so its keys can ask for nothing. The operator of this authority can allow it to the node: \`catalog trust revoke ${shown.fingerprint} --allow-rotation\`.`,
        { certificate: shown.fingerprint },
      )
    }
    if (newest === undefined && shown.notAfter < now())
      throw new CatalogError(
        'certificate-expired',
        `The certificate ${shown.fingerprint} has expired. Join the network again: \`catalog init --join INVITE\`.`,
        { certificate: shown.fingerprint },
      )
    // One for the same keys may have been issued since: it has the names that were granted last.
    if (newest !== undefined && isFor(newest, shown.subject)) return newest
    throw new CatalogError(
      'stale-record',
      `The keys of the certificate ${shown.fingerprint} are not the newest of the publisher ${shown.publisher}: they were replaced. Where the newer ones are lost, the operator of this authority can allow others: \`catalog trust revoke ${shown.fingerprint} --allow-rotation\`.`,
      { certificate: shown.fingerprint },
    )
  }

  /**
   * Takes back every certificate for the keys of this one; the number of the list that says so.
   * @throws CatalogError `not-found`, `invalid-request` (they are the newest keys that the node has here), `too-large`,
   *   `quota-exceeded`
   */
  async retire(asker: PeerText, fingerprint: string, reason = 'keys rotated'): Promise<number> {
    const { certificate, holder } = await this.#issuedTo(asker, fingerprint)
    const newest = await this.#newest(holder, certificate.publisher)
    if (newest === undefined || isFor(newest, certificate.subject))
      throw new CatalogError(
        'invalid-request',
        `The certificate ${fingerprint} was not retired: its keys are the newest of the publisher. Rotate them first.`,
      )
    const { authority } = this.#deps
    const retired = await this.#ofSameKeys(certificate, holder)
    await this.#refuseMany(holder, subjectOf(certificate))
    const { sequence } = await authority.revoke(retired, reason)
    return sequence
  }

  async #refuseMany(holder: Uint8Array, keys: string): Promise<void> {
    const { authority, now } = this.#deps
    const gone = (await authority.issuer.ledger.ofHolder(holder))
      .map(({ certificate }) => certificate)
      .filter(certificate => certificate.notAfter >= now() && authority.issuer.isRevoked(certificate))
    const others = new Set(gone.map(subjectOf).filter(each => each !== keys))
    if (others.size < maxRetired) return
    throw new CatalogError(
      'quota-exceeded',
      `Nothing was retired: ${others.size} pairs of keys of this node are revoked already. The operator of this authority can revoke more.`,
    )
  }

  /**
   * Lets the node that has a certificate replace its keys though they are revoked; gives all certificates for them, so
   * that none is forgotten when they are. Durable when it resolves.
   * @throws CatalogError `not-found`, `invalid-request` (no publisher's, or issued to no node)
   */
  async allow(fingerprint: string): Promise<readonly string[]> {
    const { authority, records, now } = this.#deps
    const entry = await authority.issuer.ledger.get(fingerprint)
    if (entry === undefined)
      throw new CatalogError(
        'not-found',
        `Nothing was revoked: this authority has not issued ${fingerprint}. \`catalog trust issued\` shows what it has.`,
      )
    if (entry.certificate.type !== 'publisher' || entry.holder === undefined)
      throw new CatalogError(
        'invalid-request',
        `Nothing was revoked: a rotation can be allowed for the keys of a publisher alone, and ${fingerprint} is a ${entry.certificate.type} certificate.`,
      )
    await records.put(fingerprint, encodeCbor({ v: 1, at: now() }))
    return this.#ofSameKeys(entry.certificate, entry.holder)
  }

  async #issuedTo(
    peer: PeerText,
    fingerprint: string,
  ): Promise<{ certificate: PublisherCertificate; holder: Uint8Array }> {
    const holder = keyOfPeer(peer)
    const entry = await this.#deps.authority.issuer.ledger.get(fingerprint)
    const { certificate } = entry ?? {}
    if (
      holder === undefined ||
      certificate?.type !== 'publisher' ||
      entry?.holder === undefined ||
      !equalBytes(entry.holder, holder)
    )
      throw new CatalogError(
        'not-found',
        `This authority has issued no publisher certificate ${fingerprint} to ${peer}: ask the one that did.`,
      )
    return { certificate, holder }
  }

  async #checkPossession(
    asker: PeerText,
    { fingerprint, subject }: PublisherCertificate,
    { keys, old, new: proof }: RotationRequest,
  ): Promise<void> {
    const { trust, self, check } = this.#deps
    const message = rotationMessage(trust.network, asker, self, { certificate: fingerprint, keys })
    for (const [what, holder, signatures] of [
      ['old', subject, old],
      ['new', keys, proof],
    ] as const)
      if ((await check(possessionCheck(holder, message, signatures))) !== undefined)
        throw new CatalogError(
          'certificate-bad-signature',
          `The rotation is refused: it does not prove that the node holds the ${what} keys.`,
        )
  }

  async #newest(holder: Uint8Array, publisher: string): Promise<PublisherCertificate | undefined> {
    const entries = await this.#deps.authority.issuer.current(holder)
    return entries.map(({ certificate }) => certificate).find(isOf(publisher))
  }

  #chainOf({ bytes, issuer }: PublisherCertificate): Chain {
    const { authority } = this.#deps
    if (issuer === authority.certificate.fingerprint) return [bytes, ...authority.chain]
    throw new CatalogError(
      'not-found',
      'The certificate for these keys was issued under another chain: renew it.',
    )
  }

  async #ofSameKeys({ publisher, subject }: PublisherCertificate, holder: Uint8Array): Promise<string[]> {
    const { authority, now } = this.#deps
    const entries: readonly LedgerEntry[] = await authority.issuer.ledger.ofHolder(holder)
    return entries
      .map(({ certificate }) => certificate)
      .filter(isOf(publisher))
      .filter(certificate => isFor(certificate, subject) && certificate.notAfter >= now())
      .map(({ fingerprint }) => fingerprint)
  }
}

const isOf =
  (publisher: string) =>
  (certificate: Certificate): certificate is PublisherCertificate =>
    certificate.type === 'publisher' && certificate.publisher === publisher

const isFor = ({ subject }: Certificate, keys: PublicKeys): boolean =>
  equalBytes(subject.ed25519, keys.ed25519) && equalBytes(subject.falcon, keys.falcon)
