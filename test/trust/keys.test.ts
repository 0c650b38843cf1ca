import { spawn } from 'node:child_process'
import { once } from 'node:events'
import { chmod, chown, mkdtemp, readdir, readFile, rm, stat, symlink, writeFile } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { afterEach, beforeAll, beforeEach, describe, expect, it } from 'vitest'
import { decodeCbor, encodeCbor } from '../../src/base/cbor.ts'
import { KeySecret } from '../../src/trust/key-encryption.ts'
import { KeyFile } from '../../src/trust/key-file.ts'
import {
  generatePublisherKeys,
  loadPublisherKeys,
  type PublisherKeys,
  publisherFingerprint,
  savePublisherKeys,
} from '../../src/trust/keys.ts'

const secretOf = (text: string) =>
  new KeySecret(
    { kind: 'passphrase', source: `the passphrase ${text.length} long`, bytes: Buffer.from(text) },
    { cost: { n: 1024, r: 8, p: 1 } },
  )
/** A file whose reader holds this secret. */
const at = (path: string, secret?: KeySecret) =>
  new KeyFile(
    { secrets: { find: async () => secret ?? Promise.reject(new Error('a plain key needs no secret')) } },
    { path, holds: 'publisher' },
  )

describe('publisher keys', () => {
  let keys: PublisherKeys
  let directory: string
  let path: string

  beforeAll(async () => {
    keys = await generatePublisherKeys()
  })
  beforeEach(async () => {
    directory = await mkdtemp(join(tmpdir(), 'catalog-keys-'))
    path = join(directory, 'publisher.key')
  })
  afterEach(() => rm(directory, { recursive: true }))

  it('come back from their file as they were, and only their owner may read it', async () => {
    await savePublisherKeys(at(path), keys, undefined)
    expect(await loadPublisherKeys(at(path))).toEqual(keys)
    expect((await stat(path)).mode & 0o777).toBe(0o600)
    expect(await readdir(directory)).toEqual(['publisher.key'])
  })

  it('are never overwritten', async () => {
    await savePublisherKeys(at(path), keys, undefined)
    const before = await readFile(path)
    await expect(savePublisherKeys(at(path), keys, undefined)).rejects.toMatchObject({
      code: 'already-initialised',
    })
    expect(await readFile(path)).toEqual(before)
    expect(await readdir(directory)).toEqual(['publisher.key'])
  })

  it.each([0o640, 0o604, 0o660, 0o620, 0o755])(
    'are refused when others may use the file (mode %o)',
    async mode => {
      await savePublisherKeys(at(path), keys, undefined)
      await chmod(path, mode)
      await expect(loadPublisherKeys(at(path))).rejects.toMatchObject({
        code: 'forbidden',
        message: expect.stringContaining(`chmod 600 ${path}`),
      })
    },
  )

  it.skipIf(process.getuid?.() !== 0)(
    'are refused when another user owns the file (SKIP unless root)',
    async () => {
      await savePublisherKeys(at(path), keys, undefined)
      await chown(path, 65534, 65534)
      await expect(loadPublisherKeys(at(path))).rejects.toMatchObject({ code: 'home-not-owned' })
    },
  )

  it('say what to do where there is no file', async () => {
    await expect(loadPublisherKeys(at(path))).rejects.toMatchObject({
      code: 'not-initialised',
      message: expect.stringContaining('catalog init'),
    })
  })

  it('are refused through a symbolic link, and from what is not a file', async () => {
    const real = join(directory, 'real.key')
    await savePublisherKeys(at(real), keys, undefined)
    await symlink(real, path)
    await expect(loadPublisherKeys(at(path))).rejects.toMatchObject({ code: 'invalid-config' })
    await expect(loadPublisherKeys(at(directory))).rejects.toMatchObject({ code: 'invalid-config' })
  })

  it('are refused when the file is damaged, another, too large or too new', async () => {
    await savePublisherKeys(at(path), keys, undefined)
    const good = await readFile(path)
    const raw = decodeCbor(good, 100_000, 'the key file') as Record<string, Record<string, Uint8Array>>
    const swapped = { ...raw, ed25519: { ...raw['ed25519'], publicKey: new Uint8Array(32) } }
    const cases: [Uint8Array, string][] = [
      [good.subarray(0, good.length - 1), 'invalid-config'],
      [new Uint8Array(0), 'invalid-config'],
      [Buffer.alloc(20_000), 'invalid-config'],
      [encodeCbor(null), 'invalid-config'],
      [encodeCbor({ ...raw, type: 'something else' }), 'invalid-config'],
      [encodeCbor({ v: 1, type: 'catalog/publisher-keys' }), 'invalid-config'],
      [encodeCbor(swapped), 'invalid-config'],
      [encodeCbor({ ...raw, v: 2 }), 'store-too-new'],
    ]
    for (const [bytes, code] of cases) {
      await writeFile(path, bytes)
      await expect(loadPublisherKeys(at(path))).rejects.toMatchObject({ code })
    }
  })

  it('come back from an encrypted file, in which neither secret key can be found', async () => {
    const secret = secretOf('correct horse')
    await savePublisherKeys(at(path), keys, secret)
    const file = await readFile(path)
    for (const { secretKey } of [keys.ed25519, keys.falcon])
      for (let from = 0; from + 16 <= secretKey.length; from += 16)
        expect(file.includes(Buffer.from(secretKey.subarray(from, from + 16)))).toBe(false)
    expect((await stat(path)).mode & 0o777).toBe(0o600)
    expect(await loadPublisherKeys(at(path, secret))).toEqual(keys)
    expect(await loadPublisherKeys(at(path, secretOf('correct horse')))).toEqual(keys)
    expect(await at(path).inspect()).toEqual({ protection: 'passphrase', name: keys.fingerprint })
  })

  it('do not open with another passphrase, and say whose it was', async () => {
    await savePublisherKeys(at(path), keys, secretOf('correct horse'))
    await expect(loadPublisherKeys(at(path, secretOf('a wrong one')))).rejects.toMatchObject({
      code: 'wrong-passphrase',
      message: expect.stringContaining('the passphrase 11 long'),
    })
  })

  it('come under another secret in one step, whether they were plain or encrypted', async () => {
    const [first, second] = [secretOf('first'), secretOf('the second')]
    await savePublisherKeys(at(path), keys, undefined)
    for (const [old, next] of [
      [undefined, first],
      [first, second],
    ] as const) {
      const bytes = (await at(path, old).read())?.bytes as Uint8Array
      await at(path).replace(bytes, keys.fingerprint, next)
      expect(await loadPublisherKeys(at(path, next))).toEqual(keys)
      expect((await stat(path)).mode & 0o777).toBe(0o600)
      expect(await readdir(directory)).toEqual(['publisher.key'])
    }
    expect(await at(path).opensWith(first)).toBe(false)
    expect(await at(path).opensWith(second)).toBe(true)
  })

  it('survive kill -9 at any moment of a change, under the old secret or the new one', async () => {
    const secrets = [secretOf('first'), secretOf('the second')] as const
    await savePublisherKeys(at(path), keys, secrets[0])
    const url = (name: string) => new URL(`../../src/trust/${name}.ts`, import.meta.url).href
    const script = `
      import { KeyFile } from '${url('key-file')}'
      import { KeySecret } from '${url('key-encryption')}'
      const secrets = ['first', 'the second'].map(text => new KeySecret(
        { kind: 'passphrase', source: text, bytes: Buffer.from(text) }, { cost: { n: 1024, r: 8, p: 1 } }))
      const file = new KeyFile({ secrets: {} }, { path: ${JSON.stringify(path)}, holds: 'publisher' })
      const bytes = Buffer.from(process.env.KEY, 'base64')
      console.log('begun')
      for (let turn = 1; ; turn++) await file.replace(bytes, 'name', secrets[turn % 2])`
    const plain = (await at(path, secrets[0]).read())?.bytes as Uint8Array
    for (let kill = 0; kill < 6; kill++) {
      const child = spawn(process.execPath, ['--input-type=module', '-e', script], {
        env: { KEY: Buffer.from(plain).toString('base64') },
        stdio: ['ignore', 'pipe', 'inherit'],
      })
      await once(child.stdout, 'data')
      await new Promise(resolve => setTimeout(resolve, 20 + Math.random() * 60))
      child.kill('SIGKILL')
      await once(child, 'close')
      const opened = await Promise.all(secrets.map(secret => at(path).opensWith(secret)))
      expect(opened.toSorted()).toEqual([false, true])
      expect(await loadPublisherKeys(at(path, secrets[opened.indexOf(true)]))).toEqual(keys)
    }
  })

  it('in an encrypted file are refused when it is damaged or holds another kind of key', async () => {
    const secret = secretOf('correct horse')
    const node = new KeyFile({ secrets: { find: async () => secret } }, { path, holds: 'node' })
    await node.create(new Uint8Array(68), 'peer', secret)
    await expect(loadPublisherKeys(at(path, secret))).rejects.toMatchObject({ code: 'invalid-config' })
    const file = await readFile(path)
    await writeFile(path, file.subarray(0, file.length - 1))
    await expect(node.read()).rejects.toMatchObject({ code: 'invalid-config' })
  })

  it('have a fingerprint that both keys decide', () => {
    const { ed25519, falcon, fingerprint } = keys
    expect(publisherFingerprint(ed25519.publicKey, falcon.publicKey)).toBe(fingerprint)
    expect(fingerprint).toMatch(/^b[a-z2-7]{55}$/)
    expect(publisherFingerprint(falcon.publicKey, ed25519.publicKey)).not.toBe(fingerprint)
  })
})
