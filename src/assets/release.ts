// The signed records of the product, as values and as canonical bytes: a release (one published version), a head (a
// publisher's numbered list of the versions of one name) and a freshness statement (a longer life for one head).
// Signing and verifying live in trust/; this file owns the formats and refuses whatever is malformed before any
// signature is looked at.
//
//   envelope  = { v, statement: bytes, signatures: [{ algorithm, key, signature }], chain: [bytes], proofs: [bytes] }
//   statement = canonical CBOR of a release, head or freshness statement; what is signed (see trust/envelope.ts)
//   release id = CID of the whole envelope
//
// `chain` is the certificates that let the signer sign, leaf first, without the root (docs/trustchain.md). `proofs`
// (admission) is a place kept for what comes: empty for now.
import { decodeCbor, encodeCbor } from '../base/cbor.ts'
import { type CidText, cidOf, isCid } from '../base/cid.ts'
import { CatalogError } from '../base/errors.ts'
import { digestBytes } from '../base/hash.ts'
import { isPackageName, isSemanticVersion } from './name.ts'

export const recordLimits = {
  /** Encoded bytes of an envelope: a head of 1,000 versions, or a release with its manifest inside. */
  maxBytes: 128 * 1024,
  /** A manifest larger than this stays out of the envelope and is named by `manifestPath` alone. */
  maxInlineManifestBytes: 48 * 1024,
  maxVersions: 1000,
  maxSignatures: 8,
  maxChain: 8,
  maxProofs: 8,
  /** Characters of why a version is yanked or revoked, and of what a deprecation says. */
  maxReasonLength: 200,
  maxDeprecationLength: 500,
  /** Nothing is called fresh for longer than this after it was signed: who is cut off must come to know it. */
  maxFreshMs: 30 * 24 * 3600 * 1000,
} as const

export interface ReleaseStatement {
  readonly type: 'release'
  /** The network's name: a record of one network is refused in another. */
  readonly network: string
  /** Fingerprint of the publisher's keys (trust/keys.ts): multibase text. */
  readonly publisher: string
  readonly name: string
  readonly version: string
  readonly root: CidText
  /** Bytes of the stream; number of files and links. */
  readonly size: number
  readonly files: number
  /** Digests of the whole stream, as in the content index. */
  readonly blake3: Uint8Array
  readonly sha256: Uint8Array
  /** Path of the manifest file in the release, for example `catalog.yaml`. */
  readonly manifestPath: string
  /** The validated manifest without inline binaries; absent when larger than the limit (then read it from the release). */
  readonly manifest?: unknown
  /** Milliseconds since 1970 (UTC). */
  readonly signedAt: number
}

/** One line of a head. */
export interface ListedVersion {
  readonly version: string
  readonly id: CidText
  /** Why nobody should take it up any more; ranges pass it over, its exact version still finds it. Comes and goes. */
  readonly yanked?: string
  /** Why nobody may install it any more. Never goes away. */
  readonly revoked?: string
}

export interface HeadStatement {
  readonly type: 'head'
  readonly network: string
  readonly publisher: string
  readonly name: string
  /** 1 for the first head of a name; each later head is one higher. */
  readonly sequence: number
  /** CID of the envelope of the head before; absent for the first. */
  readonly previous?: CidText
  /** Ascending by semantic version. */
  readonly versions: readonly ListedVersion[]
  /** What those who use the package should know, for example what to use instead. Comes and goes. */
  readonly deprecated?: string
  readonly signedAt: number
  /** Milliseconds since 1970 (UTC); past it the head is old news. */
  readonly expiresAt: number
}

/** Extends the life of exactly one head; signed by whoever the publisher lets freshen, who can change nothing else. */
export interface FreshnessStatement {
  readonly type: 'freshness'
  readonly network: string
  readonly publisher: string
  readonly name: string
  /** The head that is still the newest, and its number. */
  readonly head: CidText
  readonly sequence: number
  readonly signedAt: number
  readonly expiresAt: number
}

export type Statement = ReleaseStatement | HeadStatement | FreshnessStatement

export interface Signature {
  /** `ed25519` or `falcon-1024-r3`. */
  readonly algorithm: string
  readonly key: Uint8Array
  readonly signature: Uint8Array
}

export interface Envelope<S extends Statement = Statement> {
  readonly statement: S
  /** The exact bytes that were signed. */
  readonly statementBytes: Uint8Array
  readonly signatures: readonly Signature[]
  readonly chain: readonly Uint8Array[]
  readonly proofs: readonly Uint8Array[]
  /** The canonical bytes of the envelope, and the CID that names them. */
  readonly bytes: Uint8Array
  readonly id: CidText
}

/** The Ed25519 key that signed it: which machine of a publisher did. */
export const signingKeyOf = ({ signatures }: Pick<Envelope, 'signatures'>): Uint8Array =>
  signatures[0]?.key ?? new Uint8Array(0)

const version = 1

/** The canonical bytes of a statement: what gets signed. */
export function encodeStatement(statement: Statement): Uint8Array {
  const fields = Object.fromEntries(Object.entries(statement).filter(([, value]) => value !== undefined))
  return encodeCbor({ v: version, ...fields })
}

/** @throws CatalogError `too-large` when the record is over the limit that every peer enforces. */
export function encodeEnvelope<S extends Statement>(
  statement: S,
  statementBytes: Uint8Array,
  signatures: readonly Signature[],
  chain: readonly Uint8Array[] = [],
): Envelope<S> {
  const proofs: Uint8Array[] = []
  const bytes = encodeCbor({ v: version, statement: statementBytes, signatures, chain, proofs })
  if (bytes.byteLength > recordLimits.maxBytes)
    throw new CatalogError(
      'too-large',
      `The ${statement.type} record of ${statement.name} is ${bytes.byteLength} bytes; peers accept ${recordLimits.maxBytes}.`,
    )
  return { statement, statementBytes, signatures, chain, proofs, bytes, id: cidOf(bytes) }
}

/**
 * Decodes and checks the form of an envelope; its signatures are still unproved.
 * @throws CatalogError `bad-record`
 */
export function decodeEnvelope(bytes: Uint8Array): Envelope {
  const raw = record(decodeCbor(bytes, recordLimits.maxBytes, 'A record'), [
    'v',
    'statement',
    'signatures',
    'chain',
    'proofs',
  ])
  if (raw['v'] !== version) throw broken(`envelope version ${String(raw['v'])} is not supported`)
  const statementBytes = bytesField(raw, 'statement')
  return {
    statement: decodeStatement(statementBytes),
    statementBytes,
    signatures: list(raw['signatures'], recordLimits.maxSignatures, 'signatures').map(decodeSignature),
    chain: list(raw['chain'], recordLimits.maxChain, 'chain').map(asBytes),
    proofs: list(raw['proofs'], recordLimits.maxProofs, 'proofs').map(asBytes),
    bytes,
    id: cidOf(bytes),
  }
}

function decodeSignature(raw: unknown): Signature {
  const fields = record(raw, ['algorithm', 'key', 'signature'])
  return {
    algorithm: text(fields, 'algorithm', 64),
    key: bytesField(fields, 'key'),
    signature: bytesField(fields, 'signature'),
  }
}

function decodeStatement(bytes: Uint8Array): Statement {
  const raw = decodeCbor(bytes, recordLimits.maxBytes, 'A statement')
  const type = (raw as { type?: unknown } | null)?.type
  if (type === 'release') return decodeRelease(raw)
  if (type === 'head') return decodeHead(raw)
  if (type === 'freshness') return decodeFreshness(raw)
  throw broken('it is neither a release nor a head nor a freshness statement')
}

const releaseFields = [
  'v',
  'type',
  'network',
  'publisher',
  'name',
  'version',
  'root',
  'size',
  'files',
  'blake3',
  'sha256',
  'manifestPath',
  'manifest',
  'signedAt',
]

function decodeRelease(value: unknown): ReleaseStatement {
  const raw = record(value, releaseFields)
  const { network, publisher, name } = common(raw)
  return {
    type: 'release',
    network,
    publisher,
    name,
    version: semver(raw['version']),
    root: cid(raw['root']),
    size: natural(raw, 'size'),
    files: natural(raw, 'files'),
    blake3: digest(raw, 'blake3'),
    sha256: digest(raw, 'sha256'),
    manifestPath: text(raw, 'manifestPath', 64),
    ...(raw['manifest'] === undefined ? {} : { manifest: raw['manifest'] }),
    signedAt: natural(raw, 'signedAt'),
  }
}

const headFields = [
  'v',
  'type',
  'network',
  'publisher',
  'name',
  'sequence',
  'previous',
  'versions',
  'deprecated',
  'signedAt',
  'expiresAt',
]

function decodeHead(value: unknown): HeadStatement {
  const raw = record(value, headFields)
  const { network, publisher, name } = common(raw)
  const sequence = natural(raw, 'sequence')
  if (sequence < 1) throw broken('its sequence is below 1')
  if ((sequence === 1) !== (raw['previous'] === undefined))
    throw broken('only the first head has no predecessor')
  const versions = list(raw['versions'], recordLimits.maxVersions, 'versions').map(decodeListed)
  if (new Set(versions.map(item => item.version)).size !== versions.length)
    throw broken('it lists a version twice')
  return {
    type: 'head',
    network,
    publisher,
    name,
    sequence,
    ...(raw['previous'] === undefined ? {} : { previous: cid(raw['previous']) }),
    versions,
    ...optionalText(raw, 'deprecated', recordLimits.maxDeprecationLength),
    ...lifeOf(raw),
  }
}

function decodeListed(item: unknown): ListedVersion {
  const fields = record(item, ['version', 'id', 'yanked', 'revoked'])
  return {
    version: semver(fields['version']),
    id: cid(fields['id']),
    ...optionalText(fields, 'yanked', recordLimits.maxReasonLength),
    ...optionalText(fields, 'revoked', recordLimits.maxReasonLength),
  }
}

const freshnessFields = [
  'v',
  'type',
  'network',
  'publisher',
  'name',
  'head',
  'sequence',
  'signedAt',
  'expiresAt',
]

function decodeFreshness(value: unknown): FreshnessStatement {
  const raw = record(value, freshnessFields)
  const sequence = natural(raw, 'sequence')
  if (sequence < 1) throw broken('its sequence is below 1')
  return { type: 'freshness', ...common(raw), head: cid(raw['head']), sequence, ...lifeOf(raw) }
}

function lifeOf(raw: Record<string, unknown>): { signedAt: number; expiresAt: number } {
  const [signedAt, expiresAt] = [natural(raw, 'signedAt'), natural(raw, 'expiresAt')]
  return { signedAt, expiresAt }
}

function common(raw: Record<string, unknown>): { network: string; publisher: string; name: string } {
  if (raw['v'] !== version) throw broken(`statement version ${String(raw['v'])} is not supported`)
  const name = text(raw, 'name', 256)
  if (!isPackageName(name)) throw broken('its name is not a package name')
  return { network: text(raw, 'network', 256), publisher: text(raw, 'publisher', 100), name }
}

function record(value: unknown, fields: readonly string[]): Record<string, unknown> {
  if (value === null || typeof value !== 'object' || Array.isArray(value) || value instanceof Uint8Array)
    throw broken('a map is missing')
  const unknown = Object.keys(value).find(key => !fields.includes(key))
  if (unknown !== undefined) throw broken(`it has the unknown field ${JSON.stringify(unknown.slice(0, 40))}`)
  return value as Record<string, unknown>
}

function list(value: unknown, max: number, what: string): unknown[] {
  if (!Array.isArray(value) || value.length > max) throw broken(`${what} is not a list of at most ${max}`)
  return value
}

function text(raw: Record<string, unknown>, field: string, maxLength: number): string {
  const value = raw[field]
  if (typeof value !== 'string' || value === '' || value.length > maxLength)
    throw broken(`${field} is not a short text`)
  return value
}

function optionalText<F extends string>(
  raw: Record<string, unknown>,
  field: F,
  maxLength: number,
): { readonly [K in F]?: string } {
  if (raw[field] === undefined) return {}
  const value = text(raw, field, maxLength)
  // It reaches terminals.
  if (/\p{Cc}/u.test(value)) throw broken(`${field} has control characters`)
  return { [field]: value } as { [K in F]: string }
}

function natural(raw: Record<string, unknown>, field: string): number {
  const value = raw[field]
  if (typeof value !== 'number' || !Number.isSafeInteger(value) || value < 0)
    throw broken(`${field} is not a natural number`)
  return value
}

function asBytes(value: unknown): Uint8Array {
  if (!(value instanceof Uint8Array)) throw broken('bytes are missing')
  return value
}

const bytesField = (raw: Record<string, unknown>, field: string): Uint8Array => asBytes(raw[field])

function digest(raw: Record<string, unknown>, field: string): Uint8Array {
  const value = bytesField(raw, field)
  if (value.byteLength !== digestBytes) throw broken(`${field} is not 32 bytes`)
  return value
}

function semver(value: unknown): string {
  if (typeof value !== 'string' || !isSemanticVersion(value))
    throw broken('a version is not a semantic version')
  return value
}

function cid(value: unknown): CidText {
  if (typeof value !== 'string' || !isCid(value)) throw broken('a CID is malformed')
  return value
}

const broken = (why: string) => new CatalogError('bad-record', `The record is refused: ${why}.`)
