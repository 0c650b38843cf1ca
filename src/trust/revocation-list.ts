// What an authority takes back: the certificates below it that hold no more, in a numbered list that expires. Who sees
// no new list in time knows that it is cut off. The format is written down in docs/trustchain.md.
import { encodeCbor } from '../base/cbor.ts'
import { CatalogError } from '../base/errors.ts'
import { type Certificate, decodeChain } from './certificate.ts'
import {
  checkOf,
  type DocumentSigner,
  decodeDocument,
  decodeStrictly,
  type SignedDocument,
  signDocument,
} from './document.ts'
import { Fields } from './fields.ts'
import type { SignatureCheck } from './signature-check.ts'

export const revocationLimits = {
  /** What one list may hold: authorities with more split their certificates over several. */
  maxRevoked: 1000,
  /** A list with its authority's chain; never more than a record may be. */
  maxBytes: 126 * 1024,
} as const

/** Lists live as long as heads do; an authority's daemon makes a new one every day. */
export const revocationLifetimeMs = 30 * 24 * 3600 * 1000

export interface Revocation {
  /** Fingerprint of the certificate. */
  readonly certificate: string
  readonly at: number
  /** For people: `key stolen`, `left the company`. */
  readonly reason: string
}

export interface RevocationBody {
  readonly type: 'revocations'
  /** Root fingerprint. */
  readonly network: string
  /** Fingerprint of the authority's certificate. */
  readonly issuer: string
  readonly sequence: number
  /** Milliseconds since 1970 (UTC). */
  readonly issuedAt: number
  readonly expiresAt: number
  /** Ascending by certificate. */
  readonly revoked: readonly Revocation[]
  /** The authority's own certificates, leaf first. */
  readonly chain: readonly Uint8Array[]
}

export type RevocationList = RevocationBody & SignedDocument

const bodyFields = ['v', 'type', 'network', 'issuer', 'sequence', 'issuedAt', 'expiresAt', 'revoked', 'chain']

/** @throws CatalogError `too-large` */
export async function signRevocations(body: RevocationBody, signer: DocumentSigner): Promise<RevocationList> {
  const revoked = [...body.revoked].sort((a, b) => (a.certificate < b.certificate ? -1 : 1))
  const bytes = encodeCbor({ v: 1, ...body, revoked })
  const { bytes: list } = await signDocument('catalog/revocations/v1', bytes, [signer])
  if (revoked.length > revocationLimits.maxRevoked || list.byteLength > revocationLimits.maxBytes)
    throw new CatalogError(
      'too-large',
      `An authority can revoke ${revocationLimits.maxRevoked} certificates, in a list of ${revocationLimits.maxBytes} bytes; this would be ${revoked.length} in ${list.byteLength}. Leave out those that have expired, or make another authority and let the root revoke this one.`,
    )
  return decodeRevocations(list)
}

/** The form alone. @throws CatalogError `certificate-malformed` */
export function decodeRevocations(bytes: Uint8Array): RevocationList {
  const what = 'The revocation list'
  const document = decodeDocument(bytes, revocationLimits.maxBytes, what)
  const fields = new Fields(decodeStrictly(document.body, revocationLimits.maxBytes, what), bodyFields, what)
  fields.version(1)
  if (fields.raw('type') !== 'revocations') throw fields.refuse('it is not a revocation list')
  const revoked = fields.list('revoked', revocationLimits.maxRevoked).map(decodeRevocation)
  if (revoked.some((one, at) => at > 0 && one.certificate <= (revoked[at - 1]?.certificate ?? '')))
    throw fields.refuse('it is not in ascending order')
  const chain = fields.list('chain', 8).map(value => {
    if (!(value instanceof Uint8Array)) throw fields.refuse('its chain is not bytes')
    return value
  })
  const [issuedAt, expiresAt] = [fields.natural('issuedAt'), fields.natural('expiresAt')]
  if (expiresAt < issuedAt || expiresAt - issuedAt > revocationLifetimeMs)
    throw fields.refuse(
      `it lives for ${expiresAt - issuedAt} ms, and 0 to ${revocationLifetimeMs} are allowed`,
    )
  return {
    type: 'revocations',
    network: fields.fingerprint('network'),
    issuer: fields.fingerprint('issuer'),
    sequence: fields.natural('sequence'),
    issuedAt,
    expiresAt,
    revoked,
    chain,
    ...document,
  }
}

function decodeRevocation(raw: unknown): Revocation {
  const fields = new Fields(raw, ['certificate', 'at', 'reason'], 'A revocation')
  return {
    certificate: fields.fingerprint('certificate'),
    at: fields.natural('at'),
    reason: fields.text('reason', 200),
  }
}

/** Of a publisher that takes back what it has delegated; its chain comes with every record that it signs. */
export const withdrawalLimits = { maxRevoked: 256, maxBytes: 64 * 1024 } as const

/** A publisher as one authority has certified it: another may certify the same id for somebody else. */
export interface Withdrawing {
  readonly publisher: string
  /** Fingerprint of the authority's certificate, or of the first root. */
  readonly issuer: string
}

/** Whose delegations a list takes back; undefined for an authority's. @throws CatalogError `certificate-malformed` */
export function withdrawing(list: Pick<RevocationList, 'chain'>): Withdrawing | undefined {
  const [leaf] = decodeChain(list.chain)
  return leaf?.type === 'publisher' ? leaf : undefined
}

/** Patterns of the names whose delegations a publisher's list may take back: those that the certificate which signed it grants. */
export function withdrawnNames(list: Pick<RevocationList, 'chain'>): readonly string[] {
  const [leaf] = decodeChain(list.chain)
  return leaf?.type === 'publisher' ? leaf.names : []
}

/**
 * The issuer's chain in the list, and the check by which the issuer has signed it: an authority, or a publisher that may
 * delegate, by its own certificate and not by one that was delegated.
 * @throws CatalogError `certificate-malformed`, `certificate-wrong-issuer`, `certificate-bad-signature`
 */
export function revocationsCheck(list: RevocationList): { chain: Certificate[]; check: SignatureCheck } {
  const chain = decodeChain(list.chain)
  const [authority, above] = chain
  const mayRevoke =
    authority?.type === 'authority' ||
    (authority?.type === 'publisher' && authority.rights.includes('delegate') && above?.type !== 'publisher')
  if (authority === undefined || authority.fingerprint !== list.issuer || !mayRevoke)
    throw new CatalogError(
      'certificate-wrong-issuer',
      'The revocation list is not by the authority that its chain shows.',
    )
  const { maxRevoked, maxBytes } = withdrawalLimits
  if (
    authority.type === 'publisher' &&
    (list.revoked.length > maxRevoked || list.bytes.byteLength > maxBytes)
  )
    throw new CatalogError(
      'certificate-malformed',
      `The revocation list of a publisher is refused: it has ${list.revoked.length} entries and ${list.bytes.byteLength} bytes, and ${maxRevoked} in ${maxBytes} are its share.`,
    )
  const check =
    list.signatures.length === 1 ? checkOf('catalog/revocations/v1', list, authority.subject) : undefined
  if (check === undefined)
    throw new CatalogError('certificate-bad-signature', 'The revocation list is not signed by its authority.')
  return { chain, check }
}
