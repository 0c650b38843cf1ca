import fc from 'fast-check'
import { stringify as stringifyToml } from 'smol-toml'
import { describe, expect, test } from 'vitest'
import { stringify as stringifyYaml } from 'yaml'
import {
  categories,
  type Manifest,
  packageTypes,
  privacyLevels,
  runtimes,
} from '../../src/assets/manifest.ts'
import { manifestForRecord, parseManifest, validateManifestValue } from '../../src/assets/parse-manifest.ts'
import { decodeCbor, encodeCbor } from '../../src/base/cbor.ts'
import { isCatalogError } from '../../src/base/errors.ts'

const text = fc
  .string({ unit: 'grapheme', minLength: 1, maxLength: 12 })
  .filter(value => value.trim() !== '' && !value.includes('\0'))
const name = fc.stringMatching(/^[a-z0-9]{1,8}(?:-[a-z0-9]{1,4})?$/)
const optional = { requiredKeys: [] }
const whole = (min: number, max: number) => fc.integer({ min, max })
const cores = fc.double({ min: 0.01, max: 4096, noNaN: true })

const demand = {
  cpu_cores: cores,
  gpu_memory_mb: whole(0, 1000),
  memory_mb: whole(1, 100_000),
  storage_mb: whole(0, 1000),
}

const execution = fc
  .record(
    {
      ...demand,
      gpu_required: fc.boolean(),
      distributed: fc.boolean(),
      min_nodes: whole(1, 5),
      max_nodes: whole(5, 9),
      args: fc.array(text, { maxLength: 3 }),
      env: fc.dictionary(
        fc.stringMatching(/^[A-Za-z_][A-Za-z0-9_]{0,8}$/).filter(key => key !== '__proto__'),
        text,
        { maxKeys: 3 },
      ),
      outputs: name,
      network: fc.constantFrom('none', 'instances', 'service'),
      julia: fc.record(
        {
          packages: fc.array(text, { maxLength: 2 }),
          threads: whole(1, 8),
          precompile: fc.boolean(),
          optimization_level: whole(0, 3),
        },
        optional,
      ),
      priority: fc.constantFrom('low', 'normal', 'high'),
      timeout_config: fc.record(
        {
          queue_seconds: whole(0, 9),
          run_seconds: fc.double({ min: 0.01, max: 100, noNaN: true }),
          total_seconds: whole(1, 9),
        },
        optional,
      ),
      scheduling: fc.record(
        { at: fc.constant('2026-12-01T00:00:00+01:00'), every_seconds: whole(1, 99) },
        optional,
      ),
    },
    optional,
  )
  .chain(fields =>
    fc.oneof(
      fc.constant(fields),
      fc
        .record({ runtime: fc.constantFrom(...runtimes), entrypoint: name })
        .map(start => ({ ...fields, ...start })),
    ),
  )

/** Any manifest that an author may write. */
const authored = fc.record({
  apiVersion: fc.constant('catalog.v1'),
  kind: fc.constant('AssetPackage'),
  metadata: fc.record(
    {
      name: fc.tuple(name, name).map(([scope, rest]) => `${scope}/${rest}`),
      version: fc.constantFrom('0.0.1', '1.2.3-rc.1', '2.0.0+build.7'),
      tags: fc.array(text, { maxLength: 3 }),
    },
    { requiredKeys: ['name', 'version'] },
  ),
  spec: fc.record(
    {
      description: text,
      type: fc.constantFrom(...packageTypes),
      category: fc.constantFrom(...categories),
      privacy: fc.constantFrom(...privacyLevels),
      resources: fc.record({ ...demand, network_bandwidth_mbps: whole(0, 1000) }, optional),
      execution,
      security: fc.record(
        { trustchain_validation: fc.constant(true), hypermesh_consensus: fc.boolean() },
        optional,
      ),
      binaries: fc.uniqueArray(
        fc.record({
          path: name,
          base64: fc.uint8Array({ maxLength: 20 }).map(bytes => Buffer.from(bytes).toString('base64')),
        }),
        { selector: item => item.path, maxLength: 3 },
      ),
      dependencies: fc.uniqueArray(
        fc.record({ name, version: fc.constantFrom('>=1.0.0', '^2.1.0', '*', '1.x || 3') }),
        { selector: item => item.name, maxLength: 3 },
      ),
    },
    { requiredKeys: ['description'] },
  ),
})

const read = (source: string, format: 'yaml' | 'json' | 'toml'): Manifest => {
  const { manifest, problems } = parseManifest(Buffer.from(source), format)
  if (manifest === undefined) throw new Error(`${source}\n${JSON.stringify(problems, null, 1)}`)
  return manifest
}

describe('any manifest that may be written', () => {
  test('says the same in YAML, JSON and TOML', () => {
    fc.assert(
      fc.property(authored, value => {
        const manifest = read(JSON.stringify(value), 'json')
        expect(manifest).toMatchObject(value)
        expect(read(stringifyYaml(value), 'yaml')).toEqual(manifest)
        expect(
          read(stringifyYaml(value, { collectionStyle: 'flow', defaultStringType: 'QUOTE_DOUBLE' }), 'yaml'),
        ).toEqual(manifest)
        expect(read(stringifyToml(value), 'toml')).toEqual(manifest)
      }),
      { numRuns: 300 },
    )
  })

  test('comes out of a signed record as it went in, without its inline binaries', () => {
    fc.assert(
      fc.property(authored, value => {
        const manifest = read(JSON.stringify(value), 'json')
        const bytes = encodeCbor(manifestForRecord(manifest))
        const decoded = validateManifestValue(decodeCbor(bytes, 1024 * 1024, 'A manifest'))
        expect(decoded).toEqual({ ...manifest, spec: { ...manifest.spec, binaries: [] } })
        // What a node makes of a record is the record again.
        expect(encodeCbor(manifestForRecord(decoded))).toEqual(bytes)
      }),
      { numRuns: 300 },
    )
  })
})

test('a record whose manifest is none is refused', () => {
  const good = manifestForRecord(
    read(
      '{"apiVersion":"catalog.v1","kind":"AssetPackage","metadata":{"name":"a","version":"1.0.0"},"spec":{"description":"x"}}',
      'json',
    ),
  ) as Record<string, object>
  expect(() => validateManifestValue(good)).not.toThrow()
  const bad: unknown[] = [
    undefined,
    null,
    1,
    'x',
    [],
    new Uint8Array(3),
    {},
    { ...good, extra: 1 },
    { ...good, spec: { ...good['spec'], execution: { min_nodes: 2, max_nodes: 1 } } },
    { ...good, spec: { ...good['spec'], security: { resource_isolation: false } } },
    { ...good, metadata: { name: 'a', version: 'v1' } },
    { ...good, metadata: { ...good['metadata'], tags: [new Uint8Array(1)] } },
    { ...good, spec: { ...good['spec'], description: 'half \ud800' } },
  ]
  for (const value of bad)
    expect(() => validateManifestValue(value)).toThrow(
      expect.toSatisfy((error: unknown) => isCatalogError(error, 'bad-record')),
    )
})
