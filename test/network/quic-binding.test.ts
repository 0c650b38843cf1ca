// Holds the native QUIC code to what our transport relies on: a new version that changes it fails here first. The
// facts are those at the top of src/network/libp2p/quic/binding.ts.
import { readdir, readFile } from 'node:fs/promises'
import { setTimeout as sleep } from 'node:timers/promises'
import { fileURLToPath } from 'node:url'
import { generateKeyPair } from '@libp2p/crypto/keys'
import { afterAll, beforeAll, beforeEach, describe, expect, test } from 'vitest'
import {
  isServerClosed,
  kindOfFailure,
  loadQuicBinding,
  type NativeConnection,
  type NativeStream,
  type QuicBinding,
} from '../../src/network/libp2p/quic/binding.ts'
import { defaultQuicOptions, type QuicOptions } from '../../src/network/libp2p/quic/options.ts'
import { settingsOf } from '../../src/network/libp2p/quic/transport.ts'
import { NativePairs } from './quic-pair.ts'

const window = 256 * 1024
const options: QuicOptions = { ...defaultQuicOptions, maxInboundStreams: 4, maxStreamBytes: window }

let binding: QuicBinding
let pairs: NativePairs
let dialer: NativeConnection
let listener: NativeConnection

beforeAll(async () => {
  binding = await loadQuicBinding()
  pairs = await NativePairs.start(binding, options)
})
beforeEach(async () => {
  dialer?.abort()
  ;[dialer, listener] = await pairs.connect()
})
afterAll(() => pairs.stop())

async function openStream(): Promise<[NativeStream, NativeStream]> {
  const sender = await dialer.outboundStream()
  await sender.write(new Uint8Array(1))
  const receiver = await listener.inboundStream()
  await receiver.read(1)
  return [sender, receiver]
}

/** Reads until it fails, and notes the lengths; a clean end is a failure of the test. */
async function readOn(stream: NativeStream, lengths: number[] = []): Promise<never> {
  for (;;) {
    const bytes = await stream.read(window)
    if (bytes === null) throw new Error('a clean end')
    lengths.push(bytes.byteLength)
  }
}

const failureOf = (work: Promise<unknown>): Promise<unknown> =>
  work.then(
    () => undefined,
    error => error,
  )
/** `false` where it is still pending a good while later. */
const settles = (work: Promise<unknown>, ms = 150) => Promise.race([work.then(() => true), sleep(ms, false)])

describe('what is installed', () => {
  test('the wrapper is 2.1.1, its native code 2.1.4', async () => {
    const folder = fileURLToPath(new URL('../../node_modules/@chainsafe/', import.meta.url))
    const packages = (await readdir(folder)).filter(name => name.startsWith('libp2p-quic'))
    const versions: Record<string, string> = {}
    for (const name of packages)
      versions[name] = JSON.parse(await readFile(`${folder}${name}/package.json`, 'utf8')).version
    const { 'libp2p-quic': wrapper, ...native } = versions
    expect(wrapper).toBe('2.1.1')
    expect(new Set(Object.values(native))).toEqual(new Set(['2.1.4']))
  })

  test('has the classes and methods that we call, and no others', () => {
    const methods = Object.fromEntries(
      Object.entries(binding)
        .filter(([, value]) => typeof value === 'function' && !/Stats$/.test(value.name))
        .map(([name, value]) => [name, Object.getOwnPropertyNames(value.prototype).sort().join(' ')]),
    )
    expect(methods).toEqual({
      Client: 'abort constructor outboundConnection stats',
      Connection: 'abort closed constructor id inboundStream outboundStream remoteMultiaddr rtt stats',
      QuinnConfig: 'constructor',
      Server: 'abort constructor inboundConnection port stats',
      Stream: 'constructor finishWrite id read resetWrite stopRead write',
    })
  })

  test('needs every setting that we give', async () => {
    const settings = settingsOf(await generateKeyPair('Ed25519'), options)
    for (const name of Object.keys(settings))
      expect(() => new binding.QuinnConfig({ ...settings, [name]: undefined } as never), name).toThrow(name)
  })
})

describe('a native stream', () => {
  test('ends with null; a reset and a stop are errors that we can tell', async () => {
    const [finished, reader] = await openStream()
    await finished.finishWrite()
    expect(await reader.read(8)).toBeNull()

    const [reset, betrayed] = await openStream()
    await reset.resetWrite()
    expect(kindOfFailure(await failureOf(betrayed.read(8)))).toBe('reset')
    // Why QuicStream never reads again after a failure.
    expect(await betrayed.read(8)).toBeNull()

    const [writer, deaf] = await openStream()
    await deaf.stopRead()
    await sleep(50)
    expect(kindOfFailure(await failureOf(writer.write(new Uint8Array(8))))).toBe('reset')
  })

  test('fails with its connection, in a way that we can tell', async () => {
    const [sender, receiver] = await openStream()
    const reading = failureOf(readOn(receiver))
    const writing = failureOf(sender.write(new Uint8Array(4 * window)))
    const accepting = failureOf(listener.inboundStream())
    dialer.abort()
    for (const failure of [reading, writing]) expect(kindOfFailure(await failure)).toBe('connection-lost')
    for (const failure of [accepting, failureOf(dialer.outboundStream())])
      expect(await failure).toBeInstanceOf(Error)
    await dialer.closed()
    await listener.closed()
  })

  test('holds a reset back behind its write, and a stop behind its read', async () => {
    const [sender, receiver] = await openStream()
    const writing = sender.write(new Uint8Array(2 * window))
    await sleep(50)
    const resetting = sender.resetWrite()
    expect(await settles(resetting)).toBe(false)
    const received: number[] = []
    const failure = await failureOf(readOn(receiver, received))
    expect(kindOfFailure(failure)).toBe('reset')
    expect(received.reduce((sum, length) => sum + length, 0)).toBeLessThanOrEqual(2 * window)
    await writing
    await resetting

    const [other, waiting] = await openStream()
    const reading = waiting.read(8)
    await sleep(50)
    const stopping = waiting.stopRead()
    expect(await settles(stopping)).toBe(false)
    await other.write(new Uint8Array(1))
    await reading
    await stopping
  })

  test('gives arrays that can be detached, to free their memory at once', async () => {
    const [sender, receiver] = await openStream()
    await sender.write(new Uint8Array([1, 2, 3]))
    const bytes = await receiver.read(64 * 1024)
    if (bytes === null) throw new Error('nothing came')
    expect([...bytes]).toEqual([1, 2, 3])
    bytes.buffer.transfer(0)
    expect(bytes.byteLength).toBe(0)
  })

  test('beyond the limit waits, and comes once another has ended on both sides', async () => {
    const streams = []
    for (let i = 0; i < options.maxInboundStreams; i++) streams.push(await openStream())
    const next = dialer.outboundStream()
    expect(await settles(next)).toBe(false)
    for (const end of streams[0] as NativeStream[]) await end.finishWrite()
    for (const end of streams[0] as NativeStream[]) expect(await end.read(8)).toBeNull()
    await next
  })
})

test('a native server that was aborted says so, and lets its port go', async () => {
  const other = await NativePairs.start(binding, options)
  const accepting = failureOf(other.server.inboundConnection())
  const port = other.server.port()
  await other.stop()
  expect(isServerClosed(await accepting)).toBe(true)
  expect(isServerClosed(await failureOf(other.server.inboundConnection()))).toBe(true)
  await expect(other.connect()).rejects.toThrow()
  const config = new binding.QuinnConfig(settingsOf(await generateKeyPair('Ed25519'), options))
  await new binding.Server(config, '127.0.0.1', port).abort()
})
