// What our QUIC streams promise beyond libp2p's suites: nothing lost, nothing unbounded, nothing that hangs, over real
// connections.
import { createSocket } from 'node:dgram'
import { setTimeout as sleep } from 'node:timers/promises'
import { multiaddr } from '@multiformats/multiaddr'
import * as fc from 'fast-check'
import { afterEach, beforeAll, describe, expect, test } from 'vitest'
import { loadQuicBinding, type QuicBinding } from '../../src/network/libp2p/quic/binding.ts'
import type { QuicOptions } from '../../src/network/libp2p/quic/options.ts'
import type { QuicStream } from '../../src/network/libp2p/quic/stream.ts'
import { until } from '../conformance/host.ts'
import { MuxedPair } from './quic-pair.ts'
import { quicOnly, startHost } from './swarm.ts'

const mebibyte = 1024 * 1024
const window = mebibyte

let binding: QuicBinding
let pair: MuxedPair

beforeAll(async () => {
  binding = await loadQuicBinding()
})
afterEach(() => pair.stop())
const start = async (options: Partial<QuicOptions> = {}) => {
  pair = await MuxedPair.start(binding, { maxStreamBytes: window, ...options })
}

/** Sends as fast as the stream takes it; resolves when all is taken. */
async function sendAll(stream: QuicStream, pieces: Iterable<Uint8Array>): Promise<void> {
  for (const piece of pieces) if (!stream.send(piece)) await nextEvent(stream, 'drain', 'close')
}

function nextEvent(stream: QuicStream, ...names: ('drain' | 'close' | 'remoteCloseWrite')[]): Promise<Event> {
  return new Promise(resolve => {
    for (const name of names) stream.addEventListener(name, resolve, { once: true })
  })
}

function* pieces(count: number, bytes: number): Generator<Uint8Array> {
  for (let i = 0; i < count; i++) yield new Uint8Array(bytes).fill(i)
}

/** Counts what arrives at the sink, and keeps it. */
function collect(stream: QuicStream): { bytes(): Buffer; readonly length: number } {
  const chunks: Uint8Array[] = []
  let length = 0
  stream.readTo(chunk => {
    chunks.push(chunk)
    length += chunk.byteLength
  })
  return {
    bytes: () => Buffer.concat(chunks),
    get length() {
      return length
    },
  }
}

describe('reading', () => {
  test('whatever the sizes, by events or to a sink, paused or not: the same bytes in order, then the end', async () => {
    await start()
    const sizes = fc.array(fc.integer({ min: 1, max: 200_000 }), { minLength: 1, maxLength: 20 })
    await fc.assert(
      fc.asyncProperty(sizes, fc.boolean(), fc.boolean(), async (lengths, bySink, pausing) => {
        const [sender, receiver] = await pair.open()
        const sent = lengths.map((length, i) => Buffer.alloc(length, i + 1))
        const received: Uint8Array[] = []
        const take = (bytes: Uint8Array) => {
          received.push(bytes)
          if (!pausing || receiver.readStatus !== 'readable') return
          receiver.pause()
          setTimeout(() => receiver.readStatus === 'paused' && receiver.resume(), 1)
        }
        const ended = nextEvent(receiver, 'remoteCloseWrite')
        if (bySink) receiver.readTo(take)
        else receiver.addEventListener('message', ({ data }) => take(data.subarray()))
        await sendAll(sender, sent)
        await sender.close()
        await ended
        const total = lengths.reduce((sum, length) => sum + length, 0)
        const count = () => received.reduce((sum, bytes) => sum + bytes.byteLength, 0)
        await until(() => count() >= total)
        expect(Buffer.concat(received).equals(Buffer.concat(sent))).toBe(true)
        await receiver.close()
        await until(() => receiver.status === 'closed')
      }),
      { numRuns: 40 },
    )
  })

  test('stops while it is paused, and its sender with it; goes on without loss', async () => {
    await start()
    const [sender, receiver] = await pair.open()
    const received = collect(receiver)
    receiver.pause()
    let taken = 0
    const sending = (async () => {
      for (const piece of pieces(64, 256 * 1024)) {
        await sendAll(sender, [piece])
        taken += piece.byteLength
      }
      await sender.close()
    })()
    await sleep(300)
    // One read was under way when it paused.
    expect(received.length + receiver.readBufferLength).toBeLessThanOrEqual(256 * 1024)
    const heldAt = taken
    expect(heldAt).toBeLessThan(64 * 256 * 1024)
    await sleep(200)
    expect(taken).toBe(heldAt)
    receiver.resume()
    await sending
    await until(() => received.length === 16 * mebibyte)
    expect(received.bytes().equals(Buffer.concat([...pieces(64, 256 * 1024)]))).toBe(true)
  })

  test('a stream that nobody listens to holds its sender back and is not cut', async () => {
    await start()
    const [sender, receiver] = await pair.open()
    const sending = sendAll(sender, pieces(32, 256 * 1024)).then(() => sender.close())
    await sleep(300)
    expect(receiver.status).toBe('open')
    expect(receiver.readBufferLength).toBeLessThanOrEqual(512 * 1024)
    const received = collect(receiver)
    await sending
    await until(() => received.length === 8 * mebibyte)
  })

  test('a stream closed for reading takes a bounded amount more, then its sender is told', async () => {
    await start({ maxDiscardedBytes: mebibyte })
    const [sender, receiver] = await pair.open()
    await receiver.closeRead()
    const closed = nextEvent(sender, 'close')
    const sending = sendAll(sender, pieces(64, 256 * 1024)).catch(error => error)
    expect(((await closed) as Event & { error?: Error }).error?.name).toBe('StreamResetError')
    await sending
  })
})

describe('ending', () => {
  test('what was written before the close arrives, even when the stream is aborted after it', async () => {
    await start()
    for (let i = 0; i < 20; i++) {
      const [sender, receiver] = await pair.open()
      const received = collect(receiver)
      const ended = nextEvent(receiver, 'remoteCloseWrite')
      await sendAll(sender, pieces(4, 200_000))
      await sender.close()
      sender.abort(new Error('no more interest'))
      await ended
      expect(received.length).toBe(800_000)
    }
  })

  test('what was written before the connection is closed arrives, where the other side reads in time', async () => {
    await start({ lingerMs: 20_000 })
    const [sender, receiver] = await pair.open()
    const received = collect(receiver)
    receiver.addEventListener('remoteCloseWrite', () => void receiver.close())
    await sendAll(sender, pieces(20, 200_000))
    await pair.dialer.muxer.close()
    await pair.dialer.connection.close()
    // Its own end may still be on its way when the connection goes: that takes nothing from what it has.
    await until(() => receiver.status !== 'open')
    expect(received.length).toBe(4_000_000)
  })

  test('an abort while the other side does not read is a reset there, not an end', async () => {
    await start()
    const [sender, receiver] = await pair.open()
    const received = collect(receiver)
    receiver.pause()
    sendAll(sender, pieces(64, 256 * 1024)).catch(() => undefined)
    await sleep(200)
    sender.abort(new Error('broken off'))
    expect(sender.status).toBe('aborted')
    const closed = nextEvent(receiver, 'close')
    receiver.resume()
    expect(((await closed) as Event & { error?: Error }).error?.name).toBe('StreamResetError')
    expect(receiver.status).toBe('reset')
    expect(received.length).toBeLessThan(16 * mebibyte)
  })

  test('the other side gives up while a write waits: an error for the writer, at once', async () => {
    await start()
    const [sender, receiver] = await pair.open()
    receiver.pause()
    const closed = nextEvent(sender, 'close')
    const sending = sendAll(sender, pieces(64, 256 * 1024)).catch(error => error)
    await sleep(200)
    receiver.abort(new Error('not wanted'))
    await closed
    expect(sender.status).toBe('reset')
    expect((await sending)?.name).toBe('StreamStateError')
    expect(() => sender.send(new Uint8Array(1))).toThrow(/closed/)
  })

  test('a connection that goes away breaks its streams off on both sides', async () => {
    await start()
    const [sender, receiver] = await pair.open()
    const received = collect(receiver)
    const closed = Promise.all([nextEvent(sender, 'close'), nextEvent(receiver, 'close')])
    sendAll(sender, pieces(64, 256 * 1024)).catch(() => undefined)
    pair.dialer.connection.abort(new Error('gone'))
    await closed
    expect([sender.status, receiver.status]).toEqual(['aborted', 'aborted'])
    expect(received.length).toBeLessThan(16 * mebibyte)
    expect(pair.listener.muxer.streams).toEqual([])
  })

  test('closing a connection whose peer ends no stream takes a bounded time', async () => {
    await start({ closeTimeoutMs: 400, lingerMs: 100 })
    for (let i = 0; i < 5; i++) {
      const [sender, receiver] = await pair.open()
      receiver.pause()
      sendAll(sender, pieces(64, 256 * 1024)).catch(() => undefined)
    }
    const before = performance.now()
    await pair.dialer.muxer.close()
    await pair.dialer.connection.close()
    expect(performance.now() - before).toBeLessThan(3000)
    await until(() => pair.listener.connection.status === 'closed')
  })
})

describe('opening', () => {
  test('more than our own bound is refused at once, and possible again when others have ended', async () => {
    await start({ maxOutboundStreams: 4 })
    const open = []
    for (let i = 0; i < 4; i++) open.push(await pair.open())
    await expect(pair.dialer.muxer.createStream()).rejects.toMatchObject({ code: 'busy' })
    for (const [dialed, accepted] of open) await Promise.all([dialed.close(), accepted.close()])
    await until(() => pair.dialer.muxer.streams.length === 0)
    await pair.open()
  })

  test('where the peer allows no more, the signal ends the waiting, and nothing stays open', async () => {
    await start({ maxInboundStreams: 3, openTimeoutMs: 200 })
    const open = []
    for (let i = 0; i < 3; i++) open.push(await pair.open())
    const reason = new Error('not waiting')
    const controller = new AbortController()
    const waiting = pair.dialer.muxer.createStream({ signal: controller.signal })
    setTimeout(() => controller.abort(reason), 50)
    await expect(waiting).rejects.toBe(reason)
    await expect(pair.dialer.muxer.createStream()).rejects.toMatchObject({ code: 'timeout' })
    // The two that nobody waits for are opened natively when there is room, and must be ended: or no more would fit.
    for (const [dialed, accepted] of open) await Promise.all([dialed.close(), accepted.close()])
    for (let i = 0; i < 10; i++) {
      const [dialed, accepted] = await pair.open()
      await Promise.all([dialed.close(), accepted.close()])
    }
  })

  test('on a connection that is over is an error, also while waiting', async () => {
    await start({ maxInboundStreams: 1 })
    await pair.open()
    const waiting = pair.dialer.muxer.createStream()
    setTimeout(() => pair.listener.connection.abort(new Error('gone')), 50)
    await expect(waiting).rejects.toMatchObject({ name: 'ConnectionClosedError' })
    await until(() => pair.dialer.muxer.status === 'closed')
    await expect(pair.dialer.muxer.createStream()).rejects.toMatchObject({ name: 'MuxerClosedError' })
  })
})

describe('dialling and listening', () => {
  test('another peer than the address names is refused', async () => {
    await start()
    const [a, b, c] = await Promise.all([startHost(quicOnly), startHost(quicOnly), startHost(quicOnly)])
    try {
      const wrong = (b.addresses()[0] as string).replace(b.peer, c.peer)
      await expect(a.dial(wrong)).rejects.toMatchObject({ code: 'peer-unreachable' })
      await until(() => b.connections().length === 0)
      expect(await a.dial(b.addresses()[0] as string)).toBe(b.peer)
    } finally {
      await Promise.all([a, b, c].map(host => host.stop()))
    }
  })

  test('peers that stop in the middle of the handshake do not hold up the others', async () => {
    await start()
    const host = await startHost(quicOnly)
    const honest = await startHost(quicOnly)
    const mute = await startHost({ ...quicOnly, dialTimeoutMs: 2000 })
    const port = Number(multiaddr(host.addresses()[0] as string).getComponents()[1]?.value)
    // Lets the first datagram through and nothing else: the handshake begins, and stays there.
    const proxies = Array.from({ length: 4 }, () => createSocket('udp4'))
    try {
      const dials = proxies.map(async proxy => {
        let first = true
        proxy.on('message', datagram => {
          if (first) proxy.send(datagram, port, '127.0.0.1')
          first = false
        })
        await new Promise<void>(resolve => proxy.bind(0, '127.0.0.1', resolve))
        return mute.dial(`/ip4/127.0.0.1/udp/${proxy.address().port}/quic-v1`)
      })
      const outcomes = Promise.allSettled(dials)
      await sleep(200)
      const before = performance.now()
      await honest.dial(host.addresses()[0] as string)
      expect(performance.now() - before).toBeLessThan(1500)
      for (const { status } of await outcomes) expect(status).toBe('rejected')
    } finally {
      for (const proxy of proxies) proxy.close()
      await Promise.all([host, honest, mute].map(each => each.stop()))
    }
  })
})
