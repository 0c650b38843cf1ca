// The forms of heads with marks, freshness statements and proofs of equivocation: golden bytes, and what is refused.
import { readFileSync } from 'node:fs'
import { describe, expect, it } from 'vitest'
import { decodeEquivocation, equivocationOf, maxEquivocationBytes } from '../../src/assets/equivocation.ts'
import {
  decodeEnvelope,
  type Envelope,
  encodeEnvelope,
  encodeStatement,
  type FreshnessStatement,
  type HeadStatement,
  recordLimits,
  type Statement,
} from '../../src/assets/release.ts'
import { encodeCbor } from '../../src/base/cbor.ts'
import { cidOf } from '../../src/base/cid.ts'
import { decodeRecord } from '../../src/flows/accept.ts'
import { head } from '../registry/records.ts'

const hex = (bytes: Uint8Array) => Buffer.from(bytes).toString('hex')
const root = cidOf(Buffer.from('root'))
const publisher = 'bdyqd5fwrfy3x7axzp5h2sif36oaeispokafdko37m2qhdmsh2jvcthq'
const life = { signedAt: 1_790_000_000_000, expiresAt: 1_792_592_000_000 }

const marked: HeadStatement = {
  ...{ type: 'head', network: 'test', publisher, name: 'acme/word-count', sequence: 3, previous: root },
  versions: [
    { version: '1.0.0', id: root },
    { version: '1.1.0', id: root, yanked: 'counts twice' },
    { version: '1.2.0', id: root, yanked: 'slow', revoked: 'steals keys' },
  ],
  deprecated: 'Use text-stats.',
  ...life,
}
const freshness: FreshnessStatement = {
  ...{ type: 'freshness', network: 'test', publisher, name: 'acme/word-count', head: root, sequence: 3 },
  ...life,
}
const signature = {
  algorithm: 'ed25519',
  key: new Uint8Array(32).fill(1),
  signature: new Uint8Array(64).fill(2),
}
const seal = <S extends Statement>(statement: S): Envelope<S> =>
  encodeEnvelope(statement, encodeStatement(statement), [signature])
const proof = equivocationOf(seal(marked), seal({ ...marked, versions: marked.versions.slice(0, 1) }))

/** What `test/vectors/heads-v2.json` holds: statements as they are signed, and the records that carry no signature of a key. */
const made = {
  head: hex(encodeStatement(marked)),
  freshness: hex(encodeStatement(freshness)),
  equivocation: { id: proof.id, record: hex(proof.bytes), heads: proof.heads.map(({ id }) => id) },
}

describe('the golden bytes', () => {
  const golden = JSON.parse(
    readFileSync(new URL('../vectors/heads-v2.json', import.meta.url), 'utf8'),
  ) as typeof made

  it('of a head with marks, a freshness statement and a proof of equivocation are what they were', () => {
    expect(made).toEqual(golden)
  })

  it('are read back to what they say', () => {
    expect(decodeEnvelope(seal(marked).bytes).statement).toEqual(marked)
    expect(decodeEnvelope(seal(freshness).bytes).statement).toEqual(freshness)
    const decoded = decodeEquivocation(new Uint8Array(Buffer.from(golden.equivocation.record, 'hex')))
    expect(decoded).toMatchObject({
      publisher,
      name: 'acme/word-count',
      sequence: 3,
      id: golden.equivocation.id,
    })
  })
})

const rawSeal = (statement: Record<string, unknown>) =>
  encodeCbor({
    v: 1,
    statement: encodeCbor({ v: 1, ...statement }),
    signatures: [signature],
    chain: [],
    proofs: [],
  })

describe('what is refused', () => {
  const item = marked.versions[0]
  it.each<[string, Record<string, unknown>]>([
    ['a yank without a reason', { versions: [{ ...item, yanked: '' }] }],
    ['a yank that is a flag', { versions: [{ ...item, yanked: true }] }],
    ['a long reason', { versions: [{ ...item, revoked: 'x'.repeat(recordLimits.maxReasonLength + 1) }] }],
    ['a reason with an escape sequence', { versions: [{ ...item, yanked: '\u001b[31mred' }] }],
    ['a long deprecation', { deprecated: 'x'.repeat(recordLimits.maxDeprecationLength + 1) }],
    ['a deprecation of two lines', { deprecated: 'a\nb' }],
    ['an unknown mark', { versions: [{ ...item, blessed: 'yes' }] }],
    [
      'too many versions',
      { versions: Array.from({ length: 1001 }, (_, at) => ({ ...item, version: `1.0.${at}` })) },
    ],
    ['a freshness statement about nothing', { ...freshness, head: undefined, versions: undefined }],
  ])('%s', (_what, fields) => {
    const statement = Object.fromEntries(
      Object.entries({ ...marked, ...fields }).filter(([, value]) => value !== undefined),
    )
    expect(() => decodeEnvelope(rawSeal(statement))).toThrow(/refused|at most/)
  })

  it.each<[string, Record<string, unknown>]>([
    ['without a head', { head: undefined }],
    ['of number 0', { sequence: 0 }],
    ['with a list of its own', { versions: [] }],
    ['about a head that is no CID', { head: 'it' }],
  ])('a freshness statement %s', (_what, fields) => {
    const statement = Object.fromEntries(
      Object.entries({ ...freshness, ...fields }).filter(([, value]) => value !== undefined),
    )
    expect(() => decodeEnvelope(rawSeal(statement))).toThrow(/refused/)
  })

  const [one, other] = proof.heads
  const proofOf = (heads: readonly Uint8Array[], more: Record<string, unknown> = {}) =>
    encodeCbor({ v: 1, type: 'equivocation', heads, ...more })
  it.each<[string, Uint8Array]>([
    ['of one head', proofOf([one.bytes])],
    ['of a head and itself', proofOf([one.bytes, one.bytes])],
    ['in the wrong order', proofOf([other.bytes, one.bytes])],
    ['of heads with different numbers', proofOf(sorted(seal(marked), seal({ ...marked, sequence: 4 })))],
    ['of heads of different names', proofOf(sorted(seal(marked), seal({ ...marked, name: 'it' })))],
    [
      'of heads of different publishers',
      proofOf(sorted(seal(marked), seal({ ...marked, publisher: 'b-else' }))),
    ],
    ['of one statement signed twice', proofOf(sorted(head({}, 1), head({}, 2)))],
    ['of a freshness statement', proofOf(sorted(seal(marked), seal(freshness)))],
    ['of another version', proofOf([one.bytes, other.bytes], { v: 2 })],
    ['with more in it', proofOf([one.bytes, other.bytes], { more: 1 })],
    ['that is too large', new Uint8Array(maxEquivocationBytes + 1)],
    ['that is nothing', encodeCbor(null)],
  ])('a proof %s', (_what, bytes) => {
    expect(() => decodeEquivocation(bytes)).toThrow(/refused|at most/)
  })

  function sorted(a: Envelope, b: Envelope) {
    return [a, b].sort((x, y) => (x.id < y.id ? -1 : 1)).map(({ bytes }) => bytes)
  }
})

describe('a record', () => {
  it('is told by its shape', () => {
    expect(decodeRecord(seal(marked).bytes)).toMatchObject({
      kind: 'envelope',
      envelope: { statement: marked },
    })
    expect(decodeRecord(proof.bytes)).toMatchObject({ kind: 'equivocation', proof: { id: proof.id } })
    expect(decodeRecord(encodeCbor({ v: 1, body: new Uint8Array(3), signatures: [] }))).toEqual({
      kind: 'notice',
    })
    for (const value of [null, 7, 'text', [1], new Uint8Array(4)])
      expect(() => decodeRecord(encodeCbor(value))).toThrow(/no map/)
    expect(() => decodeRecord(new Uint8Array(3))).toThrow()
  })

  it('of a thousand versions fits, with some reasons beside them', () => {
    const versions = Array.from({ length: recordLimits.maxVersions }, (_, at) => ({
      ...{ version: `1.0.${at}`, id: root },
      ...(at < 100 ? { yanked: 'x'.repeat(recordLimits.maxReasonLength) } : {}),
    }))
    expect(seal({ ...marked, versions }).bytes.byteLength).toBeLessThan(recordLimits.maxBytes)
  })
})
