// The format of an encrypted key file, and the secrets that open one. Files, and what the keys are, belong to others.
//
//   file   = canonical CBOR { v: 1, type: "catalog/encrypted-key", header: bytes, sealed: bytes }, at most 16 KiB
//   header = canonical CBOR { holds: "node" | "node-falcon" | "publisher" | "authority" | "root", name, kdf, aead: "chacha20-poly1305", nonce: 12 bytes }
//            name  the public name of the key (peer id, fingerprint): tells the file without opening it, at most 128
//            kdf   { name: "scrypt", n, r, p, salt: 32 bytes }   of a passphrase: its bytes, as they are
//                  { name: "hkdf-sha256", salt: 32 bytes }       of the 32 random bytes of an unlock key
//   key    = scrypt(secret, salt, n, r, p, 32) (RFC 7914), or
//            HKDF-SHA-256(secret, salt, info "catalog/encrypted-key/v1", 32) (RFC 5869)
//   sealed = ChaCha20-Poly1305 (RFC 8439) of the key file's plain bytes, then the tag of 16 bytes; the associated data
//            is lp("catalog/encrypted-key/v1") || lp(header), with lp(x) = length of x as 4 bytes, big-endian, then x
//
// Limits: n a power of two from 2^10, 128 n r at most 256 MiB, n r p at most 2^23: a file that somebody prepared costs
// about ten times what ours cost. Other fields are refused; a higher v is `store-too-new`.
// Non-goals: hiding whose key it is; a mark by which a wrong passphrase differs from a damaged file.
import { createCipheriv, createDecipheriv, hkdf, randomBytes, scrypt } from 'node:crypto'
import { decodeCbor, encodeCbor } from '../base/cbor.ts'
import { CatalogError } from '../base/errors.ts'
import { lengthPrefixed } from './length-prefixed.ts'

const fileVersion = 1
const fileType = 'catalog/encrypted-key'
const domain = Buffer.from('catalog/encrypted-key/v1')
const aead = 'chacha20-poly1305'
const tagBytes = 16
const nonceBytes = 12
const saltBytes = 32
const keyBytes = 32
export const maxKeyFileBytes = 16 * 1024

export type SecretKind = 'passphrase' | 'key-file'

export interface ScryptCost {
  readonly n: number
  readonly r: number
  readonly p: number
}

export type KeyDerivation =
  | ({ readonly name: 'scrypt'; readonly salt: Uint8Array } & ScryptCost)
  | { readonly name: 'hkdf-sha256'; readonly salt: Uint8Array }

/** Whose key a file holds: the node's (Ed25519, and Falcon beside it), its publisher's, its authority's, a network's root. */
export const keyHolders = ['node', 'node-falcon', 'publisher', 'authority', 'root'] as const
export type KeyHolder = (typeof keyHolders)[number]

export interface KeyHeader {
  readonly holds: KeyHolder
  readonly name: string
  readonly kdf: KeyDerivation
  readonly aead: typeof aead
  readonly nonce: Uint8Array
}

/** 32 MiB and about 0.2 s on one core: of the settings that OWASP's cheat sheet on passwords calls equal, one that a small machine can bear. */
const defaultScryptCost: ScryptCost = { n: 2 ** 15, r: 8, p: 3 }

/**
 * A passphrase, or the bytes of an unlock key. They leave it only as derived keys, never through a log or JSON.
 * One derivation serves all files that one process writes: they share a salt, each has its own nonce.
 */
export class KeySecret {
  readonly kind: SecretKind
  /** Where it came from, for people. */
  readonly source: string
  readonly #bytes: Uint8Array
  readonly #derived = new Map<string, Promise<Uint8Array>>()
  readonly #fresh: KeyDerivation

  constructor(
    deps: { readonly kind: SecretKind; readonly source: string; readonly bytes: Uint8Array },
    options: { readonly cost?: ScryptCost } = {},
  ) {
    this.kind = deps.kind
    this.source = deps.source
    this.#bytes = deps.bytes
    const salt = new Uint8Array(randomBytes(saltBytes))
    this.#fresh =
      deps.kind === 'passphrase'
        ? { name: 'scrypt', ...(options.cost ?? defaultScryptCost), salt }
        : { name: 'hkdf-sha256', salt }
  }

  /** How keys that this secret is to open are derived. */
  get derivation(): KeyDerivation {
    return this.#fresh
  }

  /** In a thread of libuv's: the caller's is free meanwhile. */
  derive(kdf: KeyDerivation): Promise<Uint8Array> {
    const { salt, ...rest } = kdf
    const id = `${JSON.stringify(rest)} ${Buffer.from(salt).toString('hex')}`
    // A home has two files.
    if (this.#derived.size > 8) this.#derived.clear()
    const known = this.#derived.get(id) ?? deriveKey(this.#bytes, kdf)
    this.#derived.set(id, known)
    return known
  }
}

function deriveKey(secret: Uint8Array, kdf: KeyDerivation): Promise<Uint8Array> {
  return new Promise((resolve, reject) => {
    const done = (error: Error | null, key: ArrayBuffer | Uint8Array) =>
      error === null ? resolve(new Uint8Array(key)) : reject(error)
    if (kdf.name === 'hkdf-sha256') return hkdf('sha256', secret, kdf.salt, domain, keyBytes, done)
    const { n: N, r, p } = kdf
    scrypt(secret, kdf.salt, keyBytes, { N, r, p, maxmem: 128 * r * (N + p + 2) + 2 ** 20 }, done)
  })
}

/** Which secret opens a file with this header. */
export const kindOf = ({ kdf }: KeyHeader): SecretKind => (kdf.name === 'scrypt' ? 'passphrase' : 'key-file')

/** The encrypted file of a key: fresh nonce, the secret's own salt. */
export function encryptKey(
  plain: Uint8Array,
  { holds, name }: Pick<KeyHeader, 'holds' | 'name'>,
  secret: KeySecret,
): Promise<Uint8Array> {
  const nonce = new Uint8Array(randomBytes(nonceBytes))
  return sealKey(plain, { holds, name, kdf: secret.derivation, aead, nonce }, secret)
}

/** The same under a given header. A nonce must never serve twice under one salt: for `encryptKey` and vectors alone. */
export async function sealKey(plain: Uint8Array, header: KeyHeader, secret: KeySecret): Promise<Uint8Array> {
  const headerBytes = encodeCbor(header)
  const key = await secret.derive(header.kdf)
  const cipher = createCipheriv(aead, key, header.nonce, { authTagLength: tagBytes })
  cipher.setAAD(lengthPrefixed(domain, headerBytes), { plaintextLength: plain.byteLength })
  const sealed = new Uint8Array(Buffer.concat([cipher.update(plain), cipher.final(), cipher.getAuthTag()]))
  return encodeCbor({ v: fileVersion, type: fileType, header: headerBytes, sealed })
}

/** Whether the bytes want to be an encrypted key file, damaged ones included: the type stands near their beginning. */
export const isEncryptedKey = (file: Uint8Array): boolean =>
  Buffer.from(file.buffer, file.byteOffset, Math.min(file.byteLength, 64)).includes(fileType)

/** @throws CatalogError `bad-record` (damaged, or parameters out of bounds), `store-too-new` */
export function readKeyHeader(file: Uint8Array): KeyHeader {
  return parse(file).header
}

/**
 * The key in the file; undefined when the secret is not the file's, or a bit of the file was changed.
 * @throws CatalogError `bad-record`, `store-too-new`
 */
export async function decryptKey(file: Uint8Array, secret: KeySecret): Promise<Uint8Array | undefined> {
  const { header, headerBytes, sealed } = parse(file)
  if (kindOf(header) !== secret.kind) return undefined
  const key = await secret.derive(header.kdf)
  const decipher = createDecipheriv(aead, key, header.nonce, { authTagLength: tagBytes })
  decipher.setAAD(lengthPrefixed(domain, headerBytes), { plaintextLength: sealed.byteLength - tagBytes })
  decipher.setAuthTag(sealed.subarray(-tagBytes))
  const plain = decipher.update(sealed.subarray(0, -tagBytes))
  try {
    decipher.final()
  } catch {
    plain.fill(0)
    return undefined
  }
  return new Uint8Array(plain)
}

function parse(file: Uint8Array): { header: KeyHeader; headerBytes: Uint8Array; sealed: Uint8Array } {
  const outer = fields(decodeCbor(file, maxKeyFileBytes, 'The key file'))
  if (outer['type'] !== fileType) throw bad('it is not an encrypted key file')
  if (typeof outer['v'] === 'number' && outer['v'] > fileVersion)
    throw new CatalogError(
      'store-too-new',
      `The key file was written by a newer Catalog (version ${outer['v']}). Update this one.`,
    )
  const { header: headerBytes, sealed } = outer
  if (outer['v'] !== fileVersion || !hasKeys(outer, ['v', 'type', 'header', 'sealed']))
    throw bad('its fields are not those of version 1')
  if (!(headerBytes instanceof Uint8Array) || !(sealed instanceof Uint8Array) || sealed.length < tagBytes)
    throw bad('its header or its content is missing')
  const header = fields(decodeCbor(headerBytes, maxKeyFileBytes, 'The header of the key file'))
  return { header: checkHeader(header), headerBytes, sealed }
}

function checkHeader(header: Record<string, unknown>): KeyHeader {
  const { holds, name, nonce } = header
  if (!hasKeys(header, ['holds', 'name', 'kdf', 'aead', 'nonce'])) throw bad('its header has other fields')
  if (!keyHolders.includes(holds as KeyHolder)) throw bad('it does not say which key it holds')
  if (typeof name !== 'string' || !/^[A-Za-z0-9]{1,128}$/.test(name)) throw bad('its name is not one')
  if (header['aead'] !== aead) throw bad('its cipher is unknown')
  if (!hasLength(nonce, nonceBytes)) throw bad(`its nonce has not ${nonceBytes} bytes`)
  return { holds: holds as KeyHolder, name, kdf: checkDerivation(fields(header['kdf'])), aead, nonce }
}

function checkDerivation(kdf: Record<string, unknown>): KeyDerivation {
  const { name, n, r, p, salt } = kdf
  if (!hasLength(salt, saltBytes)) throw bad(`its salt has not ${saltBytes} bytes`)
  if (name === 'hkdf-sha256' && hasKeys(kdf, ['name', 'salt'])) return { name, salt }
  if (name !== 'scrypt' || !hasKeys(kdf, ['name', 'n', 'r', 'p', 'salt']))
    throw bad('its key derivation is unknown')
  if (!isCount(n) || !isCount(r) || !isCount(p) || !affordable({ n, r, p }))
    throw bad('its scrypt parameters are out of bounds')
  return { name, n, r, p, salt }
}

function affordable({ n, r, p }: ScryptCost): boolean {
  if (n < 2 ** 10 || n > 2 ** 21 || !Number.isInteger(Math.log2(n))) return false
  return 128 * n * r <= 256 * 2 ** 20 && n * r * p <= 2 ** 23
}

const isCount = (value: unknown): value is number =>
  typeof value === 'number' && Number.isInteger(value) && value > 0 && value <= 2 ** 21

const hasLength = (value: unknown, length: number): value is Uint8Array =>
  value instanceof Uint8Array && value.byteLength === length

const fields = (value: unknown): Record<string, unknown> =>
  typeof value === 'object' && value !== null && !Array.isArray(value)
    ? (value as Record<string, unknown>)
    : {}

const hasKeys = (value: Record<string, unknown>, keys: readonly string[]): boolean =>
  Object.keys(value).length === keys.length && keys.every(key => Object.hasOwn(value, key))

const bad = (why: string) => new CatalogError('bad-record', why)
