// Ed25519 (RFC 8032) by node:crypto. OpenSSL refuses a non-canonical S and compares the encoding of R byte by byte
// (no cofactor), but takes public keys of small order and non-canonical ones: those are refused here, because under
// such a key one signature can hold for every message.
import {
  createPrivateKey,
  createPublicKey,
  generateKeyPairSync,
  type KeyObject,
  sign,
  verify,
} from 'node:crypto'
import { LRUCache } from 'lru-cache'
import type { KeyPair, SignatureScheme } from './signature-scheme.ts'

const keyBytes = 32
const signatureBytes = 64

// RFC 8410: the fixed DER around a raw key.
const spkiPrefix = Buffer.from('302a300506032b6570032100', 'hex')
const pkcs8Prefix = Buffer.from('302e020100300506032b657004220420', 'hex')

/** p = 2^255 - 19, little-endian: an encoded y must be below it. */
const fieldPrime = Buffer.from(`ed${'ff'.repeat(30)}7f`, 'hex')

/** The y coordinates, little-endian, of the eight points of small order (each y stands for both signs of x). */
const smallOrder = [
  '00'.repeat(32),
  `01${'00'.repeat(31)}`,
  `ec${'ff'.repeat(30)}7f`,
  'c7176a703d4dd84fba3c0b760d10670f2a2053fa2c39ccc64ec7fd7792ac037a',
  '26e8958fc2b227b045c3f489f2ef98f0d5dfac05d3c63339b13802886d53fc05',
].map(hex => Buffer.from(hex, 'hex'))

/** Public keys that passed the checks, by their bytes: importing one costs a third of a verification. Under 1 KiB each. */
const importedKeys = new LRUCache<string, KeyObject>({ max: 256 })

class Ed25519Scheme implements SignatureScheme {
  readonly algorithm = 'ed25519'
  readonly publicKeyBytes = keyBytes
  readonly secretKeyBytes = keyBytes
  readonly signatureBytes = signatureBytes

  generate(): KeyPair {
    const { publicKey, privateKey } = generateKeyPairSync('ed25519')
    const der = privateKey.export({ format: 'der', type: 'pkcs8' })
    const secretKey = new Uint8Array(der.subarray(-keyBytes))
    der.fill(0)
    return { publicKey: rawPublicKey(publicKey), secretKey }
  }

  publicKeyOf(secretKey: Uint8Array): Uint8Array | undefined {
    if (!hasLength(secretKey, keyBytes)) return undefined
    return rawPublicKey(createPublicKey(importSecretKey(secretKey) as never))
  }

  sign(message: Uint8Array, secretKey: Uint8Array): Uint8Array {
    if (!hasLength(secretKey, keyBytes)) throw new TypeError('an Ed25519 secret key has 32 bytes')
    return new Uint8Array(sign(null, message, importSecretKey(secretKey)))
  }

  verify(signature: Uint8Array, message: Uint8Array, publicKey: Uint8Array): boolean {
    if (!hasLength(signature, signatureBytes) || !hasLength(publicKey, keyBytes)) return false
    try {
      const key = importPublicKey(publicKey)
      return key !== undefined && verify(null, message, key, signature)
    } catch {
      return false
    }
  }
}

const hasLength = (bytes: unknown, length: number): bytes is Uint8Array =>
  bytes instanceof Uint8Array && bytes.byteLength === length

function importSecretKey(secretKey: Uint8Array) {
  const der = Buffer.concat([pkcs8Prefix, secretKey])
  try {
    return createPrivateKey({ key: der, format: 'der', type: 'pkcs8' })
  } finally {
    der.fill(0)
  }
}

/** The key object, from memory where it can be; undefined for a key that is refused. */
function importPublicKey(publicKey: Uint8Array): KeyObject | undefined {
  const name = Buffer.from(publicKey).toString('latin1')
  const known = importedKeys.get(name)
  if (known !== undefined) return known
  if (!isSafePublicKey(publicKey)) return undefined
  const key = createPublicKey({ key: Buffer.concat([spkiPrefix, publicKey]), format: 'der', type: 'spki' })
  importedKeys.set(name, key)
  return key
}

const rawPublicKey = (key: KeyObject): Uint8Array =>
  new Uint8Array(key.export({ format: 'der', type: 'spki' }).subarray(-keyBytes))

/** Canonical (y < p) and not of small order. */
function isSafePublicKey(publicKey: Uint8Array): boolean {
  const y = Buffer.from(publicKey)
  y[keyBytes - 1] = (y[keyBytes - 1] ?? 0) & 0x7f
  const belowPrime = Buffer.compare(Buffer.from(y).reverse(), Buffer.from(fieldPrime).reverse()) < 0
  return belowPrime && !smallOrder.some(point => point.equals(y))
}

export const ed25519: SignatureScheme = new Ed25519Scheme()
