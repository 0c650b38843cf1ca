import { chmodSync, chownSync, mkdirSync, symlinkSync, writeFileSync } from 'node:fs'
import { join } from 'node:path'
import { beforeEach, describe, expect, it } from 'vitest'
import { findPassphrase, type PassphraseSources, readPassphrase } from '../../src/config/passphrase.ts'
import { decryptKey, encryptKey, KeySecret } from '../../src/trust/key-encryption.ts'
import { temporaryDirectory } from '../temporary.ts'

let home: string
beforeEach(() => {
  home = temporaryDirectory('catalog-passphrase-')
})

function file(name: string, content: string | Uint8Array, mode = 0o600): string {
  const path = join(home, name)
  writeFileSync(path, content)
  chmodSync(path, mode)
  return path
}

const find = (sources: Partial<PassphraseSources>) => findPassphrase({ env: {}, home, ...sources })
const label = { holds: 'node', name: 'x' } as const

/** Whether the secret is the passphrase: it opens what the passphrase closed. */
async function means(secret: KeySecret | undefined, passphrase: string | Uint8Array): Promise<boolean> {
  const bytes = Buffer.from(passphrase)
  const cost = { n: 1024, r: 1, p: 1 }
  const closed = new KeySecret({ kind: 'passphrase', source: 'a test', bytes }, { cost })
  const encrypted = await encryptKey(new Uint8Array(8), label, closed)
  return secret !== undefined && (await decryptKey(encrypted, secret)) !== undefined
}

describe('the passphrase', () => {
  it('comes from the flag before the variable before the config before the credential', async () => {
    const [flag, variable] = [file('flag', 'one'), file('variable', 'two')]
    file('configured', 'three')
    file('catalog-passphrase', 'four')
    const env = { CREDENTIALS_DIRECTORY: home }
    const both = { ...env, CATALOG_PASSPHRASE_FILE: variable }
    const found = [
      await find({ flag, env: both, configured: 'configured' }),
      await find({ env: both, configured: 'configured' }),
      await find({ env, configured: 'configured' }),
      await find({ env }),
    ]
    for (const [index, text] of ['one', 'two', 'three', 'four'].entries())
      expect(await means(found[index], text)).toBe(true)
    expect(found.map(secret => secret?.source)).toEqual([
      `the passphrase in ${flag} (--passphrase-file)`,
      `the passphrase in ${variable} (CATALOG_PASSPHRASE_FILE)`,
      `the passphrase in ${join(home, 'configured')} (keys.passphraseFile in the config)`,
      `the passphrase in ${join(home, 'catalog-passphrase')} (the credential catalog-passphrase)`,
    ])
  })

  it('is none where nothing names one, and where a service has other credentials', async () => {
    expect(await find({})).toBeUndefined()
    expect(await find({ configured: '', env: { CATALOG_PASSPHRASE_FILE: '' } })).toBeUndefined()
    expect(await find({ env: { CREDENTIALS_DIRECTORY: home } })).toBeUndefined()
  })

  it.each([
    ['a b', 'a b'],
    ['a\n', 'a'],
    ['a\r\n', 'a'],
    ['a\n\n', 'a\n'],
    [' a \n', ' a '],
    ['bätter', 'bätter'],
    [Buffer.from([0, 255, 10]), Buffer.from([0, 255])],
    ['x'.repeat(1024), 'x'.repeat(1024)],
  ])('is what stands in the file, without the newline at its end: %j', async (content, passphrase) => {
    expect(await means(await readPassphrase(file('p', content), '--passphrase-file'), passphrase)).toBe(true)
  })

  it.each(['', '\n', '\r\n', 'x'.repeat(1025)])(
    'of no or too many bytes is refused: %.10j',
    async content => {
      await expect(find({ flag: file('p', content) })).rejects.toMatchObject({ code: 'invalid-config' })
    },
  )

  it.each([0o644, 0o640, 0o604, 0o620, 0o602])('is refused from a file of mode %o', async mode => {
    const flag = file('p', 'a secret', mode)
    const refusal = await find({ flag }).catch(error => error)
    expect(refusal).toMatchObject({ code: 'forbidden' })
    expect(refusal.message).toContain(`chmod 600 ${flag}`)
    expect(JSON.stringify(refusal)).not.toContain('a secret')
  })

  it('as a credential may have rights of the group, as an access list shows them, but none of others', async () => {
    const env = { CREDENTIALS_DIRECTORY: home }
    file('catalog-passphrase', 'x', 0o440)
    expect(await find({ env })).toBeDefined()
    file('catalog-passphrase', 'x', 0o444)
    await expect(find({ env })).rejects.toMatchObject({ code: 'forbidden' })
  })

  it('is refused where the file is not there, is a directory, or has no name', async () => {
    mkdirSync(join(home, 'd'))
    await expect(find({ flag: join(home, 'd') })).rejects.toMatchObject({ code: 'invalid-config' })
    await expect(find({ flag: '' })).rejects.toMatchObject({ code: 'invalid-request' })
    await expect(find({ flag: '/dev/zero' })).rejects.toMatchObject({ code: 'invalid-config' })
    for (const sources of [
      { flag: join(home, 'none') },
      { configured: 'none' },
      { env: { CATALOG_PASSPHRASE_FILE: join(home, 'none') } },
    ])
      await expect(find(sources)).rejects.toMatchObject({
        code: 'no-such-path',
        message: expect.stringContaining(join(home, 'none')),
      })
  })

  it('is read through a link, and judged by what that leads to', async () => {
    symlinkSync(file('real', 'x'), join(home, 'link'))
    expect(await find({ flag: join(home, 'link') })).toBeDefined()
    chmodSync(join(home, 'real'), 0o644)
    await expect(find({ flag: join(home, 'link') })).rejects.toMatchObject({ code: 'forbidden' })
  })

  it.skipIf(process.getuid?.() !== 0)('of another user is refused (SKIP unless root)', async () => {
    const flag = file('p', 'x')
    chownSync(flag, 65534, 65534)
    await expect(find({ flag })).rejects.toMatchObject({ code: 'home-not-owned' })
  })
})
