import { spawn } from 'node:child_process'
import { randomBytes } from 'node:crypto'
import { rm } from 'node:fs/promises'
import { createInterface } from 'node:readline'
import { fileURLToPath } from 'node:url'
import { afterAll, describe, expect, it } from 'vitest'
import type { FetchResult, PublishResult } from '../../src/control/api.ts'
import { Laboratory, listTree, type TestNode, until } from './harness.ts'

const laboratory = new Laboratory()
const liars: { kill(): void }[] = []
afterAll(() => {
  for (const liar of liars) liar.kill()
})

const published = async (node: TestNode, name: string, bytes: number) => {
  const path = await laboratory.package(name, '1.0.0', {
    'data.bin': randomBytes(bytes),
    'more/data.bin': randomBytes(1000),
  })
  return { path, ...(await node.json<PublishResult>('publish', path)) }
}

const knows = (node: TestNode, id: string) =>
  until(`${node.home} knows ${id}`, async () =>
    (await node.client.releases(false)).some(release => release.id === id),
  )

/** A separate hostile program that joins the network and claims to hold a content. */
async function hostileProvider(
  behaviour: string,
  root: string,
  honest: TestNode,
  victim: TestNode,
): Promise<string> {
  const program = fileURLToPath(new URL('./hostile-provider.ts', import.meta.url))
  const { home } = await laboratory.node(`liar-${behaviour}`)
  const child = spawn(process.execPath, [program, behaviour, root, honest.address, victim.address, home], {
    stdio: ['ignore', 'pipe', 'inherit'],
  })
  liars.push(child)
  return new Promise<string>((resolve, reject) => {
    createInterface({ input: child.stdout }).once('line', resolve)
    child.once('exit', code => reject(new Error(`the hostile provider ended with ${code}`)))
  })
}

describe('a provider that does harm', () => {
  it.each(['false-shards', 'false-index', 'stalls', 'crawls', 'too-short', 'garbage'])(
    '%s: is left, and the fetch completes from the honest one',
    async behaviour => {
      const name = `under-${behaviour}`
      const alice = await laboratory.started(`alice-${behaviour}`)
      const { id, path, root } = await published(alice, name, 12_000_000)
      const bob = await laboratory.started(`bob-${behaviour}`, [alice])
      await knows(bob, id)
      const peer = await hostileProvider(behaviour, root, alice, bob)
      await until('bob is connected to the liar', async () =>
        (await bob.client.peers()).some(each => each.peer === peer),
      )
      const out = await laboratory.path(`out-${behaviour}`)
      await bob.fetch(name, out)
      expect(await listTree(out)).toEqual(await listTree(path))
      if (!behaviour.startsWith('false')) return
      // The liar is remembered: what it says next is not even asked for.
      await bob.json('remove', name)
      const again = await bob.fetch(name)
      expect(again.providers.map(provider => provider.peer)).toEqual([alice.peerId])
      await Promise.all([alice.end('SIGKILL'), bob.end('SIGKILL')])
    },
  )
})

/** One that sends no faster than that a middle can be met. */
async function slowNode(name: string, others: readonly TestNode[] = []): Promise<TestNode> {
  const node = await laboratory.node(name)
  const joins = others.flatMap(other => ['--bootstrap', other.address])
  await node.start(joins, { ...process.env, CATALOG_BANDWIDTH_UP: '32MiB' })
  return node
}

describe('an end in the middle', () => {
  it('the fetcher is killed: the next fetch asks only for what is missing', async () => {
    const alice = await slowNode('alice-kill')
    const { id, size, path } = await published(alice, 'interrupted', 64_000_000)
    const bob = await laboratory.started('bob-kill', [alice])
    await knows(bob, id)
    let done = 0
    const fetching = bob.client
      .fetch(
        { refs: ['interrupted'] },
        {
          onProgress: progress => {
            done = Math.max(done, progress.done ?? 0)
          },
        },
      )
      .catch(() => undefined)
    await until('a third has come', async () => done > size / 3, 20_000)
    const doneAtKill = done
    await bob.end('SIGKILL')
    await fetching
    await bob.start(['--bootstrap', alice.address])
    const out = await laboratory.path('interrupted-out')
    const rest: FetchResult = await bob.fetch('interrupted', out)
    // At most what was under way, and a shard for each stream, is fetched again.
    expect(rest.bytesTransferred).toBeLessThan(size - doneAtKill + 4 * 1024 * 1024 + 4 * 1024 * 1024)
    expect(rest.bytesTransferred).toBeGreaterThan(0)
    expect(await listTree(out)).toEqual(await listTree(path))
    await Promise.all([alice.end('SIGKILL'), bob.end('SIGKILL')])
  })

  it('one of two providers is killed: the other completes it', async () => {
    const alice = await slowNode('alice-gone')
    const bob = await slowNode('bob-gone', [alice])
    const carol = await laboratory.started('carol-gone', [alice, bob])
    const { id, path } = await published(alice, 'half-left', 48_000_000)
    await knows(bob, id)
    await bob.fetch('half-left')
    await until(
      'carol sees both',
      async () => (await carol.client.show(id)).providers.filter(({ complete }) => complete).length === 2,
    )
    let done = 0
    const out = await laboratory.path('half-left-out')
    const fetching = carol.client.fetch(
      { refs: ['half-left'], out },
      {
        onProgress: progress => {
          done = Math.max(done, progress.done ?? 0)
        },
      },
    )
    await until('some has come', async () => done > 5_000_000, 20_000)
    await alice.end('SIGKILL')
    await fetching
    expect(await listTree(out)).toEqual(await listTree(path))
    await Promise.all([bob.end('SIGKILL'), carol.end('SIGKILL')])
  })

  it('the only provider is gone: a typed error that names the next step, and the fetch can be completed later', async () => {
    const alice = await laboratory.started('alice-back')
    const bob = await laboratory.started('bob-back', [alice])
    const { path } = await published(alice, 'comes-back', 1_000_000)
    await until(
      'bob can resolve it by name',
      async () => (await bob.client.show('comes-back')).name === 'comes-back',
    )
    await alice.end('SIGKILL')
    const { code, stderr } = await bob.run(
      'fetch',
      'comes-back',
      '--json',
      '--out',
      await laboratory.path('never'),
    )
    expect([code, JSON.parse(stderr).error.code]).toEqual([5, 'no-providers'])
    expect(JSON.parse(stderr).error.message).toMatch(/catalog peers/)
    await alice.start(['--bootstrap', bob.address])
    await until('they meet again', async () => (await bob.client.peers()).length > 0, 20_000)
    const out = await laboratory.path('comes-back-out')
    await bob.fetch('comes-back', out)
    expect(await listTree(out)).toEqual(await listTree(path))
    await Promise.all([alice.end('SIGKILL'), bob.end('SIGKILL')])
  })

  it('a daemon killed at random moments of publishing has every acknowledged package whole', async () => {
    const alice = await laboratory.node('alice-crash')
    const bob = await laboratory.node('bob-crash')
    await bob.start()
    const acknowledged: { id: string; path: string }[] = []
    for (let round = 0; round < 6; round++) {
      await alice.start(['--bootstrap', bob.address])
      const path = await laboratory.package(`crash-${round}`, '1.0.0', { 'data.bin': randomBytes(4_000_000) })
      const publishing = alice.client.publish({ path }).then(
        ({ id }) => acknowledged.push({ id, path }),
        () => undefined,
      )
      await new Promise(resolve => setTimeout(resolve, Math.random() * 400))
      await alice.end('SIGKILL')
      await publishing
    }
    await alice.start(['--bootstrap', bob.address])
    for (const { id, path } of acknowledged) {
      // QUIC takes ten seconds to notice that a peer was killed; what bob was asking of it ends only then.
      await until(
        'bob knows it',
        async () => (await bob.client.releases(false)).some(release => release.id === id),
        25_000,
      )
      const out = await laboratory.path(`crash-out-${id}`)
      await bob.fetch(id, out)
      expect(await listTree(out)).toEqual(await listTree(path))
      await rm(out, { recursive: true })
    }
    // What was not acknowledged is either whole or not to be seen.
    for (const release of await alice.client.releases(false)) expect(release.held).toBe('complete')
    await Promise.all([alice.end('SIGKILL'), bob.end('SIGKILL')])
  })
})
