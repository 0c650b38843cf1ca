// The announcer: durable, told at once, retried, woken, told again, forgotten; and how it says that it is late.
import { setTimeout as sleep } from 'node:timers/promises'
import { afterEach, describe, expect, test } from 'vitest'
import { cidOf } from '../../src/base/cid.ts'
import { silentLog } from '../../src/base/log.ts'
import { MemoryKeyValue } from '../../src/base/memory-key-value.ts'
import { Announcer, type AnnouncerOptions } from '../../src/network/announcer.ts'
import { MemoryRouting } from '../../src/network/memory-router.ts'
import type { Announcement, Bulletin, KeyspaceRouter, RecordKey, Router } from '../../src/network/router.ts'
import { until } from '../conformance/host.ts'
import { headKey, providersOf, record, select, validate } from '../conformance/router.ts'
import { connect, startKadNode, stopAll } from './swarm.ts'

const root = cidOf(new TextEncoder().encode('root'))
const head: Announcement = { kind: 'record', key: headKey() }
const provide: Announcement = { kind: 'provide', cid: root }

let announcers: Announcer[] = []
afterEach(async () => {
  await Promise.all(announcers.map(announcer => announcer.stop()))
  announcers = []
})

function makeAnnouncer(
  router: KeyspaceRouter,
  records = new MemoryKeyValue(),
  options: Partial<AnnouncerOptions> = {},
  recordBytes: (key: RecordKey) => Promise<Uint8Array | undefined> = async () => record(1),
): Announcer {
  const announcer = new Announcer({ router, records, recordBytes, log: silentLog }, options)
  announcers.push(announcer)
  return announcer
}

function network(size: number) {
  const routing = new MemoryRouting()
  const routers = Array.from({ length: size }, (_, i) => routing.createRouter(`peer-${i}`, validate, select))
  return { routing, routers: routers as [(typeof routers)[0], ...typeof routers] }
}

/** A router whose peers do what the test says; a lone peer is connected. */
function scripted(answer: (bulletin: Bulletin, signal: AbortSignal | undefined) => Promise<boolean>) {
  const [inner] = network(1).routers
  const calls = { unprovided: 0, explored: 0 }
  const router: KeyspaceRouter = {
    locate: item => inner.locate(item),
    neighbours: () => ['peer'],
    explore: async () => {
      calls.explored++
      return { prefix: '', peers: ['peer'], lookups: 1 }
    },
    async tell(bulletins, peers, options) {
      await Promise.all(
        bulletins.map(async bulletin => {
          if (bulletin.told.has('peer') || !peers.includes('peer')) return
          bulletin.told.add('peer')
          if (await answer(bulletin, options?.signal)) bulletin.accepted++
          else bulletin.refusal = 'refused'
        }),
      )
    },
    unprovide: async () => void calls.unprovided++,
  }
  return { router, calls }
}

const state = (announcer: Announcer) => {
  const { waiting, announced, failing } = announcer.state()
  return { waiting, announced, failing }
}

describe('Announcer', () => {
  test('tells what is added, at once', async () => {
    const { routers } = network(2)
    const announcer = makeAnnouncer(routers[0])
    await announcer.start()
    await announcer.add(head)
    await announcer.add(provide)
    await until(() => announcer.state().announced === 2)
    expect(await routers[1]?.getRecord(headKey())).toEqual(record(1))
    expect(await providersOf(routers[1] as Router, root)).toEqual(['peer-0'])
    expect(announcer.state()).toMatchObject({ keys: 2, waiting: 0, failing: 0, announced: 2, overdue: 0 })
    expect(announcer.state()).toMatchObject({ waitingForPeers: false })
  })

  test('ensures that something is in the queue without telling again what was told', async () => {
    const told: string[] = []
    const { router } = scripted(async ({ item }) => told.push(item.kind) > 0)
    const announcer = makeAnnouncer(router)
    await announcer.start()
    await announcer.ensure(provide)
    await until(() => announcer.state().announced === 1)
    await announcer.ensure(provide)
    await announcer.ensure(head)
    await until(() => announcer.state().announced === 2)
    expect(told).toEqual(['provide', 'record'])
  })

  test('a lone node waits for peers, fails nothing, keeps it over a restart, and tells it when one comes', async () => {
    const { routing, routers } = network(1)
    const records = new MemoryKeyValue()
    const first = makeAnnouncer(routers[0], records)
    await first.start()
    await first.add(head)
    await first.add(provide)
    await sleep(50)
    expect(first.state()).toMatchObject({ keys: 2, waiting: 2, failing: 0, waitingForPeers: true })
    expect(first.state()).not.toHaveProperty('lastError')
    await first.stop()

    const second = makeAnnouncer(routers[0], records)
    await second.start()
    expect(second.state()).toMatchObject({ waiting: 2, announced: 0, waitingForPeers: true })
    const peer = routing.createRouter('late', validate, select)
    second.wake()
    await until(() => second.state().announced === 2)
    expect(await peer.getRecord(headKey())).toEqual(record(1))
    expect(second.state()).toMatchObject({ waiting: 0, failing: 0, waitingForPeers: false })
  })

  test('what all peers refuse fails with the reason, and is tried again when a peer comes', async () => {
    let willing = false
    const { router } = scripted(async () => willing)
    const announcer = makeAnnouncer(router, undefined, { retryMs: 60_000 })
    await announcer.start()
    await announcer.add(head)
    await until(() => announcer.state().failing === 1)
    expect(announcer.state().lastError).toMatch(/catalog-head.*refused/)
    willing = true
    announcer.wake()
    await until(() => announcer.state().announced === 1)
    expect(announcer.state()).not.toHaveProperty('lastError')
  })

  test('what is refused is tried again by itself', async () => {
    let attempts = 0
    const { router } = scripted(async () => ++attempts > 3)
    const announcer = makeAnnouncer(router, undefined, { retryMs: 5 })
    await announcer.start()
    await announcer.add(head)
    await until(() => announcer.state().announced === 1)
    expect(attempts).toBe(4)
  })

  test('added before the start is told after it', async () => {
    const { routers } = network(2)
    const announcer = makeAnnouncer(routers[0])
    await announcer.add(head)
    await announcer.start()
    await until(() => announcer.state().announced === 1)
  })

  test('tells again before it expires, and the new value when it is added again', async () => {
    let value = record(1)
    const told: Uint8Array[] = []
    const { router } = scripted(async bulletin => told.push(bulletin.value as Uint8Array) > 0)
    const announcer = makeAnnouncer(router, undefined, { intervalMs: 80 }, async () => value)
    await announcer.start()
    await announcer.add(head)
    await until(() => told.length >= 4)
    const { cycle, lastCycle } = announcer.state()
    expect(cycle?.startedMs).toBeGreaterThan(lastCycle?.startedMs ?? Number.POSITIVE_INFINITY)
    expect(lastCycle).toMatchObject({ regions: 1, lookups: 1, keys: 1 })
    value = record(2)
    await announcer.add(head)
    await until(() => told.some(bytes => Buffer.from(bytes).equals(record(2))))
    expect(announcer.state().keys).toBe(1)
  })

  test('forgets what is removed, also while it is being told, and never announces it again', async () => {
    const gate = Promise.withResolvers<boolean>()
    let told = 0
    const { router, calls } = scripted(async () => {
      told++
      return gate.promise
    })
    const records = new MemoryKeyValue()
    const announcer = makeAnnouncer(router, records, { intervalMs: 50 })
    await announcer.start()
    await announcer.add(provide)
    await until(() => told === 1)
    await announcer.remove(provide)
    gate.resolve(true)
    await until(() => calls.unprovided === 2)
    await sleep(200)
    expect(told).toBe(1)
    for await (const key of records.keys({ prefix: 'sweep/' }))
      if (key !== 'sweep/cycle') throw new Error(`${key} is still there`)
    expect(state(announcer)).toEqual({ waiting: 0, announced: 0, failing: 0 })
  })

  test('what is added again while it is being told is told once more', async () => {
    const gate = Promise.withResolvers<boolean>()
    let told = 0
    const { router } = scripted(async () => (++told === 1 ? gate.promise : true))
    const announcer = makeAnnouncer(router)
    await announcer.start()
    await announcer.add(head)
    await until(() => told === 1)
    await announcer.add(head)
    gate.resolve(true)
    await until(() => told === 2)
    await until(() => announcer.state().announced === 1)
  })

  test('a record that is no longer here ends its announcement', async () => {
    const { routers } = network(2)
    const announcer = makeAnnouncer(routers[0], undefined, {}, async () => undefined)
    await announcer.start()
    await announcer.add(head)
    await until(() => announcer.state().keys === 0)
    expect(state(announcer)).toEqual({ waiting: 0, announced: 0, failing: 0 })
  })

  test('one that hangs or fails does not hold up the others', async () => {
    const { router } = scripted(async ({ item }, signal) => {
      const name = item.kind === 'record' && item.key.kind === 'head' ? item.key.name : ''
      if (name === 'hangs')
        await new Promise((_, reject) => signal?.addEventListener('abort', () => reject(signal.reason)))
      return name !== 'fails'
    })
    const announcer = makeAnnouncer(router, undefined, { pageTimeoutMs: 300 })
    await announcer.start()
    for (const name of ['hangs', 'fails', ...Array.from({ length: 200 }, (_, i) => `fine-${i}`)])
      await announcer.add({ kind: 'record', key: headKey(name) })
    await until(() => announcer.state().announced === 200 && announcer.state().failing === 2)
  })

  test('forgets what was written before there was a sweep', async () => {
    const records = new MemoryKeyValue()
    await records.put('announce/item/provide/x', new Uint8Array([1]))
    await makeAnnouncer(network(1).routers[0], records).start()
    expect(await records.get('announce/item/provide/x')).toBeUndefined()
  })

  test('warns, once, when what peers hold comes near to being forgotten, and says when that is over', async () => {
    let willing = true
    const { router } = scripted(async () => willing)
    const lines: string[] = []
    const line = (_fields: unknown, message: string) => void lines.push(message)
    const log = { ...silentLog, warn: line, info: line }
    const options = {
      intervalMs: 50,
      lifetimeMs: 1000,
      graceMs: 0,
      measureEveryMs: 10,
      retryMs: 20,
      maxRetryMs: 20,
    }
    const announcer = new Announcer(
      { router, records: new MemoryKeyValue(), recordBytes: async () => record(1), log },
      options,
    )
    announcers.push(announcer)
    await announcer.start()
    await announcer.add(head)
    await announcer.add(provide)
    await until(() => announcer.state().announced === 2)
    expect(announcer.state()).not.toHaveProperty('warning')
    willing = false
    await until(() => announcer.state().warning !== undefined)
    expect(announcer.state().warning).toMatch(/2 announcements are late.*forget/)
    expect(announcer.state().oldestOverdueMs).toBeGreaterThanOrEqual(100)
    await until(() => lines.length > 0)
    willing = true
    await until(() => announcer.state().warning === undefined)
    await until(() => lines.length > 1)
    expect(lines).toEqual([
      'announcements are late: peers begin to forget them',
      'announcements are in time again',
    ])
  })

  test('over a real DHT a release and its provider are known to a connected peer in well under 5 s', async () => {
    const a = await startKadNode()
    const b = await startKadNode()
    try {
      const announcer = makeAnnouncer(a.router)
      await announcer.start()
      a.host.onPeer((_peer, change) => change === 'connected' && announcer.wake())
      await announcer.add(head)
      await announcer.add(provide)
      await until(() => announcer.state().waiting === 2)
      const before = Date.now()
      await connect(a.host, b.host)
      await until(() => announcer.state().announced === 2)
      expect(await b.router.getRecord(headKey())).toEqual(record(1))
      expect(await providersOf(b.router, root)).toEqual([a.peer])
      expect(Date.now() - before).toBeLessThan(3000)
    } finally {
      await stopAll([a, b])
    }
  })
})
