// Certificates of ours as X.509 v3 (RFC 5280, RFC 8410), for tools that know no other form: their Ed25519 part, signed
// with the Ed25519 key of their issuer. What is exported proves nothing to Catalog; x509-import.ts says what comes back.
//
// Who signs. An X.509 certificate needs a signature of its own, so it is made where its issuer's key is: an authority
// exports what it issued. Nobody signs his own, with one exception: an authority that stands directly below the root
// has no issuer that X.509 could express (a threshold of keys), so it is exported self-signed, as the trust anchor
// (RFC 5280, 6.1.1 (d)) that whoever verifies must be handed anyway. What publishers delegate is not exported: X.509
// would make authorities of them. In every case a chain can be carried as CATALOG CERTIFICATE blocks (pem.ts).
//
// subject      CN = label (where it has at most 64 characters) or fingerprint; serialNumber = fingerprint
// SAN          URI `catalog:ROOT-FINGERPRINT/TYPE/CERTIFICATE-FINGERPRINT`
// extensions   basicConstraints and keyUsage (critical), extKeyUsage, key identifiers (RFC 7093, method 1), and ours,
//              not critical: OCTET STRING of canonical CBOR { v: 1, chain: [certificate bytes, leaf first] }, under
//              2.25.325499427989785982401643641358804039937, a UUID (ITU-T X.667): no registration, no clash
//
// The key also signs documents of ours. Those messages begin with 00 00 00 (a length), an X.509 certificate's with 30
// (a SEQUENCE): neither can be taken for the other.
import { AsnConvert, OctetString } from '@peculiar/asn1-schema'
import {
  AlgorithmIdentifier,
  AttributeTypeAndValue,
  AttributeValue,
  AuthorityKeyIdentifier,
  BasicConstraints,
  ExtendedKeyUsage,
  Extension,
  Extensions,
  GeneralName,
  id_ce_authorityKeyIdentifier,
  id_ce_basicConstraints,
  id_ce_extKeyUsage,
  id_ce_keyUsage,
  id_ce_subjectAltName,
  id_ce_subjectKeyIdentifier,
  id_kp_clientAuth,
  id_kp_codeSigning,
  id_kp_serverAuth,
  KeyIdentifier,
  KeyUsage,
  KeyUsageFlags,
  Name,
  RelativeDistinguishedName,
  SubjectAlternativeName,
  SubjectKeyIdentifier,
  SubjectPublicKeyInfo,
  TBSCertificate,
  Validity,
  Version,
  Certificate as X509,
} from '@peculiar/asn1-x509'
import { encodeCbor } from '../base/cbor.ts'
import { CatalogError } from '../base/errors.ts'
import { sha256 } from '../base/hash.ts'
import type { Certificate } from './certificate.ts'
import { subjectOf } from './chain.ts'
import type { DocumentSigner } from './document.ts'
import { encodePem } from './pem.ts'

export const chainExtension = '2.25.325499427989785982401643641358804039937'

const ed25519Oid = '1.3.101.112'
const commonName = '2.5.4.3'
const serialNumber = '2.5.4.5'
/** RFC 5280, appendix A: ub-common-name. */
const maxCommonName = 64
/** RFC 5280, 4.1.2.5: what has no end ends here. */
const endOfTime = Date.UTC(9999, 11, 31, 23, 59, 59)

/**
 * The first certificate of a chain as X.509, in PEM. `signer` is its issuer, or itself where the root has issued it.
 * @throws CatalogError `capability-missing` (the issuer's key is not here), `invalid-request` (X.509 has no form for it)
 */
export async function exportX509(chain: readonly Certificate[], signer: DocumentSigner): Promise<string> {
  const [leaf, above] = chain
  if (leaf === undefined) throw new CatalogError('invalid-request', 'There is no certificate to export.')
  const issuer = issuerOf(leaf, above)
  if (signer.fingerprint !== subjectOf(issuer))
    throw new CatalogError(
      'capability-missing',
      `The ${leaf.type} certificate ${leaf.fingerprint} was not exported as X.509: that takes the signature of its issuer ${issuer.fingerprint}, whose key is not here. Export it on the node of that authority, or export the chain as it is.`,
      { certificate: leaf.fingerprint, issuer: issuer.fingerprint },
    )
  const tbs = toBeSigned(leaf, issuer, chain)
  const bytes = new Uint8Array(AsnConvert.serialize(tbs))
  const [classical] = await signer.sign(bytes)
  if (classical === undefined) throw new TypeError('a signer gives two signatures')
  const signed = new X509({
    tbsCertificate: tbs,
    signatureAlgorithm: new AlgorithmIdentifier({ algorithm: ed25519Oid }),
    signatureValue: buffer(classical.signature),
  })
  return encodePem('CERTIFICATE', new Uint8Array(AsnConvert.serialize(signed)))
}

function issuerOf(leaf: Certificate, above: Certificate | undefined): Certificate {
  const impossible = (why: string) =>
    new CatalogError(
      'invalid-request',
      `The ${leaf.type} certificate ${leaf.fingerprint} has no form in X.509: ${why}. Export the chain as it is.`,
    )
  if (above?.type === 'authority') return above
  if (above !== undefined) throw impossible('a publisher delegated it, and would become an authority there')
  if (leaf.type === 'authority') return leaf
  throw impossible("a threshold of the root's keys issued it")
}

function toBeSigned(leaf: Certificate, issuer: Certificate, chain: readonly Certificate[]): TBSCertificate {
  const algorithm = new AlgorithmIdentifier({ algorithm: ed25519Oid })
  return new TBSCertificate({
    version: Version.v3,
    serialNumber: positive(leaf.serial),
    signature: algorithm,
    issuer: nameOf(issuer),
    // Never longer than ours: X.509 knows whole seconds.
    validity: new Validity({
      notBefore: new Date(Math.min(Math.ceil(leaf.notBefore / 1000) * 1000, endOfTime)),
      notAfter: new Date(Math.min(leaf.notAfter, endOfTime)),
    }),
    subject: nameOf(leaf),
    subjectPublicKeyInfo: new SubjectPublicKeyInfo({
      algorithm,
      subjectPublicKey: buffer(leaf.subject.ed25519),
    }),
    extensions: new Extensions([
      ...usageOf(leaf),
      extension(
        id_ce_subjectAltName,
        false,
        new SubjectAlternativeName([
          new GeneralName({
            uniformResourceIdentifier: `catalog:${leaf.network}/${leaf.type}/${leaf.fingerprint}`,
          }),
        ]),
      ),
      extension(id_ce_subjectKeyIdentifier, false, new SubjectKeyIdentifier(keyId(leaf))),
      extension(
        id_ce_authorityKeyIdentifier,
        false,
        new AuthorityKeyIdentifier({ keyIdentifier: new KeyIdentifier(keyId(issuer)) }),
      ),
      extension(
        chainExtension,
        false,
        new OctetString(encodeCbor({ v: 1, chain: chain.map(({ bytes }) => bytes) })),
      ),
    ]),
  })
}

/** What X.509 lets the holder do: never more than ours. */
function usageOf(leaf: Certificate): Extension[] {
  if (leaf.type === 'authority')
    return [
      // No chain of ours is longer, and OpenSSL's path length is a C long.
      extension(
        id_ce_basicConstraints,
        true,
        new BasicConstraints({ cA: true, pathLenConstraint: Math.min(leaf.maxPathLength, 7) }),
      ),
      extension(id_ce_keyUsage, true, new KeyUsage(KeyUsageFlags.keyCertSign)),
    ]
  const purposes = leaf.type === 'node' ? [id_kp_clientAuth, id_kp_serverAuth] : [id_kp_codeSigning]
  return [
    extension(id_ce_basicConstraints, true, new BasicConstraints({ cA: false })),
    extension(id_ce_keyUsage, true, new KeyUsage(KeyUsageFlags.digitalSignature)),
    extension(id_ce_extKeyUsage, false, new ExtendedKeyUsage(purposes)),
  ]
}

const extension = (extnID: string, critical: boolean, value: unknown): Extension =>
  new Extension({ extnID, critical, extnValue: new OctetString(AsnConvert.serialize(value)) })

function nameOf({ label, fingerprint }: Certificate): Name {
  const part = (type: string, value: Partial<AttributeValue>) =>
    new RelativeDistinguishedName([new AttributeTypeAndValue({ type, value: new AttributeValue(value) })])
  const cn = label !== undefined && [...label].length <= maxCommonName ? label : fingerprint
  return new Name([
    part(commonName, { utf8String: cn }),
    part(serialNumber, { printableString: fingerprint }),
  ])
}

/** RFC 7093, method 1: the first 160 bits of the SHA-256 of the key. */
const keyId = ({ subject }: Certificate): Uint8Array => sha256(subject.ed25519).slice(0, 20)

/** An INTEGER's bytes for 16 random ones: positive, as short as can be. */
function positive(serial: Uint8Array): ArrayBuffer {
  const first = serial.findIndex(byte => byte !== 0)
  const digits = first === -1 ? new Uint8Array(1) : serial.slice(first)
  return buffer((digits[0] ?? 0) < 0x80 ? digits : new Uint8Array([0, ...digits]))
}

const buffer = (bytes: Uint8Array): ArrayBuffer => new Uint8Array(bytes).buffer
