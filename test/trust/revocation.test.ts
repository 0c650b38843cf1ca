// Revocation lists: their form, who may sign them, and how large they grow.
import { beforeAll, describe, expect, it } from 'vitest'
import { decodeCbor, encodeCbor } from '../../src/base/cbor.ts'
import type { AuthorityGrant, Certificate } from '../../src/trust/certificate.ts'
import { encodeDocument, fingerprintOf, signBody } from '../../src/trust/document.ts'
import {
  decodeRevocations,
  type RevocationBody,
  type RevocationList,
  revocationLimits,
  revocationsCheck,
} from '../../src/trust/revocation-list.ts'
import { faultySignature } from '../../src/trust/signature-check.ts'
import {
  authority,
  day,
  type Holder,
  keysOf,
  nodeCertificate,
  now,
  revocations,
  signers,
} from './test-network.ts'

let top: Certificate<AuthorityGrant>
let list: RevocationList
beforeAll(async () => {
  top = await authority()
  list = await revocations(top, [top])
})

const fingerprints = (count: number) =>
  Array.from({ length: count }, (_, at) => fingerprintOf(Buffer.from(`${at}`)))
const outcome = (one: RevocationList): string => {
  try {
    return faultySignature(revocationsCheck(one).check) ?? 'accepted'
  } catch (error) {
    return (error as { code?: string }).code ?? 'crashed'
  }
}
const expectHonest = () => expect(outcome(list)).toBe('accepted')

describe('a revocation list', () => {
  it('is put in order by who signs it, and keeps its reasons', async () => {
    const [first = '', second = ''] = fingerprints(2).sort()
    const one = await revocations(top, [top], {
      revoked: [
        { certificate: second, at: now, reason: 'left the company' },
        { certificate: first, at: now - 1, reason: 'key stolen' },
      ],
    })
    expect(one.revoked.map(({ certificate, reason }) => [certificate, reason])).toEqual([
      [first, 'key stolen'],
      [second, 'left the company'],
    ])
    expect(outcome(one)).toBe('accepted')
  })

  it.each<[string, (top: Certificate) => Promise<RevocationList>, string]>([
    [
      'of an authority by other keys',
      top => revocations(top, [top], {}, 'stranger'),
      'certificate-bad-signature',
    ],
    [
      'by a node',
      async top => {
        const node = await nodeCertificate(top)
        return revocations(node, [node, top], {}, 'node')
      },
      'certificate-wrong-issuer',
    ],
    [
      'in the name of another authority',
      async top => revocations(await authority(), [top]),
      'certificate-wrong-issuer',
    ],
    ['without its chain', top => revocations(top, []), 'certificate-malformed'],
    [
      'with bytes for a chain',
      top => revocations(top, [{ bytes: new Uint8Array(9) } as never]),
      'certificate-malformed',
    ],
  ])('%s is refused', async (_, make, code) => {
    expect(outcome(await make(top))).toBe(code)
    expectHonest()
  })

  const signedBy = async (
    names: readonly Holder[],
    change: (raw: Record<string, unknown>) => Record<string, unknown>,
  ) => {
    const body = encodeCbor(change(decodeCbor(list.body, 1e6, 'body') as Record<string, unknown>))
    const signatures = await Promise.all(
      names.map(name => signBody('catalog/revocations/v1', body, signers[name])),
    )
    return encodeDocument(body, signatures).bytes
  }

  it('by its authority and somebody else is refused', async () => {
    expect(outcome(decodeRevocations(await signedBy(['authority', 'stranger'], raw => raw)))).toBe(
      'certificate-bad-signature',
    )
    expect(outcome(decodeRevocations(await signedBy([], raw => raw)))).toBe('certificate-bad-signature')
    expectHonest()
  })

  const entry = (changes: object = {}) => ({
    certificate: fingerprints(1)[0],
    at: now,
    reason: 'x',
    ...changes,
  })
  it.each<[string, (raw: Record<string, unknown>) => Record<string, unknown>]>([
    ['an unknown field', raw => ({ ...raw, note: 'x' })],
    ['another version', raw => ({ ...raw, v: 2 })],
    ['another type', raw => ({ ...raw, type: 'root' })],
    ['a network that is no fingerprint', raw => ({ ...raw, network: 'hypermesh' })],
    ['an issuer that is no fingerprint', raw => ({ ...raw, issuer: '../revocations' })],
    ['a sequence below zero', raw => ({ ...raw, sequence: -1 })],
    ['an end before its beginning', raw => ({ ...raw, expiresAt: (raw['issuedAt'] as number) - 1 })],
    [
      'a life longer than thirty days',
      raw => ({ ...raw, expiresAt: (raw['issuedAt'] as number) + 30 * day + 1 }),
    ],
    ['an entry that is no fingerprint', raw => ({ ...raw, revoked: [entry({ certificate: 'x' })] })],
    ['an entry without a reason', raw => ({ ...raw, revoked: [entry({ reason: '' })] })],
    [
      'an entry with a reason that speaks to the terminal',
      raw => ({ ...raw, revoked: [entry({ reason: '\u001b[31m' })] }),
    ],
    ['an entry with a field more', raw => ({ ...raw, revoked: [entry({ by: 'me' })] })],
    ['an entry twice', raw => ({ ...raw, revoked: [entry(), entry()] })],
    [
      '1,001 entries',
      raw => ({
        ...raw,
        revoked: fingerprints(1001)
          .sort()
          .map(certificate => entry({ certificate })),
      }),
    ],
    ['a chain of nine', raw => ({ ...raw, chain: Array(9).fill(new Uint8Array(1)) })],
    ['a chain that is a text', raw => ({ ...raw, chain: ['x'] })],
  ])('with %s is refused', async (_, change) => {
    const bytes = await signedBy(['authority'], change)
    expect(() => decodeRevocations(bytes)).toThrow(expect.objectContaining({ code: 'certificate-malformed' }))
    expectHonest()
  })

  it('holds a thousand certificates with short reasons, and says so where it cannot hold more', async () => {
    const revoked = (count: number, reason: string): Partial<RevocationBody> => ({
      revoked: fingerprints(count).map(certificate => ({ certificate, at: now, reason })),
    })
    const full = await revocations(top, [top], revoked(1000, 'key stolen'))
    expect(full.bytes.byteLength).toBeLessThanOrEqual(revocationLimits.maxBytes)
    expect(outcome(full)).toBe('accepted')
    await expect(revocations(top, [top], revoked(1001, 'x'))).rejects.toMatchObject({ code: 'too-large' })
    await expect(revocations(top, [top], revoked(1000, 'x'.repeat(200)))).rejects.toMatchObject({
      code: 'too-large',
    })
  })

  it('of an authority deep below the root holds too', async () => {
    const region = await authority({ subject: keysOf('region'), maxPathLength: 0 }, ['authority'], top)
    expect(outcome(await revocations(region, [region, top], {}, 'region'))).toBe('accepted')
  })
})
