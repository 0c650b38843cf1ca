// A manifest's text as a tree that knows where every key and value stands: what the three readers of this folder
// give. It judges structure that no format may have (too deep, too many, forbidden keys), not the manifest model.
import { manifestLimits } from '../manifest.ts'

/** `at`: offset in UTF-16 units of the source. */
export type SourceNode =
  | { readonly kind: 'scalar'; readonly at: number; readonly value: string | number | boolean | null }
  | { readonly kind: 'list'; readonly at: number; readonly items: SourceNode[] }
  | { readonly kind: 'map'; readonly at: number; readonly entries: Map<string, SourceEntry> }

export interface SourceEntry {
  readonly keyAt: number
  readonly node: SourceNode
}

export interface SourceProblem {
  readonly at: number
  readonly message: string
  readonly expected: string
  /** The key that it is about, and the map that it stands in. */
  readonly key?: { readonly name: string; readonly entries: ReadonlyMap<string, SourceEntry> }
}

export interface SourceTree {
  /** Absent when nothing could be read. */
  readonly root?: SourceNode
  readonly problems: readonly SourceProblem[]
  /** Where the text stops making sense: nothing at or after it was understood. */
  readonly brokenAt?: number
}

/** Thrown by a reader where it cannot go on. */
export class BrokenSource extends Error {
  readonly at: number
  readonly expected: string

  constructor(at: number, message: string, expected: string) {
    super(message)
    this.at = at
    this.expected = expected
  }
}

/** Counts what a source makes, so that no text can make more than the model allows. */
export class NodeBudget {
  #nodes = 0

  spend(at: number, depth: number, nodes = 1): void {
    this.#nodes += nodes
    if (this.#nodes > manifestLimits.maxNodes)
      throw new BrokenSource(
        at,
        `The manifest holds more than ${manifestLimits.maxNodes} keys and values.`,
        `at most ${manifestLimits.maxNodes}, aliases expanded`,
      )
    if (depth > manifestLimits.maxDepth)
      throw new BrokenSource(
        at,
        `The manifest is nested more than ${manifestLimits.maxDepth} deep.`,
        `at most ${manifestLimits.maxDepth} maps and lists inside one another`,
      )
  }

  get nodes(): number {
    return this.#nodes
  }
}

/** What is wrong with a key whatever the format; undefined when it may stand. */
export function keyProblem(
  key: string,
  at: number,
  entries: ReadonlyMap<string, SourceEntry>,
): SourceProblem | undefined {
  const shown = JSON.stringify(key.slice(0, 80))
  const place = { at, key: { name: key, entries } }
  if (key === '__proto__' || !key.isWellFormed())
    return { ...place, message: `${shown} cannot be a key.`, expected: 'a key of the manifest' }
  if (entries.has(key))
    return { ...place, message: `${shown} is given twice in one map.`, expected: 'each key once' }
  return undefined
}

/** What is wrong with a text whatever the format. */
export const textProblem = (text: string, at: number): SourceProblem | undefined =>
  text.isWellFormed()
    ? undefined
    : { at, message: 'The text holds half of a surrogate pair.', expected: 'valid Unicode' }

/** The plain value of a tree; the readers have bounded its size. */
export function plainValue(node: SourceNode): unknown {
  switch (node.kind) {
    case 'scalar':
      return Object.is(node.value, -0) ? 0 : node.value
    case 'list':
      return node.items.map(plainValue)
    case 'map':
      return Object.fromEntries([...node.entries].map(([key, entry]) => [key, plainValue(entry.node)]))
  }
}
