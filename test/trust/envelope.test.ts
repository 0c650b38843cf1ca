import { createHash } from 'node:crypto'
import { readFileSync } from 'node:fs'
import { afterAll, beforeAll, describe, expect, it } from 'vitest'
import {
  decodeEnvelope,
  type Envelope,
  encodeEnvelope,
  encodeStatement,
  type ReleaseStatement,
  type Signature,
} from '../../src/assets/release.ts'
import { encodeCbor } from '../../src/base/cbor.ts'
import { cidOf } from '../../src/base/cid.ts'
import { isCatalogError } from '../../src/base/errors.ts'
import { ed25519 } from '../../src/trust/ed25519-scheme.ts'
import { sealStatement, signingMessage, verifyEnvelope } from '../../src/trust/envelope.ts'
import { falcon } from '../../src/trust/falcon-scheme.ts'
import { generatePublisherKeys, type PublisherKeys, publisherFingerprint } from '../../src/trust/keys.ts'
import { Signer } from '../../src/trust/signer.ts'

const hex = (text: string) => new Uint8Array(Buffer.from(text, 'hex'))

let keys: PublisherKeys
let otherKeys: PublisherKeys
let signer: Signer
let otherSigner: Signer
let sealed: Envelope<ReleaseStatement>

const statementBy = (publisher: string, changes: Partial<ReleaseStatement> = {}): ReleaseStatement => ({
  type: 'release',
  network: 'test',
  publisher,
  name: 'acme/word-count',
  version: '1.2.0',
  root: cidOf(Buffer.from('root')),
  size: 100,
  files: 3,
  blake3: new Uint8Array(32).fill(3),
  sha256: new Uint8Array(32).fill(2),
  manifestPath: 'catalog.yaml',
  manifest: { spec: { description: 'Counts words' } },
  signedAt: 1_790_000_000_000,
  ...changes,
})

beforeAll(async () => {
  ;[keys, otherKeys] = await Promise.all([generatePublisherKeys(), generatePublisherKeys()])
  signer = new Signer({ keys })
  otherSigner = new Signer({ keys: otherKeys })
  sealed = await sealStatement(statementBy(keys.fingerprint), signer)
})
afterAll(() => Promise.all([signer.stop(), otherSigner.stop()]))

describe('the golden envelopes', () => {
  const golden = JSON.parse(
    readFileSync(new URL('../vectors/envelopes-v1.json', import.meta.url), 'utf8'),
  ) as Record<
    'release' | 'head',
    { id: string; messageSha256: string; statement: string; envelope: string }
  > & {
    fingerprint: string
    ed25519SecretKey: string
  }

  it.each(['release', 'head'] as const)('%s: still decodes, verifies and signs the same bytes', type => {
    const { id, messageSha256, statement, envelope } = golden[type]
    const decoded = decodeEnvelope(hex(envelope))
    expect(decoded.id).toBe(id)
    expect(verifyEnvelope(decoded).statement.type).toBe(type)
    expect(Buffer.from(encodeStatement(decoded.statement)).toString('hex')).toBe(statement)
    const [first, second] = decoded.signatures as [Signature, Signature]
    expect(publisherFingerprint(first.key, second.key)).toBe(golden.fingerprint)

    // The message as the format's description has it, put together by hand.
    const part = (bytes: Uint8Array) => {
      const length = Buffer.alloc(4)
      length.writeUInt32BE(bytes.byteLength)
      return Buffer.concat([length, bytes])
    }
    const message = Buffer.concat([
      part(Buffer.from(`catalog/${type}/v1`)),
      part(first.key),
      part(second.key),
      part(Buffer.from(golden.fingerprint)),
      part(new Uint8Array(0)),
      part(hex(statement)),
    ])
    expect(createHash('sha256').update(message).digest('hex')).toBe(messageSha256)
    // Ed25519 is deterministic: the stored signature can be made again. Falcon is randomised: it must verify.
    expect(ed25519.sign(message, hex(golden.ed25519SecretKey))).toEqual(first.signature)
    expect(falcon.verify(second.signature, message, second.key)).toBe(true)
  })
})

describe('a seal', () => {
  it('survives its way over bytes', () => {
    expect(verifyEnvelope(decodeEnvelope(sealed.bytes)).id).toBe(sealed.id)
  })

  it('is not given to a statement that names another publisher', async () => {
    await expect(sealStatement(statementBy(otherKeys.fingerprint), signer)).rejects.toMatchObject({
      code: 'forbidden',
    })
  })

  it('does not carry over from a release to a head: the domain is signed', () => {
    const signed = (type: 'release' | 'head') =>
      signingMessage(type, signer.publicKeys, signer.fingerprint, sealed.statementBytes)
    expect(signed('release')).not.toEqual(signed('head'))
  })

  /** An envelope with other parts, as an attacker would build it. */
  const rebuilt = (parts: {
    statement?: ReleaseStatement
    signatures?: readonly Signature[]
    chain?: readonly Uint8Array[]
    proofs?: readonly Uint8Array[]
  }) => {
    const statement = encodeStatement(parts.statement ?? sealed.statement)
    return decodeEnvelope(
      encodeCbor({
        v: 1,
        statement,
        signatures: parts.signatures ?? sealed.signatures,
        chain: parts.chain ?? [],
        proofs: parts.proofs ?? [],
      }),
    )
  }

  it('is refused in every structural forgery', async () => {
    expect(verifyEnvelope(rebuilt({})).id).toBe(sealed.id)
    const [first, second] = sealed.signatures as [Signature, Signature]
    const theirs = await sealStatement(statementBy(otherKeys.fingerprint), otherSigner)
    const [theirFirst, theirSecond] = theirs.signatures as [Signature, Signature]
    const again = await sealStatement(statementBy(keys.fingerprint, { version: '9.9.9' }), signer)
    const empty = new Uint8Array(0)
    const forgeries: Record<string, Parameters<typeof rebuilt>[0]> = {
      'no signature': { signatures: [] },
      'only Ed25519': { signatures: [first] },
      'only Falcon': { signatures: [second] },
      'Ed25519 twice': { signatures: [first, first] },
      'Falcon twice': { signatures: [second, second] },
      'the other order': { signatures: [second, first] },
      'a third signature': { signatures: [first, second, second] },
      'an unknown algorithm beside': {
        signatures: [first, second, { algorithm: 'rot13', key: empty, signature: empty }],
      },
      'an unknown algorithm instead': { signatures: [first, { ...second, algorithm: 'falcon-1024' }] },
      'algorithms exchanged': {
        signatures: [
          { ...second, algorithm: 'ed25519' },
          { ...first, algorithm: 'falcon-1024-r3' },
        ],
      },
      'an empty signature': { signatures: [{ ...first, signature: empty }, second] },
      'an empty key': { signatures: [first, { ...second, key: empty }] },
      'a padded signature': {
        signatures: [first, { ...second, signature: new Uint8Array([...second.signature, 0]) }],
      },
      'the keys of another publisher': { signatures: theirs.signatures },
      'half the keys of another publisher': { signatures: [theirFirst, second] },
      'the other half': { signatures: [first, theirSecond] },
      'another publisher named': { statement: statementBy(otherKeys.fingerprint) },
      'both replaced, under the old signatures': {
        statement: statementBy(otherKeys.fingerprint),
        signatures: [
          { ...theirFirst, signature: first.signature },
          { ...theirSecond, signature: second.signature },
        ],
      },
      'another version': { statement: statementBy(keys.fingerprint, { version: '1.2.1' }) },
      'another root': { statement: statementBy(keys.fingerprint, { root: cidOf(Buffer.from('other')) }) },
      'another network': { statement: statementBy(keys.fingerprint, { network: 'other' }) },
      'the Falcon signature of another statement': { signatures: [first, again.signatures[1] as Signature] },
      'the Ed25519 signature of another statement': {
        signatures: [again.signatures[0] as Signature, second],
      },
      'a certificate that nobody signed': { chain: [new Uint8Array(10)] },
      'a proof that nobody checks': { proofs: [new Uint8Array(10)] },
    }
    for (const [forgery, parts] of Object.entries(forgeries))
      expect(() => verifyEnvelope(rebuilt(parts)), forgery).toThrow(
        expect.objectContaining({ code: 'bad-signature' }),
      )
  })

  it('accepts none of 5,000 mutated envelopes, and refuses each with a code', { timeout: 120_000 }, () => {
    const random = mulberry32(20_261_122)
    const outcomes: Record<string, number> = { accepted: 0, 'bad-record': 0, 'bad-signature': 0, crashed: 0 }
    for (let round = 0; round < 5_000; round++) {
      const outcome = tryEnvelope(mutated(sealed.bytes, random))
      outcomes[outcome] = (outcomes[outcome] ?? 0) + 1
    }
    expect(outcomes).toMatchObject({ accepted: 0, crashed: 0 })
    // The control: mutations reach the decoder as well as the signatures.
    expect(outcomes['bad-record']).toBeGreaterThan(200)
    expect(outcomes['bad-signature']).toBeGreaterThan(200)
    expect(tryEnvelope(sealed.bytes)).toBe('accepted')
  })

  it('accepts none of 300 statements whose fields were changed and encoded properly', () => {
    const random = mulberry32(7)
    for (let round = 0; round < 300; round++) {
      const bit = Math.floor(random() * 256)
      const digest = new Uint8Array(sealed.statement.sha256)
      digest[bit >> 3] = (digest[bit >> 3] ?? 0) ^ (1 << (bit & 7))
      const changes: Partial<ReleaseStatement>[] = [
        { sha256: digest },
        { size: 101 + round },
        { signedAt: sealed.statement.signedAt + 1 + round },
        { manifest: { spec: { description: `Counts words ${round}` } } },
      ]
      const statement = { ...sealed.statement, ...changes[round % changes.length] }
      const forged = encodeEnvelope(statement, encodeStatement(statement), sealed.signatures)
      expect(tryEnvelope(forged.bytes)).toBe('bad-signature')
    }
  })
})

function tryEnvelope(bytes: Uint8Array): string {
  try {
    verifyEnvelope(decodeEnvelope(bytes))
    return 'accepted'
  } catch (error) {
    return isCatalogError(error) ? error.code : 'crashed'
  }
}

/** Flips bits, overwrites, cuts, grows, repeats: one to three changes, never the same bytes. */
function mutated(bytes: Uint8Array, random: () => number): Uint8Array {
  const below = (limit: number) => Math.floor(random() * limit)
  let copy = Buffer.from(bytes)
  for (let changes = 1 + below(3); changes > 0; changes--) {
    const at = below(copy.length)
    const kind = below(10)
    if (kind < 6) copy[at] = (copy[at] ?? 0) ^ (1 << below(8))
    else if (kind === 6) copy[at] = below(256)
    else if (kind === 7) copy = copy.subarray(0, at)
    else if (kind === 8)
      copy = Buffer.concat([copy.subarray(0, at), Buffer.from([below(256)]), copy.subarray(at)])
    else copy = Buffer.concat([copy.subarray(0, at), copy.subarray(below(copy.length))])
    if (copy.length === 0) return copy
  }
  if (copy.equals(bytes)) copy[0] = (copy[0] ?? 0) ^ 1
  return copy
}

/** A small seeded generator, so that a failure can be played again. */
function mulberry32(seed: number): () => number {
  let state = seed
  return () => {
    state = (state + 0x6d2b79f5) | 0
    let mixed = Math.imul(state ^ (state >>> 15), 1 | state)
    mixed = (mixed + Math.imul(mixed ^ (mixed >>> 7), 61 | mixed)) ^ mixed
    return ((mixed ^ (mixed >>> 14)) >>> 0) / 2 ** 32
  }
}
