// Where the bytes of a data connection land: straight in the memory of a reader that waits for so many of them, else in
// a queue. TLS hands over 16 KiB at a time; a reader of bulk is woken once for all that it waits for, and nothing is
// copied on the way. It knows no socket.
import type { CallOptions } from '../../base/lifecycle.ts'
import { ReadQueue } from '../read-queue.ts'

const slabBytes = 64 * 1024
/** With less room a slab is left. */
const leastRoom = 4 * 1024

/** A reader that waits. */
interface Target {
  readonly into: Uint8Array
  filled: number
  readonly onPart: (bytes: number) => void
  readonly whole: PromiseWithResolvers<void>
}

export class Intake {
  readonly #queue: ReadQueue
  #paused = false
  #slab = new Uint8Array(0)
  #used = 0
  /** What `room` gave last, and whether it lies in the target. */
  #landing: Uint8Array = this.#slab
  #direct = false
  #target: Target | undefined
  #error: Error | undefined

  /** `resume`: more may come, after `came` or `push` said no. */
  constructor(resume: () => void) {
    this.#queue = new ReadQueue({
      pause: () => {
        this.#paused = true
      },
      resume: () => {
        this.#paused = false
        resume()
      },
    })
  }

  /** Where the next bytes go. */
  room(): Uint8Array {
    const target = this.#target
    this.#direct = target !== undefined
    if (target !== undefined) {
      this.#landing = target.into.subarray(target.filled)
      return this.#landing
    }
    if (this.#slab.byteLength - this.#used < leastRoom) {
      this.#slab = new Uint8Array(slabBytes)
      this.#used = 0
    }
    this.#landing = this.#slab.subarray(this.#used)
    return this.#landing
  }

  /** So many bytes are in what `room` gave last. Whether more may come at once. */
  came(count: number): boolean {
    if (this.#direct) {
      // A reader that left in the middle has ended the stream.
      if (this.#target !== undefined) this.#advance(this.#target, count)
      return !this.#paused
    }
    this.#used += count
    return this.push(this.#landing.subarray(0, count))
  }

  /** Bytes that landed elsewhere, and are the intake's from now on. Whether more may come at once. */
  push(bytes: Uint8Array): boolean {
    const target = this.#target
    if (target === undefined) this.#queue.push(bytes)
    else {
      const taken = bytes.subarray(0, target.into.byteLength - target.filled)
      target.into.set(taken, target.filled)
      this.#advance(target, taken.byteLength)
      if (taken.byteLength < bytes.byteLength) this.#queue.push(bytes.subarray(taken.byteLength))
    }
    return !this.#paused
  }

  take(maxBytes: number | undefined, options: CallOptions | undefined): Promise<Uint8Array | undefined> {
    return this.#queue.take(maxBytes, options?.signal)
  }

  /**
   * Fills the memory with the next bytes. `onPart` hears how many have come, as they come. A failure may leave it written
   * to once more.
   */
  async fill(into: Uint8Array, onPart: (bytes: number) => void): Promise<boolean> {
    let filled = 0
    while (filled < into.byteLength) {
      const waiting = this.#queue.poll(into.byteLength - filled)
      if (waiting === undefined) break
      into.set(waiting, filled)
      filled += waiting.byteLength
      onPart(waiting.byteLength)
    }
    if (filled === into.byteLength) return true
    if (this.#target !== undefined) throw new Error('two reads of one stream at once')
    if (this.#error !== undefined) throw this.#error
    if (this.#queue.ended) return false
    const whole = Promise.withResolvers<void>()
    const target = { into, filled, onPart, whole }
    this.#target = target
    await whole.promise
    return target.filled === into.byteLength
  }

  end(): void {
    this.#queue.end()
    this.#leave()?.whole.resolve()
  }

  /** After an end, that stands. */
  fail(error: Error): void {
    if (this.#queue.ended) return
    this.#error ??= error
    this.#queue.fail(error)
    this.#leave()?.whole.reject(error)
  }

  ignore(): void {
    this.#queue.ignore()
    this.#leave()?.whole.resolve()
  }

  #advance(target: Target, count: number): void {
    target.filled += count
    target.onPart(count)
    if (target.filled === target.into.byteLength) this.#leave()?.whole.resolve()
  }

  #leave(): Target | undefined {
    const target = this.#target
    this.#target = undefined
    return target
  }
}
