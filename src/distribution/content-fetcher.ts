// Fetching one content root from however many providers there are: index first, then shards, each verified
// before it is written. Providers that lie, stall or fail are left; the fetch goes on with the others and with
// whoever is found meanwhile. What is here already, from an interrupted fetch or another version, is not asked for.
import type { ContentIndex } from '../assets/content-index.ts'
import type { ContentStore } from '../assets/content-store.ts'
import type { CallOptions } from '../base/lifecycle.ts'
import type { Log } from '../base/log.ts'
import type { Host } from '../network/host.ts'
import { FetchJob } from './fetch/job.ts'
import type { ProviderWorkOptions } from './fetch/provider-work.ts'
import type { PeerScores } from './peer-scores.ts'
import { defaultLaneOptions } from './transfer-lane.ts'

export interface ContentFetcherOptions extends ProviderWorkOptions {
  readonly maxProviders: number
  /** Give up when nobody is at work and nothing has come for this long. */
  readonly patienceMs: number
  /** Time between two searches for providers while there is none. */
  readonly searchAgainMs: number
  /** Time between two searches while providers are at work: more may have come. */
  readonly searchMoreMs: number
}

export const defaultContentFetcherOptions: ContentFetcherOptions = {
  lane: defaultLaneOptions,
  // Several overlap the waits for both disks: of 256 MiB over loopback, four moved half as much again as one.
  lanesPerProvider: 4,
  // 8 providers x 4 lanes x 2 MiB outstanding = 64 MiB at the very most.
  maxProviders: 8,
  batchBytes: 512 * 1024,
  patienceMs: 12_000,
  searchAgainMs: 1_500,
  searchMoreMs: 10_000,
  // Longer than an index of a few MB takes: whoever needs more shares the question with the next provider.
  indexPatienceMs: 2_000,
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

export interface ContentFetcherDeps {
  readonly host: Host
  readonly store: ContentStore
  readonly scores: Pick<PeerScores, 'ban' | 'isBanned'>
  readonly findProviders: (root: string, options: CallOptions) => AsyncIterable<string>
  readonly log: Log
}

export class ContentFetcher {
  readonly #deps: ContentFetcherDeps
  readonly #options: ContentFetcherOptions
  /** One fetch per root; who asks while it runs joins it. */
  readonly #running = new Map<string, FetchJob>()

  constructor(deps: ContentFetcherDeps, options = defaultContentFetcherOptions) {
    this.#deps = deps
    this.#options = options
  }

  /**
   * Resolves once the content is complete and durable here. What came is kept when it fails, for the next fetch.
   * @throws CatalogError `no-providers`, `no-space`, `storage-failed`, `bad-record` (index refused), or the signal's reason
   */
  async fetch(root: string, options: FetchOptions = {}): Promise<FetchReport> {
    options.signal?.throwIfAborted()
    // One that is being wound up has another caller's failure for a result.
    for (let running = this.#running.get(root); running !== undefined; running = this.#running.get(root)) {
      if (!running.ending) return running.join(options)
      await running.ended
      options.signal?.throwIfAborted()
    }
    const job = new FetchJob(root, this.#deps, this.#options)
    this.#running.set(root, job)
    const report = job.join(options)
    job.start()
    void job.ended.then(() => this.#running.delete(root))
    return report
  }
}
