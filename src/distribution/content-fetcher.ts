// Fetching one content root from however many providers there are: index first, then shards, each verified
// before it is written. Providers that lie, stall or fail are left; the fetch goes on with the others and with
// whoever is found meanwhile. What is here already, from an interrupted fetch or another version, is not asked for.

import type { ContentIndex } from '../assets/content-index.ts'
import type { ContentStore } from '../assets/content-store.ts'
import { eitherSignal } from '../base/deadline.ts'
import { CatalogError } from '../base/errors.ts'
import type { CallOptions } from '../base/lifecycle.ts'
import type { Log } from '../base/log.ts'
import type { Host } from '../network/host.ts'
import { FetchJob } from './fetch/job.ts'
import type { ProviderWorkOptions } from './fetch/provider-work.ts'
import { NodeWindow } from './fetch/window.ts'
import type { PeerScores } from './peer-scores.ts'
import { defaultLaneOptions } from './transfer-lane.ts'

export interface ContentFetcherOptions extends ProviderWorkOptions {
  readonly maxProviders: number
  /** Give up when nobody is at work and nothing has come for this long. */
  readonly patienceMs: number
  /** The same once somebody has given a good shard: who served may be overloaded, or being restarted. */
  readonly servedPatienceMs: number
  /** Time between two searches for providers while there is none. */
  readonly searchAgainMs: number
  /** Time between two searches while providers are at work: more may have come. */
  readonly searchMoreMs: number
  /** Where more providers are known than may work at once, the slowest gives up its place this often. */
  readonly rotateMs: number
}

export const defaultContentFetcherOptions: ContentFetcherOptions = {
  lane: defaultLaneOptions,
  lanesPerProvider: 2,
  maxProviders: 8,
  batchBytes: 1024 * 1024,
  // Three round trips: less is here before such a connection stands.
  bulkBytes: 4 * 1024 * 1024,
  patienceMs: 12_000,
  servedPatienceMs: 30_000,
  searchAgainMs: 1_500,
  searchMoreMs: 10_000,
  // Long enough to tell a slow start from a slow provider.
  rotateMs: 5_000,
  // Longer than an index of a few MB takes: whoever needs more shares the question with the next provider.
  indexPatienceMs: 2_000,
  idleLaneMs: 3_000,
  haveAgainMs: 500,
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

export interface ContentFetcherDeps {
  readonly host: Host
  readonly store: ContentStore
  readonly scores: Pick<PeerScores, 'ban' | 'isBanned' | 'link' | 'failed'>
  readonly findProviders: (root: string, options: CallOptions) => AsyncIterable<string>
  readonly log: Log
}

export class ContentFetcher {
  readonly #deps: ContentFetcherDeps
  readonly #options: ContentFetcherOptions
  /** One fetch per root; who asks while it runs joins it. */
  readonly #running = new Map<string, FetchJob>()
  readonly #window = new NodeWindow()

  constructor(deps: ContentFetcherDeps, options = defaultContentFetcherOptions) {
    this.#deps = deps
    this.#options = options
  }

  /**
   * Resolves once the content is complete and durable here. What came is kept when it fails, for the next fetch.
   * @throws CatalogError `no-providers`, `no-space`, `storage-failed`, `bad-record` (index refused), or the signal's reason
   */
  async fetch(root: string, options: FetchOptions = {}): Promise<FetchReport> {
    const { joined } = await this.#enter(root, options)
    return joined
  }

  /** The index of a content, from whoever has it. What comes beside it is kept. */
  async index(root: string, options: FetchOptions = {}): Promise<ContentIndex> {
    const { job, joined, leave } = await this.#join(root, options)
    try {
      // Who is refused, for the size that its release says, has no index either.
      return await Promise.race([job.index(), joined.then(() => job.index())])
    } finally {
      await leave()
    }
  }

  /**
   * Bytes [offset, offset + length) of a content's stream while it is being fetched, in order, each as soon as it is
   * here: they are fetched before the rest, and the fetch goes on for as long as somebody reads.
   * @throws as `fetch`
   */
  async *read(
    root: string,
    offset: number,
    length: number,
    options: FetchOptions = {},
  ): AsyncGenerator<Uint8Array, void, undefined> {
    const { store } = this.#deps
    if ((await store.state(root)) === 'complete') return yield* store.read(root, offset, length, options)
    const { job, leave } = await this.#join(root, options)
    try {
      yield* job.read(offset, length, options)
    } finally {
      await leave()
    }
  }

  /** Takes part in a fetch without waiting for its end. */
  async #join(root: string, options: FetchOptions) {
    const leaving = new AbortController()
    const signal = eitherSignal(options.signal, leaving.signal)
    const { job, joined } = await this.#enter(root, { ...options, signal })
    const leave = async () => {
      leaving.abort(new CatalogError('cancelled', 'What was asked of the fetch is here.'))
      await joined.catch(() => undefined)
    }
    return { job, joined, leave }
  }

  /** Finds or makes the fetch and joins it, in one turn: it cannot end in between. */
  async #enter(root: string, options: FetchOptions) {
    for (;;) {
      const job = await this.#job(root, options)
      if (job.ending) continue
      const joined = job.join(options)
      joined.catch(() => undefined)
      return { job, joined }
    }
  }

  /** The running fetch of a root, or a new one, which begins when somebody joins. */
  async #job(root: string, { signal }: CallOptions): Promise<FetchJob> {
    signal?.throwIfAborted()
    // One that is being wound up has another caller's failure for a result.
    for (let running = this.#running.get(root); running !== undefined; running = this.#running.get(root)) {
      if (!running.ending) return running
      await running.ended
      signal?.throwIfAborted()
    }
    const job = new FetchJob(root, { ...this.#deps, window: this.#window }, this.#options)
    this.#running.set(root, job)
    void job.ended.then(() => this.#running.delete(root))
    return job
  }
}
