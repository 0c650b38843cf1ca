// AES-256-CTR_DRBG without derivation function (NIST SP 800-90A rev. 1, 10.2.1), as the known-answer generators of
// NIST's post-quantum submissions use it (`randombytes` of rng.c): it turns a seed into the bytes behind every answer.
import { createCipheriv } from 'node:crypto'

const seedBytes = 48

export class NistDrbg {
  #key: Buffer = Buffer.alloc(32)
  #counter: Buffer = Buffer.alloc(16)

  /** `entropy`: 48 bytes. */
  constructor(entropy: Uint8Array) {
    this.#update(entropy)
  }

  bytes(length: number): Uint8Array {
    const out = this.#blocks(Math.ceil(length / 16)).subarray(0, length)
    this.#update(Buffer.alloc(seedBytes))
    return new Uint8Array(out)
  }

  #update(data: Uint8Array): void {
    const next = this.#blocks(seedBytes / 16)
    for (let i = 0; i < seedBytes; i++) next[i] = (next[i] ?? 0) ^ (data[i] ?? 0)
    this.#key = next.subarray(0, 32)
    this.#counter = next.subarray(32)
  }

  #blocks(count: number): Buffer {
    const cipher = createCipheriv('aes-256-ecb', this.#key, null).setAutoPadding(false)
    const out: Buffer[] = []
    for (let block = 0; block < count; block++) {
      for (let i = 15; i >= 0; i--) {
        this.#counter[i] = ((this.#counter[i] ?? 0) + 1) & 0xff
        if (this.#counter[i] !== 0) break
      }
      out.push(cipher.update(this.#counter))
    }
    return Buffer.concat(out)
  }
}
