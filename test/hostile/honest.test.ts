// What the defences against hostile repositories must not break: backups, rotation, recovery, and certificates that
// somebody else would like to see revoked.
import { afterEach, beforeEach, describe, expect, it } from 'vitest'
import { cidOf } from '../../src/base/cid.ts'
import { isCatalogError } from '../../src/base/errors.ts'
import { decodeChain } from '../../src/trust/certificate.ts'
import {
  authority,
  day,
  idOf,
  keysOf,
  now,
  publisherCertificate,
  revocations,
} from '../trust/test-network.ts'
import { nextHead, nextRelease, seal } from './attacker.ts'
import { copyOf, signerOf, startNode, tool } from './node.ts'
import { delegate, publisher, recoverKeys, renewed } from './people.ts'
import { makeWorld, type World } from './world.ts'

let world: World
beforeEach(async () => {
  world = await makeWorld()
})
afterEach(() => world.stop())

/** A node whose disk was set back to how the repository's was after the first release. */
async function restored(identity?: ReturnType<typeof publisher>) {
  const { net, routing, clock, backup, store } = world
  const records = await copyOf(backup)
  const node = await startNode({
    net,
    routing,
    clock,
    records,
    store,
    ...(identity === undefined ? {} : { identity }),
  })
  await node.host.dial(world.client.host.addresses()[0] as string)
  return node
}

describe('a node that was restored from a backup', () => {
  it('as a client: sees what is newer and goes on from there', async () => {
    const node = await restored()
    expect((await node.head()).id).toBe(world.heads[0].id)
    await node.sync.reconcileWith(world.client.peer)
    expect((await node.head()).id).toBe(world.heads[1].id)
    const next = await world.publishNext()
    await world.catchUp()
    await node.sync.reconcileWith(world.client.peer)
    expect((await node.install(tool)).release.id).toBe(next.id)
    await node.stop()
  })

  it('as a publisher: asks its peers before it signs, and contradicts nobody', async () => {
    const node = await restored(publisher(world))
    const next = await node.publish(tool, '1.2.0')
    const head = await node.head()
    expect(head.statement).toMatchObject({ sequence: 3, previous: world.heads[1].id })
    expect(head.statement.versions.map(({ version }) => version)).toEqual(['1.0.0', '1.1.0', '1.2.0'])
    await world.client.sync.reconcileWith(node.peer)
    expect((await world.client.install(tool)).release.id).toBe(next.id)
    // The old head came along, and is old; nothing contradicts anything.
    const outcomes = new Set(world.client.arrivals.map(({ outcome }) => outcome))
    expect([...outcomes].filter(each => each !== 'taken' && each !== 'stale-record')).toEqual([])
    await node.stop()
  })

  it('as a publisher that hears nobody: its contradiction is proved, and new keys put it right', async () => {
    const node = await restored(publisher(world))
    world.net.partition([node.peer])
    await node.publish(tool, '1.0.1')
    const contradiction = await node.head()
    expect(contradiction.statement.sequence).toBe(2)
    world.net.partition()
    await world.client.accept(contradiction.bytes).catch(() => undefined)
    await expect(world.client.install(tool)).rejects.toMatchObject({ code: 'equivocation' })
    for (const bytes of await world.client.catalogue.recordsOf(tool))
      await world.repository.accept(bytes).catch(() => undefined)
    world.repository.at.identity = await renewed(world)
    const next = await world.publishNext()
    await world.catchUp()
    expect((await world.client.install(tool)).release.id).toBe(next.id)
    await node.stop()
  })
})

describe('revocation', () => {
  it('of another authority’s certificates does nothing', async () => {
    const other = await authority({ subject: keysOf('region') })
    const harm = [world.publisher, world.authority].map(({ fingerprint }) => fingerprint).sort()
    const revoked = harm.map(certificate => ({ certificate, at: now, reason: 'envy' }))
    const list = await revocations(other, [other], { revoked }, 'region')
    await world.client.accept(list.bytes)
    await world.client.settled()
    expect((await world.client.install(tool)).release.id).toBe(world.releases[1].id)
  })

  it('leaves what was signed before to whoever lists it again', async () => {
    await recoverKeys(world)
    await expect(world.client.install(`${tool}@1.0.0`)).rejects.toMatchObject({ code: 'not-found' })
    // The same content again is no new release: the one that the old key signed is listed by the new one.
    const again = await world.repository.publish(tool, '1.0.0')
    expect(again.id).toBe(world.releases[0].id)
    await world.catchUp()
    expect((await world.client.install(`${tool}@1.0.0`)).release.id).toBe(world.releases[0].id)
  })

  it('frees a node that was offline from what it believed meanwhile', async () => {
    const { client, net, repository } = world
    net.partition([repository.peer])
    const forged = await seal(nextRelease(world, { version: '6.6.6' }), publisher(world))
    const versions = [...world.heads[1].statement.versions, { version: '6.6.6', id: cidOf(forged) }]
    await client.accept(forged)
    await client.accept(
      await seal(nextHead(world, { sequence: Number.MAX_SAFE_INTEGER, versions }), publisher(world)),
    )
    expect((await client.head()).statement.sequence).toBe(Number.MAX_SAFE_INTEGER)
    net.partition()
    await client.host.dial(repository.host.addresses()[0] as string)
    await recoverKeys(world)
    const next = await world.publishNext()
    await world.catchUp()
    expect((await client.install(tool)).release.id).toBe(next.id)
    await expect(client.install(`${tool}@6.6.6`)).rejects.toSatisfy(isCatalogError)
    await expect(client.install(cidOf(forged))).rejects.toMatchObject({ code: 'certificate-revoked' })
  })
})

describe('a stolen second machine', () => {
  it('that numbered its heads without end keeps nobody from what was refused for it, once it is revoked', async () => {
    const { client } = world
    const thief = await delegate(world)
    await client.accept(await seal(nextHead(world, { sequence: Number.MAX_SAFE_INTEGER }), thief))
    // The publisher, who has not heard of it, publishes.
    world.net.partition([world.repository.peer])
    const next = await world.publishNext()
    world.net.partition()
    await client.host.dial(world.repository.host.addresses()[0] as string)
    await world.catchUp()
    const { id } = await world.repository.head()
    expect(client.arrivals.find(arrival => arrival.id === id)?.outcome).toBe('stale-record')
    const [stolen] = decodeChain(thief.chain ?? [])
    await world.renewList([stolen?.fingerprint ?? ''])
    await world.catchUp()
    await world.catchUp()
    expect((await client.head())?.id).toBe(id)
    expect((await client.install(tool)).release.id).toBe(next.id)
  })
})

describe('an expired certificate', () => {
  it('for the same name, of a former holder, makes the name of nobody else ambiguous', async () => {
    const { client, clock, authority: above } = world
    const former = await publisherCertificate(above, {
      ...{ subject: keysOf('stranger'), publisher: idOf('stranger'), notAfter: now + 5 * day },
    })
    const signer = signerOf('stranger', [former, above], idOf('stranger'))
    const { previous: _, ...first } = nextHead(world, { sequence: 1, publisher: idOf('stranger') })
    const backdated = await seal(first, signer)
    clock.now += 10 * day
    await client.accept(backdated)
    expect((await client.install(tool)).release.id).toBe(world.releases[1].id)
  })

  it('gives way to the next one, and its head can be had on request while there is none', async () => {
    const { client, clock } = world
    clock.now += 85 * day
    const list = await world.renewList([], 3)
    await client.accept(list.bytes)
    await client.accept(await seal(nextHead(world), publisher(world)))
    clock.now += 10 * day
    await expect(client.install(tool)).rejects.toMatchObject({ code: 'stale-head' })
    expect((await client.install(tool, { allowStale: true })).stale).toBeDefined()
  })
})
