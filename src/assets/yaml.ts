// YAML for what is no manifest (the config file): the manifest reader's tree, with its bounds, as plain data and
// positions. What the value means is the caller's business.
import { plainValue, type SourceNode } from './syntax/source-node.ts'
import { readYaml } from './syntax/yaml.ts'

/** Both count from 1. */
export interface YamlPosition {
  readonly line: number
  readonly column: number
}

export interface YamlResult {
  /** The document as plain data; undefined when there are problems, or nothing in it. */
  readonly value: unknown
  readonly problems: readonly (YamlPosition & { readonly message: string })[]
  /** Where the key or item at `path` stands; its nearest parent where it is absent. */
  positionOf(path: readonly (string | number)[]): YamlPosition
}

/** Never throws: everything that is wrong with the text is a problem with its position. The caller bounds its size. */
export function parseYaml(text: string): YamlResult {
  const { root, problems } = readYaml(text)
  return {
    value: problems.length > 0 || root === undefined ? undefined : plainValue(root),
    problems: problems.map(({ at, message, expected }) => ({
      ...positionAt(text, at),
      message: `${message} Expected: ${expected}.`,
    })),
    positionOf: path => positionAt(text, offsetOf(root, path)),
  }
}

function positionAt(text: string, offset: number): YamlPosition {
  const before = text.slice(0, offset)
  const lineStart = before.lastIndexOf('\n') + 1
  return { line: before.split('\n').length, column: offset - lineStart + 1 }
}

function offsetOf(root: SourceNode | undefined, path: readonly (string | number)[]): number {
  let node = root
  let offset = root?.at ?? 0
  for (const step of path) {
    const entry: { keyAt: number; node: SourceNode } | undefined =
      node?.kind === 'map' ? node.entries.get(String(step)) : undefined
    const item: SourceNode | undefined = node?.kind === 'list' ? node.items[Number(step)] : entry?.node
    if (item === undefined) break
    offset = entry?.keyAt ?? item.at
    node = item
  }
  return offset
}
