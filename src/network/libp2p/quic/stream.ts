// One QUIC stream as libp2p wants it, over the native stream. It reads only while somebody wants more, so that QUIC's
// own flow control holds the sender back; it has one native read and one native write under way at most (binding.ts
// says why). It knows no connection; its muxer counts it until the native stream is done with.
import { ConnectionClosedError, StreamStateError } from '@libp2p/interface'
import { AbstractStream, type AbstractStreamInit, type SendResult } from '@libp2p/utils'
import { raceAbort } from '../../../base/deadline.ts'
import { kindOfFailure, type NativeStream } from './binding.ts'
import type { QuicOptions } from './options.ts'

type SendList = Parameters<AbstractStream['sendData']>[0]
type Bytes = Parameters<AbstractStream['push']>[0]

export interface QuicStreamInit extends Omit<AbstractStreamInit, 'id' | 'maxMessageSize'> {
  readonly native: NativeStream
  readonly options: QuicOptions
}

export class QuicStream extends AbstractStream {
  readonly #native: NativeStream
  readonly #options: QuicOptions
  /** Takes what arrives in place of `message` events, once there is one. */
  #sink: ((bytes: Uint8Array) => void) | undefined
  #reading = false
  /** Nothing more can be read: the other side has finished or reset, or was told to stop. */
  #readDone = false
  /** All was said, and the other side will hear that. */
  #finished = false
  #readRoom: number
  #discarded = 0
  #nativeEnd: Promise<unknown> = Promise.resolve()
  /** The last of the writes past libp2p's queue, while it is under way. */
  #writing: Promise<void> | undefined
  /** Fires when the stream was reset, here or there. */
  readonly #over = new AbortController()

  constructor(init: QuicStreamInit) {
    super({ ...init, id: init.native.id(), maxMessageSize: init.options.maxWriteBytes })
    this.#native = init.native
    this.#options = init.options
    this.#readRoom = init.options.minReadBytes
    void this.#read()
  }

  /** For a stream that is closed: resolves when the native stream is done with. */
  get nativeEnd(): Promise<unknown> {
    return this.#nativeEnd
  }

  /**
   * From here on what arrives goes to the sink, without an event and a list for each piece. `pause()` and `resume()`
   * hold as before. What was received already, or is pushed back, comes first.
   */
  readTo(sink: (bytes: Uint8Array) => void): void {
    this.#sink = sink
    this.dispatchReadBuffer()
  }

  /**
   * Sends at most `maxWriteBytes` past libp2p's queue, in the order of the calls; resolves once the native code has taken
   * the bytes, which are then the caller's again. From the first call on nobody may use `send`.
   * @throws StreamStateError where the stream is not writable; what the native write throws
   */
  write(bytes: Uint8Array): Promise<void> {
    if (this.writeStatus !== 'writable')
      throw new StreamStateError(`Cannot write to a stream that is ${this.writeStatus}`)
    const before = this.#writing ?? (this.#isQueueEmpty() ? undefined : this.#untilQueueEmpty())
    const written =
      before === undefined ? this.#native.write(bytes) : before.then(() => this.#writeNow(bytes))
    this.#writing = written
    const forget = () => {
      if (this.#writing === written) this.#writing = undefined
    }
    return written.then(forget, (error: unknown) => {
      forget()
      this.#fail(error)
      throw error
    })
  }

  async #writeNow(bytes: Uint8Array): Promise<void> {
    if (this.#over.signal.aborted) throw new StreamStateError(`The stream is ${this.status}`)
    await this.#native.write(bytes)
  }

  #isQueueEmpty(): boolean {
    return this.writeBuffer.byteLength === 0 && !this.writableNeedsDrain
  }

  /** The last of the negotiation may still be under way. */
  #untilQueueEmpty(): Promise<void> {
    return new Promise((resolve, reject) => {
      const look = () => {
        if (this.status === 'open' && !this.#isQueueEmpty()) return
        this.removeEventListener('drain', look)
        this.removeEventListener('close', look)
        if (this.status === 'open') resolve()
        else reject(new StreamStateError(`The stream is ${this.status}`))
      }
      this.addEventListener('drain', look)
      this.addEventListener('close', look)
    })
  }

  override push(data: Bytes): void {
    super.push(data)
    if (this.#sink !== undefined) this.dispatchReadBuffer()
  }

  override unshift(data: Bytes): void {
    super.unshift(data)
    if (this.#sink !== undefined) this.dispatchReadBuffer()
  }

  override sendData(data: SendList): SendResult {
    // The list may not be kept; its bytes are not copied where they lie in one piece.
    this.#native.write(data.subarray()).then(
      () => this.safeDispatchEvent('drain'),
      error => this.#fail(error),
    )
    return { sentBytes: data.byteLength, canSendMore: false }
  }

  /** The base class has waited until all in its queue was written. */
  override async sendCloseWrite({ signal }: { readonly signal?: AbortSignal } = {}): Promise<void> {
    if (this.#writing !== undefined) await raceAbort(this.#writing, signal, this.#over.signal)
    this.#over.signal.throwIfAborted()
    this.#finished = true
    await this.#native.finishWrite()
  }

  /** The other side's end must still be seen, so reading goes on for a while; `#discard` ends it. */
  override async sendCloseRead(): Promise<void> {
    void this.#read()
  }

  override sendReset(): void {
    this.#readDone = true
    this.#over.abort(new StreamStateError('The stream was reset'))
    // What was said in full is not taken back. Each waits for the native call before it: the reset for a write (of at
    // most `maxWriteBytes`, until the other side reads or goes), the stop for a read.
    const reset = this.#finished ? undefined : this.#native.resetWrite()
    this.#nativeEnd = Promise.allSettled([reset, this.#native.stopRead()])
  }

  override sendPause(): void {
    // The read that is under way may still bring one piece.
  }

  override sendResume(): void {
    void this.#read()
  }

  protected override dispatchReadBuffer(): void {
    if (this.#sink === undefined) super.dispatchReadBuffer()
    else if (this.readStatus === 'readable') this.#flush(this.#sink)
    void this.#read()
  }

  #flush(sink: (bytes: Uint8Array) => void): void {
    const waiting = this.readBuffer.subarray()
    this.readBuffer.consume(waiting.byteLength)
    if (waiting.byteLength > 0) sink(waiting)
    if (this.remoteWriteStatus !== 'closed') return
    this.readStatus = 'closed'
    this.maybeDispatchEnd()
  }

  async #read(): Promise<void> {
    if (this.#reading) return
    this.#reading = true
    try {
      while (this.#wantsMore()) {
        const room = this.#readRoom
        const bytes = await this.#native.read(room)
        if (this.#readDone) break
        if (bytes === null) this.#remoteFinished()
        else this.#received(bytes, room)
      }
    } catch (error) {
      this.#readDone = true
      this.#fail(error)
    } finally {
      this.#reading = false
    }
  }

  #wantsMore(): boolean {
    if (this.#readDone) return false
    if (this.readStatus === 'closing' || this.readStatus === 'closed') return true
    return this.readStatus === 'readable' && this.readBuffer.byteLength < this.#options.maxUnheardBytes
  }

  #received(bytes: Uint8Array<ArrayBuffer>, room: number): void {
    const { minReadBytes, maxReadBytes } = this.#options
    if (bytes.byteLength === room) this.#readRoom = Math.min(room * 4, maxReadBytes)
    else if (bytes.byteLength < room / 8) this.#readRoom = Math.max(room / 2, minReadBytes)
    if (this.readStatus === 'closing' || this.readStatus === 'closed') this.#discard(bytes.byteLength)
    else if (this.#sink !== undefined && this.readStatus === 'readable' && this.readBuffer.byteLength === 0)
      this.#sink(own(bytes, room))
    else this.onData(own(bytes, room))
  }

  #discard(byteLength: number): void {
    this.#discarded += byteLength
    if (this.#discarded <= this.#options.maxDiscardedBytes) return
    this.#native.stopRead().catch(() => undefined)
    this.#remoteFinished()
  }

  #remoteFinished(): void {
    this.#readDone = true
    this.onRemoteCloseWrite()
  }

  #fail(error: unknown): void {
    if (this.status !== 'open') return
    const kind = kindOfFailure(error)
    if (kind === 'reset') this.#wasReset()
    else if (kind === 'connection-lost') this.abort(new ConnectionClosedError('The connection was lost'))
    else this.abort(new StreamStateError(`The QUIC stream failed: ${(error as Error).message}`))
  }

  /** The other side gave up one direction; libp2p knows only whole streams, so this side gives up the other. */
  #wasReset(): void {
    this.#readDone = true
    this.readBuffer.consume(this.readBuffer.byteLength)
    this.onRemoteReset()
    this.sendReset()
    if (this.writeBuffer.byteLength === 0) return
    this.writeBuffer.consume(this.writeBuffer.byteLength)
    this.safeDispatchEvent('idle')
  }
}

/**
 * The bytes in memory of their own where the native buffer is mostly empty: it keeps its full size as long as any of
 * its bytes live, and the collector counts only those. Detaching frees it at once.
 */
function own(bytes: Uint8Array<ArrayBuffer>, room: number): Uint8Array {
  if (bytes.byteLength >= room / 2) return bytes
  const copy = new Uint8Array(bytes)
  bytes.buffer.transfer(0)
  return copy
}
