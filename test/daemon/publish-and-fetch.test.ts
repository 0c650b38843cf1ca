import { randomBytes } from 'node:crypto'
import { chmod, mkdir, readFile, symlink, writeFile } from 'node:fs/promises'
import { join } from 'node:path'
import { beforeAll, describe, expect, it } from 'vitest'
import type { PublishResult } from '../../src/control/api.ts'
import { Laboratory, listTree, type TestNode, until } from './harness.ts'

const laboratory = new Laboratory()
let alice: TestNode
let bob: TestNode
let carol: TestNode

beforeAll(async () => {
  alice = await laboratory.started('alice')
  bob = await laboratory.started('bob', [alice])
  carol = await laboratory.started('carol', [bob])
})

const knows = (node: TestNode, id: string) => async () =>
  (await node.client.releases(false)).some(release => release.id === id)

describe('publishing on one node and fetching on another', () => {
  it('returns every byte, mode, link and empty directory', async () => {
    const path = await laboratory.package('mixed', '1.0.0', {
      'a/one.txt': 'one',
      'empty.txt': '',
      '.hidden/x': 'hidden',
      'bin/run.sh': '#!/bin/sh\n',
      'snow/☃.txt': 'snow',
      'big.bin': randomBytes(3_000_000),
    })
    await mkdir(join(path, 'nothing/here'), { recursive: true })
    await symlink('one.txt', join(path, 'a/link'))
    await symlink('../a', join(path, 'bin/up'))
    await chmod(join(path, 'bin/run.sh'), 0o755)
    await chmod(join(path, 'a/one.txt'), 0o444)
    const published = await alice.json<PublishResult>('publish', path)
    await until('bob knows it within 5 s', knows(bob, published.id), 5_000)
    const out = await laboratory.path('mixed-out')
    const fetched = await bob.json<Record<string, unknown>>('fetch', 'mixed', '--out', out)
    expect(await listTree(out)).toEqual(await listTree(path))
    expect(fetched).toMatchObject({
      id: published.id,
      root: published.root,
      name: 'mixed',
      version: '1.0.0',
      files: published.files,
      bytes: published.size,
    })
    expect(fetched['providers']).toEqual([{ peer: alice.peerId, bytes: fetched['bytesTransferred'] }])
    const again = await bob.json<Record<string, unknown>>(
      'fetch',
      published.root,
      '--out',
      await laboratory.path('mixed-again'),
    )
    expect(again).toMatchObject({ bytesTransferred: 0, providers: [] })
  })

  it('gives the same root for the same directory on any node, and publishing twice is a no-op', async () => {
    const path = await laboratory.package('twice', '1.0.0', { file: randomBytes(100_000) })
    const first = await alice.json<PublishResult>('publish', path)
    const again = await alice.json<PublishResult>('publish', path)
    expect(again).toMatchObject({ id: first.id, root: first.root, created: false })
    const elsewhere = await carol.json<PublishResult>('publish', await laboratory.copy(path, 'twice-copy'))
    expect(elsewhere.root).toBe(first.root)
    expect(elsewhere.id).not.toBe(first.id)
    await until(
      'bob knows both',
      async () => (await knows(bob, first.id)()) && (await knows(bob, elsewhere.id)()),
    )
    const { code, stderr } = await bob.run(
      'fetch',
      'twice',
      '--json',
      '--out',
      await laboratory.path('ambiguous'),
    )
    expect([code, JSON.parse(stderr).error.code]).toEqual([6, 'ambiguous-name'])
    expect(JSON.parse(stderr).error.publishers.sort()).toEqual([first.publisher, elsewhere.publisher].sort())
    const named = await bob.json<PublishResult>(
      'fetch',
      'twice',
      '--publisher',
      elsewhere.publisher,
      '--out',
      await laboratory.path('named'),
    )
    expect(named.id).toBe(elsewhere.id)
  })

  it('refuses other content under a published version and shows nothing of it', async () => {
    const path = await laboratory.package('fixed', '1.0.0', { file: 'one' })
    const first = await alice.json<PublishResult>('publish', path)
    await writeFile(join(path, 'file'), 'two')
    const { code, stderr } = await alice.run('publish', path, '--json')
    expect([code, JSON.parse(stderr).error.code]).toEqual([6, 'version-exists'])
    expect(
      (await alice.client.releases(false)).filter(({ name }) => name === 'fixed').map(({ id }) => id),
    ).toEqual([first.id])
  })

  it('moves only what changed between two versions', async () => {
    const content = randomBytes(8_000_000)
    const first = await laboratory.package('changing', '1.0.0', { 'data.bin': content })
    const changed = Buffer.concat([
      content.subarray(0, 4_000_000),
      Buffer.from('inserted'),
      content.subarray(4_000_000),
    ])
    const second = await laboratory.package('changing', '1.1.0', { 'data.bin': changed })
    await alice.json('publish', first)
    await until('bob knows 1.0.0', async () =>
      (await bob.client.releases(false)).some(({ name }) => name === 'changing'),
    )
    await bob.fetch('changing')
    await alice.json('publish', second)
    await until('bob knows 1.1.0', async () => (await bob.client.show('changing')).version === '1.1.0')
    const out = await laboratory.path('changing-out')
    const fetched = await bob.fetch('changing@^1.1.0', out)
    // One insertion touches one or two shards of at most 1 MiB, and the manifest.
    expect(fetched.bytesTransferred).toBeLessThan(2_300_000)
    expect(await listTree(out)).toEqual(await listTree(second))
    expect((await bob.fetch('changing@1.0.0')).bytesTransferred).toBe(0)
  })

  it('fetches from every provider there is', async () => {
    const path = await laboratory.package('spread', '1.0.0', { 'data.bin': randomBytes(24_000_000) })
    const { id } = await alice.json<PublishResult>('publish', path)
    await until('bob knows it', knows(bob, id))
    await bob.fetch(id)
    await until(
      'carol sees two providers',
      async () => (await carol.client.show(id)).providers.filter(({ complete }) => complete).length === 2,
    )
    const out = await laboratory.path('spread-out')
    const fetched = await carol.fetch('spread', out)
    expect(
      fetched.providers
        .filter(({ bytes }) => bytes > 2_000_000)
        .map(({ peer }) => peer)
        .sort(),
    ).toEqual([alice.peerId, bob.peerId].sort())
    expect(await listTree(out)).toEqual(await listTree(path))
  })

  it('leaves a half-written output directory only where the same release completes it', async () => {
    const path = await laboratory.package('output', '1.0.0', { 'a.txt': 'a', 'b.txt': 'b' })
    const { id } = await alice.json<PublishResult>('publish', path)
    await until('bob knows it', knows(bob, id))
    const out = await laboratory.path('output-out')
    await mkdir(out)
    await writeFile(join(out, 'a.txt'), 'a')
    await bob.json('fetch', 'output', '--out', out)
    expect(await readFile(join(out, 'b.txt'), 'utf8')).toBe('b')
    await writeFile(join(out, 'mine.txt'), 'mine')
    const { code, stderr } = await bob.run('fetch', 'output', '--out', out, '--json')
    expect([code, JSON.parse(stderr).error.code]).toEqual([6, 'output-exists'])
    expect((await bob.run('fetch', 'output', '--out', out, '--force')).code).toBe(0)
    expect(await readFile(join(out, 'mine.txt'), 'utf8')).toBe('mine')
  })

  it('forgets a removed release, frees its bytes, and takes it again when asked', async () => {
    const path = await laboratory.package('removable', '1.0.0', { 'data.bin': randomBytes(2_000_000) })
    const { id } = await alice.json<PublishResult>('publish', path)
    await until('bob knows it', knows(bob, id))
    await bob.fetch('removable')
    const before = (await bob.client.status()).releases
    await bob.json('remove', 'removable')
    const after = (await bob.client.status()).releases
    expect(before.bytes - after.bytes).toBeGreaterThan(2_000_000)
    expect(await knows(bob, id)()).toBe(false)
    expect((await bob.fetch('removable')).bytesTransferred).toBeGreaterThan(2_000_000)
  })
})
