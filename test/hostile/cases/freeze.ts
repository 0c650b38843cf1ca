import { encodeCbor } from '../../../src/base/cbor.ts'
import { cidOf } from '../../../src/base/cid.ts'
import { signDocument } from '../../../src/trust/document.ts'
import {
  authority,
  day,
  keysOf,
  now,
  publisherCertificate,
  revocations,
  signers,
} from '../../trust/test-network.ts'
import { firstHead, freshnessOf, nextHead, nextRelease, seal } from '../attacker.ts'
import { type Case, record } from '../case.ts'
import { signerOf, tool } from '../node.ts'
import { publisher, withCertificate } from '../people.ts'
import type { World } from '../world.ts'

const silence = 'the client’s only connections: it says nothing new'
const key = 'the key of the publisher'

/** The client hears of the list alone. */
const hearList = async (world: World, days = 30) => {
  const list = await revocations(world.authority, [world.authority], {
    ...{ sequence: 2, issuedAt: world.clock.now, expiresAt: world.clock.now + days * day },
  })
  await world.client.accept(list.bytes)
}

/** Nobody else answers. */
const cutOff = ({ net, client, repository }: World) => {
  net.partition([repository.peer])
  return client
}

const endOfFreeze = async (world: World) => {
  world.net.partition()
  await world.renewList([], 3)
  await world.client.host.dial(world.repository.host.addresses()[0] as string)
}

const expiredHead: Case = {
  name: 'an expired head and nothing else',
  has: silence,
  code: 'stale-head',
  says: /number 2\) expired at .*--allow-stale/,
  async play(world, evil) {
    world.clock.now += (evil ? 31 : 29) * day
    await hearList(world)
    if (evil) cutOff(world)
    return { does: () => world.client.install(tool) }
  },
  recover: endOfFreeze,
}

const cutOffClient: Case = {
  name: 'no list of revocations any more',
  has: silence,
  code: 'stale-head',
  says: /heard nothing of its authority/,
  async play(world, evil) {
    const { clock, client } = world
    clock.now += 20 * day
    await client.accept(await seal(nextHead(world), publisher(world)))
    if (!evil) await hearList(world)
    clock.now += 15 * day
    return { does: () => client.install(tool) }
  },
  // Its own head is known already; the list is what was missing.
  recover: async world => {
    await world.repository.accept((await world.client.head()).bytes)
    await world.renewList([], 3)
  },
}

const noListAtAll: Case = {
  name: 'no list of revocations from the start',
  has: 'a release and a head under an authority of which it shows no list',
  code: 'stale-head',
  says: /no revocation list of its authority/,
  async play(world, evil) {
    const above = await authority({ subject: keysOf('region') })
    const certificate = await publisherCertificate(above, {}, ['region'])
    const signer = signerOf('publisher', [certificate, above])
    const release = await seal(nextRelease(world, { name: 'acme/new', version: '1.0.0' }), signer)
    const head = await seal(firstHead(world, 'acme/new', [{ version: '1.0.0', id: cidOf(release) }]), signer)
    const list = await revocations(above, [above], {}, 'region')
    return { shows: [...(evil ? [] : [list.bytes]), release, head], installs: 'acme/new' }
  },
}

const oldFreshness: Case = {
  name: 'an old freshness statement',
  has: 'a freshness statement that has expired',
  code: 'stale-head',
  says: /expired/,
  async play(world, evil) {
    const { clock, client } = world
    clock.now += 20 * day
    const fresh = await seal(freshnessOf(world, world.heads[1]), publisher(world))
    clock.now += (evil ? 40 : 20) * day
    await hearList(world)
    if (evil) cutOff(world)
    return { shows: [fresh], does: () => client.install(tool) }
  },
  recover: endOfFreeze,
}

const outlivedFreshness: Case = {
  name: 'a freshness statement by a certificate that has expired since',
  has: 'the right to freshen, of last month; it backdates',
  code: 'stale-head',
  says: /expired at/,
  async play(world, evil) {
    const { clock, client } = world
    const signer = await withCertificate(world, {
      rights: ['freshen'],
      notAfter: now + (evil ? 10 : 60) * day,
    })
    clock.now += 9 * day
    const fresh = await seal(freshnessOf(world, world.heads[1]), signer)
    await hearList(world)
    clock.now += 22 * day
    if (evil) cutOff(world)
    return { shows: [fresh], does: () => client.install(tool) }
  },
  recover: endOfFreeze,
}

const tooLong = (name: string, make: (world: World, days: number) => Promise<Uint8Array>): Case =>
  record(name, key, 'bad-record', (world, evil) => make(world, evil ? 31 : 30), {
    says: /live longer than 30 days/,
  })

const early = (name: string, make: (world: World, by: number) => Promise<Uint8Array>): Case =>
  record(
    name,
    `${key}; its clock goes ahead`,
    'bad-record',
    (world, evil) => make(world, evil ? 3600_000 : 0),
    {
      says: /signed in the future/,
    },
  )

export const freeze: readonly Case[] = [
  expiredHead,
  cutOffClient,
  noListAtAll,
  oldFreshness,
  outlivedFreshness,
  record(
    'an expired head in the DHT',
    'an old head that was the last of its name',
    'stale-record',
    async (world, evil) => {
      const head = await seal(nextHead(world), publisher(world))
      if (evil) world.clock.now += 31 * day
      return head
    },
    { ways: ['dht'], says: /expired at/, recover: world => world.renewList() },
  ),
  tooLong('a head that does not expire in time', (world, days) =>
    seal(nextHead(world, { expiresAt: world.clock.now + days * day }), publisher(world)),
  ),
  tooLong('a freshness statement that does not expire in time', (world, days) =>
    seal(freshnessOf(world, world.heads[1], { expiresAt: world.clock.now + days * day }), publisher(world)),
  ),
  early('a head of tomorrow', (world, by) =>
    seal(
      nextHead(world, { signedAt: world.clock.now + by, expiresAt: world.clock.now + by + 30 * day }),
      publisher(world),
    ),
  ),
  early('a freshness statement of tomorrow', (world, by) => {
    const [signedAt, expiresAt] = [world.clock.now + by, world.clock.now + by + 30 * day]
    return seal(freshnessOf(world, world.heads[1], { signedAt, expiresAt }), publisher(world))
  }),
  early('a release of tomorrow', (world, by) =>
    seal(nextRelease(world, { signedAt: world.clock.now + by }), publisher(world)),
  ),
  record(
    'a list of revocations of tomorrow',
    'the key of the authority',
    'certificate-not-yet-valid',
    async ({ authority: above, clock }, evil) => {
      const issuedAt = clock.now + (evil ? 3600_000 : 0)
      const changes = { sequence: 2, issuedAt, expiresAt: issuedAt + day }
      return (await revocations(above, [above], changes)).bytes
    },
    { says: /issued in the future/ },
  ),
  record(
    'a list of revocations that does not expire in time',
    'the key of the authority',
    'certificate-malformed',
    async (world, evil) => {
      const { authority: above, clock } = world
      const body = encodeCbor({
        ...{ v: 1, type: 'revocations', network: above.network, issuer: above.fingerprint, sequence: 2 },
        ...{ issuedAt: clock.now, expiresAt: clock.now + (evil ? 31 : 30) * day, revoked: [] },
        chain: [above.bytes],
      })
      return (await signDocument('catalog/revocations/v1', body, [signers.authority])).bytes
    },
    { says: /it lives for/ },
  ),
]
