// Bytes that have arrived and wait to be read: one reader, bounded, with a say in when more may come. Both stream
// implementations read through it; it knows no transport.

/** When this much waits, the source is paused; when it falls below half, it goes on. In bytes. */
const fullBytes = 1024 * 1024
/** Smaller pieces are copied together: a peer that sends single bytes must not cost an object for each. */
const smallBytes = 2048
const packBytes = 4 * 1024

interface Source {
  pause(): void
  resume(): void
}

export class ReadQueue {
  readonly #source: Source
  #chunks: Uint8Array[] = []
  #bytes = 0
  /** The buffer that the last chunk lies in, where small pieces are still being added to it. */
  #open: Uint8Array | undefined
  #paused = false
  #ended = false
  #error: Error | undefined
  #wake: (() => void) | undefined

  constructor(source: Source) {
    this.#source = source
  }

  push(chunk: Uint8Array): void {
    if (this.#ended || this.#error !== undefined || chunk.byteLength === 0) return
    if (chunk.byteLength < smallBytes) this.#pack(chunk)
    else this.#chunks.push(chunk)
    this.#bytes += chunk.byteLength
    if (this.#bytes >= fullBytes && !this.#paused) {
      this.#paused = true
      this.#source.pause()
    }
    this.#wake?.()
  }

  /** No more will come; what is here can still be read. */
  end(): void {
    this.#ended = true
    this.#wake?.()
  }

  /** Broken before its end: what is here is worth nothing any more. */
  fail(error: Error): void {
    if (this.#error !== undefined || this.#ended) return
    this.#error = error
    this.#clear()
    this.#wake?.()
  }

  /** Nobody will read any more: what waits and what comes is thrown away. */
  ignore(): void {
    this.end()
    this.#clear()
    this.#letMoreCome()
  }

  async take(maxBytes = Number.POSITIVE_INFINITY, signal?: AbortSignal): Promise<Uint8Array | undefined> {
    if (maxBytes < 1) throw new RangeError(`a read of ${maxBytes} bytes`)
    signal?.throwIfAborted()
    while (this.#chunks.length === 0) {
      if (this.#error !== undefined) throw this.#error
      if (this.#ended) return undefined
      await this.#untilWoken(signal)
    }
    return this.#next(maxBytes)
  }

  /** What waits now, at most `maxBytes` of it; undefined where nothing does. For one that does not read meanwhile. */
  poll(maxBytes: number): Uint8Array | undefined {
    return this.#chunks.length === 0 || maxBytes < 1 ? undefined : this.#next(maxBytes)
  }

  /** No more will come. */
  get ended(): boolean {
    return this.#ended
  }

  /** Extends the last chunk where it is one of these packs and has room. */
  #pack(chunk: Uint8Array): void {
    const last = this.#chunks.at(-1)
    const end = last === undefined ? 0 : last.byteOffset + last.byteLength
    if (
      last !== undefined &&
      this.#open !== undefined &&
      last.buffer === this.#open.buffer &&
      end + chunk.byteLength <= packBytes
    ) {
      this.#open.set(chunk, end)
      this.#chunks[this.#chunks.length - 1] = this.#open.subarray(last.byteOffset, end + chunk.byteLength)
      return
    }
    // A lone small chunk is most often a whole message that is read at once: it stays as it is.
    if (last === undefined) {
      this.#chunks.push(chunk)
      return
    }
    this.#open = new Uint8Array(packBytes)
    this.#open.set(chunk)
    this.#chunks.push(this.#open.subarray(0, chunk.byteLength))
  }

  #next(maxBytes: number): Uint8Array {
    const first = this.#chunks[0] as Uint8Array
    const taken = first.byteLength <= maxBytes ? first : first.subarray(0, maxBytes)
    if (taken === first) this.#chunks.shift()
    else this.#chunks[0] = first.subarray(maxBytes)
    this.#bytes -= taken.byteLength
    if (this.#bytes < fullBytes / 2) this.#letMoreCome()
    return taken
  }

  #letMoreCome(): void {
    if (!this.#paused) return
    this.#paused = false
    this.#source.resume()
  }

  #clear(): void {
    this.#chunks = []
    this.#bytes = 0
  }

  #untilWoken(signal: AbortSignal | undefined): Promise<void> {
    if (this.#wake !== undefined) throw new Error('two reads of one stream at once')
    return new Promise((resolve, reject) => {
      const done = () => {
        this.#wake = undefined
        signal?.removeEventListener('abort', done)
        if (signal?.aborted === true) reject(signal.reason)
        else resolve()
      }
      this.#wake = done
      signal?.addEventListener('abort', done)
    })
  }
}
