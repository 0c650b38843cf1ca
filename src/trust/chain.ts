// Whether a chain of certificates proves what somebody claims by it: dates, issuers and their rights, path length, name
// grants, usage, revocation, critical fields (after RFC 5280, section 6.1, in our own format). Pure: the clock, the
// root and what is revoked are passed in; signatures are given back as checks, so that they can be made elsewhere
// and remembered.
import { equalBytes } from '../base/cbor.ts'
import { CatalogError, type ErrorCode } from '../base/errors.ts'
import type {
  AuthorityGrant,
  Certificate,
  CertificateGrant,
  PublisherGrant,
  PublisherRight,
} from './certificate.ts'
import { checkOf } from './document.ts'
import type { PublicKeys } from './fields.ts'
import { publisherFingerprint } from './keys.ts'
import { grantsName, grantsPattern } from './name-pattern.ts'
import { type Root, refuseStrangers, thresholdChecks } from './root.ts'
import type { SignatureCheck } from './signature-check.ts'

/** What the leaf is presented for. */
export type Usage =
  | { readonly kind: 'node'; readonly ed25519: Uint8Array }
  | { readonly kind: 'authority' }
  | {
      readonly kind: 'statement'
      readonly publisher: string
      readonly name: string
      readonly keys: PublicKeys
      /** One of them is enough. */
      readonly rights: readonly PublisherRight[]
    }
  /** Whatever it is: to show it, or to store one's own. */
  | { readonly kind: 'any' }

export interface ChainContext {
  /** The newest root known, and the fingerprint of the first. */
  readonly root: Root
  readonly network: string
  /** Milliseconds since 1970 (UTC) at which everything must be valid. */
  readonly at: number
  /** Whether this certificate was revoked, by the root or by an authority above it. */
  readonly revocation: (certificate: Certificate, above: readonly Certificate[]) => string | undefined
  /** Whether this very certificate's signatures are known to hold under this root: then they are not given back. */
  readonly holds?: (certificate: Certificate) => boolean
}

/** A signature that has to hold, and of which certificate it is. */
export interface ChainSignature {
  readonly certificate: Certificate
  readonly check: SignatureCheck
}

/**
 * Everything but the signatures, cheapest first; those are given back.
 * @throws CatalogError with a `certificate-…` code, `root-threshold`
 */
export function checkChain(
  chain: readonly Certificate[],
  usage: Usage,
  context: ChainContext,
): ChainSignature[] {
  const [leaf] = chain
  if (leaf === undefined) throw refused('certificate-malformed', undefined, 'there is no certificate')
  for (const certificate of chain) checkAlone(certificate, context)
  checkUsage(leaf, usage)
  const signatures = chain.flatMap((certificate, at) =>
    checkIssuer(certificate, chain.slice(at + 1), context),
  )
  chain.forEach((certificate, at) => {
    checkRevocation(certificate, chain.slice(at + 1), usage, context)
  })
  return signatures
}

function checkAlone(certificate: Certificate, { network, at }: ChainContext): void {
  const [critical] = Object.keys(certificate.critical)
  if (certificate.network !== network)
    throw refused(
      'certificate-wrong-network',
      certificate,
      `it is of the network ${certificate.network}, this is ${network}`,
    )
  if (critical !== undefined)
    throw refused(
      'certificate-unknown-critical',
      certificate,
      `it asks for ${JSON.stringify(critical.slice(0, 60))}, which this version does not know; update Catalog`,
    )
  if (at < certificate.notBefore)
    throw refused(
      'certificate-not-yet-valid',
      certificate,
      `it is valid from ${day(certificate.notBefore)} on, and here it is ${day(at)}; is a clock wrong?`,
    )
  if (at > certificate.notAfter)
    throw refused(
      'certificate-expired',
      certificate,
      `it was valid until ${day(certificate.notAfter)}, and here it is ${day(at)}`,
    )
}

function checkUsage(leaf: Certificate, usage: Usage): void {
  const wrong = (why: string) => refused('certificate-wrong-usage', leaf, why)
  if (usage.kind === 'any') return
  if (usage.kind === 'authority') {
    if (leaf.type !== 'authority') throw wrong('it is not an authority')
    return
  }
  if (usage.kind === 'node') {
    if (leaf.type !== 'node') throw wrong('it is not a node certificate')
    if (!equalBytes(leaf.subject.ed25519, usage.ed25519)) throw wrong('it belongs to another peer')
    return
  }
  if (leaf.type !== 'publisher') throw wrong('it is not a publisher certificate')
  const { ed25519, falcon } = leaf.subject
  if (!equalBytes(ed25519, usage.keys.ed25519) || !equalBytes(falcon, usage.keys.falcon))
    throw wrong('it belongs to other keys than those that signed')
  if (leaf.publisher !== usage.publisher)
    throw wrong(`it belongs to the publisher ${leaf.publisher}, not to ${usage.publisher}`)
  if (!usage.rights.some(right => leaf.rights.includes(right)))
    throw wrong(
      `it grants the rights ${leaf.rights.join(', ') || 'none'}; ${usage.rights.join(' or ')} is needed`,
    )
  if (!grantsName(leaf.names, usage.name))
    throw refused(
      'certificate-name-not-granted',
      leaf,
      `it grants the names ${leaf.names.join(', ') || '(none)'}, and ${usage.name} is not among them`,
    )
}

/** `above`: the certificates that stand over it, its issuer first; none where the root issued it. */
function checkIssuer(
  certificate: Certificate,
  above: readonly Certificate[],
  context: ChainContext,
): ChainSignature[] {
  const [issuer] = above
  if (issuer === undefined) return checkRootIssued(certificate, context)
  if (certificate.issuer !== issuer.fingerprint)
    throw refused(
      'certificate-wrong-issuer',
      certificate,
      `it was issued by ${certificate.issuer}, but the chain goes on with ${issuer.fingerprint}`,
    )
  if (issuer.type === 'authority') checkAuthority(certificate, issuer, above)
  else if (issuer.type === 'publisher') checkDelegation(certificate, issuer)
  else throw refused('certificate-wrong-issuer', certificate, 'a node certificate cannot issue others')
  if (context.holds?.(certificate) === true) return []
  const check =
    certificate.signatures.length === 1
      ? checkOf('catalog/certificate/v1', certificate, issuer.subject)
      : undefined
  if (check === undefined)
    throw refused('certificate-bad-signature', certificate, 'its issuer has not signed it')
  return [{ certificate, check }]
}

function checkRootIssued(
  certificate: Certificate,
  { root, network, at, holds }: ChainContext,
): ChainSignature[] {
  if (certificate.issuer !== network)
    throw refused(
      'certificate-wrong-issuer',
      certificate,
      `its issuer ${certificate.issuer} is missing from the chain`,
    )
  // Nothing is older than the network; what was signed before a later version of the root is none the worse for it.
  if (root.version === 1 && at < root.notBefore)
    throw refused(
      'certificate-not-yet-valid',
      certificate,
      `the network's root is valid from ${day(root.notBefore)} on, and here it is ${day(at)}; is a clock wrong?`,
    )
  if (at > root.notAfter)
    throw refused(
      'certificate-expired',
      certificate,
      `the network's root was valid until ${day(root.notAfter)}; its holders must make the next version`,
    )
  // A root that follows another vouches by name for what that one had issued. What it names as revoked is refused below,
  // for that reason and not because it is carried no more.
  const named = [...root.carried, ...root.revoked].includes(certificate.fingerprint)
  if (named || holds?.(certificate) === true) return []
  refuseStrangers(certificate, [root], 'the root of the network')
  return thresholdChecks('catalog/certificate/v1', certificate, root, "the network's root").map(check => ({
    certificate,
    check,
  }))
}

function checkAuthority(
  certificate: Certificate,
  issuer: Certificate<AuthorityGrant>,
  above: readonly Certificate[],
): void {
  const wrong = (why: string) => refused('certificate-wrong-issuer', certificate, why)
  if (!issuer.issues.includes(certificate.type))
    throw wrong(
      `the authority over it may issue ${issuer.issues.join(', ') || 'nothing'}, not ${certificate.type} certificates`,
    )
  if (certificate.type === 'authority') {
    const more = certificate.issues.find(type => !issuer.issues.includes(type))
    if (more !== undefined)
      throw wrong(`it may issue ${more} certificates, which the authority over it may not`)
    above.forEach((authority, below) => {
      if (authority.type === 'authority' && authority.maxPathLength < below + 1)
        throw refused(
          'certificate-path-too-long',
          certificate,
          `an authority over it allows ${authority.maxPathLength} below itself`,
        )
    })
  }
  if (certificate.type !== 'node') checkNames(certificate, issuer.names)
}

function checkDelegation(certificate: Certificate, issuer: Certificate<PublisherGrant>): void {
  const wrong = (why: string) => refused('certificate-wrong-issuer', certificate, why)
  if (!issuer.rights.includes('delegate')) throw wrong('the publisher over it has no right to delegate')
  if (certificate.type !== 'publisher' || certificate.publisher !== issuer.publisher)
    throw wrong('a publisher can delegate for itself alone')
  const more = certificate.rights.find(right => !issuer.rights.includes(right))
  if (more !== undefined) throw wrong(`the publisher over it has no right to ${more}`)
  checkNames(certificate, issuer.names)
}

function checkNames(
  certificate: Certificate<AuthorityGrant | PublisherGrant>,
  granted: readonly string[],
): void {
  const more = certificate.names.find(name => !grantsPattern(granted, name))
  if (more !== undefined)
    throw refused(
      'certificate-name-not-granted',
      certificate,
      `it grants ${more}, which its issuer lacks (${granted.join(', ') || 'none'})`,
    )
}

function checkRevocation(
  certificate: Certificate,
  above: readonly Certificate[],
  usage: Usage,
  context: ChainContext,
): void {
  const reason = context.root.revoked.includes(certificate.fingerprint)
    ? 'by the root of the network'
    : context.revocation(certificate, above)
  if (reason !== undefined)
    throw refused(
      'certificate-revoked',
      certificate,
      `it was revoked (${reason})${usage.kind === 'node' ? '; ask an authority of the network for a new one' : ''}`,
    )
}

/** A chain of certificates in words, for messages and `trust show`. */
export const subjectOf = (certificate: CertificateGrant & { readonly subject: PublicKeys }): string =>
  publisherFingerprint(certificate.subject.ed25519, certificate.subject.falcon)

const refused = (code: ErrorCode, certificate: Certificate | undefined, why: string) =>
  new CatalogError(
    code,
    certificate === undefined
      ? `The chain is refused: ${why}.`
      : `The ${certificate.type} certificate ${certificate.label === undefined ? '' : `${JSON.stringify(certificate.label)} `}${certificate.fingerprint} is refused: ${why}.`,
    certificate === undefined ? {} : { certificate: certificate.fingerprint },
  )

const day = (at: number): string =>
  Number.isFinite(at) && at < 8.64e15 ? new Date(at).toISOString().replace(/\.\d+Z$/, 'Z') : 'the end of time'
