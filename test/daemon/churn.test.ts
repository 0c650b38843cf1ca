// Nodes that are killed (kill -9) and started again while packages move between them: who survives completes, and
// what was acknowledged is whole. Short forms; the campaign lengthens them (CATALOG_KILLS, CATALOG_CHURN_NODES), and
// CATALOG_SEED repeats one.
import { randomBytes } from 'node:crypto'
import { rm } from 'node:fs/promises'
import { setTimeout as sleep } from 'node:timers/promises'
import { describe, expect, it } from 'vitest'
import { churn, randomNumbers } from '../../bench/churn.ts'
import { Laboratory, listTree, type TestNode, until } from './harness.ts'

const laboratory = new Laboratory()
const seed = Number(process.env['CATALOG_SEED'] ?? Math.floor(Math.random() * 2 ** 31))
const kills = Number(process.env['CATALOG_KILLS'] ?? 5)
const churnNodes = Number(process.env['CATALOG_CHURN_NODES'] ?? 6)

/** Starts a node, and again at the address that it had. */
function starter(node: TestNode, acquaintances: () => readonly TestNode[]) {
  let listen: string | undefined
  return async () => {
    const joins = acquaintances().flatMap(other => ['--bootstrap', other.address])
    await node.start(['--listen', listen ?? '/ip4/127.0.0.1/udp/0/quic-v1', ...joins])
    listen = node.address.slice(0, node.address.indexOf('/p2p/'))
  }
}

describe(`under kill -9 (CATALOG_SEED=${seed})`, () => {
  it(`of a third of ${churnNodes} nodes, everyone completes a fetch and little is sent twice`, async () => {
    const victims = Math.round(churnNodes * 0.3)
    const nodes: { home: string; node: TestNode; start(): Promise<void> }[] = []
    for (let at = 0; at < churnNodes; at++) {
      const node = await laboratory.node(`churn-${at}`)
      const start = starter(node, () =>
        nodes.slice(0, 3).flatMap(other => (other.node === node ? [] : other.node)),
      )
      await start()
      nodes.push({ home: node.home, node, start })
    }
    const publisher = (nodes[0] as { node: TestNode }).node
    const path = await laboratory.package('popular', '1.0.0', { 'data.bin': randomBytes(32 * 1024 * 1024) })
    const { id, size } = await publisher.client.publish({ path })
    for (const { node } of nodes)
      await until('everyone knows it', async () =>
        (await node.client.releases(false)).some(release => release.id === id),
      )
    const report = await churn({
      id,
      size,
      victims,
      seed,
      nodes: nodes.map(({ home, node, start }) => ({
        home,
        start,
        client: node.client,
        end: signal => node.end(signal),
      })),
    })
    expect(report.failures).toEqual([])
    expect(report.survivors + report.restarted).toBe(churnNodes - 1)
    expect(report.killed).toBe(victims)
    expect(report.receivedBytes).toBeLessThanOrEqual(1.3 * size * (churnNodes - 1))
    await Promise.all(nodes.map(({ node }) => node.end('SIGKILL')))
  })

  it(
    `of publisher and fetcher, ${kills} times, every acknowledged package is whole on each`,
    async () => {
      const random = randomNumbers(seed)
      const alice = await laboratory.node('alice')
      const bob = await laboratory.node('bob')
      const starts = new Map<TestNode, () => Promise<void>>([
        [alice, starter(alice, () => (bob.addresses.length > 0 ? [bob] : []))],
        [bob, starter(bob, () => [alice])],
      ])
      const start = (node: TestNode) => (starts.get(node) as () => Promise<void>)()
      await start(alice)
      await start(bob)
      // Batches, so that a long campaign does not fill the disk.
      for (let left = kills, batch = 0; left > 0; batch++) {
        const now = Math.min(left, 20)
        left -= now
        const acknowledged = await workUnderKills(alice, bob, batch, now, random, start)
        for (const [node, other] of [
          [bob, alice],
          [alice, bob],
        ] as const) {
          // Alone, so that nothing can be mended from the other.
          await other.end('SIGKILL')
          const held = acknowledged.filter(each => each.by.has(node))
          expect(held.length).toBeGreaterThan(0)
          for (const { id, tree } of held) {
            const out = await laboratory.path(`out-${id}`)
            const { bytesTransferred } = await node.fetch(id, out)
            expect([bytesTransferred, await listTree(out)]).toEqual([0, tree])
            await rm(out, { recursive: true })
            await node.client.remove(id)
          }
          await start(other)
        }
      }
      await Promise.all([alice.end('SIGKILL'), bob.end('SIGKILL')])
    },
    60_000 + kills * 15_000,
  )
})

interface Acknowledged {
  readonly id: string
  readonly tree: readonly string[]
  /** The nodes that said that they have it. */
  readonly by: Set<TestNode>
}

/** One publishes, the other fetches what was published, while `times` one of them is killed and started again. */
async function workUnderKills(
  alice: TestNode,
  bob: TestNode,
  batch: number,
  times: number,
  random: () => number,
  start: (node: TestNode) => Promise<void>,
): Promise<Acknowledged[]> {
  const acknowledged: Acknowledged[] = []
  let over = false

  async function publishing(): Promise<void> {
    for (let at = 0; !over; at++) {
      const path = await laboratory.package(`work-${batch}-${at}`, '1.0.0', {
        'data.bin': randomBytes(4_000_000),
      })
      const tree = await listTree(path)
      const published = await alice.client.publish({ path }).catch(() => undefined)
      if (published !== undefined) acknowledged.push({ id: published.id, tree, by: new Set([alice]) })
      await rm(path, { recursive: true })
      await sleep(200)
    }
  }

  async function fetching(): Promise<void> {
    while (!over) {
      for (const each of acknowledged.filter(({ by }) => !by.has(bob))) {
        const signal = AbortSignal.timeout(10_000)
        const fetched = await bob.client.fetch({ refs: [each.id] }, { signal }).catch(() => [])
        if (fetched.some(result => !('error' in result))) each.by.add(bob)
        if (over) return
      }
      await sleep(50)
    }
  }

  async function killing(): Promise<void> {
    for (let kill = 0; kill < times; kill++) {
      await sleep(500 + random() * 1_500)
      const victim = random() < 0.5 ? alice : bob
      await victim.end('SIGKILL')
      await start(victim)
    }
    // Whoever was started last gets to finish something.
    await until('something was fetched', async () => acknowledged.some(({ by }) => by.has(bob)), 30_000)
  }

  const works = [publishing(), fetching()]
  await killing().finally(() => {
    over = true
  })
  await Promise.all(works)
  return acknowledged
}
