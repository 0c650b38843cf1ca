// An answer as newline-delimited JSON: {"progress":…} or {"event":…} lines, then one {"result":…} or {"error":…}.
// Nothing is sent before the first line, so that an early failure is a plain HTTP error.
import { once } from 'node:events'
import type { FastifyReply } from 'fastify'
import { isAbort, toCatalogError } from '../base/errors.ts'
import type { Progress } from './api.ts'

/** People and scripts need no more of it; a transfer reports thousands of times a second. */
const progressIntervalMs = 100

export class LineStream {
  readonly #reply: FastifyReply
  readonly #signal: AbortSignal
  readonly #lastProgress = new Map<string, number>()
  #started = false

  /** The signal ends the work; its reason is what the reader is told. */
  constructor(reply: FastifyReply, signal: AbortSignal) {
    this.#reply = reply
    this.#signal = signal
  }

  /** Runs the work, its progress as lines and its result as the last. Throws only before the first line. */
  async run(work: (onProgress: (progress: Progress) => void) => Promise<unknown>): Promise<void> {
    try {
      const result = await work(progress => this.#progress(progress))
      await this.write({ result })
    } catch (thrown) {
      const error = this.#signal.aborted && isAbort(thrown) ? this.#signal.reason : thrown
      if (!this.#started) throw error
      await this.write({ error: toCatalogError(error).toJSON() })
    }
    this.end()
  }

  /** Sends a line and waits until the reader took enough of what was sent before; a reader that left takes all. */
  async write(line: unknown): Promise<void> {
    const raw = this.#start()
    if (raw.destroyed || raw.write(`${JSON.stringify(line)}\n`)) return
    const closed = new AbortController()
    const close = () => closed.abort()
    raw.once('close', close)
    await once(raw, 'drain', { signal: closed.signal }).catch(() => undefined)
    raw.off('close', close)
  }

  end(): void {
    this.#start().end()
  }

  /** A slow reader misses progress; it costs no memory. */
  #progress(progress: Progress): void {
    const key = `${progress.phase}\n${progress.ref ?? ''}`
    const now = performance.now()
    const finished = progress.total !== undefined && progress.done === progress.total
    if (!finished && now - (this.#lastProgress.get(key) ?? -Infinity) < progressIntervalMs) return
    this.#lastProgress.set(key, now)
    const raw = this.#start()
    if (!raw.destroyed && !raw.writableNeedDrain) raw.write(`${JSON.stringify({ progress })}\n`)
  }

  #start(): FastifyReply['raw'] {
    const { raw } = this.#reply
    if (!this.#started) {
      this.#started = true
      this.#reply.hijack()
      raw.writeHead(200, { 'content-type': 'application/x-ndjson', 'cache-control': 'no-store' })
    }
    return raw
  }
}
