// The announcement queue: durable, tried at once, retried, woken, re-put, forgotten.
import { setTimeout as sleep } from 'node:timers/promises'
import { afterEach, describe, expect, test } from 'vitest'
import { cidOf } from '../../src/base/cid.ts'
import { silentLog } from '../../src/base/log.ts'
import { MemoryKeyValue } from '../../src/base/memory-key-value.ts'
import { type Announcement, Announcer, type AnnouncerOptions } from '../../src/network/announcer.ts'
import { MemoryRouting } from '../../src/network/memory-router.ts'
import type { RecordKey, Router } from '../../src/network/router.ts'
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
  router: Pick<Router, 'putRecord' | 'provide' | 'unprovide'>,
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
    expect(announcer.state()).toEqual({ waiting: 0, failing: 0, announced: 2 })
  })

  test('ensures that something is in the queue without telling again what was told', async () => {
    const { routers } = network(2)
    let told = 0
    const counting = {
      ...routers[0],
      provide: async () => ++told,
      unprovide: async () => undefined,
      putRecord: async () => 1,
    }
    const announcer = makeAnnouncer(counting)
    await announcer.start()
    await announcer.ensure(provide)
    await until(() => announcer.state().announced === 1)
    await announcer.ensure(provide)
    await announcer.ensure(head)
    await until(() => announcer.state().announced === 2)
    expect(told).toBe(1)
  })

  test('keeps what nobody heard over a restart, and tells it when a peer comes', async () => {
    const { routing, routers } = network(1)
    const records = new MemoryKeyValue()
    const first = makeAnnouncer(routers[0], records)
    await first.start()
    await first.add(head)
    await first.add(provide)
    await until(() => first.state().failing === 2)
    expect(first.state().lastError).toContain('no peer accepted it')
    expect(first.state().oldestDueMs).toBeGreaterThan(Date.now() - 10_000)
    await first.stop()

    const second = makeAnnouncer(routers[0], records, { retryMs: 60_000 })
    await second.start()
    expect(second.state()).toMatchObject({ failing: 2, announced: 0 })
    const peer = routing.createRouter('late', validate, select)
    second.wake()
    await until(() => second.state().announced === 2)
    expect(await peer.getRecord(headKey())).toEqual(record(1))
    expect(second.state()).toEqual(expect.objectContaining({ waiting: 0, failing: 0 }))
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
    const router = {
      putRecord: async (_key: RecordKey, bytes: Uint8Array) => told.push(bytes),
      provide: async () => 1,
      unprovide: async () => undefined,
    }
    const announcer = makeAnnouncer(router, undefined, { recordIntervalMs: 80 }, async () => value)
    await announcer.start()
    await announcer.add(head)
    await until(() => told.length >= 3)
    value = record(2)
    await announcer.add(head)
    await until(() => told.some(bytes => Buffer.from(bytes).equals(record(2))))
    expect(announcer.state().announced + announcer.state().waiting).toBe(1)
  })

  test('forgets what is removed, also while it is being told', async () => {
    const gate = Promise.withResolvers<void>()
    const calls: string[] = []
    const router = {
      putRecord: async () => 1,
      provide: async () => {
        calls.push('provide')
        await gate.promise
        return 1
      },
      unprovide: async () => void calls.push('unprovide'),
    }
    const records = new MemoryKeyValue()
    const announcer = makeAnnouncer(router, records)
    await announcer.start()
    await announcer.add(provide)
    await until(() => calls.includes('provide'))
    await announcer.remove(provide)
    gate.resolve()
    await until(() => calls.filter(call => call === 'unprovide').length === 2)
    for await (const key of records.keys({ prefix: 'announce/' })) throw new Error(`${key} is still there`)
    expect(announcer.state()).toEqual({ waiting: 0, announced: 0, failing: 0 })
  })

  test('a record that is no longer here ends its announcement', async () => {
    const { routers } = network(2)
    const announcer = makeAnnouncer(routers[0], undefined, {}, async () => undefined)
    await announcer.start()
    await announcer.add(head)
    await until(() => announcer.state().waiting === 0)
    expect(announcer.state()).toMatchObject({ announced: 0, failing: 0 })
  })

  test('one that hangs or fails does not hold up the others, and attempts are bounded', async () => {
    let running = 0
    let most = 0
    const router = {
      putRecord: async (
        key: RecordKey,
        _bytes: Uint8Array,
        options?: { signal?: AbortSignal | undefined },
      ) => {
        most = Math.max(most, ++running)
        try {
          await sleep(5)
          if (key.kind === 'head' && key.name === 'hangs')
            await new Promise((_, reject) =>
              options?.signal?.addEventListener('abort', () => reject(options.signal?.reason)),
            )
          if (key.kind === 'head' && key.name === 'fails') throw new Error('refused')
          return 1
        } finally {
          running--
        }
      },
      provide: async () => 1,
      unprovide: async () => undefined,
    }
    const announcer = makeAnnouncer(router, undefined, { concurrency: 4, attemptTimeoutMs: 300 })
    await announcer.start()
    for (const name of ['hangs', 'fails', ...Array.from({ length: 200 }, (_, i) => `fine-${i}`)])
      await announcer.add({ kind: 'record', key: headKey(name) })
    await until(() => announcer.state().announced === 200 && announcer.state().failing === 2)
    expect(most).toBeLessThanOrEqual(4)
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
      await until(() => announcer.state().failing === 2)
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
