// Every different term of the index, numbered from 0, and the three ways from a word of a query to terms: the same, one
// that begins with it, one that is nearly it. Prefixes and near misses are found by a scan over a few numbers of each
// term (about a millisecond for 500,000 terms), which needs no order to be kept while terms are added.
import { editDistance } from './edit-distance.ts'

const codeLength = 6
const bitsPerLetter = 5

export class TermTable {
  readonly #ids = new Map<string, number>()
  readonly #terms: string[] = []
  /** Of each term: five bits of each of its first six characters; which of 32 classes of characters it has; its length. */
  #heads = new Uint32Array(1024)
  #letters = new Uint32Array(1024)
  #lengths = new Uint8Array(1024)

  get size(): number {
    return this.#terms.length
  }

  term(id: number): string {
    return this.#terms[id] as string
  }

  exact(term: string): number | undefined {
    return this.#ids.get(term)
  }

  /** The number of a term, new or known; undefined for a new one when there are `max` already. At most 255 characters. */
  add(term: string, max = Number.POSITIVE_INFINITY): number | undefined {
    const known = this.#ids.get(term)
    if (known !== undefined) return known
    const id = this.#terms.length
    if (id >= max) return undefined
    if (id === this.#heads.length) this.#grow()
    // A copy: what was split from a text would keep the whole text in memory.
    const kept = Buffer.from(term).toString()
    this.#terms.push(kept)
    this.#ids.set(kept, id)
    this.#heads[id] = headOf(kept)
    this.#letters[id] = lettersOf(kept)
    this.#lengths[id] = kept.length
    return id
  }

  /** Terms that begin with `word` and are longer. */
  longer(word: string): number[] {
    const checked = Math.min(word.length, codeLength)
    const shift = bitsPerLetter * (codeLength - checked)
    const wanted = headOf(word) >>> shift
    const found: number[] = []
    for (let id = 0; id < this.#terms.length; id++)
      if (
        (this.#heads[id] as number) >>> shift === wanted &&
        (this.#lengths[id] as number) > word.length &&
        this.term(id).startsWith(word)
      )
        found.push(id)
    return found
  }

  /** Terms at a distance of 1 to `maxEdits` typing errors. */
  similar(word: string, maxEdits: number): { readonly id: number; readonly edits: number }[] {
    const letters = lettersOf(word)
    const found: { id: number; edits: number }[] = []
    for (let id = 0; id < this.#terms.length; id++) {
      if (Math.abs((this.#lengths[id] as number) - word.length) > maxEdits) continue
      // One error changes at most two classes.
      if (countBits((this.#letters[id] as number) ^ letters) > 2 * maxEdits) continue
      const edits = editDistance(word, this.term(id), maxEdits)
      if (edits > 0 && edits <= maxEdits) found.push({ id, edits })
    }
    return found
  }

  #grow(): void {
    const length = this.#heads.length * 2
    const [heads, letters, lengths] = [this.#heads, this.#letters, this.#lengths]
    this.#heads = new Uint32Array(length)
    this.#letters = new Uint32Array(length)
    this.#lengths = new Uint8Array(length)
    this.#heads.set(heads)
    this.#letters.set(letters)
    this.#lengths.set(lengths)
  }
}

function headOf(term: string): number {
  let code = 0
  for (let i = 0; i < codeLength; i++)
    code = (code << bitsPerLetter) | (i < term.length ? term.charCodeAt(i) & 31 : 0)
  return code
}

function lettersOf(term: string): number {
  let letters = 0
  for (let i = 0; i < term.length; i++) letters |= 1 << (term.charCodeAt(i) & 31)
  return letters >>> 0
}

/** After Warren, Hacker's Delight, 5-1. */
function countBits(value: number): number {
  let bits = value - ((value >>> 1) & 0x55555555)
  bits = (bits & 0x33333333) + ((bits >>> 2) & 0x33333333)
  return Math.imul((bits + (bits >>> 4)) & 0x0f0f0f0f, 0x01010101) >>> 24
}
