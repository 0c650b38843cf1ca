// N6: while 30 % of the nodes are killed every ten seconds and started again, every package with a live replica can
// be fetched; a minute after the last death all nodes know the same. CATALOG_MINUTES says how long.
import { randomBytes } from 'node:crypto'
import { setTimeout as sleep } from 'node:timers/promises'
import { describe, expect, it } from 'vitest'
import { randomNumbers } from '../../bench/churn.ts'
import { Laboratory, type TestNode, until } from '../daemon/harness.ts'

const laboratory = new Laboratory()
const seed = Number(process.env['CATALOG_SEED'] ?? Math.floor(Math.random() * 2 ** 31))
const minutes = Number(process.env['CATALOG_MINUTES'] ?? 2)
const count = 10
const packages = 10
/** A dead peer is noticed after ten seconds; a provider that died in mid-fetch costs that once, and another search. */
const fetchWithinMs = 45_000

describe(`30 % of ${count} nodes killed every 10 s for ${minutes} min (CATALOG_SEED=${seed})`, () => {
  it('what has a live replica can be fetched, and all converge', async () => {
    const random = randomNumbers(seed)
    const nodes: { node: TestNode; listen: string; alive: boolean; turn: Promise<unknown> }[] = []
    const start = async (each: (typeof nodes)[number]) => {
      const alive = nodes.filter(other => other.alive && other !== each).slice(0, 3)
      await each.node.start([
        '--listen',
        each.listen,
        ...alive.flatMap(({ node }) => ['--bootstrap', node.address]),
      ])
      each.listen = each.node.address.slice(0, each.node.address.indexOf('/p2p/'))
      each.alive = true
    }
    for (let at = 0; at < count; at++) {
      const node = await laboratory.node(`unrest-${at}`)
      const each = { node, listen: '/ip4/127.0.0.1/udp/0/quic-v1', alive: false, turn: Promise.resolve() }
      await start(each)
      nodes.push(each)
    }
    // Each package has three holders; the others fetch and forget it.
    const held = new Map<string, Set<TestNode>>()
    for (let at = 0; at < packages; at++) {
      const holders = [0, 1, 2].map(step => (nodes[(at + step) % count] as (typeof nodes)[number]).node)
      const path = await laboratory.package(`unrest-${at}`, '1.0.0', { 'data.bin': randomBytes(4_000_000) })
      const { id } = await (holders[0] as TestNode).client.publish({ path })
      for (const holder of holders.slice(1)) {
        await knows(holder, id)
        await holder.fetch(id)
      }
      held.set(id, new Set(holders))
    }
    for (const { node } of nodes) for (const id of held.keys()) await knows(node, id)

    const ends = performance.now() + minutes * 60_000
    let fetched = 0
    const failures: string[] = []
    const fetching = (async () => {
      while (performance.now() < ends) {
        const [id, holders] = [...held][Math.floor(random() * held.size)] as [string, Set<TestNode>]
        const asker = nodes.find(({ node, alive }) => alive && !holders.has(node) && random() < 0.3)
        if (asker === undefined) continue
        const before = asker.node.pid
        const signal = AbortSignal.timeout(fetchWithinMs)
        const failure = await asker.node.client.fetch({ refs: [id] }, { signal }).then(
          () => undefined,
          error => String(error),
        )
        const askerLived = asker.alive && asker.node.pid === before
        if (failure === undefined) {
          fetched++
          if (askerLived) await asker.node.client.remove(id).catch(() => undefined)
        } else if (askerLived && nodes.some(({ node, alive }) => alive && holders.has(node)))
          failures.push(failure)
        await sleep(100)
      }
    })()
    while (performance.now() < ends) {
      const order = nodes.map(each => [random(), each] as const).sort(([a], [b]) => a - b)
      const victims = order.slice(0, Math.round(count * 0.3)).map(([, each]) => each)
      for (const victim of victims) victim.alive = false
      await Promise.all(victims.map(({ node }) => node.end('SIGKILL')))
      await sleep(5_000)
      await Promise.all(victims.map(start))
      await sleep(5_000)
    }
    await fetching
    expect(failures).toEqual([])
    expect(fetched).toBeGreaterThan(minutes * 2)

    const path = await laboratory.package('afterwards', '1.0.0', { 'data.bin': randomBytes(1000) })
    const { id } = await (nodes[0] as (typeof nodes)[number]).node.client.publish({ path })
    for (const { node } of nodes) await knows(node, id, 60_000)
    for (const [each, holders] of held)
      for (const holder of holders) expect((await holder.client.show(each)).held).toBe('complete')
  })
})

const knows = (node: TestNode, id: string, withinMs = 30_000) =>
  until(
    `${node.home} knows ${id}`,
    async () => (await node.client.releases(false)).some(release => release.id === id),
    withinMs,
  )
