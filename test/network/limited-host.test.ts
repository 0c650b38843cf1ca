import { setTimeout as sleep } from 'node:timers/promises'
import { afterEach, describe, expect, test } from 'vitest'
import { silentLog } from '../../src/base/log.ts'
import { type Host, maxBufferedBytes } from '../../src/network/host.ts'
import { type BandwidthLimits, LimitedHost } from '../../src/network/limited-host.ts'
import { type MemoryHost, MemoryNetwork } from '../../src/network/memory-host.ts'
import { hostConformance, readAll, until } from '../conformance/host.ts'
import { quicOnly, startHost } from './swarm.ts'

const mebibyte = 1024 * 1024
const unlimited: BandwidthLimits = { up: 0, down: 0, perPeerUp: 0, perPeerDown: 0 }
const bulkProtocols = ['/bulk/1']
const streams = { maxInboundPerPeer: 32, maxInbound: 64 }

const fast = {
  up: 200 * mebibyte,
  down: 150 * mebibyte,
  perPeerUp: 150 * mebibyte,
  perPeerDown: 200 * mebibyte,
}

hostConformance('LimitedHost over MemoryHost', async admissions => {
  const network = new MemoryNetwork()
  const inner = [admissions.a, admissions.b].map(each => network.createHost(undefined, silentLog, each))
  const [a, b] = inner.map(host => new LimitedHost({ host }, { ...fast, bulkProtocols })) as [
    LimitedHost,
    LimitedHost,
  ]
  return { a, b, stop: async () => void (await Promise.all([a, b, ...inner].map(host => host.stop()))) }
})

hostConformance('LimitedHost over QUIC', async admissions => {
  const inner = await Promise.all(
    [admissions.a, admissions.b].map(each => startHost(quicOnly, silentLog, each)),
  )
  const [a, b] = inner.map(host => new LimitedHost({ host }, { ...fast, bulkProtocols })) as [
    LimitedHost,
    LimitedHost,
  ]
  return { a, b, stop: async () => void (await Promise.all([a, b, ...inner].map(host => host.stop()))) }
})

const timers = () => process.getActiveResourcesInfo().filter(kind => kind === 'Timeout').length

describe('LimitedHost', () => {
  const stops: (() => Promise<void>)[] = []
  afterEach(async () => {
    for (const stop of stops.splice(0)) await stop()
  })

  function limitedNode(network: MemoryNetwork, limits: Partial<BandwidthLimits>) {
    const inner: MemoryHost = network.createHost()
    const host = new LimitedHost({ host: inner }, { ...unlimited, ...limits, bulkProtocols })
    stops.push(async () => {
      await host.stop()
      await inner.stop()
    })
    return host
  }

  /** A node that sends so many bytes to whoever opens a bulk stream, and answers a word on a control stream. */
  function sender(network: MemoryNetwork, bytes: number, limits: Partial<BandwidthLimits> = {}) {
    const host = limitedNode(network, limits)
    host.handle(
      '/bulk/1',
      async (stream, { signal }) => stream.write(new Uint8Array(bytes), { signal }),
      streams,
    )
    host.handle('/word/1', async stream => stream.write(new TextEncoder().encode('word')), streams)
    return host
  }

  test.each([
    ['received', { down: 2 * mebibyte }, {}],
    ['received from each peer', { perPeerDown: 2 * mebibyte }, {}],
    ['sent', {}, { up: 2 * mebibyte }],
    ['sent to each peer', {}, { perPeerUp: 2 * mebibyte }],
  ] as const)('what is %s keeps to the limit, and uses it', async (_name, mine, theirs) => {
    const network = new MemoryNetwork()
    const other = sender(network, 2 * mebibyte, theirs)
    const host = limitedNode(network, mine)
    const before = performance.now()
    expect((await readAll(await host.open(other.peer, '/bulk/1'))).byteLength).toBe(2 * mebibyte)
    const seconds = (performance.now() - before) / 1000
    // The first tenth of a second's worth passes at once.
    expect(seconds).toBeGreaterThan(0.88)
    expect(seconds).toBeLessThan(1.8)
    expect(host.traffic().down.totalBytes).toBe(2 * mebibyte)
    expect(other.traffic().up.totalBytes).toBe(2 * mebibyte)
    expect(host.traffic().down.bytesPerSecond).toBeGreaterThan(0)
  })

  test('two flows share what is received, whatever their streams and peers', async () => {
    const network = new MemoryNetwork()
    const others = [1, 2, 3].map(() => sender(network, 20 * mebibyte))
    const host = limitedNode(network, { down: 8 * mebibyte })
    const counts = { many: 0, one: 0 }
    const reading = async (flow: 'many' | 'one', peer: string) => {
      const stream = await host.open(peer, '/bulk/1', { flow })
      for (;;) {
        const chunk = await stream.read()
        counts[flow] += chunk?.byteLength ?? 0
      }
    }
    for (const { peer } of others)
      for (let lane = 0; lane < 4; lane++) reading('many', peer).catch(() => undefined)
    reading('one', (others[0] as LimitedHost).peer).catch(() => undefined)
    // The first burst goes to whoever is there first.
    await sleep(200)
    counts.one = 0
    counts.many = 0
    await sleep(800)
    expect(counts.one / counts.many).toBeGreaterThan(0.75)
    expect(counts.one / counts.many).toBeLessThan(1.33)
  })

  test('a peer with many streams is sent no more than one with few', async () => {
    const network = new MemoryNetwork()
    const host = sender(network, 20 * mebibyte, { up: 8 * mebibyte })
    const counts = [0, 0]
    const reading = async (reader: LimitedHost, place: number) => {
      const stream = await reader.open(host.peer, '/bulk/1')
      for (;;) {
        const chunk = await stream.read()
        counts[place] = (counts[place] as number) + (chunk?.byteLength ?? 0)
      }
    }
    const [greedy, modest] = [limitedNode(network, {}), limitedNode(network, {})]
    for (let lane = 0; lane < 16; lane++) reading(greedy, 0).catch(() => undefined)
    reading(modest, 1).catch(() => undefined)
    await sleep(200)
    counts.fill(0)
    await sleep(800)
    const ratio = (counts[1] as number) / (counts[0] as number)
    expect(ratio).toBeGreaterThan(0.75)
    expect(ratio).toBeLessThan(1.33)
  })

  test('a small message does not wait behind a transfer', async () => {
    const network = new MemoryNetwork()
    const other = sender(network, 20 * mebibyte)
    const host = limitedNode(network, { down: mebibyte })
    const bulk = await Promise.all(Array.from({ length: 32 }, () => host.open(other.peer, '/bulk/1')))
    for (const stream of bulk) readAll(stream).catch(() => undefined)
    await sleep(300)
    // In line with all of them it would be 320 ms each time.
    const before = performance.now()
    for (let time = 0; time < 5; time++)
      expect((await readAll(await host.open(other.peer, '/word/1'))).toString()).toBe('word')
    expect(performance.now() - before).toBeLessThan(800)
  })

  test('a reader that is held back holds the sender back', async () => {
    const network = new MemoryNetwork()
    let sent = 0
    const other = limitedNode(network, {})
    other.handle(
      '/bulk/1',
      async stream => {
        for (;;) {
          await stream.write(new Uint8Array(64 * 1024))
          sent += 64 * 1024
        }
      },
      streams,
    )
    const host = limitedNode(network, { down: 256 * 1024 })
    readAll(await host.open(other.peer, '/bulk/1')).catch(() => undefined)
    await sleep(500)
    // What a stream may have unread, and what has passed.
    expect(sent).toBeLessThan(2 * mebibyte)
  })

  test('over QUIC, what is not taken is not sent', async () => {
    const inner = await Promise.all([startHost(quicOnly), startHost(quicOnly)])
    // The sender's limit is out of reach: it only counts.
    const [from, to] = [{ up: 1e12 }, { down: mebibyte }].map(
      (limits, place) =>
        new LimitedHost({ host: inner[place] as Host }, { ...unlimited, ...limits, bulkProtocols }),
    ) as [LimitedHost, LimitedHost]
    stops.push(async () => void (await Promise.all([from, to, ...inner].map(host => host.stop()))))
    from.handle('/bulk/1', async stream => stream.write(new Uint8Array(64 * mebibyte)), streams)
    await to.dial(from.addresses()[0] as string)
    readAll(await to.open(from.peer, '/bulk/1')).catch(() => undefined)
    const underWay = () => from.traffic().up.totalBytes - to.traffic().down.totalBytes
    // The windows of the transport, and what a stream may have unread, fill at once; from then on all is the limit's.
    await sleep(800)
    const filled = underWay()
    await sleep(2000)
    expect(to.traffic().down.totalBytes).toBeGreaterThan(2 * mebibyte)
    expect(filled).toBeLessThan(2 * maxBufferedBytes)
    expect(underWay() - filled).toBeLessThan(mebibyte)
  })

  test('a stream says whether it is this node that holds its bytes back', async () => {
    const network = new MemoryNetwork()
    const gate = Promise.withResolvers<void>()
    const other = limitedNode(network, {})
    other.handle(
      '/bulk/1',
      async stream => {
        await stream.write(new Uint8Array(64 * 1024))
        await gate.promise
      },
      streams,
    )
    const host = limitedNode(network, { down: 64 * 1024 })
    const stream = await host.open(other.peer, '/bulk/1')
    expect(stream.heldBack).toBe(false)
    const reading = readAll(stream)
    await until(() => stream.heldBack === true)
    // Once all is read, it is the other side that is silent.
    await until(() => host.traffic().down.totalBytes === 64 * 1024)
    expect(stream.heldBack).toBe(false)
    gate.resolve()
    expect((await reading).byteLength).toBe(64 * 1024)
  })

  test('writes of one stream keep their order, also where nobody waits for them before closing', async () => {
    const network = new MemoryNetwork()
    const other = limitedNode(network, {})
    const received = Promise.withResolvers<Buffer>()
    other.handle('/bulk/1', async stream => received.resolve(await readAll(stream)), streams)
    const host = limitedNode(network, { up: 256 * 1024 })
    const stream = await host.open(other.peer, '/bulk/1')
    const parts = [1, 2, 3].map(value => new Uint8Array(40 * 1024).fill(value))
    const writing = parts.map(part => stream.write(part))
    await stream.closeWrite()
    await Promise.all(writing)
    expect((await received.promise).equals(Buffer.concat(parts))).toBe(true)
  })

  test('what a handler writes last arrives, also where it does not wait for it', async () => {
    const network = new MemoryNetwork()
    const host = limitedNode(network, { up: 256 * 1024 })
    host.handle('/bulk/1', async stream => void stream.write(new Uint8Array(100 * 1024)), streams)
    const stream = await limitedNode(network, {}).open(host.peer, '/bulk/1')
    expect((await readAll(stream)).byteLength).toBe(100 * 1024)
  })

  test('a read that its signal ended loses nothing', async () => {
    const network = new MemoryNetwork()
    const other = sender(network, 300 * 1024)
    const host = limitedNode(network, { down: 256 * 1024 })
    const stream = await host.open(other.peer, '/bulk/1')
    let received = 0
    let ended = 0
    for (let done = false; !done; )
      try {
        const chunk = await stream.read(1000, { signal: AbortSignal.timeout(2) })
        received += chunk?.byteLength ?? 0
        done = chunk === undefined
      } catch (error) {
        expect((error as Error).name).toBe('TimeoutError')
        ended++
      }
    expect(ended).toBeGreaterThan(10)
    expect(received).toBe(300 * 1024)
  })

  test('a read after an abort fails, also where bytes were held back', async () => {
    const network = new MemoryNetwork()
    const other = sender(network, 20 * mebibyte)
    const host = limitedNode(network, { down: 64 * 1024 })
    const stream = await host.open(other.peer, '/bulk/1')
    const reading = readAll(stream)
    await until(() => stream.heldBack === true)
    stream.abort(new Error('no more'))
    await expect(reading).rejects.toThrow('no more')
    await expect(stream.read()).rejects.toThrow('no more')
  })

  test('a signal, an abort, the end of the stream and a stop leave the queue at once, and no timer behind', async () => {
    const network = new MemoryNetwork()
    const other = limitedNode(network, {})
    other.handle('/bulk/1', async stream => void (await stream.read(1)), streams)
    const host = limitedNode(network, { up: 64 * 1024 })
    const outcome = (work: Promise<unknown>) => work.then(String, (error: Error) => error.message)
    const much = new Uint8Array(8 * mebibyte)
    const started = performance.now()

    const signalled = await host.open(other.peer, '/bulk/1')
    const controller = new AbortController()
    const first = outcome(signalled.write(much, { signal: controller.signal }))
    const aborted = await host.open(other.peer, '/bulk/1')
    const second = outcome(aborted.write(much))
    const stopped = await host.open(other.peer, '/bulk/1')
    const third = outcome(stopped.write(much))
    await sleep(50)
    controller.abort(new Error('changed my mind'))
    aborted.abort(new Error('no more'))
    expect(await first).toBe('changed my mind')
    expect(await second).toBe('no more')
    // Timers of earlier tests may end meanwhile, none begins.
    const waiting = timers()
    await host.stop()
    expect(await third).toBe('This node is stopping.')
    expect(timers()).toBeLessThan(waiting)
    expect(performance.now() - started).toBeLessThan(2000)
    await expect(host.open(other.peer, '/bulk/1').then(stream => stream.write(much))).rejects.toMatchObject({
      code: 'daemon-stopping',
    })
  })

  test('without a limit in one direction, nothing waits there', async () => {
    const network = new MemoryNetwork()
    const other = sender(network, 32 * mebibyte)
    const host = limitedNode(network, { up: 64 * 1024 })
    const before = performance.now()
    expect((await readAll(await host.open(other.peer, '/bulk/1'))).byteLength).toBe(32 * mebibyte)
    expect(performance.now() - before).toBeLessThan(2000)
  })
})
