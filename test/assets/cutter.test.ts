import { readFile } from 'node:fs/promises'
import fc from 'fast-check'
import { pipe } from 'it-pipe'
import { describe, expect, it } from 'vitest'
import { Cutter, cutStream, shardSizes } from '../../src/assets/cutter.ts'
import { blake3, sha256 } from '../../src/base/hash.ts'
import { cut, pseudoRandom } from '../store/sample-content.ts'

const hex = (bytes: Uint8Array) => Buffer.from(bytes).toString('hex')
const lengths = (shards: readonly Uint8Array[]) => shards.map(shard => shard.byteLength)
const mebibyte = 1024 * 1024
const random = pseudoRandom(1, 8 * mebibyte)

describe('cutting by content', () => {
  it('cuts where the format says: golden cut points', async () => {
    const golden = JSON.parse(await readFile(new URL('../vectors/cutter.json', import.meta.url), 'utf8')) as {
      name: string
      blake3: string
      lengths: number[]
    }[]
    const inputs: Record<string, Uint8Array> = {
      'xorshift32 seed 1, 8 MiB': random,
      'zeros, 3 MiB': new Uint8Array(3 * mebibyte),
      'text, repeated': Buffer.from('The quick brown fox jumps over the lazy dog. '.repeat(40_000)),
    }
    expect(golden.map(({ name }) => name)).toEqual(Object.keys(inputs))
    for (const { name, blake3: digest, lengths: expected } of golden) {
      const input = inputs[name] as Uint8Array
      expect(hex(blake3(input)), name).toBe(digest)
      expect(lengths(cut(input)), name).toEqual(expected)
    }
  })

  it('agrees with the definition, read byte by byte', () => {
    expect(lengths(cut(random))).toEqual(cutByDefinition(random))
  })

  it('cuts the same however the stream arrives', () => {
    const expected = cut(random).map(hex)
    fc.assert(
      fc.property(fc.array(fc.integer({ min: 1, max: 700_000 }), { minLength: 1, maxLength: 40 }), sizes => {
        const cutter = new Cutter()
        const shards: string[] = []
        for (let at = 0, turn = 0; at < random.byteLength; turn++) {
          const end = at + (sizes[turn % sizes.length] as number)
          for (const shard of cutter.push(random.subarray(at, end))) shards.push(hex(shard))
          at = end
        }
        const last = cutter.flush()
        if (last !== undefined) shards.push(hex(last))
        expect(shards).toEqual(expected)
      }),
      { numRuns: 25 },
    )
  })

  it('cuts the same one byte at a time', () => {
    const short = random.subarray(0, 700_000)
    const cutter = new Cutter()
    const shards: Uint8Array[] = []
    for (const byte of short) shards.push(...cutter.push(Uint8Array.of(byte)))
    shards.push(cutter.flush() as Uint8Array)
    expect(shards.map(hex)).toEqual(cut(short).map(hex))
  })

  it('keeps every byte, and shards within their bounds', () => {
    const inputs = fc.oneof(
      fc.tuple(fc.nat(), fc.nat(3 * mebibyte)).map(([seed, length]) => pseudoRandom(seed, length)),
      fc.tuple(fc.nat(255), fc.nat(3 * mebibyte)).map(([byte, length]) => new Uint8Array(length).fill(byte)),
    )
    fc.assert(
      fc.property(inputs, input => {
        const shards = cut(input)
        expect(Buffer.concat(shards).equals(input)).toBe(true)
        for (const [i, { byteLength }] of shards.entries()) {
          expect(byteLength).toBeLessThanOrEqual(shardSizes.maxBytes)
          expect(byteLength).toBeGreaterThan(i < shards.length - 1 ? shardSizes.minBytes : 0)
        }
      }),
      { numRuns: 30 },
    )
  })

  it('moves few shards for an edit anywhere', () => {
    const input = pseudoRandom(7, 32 * mebibyte)
    const before = new Set(cut(input).map(shard => hex(blake3(shard))))
    let fresh = 0
    const edits = 16
    for (let edit = 0; edit < edits; edit++) {
      const at = Math.floor((input.byteLength * (edit + 0.5)) / edits)
      const edited = Buffer.concat([input.subarray(0, at), Uint8Array.of(edit), input.subarray(at)])
      for (const shard of cut(edited)) if (!before.has(hex(blake3(shard)))) fresh += 1
    }
    // Cut at fixed places, an insertion would move half of the 110 shards.
    expect(fresh / edits).toBeLessThan(3)
  })

  it('gives shards of the normal size on average', () => {
    const all = lengths(cut(pseudoRandom(8, 64 * mebibyte)))
    const mean = (64 * mebibyte) / all.length
    expect(mean).toBeGreaterThan(0.9 * shardSizes.normalBytes)
    expect(mean).toBeLessThan(1.3 * shardSizes.normalBytes)
  })

  it('is a stage of a pipeline', async () => {
    const shards = await pipe(
      [random.subarray(0, 3_000_000), random.subarray(3_000_000)],
      cutStream,
      async source => {
        const all: Uint8Array[] = []
        for await (const shard of source) all.push(shard)
        return all
      },
    )
    expect(shards.map(hex)).toEqual(cut(random).map(hex))
    expect(new Cutter().flush()).toBeUndefined()
  })
})

/** FastCDC as the paper's pseudo-code has it, with the format's constants. */
function cutByDefinition(input: Uint8Array): number[] {
  const table = Array.from({ length: 256 }, (_, i) =>
    Buffer.from(sha256(Buffer.from(`catalog.v1 gear ${i}`))).readUInt32LE(),
  )
  const found: number[] = []
  for (let start = 0; start < input.byteLength; ) {
    let length = Math.min(65_536, input.byteLength - start)
    let hash = 0
    while (start + length < input.byteLength && length < 1_048_576) {
      hash = (((hash * 2) % 2 ** 32) + (table[input[start + length] as number] as number)) % 2 ** 32
      length += 1
      if (hash < 2 ** (length <= 262_144 ? 12 : 16)) break
    }
    found.push(length)
    start += length
  }
  return found
}
