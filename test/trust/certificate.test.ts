// The golden documents, and 5,000 mutants of each: none is accepted, none is more than a refusal.
import { createHash } from 'node:crypto'
import { blake3 } from '@noble/hashes/blake3.js'
import fc from 'fast-check'
import { base32 } from 'multiformats/bases/base32'
import { describe, expect, it } from 'vitest'
import { decodeCbor, encodeCbor } from '../../src/base/cbor.ts'
import { isCatalogError } from '../../src/base/errors.ts'
import { decodeCertificate, encodeCertificateBody } from '../../src/trust/certificate.ts'
import { checkChain, type Usage } from '../../src/trust/chain.ts'
import { decodeDocument, encodeDocument, type SignedDocument } from '../../src/trust/document.ts'
import { ed25519 } from '../../src/trust/ed25519-scheme.ts'
import { falcon } from '../../src/trust/falcon-scheme.ts'
import { decodeRevocations, revocationsCheck } from '../../src/trust/revocation-list.ts'
import { decodeRoot, encodeRootBody, firstRootChecks, successionChecks } from '../../src/trust/root.ts'
import { faultySignature, type SignatureCheck } from '../../src/trust/signature-check.ts'
import {
  bytesOf,
  golden,
  goldenRoot,
  type Holder,
  idOf,
  keysOf,
  network,
  now,
  signers,
} from './test-network.ts'

const documents = ['root-1', 'root-2', 'authority', 'node', 'publisher', 'delegate', 'revocations'] as const
type Name = (typeof documents)[number]

const domains: Readonly<Record<Name, string>> = {
  'root-1': 'catalog/root/v1',
  'root-2': 'catalog/root/v1',
  authority: 'catalog/certificate/v1',
  node: 'catalog/certificate/v1',
  publisher: 'catalog/certificate/v1',
  delegate: 'catalog/certificate/v1',
  revocations: 'catalog/revocations/v1',
}

describe('the golden documents', () => {
  it.each(documents)('%s: still has its bytes, fingerprint and signed messages', name => {
    const { fingerprint, messagesSha256 } = golden.documents[name] ?? { fingerprint: '', messagesSha256: {} }
    const bytes = bytesOf(name)
    const document = decodeDocument(bytes, 1e6, name)
    // The fingerprint by the description: a multihash over the body, by another implementation of BLAKE3.
    expect(base32.encode(Buffer.from([0x1e, 0x20, ...blake3(document.body)]))).toBe(fingerprint)
    expect(document.fingerprint).toBe(fingerprint)
    expect(document.signatures).toHaveLength(Object.keys(messagesSha256).length)

    const part = (bytes: Uint8Array) => {
      const length = Buffer.alloc(4)
      length.writeUInt32BE(bytes.byteLength)
      return Buffer.concat([length, bytes])
    }
    for (const [holder, digest] of Object.entries(messagesSha256)) {
      const keys = keysOf(holder as Holder)
      // The message as the format's description has it, put together by hand.
      const message = Buffer.concat([
        part(Buffer.from(domains[name])),
        part(keys.ed25519),
        part(keys.falcon),
        part(Buffer.from(idOf(holder as Holder))),
        part(document.body),
      ])
      expect(createHash('sha256').update(message).digest('hex')).toBe(digest)
      const signature = document.signatures.find(({ key }) => key === idOf(holder as Holder))
      // Ed25519 is deterministic: the stored signature can be made again. Falcon is randomised: it must verify.
      expect(signature?.ed25519).toEqual(
        ed25519.sign(message, signers[holder as Holder].keys.ed25519.secretKey),
      )
      expect(falcon.verify(signature?.falcon ?? new Uint8Array(), message, keys.falcon)).toBe(true)
    }
    expect(encodeDocument(document.body, [...document.signatures].reverse()).bytes).toEqual(bytes)
  })

  it.each(['authority', 'node', 'publisher', 'delegate'] as const)(
    '%s: is encoded from its fields again',
    name => {
      const { body, bytes, signatures, fingerprint, ...fields } = decodeCertificate(bytesOf(name))
      expect(encodeCertificateBody(fields)).toEqual(body)
      expect(encodeDocument(body, signatures)).toMatchObject({ bytes, fingerprint })
    },
  )

  it.each(['root-1', 'root-2'])('%s: is encoded from its fields again', name => {
    const { body, bytes: _, signatures: __, fingerprint: ___, ...fields } = decodeRoot(bytesOf(name))
    expect(encodeRootBody(fields)).toEqual(body)
  })

  it('say what they are meant to say', () => {
    const root2 = decodeRoot(bytesOf('root-2'))
    expect(root2).toMatchObject({ version: 2, threshold: 2, previous: goldenRoot.fingerprint })
    const authority = decodeCertificate(bytesOf('authority'))
    expect(authority).toMatchObject({
      label: 'The first authority',
      maxPathLength: 2,
      names: ['*'],
      issuer: network,
    })
    expect(root2.carried).toEqual([authority.fingerprint])
    expect(decodeCertificate(bytesOf('node'))).toMatchObject({
      roles: ['execute', 'relay', 'store'],
      label: 'node-1.example.org',
    })
    const delegate = decodeCertificate(bytesOf('delegate'))
    expect(delegate).toMatchObject({
      publisher: idOf('publisher'),
      names: ['acme/tool-*'],
      rights: ['freshen', 'publish'],
    })
    expect(delegate.extensions).toEqual({ 'example.org/team': 'tools' })
    expect(root2.revoked).toEqual([delegate.fingerprint])
    const node = decodeCertificate(bytesOf('node'))
    expect(decodeRevocations(bytesOf('revocations'))).toMatchObject({
      sequence: 7,
      revoked: [{ certificate: node.fingerprint, reason: 'key stolen' }],
    })
  })
})

/** Everything that a node does with the bytes of a document before it believes them. */
const believe: Readonly<Record<Name, (bytes: Uint8Array) => readonly SignatureCheck[]>> = {
  'root-1': bytes => firstRootChecks(decodeRoot(bytes), network),
  'root-2': bytes => successionChecks(goldenRoot, decodeRoot(bytes)),
  authority: bytes => chainChecks([bytes], { kind: 'authority' }),
  node: bytes =>
    chainChecks([bytes, bytesOf('authority')], { kind: 'node', ed25519: keysOf('node').ed25519 }),
  publisher: bytes => chainChecks([bytes, bytesOf('authority')], publishing('publisher')),
  delegate: bytes => chainChecks([bytes, bytesOf('publisher'), bytesOf('authority')], publishing('delegate')),
  revocations: bytes => [revocationsCheck(decodeRevocations(bytes)).check],
}
const publishing = (holder: Holder): Usage => ({
  kind: 'statement',
  publisher: idOf('publisher'),
  name: 'acme/tool-1',
  keys: keysOf(holder),
  rights: ['publish'],
})
function chainChecks(chain: readonly Uint8Array[], usage: Usage): SignatureCheck[] {
  const context = { root: goldenRoot, network, at: now, revocation: () => undefined }
  return checkChain(chain.map(decodeCertificate), usage, context).map(({ check }) => check)
}

function outcome(name: Name, bytes: Uint8Array): string {
  try {
    return believe[name](bytes).every(check => faultySignature(check) === undefined)
      ? 'accepted'
      : 'signature'
  } catch (error) {
    return isCatalogError(error) ? error.code : `crashed: ${error}`
  }
}

// Mutants: of the bytes, and of the values that are then encoded properly and signed by nobody.
type Mutation = (bytes: Uint8Array) => Uint8Array
const at = fc.nat(2 ** 31)
const bitFlip = fc.tuple(at, fc.nat(7)).map(
  ([where, bit]): Mutation =>
    bytes => {
      const copy = bytes.slice()
      copy[where % copy.length] = (copy[where % copy.length] ?? 0) ^ (1 << bit)
      return copy
    },
)
const truncation = at.map(
  (where): Mutation =>
    bytes =>
      bytes.slice(0, where % bytes.length),
)
const insertion = fc.tuple(at, fc.uint8Array({ minLength: 1, maxLength: 8 })).map(
  ([where, more]): Mutation =>
    bytes => {
      const point = where % (bytes.length + 1)
      return Buffer.concat([bytes.subarray(0, point), more, bytes.subarray(point)])
    },
)
const cut = fc.tuple(at, fc.integer({ min: 1, max: 64 })).map(
  ([where, length]): Mutation =>
    bytes => {
      const point = where % bytes.length
      return Buffer.concat([bytes.subarray(0, point), bytes.subarray(point + length)])
    },
)
const overwrite = fc.tuple(at, fc.uint8Array({ minLength: 1, maxLength: 32 })).map(
  ([where, more]): Mutation =>
    bytes => {
      const copy = bytes.slice()
      more.forEach((byte, offset) => {
        copy[(where + offset) % copy.length] = byte
      })
      return copy
    },
)

const junk = fc.oneof(
  fc.constantFrom<unknown>(null, true, '', '*', 0, 1, -1, 2 ** 53 - 1, 1.5, [], {}, 'x'.repeat(300)),
  fc.uint8Array({ maxLength: 64 }),
  fc.array(fc.constantFrom('*', 'acme/*', 'publish', 'node'), { maxLength: 4 }),
)
/** One field of the body, somewhere in it, becomes another's value or junk. */
const fieldSwap = fc.tuple(at, at, fc.option(junk)).map(
  ([which, other, value]): Mutation =>
    bytes => {
      const { body, signatures } = decodeDocument(bytes, 1e6, 'document')
      const raw = decodeCbor(body, 1e6, 'body') as Record<string, unknown>
      const fields = Object.keys(raw)
      const [field, from] = [fields[which % fields.length] ?? '', fields[other % fields.length] ?? '']
      return encodeDocument(encodeCbor({ ...raw, [field]: value ?? raw[from] }), signatures).bytes
    },
)
const fieldLoss = at.map(
  (which): Mutation =>
    bytes => {
      const { body, signatures } = decodeDocument(bytes, 1e6, 'document')
      const raw = decodeCbor(body, 1e6, 'body') as Record<string, unknown>
      const fields = Object.keys(raw)
      delete raw[fields[which % fields.length] ?? '']
      return encodeDocument(encodeCbor(raw), signatures).bytes
    },
)
const signatureSwap = fc.tuple(fc.constantFrom(...documents), at).map(
  ([donor, which]): Mutation =>
    bytes => {
      const mine = decodeDocument(bytes, 1e6, 'document')
      const theirs = decodeDocument(bytesOf(donor), 1e6, 'document').signatures
      const [first, ...rest] = mine.signatures
      const gift = theirs[which % theirs.length]
      if (first === undefined || gift === undefined) return bytes
      const mixed = [
        { ...first, ...(which % 2 === 0 ? { falcon: gift.falcon } : { ed25519: gift.ed25519 }) },
        ...rest,
      ]
      return encodeDocument(mine.body, mixed).bytes
    },
)
const signatureLoss = at.map(
  (which): Mutation =>
    bytes => {
      const { body, signatures }: SignedDocument = decodeDocument(bytes, 1e6, 'document')
      return encodeDocument(
        body,
        signatures.filter((_, place) => place !== which % signatures.length),
      ).bytes
    },
)
const mutation = fc.oneof(
  { weight: 6, arbitrary: bitFlip },
  { weight: 2, arbitrary: truncation },
  { weight: 2, arbitrary: insertion },
  { weight: 2, arbitrary: cut },
  { weight: 2, arbitrary: overwrite },
  { weight: 3, arbitrary: fieldSwap },
  { weight: 1, arbitrary: fieldLoss },
  { weight: 1, arbitrary: signatureSwap },
  { weight: 1, arbitrary: signatureLoss },
)

const seed = Number(process.env['CATALOG_SEED'] ?? Math.floor(Math.random() * 2 ** 31))
const runs = process.env['CATALOG_CAMPAIGN'] === '1' ? 100_000 : 5_000

describe(`mutants (CATALOG_SEED=${seed})`, () => {
  it.each(documents)(`of %s: ${runs}, none accepted, none a crash`, { timeout: 1_200_000 }, name => {
    const original = bytesOf(name)
    const outcomes = new Map<string, number>()
    fc.assert(
      fc.property(mutation, mutate => {
        const mutant = mutate(original)
        // Some change nothing: a field that becomes itself.
        if (Buffer.compare(mutant, original) === 0) return
        const what = outcome(name, mutant)
        outcomes.set(what, (outcomes.get(what) ?? 0) + 1)
        expect(what).not.toMatch(/^(accepted|crashed)/)
      }),
      { numRuns: runs, seed },
    )
    const total = [...outcomes.values()].reduce((sum, count) => sum + count, 0)
    expect(total).toBeGreaterThan(runs * 0.95)
    // The controls: the document itself is accepted, and mutants reach the signatures as well as the form.
    expect(outcome(name, original)).toBe('accepted')
    expect(outcomes.get('certificate-malformed')).toBeGreaterThan(runs / 20)
    const deeper = total - (outcomes.get('certificate-malformed') ?? 0)
    expect(deeper).toBeGreaterThan(runs / 20)
  })
})
