// A certificate as a value and as bytes: who its subject is and what it may do. Whether to believe it is chain.ts.
// The whole format, with what each field means, is written down in docs/trustchain.md.
import { encodeCbor } from '../base/cbor.ts'
import { CatalogError } from '../base/errors.ts'
import {
  type DocumentSigner,
  decodeDocument,
  decodeStrictly,
  type SignedDocument,
  signDocument,
} from './document.ts'
import { Fields, type PublicKeys } from './fields.ts'
import { isNamePattern } from './name-pattern.ts'

export const certificateLimits = {
  /** Eight root signatures of 1.4 KiB, the subject's keys and 64 patterns. */
  maxBytes: 24 * 1024,
  maxNames: 64,
  /** Certificates of one chain, and their bytes together. */
  maxChain: 8,
  maxChainBytes: 48 * 1024,
  /** Entries of `critical` and of `extensions`. */
  maxExtensions: 16,
} as const

export const certificateTypes = ['authority', 'node', 'publisher'] as const
export type CertificateType = (typeof certificateTypes)[number]

export const nodeRoles = ['authority', 'execute', 'relay', 'store'] as const
export type NodeRole = (typeof nodeRoles)[number]

/** What the holder may ask of other nodes. */
export const nodeCapabilities = ['execute', 'fetch', 'publish', 'replicate'] as const
export type NodeCapability = (typeof nodeCapabilities)[number]

/** `yank`: change heads but not add releases of its own; `freshen`: extend the life of heads alone. */
export const publisherRights = ['delegate', 'freshen', 'publish', 'yank'] as const
export type PublisherRight = (typeof publisherRights)[number]

/** What is more than one value is carried as bytes. */
export type Extensions = Readonly<Record<string, string | number | boolean | null | Uint8Array>>

interface Common {
  /** Root fingerprint of the network. */
  readonly network: string
  /** 16 random bytes. */
  readonly serial: Uint8Array
  readonly subject: PublicKeys
  /** Fingerprint of the issuer's certificate, or of the network's root. */
  readonly issuer: string
  /** Milliseconds since 1970 (UTC), both inclusive. */
  readonly notBefore: number
  readonly notAfter: number
  /** For people alone; proves nothing. */
  readonly label?: string
  /** Extensions that a verifier must understand or refuse the certificate; none is defined yet. */
  readonly critical: Extensions
  readonly extensions: Extensions
}

export interface AuthorityGrant {
  readonly type: 'authority'
  /** Authorities that may stand below this one in a chain. */
  readonly maxPathLength: number
  readonly issues: readonly CertificateType[]
  readonly names: readonly string[]
}

export interface NodeGrant {
  readonly type: 'node'
  readonly roles: readonly NodeRole[]
  readonly capabilities: readonly NodeCapability[]
}

export interface PublisherGrant {
  readonly type: 'publisher'
  /** The publisher's id: the fingerprint of its first keys, which later keys and delegates go on under. */
  readonly publisher: string
  readonly names: readonly string[]
  readonly rights: readonly PublisherRight[]
}

export type CertificateGrant = AuthorityGrant | NodeGrant | PublisherGrant
export type CertificateBody<G extends CertificateGrant = CertificateGrant> = Common & G
export type Certificate<G extends CertificateGrant = CertificateGrant> = CertificateBody<G> & SignedDocument

const commonFields = [
  'v',
  'type',
  'network',
  'serial',
  'subject',
  'issuer',
  'notBefore',
  'notAfter',
  'label',
  'critical',
  'extensions',
]
const grantFields: Readonly<Record<CertificateType, readonly string[]>> = {
  authority: ['maxPathLength', 'issues', 'names'],
  node: ['roles', 'capabilities'],
  publisher: ['publisher', 'names', 'rights'],
}

/** The canonical bytes of the body: sets in ascending order, nothing absent written. */
export function encodeCertificateBody(body: CertificateBody): Uint8Array {
  const fields = Object.entries(body).filter(([, value]) => value !== undefined)
  const sorted = fields.map(([key, value]) =>
    Array.isArray(value) ? [key, [...new Set(value as string[])].sort()] : [key, value],
  )
  return encodeCbor({ v: 1, ...Object.fromEntries(sorted) })
}

/** Signs a body: by the issuer's keys, or by the root's keys that are needed. */
export async function issueCertificate<G extends CertificateGrant>(
  body: CertificateBody<G>,
  signers: readonly DocumentSigner[],
): Promise<Certificate<G>> {
  const bytes = encodeCertificateBody(body)
  const document = await signDocument('catalog/certificate/v1', bytes, signers)
  return decodeCertificate(document.bytes) as unknown as Certificate<G>
}

/** The form alone; nothing in it is proved. @throws CatalogError `certificate-malformed` */
export function decodeCertificate(bytes: Uint8Array): Certificate {
  const document = decodeDocument(bytes, certificateLimits.maxBytes, 'The certificate')
  const raw = decodeStrictly(document.body, certificateLimits.maxBytes, 'The certificate')
  const type = (raw as { type?: unknown } | null)?.type as CertificateType
  if (!certificateTypes.includes(type))
    throw new CatalogError('certificate-malformed', 'The certificate is malformed: its type is not known.')
  const fields = new Fields(raw, [...commonFields, ...grantFields[type]], `The ${type} certificate`)
  return { ...decodeCommon(fields), ...decodeGrant(fields, type), ...document }
}

/** Before anything of a chain is decoded or hashed. @throws CatalogError `certificate-malformed` */
export function checkChainSize(chain: readonly Uint8Array[]): void {
  const { maxChain, maxChainBytes } = certificateLimits
  const size = chain.reduce((sum, bytes) => sum + bytes.byteLength, 0)
  if (chain.length === 0 || chain.length > maxChain || size > maxChainBytes)
    throw new CatalogError(
      'certificate-malformed',
      `A chain of ${chain.length} certificates and ${size} bytes is refused: it has 1 to ${maxChain}, of at most ${maxChainBytes} bytes together.`,
    )
}

/** A chain as it travels, leaf first. @throws CatalogError `certificate-malformed` */
export function decodeChain(chain: readonly Uint8Array[]): Certificate[] {
  checkChainSize(chain)
  return chain.map(decodeCertificate)
}

/** The first certificate of a chain, whose kind the caller knows. @throws CatalogError `certificate-malformed` */
export const leafOf = <G extends CertificateGrant = CertificateGrant>(
  chain: readonly Uint8Array[],
): Certificate<G> => decodeChain(chain)[0] as unknown as Certificate<G>

function decodeCommon(fields: Fields): Common {
  fields.version(1)
  const [network, issuer] = [fields.fingerprint('network'), fields.fingerprint('issuer')]
  const [notBefore, notAfter] = [fields.natural('notBefore'), fields.natural('notAfter')]
  if (notBefore > notAfter) throw fields.refuse('it ends before it begins')
  return {
    network,
    serial: fields.bytes('serial', 16),
    subject: fields.keys('subject'),
    issuer,
    notBefore,
    notAfter,
    ...(fields.has('label') ? { label: fields.text('label', 200) } : {}),
    critical: extensionsOf(fields, 'critical'),
    extensions: extensionsOf(fields, 'extensions'),
  }
}

function decodeGrant(fields: Fields, type: CertificateType): CertificateGrant {
  if (type === 'node')
    return {
      type,
      roles: oneOf(fields, 'roles', nodeRoles),
      capabilities: oneOf(fields, 'capabilities', nodeCapabilities),
    }
  const names = fields.texts('names', certificateLimits.maxNames, isNamePattern)
  if (type === 'authority')
    return {
      type,
      maxPathLength: fields.natural('maxPathLength'),
      issues: oneOf(fields, 'issues', certificateTypes),
      names,
    }
  return {
    type,
    publisher: fields.fingerprint('publisher'),
    names,
    rights: oneOf(fields, 'rights', publisherRights),
  }
}

const oneOf = <T extends string>(fields: Fields, field: string, known: readonly T[]): readonly T[] =>
  fields.texts(field, known.length, text => known.includes(text as T)) as readonly T[]

/** Flat: whoever decodes nested ones, and keeps them, pays fifty times their bytes in memory. */
function extensionsOf(fields: Fields, field: string): Extensions {
  const value = fields.raw(field)
  if (value === null || typeof value !== 'object' || Array.isArray(value) || value instanceof Uint8Array)
    throw fields.refuse(`${field} is not a map`)
  const values = Object.values(value)
  const isFlat = values.every(one => one === null || typeof one !== 'object' || one instanceof Uint8Array)
  if (values.length > certificateLimits.maxExtensions || !isFlat)
    throw fields.refuse(
      `${field} is not a map of at most ${certificateLimits.maxExtensions} bytes, texts and numbers`,
    )
  return value as Extensions
}
