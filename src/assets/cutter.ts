// Says where a release's byte stream is cut into shards, so that a new version shares as many of them as it can with
// the old one. Part of the content format: two nodes that cut differently give one directory two content roots, so
// nothing here ever changes. Who reads or verifies an index does not ask how it was cut; empty files are ignored.
//
//   segment   The stream is first divided at both ends of each file of at least `largeBytes`, wherever `minBytes` or
//             more lie behind the last division. What a segment's shards are depends on nothing outside it: a large
//             file that did not change is the same shards, whatever changed before it (unless less than that is there).
//   shard     What is left of a segment, if that is at most `maxBytes`. Else it ends in its window: more than
//             `leastBytes` and at most `maxBytes` from its start, at least `minBytes` before the segment's end. If files
//             begin in the window, it ends at the one with the lowest name hash, else behind the byte with the lowest
//             content hash; the last of several equal ones. So an edit moves a cut only if it makes or removes the
//             lowest hash.
//   name      the first 4 bytes, big endian, of SHA-256 of the last two names of the file's path ("lib/index.js"): a
//             directory renamed for each version leaves them alone
//   content   signed 32 bits over the 32 bytes before the cut: hash = (hash << 1) + gear[byte], from 0;
//             gear[i] = the first 4 bytes, little endian, of SHA-256("catalog.v1 gear " + decimal i)
//
// A lowest hash in a window (as in AE, Zhang et al., INFOCOM 2015; the hash is FastCDC's, Xia et al., USENIX ATC 2016)
// instead of FastCDC's first hash below a bound, because an edit costs the shard around it: E[L²]/E[L] bytes for lengths
// L, here 234 KiB (average 216), with FastCDC of 64 KiB, 256 KiB, 1 MiB and level 2 370 KiB (average 323). Over twelve
// pairs of npm releases (bench/delta.ts) that FastCDC moved 1.44 times the ideal delta (geometric mean), windows alone
// 1.23, with segments and ends at files 1.10.
import { sha256 } from '../base/hash.ts'

/** Bytes. A shard has 216 KiB on average in real packages, 228 KiB in random data. */
export const shardSizes = {
  minBytes: 64 * 1024,
  leastBytes: 128 * 1024,
  maxBytes: 320 * 1024,
  largeBytes: 128 * 1024,
} as const

/** What the cutter must know of a file before its bytes come. */
export interface CutFile {
  readonly path: string
  /** Bytes. */
  readonly size: number
}

const encoder = new TextEncoder()
const gear = Int32Array.from({ length: 256 }, (_, i) => {
  const digest = sha256(encoder.encode(`catalog.v1 gear ${i}`))
  return new DataView(digest.buffer, digest.byteOffset).getInt32(0, true)
})

/**
 * Takes the bytes of the files, in order and in pieces of any size, and gives their shards; where the pieces end makes
 * no difference. A shard may be a view of the bytes pushed, or a buffer of its own: the caller must not change what it
 * pushed while it uses the shards. Memory: one shard, and the files.
 */
export class Cutter {
  readonly #course: Course
  readonly #allocate: (bytes: number) => Uint8Array
  readonly #kept = new Uint8Array(shardSizes.maxBytes)
  /** Bytes of the current shard, or of its window, that came with earlier pushes. */
  #length = 0

  /** `allocate` gives room for a shard that no single push held whole. */
  constructor(
    files: readonly CutFile[],
    allocate: (bytes: number) => Uint8Array = bytes => new Uint8Array(bytes),
  ) {
    this.#course = new Course(files)
    this.#allocate = allocate
  }

  /** The shards that these bytes complete; the last bytes complete the last. Consume them all before the next push. */
  *push(bytes: Uint8Array): Generator<Uint8Array, void, undefined> {
    for (let at = 0; at < bytes.byteLength; ) {
      const need = this.#course.need
      if (need === 0) throw new RangeError('more bytes were pushed than the files have')
      if (this.#length + bytes.byteLength - at < need) {
        this.#keep(bytes.subarray(at))
        return
      }
      const kept = this.#length
      if (kept === 0) {
        const cut = this.#course.cut(bytes, at)
        yield bytes.subarray(at, at + cut)
        at += cut
        continue
      }
      this.#keep(bytes.subarray(at, at + need - kept))
      const cut = this.#course.cut(this.#kept, 0)
      const shard = this.#allocate(cut)
      shard.set(this.#kept.subarray(0, cut))
      // What lies behind the cut is kept still, or is taken from the bytes pushed again.
      this.#length = Math.max(0, kept - cut)
      this.#kept.copyWithin(0, cut, cut + this.#length)
      at += Math.max(0, cut - kept)
      yield shard
    }
  }

  #keep(bytes: Uint8Array): void {
    this.#kept.set(bytes, this.#length)
    this.#length += bytes.byteLength
  }
}

/** The same as a stage of a pipeline (`pipe(source, cutStream(files), …)`). */
export const cutStream = (files: readonly CutFile[]) =>
  async function* (
    source: AsyncIterable<Uint8Array> | Iterable<Uint8Array>,
  ): AsyncGenerator<Uint8Array, void, undefined> {
    const cutter = new Cutter(files)
    for await (const bytes of source) yield* cutter.push(bytes)
  }

/** The segments and files ahead, from the start of the current shard on. */
class Course {
  readonly #segmentEnds: readonly number[]
  /** Where files begin that a shard may end at, ascending, and what hashes to their order. */
  readonly #fileStarts: readonly number[]
  readonly #fileNames: readonly string[]
  #segment = 0
  #nextFile = 0
  #start = 0
  /** Bytes from the start of the current shard that must be there to find its end; 0 behind the last shard. */
  need = 0
  /** The current shard's length where its files decide it. */
  #decided: number | undefined

  constructor(files: readonly CutFile[]) {
    const filled = files.filter(({ size }) => size > 0)
    const starts: number[] = []
    const ends: number[] = []
    let offset = 0
    let division = 0
    for (const [i, { size }] of filled.entries()) {
      const borders = size >= shardSizes.largeBytes || (filled[i - 1]?.size ?? 0) >= shardSizes.largeBytes
      if (borders && offset - division >= shardSizes.minBytes) {
        ends.push(offset)
        division = offset
      }
      starts.push(offset)
      offset += size
    }
    this.#segmentEnds = offset > 0 ? [...ends, offset] : []
    this.#fileStarts = starts
    this.#fileNames = filled.map(({ path }) => path)
    this.#begin()
  }

  /** The current shard's length, and on to the next; `need` bytes lie in `bytes` from `at`. */
  cut(bytes: Uint8Array, at: number): number {
    const length = this.#decided ?? lowestHashEnd(bytes, at + shardSizes.leastBytes, at + this.need) - at
    this.#start += length
    if (this.#start === this.#segmentEnds[this.#segment]) this.#segment += 1
    this.#begin()
    return length
  }

  #begin(): void {
    const end = this.#segmentEnds[this.#segment]
    const left = (end ?? this.#start) - this.#start
    if (left <= shardSizes.maxBytes) {
      this.#decided = left
      this.need = left
      return
    }
    const window = Math.min(shardSizes.maxBytes, left - shardSizes.minBytes)
    this.#decided = this.#lowestFile(this.#start + shardSizes.leastBytes, this.#start + window)
    this.need = this.#decided ?? window
  }

  /** How far from the shard's start the file with the lowest name hash begins, of those above `from` and up to `to`. */
  #lowestFile(from: number, to: number): number | undefined {
    while ((this.#fileStarts[this.#nextFile] ?? Number.POSITIVE_INFINITY) <= from) this.#nextFile += 1
    let lowest = Number.POSITIVE_INFINITY
    let found: number | undefined
    for (let i = this.#nextFile; (this.#fileStarts[i] ?? Number.POSITIVE_INFINITY) <= to; i++) {
      const hash = nameHash(this.#fileNames[i] as string)
      if (hash > lowest) continue
      lowest = hash
      found = (this.#fileStarts[i] as number) - this.#start
    }
    return found
  }
}

function nameHash(path: string): number {
  const digest = sha256(encoder.encode(path.split('/').slice(-2).join('/')))
  return new DataView(digest.buffer, digest.byteOffset).getUint32(0)
}

/** Bytes that a content hash is over: each shifts out of 32 bits behind the next 31. */
const hashedBytes = 32

/** The place above `from` and up to `to` with the lowest hash. Four bytes a turn: 1.3 times the plain loop's speed. */
function lowestHashEnd(bytes: Uint8Array, from: number, to: number): number {
  let hash = 0
  for (let i = from + 1 - hashedBytes; i < from; i++)
    hash = ((hash << 1) + (gear[bytes[i] as number] as number)) | 0
  let lowest = 0x7fffffff
  let end = to
  let i = from
  for (; i + 3 < to; i += 4) {
    hash = ((hash << 1) + (gear[bytes[i] as number] as number)) | 0
    if (hash <= lowest) {
      lowest = hash
      end = i + 1
    }
    hash = ((hash << 1) + (gear[bytes[i + 1] as number] as number)) | 0
    if (hash <= lowest) {
      lowest = hash
      end = i + 2
    }
    hash = ((hash << 1) + (gear[bytes[i + 2] as number] as number)) | 0
    if (hash <= lowest) {
      lowest = hash
      end = i + 3
    }
    hash = ((hash << 1) + (gear[bytes[i + 3] as number] as number)) | 0
    if (hash <= lowest) {
      lowest = hash
      end = i + 4
    }
  }
  for (; i < to; i++) {
    hash = ((hash << 1) + (gear[bytes[i] as number] as number)) | 0
    if (hash <= lowest) {
      lowest = hash
      end = i + 1
    }
  }
  return end
}
