// ByteStream over a libp2p 3 stream: reads on demand from a bounded queue, pauses the other side when the queue is
// full, holds a writer back until the transport has taken its bytes. It knows no protocol and no connection.
import type { Stream, StreamCloseEvent, StreamMessageEvent } from '@libp2p/interface'
import { raceAbort } from '../base/deadline.ts'
import { CatalogError } from '../base/errors.ts'
import type { CallOptions } from '../base/lifecycle.ts'
import { brokenOff, closeTimeoutMs, linger } from './closing.ts'
import { type ByteStream, maxBufferedBytes, type PeerText } from './host.ts'
import { defaultQuicOptions } from './libp2p/quic/options.ts'
import { QuicStream } from './libp2p/quic/stream.ts'
import { ReadQueue } from './read-queue.ts'

/** One `send` at most, so that a large write waits between pieces rather than queueing whole. */
const pieceBytes = defaultQuicOptions.maxWriteBytes
/** A writer goes on while no more than this waits in libp2p's own queue. */
const queuedBytes = 256 * 1024
/** Freeing less at once costs more than it gains. */
const freedBytes = 16 * 1024

export class Libp2pByteStream implements ByteStream {
  readonly peer: PeerText
  readonly #stream: Stream
  /** The same, where it is our own transport's: then bytes go past libp2p's queues and events in both directions. */
  readonly #quic: QuicStream | undefined
  readonly #queue: ReadQueue
  readonly #ended = new AbortController()
  #finished = false
  #broken: Error | undefined

  constructor(stream: Stream, peer: PeerText) {
    this.peer = peer
    this.#stream = stream
    // Where a transport cannot pause, libp2p cuts the stream at this many unread bytes.
    stream.maxReadBufferLength = maxBufferedBytes
    this.#queue = new ReadQueue({ pause: () => this.#pause(), resume: () => this.#resume() })
    this.#quic = stream instanceof QuicStream ? stream : undefined
    if (this.#quic !== undefined) this.#quic.readTo(bytes => this.#queue.push(bytes))
    else stream.addEventListener('message', this.#onMessage)
    stream.addEventListener('remoteCloseWrite', this.#onRemoteCloseWrite)
    stream.addEventListener('end', this.#onRemoteEnd)
    stream.addEventListener('close', this.#onClose)
    if (stream.status !== 'open') this.abort(this.#failure(undefined))
    else if (stream.remoteWriteStatus === 'closed') this.#onRemoteCloseWrite()
  }

  /** Fires when the stream is over in both directions, or reset. */
  get ended(): AbortSignal {
    return this.#ended.signal
  }

  read(maxBytes?: number, options?: CallOptions): Promise<Uint8Array | undefined> {
    return this.#queue.take(maxBytes, options?.signal)
  }

  discard(chunk: Uint8Array): void {
    const { buffer, byteLength } = chunk
    // Only a piece of the native transport has its memory to itself, and only where it was read whole.
    if (this.#quic !== undefined && byteLength === buffer.byteLength && byteLength >= freedBytes)
      (buffer as ArrayBuffer).transfer(0)
  }

  get givesBack(): boolean {
    return this.#quic !== undefined
  }

  async write(bytes: Uint8Array, { signal }: CallOptions = {}): Promise<void> {
    for (let offset = 0; offset < bytes.byteLength; offset += pieceBytes) {
      signal?.throwIfAborted()
      const piece = bytes.subarray(offset, offset + pieceBytes)
      if (this.#quic !== undefined) await this.#sendPast(this.#quic, piece, signal)
      else {
        this.#send(piece)
        await this.#untilTaken(signal)
      }
    }
  }

  async closeWrite(): Promise<void> {
    if (this.#stream.writeStatus !== 'writable') return
    try {
      await this.#stream.close({ signal: AbortSignal.timeout(closeTimeoutMs) })
    } catch (error) {
      // What was written could not leave: the other side must not take the rest for the whole.
      this.abort(error as Error)
      throw this.#failure(error)
    }
  }

  async close(): Promise<void> {
    // Whatever the other side still sends is of no interest. It may be reading for a while yet: a reset now would
    // take from it what it has not read.
    this.#queue.ignore()
    await this.closeWrite().catch(() => undefined)
    linger(this, new CatalogError('timeout', 'The stream was never closed.'))
  }

  abort(error: Error): void {
    this.#queue.fail(error)
    try {
      this.#stream.abort(error)
    } catch {
      // A transport that is gone cannot be told; the stream is over either way.
    }
    this.#settle(error)
  }

  /** A write that waits for the other side to read ends with the stream, or with the caller's patience. */
  async #sendPast(stream: QuicStream, piece: Uint8Array, signal: AbortSignal | undefined): Promise<void> {
    try {
      await raceAbort(stream.write(piece), this.#ended.signal, signal)
    } catch (error) {
      signal?.throwIfAborted()
      throw this.#failure(error)
    }
  }

  #send(piece: Uint8Array): void {
    try {
      this.#stream.send(piece)
    } catch (error) {
      throw this.#failure(error)
    }
  }

  /** Waits for events: libp2p's own `onDrain()` stays resolved after its first drain, so it holds nobody back. */
  async #untilTaken(signal: AbortSignal | undefined): Promise<void> {
    const stream = this.#stream
    while (stream.writeBufferLength > queuedBytes || stream.writableNeedsDrain) {
      if (stream.writeStatus === 'closed') throw this.#failure(undefined)
      if (stream.writeBufferLength === 0 && !stream.writableNeedsDrain) return
      await this.#nextWriteEvent(signal)
    }
  }

  #nextWriteEvent(signal: AbortSignal | undefined): Promise<void> {
    const stream = this.#stream
    return new Promise((resolve, reject) => {
      const done = () => {
        stream.removeEventListener('drain', done)
        stream.removeEventListener('idle', done)
        stream.removeEventListener('close', done)
        signal?.removeEventListener('abort', done)
        if (signal?.aborted === true) reject(signal.reason)
        else resolve()
      }
      stream.addEventListener('drain', done)
      stream.addEventListener('idle', done)
      stream.addEventListener('close', done)
      signal?.addEventListener('abort', done)
      if (signal?.aborted === true || stream.status !== 'open') done()
    })
  }

  readonly #onMessage = (event: StreamMessageEvent): void => {
    // One chunk arrives as one array in practice; `subarray` copies only where it is in several.
    const data = event.data instanceof Uint8Array ? event.data : event.data.subarray()
    this.#queue.push(new Uint8Array(data.buffer, data.byteOffset, data.byteLength))
    // Bytes that came with the end of the negotiation are pushed back after libp2p has said `end`.
    this.#onRemoteEnd()
  }

  /** The other side said that this is all: only then is an end an end. */
  readonly #onRemoteCloseWrite = (): void => {
    this.#finished = true
    this.#onRemoteEnd()
  }

  /** libp2p says `end` for streams that broke off too, just before `close`, and throws away what waits in it. */
  readonly #onRemoteEnd = (): void => {
    const { status, readBufferLength } = this.#stream
    const broken = status === 'aborted' || status === 'reset'
    if (this.#finished && !broken && readBufferLength === 0) this.#queue.end()
  }

  readonly #onClose = (event: StreamCloseEvent): void => {
    // A TCP connection that ends (its process was killed) closes its streams without an error.
    const error = event.error !== undefined || !this.#finished ? this.#failure(event.error) : undefined
    if (error !== undefined) this.#queue.fail(error)
    else this.#onRemoteEnd()
    this.#settle(error)
  }

  #settle(error: Error | undefined): void {
    this.#broken ??= error
    if (!this.#ended.signal.aborted) this.#ended.abort(error ?? new Error('the stream has ended'))
  }

  #pause(): void {
    if (this.#stream.readStatus === 'readable' && this.#stream.status === 'open') this.#stream.pause()
  }

  #resume(): void {
    if (this.#stream.readStatus === 'paused') this.#stream.resume()
    if (this.#stream.remoteWriteStatus === 'closed') this.#onRemoteEnd()
  }

  /** What libp2p threw, as one error that says who and why; our own errors and abort reasons pass through. */
  #failure(error: unknown): Error {
    if (error instanceof CatalogError) return error
    if (this.#broken !== undefined) return this.#broken
    return brokenOff('The stream', this.peer, error)
  }
}
