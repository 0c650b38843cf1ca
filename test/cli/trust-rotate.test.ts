// `catalog trust rotate root` from the shell: keys and proposals in real files, against a socket with a real trust
// chain behind it.
import { mkdirSync, readFileSync, statSync, writeFileSync } from 'node:fs'
import { join } from 'node:path'
import { afterAll, beforeAll, describe, expect, it } from 'vitest'
import { readPassphrase } from '../../src/config/passphrase.ts'
import { createRootsApi } from '../../src/roots-api.ts'
import type { KeySecret } from '../../src/trust/key-encryption.ts'
import { KeyFile } from '../../src/trust/key-file.ts'
import { savePublisherKeys } from '../../src/trust/keys.ts'
import type { TrustChain } from '../../src/trust/trust-chain.ts'
import { MemoryNode } from '../control/memory-node.ts'
import { authority, type Holder, idOf, newTrustChain, revocations, signers } from '../trust/test-network.ts'
import { openShell, type Shell } from './shell.ts'

let shell: Shell
let trust: TrustChain
let carried: string

beforeAll(async () => {
  trust = await newTrustChain()
  const top = await authority()
  carried = top.fingerprint
  await trust.accept((await revocations(top, [top])).bytes)
  shell = await openShell(Object.assign(new MemoryNode(), { roots: createRootsApi(trust) }))
  writeFileSync(join(shell.home, 'passphrase'), 'correct horse\n', { mode: 0o600 })
  const secret = await readPassphrase(join(shell.home, 'passphrase'), '--passphrase-file')
  // Each holder has a medium of his own; the second one's is encrypted.
  for (const [holder, protection] of [
    ['root-1', undefined],
    ['root-2', secret],
    ['root-3', undefined],
    ['stranger', undefined],
  ] as const)
    await keep(holder, protection)
})
afterAll(() => shell.close())

async function keep(holder: Holder, protection: KeySecret | undefined): Promise<void> {
  mkdirSync(join(shell.home, holder))
  const none = { find: () => Promise.reject(new Error('not read')) }
  const file = new KeyFile({ secrets: none }, { path: join(shell.home, holder, 'root.key'), holds: 'root' })
  await savePublisherKeys(file, signers[holder].keys, protection)
}

const rotate = (...args: string[]) => shell.run(['trust', 'rotate', 'root', ...args])

describe('catalog trust rotate root', () => {
  it('makes the next root from key to publication, one old key lost', { timeout: 120_000 }, async () => {
    const made = await rotate('--make-key', 'new.key', '--passphrase-file', 'passphrase', '--json')
    expect(made.code).toBe(0)
    const { key, publicKeys } = JSON.parse(made.stdout) as { key: string; publicKeys: string }
    expect(publicKeys).toBe(join(shell.home, 'new.key.pub'))
    expect(statSync(join(shell.home, 'new.key')).mode & 0o777).toBe(0o600)
    // Never over one that is there.
    expect(await rotate('--make-key', 'new.key', '--json')).toMatchObject({ code: 6 })

    const proposed = await rotate(
      '--propose',
      'next.root',
      '--add-key',
      'new.key.pub',
      '--remove',
      idOf('root-1'),
    )
    expect(proposed.stderr).toBe('')
    expect(proposed.stdout).toContain('version 2 of golden')
    expect(proposed.stdout).toContain(key)
    expect(proposed.stdout).toContain(carried)
    expect(proposed.stdout).toContain('2 signatures by keys of the root before it and 2 by its own')
    expect(await rotate('--propose', 'next.root')).toMatchObject({ code: 6 })

    // Nobody believes it yet.
    const early = await rotate('--publish', 'next.root', '--json')
    expect(JSON.parse(early.stderr)).toMatchObject({ error: { code: 'root-threshold' } })

    const encrypted = await rotate('--sign', 'next.root', '--root-keys', 'root-2', '--json')
    expect(JSON.parse(encrypted.stderr)).toMatchObject({ error: { code: 'passphrase-needed' } })
    const second = await rotate(
      '--sign',
      'next.root',
      '--root-keys',
      'root-2',
      '--passphrase-file',
      'passphrase',
      '--json',
    )
    expect(JSON.parse(second.stdout)).toMatchObject({ signed: [idOf('root-2')], missing: { old: 1, new: 1 } })
    const stranger = await rotate('--sign', 'next.root', '--root-keys', 'stranger', '--json')
    expect(JSON.parse(stranger.stderr)).toMatchObject({ error: { code: 'invalid-request' } })
    const third = await rotate('--sign', 'next.root', '--root-keys', 'root-3')
    expect(third.stdout).toContain('All signatures are there')

    const published = await rotate('--publish', 'next.root', '--json')
    expect(JSON.parse(published.stdout)).toEqual({ outcome: 'added', version: 2 })
    expect(trust.root).toMatchObject({ version: 2, carried: [carried] })
    expect((await rotate('--publish', 'next.root')).stdout).toContain('already')
  })

  it('says what is wrong', async () => {
    const text = readFileSync(join(shell.home, 'next.root'), 'utf8')
    writeFileSync(
      join(shell.home, 'bent.root'),
      text.replace(/\n(.)/, (_, first) => `\n${first === 'A' ? 'B' : 'A'}`),
    )
    const codeOf = async (...args: string[]) =>
      JSON.parse((await rotate(...args, '--json')).stderr).error.code
    expect(await codeOf()).toBe('invalid-request')
    expect(await codeOf('--sign', 'a', '--publish', 'b')).toBe('invalid-request')
    expect(await codeOf('--sign', 'missing.root', '--root-keys', 'root-2')).toBe('no-such-path')
    expect(await codeOf('--sign', 'bent.root', '--root-keys', 'root-2')).toBe('certificate-malformed')
    expect(await codeOf('--sign', 'next.root', '--root-keys', 'nowhere')).toBe('invalid-request')
    expect(await codeOf('--propose', 'other.root', '--threshold', '9')).toBe('invalid-request')
    expect(await codeOf('--propose', 'other.root', '--add-key', 'passphrase')).toBe('certificate-malformed')
  })
})
