// BLAKE3 and SHA-256 of a package's whole stream and of its large files, in this thread or in a worker (digest-thread.ts).
import { blake3Hasher, type Hasher, type SnapshotHasher, sha256Hasher } from '../../base/hash.ts'
import type { Slice } from './stream.ts'

export interface Digests {
  readonly blake3: Uint8Array
  readonly sha256: Uint8Array
}

/** Takes the slices of a stream in order. Those of large files go into the file's digests too. */
export interface Digester {
  update(slice: Slice): void
  /** Digests of the large file whose last slice came last. */
  file(): Promise<Digests>
  /** Digests of the whole stream. */
  stream(): Promise<Digests>
  /** Waits for what still uses slices. */
  close(): Promise<void>
}

/** The two pairs of hashes themselves: what both ways of running them share. */
export class StreamHashes {
  readonly #blake3: Hasher = blake3Hasher()
  #sha256: SnapshotHasher = sha256Hasher()
  #empty = true
  #file: { readonly blake3: Hasher; readonly sha256: SnapshotHasher; readonly first: boolean } | undefined

  update(bytes: Uint8Array, large: boolean): void {
    if (large) {
      // While the stream is but this file, one SHA-256 serves both.
      this.#file ??= { blake3: blake3Hasher(), sha256: sha256Hasher(), first: this.#empty }
      this.#file.blake3.update(bytes)
      this.#file.sha256.update(bytes)
    }
    this.#empty = false
    this.#blake3.update(bytes)
    if (this.#file?.first !== true) this.#sha256.update(bytes)
  }

  file(): Digests {
    const file = this.#file
    if (file === undefined) throw new TypeError('no large file has ended')
    this.#file = undefined
    if (file.first) this.#sha256 = file.sha256.copy()
    return { blake3: file.blake3.digest(), sha256: file.sha256.digest() }
  }

  stream(): Digests {
    return { blake3: this.#blake3.digest(), sha256: this.#sha256.digest() }
  }
}

export class LocalDigester implements Digester {
  readonly #hashes = new StreamHashes()

  update({ bytes, large }: Slice): void {
    this.#hashes.update(bytes, large !== undefined)
  }

  async file(): Promise<Digests> {
    return this.#hashes.file()
  }

  async stream(): Promise<Digests> {
    return this.#hashes.stream()
  }

  async close(): Promise<void> {}
}
