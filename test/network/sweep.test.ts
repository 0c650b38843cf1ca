// The sweep's planner on a simulated network and clock: what is covered, when, in which order, at what cost.
import { mkdtemp, rm } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import fc from 'fast-check'
import { afterAll, describe, expect, test } from 'vitest'
import { cidOf } from '../../src/base/cid.ts'
import { sha256 } from '../../src/base/hash.ts'
import type { KeyValue } from '../../src/base/key-value.ts'
import { silentLog } from '../../src/base/log.ts'
import { MemoryKeyValue } from '../../src/base/memory-key-value.ts'
import { News } from '../../src/network/announcer/news.ts'
import { AnnouncementQueue } from '../../src/network/announcer/queue.ts'
import { Regions } from '../../src/network/announcer/regions.ts'
import { Rounds } from '../../src/network/announcer/round.ts'
import { type Cycle, nextSlot } from '../../src/network/announcer/schedule.ts'
import { Sweep } from '../../src/network/announcer/sweep.ts'
import { defaultAnnouncerOptions } from '../../src/network/announcer.ts'
import { fractionOf, isUnder, keyUnder, nearest, prefixOf, sharedBits } from '../../src/network/keyspace.ts'
import type { Announcement } from '../../src/network/router.ts'
import { LevelKeyValue } from '../../src/store/level-key-value.ts'
import { itemName, SimulatedNetwork } from './simulated-network.ts'

const signal = new AbortController().signal
const intervalMs = 1_000_000

/** The parts that the announcer runs, driven by the network's clock. */
class Simulation {
  readonly network: SimulatedNetwork
  readonly queue: AnnouncementQueue
  readonly sweep: Sweep
  readonly news: News
  readonly cycle: Cycle = { intervalMs, phaseMs: 12_345 }
  #revision = 0

  constructor(network: SimulatedNetwork, records: KeyValue = new MemoryKeyValue()) {
    this.network = network
    this.queue = new AnnouncementQueue({ records, locate: item => network.locate(item) })
    const now = () => network.now
    const options = { ...defaultAnnouncerOptions, freshMs: 0 }
    const regions = new Regions(options.freshMs)
    const recordBytes = async () => new Uint8Array([1])
    const rounds = new Rounds(
      { router: network, queue: this.queue, now, log: silentLog, recordBytes },
      options,
    )
    const parts = { router: network, queue: this.queue, rounds, regions, now }
    this.sweep = new Sweep(parts, options, this.cycle)
    this.news = new News(parts, options, this.cycle)
  }

  async add(items: readonly Announcement[]): Promise<void> {
    const at = this.network.now
    await Promise.all(
      items.map(item =>
        this.queue.change(item, () => ({
          state: 'new',
          at,
          since: at,
          triedAt: 0,
          failures: 0,
          revision: ++this.#revision,
        })),
      ),
    )
  }

  async tellNews(): Promise<void> {
    for (let next = await this.news.next(); next.length > 0; next = await this.news.next())
      await this.news.tell(next, signal)
  }

  /** Sweeps until the clock is there. Resolves to when each thing that was announced had been due. */
  async runUntil(time: number): Promise<number[]> {
    const order: number[] = []
    while (this.network.now < time) {
      const next = await this.sweep.next()
      if ('at' in next) {
        this.network.now = Math.min(time, next.at)
        continue
      }
      const entry = await this.queue.read(next.item)
      order.push(entry?.since ?? 0)
      await this.sweep.announceRegionOf(next.item, signal)
    }
    return order
  }
}

const items = (count: number, from = 0): Announcement[] =>
  Array.from({ length: count }, (_, i) => ({
    kind: 'provide',
    cid: cidOf(new TextEncoder().encode(`item ${from + i}`)),
  }))

describe('the keyspace', () => {
  const location = fc.uint8Array({ minLength: 32, maxLength: 32 })

  test('prefixes, shared bits and keys under a prefix agree', () => {
    fc.assert(
      fc.property(location, location, fc.nat(256), (a, b, bits) => {
        const shared = sharedBits(a, b)
        expect(isUnder(prefixOf(a, bits), b)).toBe(bits <= shared)
        expect(prefixOf(a, shared)).toBe(prefixOf(b, shared))
      }),
    )
    for (const prefix of ['', '0', '1', '0110', '111111111'])
      expect(isUnder(prefix, sha256(keyUnder(prefix) as Uint8Array))).toBe(true)
    expect([fractionOf(''), fractionOf('1'), fractionOf('01'), fractionOf('11')]).toEqual([
      0, 0.5, 0.25, 0.75,
    ])
  })

  test('the nearest are those of the smallest XOR, as numbers', () => {
    const number = (bytes: Uint8Array) => BigInt(`0x${Buffer.from(bytes).toString('hex')}`)
    fc.assert(
      fc.property(location, fc.array(location, { maxLength: 30 }), fc.nat(20), (target, others, k) => {
        const want = others
          .map(at => number(at) ^ number(target))
          .sort((a, b) => (a < b ? -1 : a > b ? 1 : 0))
          .slice(0, k)
        const got = nearest(
          target,
          others.map(at => ({ location: at })),
          k,
        )
        expect(got.map(({ location: at }) => number(at) ^ number(target))).toEqual(want)
      }),
    )
  })
})

describe('exploring', () => {
  test('a region has the k nearest peers of every point in it', async () => {
    await fc.assert(
      fc.asyncProperty(
        fc.integer({ min: 1, max: 400 }),
        fc.integer({ min: 4, max: 20 }),
        fc.nat(),
        async (size, k, seed) => {
          const network = new SimulatedNetwork(size, k, String(seed))
          const key = new TextEncoder().encode(`key ${seed}`)
          const region = await network.exploreAt(key)
          expect(isUnder(region.prefix, sha256(key))).toBe(true)
          if (size < k) expect(region).toMatchObject({ prefix: '', lookups: 1 })
          for (let i = 0; i < 8; i++) {
            const at = sha256(keyUnder(region.prefix) as Uint8Array)
            for (const peer of network.closest(at)) expect(region.peers).toContain(peer)
          }
          expect(region.lookups).toBeLessThan(64)
        },
      ),
      { numRuns: 40 },
    )
  })

  test('regions of any two points are one, or one in the other, or apart; together they cover the keyspace', async () => {
    await fc.assert(
      fc.asyncProperty(fc.integer({ min: 1, max: 300 }), fc.nat(), async (size, seed) => {
        const network = new SimulatedNetwork(size, 5, String(seed))
        const prefixes: string[] = []
        // The first point that no region covers yet, until there is none.
        for (let open: string[] = ['']; open.length > 0; ) {
          const prefix = open.pop() as string
          const key = keyUnder(prefix) as Uint8Array
          const region = await network.exploreAt(key)
          prefixes.push(region.prefix)
          open.push(...halvesLeft(prefix, region.prefix))
          open = open.filter(other => !other.startsWith(region.prefix))
        }
        const maximal = prefixes.filter(a => !prefixes.some(b => b !== a && a.startsWith(b)))
        const covered = [...new Set(maximal)].reduce((sum, prefix) => sum + 2 ** -prefix.length, 0)
        expect(covered).toBe(1)
        expect(prefixes.length).toBeLessThanOrEqual(Math.max(1, size))
      }),
      { numRuns: 30 },
    )
  })
})

/** What of the stretch lies outside the region in it. */
function halvesLeft(stretch: string, region: string): string[] {
  const left: string[] = []
  for (let bits = stretch.length; bits < region.length; bits++)
    left.push(region.slice(0, bits) + (region[bits] === '0' ? '1' : '0'))
  return left
}

describe('the schedule', () => {
  test('the next time is an interval from now, give or take an eighth, and an interval on where it is kept', () => {
    fc.assert(
      fc.property(
        fc.stringMatching(/^[01]{0,20}$/),
        fc.nat(2 ** 40),
        fc.nat(2 ** 30),
        (prefix, now, phaseMs) => {
          const cycle = { intervalMs, phaseMs }
          const at = nextSlot(prefix, now, cycle)
          expect(at - now).toBeGreaterThanOrEqual(intervalMs / 8)
          expect(at - now).toBeLessThanOrEqual((intervalMs * 9) / 8 + 1)
          expect(Math.abs(nextSlot(prefix, at, cycle) - at - intervalMs)).toBeLessThanOrEqual(1)
        },
      ),
    )
  })
})

describe('a cycle', () => {
  test('tells every key exactly once, to its k nearest, whatever the network and the keys', async () => {
    await fc.assert(
      fc.asyncProperty(
        fc.integer({ min: 1, max: 250 }),
        fc.integer({ min: 1, max: 60 }),
        fc.nat(),
        async (size, count, seed) => {
          const network = new SimulatedNetwork(size, 6, String(seed))
          const simulation = new Simulation(network)
          const all = items(count, seed % 10_000)
          await simulation.add(all)
          await simulation.tellNews()
          // Two cycles to settle into their regions' times; the third is looked at.
          const start = simulation.cycle.phaseMs + 4 * intervalMs
          await simulation.runUntil(start)
          network.told.length = 0
          await simulation.runUntil(start + intervalMs)
          expect(network.told.map(({ name }) => name).sort()).toEqual(all.map(itemName).sort())
          for (const { location, peers } of network.told)
            for (const peer of network.closest(location)) expect(peers).toContain(peer)
        },
      ),
      { numRuns: 25 },
    )
  })

  test('no key waits longer than an interval and an eighth, whenever it was added', async () => {
    await fc.assert(
      fc.asyncProperty(
        fc.integer({ min: 1, max: 200 }),
        fc.array(fc.integer({ min: 0, max: 2 * intervalMs }), { minLength: 1, maxLength: 25 }),
        async (size, times) => {
          const network = new SimulatedNetwork(size, 5)
          network.explorationMs = 100
          const simulation = new Simulation(network)
          const started = network.now
          const all = items(times.length)
          for (const [i, time] of times.toSorted((a, b) => a - b).entries()) {
            await simulation.runUntil(started + time)
            await simulation.add([all[i] as Announcement])
            await simulation.tellNews()
          }
          const end = started + 6 * intervalMs
          await simulation.runUntil(end)
          // One exploration for each key at most can be ahead.
          const bound = (intervalMs * 9) / 8 + 100 * (times.length + 1)
          for (const item of all) {
            const tells = network.told.filter(({ name }) => name === itemName(item)).map(({ at }) => at)
            const gaps = [...tells, end].map((at, i) => (i === 0 ? 0 : at - (tells[i - 1] ?? 0)))
            expect(Math.max(...gaps)).toBeLessThanOrEqual(bound)
          }
        },
      ),
      { numRuns: 20 },
    )
  })

  test('after an outage the oldest is caught up first', async () => {
    const network = new SimulatedNetwork(200, 5)
    const simulation = new Simulation(network)
    for (let part = 0; part < 10; part++) {
      await simulation.add(items(20, part * 20))
      await simulation.tellNews()
      await simulation.runUntil(network.now + intervalMs / 7)
    }
    network.now += 3 * intervalMs
    network.told.length = 0
    network.explorationMs = 10
    const order = await simulation.runUntil(network.now + intervalMs / 20)
    expect(order.length).toBeGreaterThan(10)
    expect(order).toEqual(order.toSorted((a, b) => a - b))
    expect(new Set(network.told.map(({ name }) => name)).size).toBe(200)
    expect(network.told.length).toBe(200)
  })

  test('a network that is down fails nothing in the queue, and keeps everything due', async () => {
    const network = new SimulatedNetwork(50, 5)
    const simulation = new Simulation(network)
    await simulation.add(items(10))
    await simulation.tellNews()
    network.now += 2 * intervalMs
    network.isDown = true
    const next = await simulation.sweep.next()
    if (!('item' in next)) throw new Error('nothing is due')
    await expect(simulation.sweep.announceRegionOf(next.item, signal)).rejects.toThrow('down')
    expect(simulation.queue.counts).toEqual({ new: 0, told: 10, failing: 0 })
    network.isDown = false
    network.told.length = 0
    await simulation.runUntil(network.now + 1)
    expect(network.told.length).toBe(10)
  })
})

describe('what a cycle costs', () => {
  const directories: string[] = []
  afterAll(async () => {
    for (const directory of directories) await rm(directory, { recursive: true })
  })

  test('lookups grow with the network, not with the keys: 100, 1,000, 10,000 of them among 500 peers', async () => {
    const costs: Record<number, { news: number; cycle: number }> = {}
    for (const count of [100, 1000, 10_000]) {
      const directory = await mkdtemp(join(tmpdir(), 'catalog-sweep-'))
      directories.push(directory)
      const records = await LevelKeyValue.open({ directory: join(directory, 'db') })
      const network = new SimulatedNetwork(500, 20)
      const simulation = new Simulation(network, records)
      await simulation.add(items(count))
      await simulation.tellNews()
      const news = network.lookups
      const start = simulation.cycle.phaseMs + 4 * intervalMs
      await simulation.runUntil(start)
      network.lookups = 0
      network.told.length = 0
      await simulation.runUntil(start + intervalMs)
      expect(network.told.length).toBe(count)
      for (const { location, peers } of network.told.filter((_, i) => i % 37 === 0))
        expect([...peers]).toEqual(expect.arrayContaining(network.closest(location)))
      costs[count] = { news, cycle: network.lookups }
      await records.stop()
    }
    console.log('lookups among 500 peers', JSON.stringify(costs))
    expect(costs[10_000]?.cycle).toBeLessThanOrEqual(1.5 * (costs[1000]?.cycle ?? 0))
    expect(costs[1000]?.cycle).toBeLessThanOrEqual(1.5 * (costs[100]?.cycle ?? 0))
    // The control: one lookup for each key, as it was, would have been 10,000.
    expect(costs[10_000]?.cycle).toBeLessThan(150)
  })
})
