// The two key pairs of an identity (a publisher, an authority, a root), their fingerprint and the bytes of their file;
// and the Falcon pair that a node has beside its libp2p key. How a file is encrypted is key-encryption.ts.
//
//   fingerprint = multibase base32 (prefix `b`) of a BLAKE3-256 multihash (0x1e 0x20 digest) over
//                 lp("catalog/publisher/v1") || lp(Ed25519 public key) || lp(Falcon-1024 public key)
//                 with lp(x) = length of x as 4 bytes, big-endian, then x
//   key file    = canonical CBOR { v: 1, type: "catalog/publisher-keys", ed25519: { publicKey, secretKey },
//                 falcon: { publicKey, secretKey } }; encrypted by the node itself
//   node falcon = canonical CBOR { v: 1, type: "catalog/node-falcon-key", falcon: { publicKey, secretKey } }
import { base32 } from 'multiformats/bases/base32'
import { decodeCbor, encodeCbor, equalBytes } from '../base/cbor.ts'
import { CatalogError, isCatalogError } from '../base/errors.ts'
import { blake3 } from '../base/hash.ts'
import { CryptoThread } from './crypto-thread.ts'
import { ed25519 } from './ed25519-scheme.ts'
import { falcon } from './falcon-scheme.ts'
import { type KeySecret, maxKeyFileBytes } from './key-encryption.ts'
import type { KeyFile } from './key-file.ts'
import { lengthPrefixed } from './length-prefixed.ts'
import type { KeyPair, SignatureScheme } from './signature-scheme.ts'

export interface PublisherKeys {
  readonly ed25519: KeyPair
  readonly falcon: KeyPair
  /** Names the publisher in every record: 56 characters. */
  readonly fingerprint: string
}

const fileVersion = 1
const fileType = 'catalog/publisher-keys'

/** The publisher that a pair of public keys is. */
export function publisherFingerprint(ed25519Key: Uint8Array, falconKey: Uint8Array): string {
  const preimage = lengthPrefixed(Buffer.from('catalog/publisher/v1'), ed25519Key, falconKey)
  return base32.encode(Buffer.concat([Buffer.from([0x1e, 0x20]), blake3(preimage)]))
}

/** Makes both key pairs in a thread of its own: half a second of work, during which the caller's thread is free. */
export async function generatePublisherKeys(): Promise<PublisherKeys> {
  const thread = new CryptoThread()
  try {
    const pairs = await thread.perform({ type: 'generate' })
    return {
      ...pairs,
      fingerprint: publisherFingerprint(pairs.ed25519.publicKey, pairs.falcon.publicKey),
    }
  } finally {
    await thread.stop()
  }
}

/**
 * Writes the key file, durable when it resolves; plain without a secret. Never replaces one that is there: a lost key
 * is a lost name.
 * @throws CatalogError `already-initialised`, `no-space`, `forbidden`
 */
export async function savePublisherKeys(
  file: KeyFile,
  keys: PublisherKeys,
  secret: KeySecret | undefined,
): Promise<void> {
  const { ed25519, falcon, fingerprint } = keys
  const bytes = encodeCbor({ v: fileVersion, type: fileType, ed25519, falcon })
  try {
    if (await file.create(bytes, fingerprint, secret)) return
  } finally {
    bytes.fill(0)
  }
  throw new CatalogError(
    'already-initialised',
    `The publisher keys were not written: ${file.path} exists and is kept. Use it, or choose another home.`,
    { path: file.path },
  )
}

/**
 * Reads the key file and proves that the public keys belong to the secret ones.
 * @throws CatalogError `not-initialised` (no file), `invalid-config` (not a key file, or a damaged one),
 *   `store-too-new`, and what `KeyFile.read` throws
 */
export async function loadPublisherKeys(file: KeyFile): Promise<PublisherKeys> {
  const stored = await file.read()
  if (stored === undefined)
    throw new CatalogError(
      'not-initialised',
      `There are no publisher keys at ${file.path}. Run \`catalog init\` first.`,
      { path: file.path },
    )
  try {
    return decodePublisherKeys(stored.bytes, file.path)
  } finally {
    stored.bytes.fill(0)
  }
}

/** The keys in the plain bytes of a file; the caller may wipe those. @throws CatalogError `invalid-config`, `store-too-new` */
export function decodePublisherKeys(bytes: Uint8Array, path: string): PublisherKeys {
  let raw: Record<string, unknown> | null
  try {
    raw = decodeCbor(bytes, maxKeyFileBytes, 'The key file') as typeof raw
  } catch (error) {
    throw isCatalogError(error, 'bad-record') ? damaged(path, error.message.replace(/\.$/, '')) : error
  }
  if (raw === null || typeof raw !== 'object' || raw['type'] !== fileType)
    throw damaged(path, 'it is not a publisher key file')
  if (typeof raw['v'] === 'number' && raw['v'] > fileVersion)
    throw new CatalogError(
      'store-too-new',
      `The publisher keys at ${path} were written by a newer Catalog (version ${raw['v']}). Update this one.`,
      { path },
    )
  const pairs = {
    ed25519: decodePair(raw['ed25519'], ed25519, path),
    falcon: decodePair(raw['falcon'], falcon, path),
  }
  return { ...pairs, fingerprint: publisherFingerprint(pairs.ed25519.publicKey, pairs.falcon.publicKey) }
}

const falconFileType = 'catalog/node-falcon-key'

/** The node's Falcon pair; made where there is none. @throws as `loadPublisherKeys` */
export async function loadOrCreateFalconKey(file: KeyFile, secret: KeySecret | undefined): Promise<KeyPair> {
  const stored = await file.read()
  if (stored !== undefined) {
    try {
      return decodeFalconKey(stored.bytes, file.path)
    } finally {
      stored.bytes.fill(0)
    }
  }
  const { falcon: pair } = await generatePublisherKeys()
  const bytes = encodeCbor({ v: fileVersion, type: falconFileType, falcon: pair })
  const made = await file.create(bytes, falconKeyName(pair), secret)
  bytes.fill(0)
  return made ? pair : loadOrCreateFalconKey(file, secret)
}

export function decodeFalconKey(bytes: Uint8Array, path: string): KeyPair {
  const raw = decodeCbor(bytes, maxKeyFileBytes, 'The key file') as Record<string, unknown> | null
  if (raw?.['type'] !== falconFileType) throw damaged(path, 'it is not the Falcon key of a node')
  return decodePair(raw['falcon'], falcon, path)
}

/** Names the pair to people. */
export const falconKeyName = ({ publicKey }: KeyPair): string =>
  base32.encode(Buffer.concat([Buffer.from([0x1e, 0x20]), blake3(publicKey)]))

function decodePair(raw: unknown, scheme: SignatureScheme, path: string): KeyPair {
  const { publicKey, secretKey } = (raw ?? {}) as Partial<KeyPair>
  if (!(publicKey instanceof Uint8Array) || !(secretKey instanceof Uint8Array))
    throw damaged(path, `its ${scheme.algorithm} keys are missing`)
  const derived = scheme.publicKeyOf(secretKey)
  if (derived === undefined || !equalBytes(derived, publicKey))
    throw damaged(path, `its ${scheme.algorithm} keys do not belong together`)
  // Copies: the caller wipes the bytes of the file.
  return { publicKey: publicKey.slice(), secretKey: secretKey.slice() }
}

const damaged = (path: string, why: string) =>
  new CatalogError(
    'invalid-config',
    `The publisher keys at ${path} cannot be used: ${why}. Restore the file from a backup.`,
    { path },
  )
