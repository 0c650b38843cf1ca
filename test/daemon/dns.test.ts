// Real daemons that know one another by a name alone, which a real DNS server turns into addresses.
import { readFile } from 'node:fs/promises'
import { join } from 'node:path'
import { afterAll, expect, test } from 'vitest'
import type { Status } from '../../src/control/api.ts'
import { DnsTestServer, missingDnsServer, zone } from '../network/dns-server.ts'
import { Laboratory, until } from './harness.ts'

if (missingDnsServer !== undefined) console.log(`SKIP daemons that join by a name: ${missingDnsServer}`)

const root = 'bdyqcyb7p2tqjbkcrhrxhcy3n4eeehfynmbvgnmplgzsvrdo6nyxhm3q'
const lab = new Laboratory()
let server: DnsTestServer | undefined
afterAll(() => server?.stop())

test.skipIf(missingDnsServer !== undefined)(
  'a node that bootstraps from a name finds the other and fetches; one that DNS fails starts all the same',
  async () => {
    const alice = await lab.started('alice')
    server = await DnsTestServer.start([
      ...alice.addresses.map(address => ({ name: '_dnsaddr.net', txt: `dnsaddr=${address}`, ttlSeconds: 1 })),
      { name: '_catalog.net', txt: `catalog=v1 root=${root}` },
    ])
    const directory = await lab.package('by-name', '1.0.0', { 'data.txt': 'found through DNS' })
    await alice.json('publish', directory)

    const bob = await lab.node('bob')
    const env = { ...process.env, CATALOG_DNS_SERVERS: server.address }
    await bob.start(['--bootstrap', `net.${zone}`, '--bootstrap', 'nothing.broken.test'], env)
    await until('bob is connected', async () => (await bob.client.status()).peers > 0, 60_000)
    const out = await lab.path('fetched')
    await bob.fetch('by-name', out)
    expect(await readFile(join(out, 'data.txt'), 'utf8')).toBe('found through DNS')

    await until(
      'DNS was asked for both',
      async () => {
        const { networkNames } = await bob.client.status()
        return (
          networkNames.length === 2 &&
          networkNames.every(each => each.askedAt !== undefined || each.problems.length > 0)
        )
      },
      60_000,
    )
    const { networkNames } = await bob.json<Status & Record<string, never>>('status')
    expect(networkNames[0]).toMatchObject({ name: `net.${zone}`, rootFingerprint: root, problems: [] })
    expect([...(networkNames[0]?.addresses ?? [])].sort()).toEqual([...alice.addresses].sort())
    expect(networkNames[1]?.problems[0]).toContain('SERVFAIL')
    const { stdout } = await bob.run('status')
    expect(stdout).toContain(
      `net.${zone}: ${alice.addresses.length} addresses in DNS; root ${root} there, which nothing trusts`,
    )
    expect(bob.errors).toContain('DNS says too little of a bootstrap name')
  },
)
