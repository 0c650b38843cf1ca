// One stream to one provider: questions of the transfer protocol, several in flight, answers in order.
// It bounds what is asked for and not yet taken, notices a provider that stalls or crawls, and counts bytes.
// Which shards to ask for, and what to do with them, is not its business.
import { CatalogError } from '../base/errors.ts'
import type { CallOptions } from '../base/lifecycle.ts'
import { encodeFrame, FrameReader, naturalField } from '../network/frames.ts'
import type { ByteStream, Host } from '../network/host.ts'
import { refusal, transferLimits, transferProtocol } from './transfer-server.ts'

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
    call: CallOptions,
  ): Promise<TransferLane> {
    return new TransferLane(await host.open(peer, transferProtocol, call), options)
  }

  /** Bytes received on this stream so far, protocol included. */
  get received(): number {
    return this.#reader.received
  }

  /** Which shards of a root the provider can serve; undefined when it does not know the root. */
  async have(root: string, shardCount: number, call: CallOptions = {}): Promise<Availability | undefined> {
    const maxLength = Math.ceil(shardCount / 8)
    return this.#ask({ op: 'have', root }, call, async (header, take) => {
      if (header['code'] === 'not-found') return undefined
      if (header['code'] !== 'ok') throw refusal(this.peer, root, header['code'])
      const bitmap = await take(naturalField(header, 'length', maxLength))
      const complete = header['complete'] === true
      return { complete, has: shard => complete || ((bitmap[shard >> 3] ?? 0) & (1 << (shard & 7))) !== 0 }
    })
  }

  /** Whether the provider knows the root, without asking for the bitmap's meaning. */
  async holds(root: string, call: CallOptions = {}): Promise<{ complete: boolean } | undefined> {
    return this.#ask({ op: 'have', root }, call, async (header, take) => {
      if (header['code'] !== 'ok') return undefined
      await take(naturalField(header, 'length', transferLimits.maxIndexPieceBytes))
      return { complete: header['complete'] === true }
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

  /**
   * Asks for consecutive shards and hands each to `onShard` as it comes, still unverified. The next is read while
   * one is taken care of; resolves when all are. Several calls may be in flight; they are answered in order.
   */
  async shards(
    root: string,
    first: number,
    lengths: readonly number[],
    onShard: (shard: number, bytes: Uint8Array) => Promise<void>,
    call: CallOptions = {},
  ): Promise<void> {
    const expected = lengths.reduce((sum, length) => sum + length, 0)
    const taken: Promise<void>[] = []
    const asked = this.#ask(
      { op: 'shards', root, first, count: lengths.length },
      call,
      async (header, take) => {
        if (header['code'] !== 'ok') throw refusal(this.peer, root, header['code'])
        if (naturalField(header, 'length') !== expected)
          throw refusal(this.peer, root, 'another length than the index says')
        for (const [place, length] of lengths.entries()) {
          const shard = onShard(first + place, await take(length))
          // Its failure is thrown below, also where reading fails first.
          shard.catch(() => undefined)
          taken.push(shard)
        }
      },
    )
    // Whatever becomes of the reading, nothing is left storing when this returns.
    await asked.finally(() => Promise.allSettled(taken))
    await Promise.all(taken)
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
    const watch = new StallWatch(this.#reader, this.#options, reason =>
      this.abort(stalled(this.peer, reason)),
    )
    try {
      const header = await watch.during(this.#reader.message(transferLimits.maxHeaderBytes, call))
      if (header === undefined || header['id'] !== id)
        throw new CatalogError('bad-peer-message', `The peer ${this.peer} answered out of turn.`, {
          peer: this.peer,
        })
      return await read(header, length => watch.during(this.#reader.bytes(length, call)))
    } catch (error) {
      throw this.#ended ?? error
    } finally {
      watch.stop()
    }
  }
}

/** Makes something of an answer: its header, and the raw bytes behind it. */
type AnswerReader<T> = (
  header: Readonly<Record<string, unknown>>,
  take: (length: number) => Promise<Uint8Array>,
) => Promise<T>

const stalled = (peer: string, reason: string) =>
  new CatalogError('timeout', `The provider ${peer} ${reason}.`, { peer })

/**
 * Watches the bytes of one answer and calls back when none come, or too few. Only time spent waiting for the
 * peer counts: our own disk may be slow without the provider being blamed.
 */
class StallWatch {
  readonly #timer: NodeJS.Timeout
  #waiting = false

  constructor(reader: FrameReader, options: LaneOptions, onStall: (reason: string) => void) {
    let last = reader.received
    let lastChange = performance.now()
    let windowStart = lastChange
    let windowBytes = last
    this.#timer = setInterval(() => {
      const now = performance.now()
      if (!this.#waiting) {
        lastChange = now
        windowStart = now
        windowBytes = reader.received
      }
      if (reader.received !== last) {
        last = reader.received
        lastChange = now
      } else if (now - lastChange >= options.stallMs) onStall(`sent nothing for ${options.stallMs / 1000} s`)
      if (now - windowStart < options.crawlWindowMs) return
      const rate = ((last - windowBytes) * 1000) / (now - windowStart)
      if (rate < options.crawlBytesPerSecond) onStall(`sent only ${Math.round(rate)} bytes a second`)
      windowStart = now
      windowBytes = last
    }, Math.min(options.stallMs, options.crawlWindowMs) / 4)
  }

  async during<T>(reading: Promise<T>): Promise<T> {
    this.#waiting = true
    try {
      return await reading
    } finally {
      this.#waiting = false
    }
  }

  stop(): void {
    clearInterval(this.#timer)
  }
}
