// Says where each key and value of a TOML text stands. It accepts more than TOML (smol-toml judges the syntax) and
// stops without a word at what it does not understand; what it reads is counted, so that it bounds the text for both.
import type { NodeBudget } from './source-node.ts'

/** The place of a value, and of what is in it. */
export interface Located {
  at: number
  readonly fields: Map<string, { readonly keyAt: number; readonly place: Located }>
  readonly items: Located[]
}

export function locateToml(source: string, budget: NodeBudget): Located {
  return new TomlLocator(source, budget).document()
}

interface Key {
  readonly name: string
  readonly at: number
}

const bareKey = /[A-Za-z0-9_-]+/y
const bareValue = /[^\s,\]}#]+(?: \d{2}:[0-9:.Zz+-]+)?/y
const blank = /[ \t]*/y
const blankLines = /(?:[ \t\r\n]|#[^\n]*)*/y
const restOfLine = /[^\n]*/y

class TomlLocator {
  readonly #source: string
  readonly #budget: NodeBudget
  #at = 0

  constructor(source: string, budget: NodeBudget) {
    this.#source = source
    this.#budget = budget
  }

  document(): Located {
    this.#skip(blankLines)
    const root = place(this.#at)
    let table = root
    while (this.#at < this.#source.length) {
      const start = this.#at
      if (this.#source[start] === '[') table = this.#header(root)
      else this.#pair(table, 1)
      this.#skip(restOfLine)
      this.#skip(blankLines)
      // Nothing was understood here; smol-toml says what is wrong.
      if (this.#at === start) break
    }
    return root
  }

  #header(root: Located): Located {
    const at = this.#at
    const many = this.#source.startsWith('[[', at)
    this.#at += many ? 2 : 1
    const keys = this.#keys()
    const last = keys.pop()
    if (last === undefined) return place(at)
    const parent = this.#descend(root, keys)
    const known = parent.fields.get(last.name)
    if (known === undefined || (!many && known.place.items.length === 0)) {
      const table = known?.place ?? place(last.at)
      table.at = last.at
      parent.fields.set(last.name, { keyAt: last.at, place: table })
      if (!many) return table
    }
    const list = parent.fields.get(last.name)?.place ?? place(last.at)
    const table = place(last.at)
    if (many) list.items.push(table)
    return table
  }

  /** The table that dotted keys lead to; the last element where one of them is an array of tables. */
  #descend(from: Located, keys: readonly Key[]): Located {
    return keys.reduce((table, key) => {
      const known = table.fields.get(key.name)
      if (known !== undefined) return known.place.items.at(-1) ?? known.place
      const created = place(key.at)
      table.fields.set(key.name, { keyAt: key.at, place: created })
      return created
    }, from)
  }

  #pair(table: Located, depth: number): boolean {
    const keys = this.#keys()
    const last = keys.pop()
    if (last === undefined || this.#source[this.#at] !== '=') return false
    this.#at += 1
    this.#skip(blank)
    const target = this.#descend(table, keys)
    const value = this.#value(depth + 1)
    if (!target.fields.has(last.name)) target.fields.set(last.name, { keyAt: last.at, place: value })
    return true
  }

  #keys(): Key[] {
    const keys: Key[] = []
    for (;;) {
      this.#skip(blank)
      const at = this.#at
      this.#budget.spend(at, keys.length)
      const name = this.#keyName()
      if (name === undefined) return keys
      keys.push({ name, at })
      this.#skip(blank)
      if (this.#source[this.#at] !== '.') return keys
      this.#at += 1
    }
  }

  #keyName(): string | undefined {
    const start = this.#at
    const quote = this.#source[start]
    if (quote !== '"' && quote !== "'") return this.#skip(bareKey) || undefined
    this.#string()
    const written = this.#source.slice(start, this.#at)
    if (quote === "'") return written.slice(1, -1)
    try {
      return JSON.parse(written) as string
    } catch {
      // An escape that only TOML knows: the key keeps its table's position.
      return written
    }
  }

  #value(depth: number): Located {
    const here = place(this.#at)
    this.#budget.spend(here.at, depth)
    const character = this.#source[here.at]
    if (character === '"' || character === "'") this.#string()
    else if (character === '[') this.#inside(']', () => here.items.push(this.#value(depth + 1)) > 0)
    else if (character === '{') this.#inside('}', () => this.#pair(here, depth))
    else this.#skip(bareValue)
    return here
  }

  #inside(close: string, item: () => boolean): void {
    this.#at += 1
    for (;;) {
      this.#skip(blankLines)
      if (this.#source[this.#at] === close) {
        this.#at += 1
        return
      }
      const start = this.#at
      if (!item() || this.#at === start) return
      this.#skip(blankLines)
      if (this.#source[this.#at] === ',') this.#at += 1
      else if (this.#source[this.#at] !== close) return
    }
  }

  #string(): void {
    const quote = this.#source[this.#at] ?? ''
    const long = this.#source.startsWith(quote.repeat(3), this.#at)
    const end = long ? quote.repeat(3) : quote
    let at = this.#at + end.length
    while (at < this.#source.length && !this.#source.startsWith(end, at)) {
      if (!long && this.#source[at] === '\n') break
      at += quote === '"' && this.#source[at] === '\\' ? 2 : 1
    }
    at += end.length
    // Up to two quotes may stand before the three that close.
    for (let extra = 0; long && extra < 2 && this.#source[at] === quote; extra++) at += 1
    this.#at = Math.min(at, this.#source.length)
  }

  #skip(pattern: RegExp): string {
    pattern.lastIndex = this.#at
    const found = pattern.exec(this.#source)?.[0] ?? ''
    this.#at += found.length
    return found
  }
}

const place = (at: number): Located => ({ at, fields: new Map(), items: [] })
