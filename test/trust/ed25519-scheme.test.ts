import { existsSync, readFileSync } from 'node:fs'
import { join } from 'node:path'
import { describe, expect, it } from 'vitest'
import { ed25519 } from '../../src/trust/ed25519-scheme.ts'
import { signatureSchemeConformance } from '../conformance/signature-scheme.ts'

const hex = (text: string) => new Uint8Array(Buffer.from(text, 'hex'))

signatureSchemeConformance(ed25519)

describe('Ed25519 known answers', () => {
  // RFC 8032, section 7.1, tests 1 to 3.
  const rfc8032 = [
    {
      secretKey: '9d61b19deffd5a60ba844af492ec2cc44449c5697b326919703bac031cae7f60',
      publicKey: 'd75a980182b10ab7d54bfed3c964073a0ee172f3daa62325af021a68f707511a',
      message: '',
      signature:
        'e5564300c360ac729086e2cc806e828a84877f1eb8e5d974d873e065224901555fb8821590a33bacc61e39701cf9b46bd25bf5f0595bbe24655141438e7a100b',
    },
    {
      secretKey: '4ccd089b28ff96da9db6c346ec114e0f5b8a319f35aba624da8cf6ed4fb8a6fb',
      publicKey: '3d4017c3e843895a92b70aa74d1b7ebc9c982ccf2ec4968cc0cd55f12af4660c',
      message: '72',
      signature:
        '92a009a9f0d4cab8720e820b5f642540a2b27b5416503f8fb3762223ebdb69da085ac1e43e15996e458f3613d0f11d8c387b2eaeb4302aeeb00d291612bb0c00',
    },
    {
      secretKey: 'c5aa8df43f9f837bedb7442f31dcb7b166d38535076f094b85ce3a2e0b4458f7',
      publicKey: 'fc51cd8e6218a1a38da47ed00230f0580816ed13ba3303ac5deb911548908025',
      message: 'af82',
      signature:
        '6291d657deec24024827e69c3abe01a30ce548a284743a445e3680d7db5ac3ac18ff9b538d16f290ae67f760984dc6594a7c15e9716ed28dc027beceea1ec40a',
    },
  ]

  it.each(rfc8032)('signs and verifies message "$message" of RFC 8032', answer => {
    expect(ed25519.publicKeyOf(hex(answer.secretKey))).toEqual(hex(answer.publicKey))
    expect(ed25519.sign(hex(answer.message), hex(answer.secretKey))).toEqual(hex(answer.signature))
    expect(ed25519.verify(hex(answer.signature), hex(answer.message), hex(answer.publicKey))).toBe(true)
  })

  const directory = process.env['CATALOG_VECTORS'] ?? ''
  const wycheproof = join(directory, 'ed25519_test.json')
  const missing = directory === '' || !existsSync(wycheproof)
  it.skipIf(missing)(
    'agrees with every Wycheproof vector (SKIP unless CATALOG_VECTORS names a directory that holds ed25519_test.json)',
    () => {
      const { testGroups, numberOfTests } = JSON.parse(readFileSync(wycheproof, 'utf8')) as {
        numberOfTests: number
        testGroups: {
          publicKey: { pk: string }
          tests: { tcId: number; msg: string; sig: string; result: string }[]
        }[]
      }
      const outcomes = testGroups.flatMap(({ publicKey, tests }) =>
        tests.map(({ tcId, msg, sig, result }) => ({
          tcId,
          agrees: ed25519.verify(hex(sig), hex(msg), hex(publicKey.pk)) === (result === 'valid'),
        })),
      )
      expect(outcomes.length).toBe(numberOfTests)
      expect(outcomes.filter(({ agrees }) => !agrees)).toEqual([])
    },
  )
})

describe('Ed25519 at its edges', () => {
  const order = 2n ** 252n + 27742317777372353535851937790883648493n
  const prime = 2n ** 255n - 19n
  const little = (value: bigint) => hex(value.toString(16).padStart(64, '0')).reverse()
  const bigOf = (bytes: Uint8Array) => BigInt(`0x${Buffer.from(bytes).reverse().toString('hex')}`)
  const keys = ed25519.generate()
  const message = Buffer.from('edge')
  const signature = ed25519.sign(message, keys.secretKey)
  const [r, s] = [signature.subarray(0, 32), signature.subarray(32)]
  const verify = (first: Uint8Array, second: Uint8Array, key = keys.publicKey) =>
    ed25519.verify(new Uint8Array([...first, ...second]), message, key)

  it('accepts the honest signature (the control of the cases below)', () => {
    expect(verify(r, s)).toBe(true)
  })

  it('refuses S + L, for every multiple that fits', () => {
    for (let multiple = 1n; bigOf(s) + multiple * order < 2n ** 256n; multiple++)
      expect(verify(r, little(bigOf(s) + multiple * order))).toBe(false)
  })

  it('refuses every pair of special values as R and S', () => {
    const special = [0n, 1n, order - 1n, order, order + 1n, prime - 1n, prime, prime + 1n, 2n ** 256n - 1n]
    for (const first of special)
      for (const second of special) expect(verify(little(first), little(second))).toBe(false)
  })

  it('refuses a truncated, extended, swapped or compressed signature', () => {
    for (const bytes of [
      signature.subarray(0, 63),
      signature.subarray(1),
      signature.subarray(0, 32),
      new Uint8Array([...signature, 0]),
      new Uint8Array([0, ...signature]),
      new Uint8Array([...s, ...r]),
    ])
      expect(ed25519.verify(bytes, message, keys.publicKey)).toBe(false)
  })

  it('refuses keys of small order, under which R = 1 and S = 0 would verify any message', () => {
    // 0 and ±1, and the roots of d y⁴ + 2y² − 1: doubling such a point gives y = 0.
    const d = 37095705934669439343138083508754565189542113879843219016388785533085940283555n
    const ofOrderEight = [
      '26e8958fc2b227b045c3f489f2ef98f0d5dfac05d3c63339b13802886d53fc05',
      'c7176a703d4dd84fba3c0b760d10670f2a2053fa2c39ccc64ec7fd7792ac037a',
    ].map(text => bigOf(hex(text)))
    for (const y of ofOrderEight) expect((d * y ** 4n + 2n * y ** 2n - 1n) % prime).toBe(0n)
    for (const y of [0n, 1n, prime - 1n, ...ofOrderEight])
      for (const sign of [0n, 2n ** 255n])
        expect(verify(little(1n), little(0n), little(y + sign))).toBe(false)
  })

  it('refuses keys whose y is not below the prime', () => {
    for (const y of [prime, prime + 1n, prime + 18n])
      for (const sign of [0n, 2n ** 255n])
        expect(verify(little(1n), little(0n), little(y + sign))).toBe(false)
  })
})
