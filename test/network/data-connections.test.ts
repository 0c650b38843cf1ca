// Data connections between two real hosts on loopback, and what strangers and liars get of them.
import { createHash, randomBytes } from 'node:crypto'
import { connect as connectTcp, createServer, type Socket } from 'node:net'
import { setTimeout as sleep } from 'node:timers/promises'
import { type ConnectionOptions, connect as connectTls, createServer as createTlsServer } from 'node:tls'
import fc from 'fast-check'
import { afterEach, beforeEach, describe, expect, it, vi } from 'vitest'
import { silentLog } from '../../src/base/log.ts'
import { listenHosts, plainAddress, portFor } from '../../src/network/data/address.ts'
import { connectData } from '../../src/network/data/connect.ts'
import { Offers } from '../../src/network/data/offers.ts'
import { ciphers, type Offer, readAnswer, readRequest } from '../../src/network/data/protocol.ts'
import { DataConnections } from '../../src/network/data-connections.ts'
import { encodeFrame, FrameReader } from '../../src/network/frames.ts'
import type { ByteStream, Host, StreamHandler } from '../../src/network/host.ts'
import type { Libp2pHost } from '../../src/network/libp2p-host.ts'
import { LimitedHost } from '../../src/network/limited-host.ts'
import { readAll } from '../conformance/host.ts'
import { MemberList } from './admissions.ts'
import { connect, quicOnly, startHost, tcpOnly } from './swarm.ts'

const limits = { maxInboundPerPeer: 3, maxInbound: 8, bulk: true } as const
const text = (bytes: Uint8Array | undefined) => Buffer.from(bytes ?? []).toString()
const bytes = (words: string) => new TextEncoder().encode(words)
const sha = (data: Uint8Array) => createHash('sha256').update(data).digest('hex')
const failure = (work: Promise<unknown>) =>
  work.then(
    () => 'done',
    (error: { code?: unknown; name: string }) => (typeof error.code === 'string' ? error.code : error.name),
  )

/** Writes back what it reads. */
const echo: StreamHandler = async stream => {
  for (let chunk = await stream.read(); chunk !== undefined; chunk = await stream.read())
    await stream.write(chunk)
}

let a: Libp2pHost
let b: Libp2pHost
const ending: (() => Promise<unknown> | unknown)[] = []

beforeEach(async () => {
  a = await startHost(quicOnly)
  b = await startHost(quicOnly)
  ending.push(
    () => a.stop(),
    () => b.stop(),
  )
})
afterEach(async () => {
  await Promise.all(ending.splice(0).map(end => end()))
})

async function bulk(handler: StreamHandler, from: Host = a): Promise<ByteStream> {
  b.handle('/bulk/1', handler, limits)
  await connect(a, b)
  return opened(from)
}

async function opened(from: Host = a): Promise<ByteStream> {
  const stream = await from.openBulk(b.peer, '/bulk/1')
  if (stream === undefined) throw new Error('there is no data connection')
  return stream
}

/** Asks b for a data connection by hand. */
async function offered(): Promise<Offer> {
  const stream = await a.open(b.peer, '/data/1')
  await stream.write(encodeFrame({ protocol: '/bulk/1', address: '127.0.0.1' }))
  const answer = await new FrameReader(stream).message(512)
  await stream.close()
  const offer = readAnswer(b.peer, answer ?? {})
  if (typeof offer === 'string') throw new Error(offer)
  return offer
}

describe('a stream on a connection of its own', () => {
  it('carries megabytes in both directions, whole and in order, to whoever reads, fills or frames', async () => {
    const stream = await bulk(echo)
    const sent = randomBytes(8 * 1024 * 1024 + 17)
    const writing = stream.write(sent).then(() => stream.closeWrite())
    const first = (await stream.read(100)) as Uint8Array
    const parts: number[] = []
    const filled = new Uint8Array(3 * 1024 * 1024)
    expect(await stream.fill?.(filled, { onPart: part => parts.push(part) })).toBe(true)
    expect(parts.reduce((sum, part) => sum + part, 0)).toBe(filled.byteLength)
    const reader = new FrameReader(stream)
    const framed = await reader.bytes(1_000_000, {}, new Uint8Array(1_000_000))
    expect(reader.received).toBeGreaterThanOrEqual(1_000_000)
    const rest = sent.byteLength - first.byteLength - filled.byteLength - framed.byteLength
    const last = await reader.bytes(rest)
    await writing
    expect(sha(Buffer.concat([first, filled, framed, last]))).toBe(sha(sent))
    expect(await stream.read()).toBeUndefined()
    await stream.close()
  })

  it('is encrypted: nothing of what passes is seen on the wire', async () => {
    b.handle('/bulk/1', echo, limits)
    await connect(a, b)
    const offer = await offered()
    let seen = Buffer.alloc(0)
    const tap = createServer(socket => {
      const onward = connectTcp(offer.port, '127.0.0.1')
      socket.on('data', data => {
        seen = Buffer.concat([seen, data])
        onward.write(data)
      })
      onward.on('data', data => socket.write(data))
      onward.on('close', () => socket.destroy())
      socket.on('close', () => onward.destroy())
      for (const each of [socket, onward]) each.on('error', () => undefined)
    })
    const port = await listening(tap)
    const stream = await connectData(b.peer, '127.0.0.1', { ...offer, port }, AbortSignal.timeout(5000))
    await stream.write(bytes('a secret that nobody reads'))
    expect(text(await stream.read())).toBe('a secret that nobody reads')
    expect(seen.byteLength).toBeGreaterThan(200)
    expect(seen.includes('a secret')).toBe(false)
    expect(seen.includes(Buffer.from(offer.key))).toBe(false)
    stream.abort(new Error('over'))
  })

  it.each(['a', 'b'])('whoever does not read (%s) holds the other back, and gets it all later', async who => {
    const total = 24 * 1024 * 1024
    const piece = Buffer.alloc(256 * 1024, 7)
    let written = 0
    const send = async (stream: ByteStream) => {
      for (; written < total; written += piece.byteLength) await stream.write(piece)
    }
    const go = Promise.withResolvers<void>()
    const take = async (stream: ByteStream) => {
      await go.promise
      let got = 0
      while (got < total) got += ((await stream.read()) as Uint8Array).byteLength
      return got
    }
    const done = Promise.withResolvers<number | undefined>()
    const stream = await bulk(async there =>
      done.resolve(who === 'b' ? await take(there) : void (await send(there))),
    )
    const here = who === 'b' ? send(stream) : take(stream)
    await sleep(500)
    expect(written).toBeLessThan(20 * 1024 * 1024)
    go.resolve()
    expect(await Promise.all([here, done.promise])).toContain(total)
    await stream.close()
  })

  it('gives memory back once it was written', async () => {
    const stream = await bulk(echo)
    expect(stream.givesBack).toBe(true)
    const memory = new Uint8Array(600_000)
    const hash = createHash('sha256')
    const reading = (async () => {
      const all = new Uint8Array(memory.byteLength * 8)
      await stream.fill?.(all, { onPart: () => undefined })
      return sha(all)
    })()
    for (let round = 1; round <= 8; round++) {
      memory.fill(round)
      hash.update(memory)
      await stream.write(memory)
      memory.fill(255)
    }
    expect(await reading).toBe(hash.digest('hex'))
    await stream.close()
  })

  it('ends when the one who opened it has finished', async () => {
    const ended = Promise.withResolvers<string>()
    const stream = await bulk(async (there, { signal }) => {
      ended.resolve((await readAll(there)).toString())
      await new Promise(resolve => signal.addEventListener('abort', resolve, { once: true }))
    })
    await stream.write(bytes('to the end'))
    await stream.close()
    expect(await ended.promise).toBe('to the end')
  })

  it('breaks, and never ends, when the other side goes away', async () => {
    const stream = await bulk(async there => {
      await there.write(bytes('half of '))
      await there.read()
      there.abort(new Error('gone'))
    })
    expect(text(await stream.read())).toBe('half of ')
    await stream.write(bytes('go'))
    expect(await failure(stream.read())).toBe('peer-unreachable')
    expect(await failure(stream.write(bytes('more')))).toBe('peer-unreachable')
  })

  it('a reader that waits is told when the socket is gone without a word', async () => {
    const waits = Promise.withResolvers<unknown>()
    const stream = await bulk(async there => {
      there.closeWrite().catch(() => undefined)
      waits.resolve(await failure(there.read()))
    })
    await sleep(30)
    stream.abort(new Error('gone'))
    expect(['done', 'peer-unreachable']).toContain(await waits.promise)
  })

  it('a fill that the other side leaves in the middle fails', async () => {
    const stream = await bulk(async there => {
      await there.write(new Uint8Array(100_000))
      await sleep(50)
      there.abort(new Error('gone'))
    })
    const filling = stream.fill?.(new Uint8Array(200_000), { onPart: () => undefined })
    expect(await failure(filling as Promise<unknown>)).toBe('peer-unreachable')
  })

  it('a read ends with its signal and the stream goes on; a fill ends the stream, and writes no more', async () => {
    const stream = await bulk(echo)
    expect(await failure(stream.read(undefined, { signal: AbortSignal.timeout(30) }))).toBe('TimeoutError')
    await stream.write(bytes('still here'))
    expect(text(await stream.read())).toBe('still here')
    const memory = new Uint8Array(1000)
    const filling = stream.fill?.(memory, { signal: AbortSignal.timeout(30), onPart: () => undefined })
    expect(await failure(filling as Promise<unknown>)).toBe('TimeoutError')
    const before = memory.slice()
    await sleep(50)
    expect(memory).toEqual(before)
    expect(await failure(stream.write(bytes('x')))).not.toBe('done')
  })

  it('a handler that fails ends its stream; the next is served', async () => {
    let calls = 0
    const stream = await bulk(async there => {
      calls += 1
      if (calls === 1) throw new Error('no')
      await echo(there, { signal: new AbortController().signal })
    })
    expect(await failure(stream.read())).toBe('peer-unreachable')
    // One that broke off is not tried again for a while: the usual connection serves.
    expect(await a.openBulk(b.peer, '/bulk/1')).toBeUndefined()
    const usual = await a.open(b.peer, '/bulk/1')
    await usual.write(bytes('served'))
    expect(text(await usual.read())).toBe('served')
  })

  it('counts among the streams of its protocol, over all connections', async () => {
    const streams = [await bulk(echo), await opened(), await a.open(b.peer, '/bulk/1')]
    for (const stream of streams) {
      await stream.write(bytes('in'))
      expect(text(await stream.read())).toBe('in')
    }
    expect(await failure((await opened()).read())).toBe('peer-unreachable')
    for (const stream of streams) await stream.close()
  })

  it('shares the limits of bandwidth', async () => {
    const limited = new LimitedHost(
      { host: a },
      { up: 0, down: 2_000_000, perPeerUp: 0, perPeerDown: 0, bulkProtocols: ['/bulk/1'] },
    )
    await limited.start()
    ending.push(() => limited.stop())
    const stream = await bulk(
      async there => there.write(new Uint8Array(1_500_000)).then(() => readAll(there).then(() => undefined)),
      limited,
    )
    const began = performance.now()
    await new FrameReader(stream).bytes(1_500_000, {}, new Uint8Array(1_500_000))
    expect(performance.now() - began).toBeGreaterThan(400)
    expect(limited.traffic().down.totalBytes).toBeGreaterThanOrEqual(1_500_000)
    await stream.close()
  })
})

describe('where there is none', () => {
  it('a protocol that is not for bulk, a peer that is not connected, and a node that takes none', async () => {
    b.handle('/small/1', echo, { maxInboundPerPeer: 3, maxInbound: 8 })
    b.handle('/bulk/1', echo, limits)
    expect(await a.openBulk(b.peer, '/bulk/1')).toBeUndefined()
    await connect(a, b)
    expect(await a.openBulk(b.peer, '/small/1')).toBeUndefined()
    const c = await startHost({ ...quicOnly, dataConnections: { enabled: false, port: 0 } })
    ending.push(() => c.stop())
    c.handle('/bulk/1', echo, limits)
    await connect(a, c)
    expect(await a.openBulk(c.peer, '/bulk/1')).toBeUndefined()
    b.handle('/again/1', echo, limits)
    await connect(c, b)
    expect(await c.openBulk(b.peer, '/again/1')).toBeUndefined()
  })

  it('a port that cannot be had is a warning, and the node runs without', async () => {
    const taken = createServer()
    const port = await listening(taken)
    const warnings: string[] = []
    const log = { ...silentLog, warn: (_: object, message: string) => warnings.push(message) }
    const c = await startHost({ ...quicOnly, dataConnections: { enabled: true, port } }, log)
    ending.push(() => c.stop())
    c.handle('/bulk/1', echo, limits)
    await connect(a, c)
    expect(warnings.join()).toMatch(/no data connections/)
    expect(await a.openBulk(c.peer, '/bulk/1')).toBeUndefined()
    expect(await failure(a.open(c.peer, '/bulk/1'))).toBe('done')
  })

  it.each([
    ['::1', '/ip6/::1/udp/0/quic-v1'],
    ['TCP + Noise + Yamux', tcpOnly.listen[0]],
  ])('it works over %s as well', async (_, address) => {
    const [c, d] = await Promise.all([1, 2].map(() => startHost({ listen: [address as string] })))
    if (c === undefined || d === undefined) throw new Error('no hosts')
    ending.push(
      () => c.stop(),
      () => d.stop(),
    )
    d.handle('/bulk/1', echo, limits)
    await connect(c, d)
    const stream = await c.openBulk(d.peer, '/bulk/1')
    await stream?.write(bytes('here too'))
    expect(text(await stream?.read())).toBe('here too')
    // The other way round as well: who was dialled can be the one who opens.
    c.handle('/back/1', echo, limits)
    expect(await d.openBulk(c.peer, '/back/1')).toBeDefined()
  })
})

describe('membership', () => {
  it('who is disconnected, or no member any more, loses its streams, and an offer is worth nothing', async () => {
    const list = new MemberList().add('c').add('d')
    const [c, d] = await Promise.all(['c', 'd'].map(name => startHost(quicOnly, silentLog, list.for(name))))
    if (c === undefined || d === undefined) throw new Error('no hosts')
    ending.push(
      () => c.stop(),
      () => d.stop(),
    )
    const over = Promise.withResolvers<void>()
    d.handle(
      '/bulk/1',
      async (stream, { signal }) => {
        signal.addEventListener('abort', () => over.resolve())
        await echo(stream, { signal })
      },
      limits,
    )
    await connect(c, d)
    const stream = await c.openBulk(d.peer, '/bulk/1')
    await stream?.write(bytes('member'))
    expect(text(await stream?.read())).toBe('member')
    list.revoke('c')
    await d.recheck()
    await over.promise
    expect(await failure(stream?.read() as Promise<unknown>)).toBe('peer-unreachable')
    expect(await c.openBulk(d.peer, '/bulk/1')).toBeUndefined()
  })

  it('who lacks the capability of the protocol is not served', async () => {
    const list = new MemberList().add('c', ['publish']).add('d')
    const [c, d] = await Promise.all(['c', 'd'].map(name => startHost(quicOnly, silentLog, list.for(name))))
    if (c === undefined || d === undefined) throw new Error('no hosts')
    ending.push(
      () => c.stop(),
      () => d.stop(),
    )
    let served = 0
    d.handle('/bulk/1', async () => void served++, { ...limits, capability: 'fetch' })
    await connect(c, d)
    const stream = await c.openBulk(d.peer, '/bulk/1')
    expect(await failure(stream?.read() as Promise<unknown>)).toBe('peer-unreachable')
    expect(served).toBe(0)
  })

  it.each(['leaves', 'stops'])(
    'when the peer or this node %s while a connection is made, there is none',
    async what => {
      const silent = createServer(() => undefined)
      const port = await listening(silent)
      const offer = encodeFrame({ code: 'ok', port, id: randomBytes(16), key: randomBytes(32) })
      const answer: ByteStream = {
        peer: 'somebody',
        read: async () => offer,
        write: async () => undefined,
        closeWrite: async () => undefined,
        close: async () => undefined,
        abort: () => undefined,
      }
      const data = new DataConnections(
        {
          open: async () => answer,
          addressesOf: () => ['127.0.0.1'],
          isConnected: () => true,
          isBulk: () => true,
          accept: async () => undefined,
          log: silentLog,
        },
        { enabled: true, port: 0, listen: quicOnly.listen },
      )
      const came = new Promise<Socket>(resolve => silent.once('connection', resolve))
      const opening = data.open('somebody', '/bulk/1')
      const socket = await came
      if (what === 'stops') data.stop()
      else data.left('somebody')
      expect(await opening).toBeUndefined()
      expect(await closed(socket)).toBe(true)
    },
  )

  it('a host that stops ends all at once, and leaves no port open', async () => {
    const stream = await bulk(echo)
    const { port } = await offered()
    const began = performance.now()
    await b.stop()
    expect(performance.now() - began).toBeLessThan(4000)
    expect(await failure(stream.read())).toBe('peer-unreachable')
    expect(await failure(tcp(port))).toBe('ECONNREFUSED')
  })
})

describe('strangers at the port', () => {
  let served = 0
  beforeEach(async () => {
    served = 0
    const counted: StreamHandler = async (stream, call) => {
      served += 1
      await echo(stream, call)
    }
    b.handle('/bulk/1', counted, limits)
    await connect(a, b)
  })

  it('nobody is let in whom nobody expects: closed before a byte is read', async () => {
    const { port } = await offered()
    const used = await opened()
    // Its own offer is left; the second at once is one too many.
    const [first, second] = [await tcp(port), await tcp(port)]
    expect(await closed(second)).toBe(true)
    first.destroy()
    await used.close()
  })

  it('garbage, an unknown identity, a wrong key, an older TLS and a certificate open nothing', async () => {
    const attempts: [string, (offer: Offer) => Promise<unknown>][] = [
      ['garbage', async ({ port }) => closed(await tcp(port, randomBytes(2000)))],
      ['HTTP', async ({ port }) => closed(await tcp(port, bytes('GET / HTTP/1.1\r\n\r\n')))],
      ['unknown', offer => handshake({ ...offer, id: randomBytes(16) })],
      ['wrong key', offer => handshake({ ...offer, key: randomBytes(32) })],
      [
        'TLS 1.2',
        offer => handshake(offer, { maxVersion: 'TLSv1.2', minVersion: 'TLSv1.2', ciphers: 'PSK' }),
      ],
      ['no key', ({ port }) => handshake({ port }, { rejectUnauthorized: false })],
    ]
    for (const [name, attempt] of attempts) {
      const result = await attempt(await offered())
      expect([name, result === true || result !== 'secure']).toEqual([name, true])
    }
    expect(served).toBe(0)
    const stream = await opened()
    await stream.write(bytes('a member is still served'))
    expect(text(await stream.read())).toBe('a member is still served')
    await stream.close()
  })

  it('handshakes that nobody finishes count, so that no member can hold more than it may ask for', async () => {
    for (let n = 0; n < 8; n++) {
      const offer = await offered()
      const { port } = await halfway(offer.port)
      void handshake({ ...offer, port })
    }
    await sleep(100)
    const stream = await a.open(b.peer, '/data/1')
    await stream.write(encodeFrame({ protocol: '/bulk/1', address: '127.0.0.1' }))
    expect(await new FrameReader(stream).message(512)).toEqual({ code: 'busy' })
  })

  it('a client that is asked for another key share can still prove its key', async () => {
    const offer = await offered()
    // The first group is one that the listener does not have.
    expect(await handshake(offer, { ecdhCurve: 'ffdhe8192:X25519' })).toBe('secure')
  })

  it('a key opens one connection', async () => {
    const offer = await offered()
    const signal = AbortSignal.timeout(5000)
    const stream = await connectData(b.peer, '127.0.0.1', offer, signal)
    await stream.write(bytes('once'))
    expect(text(await stream.read())).toBe('once')
    await offered()
    expect(await handshake(offer)).not.toBe('secure')
    expect(served).toBe(1)
    stream.abort(new Error('over'))
  })

  it('what says nothing is let go after ten seconds, and holds nobody up', async () => {
    const { port } = await offered()
    const silent = await tcp(port)
    const asking = await a.open(b.peer, '/data/1')
    const asked = failure(asking.read())
    const began = performance.now()
    const stream = await opened()
    await stream.write(bytes('beside it'))
    expect(text(await stream.read())).toBe('beside it')
    expect(await closed(silent, 15_000)).toBe(true)
    expect(performance.now() - began).toBeGreaterThan(5000)
    expect(await asked).toBe('peer-unreachable')
    await stream.close()
  }, 20_000)

  it('malformed questions are refused, and offers have an end', async () => {
    const ask = async (frame: Uint8Array) => {
      const stream = await a.open(b.peer, '/data/1')
      await stream.write(frame)
      return new FrameReader(stream).message(512)
    }
    const question = (address: string, protocol = '/bulk/1') => encodeFrame({ protocol, address })
    expect(await ask(question('127.0.0.1', '/nothing/1'))).toEqual({ code: 'unavailable' })
    expect(await ask(question('::1'))).toEqual({ code: 'unavailable' })
    expect(await ask(question('not an address'))).toEqual({ code: 'unavailable' })
    expect(await failure(ask(encodeFrame({ protocol: 7 })))).toBe('peer-unreachable')
    expect(await failure(ask(encodeFrame({ protocol: '/bulk/1', address: 'x'.repeat(65) })))).toBe(
      'peer-unreachable',
    )
    expect(await failure(ask(new Uint8Array([0xff, 0xff, 0x03])))).toBe('peer-unreachable')
    for (let offer = 0; offer < 8; offer++) await offered()
    expect(await ask(question('127.0.0.1'))).toEqual({ code: 'busy' })
    // One that has no place is not a peer to be avoided.
    expect(await a.openBulk(b.peer, '/bulk/1')).toBeUndefined()
  })
})

describe('liars at the other end', () => {
  const offer = (port: number): Offer => ({ port, id: randomBytes(16), key: randomBytes(32) })
  const dial = (port: number, patienceMs = 5000) =>
    failure(connectData(b.peer, '127.0.0.1', offer(port), AbortSignal.timeout(patienceMs)))

  it('a certificate, even a trusted one, is no key', async () => {
    const { certificate: cert, privateKey: key } = impostor
    const server = createTlsServer({ cert, key, minVersion: 'TLSv1.3' })
    server.on('tlsClientError', () => undefined)
    expect(await dial(await listening(server))).toBe('peer-unreachable')
    const trusting = await failure(
      handshake({ port: await listening(createTlsServer({ cert, key })) }, { ca: cert }),
    )
    expect(trusting).toBe('done')
  })

  it('nor where the environment tells Node to trust everybody', async () => {
    const { certificate: cert, privateKey: key } = impostor
    const server = createTlsServer({ cert, key, minVersion: 'TLSv1.3' })
    server.on('tlsClientError', () => undefined)
    const port = await listening(server)
    vi.stubEnv('NODE_TLS_REJECT_UNAUTHORIZED', '0')
    ending.push(() => vi.unstubAllEnvs())
    expect(await dial(port)).toBe('peer-unreachable')
  })

  it('who knows the identity and not the key is not believed', async () => {
    const server = createTlsServer({ pskCallback: () => randomBytes(32), ciphers, minVersion: 'TLSv1.3' })
    server.on('tlsClientError', () => undefined)
    expect(await dial(await listening(server))).toBe('peer-unreachable')
  })

  it('who hangs up, is silent or is not there costs no more than the patience', async () => {
    const rude = createServer(socket => socket.destroy())
    expect(await dial(await listening(rude))).toBe('peer-unreachable')
    const gone = createServer()
    const port = await listening(gone)
    await new Promise(resolve => gone.close(resolve))
    expect(await dial(port)).toBe('peer-unreachable')
    const silent = createServer(() => undefined)
    const began = performance.now()
    expect(await dial(await listening(silent), 200)).toBe('TimeoutError')
    expect(performance.now() - began).toBeLessThan(2000)
  })

  it('the words are on the wire as they always were', () => {
    const hex = (message: Record<string, unknown>) => Buffer.from(encodeFrame(message)).toString('hex')
    expect(hex({ protocol: '/transfer/1', address: '127.0.0.1' })).toBe(
      '28a26761646472657373693132372e302e302e316870726f746f636f6c6b2f7472616e736665722f31',
    )
    expect(
      hex({ code: 'ok', port: 4414, id: new Uint8Array(16).fill(1), key: new Uint8Array(32).fill(2) }),
    ).toBe(
      '4ba46269645001010101010101010101010101010101636b65795820020202020202020202020202020202020202020202020202020202020202020264636f6465626f6b64706f727419113e',
    )
    expect(hex({ code: 'busy' })).toBe('0ba164636f64656462757379')
  })

  it('an answer that cannot be is refused', () => {
    const good = { code: 'ok', port: 1, id: new Uint8Array(16), key: new Uint8Array(32) }
    expect(readAnswer('peer', good)).toEqual({ port: 1, id: good.id, key: good.key })
    const bad = [
      { port: 0 },
      { port: 65_536 },
      { port: '1' },
      { id: new Uint8Array(15) },
      { key: 'k' },
      { key: new Uint8Array(31) },
    ]
    for (const change of bad)
      expect(() => readAnswer('peer', { ...good, ...change })).toThrow(
        expect.objectContaining({ code: 'bad-peer-message' }),
      )
    expect(readAnswer('peer', { code: 'busy' })).toBe('busy')
    expect(readAnswer('peer', {})).toBe('unavailable')
    expect(() => readRequest({ protocol: '/x/1' })).toThrow(
      expect.objectContaining({ code: 'bad-peer-message' }),
    )
  })
})

describe('offers', () => {
  it('are for one use, for ten seconds, and bounded for each peer and for all', () => {
    let now = 0
    const offers = new Offers(() => now)
    const id = (offer: Offer | undefined) => Buffer.from(offer?.id ?? []).toString('hex')
    const first = offers.make('p', '/x/1', ['10.0.0.1'], 7)
    expect(offers.expectedFrom('10.0.0.1')).toBe(1)
    expect(offers.take(id(first))).toMatchObject({ peer: 'p', protocol: '/x/1' })
    expect(offers.take(id(first))).toBeUndefined()
    expect(offers.expectedFrom('10.0.0.1')).toBe(0)
    const late = offers.make('p', '/x/1', ['10.0.0.1'], 7)
    now = 10_001
    expect(offers.take(id(late))).toBeUndefined()
    // The first is in mid-handshake, for all that is known, and counts until that is over.
    for (let n = 0; n < 7; n++) expect(offers.make('p', '/x/1', [], 7)).toBeDefined()
    expect(offers.make('p', '/x/1', [], 7)).toBeUndefined()
    offers.release(id(first))
    expect(offers.make('p', '/x/1', [], 7)).toBeDefined()
    expect(offers.make('p', '/x/1', [], 7)).toBeUndefined()
    for (let peer = 0; peer < 31; peer++)
      for (let n = 0; n < 8; n++) expect(offers.make(`q${peer}`, '/x/1', [], 7)).toBeDefined()
    expect(offers.make('r', '/x/1', [], 7)).toBeUndefined()
    offers.forget('p')
    expect(offers.make('r', '/x/1', [], 7)).toBeDefined()
    now = 30_000
    expect(offers.make('p', '/x/1', [], 7)).toBeDefined()
  })
})

describe('addresses', () => {
  it('have one form', () => {
    expect(plainAddress('::ffff:192.0.2.1')).toBe('192.0.2.1')
    expect(plainAddress('2001:DB8:0:0::1')).toBe('2001:db8::1')
    expect(plainAddress('nowhere')).toBe('')
    expect(
      listenHosts([
        '/ip4/127.0.0.1/udp/0/quic-v1',
        '/ip4/127.0.0.1/tcp/0',
        '/ip6/::/udp/1/quic-v1',
        '/dns4/x.org/tcp/1',
      ]),
    ).toEqual(['127.0.0.1', '::'])
    fc.assert(fc.property(fc.ipV4(), address => plainAddress(`::ffff:${address}`) === plainAddress(address)))
  })

  it('lead to the port that listens on them', () => {
    const ports = new Map([
      ['127.0.0.1', 1],
      ['0.0.0.0', 2],
      ['2001:db8::1', 3],
    ])
    expect(portFor('127.0.0.1', ports)).toBe(1)
    expect(portFor('192.0.2.1', ports)).toBe(2)
    expect(portFor('2001:db8::1', ports)).toBe(3)
    // Behind a NAT: forwarded, perhaps.
    expect(portFor('2001:db8::2', ports)).toBe(3)
    expect(portFor('192.0.2.1', new Map())).toBeUndefined()
  })
})

async function listening(server: ReturnType<typeof createServer>): Promise<number> {
  const sockets = new Set<Socket>()
  server.on('connection', socket => {
    sockets.add(socket)
    socket.on('error', () => undefined)
  })
  await new Promise<void>(resolve => server.listen(0, '127.0.0.1', resolve))
  ending.push(() => {
    for (const socket of sockets) socket.destroy()
    server.close()
  })
  return (server.address() as { port: number }).port
}

function tcp(port: number, say?: Uint8Array): Promise<Socket> {
  return new Promise((resolve, reject) => {
    const socket = connectTcp(port, '127.0.0.1', () => {
      if (say !== undefined) socket.write(say)
      resolve(socket)
    })
    socket.on('error', reject)
    ending.push(() => socket.destroy())
  })
}

/** A way to the port for one connection, whose answers never come back. */
async function halfway(port: number): Promise<{ port: number }> {
  const way = createServer(socket => {
    const onward = connectTcp(port, '127.0.0.1')
    onward.on('error', () => undefined)
    onward.resume()
    socket.on('data', data => onward.write(data))
    ending.push(() => onward.destroy())
  })
  return { port: await listening(way) }
}

async function closed(socket: Socket, withinMs = 3000): Promise<boolean> {
  socket.resume()
  const over = new Promise<boolean>(resolve => socket.once('close', () => resolve(true)))
  if (socket.destroyed) return true
  return Promise.race([over, sleep(withinMs, false, { ref: false })])
}

/** How a handshake with the port ends, and what happens next: `secure` where the other side lets it live. */
async function handshake(
  { port, id, key }: Partial<Offer>,
  options: ConnectionOptions = {},
): Promise<string> {
  const psk = key !== undefined && id !== undefined && { psk: key, identity: Buffer.from(id).toString('hex') }
  const socket = connectTls({
    host: '127.0.0.1',
    port: port as number,
    ciphers,
    minVersion: 'TLSv1.3',
    checkServerIdentity: () => undefined,
    ...(psk === false ? { ciphers: 'TLS_AES_128_GCM_SHA256' } : { pskCallback: () => psk }),
    ...options,
  })
  ending.push(() => socket.destroy())
  return new Promise<string>((resolve, reject) => {
    socket.on('error', error => (options.ca === undefined ? resolve(error.message) : reject(error)))
    socket.on('close', () => resolve('closed'))
    socket.on('secureConnect', () => setTimeout(() => resolve(socket.destroyed ? 'closed' : 'secure'), 200))
  })
}

/** Made for these tests; it proves nothing to anybody. */
const impostor = {
  privateKey:
    '-----BEGIN PRIVATE KEY-----\n' +
    'MIGHAgEAMBMGByqGSM49AgEGCCqGSM49AwEHBG0wawIBAQQgwwuPpKfx5GWFFxdJ\n' +
    'weC2PUg1ZIxqb1xo/pYiN7ou9bqhRANCAASvfyNns8+5PU/jdy8YLIRy+KGLd62w\n' +
    'XtJHpzx0jrrYYwP7o/hFfMXN24n8mVG39C95tyYwuwYbSwS8WewB+Mub\n' +
    '-----END PRIVATE KEY-----\n',
  certificate:
    '-----BEGIN CERTIFICATE-----\n' +
    'MIIBkTCCATagAwIBAgIUG/mk0S7/fqDKXtzEApVfi3mxQ9swCgYIKoZIzj0EAwIw\n' +
    'FDESMBAGA1UEAwwJMTI3LjAuMC4xMCAXDTI2MTEyMjE3NTIxNloYDzIxMjYxMDI5\n' +
    'MTc1MjE2WjAUMRIwEAYDVQQDDAkxMjcuMC4wLjEwWTATBgcqhkjOPQIBBggqhkjO\n' +
    'PQMBBwNCAASvfyNns8+5PU/jdy8YLIRy+KGLd62wXtJHpzx0jrrYYwP7o/hFfMXN\n' +
    '24n8mVG39C95tyYwuwYbSwS8WewB+Mubo2QwYjAdBgNVHQ4EFgQU007Poh6vhazw\n' +
    'kQVTtmpWb7jRHFswHwYDVR0jBBgwFoAU007Poh6vhazwkQVTtmpWb7jRHFswDwYD\n' +
    'VR0TAQH/BAUwAwEB/zAPBgNVHREECDAGhwR/AAABMAoGCCqGSM49BAMCA0kAMEYC\n' +
    'IQCo0fFBSD8pIVOewANhEe9WjEE2M634kdEBdmMlxO56cQIhAJK5E17NI5xvGFnv\n' +
    '/ThB+B/2Vs/rcODBHfMh1YdRzxbw\n' +
    '-----END CERTIFICATE-----\n',
}
