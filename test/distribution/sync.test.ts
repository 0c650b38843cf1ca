import { afterEach, describe, expect, it } from 'vitest'
import { decodeEnvelope, type Envelope } from '../../src/assets/release.ts'
import type { Verified } from '../../src/assets/stage.ts'
import { digestOfCid } from '../../src/base/cid.ts'
import { CatalogError } from '../../src/base/errors.ts'
import { silentLog } from '../../src/base/log.ts'
import { MemoryKeyValue } from '../../src/base/memory-key-value.ts'
import { defaultSyncOptions, Sync, type SyncOptions, syncProtocol } from '../../src/distribution/sync.ts'
import { encodeFrame, FrameReader, type Message } from '../../src/network/frames.ts'
import type { ByteStream } from '../../src/network/host.ts'
import { MemoryNetwork } from '../../src/network/memory-host.ts'
import { Catalogue } from '../../src/registry/catalogue.ts'
import { headChain, release } from '../registry/records.ts'

const running: Sync[] = []
afterEach(async () => {
  await Promise.all(running.splice(0).map(sync => sync.stop()))
})

/** A node with a catalogue; its accept flow takes every well-formed record, unless `refuse` says why not. */
function node(
  network: MemoryNetwork,
  options: Partial<SyncOptions> & { refuse?: (id: string) => CatalogError | undefined } = {},
) {
  const { refuse, ...syncOptions } = options
  const host = network.createHost()
  const catalogue = new Catalogue({ records: new MemoryKeyValue(), log: silentLog })
  const accepted: string[] = []
  const accept = async (bytes: Uint8Array) => {
    const envelope = decodeEnvelope(bytes)
    accepted.push(envelope.id)
    const refusal = refuse?.(envelope.id)
    if (refusal !== undefined) throw refusal
    await catalogue.add(envelope as Verified<Envelope>)
  }
  const sync = new Sync(
    { host, catalogue, accept, log: silentLog },
    { ...defaultSyncOptions, newsDelayMs: 5, intervalMs: 100, ...syncOptions },
  )
  catalogue.onRecord(({ id }) => sync.announce(id))
  running.push(sync)
  const knows = (id: string) => catalogue.isKnown(id)
  return { host, catalogue, sync, accepted, knows, peer: host.peer }
}

const connect = (from: ReturnType<typeof node>, to: { peer: string }) => from.host.dial(`/memory/${to.peer}`)

async function until(holds: () => boolean, timeoutMs = 5_000): Promise<void> {
  for (const deadline = performance.now() + timeoutMs; !holds(); ) {
    if (performance.now() > deadline) throw new Error(`not within ${timeoutMs} ms`)
    await new Promise(resolve => setTimeout(resolve, 5))
  }
}

const releases = (count: number, name = 'many') =>
  Array.from({ length: count }, (_, i) => release({ name: `${name}-${i}` }))

describe('sync', () => {
  it('brings a fresh record to every connected peer, and from there to theirs, but not back', async () => {
    const network = new MemoryNetwork()
    const [alice, bob, carol] = [
      node(network, { intervalMs: 60_000 }),
      node(network, { intervalMs: 60_000 }),
      node(network, { intervalMs: 60_000 }),
    ]
    for (const each of [alice, bob, carol]) await each.sync.start()
    await connect(alice, bob)
    await connect(bob, carol)
    await new Promise(resolve => setTimeout(resolve, 50))
    const fresh = release()
    await alice.catalogue.add(fresh)
    await until(() => carol.knows(fresh.id))
    await new Promise(resolve => setTimeout(resolve, 50))
    expect([alice.accepted, bob.accepted, carol.accepted]).toEqual([[], [fresh.id], [fresh.id]])
  })

  it('on connecting both sides learn what they lack: releases and heads', async () => {
    const network = new MemoryNetwork()
    const [alice, bob] = [node(network), node(network)]
    const { releases: versions, heads } = headChain(3)
    for (const each of versions) await alice.catalogue.add(each)
    for (const head of heads) await alice.catalogue.add(head)
    const own = releases(40, 'own')
    for (const each of own) await bob.catalogue.add(each)
    await alice.sync.start()
    await bob.sync.start()
    await connect(alice, bob)
    await until(
      () =>
        [...versions, heads[2] as (typeof heads)[0]].every(({ id }) => bob.knows(id)) &&
        own.every(({ id }) => alice.knows(id)),
    )
    expect(await bob.catalogue.headsOf('word-count')).toHaveLength(1)
  })

  it('a node that was away learns what it missed', async () => {
    const network = new MemoryNetwork()
    const [alice, bob] = [node(network), node(network)]
    await alice.sync.start()
    await bob.sync.start()
    await connect(alice, bob)
    await new Promise(resolve => setTimeout(resolve, 30))
    network.partition([alice.peer], [bob.peer])
    const missed = releases(30)
    for (const each of missed) await alice.catalogue.add(each)
    await new Promise(resolve => setTimeout(resolve, 50))
    expect(missed.some(({ id }) => bob.knows(id))).toBe(false)
    network.partition()
    await connect(bob, alice)
    await until(() => missed.every(({ id }) => bob.knows(id)))
  })

  it('the interval finds what news did not bring', async () => {
    const network = new MemoryNetwork()
    const [alice, bob] = [node(network, { enabled: false }), node(network, { intervalMs: 50 })]
    await bob.sync.start()
    await connect(bob, alice)
    await new Promise(resolve => setTimeout(resolve, 20))
    const quiet = release()
    await alice.catalogue.add(quiet)
    await until(() => bob.knows(quiet.id))
  })

  it('5,000 records sync, in an empty node, and each is accepted once', async () => {
    const network = new MemoryNetwork()
    const [alice, bob] = [node(network), node(network)]
    const all = releases(5_000)
    for (const each of all) await alice.catalogue.add(each)
    await alice.sync.start()
    await bob.sync.start()
    await connect(bob, alice)
    await until(() => all.every(({ id }) => bob.knows(id)), 12_000)
    expect(new Set(bob.accepted).size).toBe(bob.accepted.length)
  })

  it('a record refused for what it is is not asked for again; one that could not be taken just now is', async () => {
    const network = new MemoryNetwork()
    const [bad, unlucky, good] = releases(3)
    const alice = node(network)
    for (const each of [bad, unlucky, good]) await alice.catalogue.add(each as typeof good & {})
    let busy = 3
    const bob = node(network, {
      intervalMs: 30,
      refuse: id =>
        id === bad?.id
          ? new CatalogError('bad-signature', 'forged')
          : id === unlucky?.id && busy-- > 0
            ? new CatalogError('busy', 'too many')
            : undefined,
    })
    await alice.sync.start()
    await bob.sync.start()
    await connect(bob, alice)
    await until(() => bob.knows(unlucky?.id as string) && bob.knows(good?.id as string))
    await new Promise(resolve => setTimeout(resolve, 150))
    expect(bob.accepted.filter(id => id === bad?.id)).toHaveLength(1)
    expect(bob.accepted.filter(id => id === unlucky?.id)).toHaveLength(4)
  })

  it('what was removed here is not brought back', async () => {
    const network = new MemoryNetwork()
    const [alice, bob] = [node(network), node(network, { intervalMs: 30 })]
    const record = release()
    await alice.catalogue.add(record)
    await bob.catalogue.add(record)
    await bob.catalogue.forget(record.id)
    await alice.sync.start()
    await bob.sync.start()
    await connect(bob, alice)
    await new Promise(resolve => setTimeout(resolve, 150))
    expect(bob.accepted).toEqual([])
  })

  it('answers for names and roots', async () => {
    const network = new MemoryNetwork()
    const [alice, bob] = [node(network), node(network)]
    const { releases: versions, heads } = headChain(2)
    for (const each of [...versions, ...heads]) await alice.catalogue.add(each as Verified<Envelope>)
    await bob.sync.ask(alice.peer, { name: 'word-count' }, {})
    expect(await bob.catalogue.headsOf('word-count')).toHaveLength(1)
    await bob.sync.ask(alice.peer, { root: versions[0]?.statement.root as string }, {})
    expect(bob.knows(versions[0]?.id as string)).toBe(true)
    await bob.sync.ask(alice.peer, { ids: [versions[1]?.id as string] }, {})
    expect(bob.knows(versions[1]?.id as string)).toBe(true)
  })

  it('a silent peer costs a stop nothing', async () => {
    const network = new MemoryNetwork()
    const silent = network.createHost()
    silent.handle(syncProtocol, () => new Promise(() => undefined), { maxInboundPerPeer: 64, maxInbound: 64 })
    const bob = node(network)
    await bob.sync.start()
    await connect(bob, silent)
    const asking = bob.sync
      .ask(silent.peer, { name: 'x' }, {})
      .catch((error: unknown) => (error as CatalogError).code)
    await new Promise(resolve => setTimeout(resolve, 20))
    const started = performance.now()
    await bob.sync.stop()
    expect(await asking).toBe('daemon-stopping')
    expect(performance.now() - started).toBeLessThan(100)
  })
})

describe('a peer that does harm', () => {
  function hostile(network: MemoryNetwork, answer: (question: Message, stream: ByteStream) => Promise<void>) {
    const host = network.createHost()
    let questions = 0
    host.handle(
      syncProtocol,
      async stream => {
        const reader = new FrameReader(stream)
        for (let q = await reader.message(2 ** 20); q !== undefined; q = await reader.message(2 ** 20)) {
          questions += 1
          await answer(q, stream)
        }
      },
      { maxInboundPerPeer: 64, maxInbound: 64 },
    )
    return { peer: host.peer, host, questions: () => questions }
  }

  it('that announces records and never gives them is asked once for each, and no longer', async () => {
    const network = new MemoryNetwork()
    const liar = hostile(network, (question, stream) =>
      stream.write(encodeFrame(question['op'] === 'reconcile' ? { ranges: [] } : { end: true })),
    )
    const bob = node(network, { intervalMs: 60_000 })
    await bob.sync.start()
    await liar.host.dial(`/memory/${bob.peer}`)
    const ids = releases(256).map(({ id }) => digestOfCid(id))
    const stream = await liar.host.open(bob.peer, syncProtocol)
    const reader = new FrameReader(stream)
    for (let round = 0; round < 3; round++) {
      await stream.write(encodeFrame({ op: 'news', ids }))
      expect(await reader.message(1024)).toEqual({})
    }
    await new Promise(resolve => setTimeout(resolve, 150))
    expect(liar.questions()).toBeLessThan(20)
  })

  it('that sends other records than asked for gets them judged like any', async () => {
    const network = new MemoryNetwork()
    const stray = release({ name: 'stray' })
    const liar = hostile(network, async (_, stream) => {
      await stream.write(encodeFrame({ record: stray.bytes }))
      await stream.write(encodeFrame({ end: true }))
    })
    const bob = node(network)
    await bob.sync.ask(liar.peer, { ids: [release().id] }, {})
    expect(bob.accepted).toEqual([stray.id])
  })

  it.each<[string, Message | Uint8Array]>([
    ['no records', {}],
    ['a record that is a number', { record: 7 }],
    ['a record that is too large', { record: new Uint8Array(300 * 1024) }],
    ['garbage', new Uint8Array(100).fill(0xff)],
    ['a huge length', Uint8Array.of(0xff, 0xff, 0xff, 0x7f)],
  ])('that answers with %s ends its own session alone', async (_what, answer) => {
    const network = new MemoryNetwork()
    const liar = hostile(network, (_, stream) =>
      stream.write(answer instanceof Uint8Array ? answer : encodeFrame(answer)),
    )
    const bob = node(network)
    await expect(bob.sync.ask(liar.peer, { ids: [release().id] }, {})).rejects.toMatchObject({
      code: 'bad-peer-message',
    })
    await expect(bob.sync.reconcileWith(liar.peer)).rejects.toMatchObject({ code: 'bad-peer-message' })
    expect(bob.catalogue.count).toBe(0)
  })
})
