// An authority that the root makes by naming it: its certificate bears no signature, and holds because the next root
// document lists it as carried (docs/trustchain.md). So there is always a way to another authority, though the key of
// the first one is lost or stolen: who holds the keys of the root needs nobody else.
import { randomBytes } from 'node:crypto'
import { CatalogError } from '../base/errors.ts'
import {
  type AuthorityGrant,
  type Certificate,
  decodeCertificate,
  encodeCertificateBody,
} from './certificate.ts'
import { subjectOf } from './chain.ts'
import { encodeDocument } from './document.ts'
import { issuedBeforeMs, lifetimes, rootGrant } from './founding.ts'
import { authorityKeysOf, type MembershipRequest, refuseOtherNetwork } from './request.ts'

export type AuthorityCertificate = Certificate<AuthorityGrant>

export const newAuthorityLimits = {
  /** In one proposal; the next proposal may have others. */
  maxCertificates: 4,
  /** Two keys and a label: 2 KiB and a little. */
  maxBytes: 4 * 1024,
} as const

/** What who signs a proposal is told of each. */
export interface NewAuthority {
  readonly certificate: string
  /** Fingerprint of its keys: what its holder reads out. */
  readonly keys: string
  readonly label?: string
  readonly names: readonly string[]
  readonly maxPathLength: number
  readonly notAfter: number
}

/**
 * The certificate for who proved to hold an authority's keys; it holds once a root carries it.
 * @throws CatalogError `invalid-request` (no authority's keys in it), `certificate-wrong-network`
 */
export function authorityForRequest(
  request: Pick<MembershipRequest, 'authority' | 'root' | 'label'>,
  network: string,
  now: number,
): AuthorityCertificate {
  refuseOtherNetwork(request, network)
  const [subject, { label }] = [authorityKeysOf(request), request]
  const body = {
    ...rootGrant,
    ...{ network, issuer: network, subject, serial: new Uint8Array(randomBytes(16)) },
    ...{ notBefore: now - issuedBeforeMs, notAfter: now + lifetimes.authority },
    ...(label === undefined ? {} : { label }),
    ...{ critical: {}, extensions: {} },
  }
  const { bytes } = encodeDocument(encodeCertificateBody(body), [])
  return decodeCertificate(bytes) as AuthorityCertificate
}

/**
 * The form of one that lies beside a proposal, and that the proposed root is what makes it hold.
 * @throws CatalogError `certificate-malformed`
 */
export function readNewAuthority(bytes: unknown, carried: readonly string[]): AuthorityCertificate {
  const malformed = (why: string) =>
    new CatalogError('certificate-malformed', `A new authority in the root proposal is malformed: ${why}.`)
  if (!(bytes instanceof Uint8Array) || bytes.byteLength > newAuthorityLimits.maxBytes)
    throw malformed(`it is not a certificate of at most ${newAuthorityLimits.maxBytes} bytes`)
  const certificate = decodeCertificate(bytes)
  const { type, issuer, network, fingerprint, signatures } = certificate
  if (type !== 'authority' || issuer !== network || signatures.length > 0)
    throw malformed('it is not an unsigned authority directly below the root')
  // Without this a proposal could show one authority, and make another.
  if (!carried.includes(fingerprint)) throw malformed('the proposed root does not carry it')
  return certificate as AuthorityCertificate
}

export function describeNewAuthority(certificate: AuthorityCertificate): NewAuthority {
  const { fingerprint, label, names, maxPathLength, notAfter } = certificate
  return {
    ...{ certificate: fingerprint, keys: subjectOf(certificate), names, maxPathLength, notAfter },
    ...(label === undefined ? {} : { label }),
  }
}
