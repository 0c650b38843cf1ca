import { writeFileSync } from 'node:fs'
import { join } from 'node:path'
import fc from 'fast-check'
import { describe, expect, it } from 'vitest'
import { parseByteRate } from '../../src/config/byte-rate.ts'
import { loadConfig } from '../../src/config/config.ts'
import { temporaryDirectory } from '../temporary.ts'

function load(yaml: string, env: Record<string, string> = {}) {
  const home = temporaryDirectory('catalog-rate-')
  writeFileSync(join(home, 'config.yaml'), yaml)
  return loadConfig({ home, env }).bandwidth
}

describe('a rate in bytes per second', () => {
  it.each([
    ['10MiB', 10_485_760],
    ['10 MiB/s', 10_485_760],
    ['1.5MB', 1_500_000],
    ['500kB', 500_000],
    ['100Mbit', 12_500_000],
    ['1gbit/s', 125_000_000],
    ['2GiB', 2_147_483_648],
    ['65536', 65_536],
    ['65536 B', 65_536],
    ['0', 0],
  ])('%s is %d', (text, bytes) => expect(parseByteRate(text)).toBe(bytes))

  it.each([
    '',
    'MiB',
    '-1MiB',
    '10 MiBit',
    '10MiB/h',
    '1e6',
    '0x10',
    '10,5MB',
    'ten',
    '1 2MB',
    '1constructor',
    '10Mb',
  ])('%s is none', text => expect(parseByteRate(text)).toBeUndefined())

  it('is the same in any case and spacing', () => {
    const unit = fc.constantFrom('B', 'kB', 'MB', 'GB', 'KiB', 'MiB', 'GiB', 'kbit', 'Mbit', 'Gbit')
    fc.assert(
      fc.property(fc.nat(9999), unit, fc.constantFrom('', ' ', '  '), (count, name, space) => {
        const bytes = parseByteRate(`${count}${name}`)
        expect(bytes).toBeGreaterThanOrEqual(count / 8)
        expect(parseByteRate(` ${count}${space}${name.toUpperCase()}/s `)).toBe(bytes)
      }),
    )
  })
})

describe('the bandwidth settings', () => {
  it('are numbers or texts with units, from the file or from variables', () => {
    expect(
      load('bandwidth: { up: 10MiB, perPeerDown: 100000 }', { CATALOG_BANDWIDTH_DOWN: '100Mbit' }),
    ).toEqual({
      up: 10_485_760,
      down: 12_500_000,
      perPeerUp: 0,
      perPeerDown: 100_000,
    })
    expect(load('', { CATALOG_BANDWIDTH_PER_PEER_UP: '131072' }).perPeerUp).toBe(131_072)
  })

  it.each(['10', '1KiB', '-5', 'fast', '[1]', 'true', '.inf', '2000000GB'])('refuse %s', value =>
    expect(() => load(`bandwidth: { up: ${value} }`)).toThrow(
      expect.objectContaining({
        code: 'invalid-config',
        data: expect.objectContaining({
          problems: [
            expect.objectContaining({
              path: 'bandwidth.up',
              line: 1,
              message: expect.stringContaining('10MiB'),
            }),
          ],
        }),
      }),
    ),
  )
})
