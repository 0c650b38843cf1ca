// The door to `yaml`: reads one YAML 1.2 document (core schema) into a tree that knows its positions. Aliases are
// followed within a budget; merge keys, custom tags, other versions and further documents are problems.

import type { ParsedNode, YAMLMap, YAMLSeq, YAMLWarning } from 'yaml'
import { Composer, type Document, isAlias, isMap, isScalar, isSeq, Lexer, Parser } from 'yaml'
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

export function readYaml(source: string): SourceTree {
  const problems: SourceProblem[] = []
  try {
    const documents = compose(source)
    const [document] = documents
    if (document === undefined) return { problems }
    problems.push(...documentProblems(documents))
    const brokenAt = problems.length === 0 ? undefined : Math.min(...problems.map(problem => problem.at))
    const found: SourceProblem[] = []
    const root = new TreeBuilder(found).build(document)
    // Behind a syntax error the tree is a guess.
    problems.push(...found.filter(problem => problem.at < (brokenAt ?? Number.POSITIVE_INFINITY)))
    return { ...(root && { root }), problems, ...(brokenAt !== undefined && { brokenAt }) }
  } catch (error) {
    if (!(error instanceof BrokenSource)) throw error
    problems.push({ at: error.at, message: error.message, expected: error.expected })
    return { problems, brokenAt: 0 }
  }
}

/** Tokens are counted, and nesting measured, before anything is built of them: the composer is recursive. */
function compose(source: string): Document.Parsed[] {
  const parser = new Parser()
  const composer = new Composer({ version: '1.2', schema: 'core', uniqueKeys: false, prettyErrors: false })
  const documents: Document.Parsed[] = []
  let tokens = 0
  // Each level is a map or list, and an entry in it.
  const maxStack = 4 * manifestLimits.maxDepth
  for (const lexeme of new Lexer().lex(source)) {
    tokens += 1
    if (tokens > manifestLimits.maxTokens)
      throw new BrokenSource(
        parser.offset,
        `The manifest holds more than ${manifestLimits.maxTokens} YAML tokens.`,
        'a smaller manifest',
      )
    for (const token of parser.next(lexeme)) documents.push(...composer.next(token))
    if (parser.stack.length > maxStack)
      throw new BrokenSource(
        parser.offset,
        `The manifest is nested more than ${manifestLimits.maxDepth} deep.`,
        `at most ${manifestLimits.maxDepth} maps and lists inside one another`,
      )
    if (documents.length > 2) break
  }
  for (const token of parser.end()) documents.push(...composer.next(token))
  documents.push(...(composer.end(true, source.length) as Generator<Document.Parsed>))
  return documents
}

function documentProblems(documents: readonly Document.Parsed[]): SourceProblem[] {
  const [document, second] = documents
  if (document === undefined) return []
  const problems = [...document.errors, ...document.warnings.filter(isNoTag)].map(error => ({
    at: error.pos[0],
    message: `This is not YAML that a manifest may hold. ${firstLine(error.message)}`,
    expected: expectedByCode[error.code] ?? 'valid YAML 1.2',
  }))
  if (second !== undefined)
    problems.push({
      at: second.range[0],
      message: 'A second document begins here.',
      expected: 'one YAML document',
    })
  if (document.directives.yaml.explicit && document.directives.yaml.version !== '1.2')
    problems.push({
      at: 0,
      message: 'The manifest asks for another YAML version.',
      expected: '%YAML 1.2, or nothing',
    })
  return problems
}

/** Tags are judged where the tree is built: the library only warns of some, and takes others. */
const isNoTag = (warning: YAMLWarning) => warning.code !== 'TAG_RESOLVE_FAILED'

const expectedByCode: Readonly<Record<string, string>> = {
  TAB_AS_INDENT: 'spaces for indentation',
  BAD_INDENT: 'keys of one map in one column',
  TAG_RESOLVE_FAILED: 'a value without a tag',
  BLOCK_AS_IMPLICIT_KEY: 'one key and its value in a line, or quotes around a text with ": "',
  MISSING_CHAR: 'the missing quote, bracket, comma or colon',
  MULTILINE_IMPLICIT_KEY: '":" after the key, in the same line',
}

function firstLine(message: string): string {
  const line = message.split('\n', 1)[0] ?? ''
  return line.length > 160 ? `${line.slice(0, 160)}…` : line
}

const plainTags = /^tag:yaml\.org,2002:(?:str|int|float|bool|null|map|seq)$/

class TreeBuilder {
  readonly #problems: SourceProblem[]
  readonly #budget = new NodeBudget()
  /** What each anchor stands for so far; undefined while its own node is being read. */
  readonly #anchors = new Map<string, { node: SourceNode; nodes: number } | undefined>()
  #aliases = 0

  constructor(problems: SourceProblem[]) {
    this.#problems = problems
  }

  build(document: Document.Parsed): SourceNode | undefined {
    const contents = document.contents
    if (contents === null || (isScalar(contents) && contents.value === null)) return undefined
    return this.#node(contents, contents.range[0], 1)
  }

  #node(node: ParsedNode | null, keyAt: number, depth: number): SourceNode {
    const at = node === null || isEmpty(node) ? keyAt : node.range[0]
    this.#budget.spend(at, depth)
    if (node === null) return { kind: 'scalar', at, value: null }
    if (isAlias(node)) return this.#alias(node.source, at)
    if (node.tag !== undefined && !plainTags.test(node.tag))
      this.#problem(
        at,
        `The tag ${JSON.stringify(node.tag.slice(0, 80))} is not allowed.`,
        'a value without a tag',
      )
    const before = this.#budget.nodes
    const { anchor } = node
    if (anchor !== undefined) this.#anchors.set(anchor, undefined)
    const built = this.#content(node, at, depth)
    if (anchor !== undefined) this.#anchors.set(anchor, { node: built, nodes: this.#budget.nodes - before })
    return built
  }

  #content(
    node: Exclude<ParsedNode, { source: string; value?: never }>,
    at: number,
    depth: number,
  ): SourceNode {
    if (isMap(node)) return this.#map(node as YAMLMap.Parsed, at, depth)
    if (isSeq(node)) return this.#list(node as YAMLSeq.Parsed, at, depth)
    const value: unknown = isScalar(node) ? node.value : null
    if (typeof value === 'string') this.#push(textProblem(value, at))
    else if (typeof value !== 'number' && typeof value !== 'boolean' && value !== null) {
      this.#problem(
        at,
        'This value has a type that a manifest cannot hold.',
        'a text, a number, true or false',
      )
      return { kind: 'scalar', at, value: null }
    }
    return { kind: 'scalar', at, value }
  }

  #list(node: YAMLSeq.Parsed, at: number, depth: number): SourceNode {
    const items = node.items.map(item => this.#node(item as ParsedNode, at, depth + 1))
    return { kind: 'list', at, items }
  }

  #map(node: YAMLMap.Parsed, at: number, depth: number): SourceNode {
    const entries = new Map<string, SourceEntry>()
    for (const pair of node.items) {
      const key = pair.key as ParsedNode | null
      const keyAt = key?.range[0] ?? at
      const built = this.#node(pair.value as ParsedNode | null, keyAt, depth + 1)
      if (!isScalar(key) || key.value === null) {
        this.#problem(keyAt, 'This key is not a plain word.', 'a key of the manifest')
        continue
      }
      const name = typeof key.value === 'string' ? key.value : String(key.source)
      if (name === '<<') {
        this.#problem(keyAt, 'Merge keys are not part of YAML 1.2.', 'the merged fields themselves')
        continue
      }
      const problem = keyProblem(name, keyAt, entries)
      if (problem === undefined) entries.set(name, { keyAt, node: built })
      else this.#problems.push(problem)
    }
    return { kind: 'map', at, entries }
  }

  #alias(name: string, at: number): SourceNode {
    this.#aliases += 1
    if (this.#aliases > manifestLimits.maxAliases)
      throw new BrokenSource(
        at,
        `The manifest holds more than ${manifestLimits.maxAliases} aliases.`,
        `at most ${manifestLimits.maxAliases}`,
      )
    const target = this.#anchors.get(name)
    if (target === undefined) {
      const why = this.#anchors.has(name) ? 'stands inside what it names' : 'names no anchor above it'
      this.#problem(at, `The alias *${name.slice(0, 80)} ${why}.`, 'the value itself')
      return { kind: 'scalar', at, value: null }
    }
    // The bomb is defused here: an alias costs as many nodes as it stands for.
    this.#budget.spend(at, 0, target.nodes)
    return target.node
  }

  #problem(at: number, message: string, expected: string): void {
    this.#problems.push({ at, message, expected })
  }

  #push(problem: SourceProblem | undefined): void {
    if (problem !== undefined) this.#problems.push(problem)
  }
}

/** `key:` with nothing behind it: the place to point at is the key. */
const isEmpty = (node: ParsedNode): boolean => isScalar(node) && node.range[0] === node.range[1]
