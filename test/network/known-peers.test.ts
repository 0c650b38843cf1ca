// Peers met before and bootstrap addresses: dialled in the background, remembered, never an error.
import { setTimeout as sleep } from 'node:timers/promises'
import { afterEach, describe, expect, test } from 'vitest'
import { type Log, silentLog } from '../../src/base/log.ts'
import { MemoryKeyValue } from '../../src/base/memory-key-value.ts'
import { KnownPeers, type KnownPeersOptions } from '../../src/network/known-peers.ts'
import { type MemoryHost, MemoryNetwork } from '../../src/network/memory-host.ts'
import { until } from '../conformance/host.ts'
import { quicOnly, startHost } from './swarm.ts'

let running: KnownPeers[] = []
afterEach(async () => {
  await Promise.all(running.map(peers => peers.stop()))
  running = []
})

const quick = { retryMs: 30, checkMs: 20, dialTimeoutMs: 500 }

async function start(
  host: MemoryHost,
  options: Partial<KnownPeersOptions> = {},
  records = new MemoryKeyValue(),
  log: Log = silentLog,
): Promise<KnownPeers> {
  const peers = new KnownPeers({ host, records, log }, { ...quick, ...options })
  running.push(peers)
  await peers.start()
  return peers
}

describe('KnownPeers', () => {
  test('dials bootstrap addresses until one answers; one that does not is one warning', async () => {
    const network = new MemoryNetwork()
    const [a, late] = [network.createHost('a'), network.createHost('late')]
    await late.stop()
    const warnings: string[] = []
    const log: Log = { ...silentLog, warn: (_fields, message) => warnings.push(message) }
    const before = Date.now()
    await start(a, { bootstrap: ['/memory/nobody', '/memory/late/p2p/late', 'nonsense'] }, undefined, log)
    expect(Date.now() - before).toBeLessThan(100)
    await sleep(200)
    expect(a.connections()).toEqual([])
    await late.start()
    await until(() => a.isConnected('late'))
    expect(warnings).toHaveLength(3)
  })

  test('comes back after a restart to those it met, without bootstrap, and after a cut', async () => {
    const network = new MemoryNetwork()
    const [a, b, c] = [network.createHost('a'), network.createHost('b'), network.createHost('c')]
    const records = new MemoryKeyValue()
    const first = await start(a, {}, records)
    await a.dial(b.addresses()[0] as string)
    await a.dial(c.addresses()[0] as string)
    await until(() => first.list().length === 2)
    await first.stop()
    await a.stop()
    await a.start()
    expect(a.connections()).toEqual([])
    await start(a, {}, records)
    await until(() => a.isConnected('b') && a.isConnected('c'))
    network.cut('a', 'b')
    await until(() => a.isConnected('b'))
  })

  test('a name stands for what it is said to, from one moment to the next; many dead addresses are one warning', async () => {
    const network = new MemoryNetwork()
    const [a, b, c, d] = ['a', 'b', 'c', 'd'].map(name => network.createHost(name)) as [
      MemoryHost,
      MemoryHost,
      MemoryHost,
      MemoryHost,
    ]
    const dead = Array.from({ length: 30 }, (_, number) => `/memory/dead${number}/p2p/dead${number}`)
    let said: readonly string[] = []
    const names = { addressesOf: (entry: string) => (entry === 'net.test' ? said : undefined) }
    const warnings: string[] = []
    const log: Log = { ...silentLog, warn: (_fields, message) => warnings.push(message) }
    const bootstrap = ['net.test', b.addresses()[0] as string]
    const records = new MemoryKeyValue()
    const peers = new KnownPeers({ host: a, records, names, log }, { ...quick, bootstrap })
    running.push(peers)
    await peers.start()
    await until(() => a.isConnected('b'))
    said = [...dead, c.addresses()[0] as string]
    await until(() => a.isConnected('c'))
    said = [d.addresses()[0] as string]
    await until(() => a.isConnected('d'))
    expect(a.isConnected('c')).toBe(true)
    expect(warnings).toHaveLength(1)
  })

  test('keeps the best few only, and ignores entries it cannot read', async () => {
    const network = new MemoryNetwork()
    const a = network.createHost('a')
    const records = new MemoryKeyValue()
    await records.put('peer/odd', new Uint8Array([1, 2, 3]))
    const peers = await start(a, { maxPeers: 3, enoughPeers: 0 }, records)
    for (let i = 0; i < 6; i++) {
      network.createHost(`p${i}`)
      await a.dial(`/memory/p${i}`)
      await sleep(3)
    }
    await until(() => peers.list().length === 3)
    expect(peers.list().map(({ peer }) => peer)).toEqual(['p5', 'p4', 'p3'])
    const keys: string[] = []
    for await (const key of records.keys({ prefix: 'peer/' })) keys.push(key)
    expect(keys).toEqual(['peer/p3', 'peer/p4', 'peer/p5'])
  })

  test('over libp2p it also remembers the listening addresses of peers that dialled it', async () => {
    const [a, b] = [await startHost(quicOnly), await startHost(quicOnly)]
    const peers = new KnownPeers({ host: a, records: new MemoryKeyValue(), log: silentLog }, quick)
    running.push(peers)
    try {
      await peers.start()
      await b.dial(a.addresses()[0] as string)
      await until(() =>
        peers
          .list()
          .some(({ peer, addresses }) => peer === b.peer && addresses.includes(b.addresses()[0] as string)),
      )
      await a.disconnect(b.peer)
      await until(() => a.isConnected(b.peer))
    } finally {
      await peers.stop()
      await Promise.all([a.stop(), b.stop()])
    }
  })
})
