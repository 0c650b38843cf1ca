// From a query to the best packages: BM25+ over fields (Robertson and Zaragoza 2009; Lv and Zhai 2011), term at a time,
// with unfinished and mistyped words at a lower weight; only the best few are ever made into results. Works in slices,
// so that the node goes on while a costly query is answered. One query at a time: it owns the score board.
import { setImmediate } from 'node:timers/promises'
import type { CallOptions } from '../../base/lifecycle.ts'
import type { ReleaseEntry } from '../release-summary.ts'
import { Best } from './best.ts'
import { type Facet, fieldOf, fields, frequencyOf, slotOf, type WordIndex } from './word-index.ts'
import { editsAllowed, joined } from './words.ts'

export interface RankRequest {
  /** In lower case; none: everything, by name. */
  readonly words: readonly string[]
  /** The query as a package's name would be written: packages of exactly this name come first. */
  readonly exactName: string
  readonly filters: readonly (readonly [Facet, string])[]
  readonly count: number
}

export interface Ranked {
  readonly entry: ReleaseEntry
  readonly score: number
}

/** A word in the name says most. */
const boostOf = { name: 5, tags: 3, description: 1, type: 0.5, category: 0.5 } as const
const boosts = Float64Array.from(fields, field => boostOf[field])
const nameField = fields.indexOf('name')
const saturation = 1.2
const lengthWeight = 0.7
const floor = 0.5
const prefixWeight = 0.375
const similarWeight = 0.45

/** What is tried in turn until something is found, from the strictest and cheapest to the most lenient. */
const attempts = [
  // Every word as written; the last one may be unfinished.
  { all: true, lenient: false },
  // Every word, each perhaps unfinished or mistyped.
  { all: true, lenient: true },
  { all: false, lenient: true },
] as const

/** How long one slice of work may hold up the node. */
const sliceMs = 8

export class Ranking {
  readonly #index: WordIndex
  /** By slot: the score, how many words of the query matched, and the last that did. Zero between queries. */
  #scores = new Float32Array(0)
  #matched = new Uint8Array(0)
  #last = new Uint8Array(0)
  #touched = new Uint32Array(0)
  #touchedCount = 0

  constructor(index: WordIndex) {
    this.#index = index
  }

  async rank(request: RankRequest, options: CallOptions = {}): Promise<Ranked[]> {
    this.#makeRoom()
    const passes = this.#filter(request.filters)
    if (request.words.length === 0) return this.#byName(request.count, passes)
    const expand = this.#expander()
    for (const attempt of attempts) {
      try {
        await this.#score(request, attempt, expand, options)
        const found = this.#best(request, attempt.all, passes)
        if (found.length > 0 || request.count === 0) return found
      } finally {
        this.#clear()
      }
    }
    return []
  }

  async #score(
    { words }: RankRequest,
    { all, lenient }: (typeof attempts)[number],
    expand: Expand,
    options: CallOptions,
  ): Promise<void> {
    const score = this.#scorer()
    let began = performance.now()
    for (const [place, word] of words.entries()) {
      const last = place === words.length - 1
      for (const { term, weight } of expand(word, last || (lenient && word.length > 1), lenient)) {
        score(term, weight, place, all)
        if (performance.now() - began < sliceMs) continue
        await setImmediate()
        options.signal?.throwIfAborted()
        began = performance.now()
      }
      // No package has every word: the rest need not be looked at.
      if (all && this.#touchedCount === 0) return
    }
  }

  /** The terms that a word stands for; each scan of all terms is made once in a query. */
  #expander(): Expand {
    const { terms } = this.#index
    const longer = remembering(word =>
      terms.longer(word).map(term => {
        const { length } = terms.term(term)
        return { term, weight: (prefixWeight * length) / (length + 0.3 * (length - word.length)) }
      }),
    )
    const similar = remembering(word =>
      terms.similar(word, editsAllowed(word)).flatMap(({ id, edits }) => {
        const term = terms.term(id)
        const weight = (similarWeight * term.length) / (term.length + edits)
        return term.startsWith(word) ? [] : [{ term: id, weight }]
      }),
    )
    return function* (word, unfinished, mistyped) {
      const exact = terms.exact(word)
      if (exact !== undefined) yield { term: exact, weight: 1 }
      if (unfinished) yield* longer(word)
      if (mistyped && editsAllowed(word) > 0) yield* similar(word)
    }
  }

  /** Adds what one term is worth to the packages that have it; with `all`, only to those that had every word before. */
  #scorer(): (term: number, weight: number, place: number, all: boolean) => void {
    const index = this.#index
    const [scores, matched, last, touched] = [this.#scores, this.#matched, this.#last, this.#touched]
    const base = saturation * (1 - lengthWeight)
    const scales = Float64Array.from(
      boosts,
      (_, field) => (saturation * lengthWeight) / index.averageLength(field),
    )
    // The innermost loop of a search: plain numbers in typed arrays, nothing made on the way.
    return (term, weight, place, all) => {
      const found = index.frequency(term)
      const worth = weight * Math.log(1 + (Math.max(index.count - found, 0) + 0.5) / (found + 0.5))
      const turn = place + 1
      const postings = index.postings(term)
      for (let i = 0; i < found; i++) {
        const posting = postings[i] as number
        const slot = slotOf(posting)
        if (last[slot] !== turn) {
          const before = matched[slot] as number
          if ((all && before !== place) || !index.isAlive(slot)) continue
          if (before === 0) touched[this.#touchedCount++] = slot
          last[slot] = turn
          matched[slot] = before + 1
        }
        const field = fieldOf(posting)
        const frequency = frequencyOf(posting)
        const length = base + (scales[field] as number) * index.fieldLength(slot, field)
        scores[slot] =
          (scores[slot] as number) +
          worth * (boosts[field] as number) * (floor + (frequency * (saturation + 1)) / (frequency + length))
      }
    }
  }

  /** The best of what was scored; packages of exactly the name asked for before all others. */
  #best({ words, exactName, count }: RankRequest, all: boolean, passes: Passes): Ranked[] {
    const [scores, matched, touched] = [this.#scores, this.#matched, this.#touched]
    const byScore = (a: number, b: number) =>
      (scores[b] as number) - (scores[a] as number) || byName(this.#entry(a), this.#entry(b))
    const named = this.#named(words, exactName)
    const [exact, scoped, others] = [
      new Best(count, byScore),
      new Best(count, byScore),
      new Best(count, byScore),
    ]
    for (let i = 0; i < this.#touchedCount; i++) {
      const slot = touched[i] as number
      if ((all && (matched[slot] as number) < words.length) || !passes(slot)) continue
      // Whoever has more of the words is better by far.
      scores[slot] = (scores[slot] as number) * (matched[slot] as number)
      const exactness = named.size === 0 ? undefined : named.get(slot)
      const best = exactness === undefined ? others : exactness === 'exact' ? exact : scoped
      best.add(slot)
    }
    return [exact, scoped, others]
      .flatMap(best => best.sorted())
      .slice(0, count)
      .map(slot => ({ entry: this.#entry(slot), score: scores[slot] as number }))
  }

  /** The packages of the name asked for, as it is or in a scope. The words of a name are in the index as one word too. */
  #named(words: readonly string[], wanted: string): Map<number, 'exact' | 'scoped'> {
    const found = new Map<number, 'exact' | 'scoped'>()
    const term = this.#index.terms.exact(joined(words))
    if (term === undefined) return found
    const postings = this.#index.postings(term)
    for (let i = 0; i < this.#index.frequency(term); i++) {
      const posting = postings[i] as number
      if (fieldOf(posting) !== nameField || !this.#index.isAlive(slotOf(posting))) continue
      const { name } = this.#entry(slotOf(posting))
      if (name === wanted) found.set(slotOf(posting), 'exact')
      else if (name.endsWith(`/${wanted}`)) found.set(slotOf(posting), 'scoped')
    }
    return found
  }

  #entry(slot: number): ReleaseEntry {
    return this.#index.entry(slot) as ReleaseEntry
  }

  #byName(count: number, passes: Passes): Ranked[] {
    const best = new Best<Ranked>(count, (a, b) => byName(a.entry, b.entry))
    for (let slot = 0; slot < this.#index.slots; slot++) {
      const entry = this.#index.entry(slot)
      if (entry !== undefined && passes(slot)) best.add({ entry, score: 1 })
    }
    return best.sorted()
  }

  /** Which slots pass every filter. */
  #filter(filters: RankRequest['filters']): Passes {
    if (filters.length === 0) return () => true
    const passed = new Uint8Array(this.#index.slots)
    for (const [place, [facet, value]] of filters.entries())
      for (const slot of this.#index.slotsWith(facet, value))
        if (passed[slot] === place) passed[slot] = place + 1
    return slot => passed[slot] === filters.length
  }

  #makeRoom(): void {
    if (this.#scores.length >= this.#index.slots) return
    const length = Math.ceil(this.#index.slots * 1.25)
    this.#scores = new Float32Array(length)
    this.#matched = new Uint8Array(length)
    this.#last = new Uint8Array(length)
    this.#touched = new Uint32Array(length)
  }

  #clear(): void {
    for (let i = 0; i < this.#touchedCount; i++) {
      const slot = this.#touched[i] as number
      this.#scores[slot] = 0
      this.#matched[slot] = 0
      this.#last[slot] = 0
    }
    this.#touchedCount = 0
  }
}

type Passes = (slot: number) => boolean

interface Expansion {
  readonly term: number
  /** Of 1 for the word itself. */
  readonly weight: number
}

type Expand = (word: string, unfinished: boolean, mistyped: boolean) => Iterable<Expansion>

function remembering<T>(make: (word: string) => T): (word: string) => T {
  const made = new Map<string, T>()
  return word => {
    const known = made.get(word) ?? make(word)
    made.set(word, known)
    return known
  }
}

const byName = (a: ReleaseEntry, b: ReleaseEntry): number =>
  a.name < b.name ? -1 : a.name > b.name ? 1 : a.id < b.id ? -1 : a.id > b.id ? 1 : 0
