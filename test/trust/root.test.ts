// Root documents: their form, the first of a network, and how one follows another.
import { beforeAll, describe, expect, it } from 'vitest'
import { decodeCbor, encodeCbor } from '../../src/base/cbor.ts'
import type { ErrorCode } from '../../src/base/errors.ts'
import { encodeDocument, signBody } from '../../src/trust/document.ts'
import {
  decodeRoot,
  firstRootChecks,
  type Root,
  type RootBody,
  signRoot,
  successionChecks,
} from '../../src/trust/root.ts'
import { faultySignature, type SignatureCheck } from '../../src/trust/signature-check.ts'
import {
  bytesOf,
  day,
  goldenRoot,
  type Holder,
  holders,
  idOf,
  keysOf,
  network,
  nextRoot,
  now,
  rootBody,
  signers,
} from './test-network.ts'

const outcome = (checks: () => readonly SignatureCheck[]): string => {
  try {
    return checks().every(check => faultySignature(check) === undefined) ? 'accepted' : 'signature'
  } catch (error) {
    return (error as { code?: string }).code ?? `crashed: ${error}`
  }
}
const follows = (next: Root, current = goldenRoot) => outcome(() => successionChecks(current, next))
const keys = (...names: readonly Holder[]) => names.map(keysOf)

describe('a root that follows', () => {
  let honest: Root
  beforeAll(async () => {
    honest = await nextRoot(goldenRoot, { keys: keys('root-2', 'root-3', 'root-4') }, ['root-2', 'root-3'])
  })

  // Old: 1, 2, 3, any two. What is signed by whom, and what becomes of it.
  it.each<[string, readonly Holder[], Partial<RootBody>, readonly Holder[], string]>([
    [
      'one old key lost: the two others and the new',
      ['root-2', 'root-3', 'root-4'],
      {},
      ['root-2', 'root-3'],
      'accepted',
    ],
    [
      'all keys new, signed by both',
      ['root-4', 'root-5'],
      {},
      ['root-1', 'root-2', 'root-4', 'root-5'],
      'accepted',
    ],
    [
      'all that could sign',
      ['root-2', 'root-3', 'root-4'],
      {},
      ['root-1', 'root-2', 'root-3', 'root-4'],
      'accepted',
    ],
    ['only the old keys', ['root-4', 'root-5'], {}, ['root-1', 'root-2', 'root-3'], 'root-threshold'],
    ['only the new keys', ['root-4', 'root-5'], {}, ['root-4', 'root-5'], 'root-threshold'],
    ['one old key alone, and the new', ['root-3', 'root-4'], {}, ['root-3', 'root-4'], 'root-threshold'],
    [
      'one new key alone, and the old',
      ['root-4', 'root-5'],
      {},
      ['root-1', 'root-2', 'root-4'],
      'root-threshold',
    ],
    [
      'a lower threshold that its own keys meet, but the old do not',
      ['root-3'],
      { threshold: 1 },
      ['root-3'],
      'root-threshold',
    ],
    [
      'a higher threshold that its own keys do not meet',
      ['root-1', 'root-2', 'root-3'],
      { threshold: 3 },
      ['root-1', 'root-2'],
      'root-threshold',
    ],
    ['strangers alone', ['root-4', 'root-5'], {}, ['stranger', 'authority'], 'root-threshold'],
    [
      'a stranger beside enough',
      ['root-2', 'root-3', 'root-4'],
      {},
      ['root-2', 'root-3', 'stranger'],
      'root-threshold',
    ],
    ['nobody', ['root-2', 'root-3', 'root-4'], {}, [], 'root-threshold'],
  ])('signed by %s', async (_, names, changes, by, expected) => {
    expect(follows(await nextRoot(goldenRoot, { keys: keys(...names), ...changes }, by))).toBe(expected)
    expect(follows(honest)).toBe('accepted')
  })

  it.each<[string, Partial<RootBody>, ErrorCode]>([
    ['the same version', { version: 1, previous: undefined as never }, 'stale-record'],
    ['a version skipped', { version: 3 }, 'root-not-trusted'],
    ['another predecessor', { previous: idOf('stranger') }, 'root-not-trusted'],
    ['another name', { network: 'other' }, 'root-not-trusted'],
  ])('%s is refused', async (_, changes, code) => {
    expect(follows(await nextRoot(goldenRoot, changes, ['root-1', 'root-2']))).toBe(code)
    expect(follows(honest)).toBe('accepted')
  })

  it('is refused when one signature does not hold, though enough do', async () => {
    const next = await nextRoot(goldenRoot, {}, ['root-1', 'root-2', 'root-3'])
    const bent = next.signatures.map((one, at) => (at === 1 ? { ...one, ed25519: new Uint8Array(64) } : one))
    expect(follows(decodeRoot(encodeDocument(next.body, bent).bytes))).toBe('signature')
    expect(follows(next)).toBe('accepted')
  })

  it('leaves the keys of the root before it without power', async () => {
    const second = await nextRoot(goldenRoot, { keys: keys('root-4', 'root-5') }, [
      'root-1',
      'root-2',
      'root-4',
      'root-5',
    ])
    const byThieves = await nextRoot(second, { keys: keys('root-1', 'root-2') }, ['root-1', 'root-2'])
    expect(follows(byThieves, second)).toBe('root-threshold')
    const otherSecond = await nextRoot(goldenRoot, { notAfter: now + day }, ['root-1', 'root-2'])
    expect(follows(otherSecond, second)).toBe('stale-record')
  })
})

describe('the first root', () => {
  it('is the one that the invite or the config names', async () => {
    expect(outcome(() => firstRootChecks(goldenRoot, network))).toBe('accepted')
    expect(outcome(() => firstRootChecks(goldenRoot, idOf('stranger')))).toBe('root-not-trusted')
  })

  it('is no later version, even under the right fingerprint', () => {
    const second = decodeRoot(bytesOf('root-2'))
    expect(outcome(() => firstRootChecks(second, second.fingerprint))).toBe('root-not-trusted')
  })

  it.each<[readonly Holder[], string]>([
    [['root-1'], 'root-threshold'],
    [[], 'root-threshold'],
    [['root-1', 'root-2', 'stranger'], 'root-threshold'],
    [['root-1', 'root-2', 'root-3'], 'accepted'],
  ])('signed by %j: %s', async (by, expected) => {
    const root = await signRoot(
      rootBody(),
      by.map(name => signers[name]),
    )
    expect(outcome(() => firstRootChecks(root, network))).toBe(expected)
  })
})

describe('the form of a root', () => {
  const half = (raw: Record<string, unknown>, part: 'ed25519' | 'falcon') => {
    const [first, ...rest] = raw['keys'] as { ed25519: Uint8Array; falcon: Uint8Array }[]
    return { ...raw, keys: [first, { ...rest[0], [part]: first?.[part] }, ...rest.slice(1)] }
  }
  const list = (length: number) =>
    Array.from(
      { length },
      (_, at) => `b${'a'.repeat(51)}${String.fromCharCode(97 + (at % 26), 97 + (((at / 26) | 0) % 26))}aa`,
    ).sort()
  it.each<[string, (raw: Record<string, unknown>) => Record<string, unknown>]>([
    ['a threshold of none', raw => ({ ...raw, threshold: 0 })],
    ['a threshold over its keys', raw => ({ ...raw, threshold: 4 })],
    ['no keys', raw => ({ ...raw, keys: [] })],
    [
      'a key twice',
      raw => ({ ...raw, keys: [(raw['keys'] as unknown[])[0], ...(raw['keys'] as unknown[])] }),
    ],
    ['keys out of order', raw => ({ ...raw, keys: [...(raw['keys'] as unknown[])].reverse() })],
    ['two keys of one Ed25519 part', raw => half(raw, 'ed25519')],
    ['two keys of one Falcon part', raw => half(raw, 'falcon')],
    ['version 0', raw => ({ ...raw, version: 0 })],
    ['a predecessor of the first version', raw => ({ ...raw, previous: idOf('stranger') })],
    ['no predecessor of the second', raw => ({ ...raw, version: 2 })],
    ['a predecessor that is no fingerprint', raw => ({ ...raw, version: 2, previous: 'root' })],
    ['an end before its beginning', raw => ({ ...raw, notAfter: (raw['notBefore'] as number) - 1 })],
    ['no name', raw => ({ ...raw, network: '' })],
    ['a name that speaks to the terminal', raw => ({ ...raw, network: 'a\u0007' })],
    ['another type', raw => ({ ...raw, type: 'revocations' })],
    ['another format version', raw => ({ ...raw, v: 2 })],
    ['an unknown field', raw => ({ ...raw, motto: 'x' })],
    ['a revoked name that is no fingerprint', raw => ({ ...raw, revoked: ['x'] })],
    ['more revoked than there may be', raw => ({ ...raw, revoked: list(129) })],
    ['carried ones out of order', raw => ({ ...raw, carried: list(2).reverse() })],
  ])('refuses %s', async (_, change) => {
    const body = encodeCbor(change(decodeCbor(goldenRoot.body, 1e6, 'body') as Record<string, unknown>))
    const signature = await signBody('catalog/root/v1', body, signers['root-1'])
    const { bytes } = encodeDocument(body, [signature])
    expect(() => decodeRoot(bytes)).toThrow(expect.objectContaining({ code: 'certificate-malformed' }))
  })

  it('has room for as many keys, signatures and names as it may have', async () => {
    const full = rootBody({ keys: keys(...holders), threshold: 8, carried: list(128), revoked: list(128) })
    const root = await signRoot(
      full,
      holders.map(name => signers[name]),
    )
    expect(root.carried).toHaveLength(128)
    expect(outcome(() => firstRootChecks(root, root.fingerprint))).toBe('accepted')
  })
})
