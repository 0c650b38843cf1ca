import { chmod, copyFile, readdir, readFile, rm, writeFile } from 'node:fs/promises'
import { join } from 'node:path'
import { privateKeyFromProtobuf } from '@libp2p/crypto/keys'
import { describe, expect, it } from 'vitest'
import { silentLog } from '../../src/base/log.ts'
import { homePaths } from '../../src/config/home.ts'
import { readPassphrase } from '../../src/config/passphrase.ts'
import { openHomeKeys } from '../../src/home-keys.ts'
import { catalog, Laboratory, TestNode } from './harness.ts'

const laboratory = new Laboratory()

async function passphraseFile(name: string, text: string): Promise<string> {
  const path = await laboratory.path(name)
  await writeFile(path, `${text}\n`, { mode: 0o600 })
  return path
}

async function keysOf(home: string, passphrase?: string) {
  const given = passphrase === undefined ? undefined : await readPassphrase(passphrase, '--passphrase-file')
  const { secret: _, ...keys } = await openHomeKeys(homePaths(home), given, silentLog)
  return keys
}

/** Every file of the home in which 15 bytes in a row of a secret key can be read, as they are or as text. */
async function leaks(home: string, { nodeKey, publisherKeys }: Awaited<ReturnType<typeof keysOf>>) {
  const secrets = [
    privateKeyFromProtobuf(nodeKey).raw.subarray(0, 32),
    publisherKeys.ed25519.secretKey,
    publisherKeys.falcon.secretKey,
  ]
  // Of 15 bytes each: base64 writes them alike wherever they stand.
  const pieces = secrets.flatMap(secret =>
    Array.from({ length: Math.floor(secret.length / 15) }, (_, at) =>
      Buffer.from(secret.subarray(at * 15, at * 15 + 15)),
    ),
  )
  const forms = pieces.flatMap(piece => [piece, piece.toString('hex'), piece.toString('base64')])
  const found: string[] = []
  for (const entry of await readdir(home, { recursive: true, withFileTypes: true })) {
    if (!entry.isFile()) continue
    const file = await readFile(join(entry.parentPath, entry.name))
    if (forms.some(form => file.includes(form))) found.push(entry.name)
  }
  return found.sort()
}

async function refusal(home: string, ...args: string[]) {
  const { code, stdout, stderr } = await catalog(['daemon', '--home', home, '--json', ...args])
  expect(stdout).toBe('')
  return { exit: code, stderr, error: JSON.parse(stderr).error as { code: string; message: string } }
}

describe('a home with a passphrase', () => {
  it('opens with it alone, and its files hold no byte of a key', async () => {
    const [right, wrong] = [
      await passphraseFile('right', 'correct horse'),
      await passphraseFile('wrong', 'pony'),
    ]
    const home = await laboratory.path('guarded')
    const init = await catalog(['init', '--home', home, '--json', '--passphrase-file', right])
    expect(init.code).toBe(0)
    const made = JSON.parse(init.stdout) as { peerId: string; protection: string }
    expect(made.protection).toBe('passphrase')
    expect(await readdir(home)).not.toContain('unlock.key')

    const without = await refusal(home)
    expect(without).toMatchObject({ exit: 9, error: { code: 'passphrase-needed' } })
    expect(without.error.message).toContain('--passphrase-file')
    const mistaken = await refusal(home, '--passphrase-file', wrong)
    expect(mistaken).toMatchObject({ exit: 9, error: { code: 'wrong-passphrase' } })
    expect(mistaken.error.message).toContain(`${wrong} (--passphrase-file)`)
    expect(mistaken.stderr).not.toContain('pony')
    await chmod(right, 0o644)
    expect((await refusal(home, '--passphrase-file', right)).error.code).toBe('forbidden')
    await chmod(right, 0o600)

    const node = new TestNode(home)
    await node.start([], { ...process.env, CATALOG_PASSPHRASE_FILE: right })
    expect(node.peerId).toBe(made.peerId)
    expect((await node.end('SIGTERM')).code).toBe(0)
    await writeFile(join(home, 'config.yaml'), `keys: { passphraseFile: ${right} }\n`)
    await node.start()
    expect(node.peerId).toBe(made.peerId)
    expect(node.errors).not.toContain('correct horse')
    await node.end('SIGTERM')
    expect(await leaks(home, await keysOf(home, right))).toEqual([])
  })

  it('has it changed by `catalog keys`, which completes what was interrupted between the files', async () => {
    const [old, next] = [
      await passphraseFile('old', 'the old one'),
      await passphraseFile('new', 'the new one'),
    ]
    const home = await laboratory.path('changing')
    await catalog(['init', '--home', home, '--passphrase-file', old])
    const before = await keysOf(home, old)
    const node = new TestNode(home)
    const change = ['keys', '--passphrase-file', old, '--change-passphrase', next]
    const publisher = join(home, 'keys', 'publisher.key')
    await copyFile(publisher, `${publisher}.old`)
    expect(await node.json(...change)).toMatchObject({ changed: 5 })
    await copyFile(`${publisher}.old`, publisher)
    expect((await refusal(home, '--passphrase-file', next)).error).toMatchObject({
      code: 'wrong-passphrase',
      message: expect.stringContaining('publisher.key'),
    })
    expect(await node.json(...change)).toMatchObject({ changed: 1 })
    expect(await keysOf(home, next)).toEqual(before)
    await expect(keysOf(home, old)).rejects.toMatchObject({ code: 'wrong-passphrase' })
    const files = await Promise.all(
      ['node.key', 'publisher.key'].map(name => readFile(join(home, 'keys', name))),
    )
    const refused = await node.run('keys', '--json', '--passphrase-file', old, '--change-passphrase', old)
    expect(JSON.parse(refused.stderr)).toMatchObject({ error: { code: 'wrong-passphrase' } })
    expect(
      await Promise.all(['node.key', 'publisher.key'].map(name => readFile(join(home, 'keys', name)))),
    ).toEqual(files)
  })
})

describe('an init that was interrupted', () => {
  it('is completed under the secret of the next, whatever protected what there is', async () => {
    const node = await laboratory.node('interrupted', 'interrupted')
    const { nodeKey } = await keysOf(node.home)
    for (const name of ['version', 'keys/publisher.key']) await rm(join(node.home, name))
    await writeFile(`${join(node.home, 'unlock.key')}.0123456789ab.new`, '')
    const guard = await passphraseFile('second', 'correct horse')
    expect(await node.json('init', '--passphrase-file', guard)).toMatchObject({ protection: 'passphrase' })
    const { keys } = await node.json<{ keys: Record<string, string>[] }>('keys')
    expect(keys.map(({ protection }) => protection)).toEqual(Array(5).fill('passphrase'))
    expect((await keysOf(node.home, guard)).nodeKey).toEqual(nodeKey)
  })
})

describe('a home without one', () => {
  it('is encrypted with an unlock key, which can be taken away and put back', async () => {
    const node = await laboratory.node('unlocked', 'unlocked')
    const unlock = join(node.home, 'unlock.key')
    expect(await leaks(node.home, await keysOf(node.home))).toEqual([])
    const { keys } = await node.json<{ keys: Record<string, string>[] }>('keys')
    expect(keys.map(({ holds, protection }) => [holds, protection])).toEqual([
      ['node', 'key-file'],
      ['publisher', 'key-file'],
      ['node-falcon', 'key-file'],
      ['authority', 'key-file'],
      // It can go away alone.
      ['root', 'none'],
    ])
    const kept = await readFile(unlock)
    await rm(unlock)
    expect((await refusal(node.home)).error).toMatchObject({
      code: 'passphrase-needed',
      message: expect.stringContaining(unlock),
    })
    await writeFile(unlock, kept, { mode: 0o600 })
    await node.start()
    expect(keys[0]?.['name']).toBe(node.peerId)
  })

  it('comes under a passphrase on request, while the daemon runs', async () => {
    const node = await laboratory.node('later', 'later')
    const before = await keysOf(node.home)
    await node.start()
    // A copy that a crash left behind.
    await copyFile(join(node.home, 'keys/publisher.key'), join(node.home, 'keys/publisher.key.7.1.tmp'))
    // With the daemon running, which holds its keys already.
    expect(await node.json('keys', '--encrypt')).toMatchObject({ changed: 0 })
    expect(await leaks(node.home, before)).toEqual([])
    const guard = await passphraseFile('guard', 'correct horse')
    expect(await node.json('keys', '--encrypt', '--passphrase-file', guard)).toMatchObject({ changed: 5 })
    expect(await node.json('keys', '--encrypt', '--passphrase-file', guard)).toMatchObject({ changed: 0 })
    expect(await readdir(node.home)).not.toContain('unlock.key')
    expect(await keysOf(node.home, guard)).toEqual(before)
    const peerId = node.peerId
    await node.end('SIGTERM')
    await node.start(['--passphrase-file', guard])
    expect(node.peerId).toBe(peerId)
  })
})
