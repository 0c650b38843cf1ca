// A publisher's two key pairs, their fingerprint and their file. Certificates that name a publisher come later, in
// files of their own.
//
//   fingerprint = multibase base32 (prefix `b`) of a BLAKE3-256 multihash (0x1e 0x20 digest) over
//                 lp("catalog/publisher/v1") || lp(Ed25519 public key) || lp(Falcon-1024 public key)
//                 with lp(x) = length of x as 4 bytes, big-endian, then x
//   key file    = canonical CBOR { v: 1, type: "catalog/publisher-keys", ed25519: { publicKey, secretKey },
//                 falcon: { publicKey, secretKey } }, mode 0600, owned by the user who runs the node
import { constants } from 'node:fs'
import { link, open, unlink } from 'node:fs/promises'
import { dirname } from 'node:path'
import { base32 } from 'multiformats/bases/base32'
import { decodeCbor, encodeCbor, equalBytes } from '../base/cbor.ts'
import { CatalogError, isCatalogError, toCatalogError } from '../base/errors.ts'
import { blake3 } from '../base/hash.ts'
import { CryptoThread } from './crypto-thread.ts'
import { ed25519 } from './ed25519-scheme.ts'
import { falcon } from './falcon-scheme.ts'
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
const maxFileBytes = 16 * 1024

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
 * Writes the key file, durable when it resolves. Never replaces one that is there: a lost key is a lost name.
 * @throws CatalogError `already-initialised`, `no-space`, `forbidden`
 */
export async function savePublisherKeys(path: string, keys: PublisherKeys): Promise<void> {
  const { ed25519, falcon } = keys
  const bytes = encodeCbor({ v: fileVersion, type: fileType, ed25519, falcon })
  const temporary = `${path}.${process.pid}.${Date.now()}.tmp`
  try {
    const file = await open(temporary, 'wx', 0o600)
    try {
      await file.chmod(0o600)
      await file.writeFile(bytes)
      await file.sync()
    } finally {
      await file.close()
    }
    // A hard link, not a rename: it fails where the name exists, in one step.
    await link(temporary, path)
  } catch (error) {
    if ((error as NodeJS.ErrnoException).code === 'EEXIST')
      throw new CatalogError(
        'already-initialised',
        `The publisher keys were not written: ${path} exists and is kept. Use it, or choose another home.`,
        { path },
      )
    throw toCatalogError(error)
  } finally {
    bytes.fill(0)
    await unlink(temporary).catch(() => undefined)
  }
  await syncDirectory(dirname(path))
}

async function syncDirectory(path: string): Promise<void> {
  const directory = await open(path, constants.O_RDONLY)
  try {
    await directory.sync()
  } finally {
    await directory.close()
  }
}

/**
 * Reads the key file and proves that the public keys belong to the secret ones.
 * @throws CatalogError `not-initialised` (no file), `forbidden` (others may read it), `home-not-owned`,
 *   `invalid-config` (not a key file, or a damaged one), `store-too-new`
 */
export async function loadPublisherKeys(path: string): Promise<PublisherKeys> {
  const bytes = await readPrivateFile(path)
  try {
    return decodeKeys(bytes, path)
  } catch (error) {
    if (isCatalogError(error, 'bad-record')) throw damaged(path, error.message)
    throw error
  } finally {
    bytes.fill(0)
  }
}

async function readPrivateFile(path: string): Promise<Uint8Array> {
  // One descriptor for checks and reading, and no link followed: what was checked is what is read.
  const file = await open(path, constants.O_RDONLY | constants.O_NOFOLLOW | constants.O_NONBLOCK).catch(
    (error: NodeJS.ErrnoException) => {
      if (error.code === 'ENOENT')
        throw new CatalogError(
          'not-initialised',
          `There are no publisher keys at ${path}. Run \`catalog init\` first.`,
          { path },
        )
      if (error.code === 'ELOOP') throw damaged(path, 'it is a symbolic link')
      throw toCatalogError(error)
    },
  )
  try {
    const { uid, mode, size } = await file.stat().then(stat => {
      if (!stat.isFile()) throw damaged(path, 'it is not a regular file')
      return stat
    })
    const user = process.getuid?.()
    if (user !== undefined && uid !== user)
      throw new CatalogError(
        'home-not-owned',
        `The publisher keys at ${path} belong to user ${uid}, not to ${user} who runs this. Run as their owner.`,
        { path },
      )
    if ((mode & 0o077) !== 0)
      throw new CatalogError(
        'forbidden',
        `The publisher keys at ${path} can be read or changed by others (mode ${(mode & 0o777).toString(8)}). Run \`chmod 600 ${path}\`.`,
        { path },
      )
    if (size > maxFileBytes) throw damaged(path, `it has ${size} bytes`)
    const bytes = Buffer.alloc(size)
    const { bytesRead } = await file.read(bytes, 0, size, 0)
    return bytes.subarray(0, bytesRead)
  } finally {
    await file.close()
  }
}

function decodeKeys(bytes: Uint8Array, path: string): PublisherKeys {
  const raw = decodeCbor(bytes, maxFileBytes, 'The key file') as Record<string, unknown> | null
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
