// A byte stream that waits for its turn: before each piece it writes, and between reading a piece and handing it
// over. A reader that is held back leaves the rest to the transport, which holds the sender back in turn.

import { raceAbort, settleWithin } from '../../base/deadline.ts'
import type { CallOptions } from '../../base/lifecycle.ts'
import type { Turn } from '../bandwidth.ts'
import type { ByteStream, PeerText } from '../host.ts'
import type { TrafficMeter } from '../traffic-meter.ts'
import type { Pacer, Waiting } from './pacer.ts'

/** One direction: who gives the turns, and who counts what has passed. */
export interface Direction {
  readonly pacer: Pacer
  readonly meter: TrafficMeter
}

/** How long closing waits for writes that still wait for their turn, in milliseconds. */
const flushTimeoutMs = 5000

export class LimitedStream implements ByteStream {
  readonly peer: PeerText
  readonly #stream: ByteStream
  readonly #up: Direction
  readonly #down: Direction
  readonly #place: Omit<Turn, 'bytes'>
  readonly #waiting = new Set<Waiting>()
  /** Read from the transport, at most one turn of bytes, and not handed over yet; `#paid` once its turn has come. */
  #held: Uint8Array | undefined
  #paid = false
  #reading = false
  #writing: Promise<void> | undefined
  #ended: Error | undefined

  constructor(
    stream: ByteStream,
    directions: { readonly up: Direction; readonly down: Direction },
    place: Omit<Turn, 'bytes' | 'peer'>,
  ) {
    this.peer = stream.peer
    this.#stream = stream
    this.#up = directions.up
    this.#down = directions.down
    this.#place = { ...place, peer: stream.peer }
  }

  get givesBack(): boolean {
    return this.#stream.givesBack === true
  }

  get heldBack(): boolean {
    return this.#held !== undefined && !this.#paid
  }

  async read(
    maxBytes = Number.POSITIVE_INFINITY,
    options: CallOptions = {},
  ): Promise<Uint8Array | undefined> {
    if (this.#reading) throw new Error('two reads of one stream at once')
    if (this.#held !== undefined && maxBytes < 1) throw new RangeError(`a read of ${maxBytes} bytes`)
    options.signal?.throwIfAborted()
    this.#reading = true
    try {
      // What was read before the signal of an earlier call fired is not lost.
      this.#held ??= await this.#stream.read(Math.min(maxBytes, this.#down.pacer.quantum), options)
      const held = this.#held
      if (held === undefined) return undefined
      if (!this.#paid) await this.#turn(this.#down, held.byteLength, options.signal)
      const taken = held.byteLength <= maxBytes ? held : held.subarray(0, maxBytes)
      this.#held = taken === held ? undefined : held.subarray(maxBytes)
      this.#paid = this.#held !== undefined
      return taken
    } finally {
      this.#reading = false
    }
  }

  discard(chunk: Uint8Array): void {
    this.#stream.discard?.(chunk)
  }

  write(bytes: Uint8Array, options: CallOptions = {}): Promise<void> {
    const before = this.#writing
    // Pieces of two writes must not mix, so that one waits for the other.
    const sent = before === undefined ? this.#send(bytes, options) : this.#sendAfter(before, bytes, options)
    const settled = sent
      .catch(() => undefined)
      .then(() => {
        if (this.#writing === settled) this.#writing = undefined
      })
    this.#writing = settled
    return sent
  }

  async closeWrite(): Promise<void> {
    await this.flush()
    await this.#stream.closeWrite()
  }

  async close(): Promise<void> {
    await this.flush()
    this.leave(new Error('the stream was closed'))
    await this.#stream.close()
  }

  abort(error: Error): void {
    this.leave(error)
    this.#held = undefined
    this.#stream.abort(error)
  }

  /** Waits, for a bounded time, until what was written has had its turns; what has not by then breaks the stream. */
  async flush(): Promise<void> {
    const writing = this.#writing
    if (writing === undefined || (await settleWithin(writing, flushTimeoutMs))) return
    this.abort(new Error('the stream was closed before all that was written had its turn'))
  }

  /** The stream is over: whatever of it waits leaves the queues at once. */
  leave(reason: Error): void {
    this.#ended ??= reason
    for (const waiting of [...this.#waiting]) waiting.leave(reason)
  }

  async #sendAfter(before: Promise<void>, bytes: Uint8Array, options: CallOptions): Promise<void> {
    await (options.signal === undefined ? before : raceAbort(before, options.signal))
    return this.#send(bytes, options)
  }

  async #send(bytes: Uint8Array, options: CallOptions): Promise<void> {
    const { quantum } = this.#up.pacer
    if (bytes.byteLength === 0) return this.#stream.write(bytes, options)
    for (let offset = 0; offset < bytes.byteLength; offset += quantum) {
      options.signal?.throwIfAborted()
      const piece = bytes.subarray(offset, offset + quantum)
      await this.#turn(this.#up, piece.byteLength, options.signal)
      await this.#stream.write(piece, options)
    }
  }

  /** Resolves when the bytes may move; rejects once the stream is over, or with the signal's reason. */
  async #turn({ pacer, meter }: Direction, bytes: number, signal: AbortSignal | undefined): Promise<void> {
    // A turn on a stream that is over would be wasted: let the transport say what became of it.
    const waiting = this.#ended === undefined ? pacer.take({ ...this.#place, bytes }) : undefined
    if (waiting !== undefined) await this.#wait(waiting, signal)
    meter.count(bytes)
  }

  async #wait(waiting: Waiting, signal: AbortSignal | undefined): Promise<void> {
    const leave = () => waiting.leave(signal?.reason as Error)
    this.#waiting.add(waiting)
    signal?.addEventListener('abort', leave, { once: true })
    if (signal?.aborted === true) leave()
    try {
      await waiting.come
    } finally {
      this.#waiting.delete(waiting)
      signal?.removeEventListener('abort', leave)
    }
  }
}
