// Reads JSON (RFC 8259, strictly) into a tree that knows its positions. JSON.parse knows none, and takes the last
// of two equal keys without a word.

import type { SourceEntry, SourceTree } from './source-node.ts'
import {
  BrokenSource,
  keyProblem,
  NodeBudget,
  type SourceNode,
  type SourceProblem,
  textProblem,
} from './source-node.ts'

export function readJson(source: string): SourceTree {
  const reader = new JsonReader(source)
  try {
    reader.document()
  } catch (error) {
    if (!(error instanceof BrokenSource)) throw error
    const problem = { at: error.at, message: error.message, expected: error.expected }
    return { ...reader.tree(), problems: [...reader.problems, problem], brokenAt: error.at }
  }
  return { ...reader.tree(), problems: reader.problems }
}

const numberPattern = /-?(?:0|[1-9]\d*)(?:\.\d+)?(?:[eE][+-]?\d+)?/y
const wordPattern = /[^\s,:[\]{}"]{1,40}/y
const literals = new Map<string, boolean | null>([
  ['true', true],
  ['false', false],
  ['null', null],
])

class JsonReader {
  readonly problems: SourceProblem[] = []
  readonly #source: string
  readonly #budget = new NodeBudget()
  #at = 0
  #root: SourceNode | undefined

  constructor(source: string) {
    this.#source = source
  }

  tree(): { root?: SourceNode } {
    return this.#root === undefined ? {} : { root: this.#root }
  }

  document(): void {
    this.#space()
    if (this.#at === this.#source.length) return
    this.#value(1, node => {
      this.#root = node
    })
    this.#space()
    if (this.#at < this.#source.length) throw this.#unexpected('nothing after the closing bracket')
  }

  /** `place` gets a container before it is filled, so that what was read before an error is kept. */
  #value(depth: number, place: (node: SourceNode) => void): void {
    const at = this.#at
    this.#budget.spend(at, depth)
    const character = this.#source[at]
    if (character === '{') {
      const entries = new Map<string, SourceEntry>()
      place({ kind: 'map', at, entries })
      this.#sequence('}', () => this.#entry(depth, entries))
    } else if (character === '[') {
      const items: SourceNode[] = []
      place({ kind: 'list', at, items })
      this.#sequence(']', () => this.#value(depth + 1, node => items.push(node)))
    } else place({ kind: 'scalar', at, value: this.#scalar() })
  }

  #sequence(close: string, item: () => void): void {
    this.#at += 1
    this.#space()
    if (this.#take(close)) return
    for (;;) {
      item()
      this.#space()
      if (this.#take(close)) return
      if (!this.#take(',')) throw this.#unexpected(`"," or "${close}"`)
      this.#space()
      if (this.#source[this.#at] === close) throw this.#unexpected('no comma before a closing bracket')
    }
  }

  #entry(depth: number, entries: Map<string, SourceEntry>): void {
    const keyAt = this.#at
    if (this.#source[keyAt] !== '"') throw this.#unexpected('a key in double quotes')
    const key = this.#string()
    const problem = keyProblem(key, keyAt, entries)
    if (problem !== undefined) this.problems.push(problem)
    this.#space()
    if (!this.#take(':')) throw this.#unexpected('":" after the key')
    this.#space()
    this.#value(depth + 1, node => {
      if (problem === undefined) entries.set(key, { keyAt, node })
    })
  }

  #scalar(): string | number | boolean | null {
    const at = this.#at
    if (this.#source[at] === '"') {
      const text = this.#string()
      const problem = textProblem(text, at)
      if (problem !== undefined) this.problems.push(problem)
      return text
    }
    const word = this.#match(wordPattern)
    const literal = literals.get(word)
    if (literal !== undefined) {
      this.#at += word.length
      return literal
    }
    const digits = this.#match(numberPattern)
    if (digits === '') throw this.#unexpected('a value in JSON')
    this.#at += digits.length
    return Number(digits)
  }

  #string(): string {
    const start = this.#at
    for (let end = start + 1; end < this.#source.length; end++) {
      const character = this.#source[end]
      if (character === '\\') end += 1
      else if (character === '\n') break
      else if (character === '"') {
        this.#at = end + 1
        return this.#decode(start, end + 1)
      }
    }
    throw new BrokenSource(start, 'The text has no closing quote.', 'a closing double quote in the same line')
  }

  #decode(start: number, end: number): string {
    try {
      return JSON.parse(this.#source.slice(start, end)) as string
    } catch {
      throw new BrokenSource(
        start,
        'The text holds an escape or a character that JSON does not allow.',
        'one of \\" \\\\ \\/ \\b \\f \\n \\r \\t \\uXXXX',
      )
    }
  }

  #match(pattern: RegExp): string {
    pattern.lastIndex = this.#at
    return pattern.exec(this.#source)?.[0] ?? ''
  }

  #take(character: string): boolean {
    if (this.#source[this.#at] !== character) return false
    this.#at += 1
    return true
  }

  #space(): void {
    while (' \t\n\r'.includes(this.#source[this.#at] ?? 'x')) this.#at += 1
  }

  #unexpected(expected: string): BrokenSource {
    const word = this.#match(wordPattern) || this.#source[this.#at]
    const found = word === undefined ? 'The text ends too early.' : `Unexpected ${JSON.stringify(word)}.`
    return new BrokenSource(this.#at, `This is not JSON. ${found}`, expected)
  }
}
