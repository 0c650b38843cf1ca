// The door to `smol-toml`: reads TOML 1.0 into a tree that knows its positions. The library gives values and judges
// syntax; toml-positions.ts, which reads the text first and within limits, says where each key and value stands.
import { parse, TomlDate, TomlError } from 'smol-toml'
import { manifestLimits } from '../manifest.ts'
import type { SourceEntry, SourceTree } from './source-node.ts'
import {
  BrokenSource,
  keyProblem,
  NodeBudget,
  type SourceNode,
  type SourceProblem,
  textProblem,
} from './source-node.ts'
import { type Located, locateToml } from './toml-positions.ts'

export function readToml(source: string): SourceTree {
  try {
    const located = locateToml(source, new NodeBudget())
    const value = parseToml(source)
    if (Object.keys(value).length === 0) return { problems: [] }
    const problems: SourceProblem[] = []
    const root = merge(value, located, { source, problems, budget: new NodeBudget() }, 1)
    return { root, problems }
  } catch (error) {
    if (!(error instanceof BrokenSource)) throw error
    const problem = { at: error.at, message: error.message, expected: error.expected }
    return { problems: [problem], brokenAt: error.at }
  }
}

function parseToml(source: string): Record<string, unknown> {
  try {
    return parse(source, { maxDepth: manifestLimits.maxDepth * 2 }) as Record<string, unknown>
  } catch (error) {
    if (!(error instanceof TomlError)) throw error
    const reason = error.message.replace(/^Invalid TOML document: /, '').split('\n', 1)[0] ?? ''
    const twice = /redefine/.test(reason)
    throw new BrokenSource(
      offsetOf(source, error.line, error.column),
      twice ? 'This key or table is given twice.' : `This is not TOML: ${reason.slice(0, 160)}.`,
      twice ? 'each key once' : 'valid TOML 1.0',
    )
  }
}

function offsetOf(source: string, line: number, column: number): number {
  let start = 0
  for (let passed = 1; passed < line; passed++) {
    const end = source.indexOf('\n', start)
    if (end === -1) break
    start = end + 1
  }
  return Math.min(start + column - 1, source.length)
}

interface Merging {
  readonly source: string
  readonly problems: SourceProblem[]
  readonly budget: NodeBudget
}

/** Values and positions become one tree; a value that has no position of its own stands where its parent does. */
function merge(value: unknown, place: Located, context: Merging, depth: number): SourceNode {
  const { at } = place
  context.budget.spend(at, depth)
  if (Array.isArray(value)) {
    const items = value.map((item, index) => merge(item, place.items[index] ?? leaf(at), context, depth + 1))
    return { kind: 'list', at, items }
  }
  if (value instanceof TomlDate) return { kind: 'scalar', at, value: dateText(value, at, context.source) }
  if (value !== null && typeof value === 'object') return mergeTable(value, place, context, depth)
  if (typeof value === 'string') {
    const problem = textProblem(value, at)
    if (problem !== undefined) context.problems.push(problem)
  }
  return { kind: 'scalar', at, value: value as string | number | boolean }
}

function mergeTable(value: object, place: Located, context: Merging, depth: number): SourceNode {
  const entries = new Map<string, SourceEntry>()
  for (const [key, item] of Object.entries(value)) {
    const field = place.fields.get(key)
    const keyAt = field?.keyAt ?? place.at
    const node = merge(item, field?.place ?? leaf(keyAt), context, depth + 1)
    const problem = keyProblem(key, keyAt, entries)
    if (problem === undefined) entries.set(key, { keyAt, node })
    else context.problems.push(problem)
  }
  return { kind: 'map', at: place.at, entries }
}

const leaf = (at: number): Located => ({ at, fields: new Map(), items: [] })

/** A date as it is written, so that a manifest says the same in all three formats. */
function dateText(date: TomlDate, at: number, source: string): string {
  const written = /^[0-9TtZz:.+-]+(?: [0-9:.Zz+-]+)?/.exec(source.slice(at, at + 64))?.[0]
  return written === undefined ? date.toISOString() : written.replace(/[ t]/, 'T').replace('z', 'Z')
}
