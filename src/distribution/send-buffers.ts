// Memory that stored bytes are read into and sent from: used again after each answer, with room for the frame that goes
// before the bytes, so that both leave in one write and nothing is copied.
import { BufferPool } from '../base/buffer-pool.ts'

/** For the frame; longer ones are sent by themselves. */
const frameRoom = 128

export class SendBuffers {
  readonly #pool = new BufferPool()
  /** What was taken, by the memory that it lies in. */
  readonly #taken = new WeakMap<ArrayBufferLike, Uint8Array>()

  take(bytes: number): Uint8Array {
    const whole = this.#pool.take(frameRoom + bytes)
    this.#taken.set(whole.buffer, whole)
    return whole.subarray(frameRoom, frameRoom + bytes)
  }

  /** The frame and the bytes behind it in one piece, where the bytes lie in a buffer that was taken here. */
  framed(frame: Uint8Array, bytes: Uint8Array): Uint8Array | undefined {
    const whole = this.#taken.get(bytes.buffer)
    if (whole === undefined || bytes.byteOffset !== frameRoom || frame.byteLength > frameRoom)
      return undefined
    const start = frameRoom - frame.byteLength
    whole.set(frame, start)
    return whole.subarray(start, frameRoom + bytes.byteLength)
  }

  /** Nobody looks at these bytes any more. Harmless for those that were not taken here. */
  give(bytes: Uint8Array): void {
    const whole = this.#taken.get(bytes.buffer)
    if (whole === undefined) return
    this.#taken.delete(bytes.buffer)
    this.#pool.give(whole)
  }
}
