import { readFileSync } from 'node:fs'
import fc from 'fast-check'
import { stringify as stringifyToml } from 'smol-toml'
import { describe, expect, test } from 'vitest'
import { parse as parseYamlText } from 'yaml'
import { manifestLimits } from '../../src/assets/manifest.ts'
import {
  invalidManifestError,
  type ManifestFormat,
  manifestFormatOf,
  parseManifest,
} from '../../src/assets/parse-manifest.ts'
import { isCatalogError } from '../../src/base/errors.ts'
import { minimalManifest } from './package-trees.ts'

const parse = (text: string | Uint8Array, format: ManifestFormat = 'yaml') =>
  parseManifest(typeof text === 'string' ? new TextEncoder().encode(text) : text, format)

const placesOf = (text: string, format: ManifestFormat = 'yaml') =>
  parse(text, format).problems.map(({ path, line, column }) => `${path}@${line}:${column}`)

const examples = ['computational-asset', 'distributed-asset', 'gpu-asset']
const example = (name: string) => readFileSync(new URL(`../vectors/examples/${name}.yaml`, import.meta.url))

describe('the example manifests', () => {
  test.each(examples)('%s is accepted as it stands, and says the same as JSON and as TOML', name => {
    const bytes = example(name)
    const { manifest, problems, warnings } = parse(bytes)
    expect(problems).toEqual([])
    expect(warnings).toEqual([])
    const value = parseYamlText(bytes.toString()) as Record<string, unknown>
    expect(manifest).toMatchObject(value)
    expect(parse(JSON.stringify(value), 'json').manifest).toEqual(manifest)
    expect(parse(stringifyToml(value), 'toml').manifest).toEqual(manifest)
  })

  test('the manifest that shows every field is accepted, in all three formats', () => {
    const { manifest, problems, warnings } = parse(everyField)
    expect(problems).toEqual([])
    expect(manifest?.spec.execution.scheduling).toEqual({ at: '2026-12-01T00:00:00Z', every_seconds: 3600 })
    expect(warnings).toEqual([])
    const value = parseYamlText(everyField) as Record<string, unknown>
    expect(parse(JSON.stringify(value, null, 2), 'json').manifest).toEqual(manifest)
    const toml = stringifyToml(value)
    expect(parse(toml, 'toml').manifest).toEqual(manifest)
    // TOML has dates of its own: they mean what the text means.
    const dated = toml.replace('"2026-12-01T00:00:00Z"', '2026-12-01 00:00:00Z')
    expect(dated).not.toBe(toml)
    expect(parse(dated, 'toml').manifest).toEqual(manifest)
  })
})

const everyField = `apiVersion: "catalog.v1"
kind: "AssetPackage"
metadata: { name: "acme/word-count", version: "1.2.0-rc.1+b5", tags: ["text"] }
spec:
  description: "Counts words"
  type: "package"
  category: "data-processing"
  privacy: "public-network"
  resources: { cpu_cores: 0.5, cpu_architecture: "x86_64", gpu_memory_mb: 0, gpu_type: "CUDA",
               memory_mb: 2048, storage_mb: 1024, network_bandwidth_mbps: 100 }
  execution:
    cpu_required: true
    gpu_required: false
    persistent_storage: false
    distributed: false
    min_nodes: 1
    max_nodes: 1
    runtime: "python"
    entrypoint: "main.py"
    args: ["--fast"]
    env: { MODE: "plain" }
    outputs: "out"
    network: "none"
    julia: { packages: [], threads: 4, precompile: true, optimization_level: 2 }
    delegation_strategy: "auto"
    minimum_consensus: 1
    retry_policy: "on-loss"
    max_concurrent: 4
    priority: "normal"
    timeout_config: { queue_seconds: 60, run_seconds: 30, total_seconds: 120 }
    scheduling: { at: "2026-12-01T00:00:00Z", every_seconds: 3600 }
  security: { trustchain_validation: true, hypermesh_consensus: true, resource_isolation: true }
  binaries:
    - { path: "data/seed.bin", base64: "AAEC" }
  dependencies:
    - { name: "base-runtime", version: ">=1.0.0" }
`

describe('problems', () => {
  test('all of them are told at once, in the order of the source, with what would be right', () => {
    const text = `# a comment
apiVersion: catalog.v2
metadata:
  name: Word_Count
  version: 1.0
  name: x
spec:
  resurces: {cpu_cores: 1}
  memory_mb: 3
  execution:
    runtime: python
    min_nodes: 3
    max_nodes: 2
    env: {1A: x, B: 3}
  dependencies:
    - name: a
    - {name: a, version: ">=1"}
`
    expect(placesOf(text)).toEqual([
      'kind@2:1',
      'apiVersion@2:13',
      'metadata.name@4:9',
      'metadata.version@5:12',
      'metadata.name@6:3',
      'spec.description@7:1',
      'spec.resurces@8:3',
      'spec.memory_mb@9:3',
      'spec.execution.entrypoint@10:3',
      'spec.execution.min_nodes@12:16',
      'spec.execution.env.1A@14:15',
      'spec.execution.env.B@14:21',
      'spec.dependencies[0].version@16:7',
      'spec.dependencies[1].name@17:14',
    ])
    const expected = Object.fromEntries(parse(text).problems.map(problem => [problem.path, problem.expected]))
    expect(expected['spec.resurces']).toBe('resources')
    expect(expected['spec.memory_mb']).toBe('spec.resources.memory_mb or spec.execution.memory_mb')
    expect(expected['metadata.version']).toContain('in quotes')
  })

  const withSpec = (lines: string) => `${minimalManifest}${lines}`
  const cases: [string, string, string[]][] = [
    ['a missing section', 'apiVersion: catalog.v1\nkind: AssetPackage\n', ['metadata@1:1', 'spec@1:1']],
    ['a section that is a text', withSpec('  resources: much\n'), ['spec.resources@8:14']],
    ['a section that is empty', withSpec('  resources:\n'), ['spec.resources@8:3']],
    ['a list that is a text', withSpec('  dependencies: none\n'), ['spec.dependencies@8:17']],
    ['a wrong enum', withSpec('  type: tool\n'), ['spec.type@8:9']],
    ['a number out of range', withSpec('  execution: {min_nodes: 0}\n'), ['spec.execution.min_nodes@8:26']],
    ['a fraction of a node', withSpec('  execution: {max_nodes: 1.5}\n'), ['spec.execution.max_nodes@8:26']],
    ['no cores', withSpec('  resources: {cpu_cores: 0}\n'), ['spec.resources.cpu_cores@8:26']],
    ['an endless number', withSpec('  resources: {cpu_cores: 1e999}\n'), ['spec.resources.cpu_cores@8:26']],
    ['not a number', withSpec('  resources: {cpu_cores: .nan}\n'), ['spec.resources.cpu_cores@8:26']],
    [
      'a huge integer',
      withSpec('  resources: {memory_mb: 99999999999999999999}\n'),
      ['spec.resources.memory_mb@8:26'],
    ],
    [
      'flags that cannot be turned off',
      withSpec(
        '  security: {trustchain_validation: false, hypermesh_consensus: false, resource_isolation: false}\n',
      ),
      ['spec.security.trustchain_validation@8:37', 'spec.security.resource_isolation@8:92'],
    ],
    [
      'an entrypoint outside',
      withSpec('  execution: {runtime: wasm, entrypoint: ../x}\n'),
      ['spec.execution.entrypoint@8:42'],
    ],
    [
      'outputs that are absolute',
      withSpec('  execution: {outputs: /tmp}\n'),
      ['spec.execution.outputs@8:24'],
    ],
    [
      'reserved environment names',
      withSpec('  execution:\n    env:\n      CATALOG_SCRATCH: x\n'),
      ['spec.execution.env.CATALOG_SCRATCH@10:24'],
    ],
    [
      'base64 with spaces',
      withSpec('  binaries: [{path: a, base64: "AA EC"}]\n'),
      ['spec.binaries[0].base64@8:32'],
    ],
    [
      'base64 without padding',
      withSpec('  binaries: [{path: a, base64: AA}]\n'),
      ['spec.binaries[0].base64@8:32'],
    ],
    [
      'base64 with stray bits',
      withSpec('  binaries: [{path: a, base64: AB==}]\n'),
      ['spec.binaries[0].base64@8:32'],
    ],
    [
      'a binary twice, and one under another',
      withSpec(
        '  binaries:\n    - {path: a, base64: ""}\n    - {path: a, base64: ""}\n    - {path: a/b, base64: ""}\n',
      ),
      ['spec.binaries[1].path@10:14', 'spec.binaries[2].path@11:14'],
    ],
    [
      'a range that is none, and itself as a dependency',
      withSpec('  dependencies:\n    - {name: x, version: soon}\n    - {name: sample, version: "1"}\n'),
      ['spec.dependencies[0].version@9:26', 'spec.dependencies[1].name@10:14'],
    ],
    [
      'two architectures',
      withSpec('  resources: {cpu_architecture: x86_64}\n  execution: {cpu_architecture: aarch64}\n'),
      ['spec.execution.cpu_architecture@9:33'],
    ],
    [
      'a time without zone',
      withSpec('  execution: {scheduling: {at: "2026-12-01T00:00:00"}}\n'),
      ['spec.execution.scheduling.at@8:32'],
    ],
    ['nothing', '', ['@1:1']],
    ['only comments', '# nothing\n', ['@1:1']],
    ['a list', '- a\n', ['@1:1']],
    ['a merge key', withSpec('  resources: {<<: {cpu_cores: 1}}\n'), ['@8:15']],
    [
      'a prototype',
      withSpec('  resources: {__proto__: {cpu_cores: 1}}\n'),
      ['spec.resources.__proto__@8:15'],
    ],
    ['a custom tag', withSpec('  type: !env package\n'), ['@8:14']],
    ['a second document', `${minimalManifest}---\na: 1\n`, ['@8:1']],
    ['another YAML version', `%YAML 1.1\n---\n${minimalManifest}`, ['@1:1']],
    ['a key that is a list', withSpec('  ? [a]\n  : b\n'), ['@8:5']],
    ['an alias of nothing', withSpec('  tags: *x\n'), ['spec.tags@8:3', '@8:9']],
    ['a tab', 'apiVersion: catalog.v1\nmetadata:\n\tname: x\n', ['@3:1']],
    ['an open quote', 'apiVersion: catalog.v2\nmetadata:\n  name: "x\n', ['apiVersion@1:13', '@4:1']],
  ]
  test.each(cases)('%s', (_, text, places) => {
    expect(placesOf(text)).toEqual(places)
  })

  test('the same places in TOML', () => {
    const text = `apiVersion = "catalog.v1"
kind = "AssetPackage"
metadata.name = "x"
metadata.version = "1.0"
[spec]
description = ""
"quoted key" = 1
execution = { min_nodes = 3, max_nodes = 2 } # a comment
[[spec.dependencies]]
name = "a"
version = "^1"
[[spec.dependencies]]
name = "a"
versoin = """
^1"""
[spec.resources]
memory_mb = inf
`
    expect(placesOf(text, 'toml')).toEqual([
      'metadata.version@4:20',
      'spec.description@6:15',
      'spec["quoted key"]@7:1',
      'spec.execution.min_nodes@8:27',
      'spec.dependencies[1].version@12:8',
      'spec.dependencies[1].name@13:8',
      'spec.dependencies[1].versoin@14:1',
      'spec.resources.memory_mb@17:13',
    ])
  })

  test.each([
    ['a table twice', 'a = 1\n[b]\nc = 1\n[b]\n', 4],
    ['a key twice', '[b]\nc = 1\nc = 2\n', 3],
    ['no value', 'a = 1\nb =\n', 2],
    ['not closed', 'a = 1\nb = [1,\n', 3],
  ])('TOML: %s', (_, text, line) => {
    const { problems } = parse(text, 'toml')
    expect(problems.map(problem => problem.line)).toEqual([line])
  })

  test.each([
    ['a trailing comma', '{"kind": "x",\n "a": 1,\n}', ['kind@1:10', 'a@2:2', '@3:1']],
    ['a comment', '{"a": 1 // x\n}', ['a@1:2', '@1:9']],
    ['a single quote', "{'a': 1}", ['@1:2']],
    ['no end', '{"a": ', ['@1:7']],
    ['more behind', '{}{}', ['@1:3']],
    ['a leading zero', '{"a": 01}', ['a@1:2', '@1:8']],
    [
      'a duplicate',
      '{"apiVersion": "catalog.v1", "kind": "AssetPackage", "metadata": {"name":"a","version":"1.0.0","name":"b"},\n"spec": {"description": "x"}}',
      ['metadata.name@1:96'],
    ],
    [
      'a prototype',
      '{"apiVersion": "catalog.v1", "kind": "AssetPackage", "metadata": {"name":"a","version":"1.0.0"},\n"spec": {"description": "x", "__proto__": 1}}',
      ['spec.__proto__@2:30'],
    ],
    [
      'half a surrogate pair',
      '{"apiVersion": "catalog.v1", "kind": "AssetPackage", "metadata": {"name":"a","version":"1.0.0"},\n"spec": {"description": "\\ud800"}}',
      ['@2:25', 'spec.description@2:25'],
    ],
  ])('JSON: %s', (_, text, places) => {
    expect(placesOf(text, 'json')).toEqual(places)
  })

  test('bytes that are no text say where', () => {
    const bad = Buffer.concat([Buffer.from('a: \u00e9\ufffd\nb: x'), Buffer.from([0xff, 0x41])])
    expect(parse(bad).problems).toMatchObject([{ path: '', line: 2, column: 5 }])
    expect(parse('\ufeffapiVersion: x').problems).toMatchObject([{ line: 1, column: 1 }])
    expect(parse('a: b\nc: \u0007').problems).toMatchObject([{ line: 2, column: 4 }])
    expect(parse('a = "\u0000"', 'toml').problems).toMatchObject([{ line: 1, column: 6 }])
  })

  test('a key of any misspelling names the nearest known key', () => {
    const expected = (spec: string) => parse(`${minimalManifest}${spec}\n`).problems[0]?.expected
    expect(expected('  dependancies: []')).toBe('dependencies')
    expect(expected('  execution: {minNodes: 1}')).toBe('min_nodes')
    expect(expected('  execution: {ENTRYPOINT: a}')).toBe('entrypoint')
    expect(expected('  execution: {runtiem: wasm}')).toBe('runtime')
    expect(expected('  entrypoint: main.py')).toBe('spec.execution.entrypoint')
    expect(expected('  zzzzzz: 1')).toContain('description, type, category')
  })

  test('the error of a refused manifest carries every problem', () => {
    const { problems } = parse('spec: {}\n')
    const error = invalidManifestError(problems)
    expect(error.code).toBe('invalid-manifest')
    expect(error.toJSON()['problems']).toEqual(problems)
    expect(error.message).toMatch(/has 4 problems.*line 1/)
  })
})

test('a demand that is given twice, and differs, is a warning', () => {
  const spec = '  resources: {memory_mb: 10, cpu_cores: 2}\n  execution: {memory_mb: 20, cpu_cores: 2}\n'
  const { manifest, warnings } = parse(minimalManifest + spec)
  expect(manifest).toBeDefined()
  expect(warnings).toMatchObject([{ path: 'spec.execution.memory_mb', line: 9, column: 26 }])
})

test('formats are told by the extension', () => {
  expect(['a.yaml', 'a.yml', 'a.json', 'a.toml', 'a.txt', 'yaml'].map(manifestFormatOf)).toEqual([
    'yaml',
    'yaml',
    'json',
    'toml',
    undefined,
    undefined,
  ])
})

describe('hostile manifests end soon, in problems', () => {
  const mib = 1024 * 1024
  const fill = (text: string) => text.repeat(Math.floor((4 * mib) / text.length))
  const bomb = (levels: number) =>
    `a0: &a0 [x,x,x,x,x,x,x,x,x]\n${Array.from({ length: levels }, (_, i) => `a${i + 1}: &a${i + 1} [${Array(9).fill(`*a${i}`).join(',')}]`).join('\n')}\n`
  const cases: [string, ManifestFormat, string][] = [
    ['an alias bomb', 'yaml', bomb(9)],
    ['an alias within itself', 'yaml', 'a: &a [*a]\n'],
    ['very many aliases', 'yaml', `a: &a 1\nb: [${'*a,'.repeat(5000)}]\n`],
    ['deep flow lists', 'yaml', '['.repeat(4 * mib)],
    ['deep flow maps', 'yaml', '{a: '.repeat(mib)],
    ['deep block lists', 'yaml', '- '.repeat(2 * mib)],
    ['deep block maps', 'yaml', Array.from({ length: 2500 }, (_, i) => `${' '.repeat(i)}a:`).join('\n')],
    ['complex keys', 'yaml', '? '.repeat(2 * mib)],
    ['very many keys', 'yaml', Array.from({ length: 300_000 }, (_, i) => `k${i}: 1`).join('\n')],
    ['keys up to the limit', 'yaml', Array.from({ length: 19_000 }, (_, i) => `k${i}: 1`).join('\n')],
    ['very many list items', 'yaml', fill('- a\n')],
    ['comments', 'yaml', fill('#\n')],
    ['spaces', 'yaml', `a: b${fill(' ')}`],
    ['blank lines', 'yaml', `a: "${fill('\n')}"`],
    ['a long plain text', 'yaml', `a: ${fill('b ')}`],
    ['a long folded text', 'yaml', `a: >\n${fill('  b\n')}`],
    ['a long plain text of many lines', 'yaml', `a: b\n${fill('  b\n')}`],
    ['a long key', 'yaml', `${fill('b')}: 1`],
    ['colons', 'yaml', fill(':')],
    ['anchors', 'yaml', fill('&a ')],
    ['tags', 'yaml', fill('!a ')],
    ['documents', 'yaml', fill('---\n')],
    ['directives', 'yaml', fill('%A b\n')],
    ['percent escapes', 'yaml', `a: !${fill('%41')} b`],
    ['escapes', 'yaml', `a: "${fill('\\u0041')}"`],
    ['quotes', 'yaml', fill("'")],
    ['commas', 'yaml', `[${fill(',')}`],
    ['deep lists', 'json', '['.repeat(4 * mib)],
    ['deep maps', 'json', '{"a":'.repeat(mib / 2)],
    ['very many keys', 'json', `{${Array.from({ length: 200_000 }, (_, i) => `"k${i}":1`).join(',')}}`],
    ['very many zeros', 'json', `[${fill('0,')}`],
    ['one long number', 'json', `[${fill('1')}]`],
    ['an open text', 'json', `["${fill('\\"')}`],
    ['deep lists', 'toml', `a=${'['.repeat(4 * mib - 2)}`],
    ['deep inline tables', 'toml', `a=${'{a='.repeat(mib)}`],
    ['a long dotted key', 'toml', `${'a.'.repeat(2 * mib - 10)}a=1`],
    [
      'many dotted tables',
      'toml',
      Array.from({ length: 20_000 }, (_, i) => `[a${i}.${'b.'.repeat(60)}c]`).join('\n'),
    ],
    ['very many keys', 'toml', Array.from({ length: 300_000 }, (_, i) => `k${i}=1`).join('\n')],
    ['very many items', 'toml', `a=[${fill('1,')}`],
    ['an open text', 'toml', `a="${fill('\\"')}`],
    ['an open long text', 'toml', `a="""${fill('"" ')}`],
    ['comments', 'toml', fill('#\n')],
    ['garbage', 'toml', fill('= ')],
  ]
  test.each(cases)('%s (%s)', (_, format, text) => {
    const bytes = Buffer.from(text).subarray(0, manifestLimits.maxBytes)
    const started = performance.now()
    const before = process.memoryUsage().rss
    const { problems, manifest } = parse(bytes, format)
    expect(manifest).toBeUndefined()
    expect(problems.length).toBeGreaterThan(0)
    expect(problems.length).toBeLessThanOrEqual(manifestLimits.maxProblems)
    expect(JSON.stringify(problems).length).toBeLessThan(500 * 1024)
    expect(performance.now() - started).toBeLessThan(5000)
    expect(process.memoryUsage().rss - before).toBeLessThan(600 * mib)
  })

  test('what is over the limit is not even looked at', () => {
    expect(() => parse(new Uint8Array(manifestLimits.maxBytes + 1))).toThrow(
      expect.toSatisfy((error: unknown) => isCatalogError(error, 'too-large')),
    )
  })

  test('any text, and any damage to a good one, gives an answer', () => {
    const format = fc.constantFrom<ManifestFormat>('yaml', 'json', 'toml')
    const good = Buffer.from(everyField)
    const damaged = fc
      .array(
        fc.tuple(
          fc.nat(good.byteLength - 1),
          fc.constantFrom(...Buffer.from('{}[]:,-"\'#&*!|>%@`\n\t =.a0\\')),
        ),
        {
          minLength: 1,
          maxLength: 6,
        },
      )
      .map(edits => {
        const copy = Buffer.from(good)
        for (const [at, byte] of edits) copy[at] = byte
        return copy
      })
    const bytes = fc.oneof(
      fc.uint8Array({ maxLength: 200 }),
      fc.string({ unit: 'grapheme' }).map(text => Buffer.from(text)),
      damaged,
    )
    fc.assert(
      fc.property(bytes, format, (source, as) => {
        const { manifest, problems } = parse(source, as)
        expect(manifest === undefined).toBe(problems.length > 0)
        for (const problem of problems) {
          expect(problem.line).toBeGreaterThan(0)
          expect(problem.column).toBeGreaterThan(0)
          expect(problem.message).not.toBe('')
          expect(problem.expected).not.toBe('')
        }
      }),
      { numRuns: 1500 },
    )
  })

  test('the JSON reader refuses exactly what JSON.parse refuses', () => {
    const text = fc.oneof(
      fc.json(),
      fc.string({ unit: fc.constantFrom(...'{}[]:,"\\0123.eE+-truefalsn u \n'), maxLength: 12 }),
    )
    const accepts = (source: string) => {
      try {
        JSON.parse(source)
        return true
      } catch {
        return false
      }
    }
    fc.assert(
      fc.property(text, source => {
        const syntax = parse(source, 'json').problems.some(problem =>
          /JSON|closing quote/.test(problem.message),
        )
        if (source.trim() !== '') expect(!syntax).toBe(accepts(source))
      }),
      { numRuns: 2000 },
    )
  })
})
