// Names of networks against a real DNS server: what it says, how long that holds, and every way in which it fails.
import { createSocket } from 'node:dgram'
import { setTimeout as sleep } from 'node:timers/promises'
import { afterAll, afterEach, beforeAll, describe, expect, test } from 'vitest'
import { silentLog } from '../../src/base/log.ts'
import { MemoryKeyValue } from '../../src/base/memory-key-value.ts'
import { TxtLookup } from '../../src/network/dns/txt-lookup.ts'
import { DnsNames, type DnsNamesOptions, type NetworkNameState } from '../../src/network/dns.ts'
import { KnownPeers } from '../../src/network/known-peers.ts'
import { brokenZone, DnsTestServer, missingDnsServer, type ZoneRecord, zone } from './dns-server.ts'
import { quicOnly, startHost } from './swarm.ts'

if (missingDnsServer !== undefined) console.log(`SKIP names against a DNS server: ${missingDnsServer}`)

const peers = [
  '12D3KooWD3eckifWpRn9wQpMG9R9hX3sD158z7EqHWmweQAJU5SA',
  '12D3KooWEyoppNCUx8Yx66oV9fJnriXwCcXwDDUA2kj6vnc6iDEp',
]
const address = (number: number, peer = peers[0]) =>
  `/ip4/192.0.2.${(number % 250) + 1}/udp/${4000 + number}/quic-v1/p2p/${peer}`
const dnsaddr = (name: string, value: string, ttlSeconds = 60): ZoneRecord => ({
  name: `_dnsaddr.${name}`,
  txt: `dnsaddr=${value}`,
  ttlSeconds,
})
const root = 'bdyqcyb7p2tqjbkcrhrxhcy3n4eeehfynmbvgnmplgzsvrdo6nyxhm3q'
const otherRoot = root.replace('cyb7', 'cyb6')

// Beyond one packet, beyond 64 records, beyond 16 KiB.
const many = Array.from({ length: 30 }, (_, number) => dnsaddr('many', address(number)))
const tooMany = Array.from({ length: 130 }, (_, number) => dnsaddr('toomany', `/dnsaddr/a${number}.x.test`))
const tooLarge = Array.from({ length: 90 }, (_, number) => ({
  name: '_dnsaddr.toolarge',
  txt: `dnsaddr=${number}${'x'.repeat(240)}`,
}))
const chain = Array.from({ length: 6 }, (_, number) => [
  dnsaddr(`chain${number}`, address(number)),
  dnsaddr(`chain${number}`, `/dnsaddr/chain${number + 1}.${zone}`),
]).flat()

const standing: readonly ZoneRecord[] = [
  dnsaddr('net', address(1)),
  dnsaddr('net', `/dnsaddr/second.${zone}/p2p/${peers[1]}`),
  dnsaddr('second', address(2, peers[1])),
  dnsaddr('second', address(3, peers[0])),
  dnsaddr('second', `/dnsaddr/third.${zone}/p2p/${peers[0]}`),
  dnsaddr('third', address(4, peers[1])),
  { name: '_catalog.net', txt: `catalog=v1 root=${root} later=thing` },
  { name: '_dnsaddr.alias', cname: `_dnsaddr.net.${zone}.` },
  { name: '_dnsaddr.loop', cname: `_dnsaddr.loop2.${zone}.` },
  { name: '_dnsaddr.loop2', cname: `_dnsaddr.loop.${zone}.` },
  dnsaddr('circle', `/dnsaddr/circle2.${zone}`),
  dnsaddr('circle2', `/dnsaddr/circle.${zone}`),
  dnsaddr('circle2', address(9)),
  dnsaddr('mixed', '/ip4/192.0.2.1/udp/4414/quic-v1'),
  dnsaddr('mixed', 'nonsense'),
  dnsaddr('mixed', '/ip4/192.0.2.1/tcp/1/p2p/nobody'),
  dnsaddr('mixed', `/unix/tmp/socket/p2p/${peers[0]}`),
  dnsaddr('mixed', '/dnsaddr/under_score.test'),
  { name: '_dnsaddr.mixed', txt: 'v=spf1 -all' },
  { name: '_dnsaddr.mixed', txt: 'dnsaddr=\x1b[31m\x07' },
  dnsaddr('mixed', address(7)),
  { name: '_catalog.two', txt: `catalog=v1 root=${root}` },
  { name: '_catalog.two', txt: `catalog=v1 root=${otherRoot}` },
  dnsaddr('two', address(1)),
  { name: '_catalog.odd', txt: `catalog=v2 root=${root}` },
  { name: '_catalog.odd', txt: 'catalog=v1 root=\x1b[2Jhello' },
  dnsaddr('odd', address(1)),
  ...many,
  ...tooMany,
  ...tooLarge,
  ...chain,
]

const running: DnsNames[] = []
afterEach(async () => {
  await Promise.all(running.splice(0).map(names => names.stop()))
})

describe.skipIf(missingDnsServer !== undefined)('names, against a real DNS server', () => {
  let server: DnsTestServer
  beforeAll(async () => {
    server = await DnsTestServer.start(standing)
  })
  afterAll(() => server?.stop())

  function start(options: Partial<DnsNamesOptions> = {}, warnings: string[] = []): DnsNames {
    const log = { ...silentLog, warn: (fields: object) => warnings.push(JSON.stringify(fields)) }
    const names = new DnsNames({ log }, { servers: [server.address], minTtlMs: 50, retryMs: 50, ...options })
    running.push(names)
    return names
  }

  async function until(holds: () => boolean): Promise<void> {
    const deadline = Date.now() + 20_000
    while (!holds()) {
      if (Date.now() > deadline) throw new Error('it did not come about within 20 s')
      await sleep(10)
    }
  }

  /** What is known once DNS was asked. */
  async function resolved(entry: string, names = start()): Promise<NetworkNameState> {
    let state: NetworkNameState | undefined
    await until(() => {
      names.addressesOf(entry)
      state = names.names()[0]
      return state?.askedAt !== undefined || (state?.problems.length ?? 0) > 0
    })
    return state as NetworkNameState
  }

  test('a name has the addresses of its records, of further names, and the root that it claims', async () => {
    const names = start()
    const state = await resolved(`NET.${zone}.`, names)
    expect([...state.addresses].sort()).toEqual([address(1), address(2, peers[1])].sort())
    expect(state).toMatchObject({ name: `net.${zone}`, rootFingerprint: root, problems: [] })
    expect(names.addressesOf(`/dnsaddr/net.${zone}/p2p/${peers[1]}`)).toEqual([address(2, peers[1])])
    expect(names.addressesOf(address(1))).toBeUndefined()
    expect((await resolved(`alias.${zone}`)).addresses).toHaveLength(2)
  })

  test('names that lead in circles, or on and on, end', async () => {
    expect(await resolved(`circle.${zone}`)).toMatchObject({ addresses: [address(9)], problems: [] })
    expect((await resolved(`loop.${zone}`)).addresses).toEqual([])
    const far = await resolved(`chain0.${zone}`)
    expect(far.addresses).toEqual([0, 1, 2, 3].map(number => address(number)))
    expect(far.problems).toEqual([expect.stringContaining('more names than are followed')])
  })

  test('what is no address with a peer is left out, with a warning that shows nothing of it', async () => {
    const warnings: string[] = []
    const { addresses, problems } = await resolved(`mixed.${zone}`, start({}, warnings))
    expect(addresses).toEqual([address(7)])
    expect(problems).toEqual([expect.stringContaining('6 records')])
    expect(warnings).toHaveLength(1)
  })

  test('of several roots none is shown, nor one of another version or form', async () => {
    const two = await resolved(`two.${zone}`)
    expect(two).not.toHaveProperty('rootFingerprint')
    expect(two.problems).toEqual([expect.stringContaining('several roots')])
    expect(two.addresses).toHaveLength(1)
    expect(await resolved(`odd.${zone}`)).not.toHaveProperty('rootFingerprint')
  })

  test('an answer too large for a packet comes over TCP; beyond the bounds the rest is left', async () => {
    expect([...(await resolved(`many.${zone}`)).addresses].sort()).toEqual(
      many.map(({ txt }) => txt?.slice('dnsaddr='.length)).sort(),
    )
    const lookup = new TxtLookup({ servers: [server.address] })
    const cut = await lookup.lookup(`_dnsaddr.toomany.${zone}`)
    expect(cut.texts).toHaveLength(64)
    expect(cut.problems).toEqual([expect.stringContaining('too many records')])
    await expect(lookup.lookup(`_dnsaddr.toolarge.${zone}`)).rejects.toThrow('at most 16384 are read')
    const followed = await resolved(`toomany.${zone}`)
    expect(followed.addresses).toEqual([])
    expect(followed.problems.join()).toContain('more names than are followed')
  })

  test('a name that does not exist, or has no records, is a warning', async () => {
    for (const name of [`nothing.${zone}`, zone]) {
      const { addresses, problems } = await resolved(name)
      expect(addresses).toEqual([])
      expect(problems).toEqual([expect.stringContaining('is the name right?')])
    }
  })

  test('a server that fails, refuses, is not there or says nothing is told as that, and the next is asked', async () => {
    const silent = createSocket('udp4')
    await new Promise<void>(resolve => silent.bind(0, '127.0.0.1', resolve))
    const mute = `127.0.0.1:${silent.address().port}`
    const gone = createSocket('udp4')
    await new Promise<void>(resolve => gone.bind(0, '127.0.0.1', resolve))
    const absent = `127.0.0.1:${gone.address().port}`
    await new Promise<void>(resolve => gone.close(resolve))
    try {
      const failing = await resolved(`net.${brokenZone}`)
      expect(failing).not.toHaveProperty('askedAt')
      expect(failing.problems[0]).toContain('SERVFAIL')
      expect((await resolved('net.elsewhere.test')).problems[0]).toContain('REFUSED')
      const lookup = (servers: string[]) => new TxtLookup({ servers, serverTimeoutMs: 300 })
      await expect(lookup([mute]).lookup(`_dnsaddr.net.${zone}`)).rejects.toThrow('no answer within 300 ms')
      await expect(lookup([absent]).lookup(`_dnsaddr.net.${zone}`)).rejects.toThrow('ECONNREFUSED')
      const third = await lookup([absent, mute, server.address]).lookup(`_dnsaddr.net.${zone}`)
      expect(third.texts).toHaveLength(2)
      const names = start({ servers: [mute, server.address], serverTimeoutMs: 300, resolveTimeoutMs: 20_000 })
      expect((await resolved(`net.${zone}`, names)).addresses).toHaveLength(2)
      const late = start({ servers: [mute], serverTimeoutMs: 5000, resolveTimeoutMs: 200 })
      expect((await resolved(`net.${zone}`, late)).problems[0]).toContain('it took more than 200 ms')
      const stopping = new AbortController()
      const asking = lookup([mute]).lookup(`_dnsaddr.net.${zone}`, { signal: stopping.signal })
      stopping.abort(new Error('the node stops'))
      await expect(asking).rejects.toThrow('the node stops')
    } finally {
      silent.close()
    }
  })

  test('an answer is kept for its TTL, within bounds; an absence for what the zone says', async () => {
    await server.change([
      ...standing,
      dnsaddr('long', address(1), 2_000_000),
      dnsaddr('short', address(1), 0),
    ])
    const lookup = new TxtLookup({ servers: [server.address], minTtlMs: 2000, maxTtlMs: 100_000 })
    const keptMs = async (name: string) => {
      const asked = Date.now()
      const { freshUntil } = await lookup.lookup(`_dnsaddr.${name}.${zone}`)
      return { least: freshUntil - Date.now(), most: freshUntil - asked }
    }
    for (const [name, ms] of [
      ['net', 60_000],
      ['long', 100_000],
      ['short', 2000],
      ['nothing', 5000],
    ] as const) {
      const { least, most } = await keptMs(name)
      expect(least, name).toBeLessThanOrEqual(ms)
      expect(most, name).toBeGreaterThanOrEqual(ms)
    }
  })

  test('a change is seen after the TTL and not before; a server that is gone leaves what it said', async () => {
    const moving = (number: number) => [...standing, dnsaddr('moving', address(number), 3)]
    await server.change(moving(1))
    const warnings: string[] = []
    const names = start({}, warnings)
    const { askedAt = 0 } = await resolved(`moving.${zone}`, names)
    await server.change(moving(2))
    // On a machine so slow that it has expired meanwhile, this proves nothing.
    const early = names.addressesOf(`moving.${zone}`)
    if (Date.now() < askedAt + 2500) expect(early).toEqual([address(1)])
    await until(() => names.addressesOf(`moving.${zone}`)?.[0] === address(2))
    expect(Date.now() - askedAt).toBeGreaterThan(2500)

    await server.pause()
    try {
      await until(() => {
        names.addressesOf(`moving.${zone}`)
        return names.names()[0]?.problems.join().includes('using what it said before') === true
      })
      await sleep(500)
      expect(names.addressesOf(`moving.${zone}`)).toEqual([address(2)])
      // It was asked several times since: one warning.
      expect(warnings.filter(each => each.includes('_dnsaddr.moving'))).toHaveLength(1)
    } finally {
      await server.resume()
    }
    await until(() => {
      names.addressesOf(`moving.${zone}`)
      return names.names()[0]?.problems.length === 0
    })
  })

  test('a node that bootstraps from a name reaches its peers, and follows when they move', async () => {
    const [a, b, c] = await Promise.all([startHost(quicOnly), startHost(quicOnly), startHost(quicOnly)])
    const at = (host: typeof b) => [...standing, dnsaddr('swarm', host.addresses()[0] as string, 1)]
    await server.change(at(b))
    const names = start()
    const known = new KnownPeers(
      { host: a, records: new MemoryKeyValue(), names, log: silentLog },
      { bootstrap: [`swarm.${zone}`], checkMs: 20, retryMs: 30 },
    )
    try {
      await known.start()
      await until(() => a.isConnected(b.peer))
      await server.change(at(c))
      await until(() => a.isConnected(c.peer))
    } finally {
      await known.stop()
      await Promise.all([a.stop(), b.stop(), c.stop()])
    }
  })
})
