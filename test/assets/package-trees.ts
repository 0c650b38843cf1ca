// What the tests of this folder share: directories on a real disk, and their content indexes.
import { mkdtemp, readFile, rm } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import type { ContentIndex, Entry } from '../../src/assets/content-index.ts'
import type { SourceEntry } from '../../src/assets/package-tree.ts'
import { blake3, sha256 } from '../../src/base/hash.ts'

export async function withDirectory<T>(work: (path: string) => Promise<T>): Promise<T> {
  const path = await mkdtemp(join(tmpdir(), 'catalog-assets-'))
  try {
    return await work(path)
  } finally {
    await rm(path, { recursive: true, force: true })
  }
}

/** The index and the stream of a tree, without shards: what writing it out needs. */
export async function indexOf(
  entries: readonly SourceEntry[],
): Promise<{ index: ContentIndex; stream: Uint8Array }> {
  const parts: Uint8Array[] = []
  let offset = 0
  const described: Entry[] = []
  for (const entry of entries) {
    if (entry.kind !== 'file') {
      described.push(entry)
      continue
    }
    const bytes =
      entry.source.kind === 'inline' ? entry.source.bytes : await readFile(entry.source.absolutePath)
    const { kind, path, mode } = entry
    const size = bytes.byteLength
    described.push({ kind, path, mode, size, offset, blake3: blake3(bytes), sha256: sha256(bytes) })
    parts.push(bytes)
    offset += size
  }
  const stream = Buffer.concat(parts)
  return {
    index: { size: offset, blake3: blake3(stream), sha256: sha256(stream), entries: described, shards: [] },
    stream,
  }
}

/** A release's stream in memory; `chunkBytes` makes the edges of chunks fall anywhere. */
export function readerOf(stream: Uint8Array, chunkBytes = 1024 * 1024) {
  const reads: { offset: number; length: number }[] = []
  async function* read(offset: number, length: number): AsyncGenerator<Uint8Array> {
    reads.push({ offset, length })
    for (let at = offset; at < offset + length; at += chunkBytes)
      yield stream.subarray(at, Math.min(at + chunkBytes, offset + length))
  }
  return { read, reads }
}

export const minimalManifest = `apiVersion: catalog.v1
kind: AssetPackage
metadata:
  name: sample
  version: 1.0.0
spec:
  description: A sample
`
