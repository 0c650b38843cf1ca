import { describe, expect, it } from 'vitest'
import { changedRanges, coverBytes } from '../../bench/ideal-delta.ts'
import { Cutter } from '../../src/assets/cutter.ts'
import { blake3 } from '../../src/base/hash.ts'
import { pseudoRandom } from '../store/sample-content.ts'

const kibibyte = 1024

describe('the ideal delta', () => {
  it('finds what changed, to the byte, wherever the rest lies now', () => {
    const old = pseudoRandom(1, 40_000)
    const fresh = pseudoRandom(2, 3000)
    const next = Buffer.concat([old.subarray(20_000), fresh, old.subarray(0, 20_000)])
    expect(changedRanges(old, next)).toEqual([{ start: 20_000, end: 23_000 }])
    expect(changedRanges(old, old)).toEqual([])
    expect(changedRanges(new Uint8Array(0), fresh)).toEqual([{ start: 0, end: 3000 }])
    const flipped = Buffer.from(old)
    flipped[12_345] = (flipped[12_345] as number) ^ 1
    expect(changedRanges(old, flipped)).toEqual([{ start: 12_345, end: 12_346 }])
  })

  it('counts what repeats within the new version once', () => {
    const fresh = pseudoRandom(3, 5 * kibibyte)
    expect(changedRanges(new Uint8Array(0), Buffer.concat([fresh, fresh]))).toEqual([
      { start: 0, end: 5 * kibibyte },
    ])
  })

  it('covers changes with the fewest pieces', () => {
    const ranges = [
      { start: 50, end: 60 },
      { start: 140, end: 155 },
      { start: 1000, end: 1250 },
    ]
    // 50-150, 150-250, 1000-1300
    expect(coverBytes(ranges, 100, 10_000)).toBe(500)
    expect(coverBytes(ranges, 100, 300)).toBe(300)
    expect(coverBytes([], 100, 300)).toBe(0)
  })

  it('is at most 1.2 times exceeded by a second version of a package', () => {
    const files = Array.from({ length: 300 }, (_, i) => ({
      path: `lib/${i % 7}/f${String(i).padStart(3, '0')}.js`,
      bytes: pseudoRandom(i, i % 25 === 0 ? 1_500_000 : 4000 + 500 * i),
    }))
    // Every twentieth file grows by some bytes in its middle, one goes, one comes.
    const edited = files.flatMap((file, i) => {
      if (i === 151) return []
      if (i % 20 !== 3) return [file]
      const half = file.bytes.byteLength >> 1
      const bytes = Buffer.concat([
        file.bytes.subarray(0, half),
        Buffer.from('edit'),
        file.bytes.subarray(half),
      ])
      return i === 63
        ? [file, { path: `${file.path}.map`, bytes: pseudoRandom(999, 90_000) }]
        : [{ ...file, bytes }]
    })
    const streamOf = (version: typeof files) => Buffer.concat(version.map(({ bytes }) => bytes))
    const shardsOf = (version: typeof files) => {
      const cutter = new Cutter(version.map(({ path, bytes }) => ({ path, size: bytes.byteLength })))
      return new Map(
        [...cutter.push(streamOf(version))].map(shard => [
          Buffer.from(blake3(shard)).toString('hex'),
          shard.byteLength,
        ]),
      )
    }
    const had = shardsOf(files)
    const moved = [...shardsOf(edited)].reduce((sum, [hash, size]) => (had.has(hash) ? sum : sum + size), 0)
    const next = streamOf(edited)
    const ideal = coverBytes(changedRanges(streamOf(files), next), 256 * kibibyte, next.byteLength)
    expect(ideal).toBeGreaterThan(2 * 1024 * kibibyte)
    expect(moved / ideal).toBeLessThan(1.2)
  })
})
