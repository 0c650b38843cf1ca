// What is libp2p's own: identity, networks, dead addresses, bounded stop, memory under a sender that is not read.
import { execFile, fork } from 'node:child_process'
import { chmod, mkdtemp, readFile, rm, stat, writeFile } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { setTimeout as sleep } from 'node:timers/promises'
import { promisify } from 'node:util'
import { multiaddr } from '@multiformats/multiaddr'
import { afterAll, afterEach, beforeAll, describe, expect, test } from 'vitest'
import { type Log, silentLog } from '../../src/base/log.ts'
import {
  createNodeKey,
  loadOrCreateNodeKey,
  type NodeKeyFile,
  peerOfNodeKey,
} from '../../src/network/identity.ts'
import { KadRouter } from '../../src/network/kad-router.ts'
import { Libp2pHost } from '../../src/network/libp2p-host.ts'
import { KeyFile } from '../../src/trust/key-file.ts'
import { readAll, until } from '../conformance/host.ts'
import { headKey, record, select, validate } from '../conformance/router.ts'
import { everybody } from './admissions.ts'
import { Attacker } from './attacker.ts'
import { connect, quicOnly, startHost, startKadNode, stopAll, tcpOnly } from './swarm.ts'

let directory: string
let hosts: Libp2pHost[] = []
const started = async (...args: Parameters<typeof startHost>) => {
  const host = await startHost(...args)
  hosts.push(host)
  return host
}

beforeAll(async () => {
  directory = await mkdtemp(join(tmpdir(), 'catalog-network-'))
})
afterAll(() => rm(directory, { recursive: true, force: true }))
afterEach(async () => {
  await Promise.all(hosts.map(host => host.stop()))
  hosts = []
})

describe('the node key', () => {
  const plainFile = (path: string): NodeKeyFile => {
    const secrets = { find: () => Promise.reject(new Error('a plain key needs no secret')) }
    const file = new KeyFile({ secrets }, { path, holds: 'node' })
    return {
      path,
      read: async () => (await file.read())?.bytes,
      create: (key, name) => file.create(key, name, undefined),
    }
  }

  test('is made once, in a file that only its owner reads', async () => {
    const path = join(directory, 'node.key')
    const [key, ...same] = await Promise.all([1, 2, 3].map(() => loadOrCreateNodeKey(plainFile(path))))
    for (const other of same) expect(other).toEqual(key)
    expect(await loadOrCreateNodeKey(plainFile(path))).toEqual(key)
    expect((await stat(path)).mode & 0o777).toBe(0o600)
    expect(new Uint8Array(await readFile(path))).toEqual(key)
    expect(peerOfNodeKey(key as Uint8Array)).toMatch(/^12D3Koo/)
  })

  test('is refused when others can read it, or when it is none', async () => {
    const path = join(directory, 'open.key')
    await loadOrCreateNodeKey(plainFile(path))
    await chmod(path, 0o640)
    await expect(loadOrCreateNodeKey(plainFile(path))).rejects.toMatchObject({ code: 'forbidden' })
    const broken = join(directory, 'broken.key')
    await writeFile(broken, 'not a key', { mode: 0o600 })
    await expect(loadOrCreateNodeKey(plainFile(broken))).rejects.toMatchObject({ code: 'invalid-config' })
    expect((await readFile(broken)).toString()).toBe('not a key')
  })
})

describe('Libp2pHost', () => {
  test('is the same peer after a restart, and still holds what others placed in its DHT', async () => {
    const deps = { privateKey: await createNodeKey(), admissions: everybody }
    const datastoreDirectory = join(directory, 'dht')
    const run = async () => {
      const host = new Libp2pHost({ ...deps, datastoreDirectory, log: silentLog }, quicOnly)
      const router = new KadRouter({ host, validate, select, log: silentLog })
      await host.start()
      await router.start()
      return { peer: host.peer, host, router }
    }
    const first = await run()
    const other = await startKadNode()
    await connect(other.host, first.host)
    expect(await other.router.putRecord(headKey(), record(1))).toBe(1)
    await stopAll([first, other])
    const second = await run()
    try {
      expect(second.peer).toBe(first.peer)
      expect(second.router.counts).toMatchObject({ records: 1 })
      expect(await second.router.getRecord(headKey())).toEqual(record(1))
    } finally {
      await stopAll([second])
    }
  })

  test('dials QUIC before TCP', async () => {
    const both = { listen: [...tcpOnly.listen, ...quicOnly.listen] }
    const a = await started(both)
    const b = await started(both)
    const c = await started(both)
    for (const host of [b, c]) await connect(host, a)
    b.handle('/x/1', async stream => void (await readAll(stream)), { maxInbound: 4, maxInboundPerPeer: 4 })
    // c knows only b's addresses as libp2p keeps them; it chooses.
    await a.disconnect(c.peer)
    const [tcp, quic] = b
      .addresses()
      .toSorted((one, two) => Number(one.includes('quic')) - Number(two.includes('quic')))
    expect(tcp).toContain('/tcp/')
    await c.dial(tcp as string)
    await until(async () => (await c.knownAddresses(b.peer)).some(address => address.includes('quic')))
    await c.disconnect(b.peer)
    await until(() => !c.isConnected(b.peer))
    await c.open(b.peer, '/x/1')
    expect(c.connections().find(view => view.peer === b.peer)?.transport).toBe('quic')
    expect(quic).toContain('/quic-v1/')
  })

  test('a dead address is an error within its timeout, over UDP and TCP', async () => {
    const a = await started({ ...quicOnly, dialTimeoutMs: 1200 })
    for (const address of [
      '/ip4/127.0.0.1/udp/9/quic-v1',
      '/ip4/127.0.0.1/tcp/9',
      '/ip4/192.0.2.1/tcp/4001',
    ]) {
      const before = Date.now()
      await expect(a.dial(address)).rejects.toMatchObject({ code: 'peer-unreachable' })
      expect(Date.now() - before).toBeLessThan(2500)
    }
    const reason = new Error('changed my mind')
    await expect(a.dial('/ip4/192.0.2.1/udp/1/quic-v1', { signal: AbortSignal.abort(reason) })).rejects.toBe(
      reason,
    )
  })

  test('a node of another network is no peer: a warning, and disconnected', async () => {
    const warnings: string[] = []
    const log: Log = { ...silentLog, warn: (_fields, message) => warnings.push(message) }
    const a = await started({ ...quicOnly, network: 'ours' }, log)
    const b = await started({ ...quicOnly, network: 'theirs' })
    const changes: string[] = []
    a.onPeer((_peer, change) => changes.push(change))
    await expect(a.dial(b.addresses()[0] as string)).rejects.toMatchObject({
      code: 'not-a-member',
      data: { peer: b.peer, by: 'this-node' },
    })
    expect([...a.connections(), ...b.connections()]).toEqual([])
    expect(changes).toEqual([])
    expect(warnings).toContain('peer is not of this network; disconnecting')
  })

  test('one peer does not take all connections', async () => {
    const a = await started({ ...tcpOnly, maxConnectionsPerPeer: 2 })
    const attacker = await Attacker.start()
    try {
      const address = multiaddr(a.addresses()[0] as string)
      // One after another: libp2p joins dials to one address that are under way.
      for (let i = 0; i < 6; i++) await attacker.node.dial(address, { force: true }).catch(() => undefined)
      await until(() => a.connections().length === 2)
      await sleep(100)
      expect(a.connections().length).toBe(2)
    } finally {
      await attacker.stop()
    }
  })

  test('stops within 4 s with open streams and a handler that hangs, twice', async () => {
    for (const options of [quicOnly, tcpOnly]) {
      const a = await started(options)
      const b = await started(options)
      b.handle('/hang/1', () => new Promise(() => undefined), { maxInbound: 64, maxInboundPerPeer: 64 })
      await connect(a, b)
      const streams = await Promise.all(Array.from({ length: 20 }, () => a.open(b.peer, '/hang/1')))
      const writing = streams.map(stream =>
        stream.write(new Uint8Array(8 * 1024 * 1024)).catch(() => undefined),
      )
      await sleep(200)
      for (const host of [b, a]) {
        const before = Date.now()
        await Promise.all([host.stop(), host.stop()])
        await host.stop()
        expect(Date.now() - before).toBeLessThan(4000)
      }
      await Promise.all(writing)
    }
  })

  test('a message that ends with its stream at once is never lost', async () => {
    for (const options of [quicOnly, tcpOnly]) {
      const a = await started(options)
      const b = await started(options)
      b.handle('/now/1', async stream => stream.write(new Uint8Array([1, 2, 3])), {
        maxInbound: 64,
        maxInboundPerPeer: 64,
      })
      await connect(a, b)
      for (let i = 0; i < 100; i++) {
        const stream = await a.open(b.peer, '/now/1')
        expect((await readAll(stream)).byteLength).toBe(3)
        await stream.close()
      }
    }
  })

  test('a peer that is killed in mid-stream breaks its streams; nothing looks complete', async () => {
    const child = fork(join(import.meta.dirname, 'endless-process.ts'))
    const host = await started(tcpOnly)
    const address = await new Promise<string>(resolve => child.once('message', text => resolve(String(text))))
    const stream = await host.open(await host.dial(address), '/endless/1')
    for (let i = 0; i < 50; i++) expect(await stream.read()).toBeDefined()
    child.kill('SIGKILL')
    await expect(readAll(stream)).rejects.toMatchObject({ code: 'peer-unreachable' })
    await until(() => host.connections().length === 0)
  })

  test.each([
    ['QUIC', 'quic'],
    ['TCP', 'tcp'],
  ])(
    '64 MiB for a reader that does not read, over %s: under 16 MiB held on either side',
    async (_name, transport) => {
      const script = join(import.meta.dirname, 'unread-process.ts')
      const { stdout } = await promisify(execFile)(process.execPath, ['--expose-gc', script, transport], {
        timeout: 30_000,
      })
      const { senderMiB, receiverMiB, sentMiB } = JSON.parse(stdout) as Record<string, number>
      expect(sentMiB).toBeLessThan(16)
      expect(senderMiB).toBeLessThan(16)
      expect(receiverMiB).toBeLessThan(16)
    },
  )
})
