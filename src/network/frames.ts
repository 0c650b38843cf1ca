// Messages on a byte stream: an unsigned varint length, then that many bytes of canonical CBOR; raw bytes may
// follow a message where the protocol says so. Lengths are checked before anything is allocated.
import { decodeCbor, encodeCbor } from '../base/cbor.ts'
import { CatalogError } from '../base/errors.ts'
import { noteExternalBytes } from '../base/external-memory.ts'
import type { CallOptions } from '../base/lifecycle.ts'
import type { ByteStream } from './host.ts'

export type Message = Readonly<Record<string, unknown>>

/** A message with its length before it, ready to be written. */
export function encodeFrame(message: Message): Uint8Array {
  const body = encodeCbor(message)
  const prefix: number[] = []
  let rest = body.byteLength
  for (; rest >= 0x80; rest = Math.floor(rest / 0x80)) prefix.push((rest % 0x80) | 0x80)
  prefix.push(rest)
  const frame = new Uint8Array(prefix.length + body.byteLength)
  frame.set(prefix)
  frame.set(body, prefix.length)
  return frame
}

/** What is no longer is copied out of the piece it came in, which can then be freed early. */
const copiedBytes = 4096

/** Reads messages and raw bytes from a stream, and counts what came. */
export class FrameReader {
  readonly #stream: ByteStream
  /** What is left of the piece that was read last. */
  #chunk: Uint8Array = new Uint8Array(0)
  /** All of that piece, as long as nobody was given a view of it. */
  #unshared: Uint8Array | undefined
  #received = 0

  constructor(stream: ByteStream) {
    this.#stream = stream
  }

  /** Bytes received from the other side so far. */
  get received(): number {
    return this.#received
  }

  /**
   * The next message, or undefined where the other side has finished between two messages.
   * @throws CatalogError `bad-peer-message` for a length over `maxBytes`, a bad body, or an end in mid-message.
   */
  async message(maxBytes: number, options?: CallOptions): Promise<Message | undefined> {
    const body = await this.block(maxBytes, options)
    if (body === undefined) return undefined
    let value: unknown
    try {
      value = decodeCbor(body, maxBytes, 'A message')
    } catch (error) {
      if (error instanceof CatalogError && error.code === 'bad-record')
        throw malformed(this.#stream, error.message)
      throw error
    }
    if (value === null || typeof value !== 'object' || Array.isArray(value) || value instanceof Uint8Array)
      throw malformed(this.#stream, 'a message that is not a map')
    return value as Message
  }

  /** The next message as its bytes, for a protocol whose messages are no CBOR. Ends and throws as `message`. */
  async block(maxBytes: number, options?: CallOptions): Promise<Uint8Array | undefined> {
    const length = await this.#varint(options)
    if (length === undefined) return undefined
    if (length > maxBytes) throw malformed(this.#stream, `a message of ${length} bytes, ${maxBytes} allowed`)
    return this.bytes(length, options)
  }

  /** Exactly `length` bytes, in `into` where it is given. The caller has bounded `length`. */
  async bytes(length: number, options?: CallOptions, into?: Uint8Array): Promise<Uint8Array> {
    if (into !== undefined && length > this.#chunk.byteLength && this.#stream.fill !== undefined)
      return this.#filled(into.subarray(0, length), options)
    const first = await this.#some(length, options)
    if (first.byteLength === length && into === undefined) {
      if (length <= copiedBytes) return new Uint8Array(first)
      // The collector has to free it, once nobody has a view of it.
      noteExternalBytes(this.#unshared?.byteLength ?? 0)
      this.#unshared = undefined
      return first
    }
    // Filled to the last byte below, so it need not be zeroed first.
    const whole = into?.subarray(0, length) ?? Buffer.allocUnsafeSlow(length)
    whole.set(first)
    for (let filled = first.byteLength; filled < length; ) {
      const piece = await this.#some(length - filled, options)
      whole.set(piece, filled)
      filled += piece.byteLength
    }
    return whole
  }

  /** What is here of the last piece, and the rest as it comes. */
  async #filled(into: Uint8Array, options?: CallOptions): Promise<Uint8Array> {
    into.set(this.#chunk)
    const onPart = (bytes: number) => {
      this.#received += bytes
    }
    const rest = into.subarray(this.#chunk.byteLength)
    this.#chunk = new Uint8Array(0)
    this.#drop()
    if (!(await this.#stream.fill?.(rest, { ...options, onPart })))
      throw malformed(this.#stream, 'the stream ended in the middle of a message')
    return into
  }

  /** Between 1 and `maxBytes` bytes; none when `maxBytes` is 0. */
  async #some(maxBytes: number, options?: CallOptions): Promise<Uint8Array> {
    if (maxBytes === 0) return new Uint8Array(0)
    if (!(await this.#fill(options)))
      throw malformed(this.#stream, 'the stream ended in the middle of a message')
    const piece = this.#chunk.subarray(0, maxBytes)
    this.#chunk = this.#chunk.subarray(piece.byteLength)
    return piece
  }

  async #fill(options?: CallOptions): Promise<boolean> {
    while (this.#chunk.byteLength === 0) {
      this.#drop()
      const next = await this.#stream.read(undefined, options)
      if (next === undefined) return false
      this.#received += next.byteLength
      this.#chunk = next
      this.#unshared = next
    }
    return true
  }

  /** The piece that was read last has been used up. */
  #drop(): void {
    const piece = this.#unshared
    this.#unshared = undefined
    if (piece === undefined) return
    this.#stream.discard?.(piece)
    // Where the stream could not free it, the collector has to.
    noteExternalBytes(piece.byteLength)
  }

  async #varint(options?: CallOptions): Promise<number | undefined> {
    let value = 0
    for (let place = 0; place < 4; place++) {
      if (!(await this.#fill(options))) {
        if (place === 0) return undefined
        throw malformed(this.#stream, 'the stream ended in the middle of a length')
      }
      const byte = this.#chunk[0] as number
      this.#chunk = this.#chunk.subarray(1)
      value += (byte & 0x7f) * 0x80 ** place
      if (byte < 0x80) return value
    }
    throw malformed(this.#stream, 'a length of more than four bytes')
  }
}

const malformed = (stream: ByteStream, what: string) =>
  new CatalogError('bad-peer-message', `The peer ${stream.peer} broke the protocol: ${what}.`, {
    peer: stream.peer,
  })

/** Fields of a message, checked; each throws `bad-peer-message`. */
export function naturalField(message: Message, field: string, max = Number.MAX_SAFE_INTEGER): number {
  const value = message[field]
  if (typeof value !== 'number' || !Number.isSafeInteger(value) || value < 0 || value > max)
    throw new CatalogError('bad-peer-message', `A peer's message has no valid ${field}.`)
  return value
}

export function textField(message: Message, field: string, maxLength: number): string {
  const value = message[field]
  if (typeof value !== 'string' || value.length > maxLength)
    throw new CatalogError('bad-peer-message', `A peer's message has no valid ${field}.`)
  return value
}

export function listField(message: Message, field: string, maxLength: number): readonly unknown[] {
  const value = message[field]
  if (!Array.isArray(value) || value.length > maxLength)
    throw new CatalogError('bad-peer-message', `A peer's message has no valid ${field}.`)
  return value
}
