// What one live execution has said: the kept beginning of each output, and its followers.
// A follower that is slow slows the payload; one that has stopped taking loses output, is told how much, and no longer does.
import type { OutputStream } from '../runtime.ts'

export type Followed<State> =
  | { readonly state: State }
  | { readonly stream: OutputStream; readonly bytes: Uint8Array }
  /** So many bytes were not handed to this follower, who took too long. */
  | { readonly stream: OutputStream; readonly lost: number }

/** Bytes waiting for a follower before the payload has to wait, and for how long it does. */
const highWaterBytes = 1024 * 1024
const stallMs = 5_000

interface Follower<State> {
  readonly events: Followed<State>[]
  waitingBytes: number
  lagging: boolean
  wake: () => void
}

export interface Kept {
  readonly bytes: Uint8Array
  /** Bytes that were written, kept or not. */
  readonly total: number
}

/** What is kept of an output, then how much is not. */
export function* keptOutput(
  stream: OutputStream,
  bytes: Uint8Array,
  total: number = bytes.length,
): Generator<Exclude<Followed<never>, { readonly state: never }>> {
  if (bytes.length > 0) yield { stream, bytes }
  if (total > bytes.length) yield { stream, lost: total - bytes.length }
}

export class OutputLog<State> {
  readonly #keepBytes: number
  readonly #kept: Record<OutputStream, { chunks: Uint8Array[]; length: number; total: number }> = {
    stdout: { chunks: [], length: 0, total: 0 },
    stderr: { chunks: [], length: 0, total: 0 },
  }
  readonly #states: State[] = []
  readonly #followers = new Set<Follower<State>>()
  #ended = false
  #hurried = false
  #taken = Promise.withResolvers<void>()

  constructor(keepBytes: number) {
    this.#keepBytes = keepBytes
  }

  state(state: State): void {
    this.#states.push(state)
    this.#publish({ state }, 0)
  }

  /** Waits while a follower has more than the high-water mark to take. */
  async append(stream: OutputStream, bytes: Uint8Array): Promise<void> {
    const kept = this.#kept[stream]
    kept.total += bytes.length
    const keep = bytes.subarray(0, this.#keepBytes - kept.length)
    if (keep.length > 0) {
      kept.length += keep.length
      // Many small writes become few chunks.
      const last = kept.chunks.at(-1)
      if (last !== undefined && last.length < 4_096)
        kept.chunks[kept.chunks.length - 1] = Buffer.concat([last, keep])
      else kept.chunks.push(Uint8Array.from(keep))
    }
    this.#publish({ stream, bytes }, bytes.length)
    const deadline = Date.now() + stallMs
    while (!this.#hurried && this.#slow().length > 0 && Date.now() < deadline)
      await this.#untilTaken(deadline - Date.now())
    for (const follower of this.#slow()) follower.lagging = true
  }

  /** What is kept of both outputs. */
  outputs(): Readonly<Record<OutputStream, Uint8Array>> {
    return { stdout: this.kept('stdout').bytes, stderr: this.kept('stderr').bytes }
  }

  kept(stream: OutputStream): Kept {
    const { chunks, total } = this.#kept[stream]
    return { bytes: Buffer.concat(chunks), total }
  }

  /** The execution is being ended: it waits for no follower any more. */
  hurry(): void {
    this.#hurried = true
    this.#taken.resolve()
  }

  /** After the last state: followers end once they have taken all. */
  end(): void {
    this.#ended = true
    for (const follower of this.#followers) follower.wake()
  }

  /** The states so far, what is kept, then what comes. */
  async *follow(signal: AbortSignal | undefined): AsyncGenerator<Followed<State>> {
    const events: Followed<State>[] = this.#states.map(state => ({ state }))
    const last = this.#ended ? events.pop() : undefined
    for (const stream of ['stdout', 'stderr'] as const) {
      const { bytes, total } = this.kept(stream)
      events.push(...keptOutput(stream, bytes, total))
    }
    if (last !== undefined) events.push(last)
    const follower: Follower<State> = { events, waitingBytes: 0, lagging: false, wake: () => undefined }
    this.#followers.add(follower)
    const stop = (): void => follower.wake()
    signal?.addEventListener('abort', stop)
    try {
      while (signal?.aborted !== true) {
        const event = follower.events.shift()
        if (event !== undefined) {
          if ('bytes' in event) this.#took(follower, event.bytes.length)
          yield event
        } else if (this.#ended) return
        else
          await new Promise<void>(resolve => {
            follower.wake = resolve
          })
      }
    } finally {
      signal?.removeEventListener('abort', stop)
      this.#followers.delete(follower)
      this.#taken.resolve()
    }
  }

  #publish(event: Followed<State>, size: number): void {
    for (const follower of this.#followers) {
      if (follower.lagging && 'bytes' in event) {
        const last = follower.events.at(-1)
        const more = last !== undefined && 'lost' in last && last.stream === event.stream ? last.lost : 0
        if (more > 0) follower.events.pop()
        follower.events.push({ stream: event.stream, lost: more + size })
      } else {
        follower.events.push('bytes' in event ? { ...event, bytes: Uint8Array.from(event.bytes) } : event)
        follower.waitingBytes += size
      }
      follower.wake()
    }
  }

  #slow(): Follower<State>[] {
    return [...this.#followers].filter(
      ({ lagging, waitingBytes }) => !lagging && waitingBytes > highWaterBytes,
    )
  }

  #took(follower: Follower<State>, size: number): void {
    follower.waitingBytes = Math.max(0, follower.waitingBytes - size)
    if (follower.waitingBytes < highWaterBytes / 2) follower.lagging = false
    this.#taken.resolve()
  }

  async #untilTaken(timeoutMs: number): Promise<void> {
    this.#taken = Promise.withResolvers()
    const timer = setTimeout(this.#taken.resolve, timeoutMs)
    await this.#taken.promise
    clearTimeout(timer)
  }
}
