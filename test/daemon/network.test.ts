import { execFile } from 'node:child_process'
import { randomBytes } from 'node:crypto'
import { mkdir } from 'node:fs/promises'
import { join } from 'node:path'
import { promisify } from 'node:util'
import { describe, expect, it } from 'vitest'
import type { PublishResult } from '../../src/control/api.ts'
import { Laboratory, listTree, type TestNode, until } from './harness.ts'

const laboratory = new Laboratory()
const run = promisify(execFile)
const noSync = { ...process.env, CATALOG_SYNC_ENABLED: 'false' }

const published = async (node: TestNode, name: string, version = '1.0.0') => {
  const path = await laboratory.package(name, version, { 'data.bin': randomBytes(500_000) })
  return { path, ...(await node.json<PublishResult>('publish', path)) }
}

const announced = (node: TestNode) =>
  until('everything is announced', async () => {
    const { waiting, failing, announced: done } = await node.client.announcements()
    return waiting === 0 && failing === 0 && done > 0
  })

describe('finding releases', () => {
  it('through the DHT alone: five nodes in a line, none of which syncs', async () => {
    const nodes: TestNode[] = []
    for (let place = 0; place < 5; place++) {
      const node = await laboratory.node(`line-${place}`)
      await node.start(place === 0 ? [] : ['--bootstrap', (nodes[place - 1] as TestNode).address], noSync)
      nodes.push(node)
    }
    const [first, , , , last] = nodes as [TestNode, TestNode, TestNode, TestNode, TestNode]
    const { id, root, path } = await published(first, 'far-away')
    await announced(first)
    expect(await last.client.releases(false)).toEqual([])
    const out = await laboratory.path('far-away-out')
    expect((await last.fetch('far-away@^1.0.0', out)).id).toBe(id)
    expect(await listTree(out)).toEqual(await listTree(path))
    const [, , third, fourth] = nodes as [TestNode, TestNode, TestNode, TestNode, TestNode]
    expect((await third.fetch(id)).root).toBe(root)
    expect((await fourth.fetch(root)).id).toBe(id)
    await Promise.all(nodes.map(node => node.end('SIGKILL')))
  })

  it('a node that was away learns what it missed, and who met once meets again without bootstrap', async () => {
    const alice = await laboratory.node('alice-away')
    const listen = ['--listen', '/ip4/127.0.0.1/udp/47391/quic-v1']
    await alice.start(listen)
    const bob = await laboratory.started('bob-away', [alice])
    await published(alice, 'before')
    await until('bob has it', async () => (await bob.client.releases(false)).length === 1)
    await bob.end('SIGTERM')
    for (let version = 0; version < 5; version++) await published(alice, 'meanwhile', `1.${version}.0`)
    await bob.start()
    await until('bob learned the rest', async () => (await bob.client.releases(false)).length === 6, 15_000)
    expect((await bob.client.show('meanwhile')).version).toBe('1.4.0')
    await Promise.all([alice.end('SIGKILL'), bob.end('SIGKILL')])
  })

  it('a publisher that restarts goes on with its head, and versions and ranges resolve', async () => {
    const alice = await laboratory.started('alice-versions')
    for (const version of ['1.0.0', '1.2.0', '2.0.0-beta.1', '1.10.0'])
      await published(alice, 'versions', version)
    await alice.end('SIGKILL')
    await alice.start()
    await published(alice, 'versions', '2.0.0')
    const bob = await laboratory.started('bob-versions', [alice])
    await until('bob has them', async () => (await bob.client.releases(false)).length === 5)
    const resolved = async (ref: string) => (await bob.client.show(ref)).version
    expect(
      await Promise.all(
        ['versions', 'versions@^1.0.0', 'versions@1.2', 'versions@<1.2.0', 'versions@2.0.0-beta.1'].map(
          resolved,
        ),
      ),
    ).toEqual(['2.0.0', '1.10.0', '1.2.0', '1.0.0', '2.0.0-beta.1'])
    expect((await bob.client.show('versions')).sequence).toBe(5)
    await expect(resolved('versions@^3.0.0')).rejects.toMatchObject({
      code: 'not-found',
      data: { versions: ['1.0.0', '1.2.0', '1.10.0', '2.0.0-beta.1', '2.0.0'] },
    })
    await Promise.all([alice.end('SIGKILL'), bob.end('SIGKILL')])
  })

  it('a lone node and an unreachable or foreign bootstrap address hold nothing up', async () => {
    const foreign = await laboratory.node('foreign', 'another-network')
    await foreign.start()
    const alone = await laboratory.node('alone')
    const started = performance.now()
    await alone.start([
      '--bootstrap',
      '/ip4/127.0.0.1/udp/9/quic-v1',
      '--bootstrap',
      foreign.address,
      '--bootstrap',
      '/dns4/nowhere.invalid/tcp/1',
    ])
    expect(performance.now() - started).toBeLessThan(10_000)
    await published(alone, 'by-myself')
    expect((await alone.client.show('by-myself')).version).toBe('1.0.0')
    const missing = performance.now()
    await expect(alone.client.show('nobody-has-it')).rejects.toMatchObject({ code: 'not-found' })
    expect(performance.now() - missing).toBeLessThan(10_000)
    await until('the foreign node is no peer', async () => (await alone.client.peers()).length === 0)
    expect(await foreign.client.releases(false)).toEqual([])
    await Promise.all([alone.end('SIGKILL'), foreign.end('SIGKILL')])
  })

  it('by multicast DNS, where it is asked for', async ({ skip }) => {
    if (process.getuid?.() !== 0) skip('needs root to make a network namespace')
    const homes = await laboratory.path('mdns')
    await mkdir(homes, { recursive: true })
    for (const name of ['a', 'b']) await laboratory.node(`mdns/${name}`)
    const script = join(import.meta.dirname, 'mdns.sh')
    const { stdout } = await run('unshare', ['-n', 'bash', script, process.execPath, homes], {
      timeout: 50_000,
    })
    expect(stdout).toBe('met\n')
  })

  it('works over TCP where a node has no QUIC, and the identity stays', async () => {
    const alice = await laboratory.node('alice-tcp')
    await alice.start(['--listen', '/ip4/127.0.0.1/tcp/0'])
    const before = alice.peerId
    const bob = await laboratory.node('bob-tcp')
    await bob.start(['--listen', '/ip4/127.0.0.1/tcp/0', '--bootstrap', alice.addresses[0] as string])
    const { id } = await published(alice, 'by-tcp')
    await until('bob knows it', async () => (await bob.client.releases(false)).length === 1)
    expect((await bob.fetch(id)).bytesTransferred).toBeGreaterThan(500_000)
    expect((await bob.client.peers())[0]?.transport).toBe('tcp')
    await alice.end('SIGTERM')
    await alice.start()
    expect(alice.peerId).toBe(before)
    await Promise.all([alice.end('SIGKILL'), bob.end('SIGKILL')])
  })
})
