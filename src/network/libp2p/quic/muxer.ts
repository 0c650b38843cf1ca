// The streams of one QUIC connection: opens them within a bound and a time, accepts the other side's once somebody
// listens, and ends them within a time. The native code multiplexes; nothing here sees bytes.
import type { CreateStreamOptions, StreamMuxerFactory } from '@libp2p/interface'
import { ConnectionClosedError, MuxerClosedError } from '@libp2p/interface'
import { AbstractStreamMuxer } from '@libp2p/utils'
import { raceAbort, settleWithin, withTimeout } from '../../../base/deadline.ts'
import { CatalogError } from '../../../base/errors.ts'
import type { CallOptions } from '../../../base/lifecycle.ts'
import type { NativeConnection, NativeStream } from './binding.ts'
import type { QuicOptions } from './options.ts'
import { QuicStream } from './stream.ts'

const protocol = 'quic'

/** The upgrader asks for a muxer once per connection. */
export function quicMuxerFactory(connection: NativeConnection, options: QuicOptions): StreamMuxerFactory {
  return { protocol, createStreamMuxer: maConn => new QuicMuxer({ connection, maConn }, options) }
}

export interface QuicMuxerDeps {
  readonly connection: NativeConnection
  readonly maConn: Parameters<StreamMuxerFactory['createStreamMuxer']>[0]
}

export class QuicMuxer extends AbstractStreamMuxer<QuicStream> {
  readonly #connection: NativeConnection
  readonly #options: QuicOptions
  /** Streams opened here whose native half is not done with, and those being opened. */
  #outbound = 0
  #accepting = false

  constructor(deps: QuicMuxerDeps, options: QuicOptions) {
    super(deps.maConn, { protocol, name: 'quic' })
    this.#connection = deps.connection
    this.#options = options
  }

  /** Streams of the other side are accepted once somebody listens for them; until then they wait in the native code. */
  override addEventListener(...args: Parameters<AbstractStreamMuxer<QuicStream>['addEventListener']>): void {
    super.addEventListener(...args)
    if (args[0] === 'stream') void this.#accept()
  }

  /** @throws CatalogError `busy` over the bound, `timeout`; the signal's reason; MuxerClosedError */
  override async onCreateStream(options: CreateStreamOptions): Promise<QuicStream> {
    if (this.#outbound >= this.#options.maxOutboundStreams)
      throw new CatalogError(
        'busy',
        `No stream was opened: ${this.#outbound} are open on this connection already. Finish some first.`,
      )
    this.#outbound++
    const opening = this.#connection.outboundStream()
    try {
      const native = await this.#withinTime(opening, options)
      if (this.status !== 'open') throw new MuxerClosedError('The connection was closed in the meantime')
      return this.#wrap(native, 'outbound')
    } catch (error) {
      // The native code cannot be called off: a stream that it opens later is ended at once.
      opening
        .then(endNative, () => undefined)
        .finally(() => {
          this.#outbound--
        })
      throw error
    }
  }

  async #withinTime(opening: Promise<NativeStream>, options: CreateStreamOptions): Promise<NativeStream> {
    const timeout =
      options.signal === undefined ? AbortSignal.timeout(this.#options.openTimeoutMs) : undefined
    const signal = options.signal ?? (timeout as AbortSignal)
    try {
      return await raceAbort(opening, signal)
    } catch (error) {
      if (timeout?.aborted)
        throw new CatalogError('timeout', 'No stream was opened: the peer allows no more for now.')
      if (signal.aborted) throw error
      throw new ConnectionClosedError(`The connection is over: ${(error as Error).message}`)
    }
  }

  #wrap(native: NativeStream, direction: 'inbound' | 'outbound'): QuicStream {
    const stream = new QuicStream({
      native,
      direction,
      options: this.#options,
      log: this.log.newScope(direction),
    })
    if (direction === 'outbound')
      stream.addEventListener('close', () => void this.#release(stream), { once: true })
    return stream
  }

  async #release(stream: QuicStream): Promise<void> {
    await stream.nativeEnd
    this.#outbound--
  }

  async #accept(): Promise<void> {
    if (this.#accepting) return
    this.#accepting = true
    while (this.status === 'open') {
      // It fails when the connection is over, which ends this muxer too.
      const native = await this.#connection.inboundStream().catch(() => undefined)
      if (native === undefined) return
      if (this.status !== 'open') endNative(native)
      else this.onRemoteStream(this.#wrap(native, 'inbound'))
    }
  }

  /**
   * Ends every stream for writing and waits a bounded time for the other side to have read and ended them: closing
   * the connection, which comes next, takes what has not arrived. Then ends the rest.
   */
  override async close(options: CallOptions = {}): Promise<void> {
    if (this.status !== 'open') return
    this.status = 'closing'
    const signal = withTimeout(options.signal, this.#options.closeTimeoutMs)
    const ended = this.streams.map(
      stream => new Promise(resolve => stream.addEventListener('close', resolve)),
    )
    await settleWithin(
      Promise.allSettled(this.streams.map(stream => stream.close({ signal }))),
      this.#options.closeTimeoutMs,
    )
    await settleWithin(Promise.all(ended), this.#options.lingerMs)
    this.#abortStreams(new MuxerClosedError('The connection is closing'))
  }

  override abort(error: Error): void {
    if (this.status === 'closed') return
    this.#abortStreams(error)
  }

  /** The connection is gone: a stream that was not finished on both sides has broken off. */
  override onTransportClosed(error?: Error): void {
    this.#abortStreams(error ?? new MuxerClosedError('The connection was closed'))
  }

  override onData(): void {
    throw new Error('bytes arrived on a QUIC connection outside its streams')
  }

  #abortStreams(error: Error): void {
    this.status = 'closed'
    for (const stream of [...this.streams]) stream.abort(error)
  }
}

/** Neither promise may reject to nobody. */
function endNative(native: NativeStream): void {
  native.resetWrite().catch(() => undefined)
  native.stopRead().catch(() => undefined)
}
