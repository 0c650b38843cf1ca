import { afterEach, beforeAll, describe, expect, it, vi } from 'vitest'
import { MemoryNetwork } from '../../src/network/memory-host.ts'
import type { Signer } from '../../src/trust/signer.ts'
import { newSigner } from '../flows/nodes.ts'
import { connectAll, type Keeper, type KeeperOptions, keeper, keeping } from './replication-peers.ts'

let signer: Signer
beforeAll(async () => {
  signer = await newSigner()
}, 30_000)

let all: Keeper[] = []
let network = new MemoryNetwork()
afterEach(async () => {
  await Promise.all(all.map(each => each.kill()))
})

/** Nodes that are connected with each other. */
async function swarm(count: number, options: Record<number, KeeperOptions> = {}): Promise<Keeper[]> {
  network = new MemoryNetwork()
  all = []
  for (let number = 0; number < count; number++) all.push(await keeper(network, signer, options[number]))
  await connectAll(all)
  return all
}

const within = (check: () => Promise<void> | void) => vi.waitFor(check, { timeout: 15_000, interval: 20 })
const copies = (count: number, root: string, nodes = all) =>
  within(async () => expect(await keeping(nodes, root)).toHaveLength(count))
const first = (nodes: readonly Keeper[]) => nodes[0] as Keeper
const others = (nodes: readonly Keeper[], ...not: readonly (Keeper | undefined)[]) =>
  nodes.filter(each => !not.includes(each))
const keeperOf = (peer: string | undefined) => all.find(each => each.peer === peer) as Keeper

describe('a published package', () => {
  it('has three whole copies, on nodes that fetched nothing by hand, and stays so', async () => {
    const nodes = await swarm(5)
    const { statement } = await first(nodes).publish('kept')
    await copies(3, statement.root)
    await within(async () =>
      expect(await first(nodes).replication.replicas(statement.root)).toMatchObject({
        factor: 3,
        copies: 3,
        refusals: [],
      }),
    )
    const before = await keeping(nodes, statement.root)
    await new Promise(resolve => setTimeout(resolve, 1_500))
    expect(await keeping(nodes, statement.root)).toEqual(before)
    expect((await first(nodes).replication.status()).below).toBe(0)
  })

  it('in a network of two has two, says so and why, and gets the third when a node joins', async () => {
    const [alice, bob] = (await swarm(2)) as [Keeper, Keeper]
    const { statement } = await alice.publish('few')
    await copies(2, statement.root)
    await within(async () => expect((await alice.replication.status()).below).toBe(1))
    expect(await alice.replication.replicas(statement.root)).toMatchObject({ factor: 3, copies: 2 })
    const carol = await keeper(network, signer)
    all.push(carol)
    await connectAll([alice, bob, carol])
    await copies(3, statement.root)
    await within(async () => expect((await alice.replication.status()).below).toBe(0))
  })

  it('goes to nodes with room that accept, and the others say why not', async () => {
    const nodes = await swarm(5, {
      1: { freeBytes: 10 },
      2: { accept: false },
      3: { maxBytes: 20 },
    })
    const { statement } = await first(nodes).publish('picky', 'x'.repeat(1000))
    await copies(2, statement.root)
    expect((await keeping(nodes, statement.root)).sort()).toEqual([nodes[0]?.peer, nodes[4]?.peer].sort())
    await within(async () => {
      const state = await first(nodes).replication.replicas(statement.root)
      const reasons = Object.fromEntries(state?.refusals.map(({ peer, reason }) => [peer, reason]) ?? [])
      expect(reasons).toEqual({
        [nodes[1]?.peer as string]: 'no-space',
        [nodes[2]?.peer as string]: 'not-accepting',
        [nodes[3]?.peer as string]: 'no-space',
      })
    })
  })

  it('is one copy where one is asked for', async () => {
    const nodes = await swarm(3)
    const { statement } = await first(nodes).publish('alone', 'x', 1)
    await new Promise(resolve => setTimeout(resolve, 500))
    expect(await keeping(nodes, statement.root)).toEqual([first(nodes).peer])
  })
})

describe('a holder that is lost', () => {
  it('is replaced, also when it is the publisher; back again, one of too many lets go', async () => {
    const nodes = await swarm(6)
    const alice = first(nodes)
    const { statement } = await alice.publish('lasting', 'y'.repeat(50_000))
    await copies(3, statement.root)
    await within(async () => expect((await alice.replication.replicas(statement.root))?.copies).toBe(3))
    await alice.host.stop()
    const rest = others(nodes, alice)
    await copies(3, statement.root, rest)
    await alice.host.start()
    await connectAll(nodes)
    await copies(3, statement.root)
    expect((await keeping(rest, statement.root)).length).toBeGreaterThanOrEqual(2)
  })

  it('of many packages: each is back at three', async () => {
    const nodes = await swarm(6)
    const roots: string[] = []
    for (let number = 0; number < 30; number++)
      roots.push((await first(nodes).publish(`many-${number}`)).statement.root)
    for (const root of roots) await copies(3, root)
    const counts = await Promise.all(nodes.map(async each => (await each.replication.status()).kept))
    expect(counts.reduce((sum, count) => sum + count)).toBe(90)
    // Rendezvous hashing: no node but the publisher has nearly all of them.
    for (const count of counts.slice(1)) expect(count).toBeLessThan(27)
    const lost = nodes[3] as Keeper
    await lost.kill()
    for (const root of roots) await copies(3, root, others(nodes, lost))
  }, 60_000)

  it('a node that does not hear another, though others do, makes no copy too many', async () => {
    const nodes = await swarm(5)
    const { statement } = await first(nodes).publish('behind-walls')
    await copies(3, statement.root)
    const [, a, b] = await keeping(nodes, statement.root)
    // Only these two cannot reach each other: partitions are by groups, so their links are cut and dialling fails.
    const [one, two] = [keeperOf(a), keeperOf(b)]
    const opening = (keeperA: Keeper, keeperB: Keeper) => {
      const open = keeperA.host.open.bind(keeperA.host)
      vi.spyOn(keeperA.host, 'open').mockImplementation((peer, ...rest) =>
        peer === keeperB.peer ? Promise.reject(new Error('no way')) : open(peer, ...rest),
      )
    }
    opening(one, two)
    opening(two, one)
    network.cut(one.peer, two.peer)
    await new Promise(resolve => setTimeout(resolve, 2_500))
    expect((await keeping(nodes, statement.root)).sort()).toEqual([first(nodes).peer, a, b].sort())
  })
})

describe('draining', () => {
  it('hands every copy over, lets go only then, and takes no more until it is undone', async () => {
    const nodes = await swarm(5)
    const alice = first(nodes)
    const roots: string[] = []
    for (let number = 0; number < 5; number++)
      roots.push((await alice.publish(`moving-${number}`)).statement.root)
    for (const root of roots) await copies(3, root)
    const progress: number[] = []
    const drained = await alice.replication.drain({ onProgress: ({ left }) => progress.push(left.length) })
    expect(drained).toEqual({ total: 5, left: [] })
    expect(progress.at(0)).toBe(5)
    for (const root of roots) {
      expect(alice.replication.isOwed(root)).toBe(false)
      expect(await keeping(others(nodes, alice), root)).toHaveLength(3)
      // What is no longer owed is not taken away: it was published here.
      expect(await alice.store.state(root)).toBe('complete')
      expect(await alice.replication.wasKept(root)).toBe(true)
    }
    const { statement } = await (nodes[1] as Keeper).publish('later', 'z', 5)
    await copies(4, statement.root)
    expect(alice.replication.isOwed(statement.root)).toBe(false)
    await alice.replication.undrain()
    await alice.replication.stop()
    await within(async () => {
      const state = await (nodes[1] as Keeper).replication.replicas(statement.root)
      expect(state?.refusals).toEqual([{ peer: alice.peer, reason: 'draining' }])
    })
  }, 30_000)

  it('with too few other nodes ends, says what is left, and keeps it', async () => {
    const [alice] = (await swarm(3)) as [Keeper]
    const { statement } = await alice.publish('stays')
    await copies(3, statement.root)
    const { total, left } = await alice.replication.drain()
    expect([total, left]).toEqual([1, [statement.root]])
    expect(alice.replication.isOwed(statement.root)).toBe(true)
  })
})

describe('the factor', () => {
  it('can be raised by any holder and lowered by who asked for the copies; surplus ones go', async () => {
    const nodes = await swarm(6)
    const alice = first(nodes)
    const { statement } = await alice.publish('scaled')
    const { root } = statement
    await copies(3, root)
    const [, peer] = await keeping(nodes, root)
    const holder = keeperOf(peer)
    await expect(holder.replication.setFactor(root, 2)).rejects.toMatchObject({ code: 'forbidden' })
    await holder.replication.setFactor(root, 5)
    await copies(5, root)
    await alice.replication.setFactor(root, 2)
    await copies(2, root)
    expect(alice.replication.isOwed(root)).toBe(true)
    await expect(alice.replication.setFactor(root, 17)).rejects.toMatchObject({ code: 'invalid-request' })
    const outsider = others(nodes, ...(await keeping(nodes, root)).map(keeperOf))[0] as Keeper
    await expect(outsider.replication.setFactor(root, 4)).rejects.toMatchObject({ code: 'not-found' })
    expect(await outsider.replication.replicas(root)).toMatchObject({ factor: 2, copies: 2 })
  }, 30_000)
})

describe('a holder that removes the release', () => {
  it('tells the others, who replace it, and does not get it again', async () => {
    const nodes = await swarm(5)
    const alice = first(nodes)
    const { id, statement } = await alice.publish('unloved')
    await copies(3, statement.root)
    const [, peer] = await keeping(nodes, statement.root)
    const remover = keeperOf(peer)
    await remover.catalogue.forget(id)
    await remover.replication.leave(statement.root)
    await copies(3, statement.root, others(nodes, remover))
    expect(remover.replication.isOwed(statement.root)).toBe(false)
  })
})
