// Seals: signatures that are missing, borrowed, or made for something else.
import { encodeStatement, type Signature } from '../../../src/assets/release.ts'
import { encodeCbor } from '../../../src/base/cbor.ts'
import { encodeCertificateBody } from '../../../src/trust/certificate.ts'
import { signDocument } from '../../../src/trust/document.ts'
import type { EnvelopeSigner } from '../../../src/trust/envelope.ts'
import { keysOf, revocations, signers } from '../../trust/test-network.ts'
import { freshnessOf, nextHead, nextRelease, type RawEnvelope, repack, seal, sealBytes } from '../attacker.ts'
import { type Case, record } from '../case.ts'
import { signerOf } from '../node.ts'
import { mallory, publisher, withCertificate } from '../people.ts'
import type { World } from '../world.ts'

type Pair = [Signature, Signature]

/** The next head with its envelope changed afterwards. */
const changed = (
  name: string,
  code: Case['code'],
  change: (raw: RawEnvelope, world: World) => object | Promise<object>,
  says?: RegExp,
): Case =>
  record(
    name,
    'a true record',
    code,
    async (world, evil) => {
      const head = await seal(nextHead(world), publisher(world))
      if (!evil) return head
      let raw: RawEnvelope | undefined
      repack(head, each => {
        raw = each
        return {}
      })
      return encodeCbor({ ...raw, ...(await change(raw as RawEnvelope, world)) })
    },
    { ways: ['sync', 'dht'], ...(says === undefined ? {} : { says }) },
  )

const signatures = (change: (pair: Pair) => readonly unknown[]) => (raw: RawEnvelope) => ({
  signatures: change(raw.signatures as Pair),
})

const flipped = (signature: Signature): Signature => ({
  ...signature,
  signature: signature.signature.map((byte, at) => (at === 45 ? byte ^ 1 : byte)),
})

/** The same number, as a scalar that is not reduced: what a lax verifier of Ed25519 takes. */
function unreduced(signature: Signature): Signature {
  const order = 2n ** 252n + 27742317777372353535851937790883648493n
  const bytes = Uint8Array.from(signature.signature)
  const littleEndian = Buffer.from(bytes.subarray(32)).reverse().toString('hex')
  const scalar = BigInt(`0x${littleEndian}`) + order
  bytes.set(Buffer.from(scalar.toString(16).padStart(64, '0'), 'hex').reverse(), 32)
  return { ...signature, signature: bytes }
}

export const seals: readonly Case[] = [
  changed(
    'a record without signatures',
    'bad-signature',
    signatures(() => []),
    /not signed|must carry/,
  ),
  changed(
    'a record without its Falcon signature',
    'bad-signature',
    signatures(([one]) => [one]),
    /not signed|must carry/,
  ),
  changed(
    'a record without its Ed25519 signature',
    'bad-signature',
    signatures(([, two]) => [two]),
    /not signed|must carry/,
  ),
  changed(
    'signatures in another order',
    'certificate-wrong-usage',
    signatures(([one, two]) => [two, one]),
  ),
  changed(
    'a third signature',
    'bad-signature',
    signatures(([one, two]) => [one, two, one]),
    /must carry one signature/,
  ),
  changed(
    'one Ed25519 signature twice',
    'certificate-wrong-usage',
    signatures(([one]) => [one, one]),
  ),
  changed(
    'an Ed25519 signature with one bit changed',
    'bad-signature',
    signatures(([one, two]) => [flipped(one), two]),
    /its ed25519 signature does not hold/,
  ),
  changed(
    'a Falcon signature with one bit changed',
    'bad-signature',
    signatures(([one, two]) => [one, flipped(two)]),
    /its falcon-1024-r3 signature does not hold/,
  ),
  changed(
    'an Ed25519 signature in its other form',
    'bad-signature',
    signatures(([one, two]) => [unreduced(one), two]),
    /ed25519/,
  ),
  changed(
    'a signature cut short',
    'bad-signature',
    signatures(([one, two]) => [{ ...one, signature: one.signature.subarray(1) }, two]),
    /wrong length/,
  ),
  changed(
    'a signature of nothing but zeros',
    'bad-signature',
    signatures(([one, two]) => [{ ...one, signature: new Uint8Array(64) }, two]),
    /ed25519/,
  ),
  changed(
    'another algorithm',
    'bad-signature',
    signatures(([one, two]) => [{ ...one, algorithm: 'none' }, two]),
    /must carry one signature/,
  ),
  changed(
    'keys of small order',
    'certificate-wrong-usage',
    signatures(([one, two]) => [{ ...one, key: new Uint8Array(32) }, two]),
  ),
  changed('the signatures of another head', 'bad-signature', (_, { heads }) => ({
    signatures: heads[1].signatures,
  })),
  changed('the signatures of another publisher', 'certificate-wrong-usage', async (_, world) => {
    const { signatures: others } = repacked(await seal(nextHead(world), mallory(world)))
    return { signatures: others }
  }),
  changed(
    'the Falcon signature of the head before',
    'bad-signature',
    (raw, { heads }) => ({
      signatures: [raw.signatures[0], heads[1].signatures[1]],
    }),
    /falcon/,
  ),
  changed('a record without its chain', 'certificate-malformed', () => ({ chain: [] }), /chain of 0/),
  changed(
    'the chain of another certificate of the same keys',
    'bad-signature',
    async (_, world) => {
      const wider = await withCertificate(world, { names: ['*'] })
      return { chain: wider.chain }
    },
    /does not hold/,
  ),
  changed('proofs that nobody can check', 'bad-signature', () => ({ proofs: [new Uint8Array(8)] }), /proofs/),
  changed('an envelope of another version', 'bad-record', () => ({ v: 2 }), /version 2/),
  changed('an envelope with a field of its own', 'bad-record', () => ({ admin: true }), /unknown field/),
  changed(
    'a statement with one bit changed',
    'bad-signature',
    ({ statement }) => {
      const bytes = Buffer.from(statement)
      const at = bytes.indexOf('1.1.0') + 4
      bytes[at] = (bytes[at] as number) ^ 1
      return { statement: bytes }
    },
    /does not hold/,
  ),
  signedAs('a head signed as a freshness statement', 'freshness'),
  signedAs('a head signed as a release', 'release'),
  record(
    'a head’s signatures under a release',
    'a true head',
    'bad-signature',
    async (world, evil) => {
      const release = await seal(nextRelease(world), publisher(world))
      return evil ? repack(release, () => ({ signatures: world.heads[1].signatures })) : release
    },
    { ways: ['sync', 'dht'] },
  ),
  record(
    'a freshness statement’s signatures under a head',
    'the right to freshen',
    'bad-signature',
    async (world, evil) => {
      const head = await seal(nextHead(world), publisher(world))
      const fresh = repacked(await seal(freshnessOf(world, world.heads[1]), publisher(world)))
      return evil ? repack(head, () => ({ signatures: fresh.signatures })) : head
    },
    { ways: ['sync', 'dht'] },
  ),
  record(
    'a certificate that was signed as a list of revocations',
    'the key of an authority that signs any list',
    'certificate-bad-signature',
    async (world, evil) => {
      const { body: _b, signatures: _s, bytes: _y, fingerprint: _f, ...plain } = world.publisher
      const domain = evil ? 'catalog/revocations/v1' : 'catalog/certificate/v1'
      const leaf = await signDocument(domain, encodeCertificateBody(plain), [signers.authority])
      return seal(nextHead(world), signerOf('publisher', [leaf, world.authority]))
    },
    { ways: ['sync', 'dht'] },
  ),
  record(
    'a list of revocations that was signed as a certificate',
    'whoever gets an authority to sign a certificate',
    'certificate-bad-signature',
    async ({ authority: above }, evil) => {
      const { body, bytes } = await revocations(above, [above], { sequence: 2 })
      return evil ? (await signDocument('catalog/certificate/v1', body, [signers.authority])).bytes : bytes
    },
    { ways: ['sync', 'dht'] },
  ),
  record(
    'half of the keys exchanged',
    'one of the two keys of the publisher, broken',
    'certificate-wrong-usage',
    async (world, evil) => {
      const [own, other] = [publisher(world), signerOf('stranger', [])]
      if (!evil) return seal(nextHead(world), own)
      const publicKeys = { ed25519: keysOf('publisher').ed25519, falcon: keysOf('stranger').falcon }
      const sign: EnvelopeSigner['sign'] = async message => {
        const [[one], [, two]] = await Promise.all([own.sign(message), other.sign(message)])
        return [one, two] as Pair
      }
      return seal(nextHead(world), { ...own, publicKeys, sign })
    },
    { ways: ['sync', 'dht'] },
  ),
]

function signedAs(name: string, domain: 'freshness' | 'release'): Case {
  return record(
    name,
    'whoever gets the publisher to sign one thing for another',
    'bad-signature',
    (world, evil) => sealBytes(evil ? domain : 'head', encodeStatement(nextHead(world)), publisher(world)),
    { ways: ['sync', 'dht'], says: /does not hold/ },
  )
}

function repacked(bytes: Uint8Array): RawEnvelope {
  let raw: RawEnvelope | undefined
  repack(bytes, each => {
    raw = each
    return {}
  })
  return raw as RawEnvelope
}
