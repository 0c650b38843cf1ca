// Ranked full-text search over the known packages, by the latest version of each name of each publisher: the service
// around the index (search/word-index.ts) and the ranking (search/ranking.ts). The index is built by the first query and
// dropped when nobody has searched for a while; in between it follows the catalogue.
import { setImmediate } from 'node:timers/promises'
import { highestVersion } from '../assets/name.ts'
import { CatalogError } from '../base/errors.ts'
import type { CallOptions } from '../base/lifecycle.ts'
import type { Log } from '../base/log.ts'
import type { RecordEvent } from './catalogue.ts'
import type { ReleaseEntry, ReleaseSummary } from './release-summary.ts'
import { type Ranked, Ranking, type RankRequest } from './search/ranking.ts'
import { WordIndex } from './search/word-index.ts'
import { wordsOf } from './search/words.ts'

export interface SearchOptions {
  /** Milliseconds without a query after which the index is dropped. */
  readonly idleMs: number
}

export const defaultSearchOptions: SearchOptions = {
  // Building takes one to two seconds for 100,000 packages; keeping it takes about 0.5 KiB for each.
  idleMs: 10 * 60_000,
}

export const searchLimits = {
  maxQueryLength: 256,
  maxTerms: 16,
  defaultResults: 20,
  maxResults: 200,
  /** Queries that may wait for their turn; more are refused with `busy`. */
  maxWaiting: 200,
} as const

/** How long one slice of building may hold up the node. */
const sliceMs = 8

export interface SearchRequest {
  /** Empty: everything that passes the filters, by name. */
  readonly query: string
  readonly tag?: string
  readonly type?: string
  readonly category?: string
  readonly limit?: number
}

export interface SearchResult {
  readonly release: ReleaseSummary
  /** Higher is better; comparable within one answer only. */
  readonly score: number
}

/** What search needs of the catalogue. */
export interface SearchSource {
  releasesOf(name: string): readonly ReleaseEntry[]
  summary(id: string): Promise<ReleaseSummary | undefined>
  /** The summaries of the releases that are wanted, in no useful order. */
  summaries(isWanted: (id: string) => boolean): AsyncIterable<ReleaseSummary>
  names(): Iterable<string>
  onRecord(listener: (event: RecordEvent) => void): () => void
  onForget(listener: (entry: ReleaseEntry) => void): () => void
}

interface Built {
  readonly index: WordIndex
  readonly ranking: Ranking
}

export class Search {
  readonly #source: SearchSource
  readonly #log: Log
  readonly #options: SearchOptions
  #built: Promise<Built> | undefined
  /** Packages whose latest version may have changed since the index last looked. */
  readonly #changed = new Map<string, { readonly publisher: string; readonly name: string }>()
  /** The end of the last query: one after another, for the index changes between them. */
  #turn: Promise<unknown> = Promise.resolve()
  #waiting = 0
  #timer: NodeJS.Timeout | undefined
  #unsubscribe: (() => void)[] = []

  constructor(
    deps: { readonly source: SearchSource; readonly log: Log },
    options: Partial<SearchOptions> = {},
  ) {
    this.#source = deps.source
    this.#log = deps.log
    this.#options = { ...defaultSearchOptions, ...options }
  }

  async start(): Promise<void> {
    const changed = ({ publisher, name }: { readonly publisher: string; readonly name: string }) => {
      if (this.#built !== undefined) this.#changed.set(`${publisher}/${name}`, { publisher, name })
    }
    this.#unsubscribe = [
      this.#source.onRecord(event => {
        if (event.kind === 'release') changed(event)
      }),
      this.#source.onForget(changed),
    ]
  }

  async stop(): Promise<void> {
    for (const unsubscribe of this.#unsubscribe) unsubscribe()
    this.#unsubscribe = []
    this.#drop()
  }

  /** @throws CatalogError `invalid-request` for a query that is too long; `busy` when too many wait */
  async search(request: SearchRequest, options: CallOptions = {}): Promise<SearchResult[]> {
    const ranked = await this.#inTurn(rankRequestOf(request), options)
    const results = await Promise.all(
      ranked.map(async ({ entry, score }) => ({ release: await this.#source.summary(entry.id), score })),
    )
    return results.filter((result): result is SearchResult => result.release !== undefined)
  }

  async #inTurn(request: RankRequest, options: CallOptions): Promise<Ranked[]> {
    if (this.#waiting >= searchLimits.maxWaiting)
      throw new CatalogError(
        'busy',
        `The search was not made: ${this.#waiting} others wait already. Try again in a moment.`,
      )
    this.#waiting += 1
    const mine = this.#turn.then(async () => {
      options.signal?.throwIfAborted()
      const { ranking } = await this.#current()
      return ranking.rank(request, options)
    })
    this.#turn = mine.catch(() => undefined)
    try {
      return await mine
    } finally {
      this.#waiting -= 1
    }
  }

  /** The index as the catalogue is now. */
  async #current(): Promise<Built> {
    clearTimeout(this.#timer)
    this.#timer = setTimeout(() => this.#drop(), this.#options.idleMs)
    this.#timer.unref()
    const known = await this.#built?.catch(() => undefined)
    if (known !== undefined && isWorn(known.index, this.#changed.size)) {
      this.#built = undefined
      this.#changed.clear()
    }
    this.#built ??= this.#build()
    try {
      const built = await this.#built
      await this.#refresh(built.index)
      return built
    } catch (error) {
      this.#drop()
      throw error
    }
  }

  async #build(): Promise<Built> {
    const began = performance.now()
    const index = new WordIndex()
    const pause = inSlices()
    const latest = new Map<string, ReleaseEntry>()
    for (const name of this.#source.names()) {
      for (const entry of latestOf(this.#source.releasesOf(name))) latest.set(entry.id, entry)
      await pause()
    }
    for await (const summary of this.#source.summaries(id => latest.has(id))) {
      index.put(latest.get(summary.id) ?? summary, summary)
      await pause()
    }
    this.#log.info(
      { packages: index.count, terms: index.terms.size, milliseconds: Math.round(performance.now() - began) },
      'search index built',
    )
    return { index, ranking: new Ranking(index) }
  }

  /** Brings in what changed since the last query. */
  async #refresh(index: WordIndex): Promise<void> {
    const pause = inSlices()
    for (const [key, { publisher, name }] of this.#changed) {
      this.#changed.delete(key)
      const latest = latestOf(this.#source.releasesOf(name)).find(entry => entry.publisher === publisher)
      if (latest !== undefined && index.entryOf(publisher, name)?.id === latest.id) continue
      const summary = latest === undefined ? undefined : await this.#source.summary(latest.id)
      if (latest !== undefined && summary !== undefined) index.put(latest, summary)
      else index.remove(publisher, name)
      await pause()
    }
  }

  #drop(): void {
    clearTimeout(this.#timer)
    this.#built = undefined
    this.#changed.clear()
  }
}

/** @throws CatalogError `invalid-request` */
function rankRequestOf({ query, tag, type, category, limit }: SearchRequest): RankRequest {
  const words = query.length > searchLimits.maxQueryLength ? [] : wordsOf(query)
  if (query.length > searchLimits.maxQueryLength || words.length > searchLimits.maxTerms)
    throw new CatalogError(
      'invalid-request',
      `The search was not made: a query has at most ${searchLimits.maxQueryLength} characters and ${searchLimits.maxTerms} words. Shorten it.`,
    )
  const filters: RankRequest['filters'][number][] = []
  if (tag !== undefined) filters.push(['tag', tag.toLowerCase()])
  if (type !== undefined) filters.push(['type', type])
  if (category !== undefined) filters.push(['category', category])
  return {
    // The last of equal words stays: it may be unfinished.
    words: words.filter((word, place) => words.lastIndexOf(word) === place),
    exactName: query.trim().toLowerCase(),
    filters,
    count: Math.max(0, Math.min(limit ?? searchLimits.defaultResults, searchLimits.maxResults)),
  }
}

/** The latest release of each publisher, of releases of one name with the highest version first. */
function latestOf(releases: readonly ReleaseEntry[]): readonly ReleaseEntry[] {
  if (releases.length < 2) return releases
  const publishers = Map.groupBy(releases, ({ publisher }) => publisher)
  return [...publishers.values()].map(own => highestVersion(own, '*') as ReleaseEntry)
}

/** Whether building anew is cheaper than going on: half of it is dead, or a good part of it is to be changed. */
const isWorn = ({ count, dead }: WordIndex, changes: number): boolean =>
  dead > 1_000 + count / 2 || changes > 5_000 + count / 4

/** Others get their turn: what is long must not hold up the node. */
function inSlices(): () => Promise<void> | undefined {
  let began = performance.now()
  return () => {
    if (performance.now() - began < sliceMs) return undefined
    return setImmediate().then(() => {
      began = performance.now()
    })
  }
}
