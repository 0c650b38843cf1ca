// Bandwidth limits between real daemons: the rate holds, and what is limited is shared evenly.
import { randomBytes } from 'node:crypto'
import { describe, expect, it } from 'vitest'
import type { FetchResult, Progress, PublishResult } from '../../src/control/api.ts'
import { Laboratory, type TestNode, until } from './harness.ts'

const laboratory = new Laboratory()
const mebibyte = 1024 * 1024

async function limited(
  name: string,
  bootstrap: TestNode[],
  limits: Record<string, string>,
): Promise<TestNode> {
  const node = await laboratory.node(name)
  await node.start(
    bootstrap.flatMap(({ address }) => ['--bootstrap', address]),
    { ...process.env, ...limits },
  )
  return node
}

/** Publishes so many bytes that cannot be compressed; resolves to the release id. */
async function publish(node: TestNode, name: string, bytes: number): Promise<string> {
  const path = await laboratory.package(name, '1.0.0', { 'data.bin': randomBytes(bytes) })
  return (await node.json<PublishResult>('publish', path)).id
}

const known = (node: TestNode, ids: readonly string[]) =>
  until('it knows what was published', async () => {
    const releases = await node.client.releases(false)
    return ids.every(id => releases.some(release => release.id === id))
  })

// Each starts up to four daemons, which takes long on a busy machine; what is timed is paced, and does not.
describe('a node with a limit', { timeout: 120_000 }, () => {
  it('receives at its rate, no faster and not much slower, and says so', async () => {
    const alice = await laboratory.started('rate-alice')
    const bob = await limited('rate-bob', [alice], { CATALOG_BANDWIDTH_DOWN: '1MiB' })
    const id = await publish(alice, 'rate', 4 * mebibyte)
    await known(bob, [id])
    const { milliseconds, bytesTransferred } = await bob.fetch(id)
    const expectedMs = (1000 * bytesTransferred) / mebibyte
    expect(milliseconds / expectedMs).toBeGreaterThan(0.85)
    expect(milliseconds / expectedMs).toBeLessThan(1.5)
    const { bandwidth } = await bob.client.status()
    expect(bandwidth.down).toMatchObject({ limit: mebibyte, perPeerLimit: 0 })
    expect(bandwidth.down.totalBytes).toBeGreaterThanOrEqual(bytesTransferred)
    expect(bandwidth.down.bytesPerSecond).toBeGreaterThan(mebibyte / 4)
    expect((await bob.run('status')).stdout).toMatch(/Receiving +at most 1\.0 MiB\/s, .* since the start/)
    expect((await alice.run('status')).stdout).toMatch(/Sending +without a limit/)
  })

  it('shares what it receives evenly between two fetches, however many providers each has', async () => {
    const alice = await laboratory.started('share-alice')
    const others = await Promise.all(['b', 'c'].map(name => laboratory.started(`share-${name}`, [alice])))
    const many = await publish(alice, 'many', 6 * mebibyte)
    const single = await publish(alice, 'single', 6 * mebibyte)
    for (const node of others) {
      await known(node, [many])
      await node.fetch(many)
    }
    const erin = await limited('share-erin', [alice, ...others], { CATALOG_BANDWIDTH_DOWN: '2MiB' })
    await known(erin, [many, single])
    await until(
      'erin sees three providers',
      async () => (await erin.client.show(many)).providers.filter(({ complete }) => complete).length === 3,
    )
    const done = { many: 0, single: 0 }
    // How far both are when the slower has begun in earnest, and when the faster is nearly there.
    const marks: (typeof done)[] = []
    const follow = (flow: keyof typeof done) => (progress: Progress) => {
      if (progress.phase === 'transfer') done[flow] = progress.done ?? 0
      const [least, most] = [Math.min(done.many, done.single), Math.max(done.many, done.single)]
      if ((marks.length === 0 && least >= mebibyte) || (marks.length === 1 && most >= 5.5 * mebibyte))
        marks.push({ ...done })
    }
    const [[ofMany], [ofSingle]] = (await Promise.all([
      erin.client.fetch({ refs: [many] }, { onProgress: follow('many') }),
      erin.client.fetch({ refs: [single] }, { onProgress: follow('single') }),
    ])) as FetchResult[][] as [FetchResult[], FetchResult[]]
    const [begun, nearly] = marks as [typeof done, typeof done]
    const ratio = (nearly.many - begun.many) / (nearly.single - begun.single)
    expect(ratio).toBeGreaterThan(0.67)
    expect(ratio).toBeLessThan(1.5)
    // Whoever is slow because of the own limit is not raced by another provider.
    for (const fetched of [ofMany, ofSingle])
      expect(fetched?.bytesTransferred).toBeLessThan(1.2 * (fetched?.bytes ?? 0))
  })

  it('shares what it sends evenly between two peers, however much each asks for', async () => {
    const alice = await limited('serve-alice', [], { CATALOG_BANDWIDTH_UP: '2MiB' })
    const [greedy, modest] = await Promise.all(
      ['g', 'm'].map(name => laboratory.started(`serve-${name}`, [alice])),
    )
    const ids = await Promise.all([1, 2, 3].map(place => publish(alice, `serve-${place}`, 2 * mebibyte)))
    await Promise.all([greedy, modest].map(node => known(node as TestNode, ids)))
    const [first, second, other] = await Promise.all([
      greedy?.fetch(ids[0] as string),
      greedy?.fetch(ids[1] as string),
      modest?.fetch(ids[2] as string),
    ])
    // 1 MiB/s against two halves of it: 2 s, then the greedy one has all of it, 3 s.
    const later = Math.max(first?.milliseconds ?? 0, second?.milliseconds ?? 0)
    expect((other?.milliseconds ?? later) / later).toBeLessThan(0.8)
    expect(later).toBeGreaterThan(2500)
  })
})
