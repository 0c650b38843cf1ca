// The seal on a release or head: what exactly is signed, how, and how it is proved. The format is assets/release.ts.
//
//   message = lp(domain) || lp(Ed25519 public key) || lp(Falcon public key) || lp(publisher fingerprint, UTF-8)
//             || lp(chain) || lp(statement bytes)
//   lp(x)   = length of x as 4 bytes, big-endian, then x
//   domain  = "catalog/release/v1", "catalog/head/v1" or "catalog/freshness/v1"
//   chain   = BLAKE3-256 digests of the certificates in the envelope, in order
//
// An envelope carries exactly two signatures of that message, Ed25519 first, Falcon-1024 (round 3, padded) second:
// a fixed order and number, so that nobody but the publisher can make another envelope of the same statement.
// Both keys are in the message because round-3 Falcon alone does not bind its key. Whether the chain lets these keys
// sign for `publisher` is trust-chain.ts; an envelope without a chain can only be of the publisher that its own keys
// are. Proofs have no meaning yet: envelopes that carry any are refused.

import {
  type Envelope,
  encodeEnvelope,
  encodeStatement,
  type Signature,
  type Statement,
} from '../assets/release.ts'
import type { Verified } from '../assets/stage.ts'
import { CatalogError } from '../base/errors.ts'
import { blake3 } from '../base/hash.ts'
import { ed25519 } from './ed25519-scheme.ts'
import { falcon } from './falcon-scheme.ts'
import { publisherFingerprint } from './keys.ts'
import { lengthPrefixed } from './length-prefixed.ts'
import { faultySignature, type SignatureCheck } from './signature-check.ts'
import type { SignatureAlgorithm } from './signature-scheme.ts'

/** Who signs: signer.ts, which holds the secret keys, with the certificates that let it. */
export interface EnvelopeSigner {
  /** The publisher's id. */
  readonly fingerprint: string
  /** Leaf first. */
  readonly chain?: readonly Uint8Array[]
  readonly publicKeys: { readonly ed25519: Uint8Array; readonly falcon: Uint8Array }
  sign(message: Uint8Array): Promise<readonly Signature[]>
}

const domains = {
  release: 'catalog/release/v1',
  head: 'catalog/head/v1',
  freshness: 'catalog/freshness/v1',
} as const

/** The bytes that both algorithms sign. */
export function signingMessage(
  type: Statement['type'],
  keys: { readonly ed25519: Uint8Array; readonly falcon: Uint8Array },
  fingerprint: string,
  statementBytes: Uint8Array,
  chain: readonly Uint8Array[] = [],
): Uint8Array {
  return lengthPrefixed(
    Buffer.from(domains[type]),
    keys.ed25519,
    keys.falcon,
    Buffer.from(fingerprint),
    Buffer.concat(chain.map(blake3)),
    statementBytes,
  )
}

/**
 * Signs a statement. Its `publisher` must be the signer's fingerprint.
 * @throws CatalogError `forbidden` (another publisher's statement), `too-large`, and what the signer throws.
 */
export async function sealStatement<S extends Statement>(
  statement: S,
  signer: EnvelopeSigner,
): Promise<Verified<Envelope<S>>> {
  if (statement.publisher !== signer.fingerprint)
    throw new CatalogError(
      'forbidden',
      `The ${statement.type} record of ${statement.name} was not signed: it names the publisher ${statement.publisher}, but the keys here sign for ${signer.fingerprint}.`,
    )
  const statementBytes = encodeStatement(statement)
  const { chain = [], fingerprint, publicKeys } = signer
  const message = signingMessage(statement.type, publicKeys, fingerprint, statementBytes, chain)
  return verifyEnvelope(encodeEnvelope(statement, statementBytes, await signer.sign(message), chain))
}

/**
 * Proves an envelope that `decodeEnvelope` gave, on this thread: about 0.2 ms. For many at once use `Verifier`.
 * @throws CatalogError `bad-signature`
 */
export function verifyEnvelope<E extends Envelope>(envelope: E): Verified<E> {
  return acceptChecked(envelope, faultySignature(signatureCheckOf(envelope)))
}

/**
 * Checks the form of the seal and says which signatures remain to be checked.
 * @throws CatalogError `bad-signature`
 */
export function signatureCheckOf(envelope: Envelope): SignatureCheck {
  const [first, second, ...others] = envelope.signatures
  if (first?.algorithm !== ed25519.algorithm || second?.algorithm !== falcon.algorithm || others.length > 0)
    throw unproved(
      envelope,
      `it must carry one signature by ${ed25519.algorithm} and one by ${falcon.algorithm}, in this order`,
    )
  if (envelope.proofs.length > 0)
    throw unproved(envelope, 'it carries proofs, which this version cannot check')
  if (!hasLengths(first, ed25519) || !hasLengths(second, falcon))
    throw unproved(envelope, 'a key or signature has a wrong length')
  const { statement, statementBytes } = envelope
  const { chain } = envelope
  if (chain.length === 0 && publisherFingerprint(first.key, second.key) !== statement.publisher)
    throw unproved(envelope, `its keys are not those of the publisher ${statement.publisher}`)
  const keys = { ed25519: first.key, falcon: second.key }
  const message = signingMessage(statement.type, keys, statement.publisher, statementBytes, chain)
  return { message, ed25519: first, falcon: second }
}

/** Stamps the envelope once the outcome of its check is known. @throws CatalogError `bad-signature` */
export function acceptChecked<E extends Envelope>(
  envelope: E,
  faulty: SignatureAlgorithm | undefined,
): Verified<E> {
  if (faulty !== undefined) throw unproved(envelope, `its ${faulty} signature does not hold`)
  return envelope as Verified<E>
}

const hasLengths = (
  { key, signature }: Signature,
  scheme: { readonly publicKeyBytes: number; readonly signatureBytes: number },
): boolean => key.byteLength === scheme.publicKeyBytes && signature.byteLength === scheme.signatureBytes

const unproved = ({ statement, id }: Envelope, why: string) =>
  new CatalogError(
    'bad-signature',
    `The ${statement.type} record of ${statement.name} is refused: ${why}. It was changed on its way, or forged.`,
    { id },
  )
