// ByteStream over one TLS socket: a data connection. It knows nothing of how the connection came to be.
import type { TLSSocket } from 'node:tls'
import { raceAbort } from '../../base/deadline.ts'
import { CatalogError } from '../../base/errors.ts'
import type { CallOptions } from '../../base/lifecycle.ts'
import { brokenOff, closeTimeoutMs, linger } from '../closing.ts'
import type { FillOptions, PeerText } from '../host.ts'
import type { EndingStream } from '../inbound-streams.ts'
import { Intake } from './intake.ts'

/** TLS encrypts what it is given at once, into memory of its own. */
const pieceBytes = 516 * 1024
const keepAliveMs = 15_000

export class TlsStream implements EndingStream {
  readonly peer: PeerText
  /** What was written has been encrypted into other memory, and has left. */
  readonly givesBack = true
  readonly #intake: Intake
  readonly #ended = new AbortController()
  #socket: TLSSocket | undefined
  /** Whether the other side's end is an end; else it is a break. */
  #mayEnd: boolean
  #closed = false
  #broken: Error | undefined

  /** `opener`: this side opened the connection, and is the one to finish it. */
  constructor(peer: PeerText, { opener }: { readonly opener: boolean }) {
    this.peer = peer
    this.#mayEnd = !opener
    this.#intake = new Intake(() => this.#socket?.resume())
  }

  /** For `connect`: reading without an event and a buffer for each piece. */
  readonly onread = {
    buffer: (): Uint8Array => this.#intake.room(),
    callback: (count: number): boolean => this.#intake.came(count),
  }

  /** The socket, connected or connecting; `onread` was given to it, or it says `data`. */
  attach(socket: TLSSocket, { reads }: { readonly reads: 'onread' | 'data' }): this {
    this.#socket = socket
    socket.setNoDelay(true)
    socket.setKeepAlive(true, keepAliveMs)
    if (reads === 'data')
      socket.on('data', (bytes: Uint8Array) => {
        if (!this.#intake.push(bytes)) socket.pause()
      })
    socket.on('end', () => this.#onEnd())
    socket.on('error', error => this.#break(error))
    socket.on('close', () => {
      this.#break(undefined)
      // Without an end, a reader that waits is told so.
      this.#intake.fail(this.#failure(undefined))
      this.#settle()
    })
    if (socket.destroyed) this.abort(this.#failure(undefined))
    return this
  }

  /** Fires when the stream is over in both directions, or broken. */
  get ended(): AbortSignal {
    return this.#ended.signal
  }

  /** What broke it, where it was not this side that ended it. */
  get broken(): Error | undefined {
    return this.#broken
  }

  read(maxBytes?: number, options?: CallOptions): Promise<Uint8Array | undefined> {
    return this.#intake.take(maxBytes, options)
  }

  async fill(into: Uint8Array, { signal, onPart }: FillOptions): Promise<boolean> {
    signal?.throwIfAborted()
    const filled = this.#intake.fill(into, onPart)
    try {
      return await raceAbort(filled, signal)
    } catch (error) {
      // Nobody knows any more how far it was.
      this.abort(error as Error)
      throw error
    }
  }

  async write(bytes: Uint8Array, { signal }: CallOptions = {}): Promise<void> {
    for (let offset = 0; offset < bytes.byteLength; offset += pieceBytes) {
      signal?.throwIfAborted()
      const written = this.#send(bytes.subarray(offset, offset + pieceBytes))
      await raceAbort(written, signal, this.#ended.signal)
    }
  }

  async closeWrite(): Promise<void> {
    this.#mayEnd = true
    const socket = this.#socket
    if (socket === undefined || socket.destroyed || socket.writableEnded) return
    const { promise, resolve, reject } = Promise.withResolvers<void>()
    socket.end((error?: Error | null) => (error ? reject(error) : resolve()))
    try {
      await raceAbort(promise, this.#ended.signal, AbortSignal.timeout(closeTimeoutMs))
    } catch (error) {
      // What was written could not leave: the other side must not take the rest for the whole.
      this.abort(error as Error)
      throw this.#failure(error)
    }
  }

  async close(): Promise<void> {
    this.#closed = true
    this.#intake.ignore()
    await this.closeWrite().catch(() => undefined)
    linger(this, new CatalogError('cancelled', 'The stream was never closed.'))
  }

  abort(error: Error): void {
    this.#intake.fail(error)
    this.#mayEnd = true
    this.#socket?.destroy()
    this.#settle(error)
  }

  #send(bytes: Uint8Array): Promise<void> {
    return new Promise((resolve, reject) => {
      const socket = this.#socket
      if (socket === undefined || socket.destroyed || socket.writableEnded)
        return reject(this.#failure(undefined))
      socket.write(bytes, error => (error ? reject(this.#failure(error)) : resolve()))
    })
  }

  #onEnd(): void {
    if (this.#mayEnd) this.#intake.end()
    else this.#break(undefined)
  }

  /** Not this side's doing, unless it has ended the stream before. */
  #break(error: Error | undefined): void {
    if (this.#ended.signal.aborted || (error === undefined && this.#mayEnd)) return
    const failure = this.#failure(error)
    // Once this side has closed it, how the rest goes says nothing of the other.
    if (!this.#closed) this.#broken ??= failure
    this.abort(failure)
  }

  #settle(error?: Error): void {
    if (!this.#ended.signal.aborted) this.#ended.abort(error ?? this.#failure(undefined))
  }

  #failure(error: unknown): Error {
    if (error instanceof CatalogError) return error
    if (this.#broken !== undefined) return this.#broken
    return brokenOff('The data connection', this.peer, error)
  }
}
