import { chmod, chown, mkdtemp, readdir, readFile, rm, stat, symlink, writeFile } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { afterEach, beforeAll, beforeEach, describe, expect, it } from 'vitest'
import { decodeCbor, encodeCbor } from '../../src/base/cbor.ts'
import {
  generatePublisherKeys,
  loadPublisherKeys,
  type PublisherKeys,
  publisherFingerprint,
  savePublisherKeys,
} from '../../src/trust/keys.ts'

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
    await savePublisherKeys(path, keys)
    expect(await loadPublisherKeys(path)).toEqual(keys)
    expect((await stat(path)).mode & 0o777).toBe(0o600)
    expect(await readdir(directory)).toEqual(['publisher.key'])
  })

  it('are never overwritten', async () => {
    await savePublisherKeys(path, keys)
    const before = await readFile(path)
    await expect(savePublisherKeys(path, keys)).rejects.toMatchObject({ code: 'already-initialised' })
    expect(await readFile(path)).toEqual(before)
    expect(await readdir(directory)).toEqual(['publisher.key'])
  })

  it.each([0o640, 0o604, 0o660, 0o620, 0o755])(
    'are refused when others may use the file (mode %o)',
    async mode => {
      await savePublisherKeys(path, keys)
      await chmod(path, mode)
      await expect(loadPublisherKeys(path)).rejects.toMatchObject({
        code: 'forbidden',
        message: expect.stringContaining(`chmod 600 ${path}`),
      })
    },
  )

  it.skipIf(process.getuid?.() !== 0)(
    'are refused when another user owns the file (SKIP unless root)',
    async () => {
      await savePublisherKeys(path, keys)
      await chown(path, 65534, 65534)
      await expect(loadPublisherKeys(path)).rejects.toMatchObject({ code: 'home-not-owned' })
    },
  )

  it('say what to do where there is no file', async () => {
    await expect(loadPublisherKeys(path)).rejects.toMatchObject({
      code: 'not-initialised',
      message: expect.stringContaining('catalog init'),
    })
  })

  it('are refused through a symbolic link, and from what is not a file', async () => {
    const real = join(directory, 'real.key')
    await savePublisherKeys(real, keys)
    await symlink(real, path)
    await expect(loadPublisherKeys(path)).rejects.toMatchObject({ code: 'invalid-config' })
    await expect(loadPublisherKeys(directory)).rejects.toMatchObject({ code: 'invalid-config' })
  })

  it('are refused when the file is damaged, another, too large or too new', async () => {
    await savePublisherKeys(path, keys)
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
      await expect(loadPublisherKeys(path)).rejects.toMatchObject({ code })
    }
  })

  it('have a fingerprint that both keys decide', () => {
    const { ed25519, falcon, fingerprint } = keys
    expect(publisherFingerprint(ed25519.publicKey, falcon.publicKey)).toBe(fingerprint)
    expect(fingerprint).toMatch(/^b[a-z2-7]{55}$/)
    expect(publisherFingerprint(falcon.publicKey, ed25519.publicKey)).not.toBe(fingerprint)
  })
})
