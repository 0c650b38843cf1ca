// One worker thread for crypto-worker.ts: started by the first request, ended after a while without any (its heap
// returns to the system), restarted after a crash. Bounded in requests that wait and in time.
import { Worker } from 'node:worker_threads'
import { CatalogError } from '../base/errors.ts'
import type { CryptoReplies, CryptoReply, CryptoRequest } from './crypto-worker.ts'

export interface CryptoThreadOptions {
  /** Milliseconds without a request after which the thread ends. */
  readonly idleMs: number
  /** Requests that may wait; more are refused with `busy`. */
  readonly maxWaiting: number
  /** Milliseconds for one request, counted from its turn; longer means that the thread hangs and is replaced. */
  readonly callTimeoutMs: number
}

export const defaultCryptoThreadOptions: CryptoThreadOptions = {
  // Starting a thread costs about 60 ms and 15 MiB: worth keeping through one publish, not through a night.
  idleMs: 15_000,
  // A full message is at most 128 KiB, so the queue holds at most 128 MiB and typically 5.
  maxWaiting: 1_000,
  // Key generation takes 0.5 s on an idle core; a machine may be slower, shared and swapping.
  callTimeoutMs: 60_000,
}

interface Waiting {
  readonly resolve: (value: never) => void
  readonly reject: (error: Error) => void
}

/** The same folder and extension as this file: sources run unbuilt, `dist` runs compiled. */
const workerUrl = new URL(
  import.meta.url.endsWith('.ts') ? './crypto-worker.ts' : './crypto-worker.js',
  import.meta.url,
)

export class CryptoThread {
  readonly #options: CryptoThreadOptions
  readonly #url: URL
  readonly #waiting = new Map<number, Waiting>()
  #worker: Worker | undefined
  #calls = 0
  #timer: NodeJS.Timeout | undefined
  #stopped = false

  constructor(deps: { readonly workerUrl?: URL } = {}, options: Partial<CryptoThreadOptions> = {}) {
    this.#url = deps.workerUrl ?? workerUrl
    this.#options = { ...defaultCryptoThreadOptions, ...options }
  }

  /** Whether the thread exists now. */
  get running(): boolean {
    return this.#worker !== undefined
  }

  /** @throws CatalogError `busy`, `daemon-stopping`, `internal` (the request failed, or the thread died). */
  perform<R extends CryptoRequest>(request: R): Promise<CryptoReplies[R['type']]> {
    if (this.#stopped)
      return Promise.reject(
        new CatalogError('daemon-stopping', 'No signature is made: the node is stopping.'),
      )
    if (this.#waiting.size >= this.#options.maxWaiting)
      return Promise.reject(
        new CatalogError('busy', `${this.#waiting.size} signature operations wait already; try again later.`),
      )
    const worker = this.#worker ?? this.#launch()
    const call = ++this.#calls
    return new Promise((resolve, reject) => {
      this.#waiting.set(call, { resolve, reject })
      worker.ref()
      this.#watch()
      worker.postMessage({ call, request })
    })
  }

  /** Ends the thread; what waits fails with `daemon-stopping`. Safe to call twice. */
  async stop(): Promise<void> {
    this.#stopped = true
    await this.#end(new CatalogError('daemon-stopping', 'The signature was not made: the node is stopping.'))
  }

  #launch(): Worker {
    // No environment and no arguments of the daemon: the thread needs neither.
    const worker = new Worker(this.#url, { env: {}, argv: [], name: 'catalog-crypto' })
    this.#worker = worker
    worker.on('message', (reply: CryptoReply) => this.#take(reply))
    worker.on('error', error => this.#lost(worker, error))
    worker.on('exit', code => this.#lost(worker, new Error(`exit code ${code}`)))
    return worker
  }

  #take({ call, value, error }: CryptoReply): void {
    const waiting = this.#waiting.get(call)
    if (waiting === undefined) return
    this.#waiting.delete(call)
    if (this.#waiting.size === 0) this.#worker?.unref()
    this.#watch()
    if (error === undefined) waiting.resolve(value as never)
    else waiting.reject(new CatalogError('internal', `A signature operation failed: ${error}.`))
  }

  /** The next request starts a new thread. */
  #lost(worker: Worker, cause: Error): void {
    if (this.#worker !== worker) return
    void this.#end(
      new CatalogError(
        'internal',
        `The signature thread died (${cause.message}); it starts again with the next request.`,
        {},
        cause,
      ),
    )
  }

  /** Times the request whose turn it is, or idleness where there is none. */
  #watch(): void {
    clearTimeout(this.#timer)
    const idle = this.#waiting.size === 0
    this.#timer = setTimeout(
      () => {
        void this.#end(
          new CatalogError(
            'timeout',
            'The signature thread did not answer in time and was ended. Try again.',
          ),
        )
      },
      idle ? this.#options.idleMs : this.#options.callTimeoutMs,
    )
    this.#timer.unref()
  }

  async #end(reason: CatalogError): Promise<void> {
    clearTimeout(this.#timer)
    const worker = this.#worker
    this.#worker = undefined
    const waiting = [...this.#waiting.values()]
    this.#waiting.clear()
    for (const { reject } of waiting) reject(reason)
    await worker?.terminate()
  }
}
