// The inverted index of packages: which words each has, in which field, how often; and the facets that filters ask for.
// A package that changes is taken out and put in again; its old postings stay, marked dead, until the index is built anew.
import type { ReleaseEntry, ReleaseSummary } from '../release-summary.ts'
import { Postings } from './postings.ts'
import { TermTable } from './term-table.ts'
import { wordsOf, wordsOfName } from './words.ts'

export const fields = ['name', 'tags', 'description', 'type', 'category'] as const
const fieldCount = fields.length

/** The most packages that a posting can tell apart. */
const maxSlots = 2 ** 22
const [fieldBits, frequencyBits] = [3, 7]
const maxFrequency = 2 ** frequencyBits - 1
const maxFieldLength = 255

export const wordIndexLimits = {
  /**
   * Different terms, which take about 150 bytes each: no publisher can fill the memory with words that nobody has.
   * Names have room of their own, so that packages are found whatever others write into their descriptions.
   */
  maxTerms: 1_000_000,
  maxTermsWithNames: 2_000_000,
  /** Words of a field, from its start. */
  maxWords: 150,
} as const

export type Facet = 'tag' | 'type' | 'category'

/** No word has a NUL in it, and no word of a query is nearly a facet. */
const facetTerm = (facet: Facet, value: string): string => `\0${facet}:${value}`

export class WordIndex {
  readonly terms = new TermTable()
  readonly #postings = new Postings()
  /** By slot. A dead one has no entry. */
  readonly #entries: (ReleaseEntry | undefined)[] = []
  #alive = new Uint8Array(1024)
  readonly #slots = new Map<string, number>()
  #fieldLengths = new Uint8Array(1024 * fieldCount)
  readonly #lengthSums = new Float64Array(fieldCount)

  /** Packages in the index. */
  get count(): number {
    return this.#slots.size
  }

  /** Places that packages have or had: slots are numbered below it. */
  get slots(): number {
    return this.#entries.length
  }

  get dead(): number {
    return this.slots - this.count
  }

  /** The release that describes the package in a slot; undefined for a dead one. */
  entry(slot: number): ReleaseEntry | undefined {
    return this.#entries[slot]
  }

  isAlive(slot: number): boolean {
    return this.#alive[slot] === 1
  }

  entryOf(publisher: string, name: string): ReleaseEntry | undefined {
    const slot = this.#slots.get(`${publisher}/${name}`)
    return slot === undefined ? undefined : this.#entries[slot]
  }

  /** Puts a package in, in place of what it was. `entry` is kept: the catalogue's own, which costs nothing more. */
  put(entry: ReleaseEntry, summary: ReleaseSummary): void {
    this.remove(entry.publisher, entry.name)
    const slot = this.slots
    if (slot >= maxSlots) return
    this.#entries.push(entry)
    this.#slots.set(`${entry.publisher}/${entry.name}`, slot)
    if (this.#alive.length === slot) this.#grow()
    this.#alive[slot] = 1
    for (const [field, words] of wordsOfFields(summary).entries()) this.#addField(slot, field, words)
    const facets = new Set(summary.tags.map(tag => facetTerm('tag', tag.toLowerCase())))
    facets.add(facetTerm('type', summary.type))
    if (summary.category !== undefined) facets.add(facetTerm('category', summary.category))
    for (const facet of facets) {
      const term = this.terms.add(facet, wordIndexLimits.maxTerms)
      if (term !== undefined) this.#postings.add(term, pack(slot, 0, 0))
    }
  }

  remove(publisher: string, name: string): void {
    const key = `${publisher}/${name}`
    const slot = this.#slots.get(key)
    if (slot === undefined) return
    this.#slots.delete(key)
    this.#entries[slot] = undefined
    this.#alive[slot] = 0
    for (let field = 0; field < fieldCount; field++)
      this.#lengthSums[field] = (this.#lengthSums[field] as number) - this.fieldLength(slot, field)
  }

  /** Words of a field of a package, at most 255. */
  fieldLength(slot: number, field: number): number {
    return this.#fieldLengths[slot * fieldCount + field] as number
  }

  averageLength(field: number): number {
    return Math.max(1, (this.#lengthSums[field] as number) / Math.max(1, this.count))
  }

  /** How many fields of packages have the term, dead ones among them. */
  frequency(term: number): number {
    return this.#postings.lengthOf(term)
  }

  /**
   * The fields of packages that have the term, dead ones among them: the first `frequency(term)` of what is returned,
   * until the next call. What one says, `slotOf` and its like tell.
   */
  postings(term: number): Uint32Array {
    return this.#postings.values(term)
  }

  /** The living packages that have a facet. */
  *slotsWith(facet: Facet, value: string): Iterable<number> {
    const term = this.terms.exact(facetTerm(facet, value))
    if (term === undefined) return
    const postings = this.postings(term).slice(0, this.frequency(term))
    for (const posting of postings) if (this.isAlive(slotOf(posting))) yield slotOf(posting)
  }

  #addField(slot: number, field: number, words: readonly string[]): void {
    const frequencies = new Map<number, number>()
    const max = fields[field] === 'name' ? wordIndexLimits.maxTermsWithNames : wordIndexLimits.maxTerms
    for (const word of words.slice(0, wordIndexLimits.maxWords)) {
      const term = this.terms.add(word, max)
      if (term === undefined) continue
      frequencies.set(term, (frequencies.get(term) ?? 0) + 1)
    }
    for (const [term, frequency] of frequencies)
      this.#postings.add(term, pack(slot, field, Math.min(frequency, maxFrequency)))
    const length = Math.min(words.length, maxFieldLength)
    this.#fieldLengths[slot * fieldCount + field] = length
    this.#lengthSums[field] = (this.#lengthSums[field] as number) + length
  }

  #grow(): void {
    const [alive, lengths] = [this.#alive, this.#fieldLengths]
    this.#alive = new Uint8Array(alive.length * 2)
    this.#alive.set(alive)
    this.#fieldLengths = new Uint8Array(lengths.length * 2)
    this.#fieldLengths.set(lengths)
  }
}

export const slotOf = (posting: number): number => posting >>> (fieldBits + frequencyBits)
export const fieldOf = (posting: number): number => (posting >>> frequencyBits) & (2 ** fieldBits - 1)
/** How often the field has the term, at most 127. */
export const frequencyOf = (posting: number): number => posting & maxFrequency

const pack = (slot: number, field: number, frequency: number): number =>
  ((slot << (fieldBits + frequencyBits)) | (field << frequencyBits) | frequency) >>> 0

const wordsOfFields = ({ name, tags, description, type, category }: ReleaseSummary): string[][] => [
  wordsOfName(name),
  tags.flatMap(wordsOf),
  wordsOf(description),
  wordsOf(type),
  wordsOf(category ?? ''),
]
