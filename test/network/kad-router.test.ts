// The DHT under attack and at its limits: what a replica stores, from whom, and how much.
import { setTimeout as sleep } from 'node:timers/promises'
import fc from 'fast-check'
import { afterEach, beforeEach, describe, expect, test } from 'vitest'
import { cidOf } from '../../src/base/cid.ts'
import { sha256 } from '../../src/base/hash.ts'
import { parseRecordKey, recordKeyBytes, recordKeyText } from '../../src/network/record-key.ts'
import type { RecordKey } from '../../src/network/router.ts'
import { until } from '../conformance/host.ts'
import { headKey, providersOf, record } from '../conformance/router.ts'
import { Attacker } from './attacker.ts'
import { connect, type KadNode, startKadNode, stopAll, tcpOnly } from './swarm.ts'

const bytes = (text: string) => new TextEncoder().encode(text)
const utf8 = (value: Uint8Array | undefined) =>
  value === undefined ? undefined : new TextDecoder().decode(value)

describe('record keys', () => {
  test('their bytes are these', () => {
    const id = cidOf(bytes('release'))
    expect(recordKeyText({ kind: 'release', id })).toBe(`/catalog-release/${id}`)
    expect(recordKeyText(headKey('acme/word-count'))).toBe('/catalog-head/zTestPublisher/acme/word-count')
    for (const key of [{ kind: 'release', id } as RecordKey, headKey('x'), headKey('acme/x')])
      expect(parseRecordKey(recordKeyBytes(key))).toEqual(key)
  })

  test('anything else is no key', () => {
    for (const text of [
      '',
      '/',
      '/catalog-head/p',
      '/catalog-head/p/',
      '/catalog-head//x',
      '/catalog-head/p/X',
    ])
      expect(parseRecordKey(bytes(text))).toBeUndefined()
    for (const text of [
      '/catalog-head/p/a/b/c',
      '/catalog-release/bafy',
      '/pk/abc',
      `/catalog-head/p/${'x'.repeat(500)}`,
    ])
      expect(parseRecordKey(bytes(text))).toBeUndefined()
    fc.assert(
      fc.property(fc.uint8Array({ maxLength: 450 }), value => {
        const key = parseRecordKey(value)
        if (key !== undefined) expect(recordKeyBytes(key)).toEqual(value)
      }),
    )
  })
})

describe('a replica', () => {
  let victim: KadNode
  let attacker: Attacker
  let others: KadNode[]

  const setUp = async (...options: Parameters<typeof startKadNode>) => {
    victim = await startKadNode(options[0], options[1], tcpOnly)
    attacker = await Attacker.start()
    await attacker.dial(victim.host.addresses()[0] as string)
    await until(() => victim.host.isConnected(attacker.node.peerId.toString()))
  }
  beforeEach(() => {
    others = []
  })
  afterEach(async () => {
    await attacker.stop()
    await stopAll([victim, ...others])
  })

  test('refuses every one of 240 hostile puts, and keeps what it has (N4)', async () => {
    await setUp()
    const key = recordKeyBytes(headKey())
    const good = record(50)
    expect(await attacker.put(victim.peer, key, good)).toBe(true)
    expect(utf8(await victim.router.getRecord(headKey()))).toBe(utf8(good))
    let accepted = 0
    const attempt = async (attack: Promise<boolean>) => {
      if (await attack.catch(() => false)) accepted++
    }
    for (let i = 0; i < 40; i++) {
      await attempt(attacker.put(victim.peer, key, record(i)))
      await attempt(attacker.put(victim.peer, key, record(100 + i, 'forged')))
      await attempt(attacker.put(victim.peer, bytes(`/ipns/${i}`), good))
      await attempt(attacker.put(victim.peer, bytes(`/pk/${i}`), good, bytes(`/catalog-head/p/X${i}`)))
      await attempt(attacker.putRaw(victim.peer, key, new Uint8Array(i + 1).fill(i)))
      const oversize = record(1000 + i, 'good')
      const padded = new Uint8Array(130 * 1024 + oversize.byteLength).fill(32)
      padded.set(oversize)
      await attempt(attacker.put(victim.peer, key, padded))
    }
    expect(accepted).toBe(0)
    expect(utf8(await victim.router.getRecord(headKey()))).toBe(utf8(good))
    expect(victim.router.counts.records).toBe(1)
    // The control: the same attacker's honest put is accepted.
    expect(await attacker.put(victim.peer, key, record(51))).toBe(true)
  })

  test('keeps the newest of records that arrive at once, in whatever order', async () => {
    await setUp()
    const key = recordKeyBytes(headKey())
    const order = Array.from({ length: 24 }, (_, i) => ((i * 7) % 24) + 1)
    await Promise.all(
      order.map(sequence => attacker.put(victim.peer, key, record(sequence)).catch(() => false)),
    )
    expect(utf8(await victim.router.getRecord(headKey()))).toBe(utf8(record(24)))
  })

  test('takes no more from one peer, and from one publisher, than it may place here', async () => {
    const tight = { ownerEntries: 10, ownerBytes: 1_000_000, totalEntries: 100, totalBytes: 1_000_000 }
    await setUp({ records: tight, providers: { ...tight, ownerEntries: 5 } })
    let accepted = 0
    for (let i = 0; i < 30; i++) {
      const key: RecordKey = { kind: 'head', publisher: `zPublisher${i}`, name: 'x' }
      if (await attacker.put(victim.peer, recordKeyBytes(key), record(1)).catch(() => false)) accepted++
    }
    expect(accepted).toBe(10)
    const address = attacker.node.getMultiaddrs().map(String)
    for (let i = 0; i < 12; i++)
      await attacker
        .provide(victim.peer, new Uint8Array([0x12, 0x20, ...sha256(new Uint8Array([i]))]), address)
        .catch(() => undefined)
    await sleep(100)
    expect(victim.router.counts).toMatchObject({ records: 10, providers: 5 })
    // Another peer has its own share.
    const other = await startKadNode({}, {}, tcpOnly)
    others.push(other)
    await connect(other.host, victim.host)
    expect(await other.router.putRecord(headKey('acme/honest'), record(1))).toBeGreaterThanOrEqual(1)
    expect(victim.router.counts.records).toBe(11)
  })

  test('survives 1,000 malformed frames on the DHT and on a protocol of ours (N1)', async () => {
    await setUp()
    victim.host.handle('/ours/1', async stream => void (await stream.read()), {
      maxInboundPerPeer: 16,
      maxInbound: 16,
    })
    await sleep(50)
    const before = process.memoryUsage().rss
    let slowest = 0
    let last = performance.now()
    const ticker = setInterval(() => {
      slowest = Math.max(slowest, performance.now() - last - 20)
      last = performance.now()
    }, 20)
    const random = (length: number, seed: number) =>
      Uint8Array.from({ length }, (_, i) => (seed * 31 + i * 17) % 256)
    for (let i = 0; i < 1000; i += 10)
      await Promise.all(
        Array.from({ length: 10 }, async (_, j) => {
          const n = i + j
          const protocol = n % 3 === 0 ? '/catalog/main/ours/1' : '/catalog/main/kad/1.0.0'
          const stream = await attacker.raw(victim.peer, protocol).catch(() => undefined)
          if (stream === undefined) return
          try {
            stream.send(random((n % 300) + 1, n))
            if (n % 5 === 0) stream.abort(new Error('rude'))
            else if (n % 2 === 0) await stream.close({ signal: AbortSignal.timeout(1000) })
            else stream.abort(new Error('done'))
          } catch {
            // The victim has cut it already.
          }
        }),
      )
    clearInterval(ticker)
    expect(await attacker.put(victim.peer, recordKeyBytes(headKey()), record(1))).toBe(true)
    expect(slowest).toBeLessThan(1000)
    expect(process.memoryUsage().rss - before).toBeLessThan(128 * 1024 * 1024)
  })

  test('gives a record although another replica holds a stale or forged one', async () => {
    await setUp()
    const reader = await startKadNode({}, {}, tcpOnly)
    others.push(reader)
    await connect(reader.host, victim.host)
    await attacker.dial(reader.host.addresses()[0] as string)
    await victim.router.putRecord(headKey(), record(5))
    // The attacker's own replica answers lookups with a forged record of a high number.
    const dht = attacker.node.services as unknown as {
      dht: { put(key: Uint8Array, value: Uint8Array, options: object): AsyncIterable<unknown> }
    }
    const forged = dht.dht.put(recordKeyBytes(headKey()), record(99, 'forged'), {
      signal: AbortSignal.timeout(3000),
    })
    try {
      for await (const _event of forged);
    } catch {
      // It could not convince the others; its own copy stays.
    }
    const fresh = await startKadNode({}, {}, tcpOnly)
    others.push(fresh)
    await connect(fresh.host, reader.host)
    for (const node of [reader, fresh, victim])
      expect(utf8(await node.router.getRecord(headKey()))).toBe(utf8(record(5)))
  })

  test('answers with the providers it can reach although it has forgotten others', async () => {
    await setUp()
    const root = cidOf(bytes('root'))
    const provider = await startKadNode({}, {}, tcpOnly)
    const gone = await startKadNode({}, {}, tcpOnly)
    const seeker = await startKadNode({}, {}, tcpOnly)
    others.push(provider, seeker, gone)
    for (const node of [provider, gone, seeker]) await connect(node.host, victim.host)
    expect(await provider.router.provide(root)).toBeGreaterThan(0)
    expect(await gone.router.provide(root)).toBeGreaterThan(0)
    await until(() => victim.router.counts.providers === 2)
    await gone.router.stop()
    await gone.host.stop()
    expect(await providersOf(seeker.router, root)).toContain(provider.peer)
  })
})
