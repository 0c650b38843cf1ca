// One running fetch: finds providers, sets them to work, and decides when it is over. Any number of callers wait
// for it; it goes on while one of them does. How a provider is used is provider-work.ts, what is here incoming.ts.
import { type ContentIndex, decodeContentIndex } from '../../assets/content-index.ts'
import { raceAbort, withTimeout } from '../../base/deadline.ts'
import { CatalogError, isCatalogError } from '../../base/errors.ts'
import type { CallOptions } from '../../base/lifecycle.ts'
import type { OpenOptions } from '../../network/host.ts'
import type {
  ContentFetcherDeps,
  ContentFetcherOptions,
  FetchOptions,
  FetchReport,
} from '../content-fetcher.ts'
import { TransferLane } from '../transfer-lane.ts'
import { Incoming, type Opened } from './incoming.ts'
import { ProviderWork } from './provider-work.ts'
import type { FetchWindow, NodeWindow } from './window.ts'

export interface FetchJobDeps extends ContentFetcherDeps {
  readonly window: NodeWindow
}

/** Who waits for the fetch. */
interface Caller {
  readonly expectedSize: number | undefined
  readonly onProgress: FetchOptions['onProgress']
  refuse(error: unknown): void
}

export class FetchJob {
  readonly #root: string
  readonly #deps: FetchJobDeps
  readonly #options: ContentFetcherOptions
  readonly #abort = new AbortController()
  readonly #callers = new Set<Caller>()
  readonly #incoming: Incoming
  readonly #result = Promise.withResolvers<FetchReport>()
  readonly #hints = new Set<string>()
  /** Asked since the search last began anew. */
  readonly #seen = new Set<string>()
  readonly #active = new Map<string, { readonly work: ProviderWork; readonly ended: Promise<void> }>()
  readonly #received = new Map<string, number>()
  readonly #failures: string[] = []
  readonly #window: FetchWindow
  #started = false

  constructor(root: string, deps: FetchJobDeps, options: ContentFetcherOptions) {
    this.#root = root
    this.#deps = deps
    this.#options = options
    this.#incoming = new Incoming(root, {
      store: deps.store,
      signal: this.#abort.signal,
      onIndex: index => this.#refuseOtherSizes(index),
      onProgress: (done, total) => {
        for (const { onProgress } of this.#callers) onProgress?.(done, total)
      },
    })
    this.#window = deps.window.open()
    this.#result.promise.catch(() => undefined)
  }

  /** Nobody can join any more: it is being wound up. */
  get ending(): boolean {
    return this.#abort.signal.aborted
  }

  /** Settles, without an error, once nothing of this fetch runs any more. */
  get ended(): Promise<unknown> {
    return this.#result.promise.catch(() => undefined)
  }

  /** Begins, where nobody has before, and waits for the result. A caller that leaves is rejected with its signal's reason; the last one ends the fetch. */
  async join({ signal, onProgress, expectedSize, hints = [] }: FetchOptions): Promise<FetchReport> {
    const left = Promise.withResolvers<never>()
    const caller: Caller = {
      expectedSize,
      onProgress,
      refuse: reason => {
        this.#callers.delete(caller)
        left.reject(reason)
        if (this.#callers.size === 0) this.#abort.abort(reason)
      },
    }
    this.#callers.add(caller)
    if (!this.#started) {
      this.#started = true
      this.#run().then(this.#result.resolve, this.#result.reject)
    }
    for (const hint of hints) this.#hints.add(hint)
    const leave = () => caller.refuse(signal?.reason)
    signal?.addEventListener('abort', leave, { once: true })
    if (signal?.aborted === true) leave()
    const index = this.#incoming.opened?.partial.index
    if (index !== undefined) this.#refuseOtherSizes(index)
    this.#incoming.changes.tell()
    try {
      return await Promise.race([this.#result.promise, left.promise])
    } finally {
      signal?.removeEventListener('abort', leave)
      this.#callers.delete(caller)
      // The last one waits for the clean-up too, so that the root can be fetched again at once.
      if (this.ending) await this.ended
    }
  }

  /** The index, as soon as it is known. The caller has joined. */
  async index(): Promise<ContentIndex> {
    return (await this.#opened()).partial.index
  }

  #opened(): Promise<Opened> {
    const { indexFound } = this.#incoming
    const opened = indexFound.promise.then(() => this.#incoming.opening as Promise<Opened>)
    // Where the fetch fails before there is an index, that is the answer.
    return Promise.race([opened, this.#result.promise.then(() => opened)])
  }

  /** Bytes of the stream in order, each shard as soon as it is here; these shards are fetched first. The caller has joined. */
  async *read(offset: number, length: number, { signal }: CallOptions): AsyncGenerator<Uint8Array, void> {
    const { partial, pool } = await raceAbort(this.#opened(), signal)
    const pieces = [...piecesOf(partial.index, offset, length)]
    const [first, last] = [pieces[0], pieces.at(-1)]
    if (first === undefined || last === undefined) return
    const calm = pool.hurry(first.shard, last.shard + 1)
    this.#incoming.changes.tell()
    try {
      for (const piece of pieces) {
        while (!partial.has(piece.shard)) {
          await raceAbort(Promise.race([this.#incoming.arrivals.next(), this.#result.promise]), signal)
        }
        yield* this.#deps.store.read(this.#root, piece.offset, piece.length, { signal })
      }
    } finally {
      calm()
    }
  }

  async #run(): Promise<FetchReport> {
    const { signal } = this.#abort
    signal.addEventListener('abort', () => {
      for (const { work } of this.#active.values()) work.abort(signal.reason as Error)
      this.#incoming.changes.tell()
    })
    try {
      await this.#resume()
      this.#search().catch(error => this.#abort.abort(error))
      while (!this.#incoming.done) {
        signal.throwIfAborted()
        await this.#incoming.changes.next()
      }
      signal.throwIfAborted()
      await this.#incoming.complete()
    } finally {
      this.#abort.abort(new CatalogError('cancelled', 'The fetch has ended.'))
      await Promise.all([...this.#active.values()].map(({ ended }) => ended))
      // Only now have all providers ended: nobody writes to the content any more.
      await this.#incoming.close()
      this.#window.close()
    }
    return this.#report()
  }

  /** Goes on with what an earlier fetch left here, without asking anybody for the index. */
  async #resume(): Promise<void> {
    // A damaged one is asked for anew.
    const bytes = await this.#deps.store.indexBytes(this.#root).catch(() => undefined)
    if (bytes !== undefined) await this.#incoming.open(decodeContentIndex(bytes, this.#root), bytes)
  }

  /** Callers whose signed release says another size do not get this content; the others do. */
  #refuseOtherSizes({ size }: ContentIndex): void {
    for (const { expectedSize, refuse } of [...this.#callers])
      if (expectedSize !== undefined && expectedSize !== size)
        refuse(
          new CatalogError(
            'bad-record',
            `The content index of ${this.#root} says ${size} bytes, the signed release ${expectedSize}.`,
            { root: this.#root },
          ),
        )
  }

  get #over(): boolean {
    return this.#incoming.done || this.#abort.signal.aborted
  }

  /** Finds providers and sets them to work until all is here; throws when none brings anything for too long. */
  async #search(): Promise<void> {
    const { changes } = this.#incoming
    const { patienceMs, servedPatienceMs, searchMoreMs, searchAgainMs } = this.#options
    this.#incoming.progressAt = performance.now()
    while (!this.#over) {
      await this.#searchOnce()
      const until = performance.now() + searchMoreMs
      while (!this.#over && this.#active.size > 0 && performance.now() < until) {
        this.#employHints()
        await changes.next(until - performance.now())
      }
      if (this.#over || this.#active.size > 0) continue
      // A provider that has nothing to give is no better than none, however often it answers.
      const patience = this.#incoming.isServed ? Math.max(patienceMs, servedPatienceMs) : patienceMs
      if (performance.now() - this.#incoming.progressAt > patience) throw this.#nobody()
      // One that failed may be asked again: it may have been restarted.
      this.#seen.clear()
      await changes.next(searchAgainMs)
    }
  }

  async #searchOnce(): Promise<void> {
    const { findProviders, log } = this.#deps
    const { patienceMs, maxProviders } = this.#options
    this.#employHints()
    const signal = withTimeout(this.#abort.signal, patienceMs)
    try {
      for await (const peer of findProviders(this.#root, { signal })) {
        await this.#untilRoom(maxProviders)
        if (this.#over) return
        this.#employ(peer)
      }
    } catch (error) {
      log.debug({ root: this.#root, error: String(error) }, 'the search for providers ended early')
    }
  }

  /** So that the slow cannot keep the others out, however many they are. */
  async #untilRoom(maxProviders: number): Promise<void> {
    let rotateAt = performance.now() + this.#options.rotateMs
    while (!this.#over && this.#active.size >= maxProviders) {
      await this.#incoming.changes.next(rotateAt - performance.now())
      const now = performance.now()
      if (now < rotateAt || this.#active.size < maxProviders) continue
      rotateAt = now + this.#options.rotateMs
      const slowest = [...this.#active.values()].reduce((a, b) => (b.work.rate < a.work.rate ? b : a))
      slowest.work.abort(new CatalogError('cancelled', 'The slowest provider made room for another.'))
    }
  }

  #employHints(): void {
    for (const peer of this.#hints) this.#employ(peer)
    this.#hints.clear()
  }

  /** Sets a peer to work, unless it was asked already. */
  #employ(peer: string): void {
    const { host, scores } = this.#deps
    if (
      this.#over ||
      peer === host.peer ||
      this.#seen.has(peer) ||
      this.#active.has(peer) ||
      scores.isBanned(peer)
    )
      return
    this.#seen.add(peer)
    const work = new ProviderWork(
      peer,
      {
        incoming: this.#incoming,
        window: this.#window,
        link: scores.link(peer),
        openLane: (of, options) => TransferLane.open(host, of, this.#options.lane, this.#call(options)),
        openBulkLane: (of, options) =>
          TransferLane.openBulk(host, of, this.#options.lane, this.#call(options)),
        onLie: (of, what) => this.#dismissLiar(of, what),
        onStoreFailure: error => this.#abort.abort(error),
      },
      this.#options,
    )
    const ended = this.#follow(work).finally(() => {
      this.#active.delete(peer)
      if (work.served) this.#received.set(peer, (this.#received.get(peer) ?? 0) + work.received)
      this.#incoming.changes.tell()
    })
    this.#active.set(peer, { work, ended })
  }

  async #follow(work: ProviderWork): Promise<void> {
    try {
      // Who fetches it too may have more the next time.
      if ((await work.run()) === 'idle') this.#seen.delete(work.peer)
    } catch (error) {
      // Candidates are guesses: one that does not have the content has done nothing wrong.
      if (this.#over || isCatalogError(error, 'not-found')) return
      const message = error instanceof Error ? error.message : String(error)
      if (!isCatalogError(error, 'cancelled')) {
        this.#deps.scores.failed(work.peer)
        // It may have been a moment's trouble: the next search, some seconds on, may ask it again.
        this.#seen.delete(work.peer)
      }
      if (this.#failures.length < 8 && !this.#failures.includes(message)) this.#failures.push(message)
      this.#deps.log.info({ root: this.#root, peer: work.peer, error: message }, 'a provider was left')
    }
  }

  #call({ signal }: CallOptions): OpenOptions {
    return { signal: withTimeout(signal, this.#options.patienceMs), flow: this.#root }
  }

  async #dismissLiar(peer: string, what: string): Promise<void> {
    const { log, scores } = this.#deps
    log.warn({ root: this.#root, peer }, `a provider sent ${what} with another hash than promised; banned`)
    const reason = `The provider ${peer} sent ${what} with another hash than promised, and was banned.`
    this.#active.get(peer)?.work.abort(new CatalogError('corrupt-content', reason, { peer }))
    await scores.ban(peer, `sent ${what} with another hash than promised`)
  }

  #nobody(): CatalogError {
    const why = this.#failures.length > 0 ? ` Tried: ${this.#failures.join(' ')}` : ''
    const what = this.#incoming.opened === undefined ? '' : 'what is missing of '
    return new CatalogError(
      'no-providers',
      `No reachable peer provides ${what}${this.#root}. Check "catalog peers", and that a node that holds it is online.${why}`,
      { root: this.#root },
    )
  }

  #report(): FetchReport {
    const providers = [...this.#received]
      .map(([peer, bytes]) => ({ peer, bytes }))
      .sort((a, b) => b.bytes - a.bytes)
    return {
      index: (this.#incoming.opened as NonNullable<Incoming['opened']>).partial.index,
      bytesTransferred: providers.reduce((total, { bytes }) => total + bytes, 0),
      providers,
      localBytes: this.#incoming.localBytes,
    }
  }
}

/** The parts of a range of the stream, by the shard that each lies in. */
function* piecesOf(
  { shards }: ContentIndex,
  offset: number,
  length: number,
): Iterable<{ readonly shard: number; readonly offset: number; readonly length: number }> {
  const end = offset + length
  let start = 0
  for (const [shard, { length: bytes }] of shards.entries()) {
    const [from, to] = [Math.max(start, offset), Math.min(start + bytes, end)]
    if (from < to) yield { shard, offset: from, length: to - from }
    start += bytes
  }
}
