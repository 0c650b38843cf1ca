// Contents for the tests of stores: cut, hashed and described as a publish does it.
import { type ContentIndex, encodeContentIndex } from '../../src/assets/content-index.ts'
import type { ContentStore } from '../../src/assets/content-store.ts'
import { Cutter } from '../../src/assets/cutter.ts'
import type { CidText } from '../../src/base/cid.ts'
import { blake3, sha256 } from '../../src/base/hash.ts'

export interface Sample {
  readonly bytes: Uint8Array
  readonly index: ContentIndex
  readonly indexBytes: Uint8Array
  readonly root: CidText
  shard(number: number): Uint8Array
}

/** Bytes that look random and are the same for the same seed (xorshift32). */
export function pseudoRandom(seed: number, length: number): Uint8Array {
  const words = new Uint32Array(Math.ceil(length / 4))
  let state = Math.imul(seed + 1, 0x9e3779b9) | 1
  for (let i = 0; i < words.length; i++) {
    state ^= state << 13
    state ^= state >>> 17
    state ^= state << 5
    words[i] = state
  }
  return new Uint8Array(words.buffer, 0, length)
}

/** The shards of one file's bytes. */
export const cut = (bytes: Uint8Array): Uint8Array[] => [
  ...new Cutter([{ path: 'file', size: bytes.byteLength }]).push(bytes),
]

/** A content of one file; cut by content, or into the given shards. */
export function sampleOf(bytes: Uint8Array, shards: readonly Uint8Array[] = cut(bytes)): Sample {
  const digests = { blake3: blake3(bytes), sha256: sha256(bytes) }
  const index: ContentIndex = {
    size: bytes.byteLength,
    ...digests,
    entries: [{ kind: 'file', path: 'file', mode: 0o644, size: bytes.byteLength, offset: 0, ...digests }],
    shards: shards.map(shard => ({ hash: blake3(shard), length: shard.byteLength })),
  }
  const encoded = encodeContentIndex(index)
  return {
    bytes,
    index,
    indexBytes: encoded.bytes,
    root: encoded.root,
    shard: number => shards[number] as Uint8Array,
  }
}

export const sample = (seed: number, length: number): Sample => sampleOf(pseudoRandom(seed, length))

export async function publish(store: ContentStore, content: Sample): Promise<CidText> {
  const writer = await store.createWriter(content.bytes.byteLength)
  try {
    for (let shard = 0; shard < content.index.shards.length; shard++)
      await writer.append(content.shard(shard))
    return await writer.commit(content.index)
  } finally {
    await writer.abort()
  }
}

export async function readAll(
  store: ContentStore,
  root: CidText,
  offset: number,
  length: number,
): Promise<Uint8Array> {
  const parts: Uint8Array[] = []
  for await (const part of store.read(root, offset, length)) parts.push(part)
  return Buffer.concat(parts)
}
