// Announcing many keys over real nodes: who really holds what afterwards, and what it cost in lookups and streams.
import { setTimeout as sleep } from 'node:timers/promises'
import { peerIdFromString } from '@libp2p/peer-id'
import { afterAll, beforeAll, describe, expect, test } from 'vitest'
import { cidOf } from '../../src/base/cid.ts'
import { sha256 } from '../../src/base/hash.ts'
import { silentLog } from '../../src/base/log.ts'
import { MemoryKeyValue } from '../../src/base/memory-key-value.ts'
import { AnnouncementQueue } from '../../src/network/announcer/queue.ts'
import { Regions } from '../../src/network/announcer/regions.ts'
import { Rounds } from '../../src/network/announcer/round.ts'
import { Sweep } from '../../src/network/announcer/sweep.ts'
import { Announcer, defaultAnnouncerOptions } from '../../src/network/announcer.ts'
import { announcementKey } from '../../src/network/kad/dht.ts'
import { nearest } from '../../src/network/keyspace.ts'
import type { Announcement } from '../../src/network/router.ts'
import { headKey, record } from '../conformance/router.ts'
import { Attacker } from './attacker.ts'
import { connect, type KadNode, startKadNode, stopAll, tcpOnly } from './swarm.ts'

const size = 30
const replication = 4
// Thirty nodes in one process of a busy machine: a handshake may take its time.
const patient = { ...tcpOnly, dialTimeoutMs: 30_000, addressDialTimeoutMs: 20_000 }
const limits = { timeout: 240_000 }

describe(`among ${size} real nodes, each key at its ${replication} nearest`, () => {
  const nodes: KadNode[] = []
  const announcers: Announcer[] = []
  let asker: Attacker

  beforeAll(async () => {
    for (let i = 0; i < size; i++) nodes.push(await startKadNode({ replication }, {}, patient))
    // Each knows three that came before it; the rest it has to find.
    for (const [i, node] of nodes.entries())
      for (const other of [i - 1, Math.floor(i / 2), Math.floor(i / 5)])
        if (other >= 0 && other < i && !node.host.isConnected(nodes[other]?.peer ?? ''))
          await connect(node.host, nodes[other]?.host as KadNode['host'], 60_000)
  }, 240_000)

  afterAll(async () => {
    await Promise.all(announcers.map(announcer => announcer.stop()))
    await asker?.stop()
    await stopAll(nodes)
  }, 60_000)

  const locations = () =>
    nodes.map(({ peer }) => ({ peer, location: sha256(peerIdFromString(peer).toMultihash().bytes) }))
  /** Of the others: the announcing node holds its own beside. */
  const closest = (item: Announcement, self: string) =>
    nearest(
      sha256(announcementKey(item)),
      locations().filter(({ peer }) => peer !== self),
      replication,
    ).map(({ peer }) => peer)

  const announce = async (node: KadNode, items: readonly Announcement[]) => {
    const announcer = new Announcer(
      {
        router: node.router,
        records: new MemoryKeyValue(),
        recordBytes: async () => record(1),
        log: silentLog,
      },
      // Counts must not depend on how busy this machine is.
      { freshMs: 3_600_000 },
    )
    announcers.push(announcer)
    const before = { ...node.router.work }
    await Promise.all(items.map(item => announcer.add(item)))
    await announcer.start()
    while (announcer.state().announced < items.length) await sleep(20)
    const { lookups, streams } = node.router.work
    return { lookups: lookups - before.lookups, streams: streams - before.streams }
  }

  /** One cycle of the sweep over what was told long ago. */
  const sweep = async (node: KadNode, items: readonly Announcement[]) => {
    const { router } = node
    const now = () => 1_000_000_000
    const records = new MemoryKeyValue()
    const queue = new AnnouncementQueue({ records, locate: item => router.locate(item) })
    const old = { state: 'told', at: 1000, since: 1000, triedAt: 0, failures: 0, revision: 1 } as const
    await Promise.all(items.map(item => queue.change(item, () => old)))
    const options = defaultAnnouncerOptions
    const rounds = new Rounds(
      { router, queue, now, log: silentLog, recordBytes: async () => record(1) },
      options,
    )
    const regions = new Regions(0)
    const cycle = { intervalMs: options.intervalMs, phaseMs: 0 }
    const planner = new Sweep({ router, queue, rounds, regions, now }, options, cycle)
    const before = node.router.work.lookups
    let told = 0
    for (let next = await planner.next(); 'item' in next; next = await planner.next())
      told += (await planner.announceRegionOf(next.item, new AbortController().signal)).told
    expect(told).toBe(items.length)
    return router.work.lookups - before
  }

  const holders = async (item: Announcement, announcing: string, among: readonly string[]) => {
    const holding: string[] = []
    for (const peer of among) {
      const { record: value, providers } = await asker.held(peer, announcementKey(item), item.kind)
      if (item.kind === 'record' ? value : providers.includes(announcing)) holding.push(peer)
    }
    return holding
  }

  const itemsOf = (count: number, label: string): Announcement[] =>
    Array.from({ length: count }, (_, i) =>
      i % 4 === 0
        ? { kind: 'record', key: headKey(`${label}-${i}`) }
        : { kind: 'provide', cid: cidOf(new TextEncoder().encode(`${label} ${i}`)) },
    )

  test(
    'lookups stay the same for 40, 400 and 4,000 keys, and every nearest peer holds its keys',
    limits,
    async () => {
      const costs: Record<number, { lookups: number; streams: number; cycle: number }> = {}
      const [first, second, third, ...more] = nodes.slice(3) as [KadNode, KadNode, KadNode, ...KadNode[]]
      const told = [
        { node: first, items: itemsOf(40, 'small') },
        { node: second, items: itemsOf(400, 'medium') },
        { node: third, items: itemsOf(4000, 'large') },
      ]
      for (const [i, { node, items }] of told.entries()) {
        const cycle = await sweep(more[i] as KadNode, items)
        costs[items.length] = { ...(await announce(node, items)), cycle }
      }
      // The control, one lookup for each key, as it was.
      const control = nodes[9] as KadNode
      const before = control.router.work.lookups
      for (const item of itemsOf(40, 'control'))
        if (item.kind === 'record') await control.router.putRecord(item.key, record(1))
        else await control.router.provide(item.cid)
      const one = control.router.work.lookups - before
      console.log(`announced among ${size} nodes`, JSON.stringify({ ...costs, 'one by one, 40': one }))

      asker = await Attacker.start()
      for (const { host } of nodes) await asker.dial(host.addresses()[0] as string)
      for (const [i, { node, items }] of told.entries())
        for (const item of items.filter((_, place) => place % Math.ceil(items.length / 40) === 0)) {
          const want = closest(item, node.peer)
          expect(await holders(item, node.peer, want)).toEqual(want)
          // And what the sweep told, from another node.
          const sweeper = more[i]?.peer ?? ''
          const again = closest(item, sweeper)
          expect(await holders(item, sweeper, again)).toEqual(again)
        }
      // The control: far peers do not hold what is not theirs.
      const everybody = nodes.map(({ peer }) => peer)
      const item: Announcement = { kind: 'record', key: headKey('large-0') }
      expect((await holders(item, third.peer, everybody)).length).toBeLessThan(size / 2)
      expect(one).toBeGreaterThanOrEqual(40)
      // Where ids happen to lie decides the number of regions; a hundred times as many keys do not.
      expect(costs[4000]?.lookups).toBeLessThan(2 * size)
      expect(costs[4000]?.cycle).toBeLessThan(2 * size)
      expect(costs[4000]?.cycle).toBeLessThanOrEqual(2 * (costs[40]?.cycle ?? 0))
      expect(costs[4000]?.streams).toBeLessThan(1000)
    },
  )
})
