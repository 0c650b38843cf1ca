// What root documents, certificates and revocation lists have in common: a body and signatures over it.
//
//   document    = canonical CBOR { v: 1, body: bytes, signatures: [{ key, ed25519, falcon }, …] }
//   key         = fingerprint of the signer's two keys (trust/keys.ts); signatures ascend by it, each key once
//   message     = lp(domain) || lp(Ed25519 public key) || lp(Falcon public key) || lp(key, UTF-8) || lp(body)
//   fingerprint = multibase base32 of a BLAKE3-256 multihash (0x1e 0x20 digest) over the body
//
// Both signatures of every signer must hold. The fingerprint names the body whoever has signed it, so that more
// signatures can be gathered for one document; what goes into a chain is bound by the digest of all its bytes.
import { base32 } from 'multiformats/bases/base32'
import { decodeCbor, encodeCbor } from '../base/cbor.ts'
import { CatalogError, isCatalogError } from '../base/errors.ts'
import { blake3 } from '../base/hash.ts'
import { ed25519 } from './ed25519-scheme.ts'
import { falcon } from './falcon-scheme.ts'
import { Fields, isFingerprint, type PublicKeys } from './fields.ts'
import { publisherFingerprint } from './keys.ts'
import { lengthPrefixed } from './length-prefixed.ts'
import type { SignatureCheck } from './signature-check.ts'

export type DocumentDomain = 'catalog/root/v1' | 'catalog/certificate/v1' | 'catalog/revocations/v1'

export interface DocumentSignature {
  /** Fingerprint of the signer's keys. */
  readonly key: string
  readonly ed25519: Uint8Array
  readonly falcon: Uint8Array
}

export interface SignedDocument {
  readonly body: Uint8Array
  readonly signatures: readonly DocumentSignature[]
  /** All of it, as it travels. */
  readonly bytes: Uint8Array
  /** Of the body. */
  readonly fingerprint: string
}

/** Who signs documents: signer.ts. */
export interface DocumentSigner {
  readonly fingerprint: string
  readonly publicKeys: PublicKeys
  sign(message: Uint8Array): Promise<readonly { readonly signature: Uint8Array }[]>
}

export const maxDocumentSignatures = 16

export const fingerprintOf = (body: Uint8Array): string =>
  base32.encode(Buffer.concat([Buffer.from([0x1e, 0x20]), blake3(body)]))

export function encodeDocument(body: Uint8Array, signatures: readonly DocumentSignature[]): SignedDocument {
  const ordered = [...signatures].sort((a, b) => (a.key < b.key ? -1 : 1))
  const bytes = encodeCbor({ v: 1, body, signatures: ordered })
  return { body, signatures: ordered, bytes, fingerprint: fingerprintOf(body) }
}

/** @throws CatalogError `certificate-malformed` */
export function decodeDocument(bytes: Uint8Array, maxBytes: number, what: string): SignedDocument {
  const fields = new Fields(decodeStrictly(bytes, maxBytes, what), ['v', 'body', 'signatures'], what)
  fields.version(1)
  const body = fields.bytes('body')
  const signatures = fields.list('signatures', maxDocumentSignatures).map(raw => {
    const one = new Fields(raw, ['key', 'ed25519', 'falcon'], what)
    return {
      key: one.text('key', 56),
      ed25519: one.bytes('ed25519', ed25519.signatureBytes),
      falcon: one.bytes('falcon', falcon.signatureBytes),
    }
  })
  if (
    signatures.some(
      ({ key }, at) => !isFingerprint(key) || (at > 0 && key <= (signatures[at - 1]?.key ?? '')),
    )
  )
    throw fields.refuse('its signatures are not in ascending order, each key once')
  return { body, signatures, bytes, fingerprint: fingerprintOf(body) }
}

/** The body's fields. @throws CatalogError `certificate-malformed` */
export function decodeStrictly(bytes: Uint8Array, maxBytes: number, what: string): unknown {
  try {
    return decodeCbor(bytes, maxBytes, what)
  } catch (error) {
    if (!isCatalogError(error, 'bad-record')) throw error
    throw new CatalogError('certificate-malformed', error.message, {}, error)
  }
}

/** The bytes that both algorithms of one signer sign. */
export const documentMessage = (domain: DocumentDomain, signer: PublicKeys, body: Uint8Array): Uint8Array =>
  lengthPrefixed(
    Buffer.from(domain),
    signer.ed25519,
    signer.falcon,
    Buffer.from(publisherFingerprint(signer.ed25519, signer.falcon)),
    body,
  )

export async function signDocument(
  domain: DocumentDomain,
  body: Uint8Array,
  signers: readonly DocumentSigner[],
): Promise<SignedDocument> {
  const signatures = await Promise.all(signers.map(signer => signBody(domain, body, signer)))
  return encodeDocument(body, signatures)
}

export async function signBody(
  domain: DocumentDomain,
  body: Uint8Array,
  signer: DocumentSigner,
): Promise<DocumentSignature> {
  const [classical, quantumSafe] = await signer.sign(documentMessage(domain, signer.publicKeys, body))
  if (classical === undefined || quantumSafe === undefined)
    throw new TypeError('a signer gives two signatures')
  return { key: signer.fingerprint, ed25519: classical.signature, falcon: quantumSafe.signature }
}

/** What remains to be checked of the signature that this signer made; undefined when there is none. */
export function checkOf(
  domain: DocumentDomain,
  document: SignedDocument,
  signer: PublicKeys,
): SignatureCheck | undefined {
  const key = publisherFingerprint(signer.ed25519, signer.falcon)
  const found = document.signatures.find(signature => signature.key === key)
  if (found === undefined) return undefined
  return {
    message: documentMessage(domain, signer, document.body),
    ed25519: { key: signer.ed25519, signature: found.ed25519 },
    falcon: { key: signer.falcon, signature: found.falcon },
  }
}
