// A minute of grace and more would make these tests long: grace and checks take seconds here.
import { createHash, randomBytes } from 'node:crypto'
import { readdir, readFile, writeFile } from 'node:fs/promises'
import { join } from 'node:path'
import { afterAll, beforeAll, describe, expect, it } from 'vitest'
import type { DrainResult, PublishResult, ReplicasView } from '../../src/control/api.ts'
import { Laboratory, type TestNode, until } from './harness.ts'

const laboratory = new Laboratory()
const graceMs = 3_000
const env = (changes: Record<string, string> = {}) => ({
  ...process.env,
  CATALOG_REPLICATION_FACTOR: '3',
  CATALOG_REPLICATION_SETTLE_SECONDS: '1',
  CATALOG_REPLICATION_CHECK_EVERY_SECONDS: '3',
  CATALOG_REPLICATION_GRACE_SECONDS: String(graceMs / 1000),
  ...changes,
})

/** Nodes that are connected with each other; `changes` by number. */
async function network(prefix: string, count: number, changes: Record<number, Record<string, string>> = {}) {
  const names = Array.from({ length: count }, (_, number) => `${prefix}-${number}`)
  const nodes = await Promise.all(names.map(name => laboratory.node(name)))
  const [first, ...rest] = nodes as [TestNode, ...TestNode[]]
  await first.start([], env(changes[0]))
  await Promise.all(
    rest.map((node, number) => node.start(['--bootstrap', first.address], env(changes[number + 1]))),
  )
  await until(
    'all are connected with the first',
    async () => (await first.client.peers()).length === count - 1,
    20_000,
  )
  return nodes
}

const publish = async (node: TestNode, name: string, ...options: string[]) => {
  const path = await laboratory.package(name, '1.0.0', { 'data.bin': randomBytes(3_000_000) })
  return node.json<PublishResult>('publish', path, ...options)
}

const wholeOn = (view: ReplicasView) =>
  view.peers.filter(({ state }) => state === 'whole').map(({ peer }) => peer)

/** The nodes whose store has the whole content, whoever has promised what. */
async function holding(nodes: readonly TestNode[], id: string): Promise<string[]> {
  const lists = await Promise.all(nodes.map(node => node.client.releases(true)))
  return nodes
    .filter((_, index) => lists[index]?.some(each => each.id === id && each.held === 'complete'))
    .map(({ peerId }) => peerId)
}

const end = (nodes: readonly TestNode[]) => Promise.all(nodes.map(node => node.end('SIGKILL')))

describe('in a network of five', () => {
  let nodes: TestNode[]
  let publisher: TestNode
  let published: PublishResult
  const view = () => publisher.client.replicas(published.id)
  const nodeOf = (peer: string) => nodes.find(({ peerId }) => peerId === peer) as TestNode
  beforeAll(async () => {
    nodes = await network('five', 5)
    publisher = nodes[0] as TestNode
    published = await publish(publisher, 'kept')
  }, 90_000)
  afterAll(() => end(nodes))

  it('a published package has three whole copies within seconds, fetched by nobody', async () => {
    await until('three copies', async () => (await view()).copies === 3, 20_000)
    const state = await view()
    expect(state).toMatchObject({ factor: 3, copies: 3, refusals: [] })
    expect((await holding(nodes, published.id)).sort()).toEqual(wholeOn(state).sort())
    // Any node can say it, also one that keeps none.
    const outsider = nodes.find(({ peerId }) => !wholeOn(state).includes(peerId)) as TestNode
    expect((await outsider.run('replicas', 'kept')).stdout).toMatch(/^kept 1\.0\.0, .*: 3 copies\n/)
    await until('nothing is below', async () => (await publisher.client.status()).replication.below === 0)
    expect((await publisher.client.status()).replication).toMatchObject({ kept: 1, draining: false })
    expect((await publisher.run('status')).stdout).toContain('3 of each package published here; 1 kept')
  }, 30_000)

  it('a copy that rots on a disk is found and mended', async () => {
    const holder = nodeOf(wholeOn(await view()).find(peer => peer !== publisher.peerId) as string)
    const files = await readdir(holder.home, { recursive: true })
    const file = join(holder.home, files.find(path => path.endsWith(`/${published.root}`)) as string)
    const digest = async () =>
      createHash('sha256')
        .update(await readFile(file))
        .digest('hex')
    const before = await digest()
    const bytes = await readFile(file)
    for (let at = 1000; at < bytes.byteLength; at += 10_000) bytes[at] = (bytes[at] as number) ^ 0xff
    await writeFile(file, bytes)
    expect(await digest()).not.toBe(before)
    await until('every byte is as before', async () => (await digest()) === before, 40_000)
    await until('it counts as whole again', async () => wholeOn(await view()).includes(holder.peerId), 20_000)
  }, 70_000)

  it('a holder that is killed for ever is replaced within a minute after it counts as gone', async () => {
    const lost = nodeOf(wholeOn(await view()).find(peer => peer !== publisher.peerId) as string)
    await lost.end('SIGKILL')
    nodes = nodes.filter(node => node !== lost)
    await until(
      'three copies without it',
      async () => {
        const state = await view()
        return state.copies === 3 && !state.peers.some(({ peer }) => peer === lost.peerId)
      },
      // A connection over QUIC takes ten seconds to be noticed as lost.
      10_000 + graceMs + 60_000,
    )
    expect(await holding(nodes, published.id)).toHaveLength(3)
  }, 90_000)

  it('a drained node hands over first; what is then published does not come to it', async () => {
    const drained = nodeOf(wholeOn(await view()).find(peer => peer !== publisher.peerId) as string)
    const result = await drained.json<DrainResult>('drain')
    expect(result).toEqual({ draining: true, handedOver: 1, left: [] })
    const rest = nodes.filter(node => node !== drained)
    expect(await holding(rest, published.id)).toHaveLength(3)
    const { stdout } = await drained.run('status')
    expect(stdout).toMatch(/Copies .* 0 kept, .*draining/)
    await drained.end('SIGTERM')
    nodes = rest
    await until('three copies elsewhere', async () => (await view()).copies === 3, 20_000)
  }, 60_000)

  it('with three nodes left, draining one says what it cannot hand over, and undoing makes it take again', async () => {
    const other = nodes.find(node => node !== publisher) as TestNode
    const { code, stdout } = await other.run('drain')
    expect(code).toBe(5)
    expect(stdout).toMatch(/For 1 package there are too few other nodes/)
    expect(stdout).toContain('kept 1.0.0: 2 of 3 copies')
    expect((await other.run('drain', '--undo')).stdout).toBe('This node takes copies again.\n')
    await until('three copies count again', async () => (await view()).copies === 3, 20_000)
  }, 90_000)

  it('fewer copies can be asked for where it was published, and not elsewhere', async () => {
    const other = nodes.find(node => node !== publisher) as TestNode
    const refused = await other.run('replicas', 'kept', '--factor', '1', '--json')
    expect([refused.code, JSON.parse(refused.stderr).error.code]).toEqual([9, 'forbidden'])
    await publisher.json('replicas', 'kept', '--factor', '1')
    await until('one copy is promised', async () => wholeOn(await view()).length === 1, 20_000)
    expect(wholeOn(await view())).toEqual([publisher.peerId])
  }, 60_000)
})

describe('in a network of two, and a node that is full', () => {
  it('as many copies as there can be are kept, and it is said why there are no more', async () => {
    const nodes = await network('few', 3, { 2: { CATALOG_REPLICATION_MAX_BYTES: '1000000' } })
    const [alice, bob, full] = nodes as [TestNode, TestNode, TestNode]
    const { id } = await publish(alice, 'scarce')
    await until('two copies', async () => (await alice.client.replicas(id)).copies === 2, 20_000)
    await until('the full one has refused', async () => {
      const { refusals } = await alice.client.replicas(id)
      return refusals.length === 1 && refusals[0]?.peer === full.peerId && refusals[0].reason === 'no-space'
    })
    const { stdout } = await alice.run('replicas', 'scarce')
    expect(stdout).toContain('2 of 3 copies; no other node takes one')
    expect(await holding(nodes, id)).toEqual([alice.peerId, bob.peerId])
    await until('the status says so', async () => (await alice.client.status()).replication.below === 1)
    // One that asks for two has all it asks for.
    const two = await publish(alice, 'modest', '--replicas', '2')
    await until('two copies', async () => (await alice.client.replicas(two.id)).copies === 2, 20_000)
    expect(await alice.client.replicas(two.id)).toMatchObject({ factor: 2, refusals: [] })
    await end(nodes)
  }, 120_000)
})
