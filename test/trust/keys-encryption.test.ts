import { readFileSync } from 'node:fs'
import { inspect } from 'node:util'
import fc from 'fast-check'
import { describe, expect, it } from 'vitest'
import { decodeCbor, encodeCbor } from '../../src/base/cbor.ts'
import {
  decryptKey,
  encryptKey,
  isEncryptedKey,
  type KeyHeader,
  KeySecret,
  readKeyHeader,
  type SecretKind,
  sealKey,
} from '../../src/trust/key-encryption.ts'

interface Vector {
  readonly kind: SecretKind
  readonly secret: string
  readonly holds: 'node' | 'publisher'
  readonly name: string
  readonly kdf: Record<string, unknown> & { readonly salt: string }
  readonly nonce: string
  readonly plain: string
  readonly file: string
}

const vectors = JSON.parse(
  readFileSync(new URL('../vectors/encrypted-keys-v1.json', import.meta.url), 'utf8'),
) as Vector[]
const bytes = (hex: string) => new Uint8Array(Buffer.from(hex, 'hex'))
const hex = (data: Uint8Array | undefined) => data && Buffer.from(data).toString('hex')
/** Cheap, so that many can be tried. */
const cost = { n: 1024, r: 1, p: 1 }
const passphrase = (text: string) =>
  new KeySecret({ kind: 'passphrase', source: 'a test', bytes: Buffer.from(text) }, { cost })
const label = { holds: 'publisher', name: 'b2' } as const

describe('an encrypted key file', () => {
  it.each(vectors)('has the bytes that the format says ($kind, $holds)', async vector => {
    const { kind, holds, name, plain, file } = vector
    const secret = new KeySecret({ kind, source: 'a test', bytes: bytes(vector.secret) })
    const kdf = { ...vector.kdf, salt: bytes(vector.kdf.salt) } as KeyHeader['kdf']
    const header: KeyHeader = { holds, name, kdf, aead: 'chacha20-poly1305', nonce: bytes(vector.nonce) }
    expect(hex(await sealKey(bytes(plain), header, secret))).toBe(file)
    expect(hex(await decryptKey(bytes(file), secret))).toBe(plain)
    expect(readKeyHeader(bytes(file))).toEqual(header)
    expect(isEncryptedKey(bytes(file))).toBe(true)
    expect(isEncryptedKey(bytes(plain))).toBe(false)
  })

  it('opens with its secret and no other, whatever the key, and shows none of its bytes', async () => {
    const property = fc.asyncProperty(
      fc.uint8Array({ minLength: 16, maxLength: 5000 }),
      fc.string({ minLength: 1 }),
      fc.string({ minLength: 1 }),
      async (plain, right, wrong) => {
        fc.pre(!Buffer.from(right).equals(Buffer.from(wrong)))
        const file = await encryptKey(plain, label, passphrase(right))
        expect(hex(await decryptKey(file, passphrase(right)))).toBe(hex(plain))
        expect(await decryptKey(file, passphrase(wrong))).toBeUndefined()
        expect(Buffer.from(file).includes(Buffer.from(plain))).toBe(false)
      },
    )
    await fc.assert(property, { numRuns: 40 })
  })

  it('never opens once a bit of it was changed, its header included', async () => {
    const secret = passphrase('correct horse')
    const file = await encryptKey(new Uint8Array(40).fill(5), label, secret)
    for (let bit = 0; bit < file.byteLength * 8; bit++) {
      const changed = file.slice()
      changed[bit >> 3] = (changed[bit >> 3] as number) ^ (1 << (bit & 7))
      const opened = await decryptKey(changed, secret).catch(error => {
        expect(['bad-record', 'store-too-new']).toContain(error.code)
      })
      expect(opened).toBeUndefined()
    }
  })

  it('shares the salt with those of the same run, and never the nonce', async () => {
    const secret = passphrase('x')
    const [one, other] = await Promise.all([1, 2].map(() => encryptKey(new Uint8Array(8), label, secret)))
    const [first, second] = [one, other].map(file => readKeyHeader(file as Uint8Array)) as [
      KeyHeader,
      KeyHeader,
    ]
    expect(first.kdf).toEqual(second.kdf)
    expect(first.nonce).not.toEqual(second.nonce)
    const later = readKeyHeader(await encryptKey(new Uint8Array(8), label, passphrase('x')))
    expect(later.kdf.salt).not.toEqual(first.kdf.salt)
  })

  it('that asks for more work or memory than it may is refused before any is done', async () => {
    const salt = new Uint8Array(32)
    const good = await encryptKey(new Uint8Array(8), label, passphrase('x'))
    const outer = decodeCbor(good, 10_000, 'the file') as Record<string, unknown>
    const header = readKeyHeader(good)
    const scrypt = (n: unknown, r: unknown, p: unknown) => ({ kdf: { name: 'scrypt', n, r, p, salt } })
    const hostile: Record<string, unknown>[] = [
      scrypt(2 ** 21, 8, 1),
      scrypt(2 ** 20, 8, 2),
      scrypt(1024, 8, 2 ** 20),
      scrypt(1024, 2 ** 20, 1),
      scrypt(2 ** 40, 1, 1),
      scrypt(512, 8, 1),
      scrypt(3000, 8, 1),
      scrypt(1024, 0, 1),
      scrypt(1024, 8, -1),
      scrypt(1024.5, 8, 1),
      scrypt('1024', 8, 1),
      { kdf: { name: 'scrypt', n: 1024, r: 8, p: 1, salt: new Uint8Array(8) } },
      { kdf: { name: 'none', salt } },
      { kdf: { name: 'hkdf-sha256', salt, n: 1 } },
      { kdf: null },
      { nonce: new Uint8Array(8) },
      { aead: 'none' },
      { holds: 'everything' },
      { name: 'a\u001b[2J' },
      { name: '' },
      { name: 'x'.repeat(129) },
      { extra: 1 },
    ]
    for (const change of hostile) {
      const file = encodeCbor({ ...outer, header: encodeCbor({ ...header, ...change }) })
      expect(() => readKeyHeader(file), inspect(change)).toThrow(
        expect.objectContaining({ code: 'bad-record' }),
      )
      await expect(decryptKey(file, passphrase('x'))).rejects.toMatchObject({ code: 'bad-record' })
    }
    const newer = encodeCbor({ ...outer, v: 2, more: true })
    expect(() => readKeyHeader(newer)).toThrow(expect.objectContaining({ code: 'store-too-new' }))
    for (const file of [
      { ...outer, more: 1 },
      { ...outer, sealed: new Uint8Array(15) },
      { ...outer, v: 0 },
      [],
    ])
      expect(() => readKeyHeader(encodeCbor(file))).toThrow(expect.objectContaining({ code: 'bad-record' }))
  })

  it('is made while the event loop goes on', async () => {
    const secret = new KeySecret({ kind: 'passphrase', source: 'a test', bytes: Buffer.from('x') })
    let turns = 0
    const turning = setInterval(() => turns++, 2)
    await encryptKey(new Uint8Array(8), label, secret)
    clearInterval(turning)
    // Work in this thread would leave it none before the end.
    expect(turns).toBeGreaterThan(5)
  })
})

describe('a secret', () => {
  it('does not show itself to logs, errors or JSON', () => {
    const secret = passphrase('correct horse')
    const shown = `${inspect(secret, { showHidden: true, depth: 9 })} ${JSON.stringify(secret)} ${String(secret)}`
    for (const form of [
      'correct horse',
      Buffer.from('correct horse').toString('hex'),
      '99, 111, 114',
      '63 6f 72',
    ])
      expect(shown).not.toContain(form)
    expect(shown).toContain('a test')
  })
})
