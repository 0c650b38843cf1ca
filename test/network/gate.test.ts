// The one gate: what strangers get (nothing), how members get in and out, over real QUIC and TCP.

import { setTimeout as sleep } from 'node:timers/promises'
import type { Connection } from '@libp2p/interface'
import { peerIdFromString } from '@libp2p/peer-id'
import { afterEach, describe, expect, test } from 'vitest'
import { type Log, silentLog } from '../../src/base/log.ts'
import type { Admissions, Refusal } from '../../src/network/admission.ts'
import { Libp2pByteStream } from '../../src/network/byte-stream.ts'
import { encodeFrame, FrameReader } from '../../src/network/frames.ts'
import type { ByteStream } from '../../src/network/host.ts'
import { createNodeKey } from '../../src/network/identity.ts'
import { Libp2pHost } from '../../src/network/libp2p-host.ts'
import { readAll, until } from '../conformance/host.ts'
import { everybody, MemberList } from './admissions.ts'
import { memberProtocol, Stranger, wasReset } from './stranger.ts'
import { connect, quicOnly, startHost, startKadNode, tcpOnly } from './swarm.ts'

const limits = { maxInbound: 64, maxInboundPerPeer: 64 }
const bytes = (text: string) => Buffer.from(text)
const kadProtocol = '/catalog/main/kad/1.0.0'

const running: { stop(): Promise<void> }[] = []
const kept = <T extends { stop(): Promise<void> }>(one: T): T => {
  running.push(one)
  return one
}
afterEach(async () => {
  await Promise.all(running.splice(0).map(each => each.stop()))
})

describe.each([
  ['QUIC', quicOnly],
  ['TCP', tcpOnly],
])('over %s', (_name, options) => {
  const host = async (admissions: Admissions = everybody, log: Log = silentLog) =>
    kept(await startHost(options, log, admissions))
  const stranger = async (protocols: readonly string[] = []) =>
    kept(await Stranger.start(options.listen[0] as string, protocols))
  const addressOf = (one: Libp2pHost) => one.addresses()[0] as string
  const pair = async (list: MemberList) => {
    const [a, b] = await Promise.all([host(list.for('a')), host(list.for('b'))])
    return { a, b }
  }
  /** Answers a greeting, so that both sides know that the protocol was served. */
  const serve = (one: Libp2pHost, protocol: string, extra = {}) => {
    const served: string[] = []
    const handler = async (stream: ByteStream) => {
      served.push((await readAll(stream)).toString())
      await stream.write(bytes('served'))
    }
    one.handle(protocol, handler, { ...limits, ...extra })
    return served
  }

  test('a silent stranger gets no protocol, is sent nothing, and is closed after 10 s', {
    timeout: 20_000,
  }, async () => {
    const { host: victim, router } = await startKadNode({}, {}, options)
    kept(victim)
    kept(router)
    const served = serve(victim, '/x/1')
    const ours = ['/x/1', '/transfer/1', '/execute/1'].map(suffix => `/catalog/main${suffix}`)
    const silent = await stranger([kadProtocol, ...ours])
    const connected = Date.now()
    const connection = await silent.dial(addressOf(victim))
    const { protocols } = await until2(async () => {
      const known = await silent.node.peerStore.get(connection.remotePeer)
      return known.protocols.includes('/catalog/main/x/1') ? known : undefined
    })
    const gated = protocols.filter(each => each !== memberProtocol && !each.startsWith('/ipfs/id/'))
    expect(gated.sort()).toEqual([
      '/catalog/main/data/1',
      '/catalog/main/kad/1.0.0',
      '/catalog/main/x/1',
      '/ipfs/ping/1.0.0',
    ])
    const streams = await Promise.all(
      gated.map(async protocol => {
        const stream = await connection.newStream(protocol)
        stream.send(bytes('let me in'))
        return wasReset(stream, 15_000)
      }),
    )
    expect(streams).toEqual(gated.map(() => true))
    await until(() => connection.status !== 'open')
    const took = Date.now() - connected
    expect(took).toBeGreaterThan(8000)
    expect(took).toBeLessThan(15_000)
    expect([served, silent.asked]).toEqual([[], []])
    expect(router.contacts).toBe(0)
    expect([victim.connections(), victim.isConnected(silent.peer)]).toEqual([[], false])
  })

  test('a stranger that is dialled gets no stream but the exchange, nor a place in the routing table', async () => {
    const node = await startKadNode({}, {}, options)
    kept(node.host)
    kept(node.router)
    const silent = await stranger([kadProtocol, '/catalog/main/x/1'])
    const dialling = node.host
      .dial(silent.node.getMultiaddrs()[0]?.toString() as string)
      .catch(error => error)
    const opening = node.host.open(silent.peer, '/x/1').catch(error => error)
    expect((await dialling).code).toBe('peer-unreachable')
    expect((await opening).code).toBe('peer-unreachable')
    expect(silent.asked).toEqual([memberProtocol])
    expect(node.router.contacts).toBe(0)
    // The same two as members: each has the other.
    const member = await startKadNode({}, {}, options)
    kept(member.host)
    kept(member.router)
    await connect(member.host, node.host)
    await until(() => node.router.contacts === 1 && member.router.contacts === 1)
  })

  test("libp2p's own services hear of members only, and open streams to members only", async () => {
    const list = new MemberList().add('a').add('b')
    const a = new Libp2pHost(
      { privateKey: await createNodeKey(), admissions: list.for('a'), log: silentLog },
      options,
    )
    const met: string[] = []
    let isThere: (peer: string) => boolean = () => false
    let openStream: (peer: string) => Promise<unknown> = () => Promise.reject(new Error('not started'))
    a.addService('nosy', ({ registrar, connectionManager }) => {
      void registrar.register('/catalog/main/x/1', { onConnect: peer => void met.push(peer.toString()) })
      isThere = peer => connectionManager.getConnections(peerIdFromString(peer)).length > 0
      openStream = peer =>
        connectionManager.openStream(peerIdFromString(peer), '/catalog/main/x/1', {
          signal: AbortSignal.timeout(1000),
        })
      return {}
    })
    await a.start()
    kept(a)
    const silent = await stranger(['/catalog/main/x/1'])
    await silent.dial(addressOf(a))
    await until(() => isThere(silent.peer))
    // It waited for the admission: there is a connection, and the other side speaks the protocol.
    await expect(openStream(silent.peer)).rejects.toMatchObject({ name: 'TimeoutError' })
    expect([silent.asked, met]).toEqual([[], []])
    const b = await host(list.for('b'))
    serve(b, '/x/1')
    await connect(b, a)
    await openStream(b.peer)
    await until(() => met.length > 0)
    expect(met).toEqual([b.peer])
  })

  test('a revocation between the proof and the verdict counts', async () => {
    const list = new MemberList().add('a').add('b')
    const a = await host(list.for('a'))
    const b = await stranger()
    const connection = await b.dial(addressOf(a))
    const stream = new Libp2pByteStream(await connection.newStream(memberProtocol), a.peer)
    await stream.write(encodeFrame({ credential: bytes('b') }))
    expect(await new FrameReader(stream).message(100_000)).toHaveProperty('credential')
    list.revoke('b')
    await a.recheck()
    // Over QUIC the refusal may reset the stream before the write is done.
    await stream.write(encodeFrame({ admitted: true })).catch(() => undefined)
    await until(() => connection.status !== 'open')
    expect([a.admissionOf(b.peer), list.asked]).toEqual([undefined, ['b', 'b']])
  })

  test('a stream that comes before the admission waits for it, with what it brought', async () => {
    const list = new MemberList().add('a').add('b')
    const a = await host(list.for('a'))
    const served = serve(a, '/x/1', { capability: 'fetch' })
    const b = await stranger()
    const connection = await b.dial(addressOf(a))
    const early = new Libp2pByteStream(await connection.newStream('/catalog/main/x/1'), a.peer)
    await early.write(bytes('early'))
    await early.closeWrite()
    await sleep(300)
    expect(served).toEqual([])
    await b.introduce(connection, bytes('b'))
    expect((await readAll(early)).toString()).toBe('served')
    expect(served).toEqual(['early'])
  })

  test('of the streams that wait, 32 are held on one connection', async () => {
    const list = new MemberList().add('a').add('b')
    const a = await host(list.for('a'))
    for (const protocol of ['/x/1', '/y/1']) serve(a, protocol)
    const b = await stranger()
    const connection = await b.dial(addressOf(a))
    const open = (i: number) =>
      connection.newStream(`/catalog/main/${i % 2 === 0 ? 'x' : 'y'}/1`, { maxOutboundStreams: 100 })
    // Its answer says that the other side is ready: of more than ten streams before that, yamux ends the connection.
    const first = await open(0)
    const more = await Promise.allSettled(Array.from({ length: 39 }, (_, i) => open(i + 1)))
    // A reset may come together with the answer that the protocol is spoken: then the opening fails already.
    const reset = await Promise.all([
      wasReset(first, 500),
      ...more.map(each =>
        each.status === 'fulfilled' ? wasReset(each.value, 500) : each.reason.name === 'StreamResetError',
      ),
    ])
    expect(reset.filter(Boolean)).toHaveLength(8)
  })

  test('a refused node hears why; both sides say so once', async () => {
    const warnings: { who: string; message: string; code: unknown; reason: unknown }[] = []
    const log = (who: string): Log => ({
      ...silentLog,
      warn: ({ code, reason }, message) => warnings.push({ who, message, code, reason }),
    })
    const list = new MemberList().add('b')
    const a = await host(list.for('a'), log('a'))
    const b = await host(list.for('b'), log('b'))
    const heard: (Refusal & { who: string; right: boolean })[] = []
    a.onRefused((peer, refusal) => heard.push({ who: 'a', right: peer === b.peer, ...refusal }))
    b.onRefused((peer, refusal) => heard.push({ who: 'b', right: peer === a.peer, ...refusal }))
    for (let i = 0; i < 3; i++)
      await expect(a.dial(addressOf(b))).rejects.toMatchObject({
        code: 'not-a-member',
        data: { peer: b.peer, by: 'peer', reason: 'certificate-revoked' },
      })
    const said = { right: true, code: 'certificate-revoked', message: 'The certificate of a was revoked.' }
    // A dial that met a closing connection has tried once more.
    await until(() => heard.length >= 6)
    expect(heard).toContainEqual({ who: 'a', by: 'peer', ...said })
    expect(heard).toContainEqual({ who: 'b', by: 'this-node', ...said })
    expect(warnings.map(({ who }) => who).sort()).toEqual(['a', 'b'])
    for (const warning of warnings) expect(warning).toMatchObject({ code: said.code, reason: said.message })
  })

  test('two networks of one name but of other roots do not mix', async () => {
    const [ours, theirs] = [new MemberList().add('a').add('b'), new MemberList().add('c').add('d')]
    const [a, b, c, d] = await Promise.all([
      host(ours.for('a')),
      host(ours.for('b')),
      host(theirs.for('c')),
      host(theirs.for('d')),
    ])
    await Promise.all([connect(a, b), connect(c, d)])
    for (const [one, other] of [
      [a, c],
      [d, b],
    ] as const)
      await expect(one.dial(addressOf(other))).rejects.toMatchObject({ code: 'not-a-member' })
    expect([a, b, c, d].map(each => each.connections().map(({ peer }) => peer))).toEqual([
      [b.peer],
      [a.peer],
      [d.peer],
      [c.peer],
    ])
  })

  test.each([
    ['an oversized credential', { credential: new Uint8Array(64 * 1024 + 1) }],
    ['an oversized frame', { credential: new Uint8Array(80 * 1024) }],
    ['no credential', {}],
    ['a text for a credential', { credential: 'me' }],
    ['a verdict in place of a credential', { admitted: true }],
    ['a refusal without a sentence', { refused: 'x' }],
    ['a refusal with an odd code', { refused: 'Ä'.repeat(10), message: '' }],
  ])('%s ends the connection', async (_what, message) => {
    const list = new MemberList().add('a')
    const a = await host(list.for('a'))
    const b = await stranger()
    const connection = await b.dial(addressOf(a))
    const stream = new Libp2pByteStream(await connection.newStream(memberProtocol), a.peer)
    await stream.write(encodeFrame(message)).catch(() => undefined)
    await until(() => connection.status !== 'open')
    expect([list.asked, a.connections()]).toEqual([[], []])
  })

  test('a peer whose verdict never comes is no member', async () => {
    const list = new MemberList().add('a').add('b')
    const a = await host(list.for('a'))
    const served = serve(a, '/x/1')
    const b = await stranger()
    const connection = await b.dial(addressOf(a))
    const stream = new Libp2pByteStream(await connection.newStream(memberProtocol), a.peer)
    await stream.write(encodeFrame({ credential: bytes('b') }))
    expect(await new FrameReader(stream).message(100_000)).toEqual({ credential: new Uint8Array(bytes('a')) })
    const x = await connection.newStream('/catalog/main/x/1')
    x.send(bytes('hello'))
    expect(await wasReset(x, 300)).toBe(false)
    expect([served, a.isConnected(b.peer), a.admissionOf(b.peer)]).toEqual([[], false, undefined])
    await stream.write(encodeFrame({ admitted: true }))
    await until(() => a.isConnected(b.peer))
  })

  test('a stranger never sees a certificate of a member that it dials', async () => {
    const a = await host(new MemberList().add('a').for('a'))
    const b = await stranger()
    const connection = await b.dial(addressOf(a))
    const stream = new Libp2pByteStream(await connection.newStream(memberProtocol), a.peer)
    await stream.write(encodeFrame({ credential: bytes('b') }))
    const reader = new FrameReader(stream)
    expect(await reader.message(100_000)).toEqual({
      refused: 'certificate-revoked',
      message: 'The certificate of b was revoked.',
    })
  })

  test('when both dial at once, each is connected once', async () => {
    const list = new MemberList().add('a').add('b')
    for (let round = 0; round < 5; round++) {
      const { a, b } = await pair(list)
      const changes: string[] = []
      a.onPeer((peer, change) => changes.push(`a ${peer === b.peer} ${change}`))
      b.onPeer((peer, change) => changes.push(`b ${peer === a.peer} ${change}`))
      const served = serve(b, '/x/1')
      await Promise.all([a.dial(addressOf(b)), b.dial(addressOf(a))])
      await until(() => a.isConnected(b.peer) && b.isConnected(a.peer))
      const stream = await a.open(b.peer, '/x/1')
      await stream.write(bytes('hello'))
      await stream.closeWrite()
      expect((await readAll(stream)).toString()).toBe('served')
      expect(served).toEqual(['hello'])
      expect(changes.sort()).toEqual(['a true connected', 'b true connected'])
    }
  })

  test('a revoked member is told and disconnected by a recheck; its streams break, others go on', async () => {
    const list = new MemberList().add('a').add('b').add('c')
    const { a, b } = await pair(list)
    const c = await host(list.for('c'))
    a.handle('/long/1', async stream => void (await readAll(stream)), limits)
    await Promise.all([connect(b, a), connect(c, a)])
    const changes: string[] = []
    a.onPeer((peer, change) => changes.push(`${peer === b.peer ? 'b' : 'c'} ${change}`))
    const heard = new Promise<Refusal>(resolve => b.onRefused((_peer, refusal) => resolve(refusal)))
    const [ofB, ofC] = await Promise.all([b.open(a.peer, '/long/1'), c.open(a.peer, '/long/1')])
    for (const stream of [ofB, ofC]) await stream.write(bytes('x'))
    expect(await a.recheck()).toEqual([])
    list.revoke('b')
    expect(await a.recheck()).toEqual([b.peer])
    expect([a.isConnected(b.peer), changes]).toEqual([false, ['b disconnected']])
    await expect(readAll(ofB)).rejects.toMatchObject({ code: 'peer-unreachable' })
    expect(await heard).toEqual({
      by: 'peer',
      code: 'certificate-revoked',
      message: 'The certificate of b was revoked.',
    })
    await until(() => b.connections().length === 0)
    await expect(b.dial(addressOf(a))).rejects.toMatchObject({ code: 'not-a-member' })
    await ofC.write(bytes('still here'))
    expect(a.connections().map(({ peer }) => peer)).toEqual([c.peer])
  })

  test('a recheck by predicate asks for no proof', async () => {
    const list = new MemberList().add('a').add('b')
    const { a, b } = await pair(list)
    await connect(a, b)
    const asked = list.asked.length
    expect(await a.recheck((_peer, { certificate }) => certificate === 'certificate-of-b')).toEqual([])
    expect(await a.recheck(() => false)).toEqual([b.peer])
    expect(list.asked.length).toBe(asked)
    await until(() => b.connections().length === 0)
  })

  test('a revocation that comes in the middle of an exchange counts', async () => {
    const list = new MemberList().add('a').add('b')
    const [asked, proceed] = [Promise.withResolvers<void>(), Promise.withResolvers<void>()]
    const b = await host(
      list.for('b', async () => {
        asked.resolve()
        await proceed.promise
      }),
    )
    const a = await host(list.for('a'))
    const dialling = a.dial(addressOf(b)).catch(error => error)
    await asked.promise
    list.revoke('a')
    await b.recheck()
    proceed.resolve()
    expect(await dialling).toMatchObject({ code: 'not-a-member', data: { reason: 'certificate-revoked' } })
    expect(b.connections()).toEqual([])
  })

  test('a membership ends when its certificate does, and not before', async () => {
    const list = new MemberList().add('a').add('b', ['fetch'], Date.now() + 2500)
    const { a, b } = await pair(list.add('far', ['fetch'], Date.now() + 2 ** 32))
    const far = await host(list.for('far'))
    await Promise.all([connect(a, b), connect(a, far)])
    const warnings: string[] = []
    const warned = ({ name }: Error) => void warnings.push(name)
    process.on('warning', warned)
    const heard = new Promise<Refusal>(resolve => b.onRefused((_peer, refusal) => resolve(refusal)))
    expect((await heard).code).toBe('certificate-expired')
    await until(() => !a.isConnected(b.peer) && b.connections().length === 0)
    expect(a.isConnected(far.peer)).toBe(true)
    await sleep(50)
    process.off('warning', warned)
    // A timer of over 2^31 ms would fire at once, again and again.
    expect(warnings).not.toContain('TimeoutOverflowWarning')
  })

  test('a member that lacks a capability is told so, and stays a member', async () => {
    const list = new MemberList().add('a').add('b', ['fetch'])
    const { a, b } = await pair(list)
    const served = serve(a, '/run/1', { capability: 'execute' })
    await connect(b, a)
    const heard: Refusal[] = []
    b.onRefused((_peer, refusal) => heard.push(refusal))
    for (let i = 0; i < 3; i++)
      await expect(
        b.open(a.peer, '/run/1').then(async stream => {
          await stream.closeWrite()
          return readAll(stream)
        }),
      ).rejects.toMatchObject({ code: 'peer-unreachable' })
    await until(() => heard.length > 0)
    expect(heard).toEqual([
      {
        by: 'peer',
        code: 'capability-missing',
        message: `${b.peer} asked for /run/1, but its certificate does not grant execute.`,
      },
    ])
    expect([served, a.isConnected(b.peer), b.isConnected(a.peer)]).toEqual([[], true, true])
  })

  test('a new credential replaces the old one without a break', async () => {
    const list = new MemberList().add('a').add('b-old', ['fetch']).add('b-new', ['fetch', 'execute'])
    let own = 'b-old'
    const a = await host(list.for('a'))
    const b = await host(list.for(() => own))
    const changes: string[] = []
    await connect(b, a)
    a.onPeer((_peer, change) => changes.push(change))
    own = 'b-new'
    await b.present()
    await until(() => a.admissionOf(b.peer)?.certificate === 'certificate-of-b-new')
    list.revoke('b-old')
    expect(await a.recheck()).toEqual([])
    expect([a.isConnected(b.peer), changes]).toEqual([true, []])
  })

  test('a node joins, shows its new credential, and is a member on the same connection', async () => {
    const list = new MemberList().add('b')
    let own: string | undefined
    const a = await host(list.for(() => own))
    const b = await host(list.for('b'))
    b.handle(
      '/join/1',
      async stream => {
        list.add('a')
        await stream.write(bytes('a'))
      },
      { ...limits, open: true },
    )
    const served = serve(b, '/x/1')
    await a.dial(addressOf(b), { joining: true })
    own = (await readAll(await a.open(b.peer, '/join/1', { joining: true }))).toString()
    await a.present()
    await until(() => a.isConnected(b.peer) && b.isConnected(a.peer))
    expect(a.connections()).toHaveLength(1)
    await (await a.open(b.peer, '/x/1')).closeWrite()
    await until(() => served.length === 1)
  })

  test('an expired member may come as a stranger, to join again', async () => {
    const list = new MemberList().add('b')
    const { a, b } = await pair(list)
    b.handle('/join/1', async stream => stream.write(bytes('welcome')), { ...limits, open: true })
    await expect(a.dial(addressOf(b))).rejects.toMatchObject({ code: 'not-a-member' })
    const asked = list.asked.length
    await a.dial(addressOf(b), { joining: true })
    expect((await readAll(await a.open(b.peer, '/join/1', { joining: true }))).toString()).toBe('welcome')
    expect(list.asked).toHaveLength(asked)
  })

  test('strangers join on two connections each, and on eight in all', async () => {
    const b = await host(new MemberList().add('b').for('b'))
    const held = Promise.withResolvers<void>()
    b.handle(
      '/join/1',
      async stream => {
        await stream.write(bytes('.'))
        await held.promise
      },
      { ...limits, open: true },
    )
    const join = async (one: Stranger) => {
      const connection = await one.dial(addressOf(b))
      const stream = new Libp2pByteStream(await connection.newStream('/catalog/main/join/1'), b.peer)
      return stream.read().then(
        piece => piece !== undefined,
        () => false,
      )
    }
    const strangers = await Promise.all(Array.from({ length: 5 }, () => stranger()))
    const outcomes: boolean[][] = []
    for (const one of strangers) outcomes.push([await join(one), await join(one), await join(one)])
    held.resolve()
    expect(outcomes.flat().map(Number).join('')).toBe('110110110110000')
  })

  test('more than 64 silent connections do not keep a member out', async () => {
    const list = new MemberList().add('a').add('b')
    const a = await host(list.for('a'))
    const patient = { ...options, maxInboundConnectionsPerSecond: 1000 }
    const b = kept(await startHost(patient, silentLog, list.for('b')))
    const crowd = await Promise.all(Array.from({ length: 18 }, () => stranger()))
    const open = await Promise.all(
      crowd.map(async one => {
        const connections: (Connection | undefined)[] = []
        for (let i = 0; i < 4; i++) connections.push(await one.dial(addressOf(b)).catch(() => undefined))
        return connections
      }),
    )
    await until(() => open.flat().filter(connection => connection?.status === 'open').length === 64)
    await connect(a, b)
  })
})

/** Waits until there is one, for at most five seconds. */
async function until2<T>(find: () => Promise<T | undefined>): Promise<T> {
  let found: T | undefined
  await until(async () => {
    found = await find()
    return found !== undefined
  })
  return found as T
}
