// Whether the shards of a content go out compressed, and compressing them: only where a sample of the content shrinks,
// and only for peers whose link is so slow that compressing gains time. Measured for each content, here; how fast a link
// is, the peer that asks measures (LinkMeter) and says.
import { promisify } from 'node:util'
import { zstdCompress as compressBytes, constants, zstdDecompress as decompressBytes } from 'node:zlib'
import { LRUCache } from 'lru-cache'
import PQueue from 'p-queue'
import { CatalogError } from '../base/errors.ts'

const zstdCompress = promisify(compressBytes)
const zstdDecompress = promisify(decompressBytes)

export interface CompressionOptions {
  readonly mode: 'auto' | 'never'
  /** A sample must shrink to at most this part of its size. */
  readonly worthwhileRatio: number
  /** A link is slow where it moves at most this part of what compressing moves: the processor has other work too. */
  readonly slowLink: number
  readonly level: number
}

export const defaultCompressionOptions: CompressionOptions = {
  mode: 'auto',
  // Below a tenth, what is gained is less than what the pauses cost.
  worthwhileRatio: 0.9,
  slowLink: 0.5,
  // Level 3 shrinks source text by a tenth more than level 1 at two thirds of its speed; slow links leave the time.
  level: 3,
}

/** No processor that runs this compresses faster: links beyond it need no sample. In bytes a second. */
const fastestUsefulLink = 400 * 1024 * 1024

interface Sampled {
  readonly shrinks: boolean
  readonly bytesPerSecond: number
}

export class Compression {
  readonly #options: CompressionOptions
  readonly #samples = new LRUCache<string, Sampled>({ max: 2000 })
  /** Each takes a megabyte, and a thread that file reads wait for. */
  readonly #atOnce = new PQueue({ concurrency: 2 })

  constructor(options = defaultCompressionOptions) {
    this.#options = options
  }

  /**
   * Whether to compress for a peer that gets `linkBytesPerSecond`. `sample` gives a few shards from all over the
   * content; it is asked once per content, and only where the answer matters.
   */
  async pays(
    root: string,
    linkBytesPerSecond: number,
    sample: () => Promise<readonly Uint8Array[]>,
  ): Promise<boolean> {
    const { mode, slowLink } = this.#options
    if (mode === 'never' || linkBytesPerSecond > fastestUsefulLink) return false
    let sampled = this.#samples.get(root)
    if (sampled === undefined) {
      const shards = await sample()
      // Nothing of it is here yet that could be looked at.
      if (shards.length === 0) return false
      sampled = await this.#measure(shards)
      this.#samples.set(root, sampled)
    }
    return sampled.shrinks && linkBytesPerSecond <= sampled.bytesPerSecond * slowLink
  }

  async #measure(shards: readonly Uint8Array[]): Promise<Sampled> {
    const started = performance.now()
    let [before, after] = [0, 0]
    for (const shard of shards) {
      before += shard.byteLength
      after += (await this.compress(shard)).byteLength
    }
    const seconds = Math.max(performance.now() - started, 0.01) / 1000
    return { shrinks: after <= before * this.#options.worthwhileRatio, bytesPerSecond: before / seconds }
  }

  /** A zstd frame, or the shard itself where that is not smaller. Off the event loop. */
  async compress(shard: Uint8Array): Promise<Uint8Array> {
    const params = { [constants.ZSTD_c_compressionLevel]: this.#options.level }
    const frame = await this.#atOnce.add(() => zstdCompress(shard, { params }))
    return frame.byteLength < shard.byteLength ? frame : shard
  }
}

/** 8 MiB: a frame that says it needs more memory than any shard has bytes is a lie. */
const maxWindowLog = 23

/** The shard in a frame that a peer sent: exactly `length` bytes, or an error before more are made. */
export async function decompress(frame: Uint8Array, length: number, peer: string): Promise<Uint8Array> {
  try {
    const params = { [constants.ZSTD_d_windowLogMax]: maxWindowLog }
    const bytes = await zstdDecompress(frame, { maxOutputLength: length, params })
    if (bytes.byteLength === length) return bytes
  } catch {
    // Said below: a bad frame and a wrong length are the same lie.
  }
  throw new CatalogError(
    'bad-peer-message',
    `The peer ${peer} sent a compressed shard that is not ${length} bytes.`,
    { peer },
  )
}

/** A rate is made of no less than this: single packets say little of a link. */
const minMeasuredMs = 100
const minMeasuredBytes = 64 * 1024

/** How fast bytes come from a peer while something is asked of it. Times are any clock's milliseconds. */
export class LinkMeter {
  #asking = 0
  #since = 0
  #bytes = 0
  #ms = 0
  #rate: number | undefined

  /** Undefined until enough came to tell. */
  get bytesPerSecond(): number | undefined {
    return this.#rate
  }

  /** Something is asked from now on. */
  begin(now: number): void {
    if (this.#asking++ === 0) this.#since = now
  }

  received(bytes: number, now: number): void {
    if (this.#asking === 0) return
    this.#bytes += bytes
    this.#ms += now - this.#since
    this.#since = now
    if (this.#ms < minMeasuredMs || this.#bytes < minMeasuredBytes) return
    const rate = (this.#bytes * 1000) / this.#ms
    this.#rate = this.#rate === undefined ? rate : (this.#rate + rate) / 2
    this.#bytes = 0
    this.#ms = 0
  }

  /** It was answered; call it as often as `begin`. */
  end(): void {
    this.#asking -= 1
  }
}
