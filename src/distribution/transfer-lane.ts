// One stream to one provider: questions of the transfer protocol, several in flight, answers in order.
// It bounds what is asked for and not yet taken, notices a provider that stalls or crawls, and counts bytes.
// Which shards to ask for, and what to do with them, is not its business.
import { BufferPool } from '../base/buffer-pool.ts'
import { CatalogError } from '../base/errors.ts'
import type { CallOptions } from '../base/lifecycle.ts'
import { encodeFrame, FrameReader, listField, type Message, naturalField } from '../network/frames.ts'
import type { ByteStream, Host, OpenOptions } from '../network/host.ts'
import { decompress } from './compression.ts'
import { refusal, transferLimits, transferProtocol } from './transfer-protocol.ts'

export interface LaneOptions {
  /** Without a single byte for this long while something is asked, the provider counts as stalled. */
  readonly stallMs: number
  /** Slower than this over a whole `crawlWindowMs` counts as stalled too: a byte a second is no service. */
  readonly crawlBytesPerSecond: number
  readonly crawlWindowMs: number
}

export const defaultLaneOptions: LaneOptions = {
  stallMs: 5_000,
  crawlBytesPerSecond: 4 * 1024,
  crawlWindowMs: 10_000,
}

export interface Availability {
  readonly complete: boolean
  has(shard: number): boolean
}

/** Shared by all lanes: what one fetch gives back, the next takes. */
const buffers = new BufferPool()

/** Takes whole shards, `count` of them from `first` on. */
export type OnShards = (first: number, bytes: Uint8Array, count: number) => Promise<void>

/**
 * Shards that came as they are and lie behind each other are taken together: so many bytes at most, and no more than the
 * link brings in a twentieth of a second, since nothing of a run is stored, read or told of before all of it is here.
 */
const runBytes = 1024 * 1024
const runSeconds = 1 / 20

interface Run {
  readonly place: number
  readonly count: number
  readonly bytes: number
}

function* runsOf(lengths: readonly number[], frames: readonly number[], maxBytes: number): Iterable<Run> {
  for (let place = 0; place < frames.length; ) {
    let bytes = frames[place] as number
    let count = 1
    const isPlain = (at: number) => at < frames.length && frames[at] === lengths[at]
    if (isPlain(place))
      while (isPlain(place + count) && bytes + (frames[place + count] as number) <= maxBytes) {
        bytes += frames[place + count] as number
        count += 1
      }
    yield { place, count, bytes }
    place += count
  }
}

export class TransferLane {
  readonly peer: string
  readonly #stream: ByteStream
  readonly #reader: FrameReader
  readonly #options: LaneOptions
  #nextId = 0
  #pending = 0
  #turn: Promise<unknown> = Promise.resolve()
  #ended: Error | undefined

  private constructor(stream: ByteStream, options: LaneOptions) {
    this.peer = stream.peer
    this.#stream = stream
    this.#reader = new FrameReader(stream)
    this.#options = options
  }

  /** @throws CatalogError `peer-unreachable` */
  static async open(
    host: Host,
    peer: string,
    options: LaneOptions,
    call: OpenOptions,
  ): Promise<TransferLane> {
    return new TransferLane(await host.open(peer, transferProtocol, call), options)
  }

  /** One on a connection of its own, where the provider can be reached so. @throws the signal's reason */
  static async openBulk(
    host: Host,
    peer: string,
    options: LaneOptions,
    call: OpenOptions,
  ): Promise<TransferLane | undefined> {
    const stream = await host.openBulk(peer, transferProtocol, call)
    return stream === undefined ? undefined : new TransferLane(stream, options)
  }

  /** Bytes are here, and this node's own limits hold them back. */
  get heldBack(): boolean {
    return this.#stream.heldBack === true
  }

  /** Bytes received on this stream so far, protocol included. */
  get received(): number {
    return this.#reader.received
  }

  /** Which shards of a root the provider can serve; undefined when it does not know the root. */
  async have(root: string, call: CallOptions = {}): Promise<Availability | undefined> {
    return this.#ask({ op: 'have', root }, call, async (header, take) => {
      if (header['code'] === 'not-found') return undefined
      if (header['code'] !== 'ok') throw refusal(this.peer, root, header['code'])
      const bitmap = await take(naturalField(header, 'length', transferLimits.maxIndexPieceBytes))
      const complete = header['complete'] === true
      return { complete, has: shard => complete || ((bitmap[shard >> 3] ?? 0) & (1 << (shard & 7))) !== 0 }
    })
  }

  /** The bytes of a content index, unverified, at most `maxBytes` of them. */
  async index(root: string, maxBytes: number, call: CallOptions = {}): Promise<Uint8Array> {
    const pieces: Uint8Array[] = []
    let total: number | undefined
    for (let offset = 0; offset < (total ?? 1); ) {
      const request = { op: 'index', root, offset, length: transferLimits.maxIndexPieceBytes }
      const piece = await this.#ask(request, call, async (header, take) => {
        if (header['code'] !== 'ok') throw refusal(this.peer, root, header['code'])
        const whole = naturalField(header, 'total', maxBytes)
        total ??= whole
        // Full pieces only: an index in a million small ones would cost more than it is worth.
        const expected = Math.min(transferLimits.maxIndexPieceBytes, total - offset)
        if (whole !== total || expected < 1 || naturalField(header, 'length') !== expected)
          throw refusal(this.peer, root, 'an index in pieces of another length than asked for')
        return take(expected)
      })
      pieces.push(piece)
      offset += piece.byteLength
    }
    return Buffer.concat(pieces)
  }

  /** The whole stream, unverified, where it has at most `max` bytes and the provider has all of it. */
  async small(root: string, max: number, call: CallOptions = {}): Promise<Uint8Array | undefined> {
    return this.#ask({ op: 'small', root, max }, call, async (header, take) => {
      if (header['code'] !== 'ok') throw refusal(this.peer, root, header['code'])
      const length = naturalField(header, 'length', max)
      return length === 0 ? undefined : take(length)
    })
  }

  /**
   * Asks for consecutive shards and hands them to `onShards` as they come, one or several whole ones at a time, still
   * unverified. The bytes are `onShards`' until it resolves, and used again afterwards. The next are read while these are
   * taken care of; resolves when all are. Several calls may be in flight; they are answered in order. Shards may come
   * compressed where `linkBytesPerSecond` says what this provider has been giving, and then overtake each other.
   */
  async shards(
    root: string,
    first: number,
    lengths: readonly number[],
    onShards: OnShards,
    { linkBytesPerSecond, ...call }: CallOptions & { readonly linkBytesPerSecond?: number | undefined } = {},
  ): Promise<void> {
    const taken: Promise<void>[] = []
    const take = (work: Promise<void>) => {
      // Its failure is thrown below, also where reading fails first.
      work.catch(() => undefined)
      taken.push(work)
    }
    const zstd = linkBytesPerSecond === undefined ? {} : { zstd: Math.round(linkBytesPerSecond) }
    const request = { op: 'shards', root, first, count: lengths.length, ...zstd }
    const asked = this.#ask(request, call, async (header, read) => {
      if (header['code'] !== 'ok') throw refusal(this.peer, root, header['code'])
      const frames = this.#frameLengths(root, header, lengths)
      const together = Math.min(runBytes, (linkBytesPerSecond ?? 0) * runSeconds)
      for (const { place, count, bytes } of runsOf(lengths, frames, together)) {
        const buffer = buffers.take(bytes)
        const came = await read(bytes, buffer)
        const length = count === 1 ? (lengths[place] as number) : bytes
        const whole = bytes === length ? Promise.resolve(came) : decompress(came, length, this.peer)
        // Not given back where it failed: what failed may still be looking at it.
        take(whole.then(run => onShards(first + place, run, count)).then(() => buffers.give(buffer)))
      }
    })
    // Whatever becomes of the reading, nothing is left storing when this returns.
    await asked.finally(() => Promise.allSettled(taken))
    await Promise.all(taken)
  }

  /** How many bytes of the answer each shard is: its length, or less where it comes compressed. */
  #frameLengths(root: string, header: Message, lengths: readonly number[]): readonly number[] {
    const frames = header['zstd'] === undefined ? lengths : listField(header, 'zstd', lengths.length)
    const fits = (frame: unknown, place: number) =>
      Number.isSafeInteger(frame) && (frame as number) > 0 && (frame as number) <= (lengths[place] as number)
    if (frames.length !== lengths.length || !frames.every(fits))
      throw refusal(this.peer, root, 'shards of another length than the index says')
    const total = (frames as readonly number[]).reduce((sum, frame) => sum + frame, 0)
    if (naturalField(header, 'length') !== total)
      throw refusal(this.peer, root, 'another length than the index says')
    return frames as readonly number[]
  }

  /** Ends the lane; at once where answers are still to come, because nobody will read them. */
  async close(): Promise<void> {
    const closed = new CatalogError('cancelled', 'The stream was closed.')
    if (this.#pending > 0) return this.abort(closed)
    if (this.#ended !== undefined) return
    this.#ended = closed
    await this.#stream.close()
  }

  abort(reason: Error): void {
    if (this.#ended !== undefined) return
    this.#ended = reason
    this.#stream.abort(reason)
  }

  /** Sends a question at once, then waits for its turn to read the answer. Any failure ends the lane. */
  async #ask<T>(request: Record<string, unknown>, call: CallOptions, read: AnswerReader<T>): Promise<T> {
    if (this.#ended !== undefined) throw this.#ended
    const id = this.#nextId++
    const before = this.#turn
    // A provider that does not even take a question is stalled as well.
    const timer = setTimeout(
      () => this.abort(stalled(this.peer, 'took no question')),
      2 * this.#options.stallMs,
    )
    const asked = this.#stream.write(encodeFrame({ id, ...request }), call).finally(() => clearTimeout(timer))
    const answered = Promise.all([asked, before]).then(() => this.#readAnswer(id, call, read))
    // The next answer waits for this one; whoever asked gets the error, the queue only stops.
    this.#turn = answered.catch(() => undefined)
    this.#pending += 1
    try {
      return await answered
    } catch (error) {
      // After a refusal the stream is still in step; after anything else it is not.
      if (!(error instanceof CatalogError && error.code === 'not-found')) this.abort(error as Error)
      throw error
    } finally {
      this.#pending -= 1
    }
  }

  async #readAnswer<T>(id: number, call: CallOptions, read: AnswerReader<T>): Promise<T> {
    if (this.#ended !== undefined) throw this.#ended
    const watch = new StallWatch(this, this.#options, reason => this.abort(stalled(this.peer, reason)))
    try {
      const header = await watch.during(this.#reader.message(transferLimits.maxHeaderBytes, call))
      if (header === undefined || header['id'] !== id)
        throw new CatalogError('bad-peer-message', `The peer ${this.peer} answered out of turn.`, {
          peer: this.peer,
        })
      return await read(header, (length, into) => watch.during(this.#reader.bytes(length, call, into)))
    } catch (error) {
      throw this.#ended ?? error
    } finally {
      watch.stop()
    }
  }
}

/** Makes something of an answer: its header, and the raw bytes behind it. */
type AnswerReader<T> = (
  header: Message,
  take: (length: number, into?: Uint8Array) => Promise<Uint8Array>,
) => Promise<T>

const stalled = (peer: string, reason: string) =>
  new CatalogError('timeout', `The provider ${peer} ${reason}.`, { peer })

/**
 * Watches the bytes of one answer and calls back when none come, or too few. Only time spent waiting for the
 * peer counts: our own disk may be slow, or our limits low, without the provider being blamed.
 */
/** Of the whole process. */
let waitingLanes = 0

class StallWatch {
  readonly #timer: NodeJS.Timeout
  #waiting = false

  constructor(lane: TransferLane, options: LaneOptions, onStall: (reason: string) => void) {
    let last = lane.received
    let lastChange = performance.now()
    let windowStart = lastChange
    let windowBytes = last
    this.#timer = setInterval(() => {
      const now = performance.now()
      if (!this.#waiting || lane.heldBack) {
        lastChange = now
        windowStart = now
        windowBytes = lane.received
      }
      if (lane.received !== last) {
        last = lane.received
        lastChange = now
      } else if (now - lastChange >= options.stallMs) onStall(`sent nothing for ${options.stallMs / 1000} s`)
      if (now - windowStart < options.crawlWindowMs) return
      const rate = ((last - windowBytes) * 1000) / (now - windowStart)
      // Many lanes that wait at once may share one slow link, and it may be ours.
      if (rate < options.crawlBytesPerSecond / Math.max(1, waitingLanes))
        onStall(`sent only ${Math.round(rate)} bytes a second`)
      windowStart = now
      windowBytes = last
    }, Math.min(options.stallMs, options.crawlWindowMs) / 4)
  }

  async during<T>(reading: Promise<T>): Promise<T> {
    this.#waiting = true
    waitingLanes += 1
    try {
      return await reading
    } finally {
      this.#waiting = false
      waitingLanes -= 1
    }
  }

  stop(): void {
    clearInterval(this.#timer)
  }
}
