// The root of a network: which keys decide, how many of them it takes, and how one root follows another (after
// TUF 1.0, section 5.3, https://theupdateframework.github.io/specification/latest/#update-root).
// The format is written down in docs/trustchain.md.
import { encodeCbor } from '../base/cbor.ts'
import { CatalogError } from '../base/errors.ts'
import {
  checkOf,
  type DocumentSigner,
  decodeDocument,
  decodeStrictly,
  maxDocumentSignatures,
  type SignedDocument,
  signDocument,
} from './document.ts'
import { Fields, isFingerprint, type PublicKeys, readKeys } from './fields.ts'
import { publisherFingerprint } from './keys.ts'
import type { SignatureCheck } from './signature-check.ts'

export const rootLimits = {
  maxBytes: 64 * 1024,
  maxKeys: 12,
  /** A document has room for the signatures of two thresholds, the old and the new. */
  maxThreshold: maxDocumentSignatures / 2,
  /** Authorities that one root document carries on or revokes. */
  maxAuthorities: 128,
} as const

export interface RootBody {
  readonly type: 'root'
  /** The network's name, for protocols and people; what names it to machines is the fingerprint of version 1. */
  readonly network: string
  /** 1 for the first. */
  readonly version: number
  /** Fingerprint of the version before; absent for the first. */
  readonly previous?: string
  readonly keys: readonly PublicKeys[]
  readonly threshold: number
  /** Milliseconds since 1970 (UTC). */
  readonly notBefore: number
  readonly notAfter: number
  /** Certificates issued by earlier versions that go on to hold, by fingerprint. */
  readonly carried: readonly string[]
  /** Certificates issued by any version that hold no more. */
  readonly revoked: readonly string[]
}

export type Root = RootBody & SignedDocument

const bodyFields = [
  'v',
  'type',
  'network',
  'version',
  'previous',
  'keys',
  'threshold',
  'notBefore',
  'notAfter',
  'carried',
  'revoked',
]

/** Signs a root: by at least its threshold of its own keys and, from version 2 on, of the keys before. */
export async function signRoot(body: RootBody, signers: readonly DocumentSigner[]): Promise<Root> {
  const bytes = encodeRootBody(body)
  return decodeRoot((await signDocument('catalog/root/v1', bytes, signers)).bytes)
}

export function encodeRootBody(body: RootBody): Uint8Array {
  const fields = Object.fromEntries(Object.entries(body).filter(([, value]) => value !== undefined))
  const keys = [...body.keys].sort((a, b) => (fingerprint(a) < fingerprint(b) ? -1 : 1))
  const [carried, revoked] = [[...new Set(body.carried)].sort(), [...new Set(body.revoked)].sort()]
  return encodeCbor({ v: 1, ...fields, keys, carried, revoked })
}

/** The form alone. @throws CatalogError `certificate-malformed` */
export function decodeRoot(bytes: Uint8Array): Root {
  const document = decodeDocument(bytes, rootLimits.maxBytes, 'The root document')
  const fields = new Fields(
    decodeStrictly(document.body, rootLimits.maxBytes, 'The root document'),
    bodyFields,
    'The root document',
  )
  fields.version(1)
  if (fields.raw('type') !== 'root') throw fields.refuse('it is not a root document')
  const keys = fields.list('keys', rootLimits.maxKeys).map(raw => readKeys(raw, 'A key of the root document'))
  const names = keys.map(fingerprint)
  if (names.some((name, at) => at > 0 && name <= (names[at - 1] as string)))
    throw fields.refuse('its keys are not in ascending order, each once')
  const [version, threshold] = [fields.natural('version'), fields.natural('threshold')]
  // Who holds one half of two keys would count twice.
  for (const half of ['ed25519', 'falcon'] as const)
    if (new Set(keys.map(key => base64(key[half]))).size !== keys.length)
      throw fields.refuse(`two of its keys share their ${half} part`)
  if (threshold < 1 || threshold > Math.min(keys.length, rootLimits.maxThreshold))
    throw fields.refuse(
      `its threshold is ${threshold} of ${keys.length} keys, and at most ${rootLimits.maxThreshold}`,
    )
  if (version < 1 || (version === 1) === fields.has('previous'))
    throw fields.refuse('only the first version has no predecessor')
  const [notBefore, notAfter] = [fields.natural('notBefore'), fields.natural('notAfter')]
  if (notBefore > notAfter) throw fields.refuse('it ends before it begins')
  return {
    type: 'root',
    network: fields.text('network', 64),
    version,
    ...(fields.has('previous') ? { previous: fields.fingerprint('previous') } : {}),
    keys,
    threshold,
    notBefore,
    notAfter,
    carried: fields.texts('carried', rootLimits.maxAuthorities, isFingerprint),
    revoked: fields.texts('revoked', rootLimits.maxAuthorities, isFingerprint),
    ...document,
  }
}

/**
 * Whether `next` may follow `current`: its form here, its signatures as checks that the caller makes.
 * @throws CatalogError `stale-record` (not newer), `root-not-trusted` (it does not follow), `root-threshold` (too few signatures)
 */
export function successionChecks(current: Root, next: Root): SignatureCheck[] {
  if (next.version <= current.version)
    throw new CatalogError(
      'stale-record',
      `Version ${next.version} of the network's root is refused: version ${current.version} is known.`,
      { known: current.version, refused: next.version },
    )
  if (next.version !== current.version + 1 || next.previous !== current.fingerprint)
    throw new CatalogError(
      'root-not-trusted',
      `Version ${next.version} of the network's root is refused: it does not follow version ${current.version} (${current.fingerprint}), which is known.`,
      { known: current.version, refused: next.version },
    )
  if (next.network !== current.network)
    throw new CatalogError('root-not-trusted', `The new root names another network: ${next.network}.`)
  refuseStrangers(next, [current, next], 'this root or the one before it')
  return [
    ...thresholdChecks('catalog/root/v1', next, current, 'the root before it'),
    ...thresholdChecks('catalog/root/v1', next, next, 'its own keys'),
  ]
}

/**
 * The checks by which a document carries enough signatures of a root.
 * @throws CatalogError `root-threshold`
 */
export function thresholdChecks(
  domain: 'catalog/root/v1' | 'catalog/certificate/v1',
  document: SignedDocument,
  root: Pick<RootBody, 'keys' | 'threshold'>,
  whose: string,
): SignatureCheck[] {
  const checks = root.keys.flatMap(keys => checkOf(domain, document, keys) ?? [])
  if (checks.length < root.threshold)
    throw new CatalogError(
      'root-threshold',
      `It carries ${checks.length} signatures of ${whose}; ${root.threshold} are needed.`,
      { signatures: checks.length, threshold: root.threshold },
    )
  // One that does not hold beside enough that do is still refused: nobody honest adds it.
  return checks
}

/** @throws CatalogError `root-threshold`, `root-not-trusted` */
export function firstRootChecks(root: Root, expected: string): SignatureCheck[] {
  if (root.fingerprint !== expected || root.version !== 1)
    throw new CatalogError(
      'root-not-trusted',
      `The network's root is ${root.fingerprint}, but ${expected} is expected: this is another network, or somebody in between.`,
      { expected, found: root.fingerprint },
    )
  refuseStrangers(root, [root], 'this root')
  return thresholdChecks('catalog/root/v1', root, root, 'its own keys')
}

/**
 * Nobody checks the signature of a key that decides nothing, so none may be there: one body, whoever carries it,
 * has only signatures that were made for it.
 * @throws CatalogError `root-threshold`
 */
export function refuseStrangers(
  document: SignedDocument,
  roots: readonly Pick<RootBody, 'keys'>[],
  whose: string,
): void {
  const known = new Set(roots.flatMap(({ keys }) => keys.map(fingerprint)))
  const stranger = document.signatures.find(({ key }) => !known.has(key))
  if (stranger !== undefined)
    throw new CatalogError(
      'root-threshold',
      `It carries a signature by ${stranger.key}, which is no key of ${whose}.`,
    )
}

const fingerprint = ({ ed25519, falcon }: PublicKeys): string => publisherFingerprint(ed25519, falcon)
const base64 = (bytes: Uint8Array): string => Buffer.from(bytes).toString('base64')
