// Fetching one content root from however many providers there are: index first, then shards, each verified
// before it is written. Providers that lie, stall or fail are left; the fetch goes on with the others and with
// whoever is found meanwhile. What is here already, from an interrupted fetch or another version, is not asked for.
import { type ContentIndex, contentIndexLimits, decodeContentIndex } from '../assets/content-index.ts'
import type { ContentStore, PartialContent } from '../assets/content-store.ts'
import { CatalogError, isCatalogError } from '../base/errors.ts'
import type { CallOptions } from '../base/lifecycle.ts'
import type { Log } from '../base/log.ts'
import type { Host } from '../network/host.ts'
import type { PeerScores } from './peer-scores.ts'
import { type Batch, ShardPool } from './shard-pool.ts'
import { type Availability, defaultLaneOptions, type LaneOptions, TransferLane } from './transfer-lane.ts'
import { transferLimits } from './transfer-server.ts'

export interface ContentFetcherOptions {
  readonly lane: LaneOptions
  /** Streams to one provider. */
  readonly lanesPerProvider: number
  readonly maxProviders: number
  /** Bytes of consecutive shards in one question. */
  readonly batchBytes: number
  /** Give up after this long without any provider. */
  readonly patienceMs: number
  /** Time between two searches for providers while there is none. */
  readonly searchAgainMs: number
  /** Time between two searches while providers are at work: more may have come. */
  readonly searchMoreMs: number
  /** A lane with nothing to do for this long is closed. */
  readonly idleLaneMs: number
}

export const defaultContentFetcherOptions: ContentFetcherOptions = {
  lane: defaultLaneOptions,
  // The QUIC wrapper reads 4 KiB a call: four streams move twice what one does, more add nothing.
  lanesPerProvider: 4,
  // 8 providers x 4 lanes x 2 MiB outstanding = 64 MiB at the very most.
  maxProviders: 8,
  batchBytes: 512 * 1024,
  patienceMs: 12_000,
  searchAgainMs: 1_500,
  searchMoreMs: 10_000,
  idleLaneMs: 3_000,
}

export interface FetchOptions extends CallOptions {
  /** Of the stream, as the signed release says; another size in the index is refused. */
  readonly expectedSize?: number
  /** Peers that are known to have it, asked first. */
  readonly hints?: readonly string[]
  readonly onProgress?: (doneBytes: number, totalBytes: number) => void
}

export interface FetchReport {
  readonly index: ContentIndex
  /** Bytes received from providers, index and protocol included; who answered only that it has nothing is none. */
  readonly bytesTransferred: number
  /** Bytes received from each provider, most first. */
  readonly providers: readonly { readonly peer: string; readonly bytes: number }[]
  /** Bytes that other contents on this disk had. */
  readonly localBytes: number
}

interface Deps {
  readonly host: Host
  readonly store: ContentStore
  readonly scores: PeerScores
  readonly findProviders: (root: string, options: CallOptions) => AsyncIterable<string>
  readonly log: Log
}

export class ContentFetcher {
  readonly #deps: Deps
  readonly #options: ContentFetcherOptions
  /** One fetch per root; who asks while it runs joins it. */
  readonly #running = new Map<string, Fetch>()

  constructor(deps: Deps, options = defaultContentFetcherOptions) {
    this.#deps = deps
    this.#options = options
  }

  /**
   * Resolves once the content is complete and durable here.
   * @throws CatalogError `no-providers`, `no-space`, `bad-record` (index refused), or the signal's reason
   */
  async fetch(root: string, options: FetchOptions = {}): Promise<FetchReport> {
    options.signal?.throwIfAborted()
    let running = this.#running.get(root)
    if (running === undefined) {
      running = new Fetch(root, this.#deps, this.#options, options)
      this.#running.set(root, running)
      const forget = () => this.#running.delete(root)
      running.result.then(forget, forget)
    }
    return running.join(options)
  }
}

const sleep = (ms: number): Promise<void> => new Promise(resolve => setTimeout(resolve, ms).unref())

/** One running fetch. */
class Fetch {
  readonly result: Promise<FetchReport>
  readonly #root: string
  readonly #deps: Deps
  readonly #options: ContentFetcherOptions
  readonly #expectedSize: number | undefined
  readonly #hints: readonly string[]
  readonly #abort = new AbortController()
  readonly #listeners = new Set<(done: number, total: number) => void>()
  #joined = 0
  readonly #lanes = new Set<TransferLane>()
  readonly #seen = new Set<string>()
  readonly #active = new Map<string, Promise<void>>()
  readonly #received = new Map<string, number>()
  readonly #served = new Set<string>()
  readonly #failures: string[] = []
  #waiters: (() => void)[] = []
  #index: Promise<PartialContent> | undefined
  #partial: PartialContent | undefined
  #pool: ShardPool | undefined
  #doneBytes = 0
  #localBytes = 0
  #batchMs = 0

  constructor(
    root: string,
    deps: Deps,
    options: ContentFetcherOptions,
    { expectedSize, hints = [] }: FetchOptions,
  ) {
    this.#root = root
    this.#deps = deps
    this.#options = options
    this.#expectedSize = expectedSize
    this.#hints = hints
    this.result = this.#run()
    this.result.catch(() => undefined)
  }

  /** The fetch goes on while anybody waits for it. */
  async join({ signal, onProgress }: FetchOptions): Promise<FetchReport> {
    this.#joined += 1
    if (onProgress !== undefined) this.#listeners.add(onProgress)
    const { promise, reject } = Promise.withResolvers<never>()
    const leave = () => {
      reject(signal?.reason)
      if (--this.#joined === 0) this.#abort.abort(signal?.reason)
    }
    signal?.addEventListener('abort', leave, { once: true })
    try {
      return await Promise.race([this.result, promise])
    } finally {
      signal?.removeEventListener('abort', leave)
      if (onProgress !== undefined) this.#listeners.delete(onProgress)
      // An aborted caller waits for the clean-up too, so that the root can be fetched again at once.
      if (this.#abort.signal.aborted) await this.result.catch(() => undefined)
    }
  }

  async #run(): Promise<FetchReport> {
    const { signal } = this.#abort
    const stopped = () => {
      for (const lane of this.#lanes) lane.abort(signal.reason)
      this.#wake()
    }
    signal.addEventListener('abort', stopped)
    try {
      await this.#resume()
      const searching = this.#search()
      searching.catch(() => undefined)
      await Promise.race([this.#finished(), searching.then(() => this.#finished())])
      signal.throwIfAborted()
      await this.#partial?.complete()
      return this.#report()
    } finally {
      this.#abort.abort(new CatalogError('cancelled', 'The fetch has ended.'))
      await Promise.allSettled(this.#active.values())
      // Only now are all lanes and the index settled: nobody writes to the partial content any more.
      await this.#partial?.close()
    }
  }

  /** Goes on with what an earlier fetch left here, without asking anybody for the index. */
  async #resume(): Promise<void> {
    const bytes = await this.#deps.store.indexBytes(this.#root)
    if (bytes !== undefined) await this.#open(bytes)
  }

  async #open(indexBytes: Uint8Array): Promise<PartialContent> {
    const index = decodeContentIndex(indexBytes, this.#root)
    if (this.#expectedSize !== undefined && index.size !== this.#expectedSize)
      throw new CatalogError(
        'bad-record',
        `The content index of ${this.#root} says ${index.size} bytes, the signed release ${this.#expectedSize}.`,
      )
    const { signal } = this.#abort
    signal.throwIfAborted()
    const partial = await this.#deps.store.openPartial(this.#root, indexBytes)
    this.#partial = partial
    this.#localBytes = await partial.copyLocal({ signal })
    const missing = partial.missing()
    const lengths = partial.index.shards.map(shard => shard.length)
    const missingBytes = missing.reduce((sum, shard) => sum + (lengths[shard] as number), 0)
    this.#doneBytes = partial.index.size - missingBytes
    this.#pool = new ShardPool(lengths, missing)
    this.#progress()
    this.#wake()
    return partial
  }

  /** Resolves once every shard is here; rejects with the abort reason. */
  async #finished(): Promise<void> {
    const { signal } = this.#abort
    while (!this.#done) {
      signal.throwIfAborted()
      await this.#change()
    }
  }

  /** Finds providers and sets them to work until everything is here; throws when there is nobody for too long. */
  async #search(): Promise<void> {
    const { signal } = this.#abort
    let lastSeen = performance.now()
    for (;;) {
      await this.#searchOnce()
      if (await this.#workUntilNextSearch()) lastSeen = performance.now()
      if (signal.aborted || this.#done) return
      if (this.#active.size > 0) continue
      if (performance.now() - lastSeen > this.#options.patienceMs) return this.#fail(this.#nobody())
      // A provider that failed may be asked again: it may have been restarted.
      this.#seen.clear()
      await sleep(this.#options.searchAgainMs)
    }
  }

  /** Waits while providers work, until it is time to look for more; false when there were none. */
  async #workUntilNextSearch(): Promise<boolean> {
    if (this.#active.size === 0) return false
    const until = performance.now() + this.#options.searchMoreMs
    while (this.#active.size > 0 && !this.#done && !this.#abort.signal.aborted) {
      const left = until - performance.now()
      if (left <= 0) break
      await Promise.race([this.#change(), sleep(left)])
    }
    return true
  }

  /** A shard asked for longer ago than this may be asked of another provider as well. */
  get #overdueMs(): number {
    return 250 + 3 * this.#batchMs
  }

  get #done(): boolean {
    return this.#pool?.done === true
  }

  async #searchOnce(): Promise<void> {
    const { host, scores, findProviders, log } = this.#deps
    const patience = AbortSignal.timeout(this.#options.patienceMs)
    for (const peer of this.#hints) if (!this.#seen.has(peer)) this.#employ(peer)
    try {
      for await (const peer of findProviders(this.#root, {
        signal: AbortSignal.any([this.#abort.signal, patience]),
      })) {
        if (this.#done) return
        if (peer === host.peer || this.#seen.has(peer) || scores.isBanned(peer)) continue
        while (this.#active.size >= this.#options.maxProviders) await this.#change()
        this.#employ(peer)
      }
    } catch (error) {
      log.debug({ root: this.#root, error }, 'the search for providers ended early')
    }
  }

  #employ(peer: string): void {
    this.#seen.add(peer)
    const work = this.#workWith(peer)
      .catch(error => this.#providerFailed(peer, error))
      .finally(() => {
        this.#active.delete(peer)
        this.#wake()
      })
    this.#active.set(peer, work)
  }

  #providerFailed(peer: string, error: unknown): void {
    // Candidates are guesses: one that does not have the content has done nothing wrong.
    if (this.#abort.signal.aborted || isCatalogError(error, 'not-found')) return
    this.#deps.scores.failed(peer)
    const message = error instanceof Error ? error.message : String(error)
    if (this.#failures.length < 8) this.#failures.push(message)
    this.#deps.log.info({ root: this.#root, peer, error: message }, 'a provider was left')
  }

  async #workWith(peer: string): Promise<void> {
    const { signal } = this.#abort
    const lane = await this.#openLane(peer)
    try {
      const partial = await this.#indexFrom(lane)
      const available = await lane.have(this.#root, partial.index.shards.length, { signal })
      if (available === undefined) return
      const extra = Array.from({ length: this.#extraLanes(partial) }, async () => this.#openLane(peer))
      const lanes = [
        lane,
        ...(await Promise.allSettled(extra)).flatMap(each =>
          each.status === 'fulfilled' ? [each.value] : [],
        ),
      ]
      await Promise.all(lanes.map(each => this.#workOn(each, available, partial)))
      this.#deps.scores.succeeded(peer)
    } finally {
      for (const each of this.#lanes) if (each.peer === peer) this.#leave(each)
    }
  }

  /** More lanes only where there is work for them. */
  #extraLanes(partial: PartialContent): number {
    const batches = Math.ceil((partial.index.size - this.#doneBytes) / this.#options.batchBytes)
    return Math.max(0, Math.min(this.#options.lanesPerProvider, batches) - 1)
  }

  async #openLane(peer: string): Promise<TransferLane> {
    const patience = AbortSignal.timeout(this.#options.patienceMs)
    const signal = AbortSignal.any([this.#abort.signal, patience])
    const lane = await TransferLane.open(this.#deps.host, peer, this.#options.lane, { signal })
    this.#lanes.add(lane)
    if (this.#abort.signal.aborted) lane.abort(this.#abort.signal.reason)
    return lane
  }

  #leave(lane: TransferLane): void {
    this.#count(lane)
    this.#lanes.delete(lane)
    this.#pool?.release(lane)
    lane.close().catch(() => undefined)
    this.#wake()
  }

  #count(lane: TransferLane): void {
    if (lane.received > 0) this.#received.set(lane.peer, (this.#received.get(lane.peer) ?? 0) + lane.received)
  }

  /** The content opened for writing; the first provider that has a true index gives it. */
  async #indexFrom(lane: TransferLane): Promise<PartialContent> {
    if (this.#partial !== undefined && this.#pool !== undefined) return this.#partial
    while (this.#index !== undefined) {
      const opened = await this.#index.catch(() => undefined)
      if (opened !== undefined) return opened
    }
    this.#index = this.#fetchIndex(lane)
    try {
      return await this.#index
    } finally {
      this.#index = undefined
    }
  }

  async #fetchIndex(lane: TransferLane): Promise<PartialContent> {
    const bytes = await lane.index(this.#root, contentIndexLimits.maxBytes, { signal: this.#abort.signal })
    this.#served.add(lane.peer)
    try {
      return await this.#open(bytes)
    } catch (error) {
      if (isCatalogError(error, 'corrupt-content'))
        await this.#deps.scores.ban(lane.peer, 'sent a false content index')
      // A true index that cannot be used here (too large for the disk, malformed by its author) ends the fetch.
      else this.#fail(error)
      throw error
    }
  }

  async #workOn(lane: TransferLane, available: Availability, partial: PartialContent): Promise<void> {
    const pool = this.#pool as ShardPool
    const flying = new Set<Promise<void>>()
    let outstanding = 0
    // A lane earns its window: so the first provider to answer does not take everything before the others do.
    let window = this.#options.batchBytes
    let busyAt = performance.now()
    let failure: { error: unknown } | undefined
    while (!pool.done && failure === undefined) {
      this.#abort.signal.throwIfAborted()
      const room = window - outstanding
      const now = performance.now()
      const batch =
        room > 0
          ? pool.take(
              lane,
              available.has,
              Math.min(room, this.#options.batchBytes),
              now,
              now - this.#overdueMs,
            )
          : undefined
      if (batch === undefined) {
        // Either the window is full, or there is nothing for this lane until another gives up a shard.
        if (flying.size > 0) await Promise.race(flying)
        else if (now - busyAt > this.#options.idleLaneMs) return
        else await Promise.race([this.#change(), sleep(50)])
        continue
      }
      busyAt = now
      const bytes = batch.lengths.reduce((sum, length) => sum + length, 0)
      outstanding += bytes
      const flight = this.#transfer(lane, batch, partial)
        .then(() => {
          // From question to answer, with what was asked before it: how long a healthy provider takes now.
          this.#batchMs += (performance.now() - now - this.#batchMs) / 8
          window = Math.min(window * 2, transferLimits.maxOutstandingBytes)
        })
        .catch(error => {
          failure ??= { error }
        })
        .finally(() => {
          outstanding -= bytes
          flying.delete(flight)
        })
      flying.add(flight)
    }
    if (failure === undefined) return
    pool.release(lane)
    this.#wake()
    throw failure.error
  }

  async #transfer(lane: TransferLane, batch: Batch, partial: PartialContent): Promise<void> {
    const store = async (shard: number, bytes: Uint8Array) => {
      this.#served.add(lane.peer)
      if (partial.has(shard) || this.#abort.signal.aborted) return
      await this.#put(lane, partial, shard, bytes)
      if (this.#pool?.finish(shard) === true) this.#doneBytes += bytes.byteLength
      this.#progress()
      if (this.#done) this.#wake()
    }
    await lane.shards(this.#root, batch.first, batch.lengths, store, { signal: this.#abort.signal })
  }

  async #put(lane: TransferLane, partial: PartialContent, shard: number, bytes: Uint8Array): Promise<void> {
    try {
      await partial.put(shard, bytes)
    } catch (error) {
      if (isCatalogError(error, 'corrupt-content')) await this.#dismissLiar(lane.peer)
      else this.#fail(error)
      throw error
    }
  }

  async #dismissLiar(peer: string): Promise<void> {
    this.#deps.log.warn(
      { root: this.#root, peer },
      'a provider sent a shard with another hash than promised; banned',
    )
    const reason = new CatalogError(
      'corrupt-content',
      `The provider ${peer} sent wrong bytes and was banned.`,
      { peer },
    )
    for (const lane of this.#lanes) if (lane.peer === peer) lane.abort(reason)
    await this.#deps.scores.ban(peer, 'sent a shard with another hash than promised')
  }

  #fail(error: unknown): void {
    this.#abort.abort(error)
  }

  #nobody(): CatalogError {
    const why = this.#failures.length > 0 ? ` Tried: ${this.#failures.join(' ')}` : ''
    return new CatalogError(
      'no-providers',
      `No reachable peer provides ${this.#root}. Check "catalog peers", and that a node that holds it is online.${why}`,
      { root: this.#root },
    )
  }

  #progress(): void {
    const total = this.#partial?.index.size ?? 0
    for (const listener of this.#listeners) listener(this.#doneBytes, total)
  }

  #change(): Promise<void> {
    return new Promise(resolve => {
      this.#waiters.push(resolve)
      if (this.#abort.signal.aborted) this.#wake()
    })
  }

  #wake(): void {
    const waiters = this.#waiters
    this.#waiters = []
    for (const waiter of waiters) waiter()
  }

  #report(): FetchReport {
    for (const lane of this.#lanes) this.#count(lane)
    this.#lanes.clear()
    const served = [...this.#received].filter(([peer]) => this.#served.has(peer))
    const providers = served.map(([peer, bytes]) => ({ peer, bytes })).sort((a, b) => b.bytes - a.bytes)
    return {
      index: (this.#partial as PartialContent).index,
      bytesTransferred: providers.reduce((sum, { bytes }) => sum + bytes, 0),
      providers,
      localBytes: this.#localBytes,
    }
  }
}
