// A PEM file with an X.509 certificate and its Ed25519 key, as `catalog init --certificate FILE` takes it. What comes
// out is the node's key and, where the certificate is one that x509.ts made, the chain that it carries. Nobody is a
// member by X.509: whoever issued it is not asked, and the chain has to hold as any other.
import { createPrivateKey, type KeyObject, X509Certificate } from 'node:crypto'
import { AsnConvert, OctetString } from '@peculiar/asn1-schema'
import { Extension, Certificate as X509 } from '@peculiar/asn1-x509'
import { equalBytes } from '../base/cbor.ts'
import { CatalogError } from '../base/errors.ts'
import { type Certificate, certificateLimits, decodeChain } from './certificate.ts'
import { decodeStrictly } from './document.ts'
import { Fields } from './fields.ts'
import { chainLabel, decodePem, type PemBlock } from './pem.ts'
import { chainExtension } from './x509.ts'

export interface ImportedCertificate {
  /** The Ed25519 secret key (RFC 8032): 32 bytes. The caller wipes it. */
  readonly nodeKeySeed: Uint8Array
  /** The subject's common name, where it is one that can be shown. */
  readonly label?: string
  /** Milliseconds since 1970 (UTC). */
  readonly notBefore: number
  readonly notAfter: number
  /** The node's certificates, leaf first; of the right form and for this key, and no more than that. */
  readonly chain?: readonly Certificate[]
}

const keyLabel = 'PRIVATE KEY'
const maxLabel = 200

/** The extension's number as the parser writes it: its large part comes back in another notation than it went in. */
const chainExtensionAsRead = AsnConvert.parse(
  AsnConvert.serialize(new Extension({ extnID: chainExtension, extnValue: new OctetString() })),
  Extension,
).extnID

/**
 * `what` begins every sentence: "The file node.pem"; `now` is in milliseconds since 1970 (UTC).
 * @throws CatalogError `too-large`, `certificate-malformed`, `certificate-wrong-usage` (another kind of key, or they do
 *   not belong together), `certificate-expired`, `certificate-not-yet-valid`, `passphrase-needed` (an encrypted key)
 */
export function importX509(text: string, what: string, now: number): ImportedCertificate {
  const blocks = decodePem(text, what)
  const key = readKey(blocks, what)
  const { parsed, bytes } = readCertificate(blocks, what)
  // OpenSSL looks at the parts when they are asked for.
  const kind = parse(what, 'its key', () => parsed.publicKey.asymmetricKeyType)
  if (kind !== 'ed25519')
    throw wrong(what, `its certificate is for a key of the kind ${kind}, and nodes have Ed25519 keys`)
  if (!parsed.checkPrivateKey(key)) throw wrong(what, 'its certificate and its key do not belong together')
  const { notBefore, notAfter } = checkDates(parsed, what, now)
  const { d = '', x = '' } = key.export({ format: 'jwk' })
  const chain = readChain(blocks, bytes, what)
  const label = labelOf(parsed)
  if (chain !== undefined) checkChainOf(chain, new Uint8Array(Buffer.from(x, 'base64url')), what)
  return {
    nodeKeySeed: new Uint8Array(Buffer.from(d, 'base64url')),
    notBefore,
    notAfter,
    ...(label === undefined ? {} : { label }),
    ...(chain === undefined ? {} : { chain }),
  }
}

function checkDates(
  parsed: X509Certificate,
  what: string,
  now: number,
): { notBefore: number; notAfter: number } {
  const dates = [parsed.validFromDate, parsed.validToDate]
  const [notBefore, notAfter] = parse(
    what,
    'its dates',
    () => dates.map(date => Date.parse(date.toISOString())) as [number, number],
  )
  if (now < notBefore)
    throw new CatalogError(
      'certificate-not-yet-valid',
      `${what} is refused: its certificate is valid from ${new Date(notBefore).toISOString()} on. Is a clock wrong?`,
    )
  if (now > notAfter)
    throw new CatalogError(
      'certificate-expired',
      `${what} is refused: its certificate was valid until ${new Date(notAfter).toISOString()}.`,
    )
  return { notBefore, notAfter }
}

function readKey(blocks: readonly PemBlock[], what: string): KeyObject {
  const keys = blocks.filter(({ label }) => label.endsWith(keyLabel))
  const [block] = keys
  if (block === undefined || keys.length > 1)
    throw wrong(what, `it has ${keys.length} private keys, and one is needed beside the certificate`)
  if (block.label === `ENCRYPTED ${keyLabel}`)
    throw new CatalogError(
      'passphrase-needed',
      `${what} was not read: its key is encrypted. Decrypt it first, with \`openssl pkey\`, into a file of mode 0600.`,
    )
  if (block.label !== keyLabel)
    throw wrong(
      what,
      `it has an ${block.label}, and nodes have Ed25519 keys in PKCS#8 (\`openssl genpkey -algorithm ed25519\`)`,
    )
  const key = parse(what, 'its key', () =>
    createPrivateKey({ key: Buffer.from(block.bytes), format: 'der', type: 'pkcs8' }),
  )
  if (key.asymmetricKeyType !== 'ed25519')
    throw wrong(what, `its key is of the kind ${key.asymmetricKeyType}, and nodes have Ed25519 keys`)
  return key
}

/** The first certificate; those of its issuers may follow, and say nothing here. */
function readCertificate(
  blocks: readonly PemBlock[],
  what: string,
): { parsed: X509Certificate; bytes: Uint8Array } {
  const foreign = blocks.find(
    ({ label }) => !label.endsWith(keyLabel) && label !== 'CERTIFICATE' && label !== chainLabel,
  )
  if (foreign !== undefined) throw wrong(what, `it has a ${foreign.label}, which belongs somewhere else`)
  const bytes = blocks.find(({ label }) => label === 'CERTIFICATE')?.bytes
  if (bytes === undefined) throw wrong(what, 'it has no certificate')
  return { bytes, parsed: parse(what, 'its certificate', () => new X509Certificate(bytes)) }
}

/** From blocks of ours beside it, or out of the certificate. */
function readChain(blocks: readonly PemBlock[], bytes: Uint8Array, what: string): Certificate[] | undefined {
  const beside = blocks.filter(({ label }) => label === chainLabel)
  if (beside.length > 0) return decodeChain(beside.map(block => block.bytes))
  const { extensions = [] } = parse(what, 'its certificate', () =>
    AsnConvert.parse(bytes, X509),
  ).tbsCertificate
  const found = extensions.filter(({ extnID }) => extnID === chainExtensionAsRead)
  const [one] = found
  if (one === undefined) return undefined
  if (found.length > 1) throw wrong(what, 'its certificate carries two chains')
  const inside = parse(what, 'the chain in its certificate', () =>
    AsnConvert.parse(one.extnValue.buffer, OctetString),
  )
  const name = 'The chain in the X.509 certificate'
  const raw = decodeStrictly(new Uint8Array(inside.buffer), certificateLimits.maxChainBytes + 1024, name)
  const fields = new Fields(raw, ['v', 'chain'], name)
  fields.version(1)
  return decodeChain(
    fields.list('chain', certificateLimits.maxChain).map(each => {
      if (!(each instanceof Uint8Array)) throw fields.refuse('a certificate is not bytes')
      return each
    }),
  )
}

function checkChainOf(chain: readonly Certificate[], publicKey: Uint8Array, what: string): void {
  const [leaf] = chain
  if (leaf?.type !== 'node')
    throw wrong(what, `it carries the chain of a ${leaf?.type} certificate, and a node's is needed`)
  if (!equalBytes(leaf.subject.ed25519, publicKey)) throw wrong(what, 'it carries the chain of another key')
}

function labelOf({ subject }: X509Certificate): string | undefined {
  const [, label] = /^CN=(.+)$/m.exec(subject ?? '') ?? []
  return label === undefined || label.length > maxLabel || /[\p{Cc}\\]/u.test(label) ? undefined : label
}

function parse<T>(what: string, part: string, read: () => T): T {
  try {
    return read()
  } catch (error) {
    throw new CatalogError(
      'certificate-malformed',
      `${what} was not read: ${part} is malformed (${(error as Error).message}).`,
      {},
      error,
    )
  }
}

const wrong = (what: string, why: string) =>
  new CatalogError('certificate-wrong-usage', `${what} cannot be used: ${why}.`)
