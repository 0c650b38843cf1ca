import { readFileSync, writeFileSync } from 'node:fs'
import { join } from 'node:path'
import fc from 'fast-check'
import { describe, expect, it } from 'vitest'
import { parseYaml } from '../../src/assets/yaml.ts'
import { CatalogError } from '../../src/base/errors.ts'
import { type ConfigFlags, defaultConfig, loadConfig } from '../../src/config/config.ts'
import { variableKinds, variableName } from '../../src/config/environment.ts'
import { temporaryDirectory } from '../temporary.ts'

function load(yaml: string | undefined, env: Record<string, string> = {}, flags: ConfigFlags = {}) {
  const home = temporaryDirectory('catalog-config-')
  if (yaml !== undefined) writeFileSync(join(home, 'config.yaml'), yaml)
  return loadConfig({ home, env, flags })
}

function refusal(attempt: () => unknown): CatalogError {
  try {
    attempt()
  } catch (error) {
    if (error instanceof CatalogError) return error
    throw error
  }
  throw new Error('it was accepted')
}

describe('settings', () => {
  it('are the defaults in an empty home, and in one with an empty file', () => {
    expect(load(undefined)).toEqual(defaultConfig)
    expect(load('')).toEqual(defaultConfig)
    expect(load('# nothing yet\nexecution:\n')).toEqual(defaultConfig)
  })

  it('are documented in config/catalog.yaml with exactly their defaults', () => {
    const text = readFileSync(new URL('../../config/catalog.yaml', import.meta.url), 'utf8')
    expect(parseYaml(text).value).toEqual(defaultConfig)
    expect(load(text)).toEqual(defaultConfig)
    for (const key of Object.keys(variableKinds)) expect(text).toContain(key.split('.').at(-1))
  })

  it('come from flags before variables before the file before defaults', () => {
    const file =
      'log: { level: error }\nexecution: { maxQueued: 7 }\nmdns: true\nlisten: [/ip4/1.1.1.1/tcp/1]'
    const env = { CATALOG_LOG_LEVEL: 'warn', CATALOG_LISTEN: '/ip4/2.2.2.2/tcp/2,/ip4/3.3.3.3/tcp/3' }
    expect(load(file).log.level).toBe('error')
    expect(load(file, env).log.level).toBe('warn')
    const config = load(file, env, { logLevel: 'debug', listen: ['/ip4/4.4.4.4/tcp/4'] })
    expect(config.log.level).toBe('debug')
    expect(config.listen).toEqual(['/ip4/4.4.4.4/tcp/4'])
    expect(config.mdns).toBe(true)
    expect(config.execution).toEqual({ ...defaultConfig.execution, maxQueued: 7 })
    expect(load(file, env).listen).toEqual(['/ip4/2.2.2.2/tcp/2', '/ip4/3.3.3.3/tcp/3'])
  })

  it('--bootstrap adds to the configured nodes', () => {
    const config = load('bootstrap: [/ip4/1.1.1.1/tcp/1]', {}, { bootstrap: ['/ip4/2.2.2.2/tcp/2'] })
    expect(config.bootstrap).toEqual(['/ip4/1.1.1.1/tcp/1', '/ip4/2.2.2.2/tcp/2'])
  })

  it('bootstrap nodes are multiaddrs or names, DNS servers addresses', () => {
    const names = ['catalog.example.org', '/dnsaddr/catalog.example.org']
    const env = { CATALOG_BOOTSTRAP: names.join(), CATALOG_DNS_SERVERS: '192.0.2.53,[2001:db8::53]:5353' }
    const config = load(undefined, env, { bootstrap: ['other.example'] })
    expect(config.bootstrap).toEqual([...names, 'other.example'])
    expect(config.dns.servers).toEqual(['192.0.2.53', '[2001:db8::53]:5353'])
    for (const entry of ['192.0.2.10:4414', 'localhost', '/dnsaddr/localhost', 'a b.org', '12D3KooWmc'])
      expect(refusal(() => load(undefined, {}, { bootstrap: [entry] })).message, entry).toContain('or a name')
    expect(refusal(() => load('dns: { servers: [dns.example] }')).message).toContain('192.0.2.53')
  })

  it('cannot be changed once loaded', () => {
    const config = load('publishers: { pins: { acme/x: abc } }') as {
      execution: { ceiling: { processes: number } }
    }
    expect(() => {
      config.execution.ceiling.processes = 1
    }).toThrow(TypeError)
  })

  it('an unknown key is refused with its path, its place and the key that was meant', () => {
    const error = refusal(() => load('execution:\n  ceiling:\n    runSecond: 5\nnetwrk: x\n'))
    expect(error.code).toBe('invalid-config')
    expect(error.data['problems']).toEqual([
      {
        path: 'execution.ceiling.runSecond',
        line: 3,
        column: 5,
        message: expect.stringContaining('runSeconds'),
      },
      { path: 'netwrk', line: 4, column: 1, message: expect.stringContaining('network') },
    ])
    expect(error.message).toContain('config.yaml')
  })

  it.each([
    ['listen: 5', 'listen'],
    ['listen: [not-a-multiaddr]', 'listen.0'],
    ['sync: { intervalSeconds: 0 }', 'sync.intervalSeconds'],
    ['execution: { ceiling: { cpuCores: -1 } }', 'execution.ceiling.cpuCores'],
    ['publishers: { pins: { "No Name": x } }', 'publishers.pins.No Name'],
    ['log: { level: loud }', 'log.level'],
  ])('%s is refused', (yaml, path) => {
    const { data } = refusal(() => load(yaml))
    expect(data['problems']).toEqual([expect.objectContaining({ path, line: 1 })])
  })

  it.each([
    'a: [',
    '- 1',
    'just text',
    'a: &a [1]\nb: *c',
    `x: ${'['.repeat(50_000)}`,
    'mdns: true\nmdns: false',
  ])('text that is no map of settings is refused: %.20s', yaml =>
    expect(refusal(() => load(yaml)).code).toBe('invalid-config'),
  )

  it('a file of a size that no settings have is refused unread', () => {
    expect(refusal(() => load(`#${'x'.repeat(300_000)}`)).message).toContain('at most')
  })

  it('aliases that multiply are refused', () => {
    const levels = Array.from({ length: 12 }, (_, i) => `l${i + 1}: &l${i + 1} [${`*l${i},`.repeat(9)}]`)
    expect(refusal(() => load(`l0: &l0 [x]\n${levels.join('\n')}`)).code).toBe('invalid-config')
  })

  it('a mistyped variable is refused, a foreign one left alone', () => {
    expect(refusal(() => load('', { CATALOG_LISTN: 'x' })).message).toContain('CATALOG_LISTEN')
    expect(load('', { CATALOG_TEST_SOMETHING: 'x', CATALOG_HOME: '/x' })).toEqual(defaultConfig)
    expect(refusal(() => load('', { CATALOG_MDNS: 'yes please' })).code).toBe('invalid-config')
    expect(refusal(() => load('', { CATALOG_EXECUTION_MAX_QUEUED: '0x10' })).code).toBe('invalid-config')
    expect(load('', { CATALOG_PUBLISHERS_PINS: 'acme/x=abc' }).publishers.pins).toEqual({ 'acme/x': 'abc' })
  })

  it('every number has a variable that sets exactly it', () => {
    const numbers = Object.entries(variableKinds).filter(([, kind]) => kind === 'number')
    fc.assert(
      fc.property(fc.constantFrom(...numbers), fc.integer({ min: 1, max: 16 }), ([path], value) => {
        const config = load(undefined, { [variableName(path)]: String(value) }) as unknown
        const found = path.split('.').reduce((part, key) => (part as Record<string, unknown>)[key], config)
        expect(found).toBe(value)
      }),
      { numRuns: 40 },
    )
  })
})
