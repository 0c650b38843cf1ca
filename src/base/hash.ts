// The one door to hashing: BLAKE3 (native, with a portable fallback) and SHA-256, one-shot and streaming; SHAKE256.
import { createHash, type Hash, hash } from 'node:crypto'
import { createRequire } from 'node:module'

/** A streaming hash; `digest` may be called once, and gives 32 bytes. */
export interface Hasher {
  update(bytes: Uint8Array): this
  digest(): Uint8Array
}

/** A hasher whose state can be branched off. */
export interface SnapshotHasher extends Hasher {
  update(bytes: Uint8Array): this
  /** Another hasher that has taken the same bytes; call it before `digest`. */
  copy(): SnapshotHasher
}

export const digestBytes = 32

interface Blake3 {
  hash(bytes: Uint8Array): Uint8Array
  hasher(): Hasher
}

/** The native library where its binary loads (4-5 GiB/s), else @noble/hashes (under 0.1 GiB/s). */
function loadBlake3(): Blake3 {
  const require = createRequire(import.meta.url)
  if (process.env['CATALOG_PORTABLE_HASH'] !== '1') {
    try {
      return nativeBlake3(require('@napi-rs/blake-hash'))
    } catch {
      // No binary for this platform: the portable implementation gives the same digests.
    }
  }
  return portableBlake3(require('@noble/hashes/blake3.js'))
}

function nativeBlake3(library: typeof import('@napi-rs/blake-hash')): Blake3 {
  const hasher = (): Hasher => {
    const state = new library.Blake3Hasher()
    const self: Hasher = {
      update(bytes) {
        state.update(bytes as Buffer)
        return self
      },
      digest: () => new Uint8Array(state.digestBuffer()),
    }
    return self
  }
  return { hash: bytes => new Uint8Array(library.blake3(bytes)), hasher }
}

function portableBlake3(library: typeof import('@noble/hashes/blake3.js')): Blake3 {
  const hasher = (): Hasher => {
    const state = library.blake3.create()
    const self: Hasher = {
      update(bytes) {
        state.update(bytes)
        return self
      },
      digest: () => state.digest(),
    }
    return self
  }
  return { hash: bytes => library.blake3(bytes), hasher }
}

const implementation = loadBlake3()

/** BLAKE3-256 of the bytes (https://github.com/BLAKE3-team/BLAKE3-specs): 32 bytes. */
export const blake3 = (bytes: Uint8Array): Uint8Array => implementation.hash(bytes)
export const blake3Hasher = (): Hasher => implementation.hasher()

/** SHA-256 (FIPS 180-4) of the bytes: 32 bytes. */
export const sha256 = (bytes: Uint8Array): Uint8Array => new Uint8Array(hash('sha256', bytes, 'buffer'))

/** SHAKE256 (FIPS 202) of the parts, one after the other: the first `length` bytes of its endless output. */
export function shake256(parts: readonly Uint8Array[], length: number): Uint8Array {
  const state = createHash('shake256', { outputLength: length })
  for (const part of parts) state.update(part)
  return state.digest()
}

export const sha256Hasher = (): SnapshotHasher => snapshotHasher(createHash('sha256'))

function snapshotHasher(state: Hash): SnapshotHasher {
  const self: SnapshotHasher = {
    update(bytes) {
      state.update(bytes)
      return self
    },
    copy: () => snapshotHasher(state.copy()),
    digest: () => new Uint8Array(state.digest()),
  }
  return self
}
