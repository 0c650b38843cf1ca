// Ranked full-text search over the known packages: BM25 with prefixes and small typing errors (minisearch), over the
// latest version of each name of each publisher. The index is built by the first query and dropped when nobody has
// searched for a while; in between it follows the catalogue.
import MiniSearch, {
  type SearchOptions as MiniSearchOptions,
  type SearchResult as SearchHit,
} from 'minisearch'
import { highestVersion } from '../assets/name.ts'
import { CatalogError } from '../base/errors.ts'
import type { CallOptions } from '../base/lifecycle.ts'
import type { Log } from '../base/log.ts'
import type { ReleaseEntry, ReleaseSummary } from './release-summary.ts'

export interface SearchOptions {
  /** Milliseconds without a query after which the index is dropped. */
  readonly idleMs: number
}

export const defaultSearchOptions: SearchOptions = {
  // Building takes about a second for 20,000 packages; keeping it takes about 1.5 KiB for each.
  idleMs: 10 * 60_000,
}

export const searchLimits = {
  maxQueryLength: 256,
  maxTerms: 16,
  defaultResults: 20,
  maxResults: 200,
} as const

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
  summaries(): AsyncIterable<ReleaseSummary>
  onRecord(
    listener: (event: {
      readonly kind: 'release' | 'head'
      readonly publisher: string
      readonly name: string
    }) => void,
  ): () => void
  onForget(listener: (entry: ReleaseEntry) => void): () => void
}

/** One package: a name of a publisher, as its latest version describes it. */
interface Document {
  readonly key: string
  /** The id of the latest release. */
  readonly release: string
  readonly name: string
  /** The same tags as one text to be searched and as a list to be filtered by. */
  readonly tags: string
  readonly tagList: readonly string[]
  readonly description: string
  readonly type: string
  readonly category: string
}

export class Search {
  readonly #source: SearchSource
  readonly #log: Log
  readonly #options: SearchOptions
  #index: Promise<MiniSearch<Document>> | undefined
  /** Packages whose latest version changed since the index last looked. */
  readonly #changed = new Map<string, { readonly publisher: string; readonly name: string }>()
  #refreshing: Promise<void> = Promise.resolve()
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
      if (this.#index !== undefined) this.#changed.set(`${publisher}/${name}`, { publisher, name })
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

  /** @throws CatalogError `invalid-request` for a query that is too long */
  async search(request: SearchRequest, options: CallOptions = {}): Promise<SearchResult[]> {
    const { query, limit = searchLimits.defaultResults } = request
    const terms = termsOf(query)
    if (query.length > searchLimits.maxQueryLength || terms.length > searchLimits.maxTerms)
      throw new CatalogError(
        'invalid-request',
        `The search was not made: a query has at most ${searchLimits.maxQueryLength} characters and ${searchLimits.maxTerms} words. Shorten it.`,
      )
    const index = await this.#current()
    options.signal?.throwIfAborted()
    const count = Math.max(0, Math.min(limit, searchLimits.maxResults))
    const results = await Promise.all(
      rank(index, terms, request, count).map(async ({ release, score }) => ({
        release: await this.#source.summary(release),
        score,
      })),
    )
    return results.filter((result): result is SearchResult => result.release !== undefined)
  }

  async #current(): Promise<MiniSearch<Document>> {
    clearTimeout(this.#timer)
    this.#timer = setTimeout(() => this.#drop(), this.#options.idleMs)
    this.#timer.unref()
    this.#index ??= this.#build()
    try {
      const index = await this.#index
      // One refresh after another: two at once could put an older version back.
      this.#refreshing = this.#refreshing.then(() => this.#refresh(index))
      await this.#refreshing
      return index
    } catch (error) {
      this.#drop()
      throw error
    }
  }

  async #build(): Promise<MiniSearch<Document>> {
    const began = performance.now()
    const index = new MiniSearch<Document>(indexOptions)
    let added = 0
    for await (const summary of this.#source.summaries()) {
      if (this.#latest(summary.publisher, summary.name)?.id !== summary.id) continue
      put(index, documentOf(summary))
      added += 1
      // Others get their turn: building must not hold up the node.
      if (added % 100 === 0) await new Promise(resolve => setImmediate(resolve))
    }
    this.#log.info(
      { packages: index.documentCount, milliseconds: Math.round(performance.now() - began) },
      'search index built',
    )
    return index
  }

  /** Brings in what changed since the last query. */
  async #refresh(index: MiniSearch<Document>): Promise<void> {
    for (const [key, { publisher, name }] of this.#changed) {
      this.#changed.delete(key)
      const latest = this.#latest(publisher, name)
      const summary = latest === undefined ? undefined : await this.#source.summary(latest.id)
      if (summary !== undefined) put(index, documentOf(summary))
      else if (index.has(key)) index.discard(key)
    }
  }

  #latest(publisher: string, name: string): ReleaseEntry | undefined {
    return highestVersion(
      this.#source.releasesOf(name).filter(entry => entry.publisher === publisher),
      '*',
    )
  }

  #drop(): void {
    clearTimeout(this.#timer)
    this.#index = undefined
    this.#refreshing = Promise.resolve()
    this.#changed.clear()
  }
}

const documentOf = (summary: ReleaseSummary): Document => ({
  key: `${summary.publisher}/${summary.name}`,
  release: summary.id,
  name: summary.name,
  tags: summary.tags.join(' '),
  tagList: summary.tags.map(tag => tag.toLowerCase()),
  description: summary.description,
  type: summary.type,
  category: summary.category ?? '',
})

function put(index: MiniSearch<Document>, document: Document): void {
  if (index.has(document.key)) index.replace(document)
  else index.add(document)
}

const wordPattern = /[^\p{L}\p{N}]+/u

const termsOf = (text: string): string[] => text.split(wordPattern).filter(word => word !== '')

/** A name is found by its parts and by all of them in one: `word-count` by `word`, `count` and `wordcount`. */
function tokenise(text: string, field?: string): string[] {
  const words = termsOf(text)
  return field === 'name' && words.length > 1 ? [...words, words.join('')] : words
}

const indexOptions = {
  idField: 'key',
  fields: ['name', 'tags', 'description', 'type', 'category'],
  storeFields: ['release', 'name', 'tagList', 'type', 'category'],
  tokenize: tokenise,
  extractField: (document: Document, field: string) => document[field as keyof Document],
}

const boost = { name: 5, tags: 3, description: 1, type: 0.5, category: 0.5 }

/** What is tried in turn until something is found, from the strictest and cheapest to the most lenient. */
const attempts: readonly MiniSearchOptions[] = [
  // Every word as written; the last one may be unfinished.
  { boost, combineWith: 'AND', prefix: (_term, place, terms) => place === terms.length - 1 },
  // Every word, each perhaps unfinished or mistyped (one letter in five, from four letters on).
  { boost, combineWith: 'AND', prefix: true, fuzzy: term => (term.length >= 4 ? 0.2 : false), maxFuzzy: 2 },
  { boost, combineWith: 'OR', prefix: true, fuzzy: term => (term.length >= 4 ? 0.2 : false), maxFuzzy: 2 },
]

interface Ranked {
  /** Its id. */
  readonly release: string
  readonly name: string
  readonly score: number
}

/** The first attempt that finds something, best first; packages of exactly the name asked for before all others. */
function rank(
  index: MiniSearch<Document>,
  terms: readonly string[],
  request: SearchRequest,
  count: number,
): Ranked[] {
  const filter = filterOf(request)
  if (terms.length === 0)
    return index.search(MiniSearch.wildcard, filter).map(rankedOf).sort(byName).slice(0, count)
  const wanted = request.query.trim().toLowerCase()
  const exactness = (name: string) =>
    name === wanted ? 2 : name.endsWith(wanted) && name.at(-wanted.length - 1) === '/' ? 1 : 0
  for (const attempt of attempts) {
    const found = index.search(request.query, { ...attempt, ...filter })
    if (found.length === 0) continue
    // What comes is sorted by score, and may be half the index: only what is wanted is looked at closely.
    const exact = found.filter(result => exactness(result['name']) > 0).map(rankedOf)
    const others = found.slice(0, count + exact.length).filter(result => exactness(result['name']) === 0)
    return [
      ...exact.sort((a, b) => exactness(b.name) - exactness(a.name) || byScore(a, b)),
      ...others.map(rankedOf).sort(byScore),
    ].slice(0, count)
  }
  return []
}

const rankedOf = (result: SearchHit): Ranked => ({
  release: result['release'],
  name: result['name'],
  score: result.score,
})

const byScore = (a: Ranked, b: Ranked): number => b.score - a.score || byName(a, b)

const byName = (a: Ranked, b: Ranked): number =>
  a.name < b.name ? -1 : a.name > b.name ? 1 : a.release < b.release ? -1 : 1

/** No filter at all where nothing is to be filtered: it would be asked about every match. */
function filterOf({ tag, type, category }: SearchRequest): Pick<MiniSearchOptions, 'filter'> {
  if (tag === undefined && type === undefined && category === undefined) return {}
  const wantedTag = tag?.toLowerCase()
  return {
    filter: result =>
      (wantedTag === undefined || (result['tagList'] as readonly string[]).includes(wantedTag)) &&
      (type === undefined || result['type'] === type) &&
      (category === undefined || result['category'] === category),
  }
}
