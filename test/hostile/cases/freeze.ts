// Freeze and fast-forward: a client that is kept from the news, or for which there shall be no news any more.
import { decodeEnvelope } from '../../../src/assets/release.ts'
import { encodeCbor } from '../../../src/base/cbor.ts'
import { cidOf } from '../../../src/base/cid.ts'
import { signDocument } from '../../../src/trust/document.ts'
import {
  authority,
  day,
  goldenRoot,
  keysOf,
  nextRoot,
  publisherCertificate,
  revocations,
  signers,
} from '../../trust/test-network.ts'
import { firstHead, freshnessOf, nextHead, nextRelease, seal, sealBytes } from '../attacker.ts'
import { type Case, last, record } from '../case.ts'
import { delegate, publisher, recoverKeys } from '../people.ts'
import { signerOf, tool, type World } from '../world.ts'

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

const tooLong = (name: string, make: (world: World, days: number) => Promise<Uint8Array>): Case =>
  record(name, key, 'bad-record', (world, evil) => make(world, evil ? 31 : 30), { says: /live longer than 30 days/ })

const early = (name: string, make: (world: World, by: number) => Promise<Uint8Array>): Case =>
  record(name, `${key}; its clock goes ahead`, 'bad-record', (world, evil) => make(world, evil ? 3600_000 : 0), {
    says: /signed in the future/,
  })

export const freeze: readonly Case[] = [
  expiredHead,
  cutOffClient,
  noListAtAll,
  oldFreshness,
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

export const fastForward: readonly Case[] = [
  {
    name: 'the highest number there is, by a stolen key that was revoked',
    has: `${key}, stolen`,
    code: 'certificate-revoked',
    says: /revoked \(key stolen\)/,
    ways: ['sync', 'dht'],
    async play(world, evil) {
      const head = await seal(nextHead(world, { sequence: Number.MAX_SAFE_INTEGER }), publisher(world))
      if (!evil) return { shows: [head] }
      // While nobody knows that it is stolen, everybody believes it.
      await world.client.accept(head)
      await recoverKeys(world)
      return { shows: [head] }
    },
  },
  record(
    'a number that is no safe integer',
    key,
    'bad-record',
    async (world, evil) => {
      const head = { v: 1, ...nextHead(world) }
      return sealBytes('head', encodeCbor(evil ? { ...head, sequence: 2n ** 53n } : head), publisher(world))
    },
    { ways: ['sync', 'dht'], says: /natural number|not DAG-CBOR/ },
  ),
  record(
    'a root that is far ahead',
    'one root key',
    'root-not-trusted',
    async (_, evil) => {
      const second = await nextRoot(goldenRoot, {}, ['root-1', 'root-2'])
      return evil ? (await nextRoot(second, { version: 1000 }, ['root-1'])).bytes : second.bytes
    },
    { ways: ['sync', 'dht'], says: /far ahead/ },
  ),
  last(
    'a root that waits for the one before it',
    'one root key',
    'root-threshold',
    async (_, evil) => {
      const second = await nextRoot(goldenRoot, {}, ['root-1', 'root-2'])
      const third = await nextRoot(second, {}, evil ? ['root-1'] : ['root-1', 'root-2'])
      return evil ? [third.bytes, second.bytes, third.bytes] : [second.bytes, third.bytes]
    },
  ),
  {
    name: 'the highest number of a list, by a stolen authority that the root has revoked',
    has: 'the key of an authority, stolen',
    code: 'certificate-revoked',
    says: /by the root/,
    ways: ['sync', 'dht'],
    async play(_, evil) {
      const above = await authority({ subject: keysOf('region') })
      const changes = { sequence: Number.MAX_SAFE_INTEGER }
      const list = await revocations(above, [above], changes, 'region')
      const root = await nextRoot(goldenRoot, { revoked: [above.fingerprint] }, ['root-1', 'root-2'])
      return { shows: [...(evil ? [root.bytes] : []), list.bytes] }
    },
  },
  {
    name: 'a freshness statement for a head that is still to come',
    has: 'the right to freshen',
    code: 'stale-record',
    says: /another head/,
    async play(world, evil) {
      const signer = await delegate(world, { rights: ['freshen'] })
      const head = nextHead(world)
      const [good, bad] = await Promise.all([head, { ...head, deprecated: 'gone' }].map(each => seal(each, publisher(world))))
      const about = decodeEnvelope((evil ? bad : good) as Uint8Array) as World['heads'][0]
      const fresh = await seal(freshnessOf(world, about), signer)
      // It waits for its head, and is not that of another under the same number.
      return { shows: [fresh, good as Uint8Array, ...(evil ? [fresh] : [])] }
    },
    recover: async world => world.repository.accept((await world.client.head()).bytes),
  },
]
