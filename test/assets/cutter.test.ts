import { readFile } from 'node:fs/promises'
import fc from 'fast-check'
import { pipe } from 'it-pipe'
import { describe, expect, it } from 'vitest'
import { type CutFile, Cutter, cutStream, shardSizes } from '../../src/assets/cutter.ts'
import { blake3, sha256 } from '../../src/base/hash.ts'
import { cut, pseudoRandom } from '../store/sample-content.ts'

const hex = (bytes: Uint8Array) => Buffer.from(bytes).toString('hex')
const lengths = (shards: readonly Uint8Array[]) => shards.map(shard => shard.byteLength)
const kibibyte = 1024
const mebibyte = 1024 * 1024
const random = pseudoRandom(1, 8 * mebibyte)

const cutFiles = (files: readonly CutFile[], bytes: Uint8Array) => [...new Cutter(files).push(bytes)]
const sizeOf = (files: readonly CutFile[]) => files.reduce((sum, { size }) => sum + size, 0)

/** Packages of small files, of large ones, and mixed; empty ones among them. */
const packages = fc.array(
  fc.record({
    path: fc.stringMatching(/^[ab]\/[a-d]{1,3}\/[a-z]{1,2}$/),
    size: fc.oneof(
      { weight: 1, arbitrary: fc.constant(0) },
      { weight: 6, arbitrary: fc.nat(60 * kibibyte) },
      { weight: 3, arbitrary: fc.integer({ min: 100 * kibibyte, max: 1500 * kibibyte }) },
    ),
  }),
  { maxLength: 25 },
)

describe('cutting by content', () => {
  it('cuts where the format says: golden cut points', async () => {
    const golden = JSON.parse(await readFile(new URL('../vectors/cutter.json', import.meta.url), 'utf8')) as {
      name: string
      files: [path: string, size: number][]
      blake3: string
      lengths: number[]
    }[]
    const inputs: Record<string, Uint8Array> = {
      'one file, xorshift32 seed 1, 8 MiB': random,
      'one file, zeros, 3 MiB': new Uint8Array(3 * mebibyte),
      'one file, text, repeated': Buffer.from('The quick brown fox jumps over the lazy dog. '.repeat(40_000)),
      'small files around two large ones, xorshift32 seed 2, 4 MiB': pseudoRandom(2, 4 * mebibyte),
    }
    expect(golden.map(({ name }) => name)).toEqual(Object.keys(inputs))
    for (const { name, files, blake3: digest, lengths: expected } of golden) {
      const input = inputs[name] as Uint8Array
      expect(hex(blake3(input)), name).toBe(digest)
      const cutAs = files.map(([path, size]) => ({ path, size }))
      expect(lengths(cutFiles(cutAs, input)), name).toEqual(expected)
    }
  })

  it('agrees with the definition, read byte by byte', () => {
    expect(lengths(cut(random))).toEqual(cutByDefinition([{ path: 'file', size: random.byteLength }], random))
    fc.assert(
      fc.property(packages, fc.nat(), (files, seed) => {
        const bytes = pseudoRandom(seed, sizeOf(files))
        expect(lengths(cutFiles(files, bytes))).toEqual(cutByDefinition(files, bytes))
      }),
      { numRuns: 15 },
    )
  })

  it('cuts the same however the stream arrives', () => {
    const pieces = fc.array(fc.integer({ min: 1, max: 700_000 }), { minLength: 1, maxLength: 40 })
    fc.assert(
      fc.property(packages, pieces, (files, sizes) => {
        const bytes = random.subarray(0, Math.min(random.byteLength, sizeOf(files)))
        const known = [...takeWhole(files, bytes.byteLength)]
        const cutter = new Cutter(known)
        const shards: string[] = []
        for (let at = 0, turn = 0; at < bytes.byteLength; turn++) {
          const end = at + (sizes[turn % sizes.length] as number)
          for (const shard of cutter.push(bytes.subarray(at, end))) shards.push(hex(blake3(shard)))
          at = end
        }
        expect(shards).toEqual(
          cutFiles(known, bytes.subarray(0, sizeOf(known))).map(shard => hex(blake3(shard))),
        )
      }),
      { numRuns: 25 },
    )
  })

  it('cuts the same one byte at a time', () => {
    const short = random.subarray(0, 900_000)
    const cutter = new Cutter([{ path: 'file', size: short.byteLength }])
    const shards: Uint8Array[] = []
    for (const byte of short) shards.push(...cutter.push(Uint8Array.of(byte)))
    expect(shards.map(hex)).toEqual(cut(short).map(hex))
    expect(() => [...cutter.push(Uint8Array.of(1))]).toThrow(RangeError)
  })

  it('keeps every byte, and shards within their bounds', () => {
    const fill = fc.oneof(fc.constant(undefined), fc.nat(255))
    fc.assert(
      fc.property(packages, fc.nat(), fill, (files, seed, byte) => {
        const size = sizeOf(files)
        const input = byte === undefined ? pseudoRandom(seed, size) : new Uint8Array(size).fill(byte)
        const shards = cutFiles(files, input)
        expect(Buffer.concat(shards).equals(input)).toBe(true)
        for (const [i, { byteLength }] of shards.entries()) {
          expect(byteLength).toBeLessThanOrEqual(shardSizes.maxBytes)
          expect(byteLength).toBeGreaterThanOrEqual(i < shards.length - 1 ? shardSizes.minBytes : 1)
        }
      }),
      { numRuns: 30 },
    )
  })

  it('moves the shard around an edit, and seldom another', () => {
    const input = pseudoRandom(7, 32 * mebibyte)
    const before = new Set(cut(input).map(shard => hex(blake3(shard))))
    let fresh = 0
    const edits = 16
    for (let edit = 0; edit < edits; edit++) {
      const at = Math.floor((input.byteLength * (edit + 0.5)) / edits)
      const edited = Buffer.concat([input.subarray(0, at), Uint8Array.of(edit), input.subarray(at)])
      for (const shard of cut(edited)) if (!before.has(hex(blake3(shard)))) fresh += 1
    }
    // Cut at fixed places, an insertion would move half of the 140 shards.
    expect(fresh / edits).toBeLessThan(1.5)
  })

  it('gives a large file the same shards whatever changed before it', () => {
    const large = pseudoRandom(9, 3 * mebibyte)
    const shardsBehind = (seed: number, before: number) => {
      const files = [
        { path: 'a', size: before },
        { path: 'b', size: large.byteLength },
        { path: 'c', size: 10 },
      ]
      const bytes = Buffer.concat([pseudoRandom(seed, before), large, Buffer.alloc(10)])
      return new Set(cutFiles(files, bytes).map(shard => hex(blake3(shard))))
    }
    const alone = shardsBehind(1, 0)
    expect(alone.size).toBeGreaterThan(10)
    const before = fc.integer({ min: shardSizes.minBytes, max: 2 * mebibyte })
    fc.assert(
      fc.property(fc.nat(), before, (seed, size) => {
        const behind = shardsBehind(seed, size)
        expect([...alone].filter(shard => !behind.has(shard))).toEqual([])
      }),
      { numRuns: 10 },
    )
  })

  it('ends shards where small files begin, at the same ones in a renamed directory', () => {
    const files = (directory: string) =>
      Array.from({ length: 400 }, (_, i) => ({ path: `${directory}/lib/f${i}.js`, size: 3000 + i }))
    const bytes = pseudoRandom(10, sizeOf(files('')))
    const ends = lengths(cutFiles(files('sdk-1.0.0'), bytes))
    expect(lengths(cutFiles(files('sdk-1.0.1'), bytes))).toEqual(ends)
    const starts = new Set(files('').map((_, i, all) => sizeOf(all.slice(0, i))))
    let offset = 0
    for (const length of ends.slice(0, -1)) {
      offset += length
      expect(starts.has(offset)).toBe(true)
    }
  })

  it('gives shards of about 220 KiB on average', () => {
    const all = lengths(cut(pseudoRandom(8, 64 * mebibyte)))
    const mean = (64 * mebibyte) / all.length
    expect(mean).toBeGreaterThan(200 * kibibyte)
    expect(mean).toBeLessThan(256 * kibibyte)
  })

  it('is a stage of a pipeline', async () => {
    const shards = await pipe(
      [random.subarray(0, 3_000_000), random.subarray(3_000_000)],
      cutStream([{ path: 'file', size: random.byteLength }]),
      async source => {
        const all: Uint8Array[] = []
        for await (const shard of source) all.push(shard)
        return all
      },
    )
    expect(shards.map(hex)).toEqual(cut(random).map(hex))
  })
})

/** The first files of up to `size` bytes together. */
function* takeWhole(files: readonly CutFile[], size: number): Generator<CutFile> {
  let left = size
  for (const { path, size: wanted } of files) {
    yield { path, size: Math.min(left, wanted) }
    left -= Math.min(left, wanted)
  }
}

/** The definition at the head of cutter.ts, word by word and without care for speed. */
function cutByDefinition(files: readonly CutFile[], input: Uint8Array): number[] {
  const gear = Array.from({ length: 256 }, (_, i) =>
    Buffer.from(sha256(Buffer.from(`catalog.v1 gear ${i}`))).readInt32LE(),
  )
  // Of all bytes before the cut: those before the last 32 have left the 32 bits.
  const contentHashes = [0]
  for (const byte of input)
    contentHashes.push(((contentHashes.at(-1) as number) * 2 + (gear[byte] as number)) | 0)
  const nameHash = (path: string) =>
    Buffer.from(sha256(Buffer.from(path.split('/').slice(-2).join('/')))).readUInt32BE()
  const starts: { at: number; path: string; size: number }[] = []
  let size = 0
  for (const file of files.filter(each => each.size > 0)) {
    starts.push({ at: size, ...file })
    size += file.size
  }
  const divisions = [0]
  for (const [i, { at, size: own }] of starts.entries())
    if (Math.max(own, starts[i - 1]?.size ?? 0) >= 131_072 && at - (divisions.at(-1) as number) >= 65_536)
      divisions.push(at)
  const found: number[] = []
  for (const [i, division] of divisions.entries()) {
    const segmentEnd = divisions[i + 1] ?? size
    for (let start = division; start < segmentEnd; start += found.at(-1) as number) {
      if (segmentEnd - start <= 327_680) {
        found.push(segmentEnd - start)
        continue
      }
      const last = Math.min(start + 327_680, segmentEnd - 65_536)
      const begin = starts.filter(({ at }) => at > start + 131_072 && at <= last)
      const candidates = begin.map(({ at, path }) => ({ at, hash: nameHash(path) }))
      if (candidates.length === 0)
        for (let at = start + 131_073; at <= last; at++)
          candidates.push({ at, hash: contentHashes[at] as number })
      const lowest = candidates.reduce((best, each) => (each.hash <= best.hash ? each : best))
      found.push(lowest.at - start)
    }
  }
  return found
}
