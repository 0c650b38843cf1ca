// Mends @chainsafe/libp2p-quic 2.1.1 (pinned exactly) from outside, where its wrapper calls the native binding:
// reads of 64 KiB instead of 4 (several times the throughput), a `pause()` that stops reading, so that QUIC's own
// flow control holds the sender back, a reset that reads as an error instead of as a clean end, and rejections of
// `resetWrite` and `stopRead`, which the wrapper ignores and which would end the process. It owns no connection.

/** What one native read may return. Larger gains little and holds more memory per stream. */
const readBytes = 64 * 1024

/** The methods of the native stream that the wrapper calls. */
interface NativeStream {
  id(): string
  read(maxBytes: number): Promise<Uint8Array | null>
  write(bytes: Uint8Array): Promise<void>
  finishWrite(): Promise<void>
  resetWrite(): Promise<void>
  stopRead(): Promise<void>
}

interface NativeConnection {
  inboundStream(): Promise<NativeStream>
  outboundStream(): Promise<NativeStream>
}

interface PausableStream {
  readonly id: string
  sendPause(): void
  sendResume(): void
}

/** The streams that are open, by the id that the wrapper copies from them: how its `pause()` finds them. */
const openStreams = new Map<string, MendedStream>()
let nextId = 1

class MendedStream implements NativeStream {
  readonly #native: NativeStream
  readonly #id: string
  #resumed: PromiseWithResolvers<void> | undefined

  constructor(native: NativeStream) {
    this.#native = native
    this.#id = `${native.id()}#${nextId++}`
    openStreams.set(this.#id, this)
  }

  id(): string {
    return this.#id
  }

  async read(): Promise<Uint8Array | null> {
    if (this.#resumed !== undefined) await this.#resumed.promise
    try {
      const chunk = await this.#native.read(readBytes)
      if (chunk === null) this.#forget()
      return chunk
    } catch (error) {
      this.#forget()
      // The wrapper takes every native failure (they all have the code `Unknown`) for a clean end of the stream.
      // Bytes would be missing without anyone hearing of it, so a failure gets another code: the wrapper aborts.
      throw Object.assign(error as Error, { code: 'StreamFailed' })
    }
  }

  write(bytes: Uint8Array): Promise<void> {
    return this.#native.write(bytes)
  }

  finishWrite(): Promise<void> {
    return this.#native.finishWrite()
  }

  async resetWrite(): Promise<void> {
    this.resume()
    await this.#native.resetWrite().catch(() => undefined)
  }

  async stopRead(): Promise<void> {
    this.#forget()
    await this.#native.stopRead().catch(() => undefined)
  }

  pause(): void {
    this.#resumed ??= Promise.withResolvers<void>()
  }

  resume(): void {
    this.#resumed?.resolve()
    this.#resumed = undefined
  }

  #forget(): void {
    this.resume()
    openStreams.delete(this.#id)
  }
}

let mended: Promise<void> | undefined

/** Applies the repairs once per process; every host calls it before its first QUIC transport. */
export function mendQuicBinding(): Promise<void> {
  mended ??= mend()
  return mended
}

async function mend(): Promise<void> {
  const inside = (file: string) => import(new URL(file, import.meta.resolve('@chainsafe/libp2p-quic')).href)
  const { Connection } = (await inside('napi.js')) as { Connection: { prototype: NativeConnection } }
  const { QuicStream } = (await inside('stream.js')) as { QuicStream: { prototype: PausableStream } }
  const { inboundStream, outboundStream } = Connection.prototype
  Connection.prototype.inboundStream = async function () {
    return new MendedStream(await inboundStream.call(this))
  }
  Connection.prototype.outboundStream = async function () {
    return new MendedStream(await outboundStream.call(this))
  }
  QuicStream.prototype.sendPause = function () {
    openStreams.get(this.id)?.pause()
  }
  QuicStream.prototype.sendResume = function () {
    openStreams.get(this.id)?.resume()
  }
}
