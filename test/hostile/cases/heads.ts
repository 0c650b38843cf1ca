// Delisting, forks and equivocation: a publisher's key that says something else than it said before.
import { equivocationOf } from '../../../src/assets/equivocation.ts'
import { decodeEnvelope, type HeadStatement, type ListedVersion } from '../../../src/assets/release.ts'
import { encodeCbor } from '../../../src/base/cbor.ts'
import { cidOf } from '../../../src/base/cid.ts'
import { addNextHead } from '../../../src/flows/next-head.ts'
import type { Head } from '../../../src/flows/resolve.ts'
import { day, now } from '../../trust/test-network.ts'
import { firstHead, nextHead, repack, seal } from '../attacker.ts'
import { type Case, last, record } from '../case.ts'
import { tool } from '../node.ts'
import { delegate, publisher, recoverKeys, renewed, withCertificate } from '../people.ts'
import type { World } from '../world.ts'

const key = 'the key of the publisher, stolen'

/** A head that changes what is listed: refused for what it loses. */
const losing = (
  name: string,
  code: 'head-delisted' | 'head-replaced',
  lose: (versions: readonly ListedVersion[], world: World) => readonly ListedVersion[],
  changes: Partial<HeadStatement> = {},
): Case =>
  record(name, key, code, (world, evil) => {
    const { versions } = world.heads[1].statement
    const listed = evil ? lose(versions, world) : versions
    return seal(nextHead(world, { ...changes, versions: listed }), publisher(world))
  })

const headOf = (bytes: Uint8Array): Head => decodeEnvelope(bytes) as Head

export const delisting: readonly Case[] = [
  losing('a version that is no longer listed', 'head-delisted', ([first]) => [first as ListedVersion]),
  losing(
    'a version that is no longer listed, some numbers on',
    'head-delisted',
    ([, second]) => [second as ListedVersion],
    {
      sequence: 9,
      previous: cidOf(Buffer.from('a head that nobody saw')),
    },
  ),
  losing('a head that lists nothing at all', 'head-delisted', () => []),
  losing('a version that is another release now', 'head-replaced', ([first], { releases }) => [
    first as ListedVersion,
    { version: '1.1.0', id: releases[0].id },
  ]),
  last(
    'a revoked version that is good again',
    key,
    'head-replaced',
    async (world, evil) => {
      const { versions } = world.heads[1].statement
      const [first, second] = versions as [ListedVersion, ListedVersion]
      const revoking = { versions: [first, { ...second, revoked: 'steals keys' }] }
      const third = await seal(nextHead(world, revoking), publisher(world))
      const after = { sequence: 4, previous: cidOf(third) }
      const fourth = await seal(
        nextHead(world, { ...after, ...(evil ? { versions } : revoking) }),
        publisher(world),
      )
      return [third, fourth]
    },
    // Its publisher hears what was said in its name, and goes on from there.
    { says: /revoked and it lists it as good/, recover: heardByPublisher },
  ),
  {
    name: 'a revoked version, by its release id',
    has: 'the content and the record of a version that was taken back',
    code: 'release-revoked',
    says: /steals keys/,
    async play(world, evil) {
      const [first, second] = world.heads[1].statement.versions as [ListedVersion, ListedVersion]
      const mark = evil ? { revoked: 'steals keys' } : { yanked: 'counts twice' }
      const head = await seal(
        nextHead(world, { versions: [first, { ...second, ...mark }] }),
        publisher(world),
      )
      return { shows: [head], installs: second.id }
    },
    recover: heardByPublisher,
  },
]

async function heardByPublisher(world: World): Promise<void> {
  await world.repository.accept((await world.client.head()).bytes)
}

export const forks: readonly Case[] = [
  record('a head that follows another', key, 'head-fork', (world, evil) => {
    const previous = evil ? world.heads[0].id : world.heads[1].id
    return seal(nextHead(world, { previous }), publisher(world))
  }),
  record(
    'a later head that follows none',
    key,
    'bad-record',
    (world, evil) => {
      const { previous, ...rest } = nextHead(world)
      return seal(
        evil ? rest : { ...rest, ...(previous === undefined ? {} : { previous }) },
        publisher(world),
      )
    },
    { ways: ['sync', 'dht'], says: /only the first head has no predecessor/ },
  ),
  record(
    'a head of number 0',
    key,
    'bad-record',
    (world, evil) => seal(nextHead(world, evil ? { sequence: 0 } : {}), publisher(world)),
    { ways: ['sync', 'dht'], says: /below 1/ },
  ),
  record(
    'a head that lists a version twice',
    key,
    'bad-record',
    (world, evil) => {
      const { versions } = world.heads[1].statement
      const twice = [...versions, { version: '1.1.0', id: world.releases[0].id }]
      return seal(nextHead(world, { versions: evil ? twice : versions }), publisher(world))
    },
    { ways: ['sync', 'dht'], says: /a version twice/ },
  ),
]

/** Two heads of one number that list different things. */
async function twoHeads(
  world: World,
  one = publisher(world),
  other = one,
): Promise<[Uint8Array, Uint8Array]> {
  const { versions } = world.heads[1].statement
  const release = cidOf(Buffer.from('a release'))
  return [
    await seal(nextHead(world), one),
    await seal(nextHead(world, { versions: [...versions, { version: '1.1.1', id: release }] }), other),
  ]
}

/** The publisher has new keys, and unites what it is said to have listed. */
async function putRight(world: World, name = tool): Promise<void> {
  const { repository, client } = world
  for (const bytes of await client.catalogue.recordsOf(name))
    await repository.accept(bytes).catch(() => undefined)
  repository.at.identity = await renewed(world)
  await addNextHead(
    { ...repository.publishing, ...repository.publishing.signsFor(name) },
    name,
    () => undefined,
  )
}

const proofOf = (one: Uint8Array, other: Uint8Array) => equivocationOf(headOf(one), headOf(other)).bytes

/** A proof that proves nothing: the honest form is one that does. */
const falseProof = (
  name: string,
  code: Case['code'],
  make: (world: World, heads: [Uint8Array, Uint8Array]) => Promise<readonly Uint8Array[]>,
  more: Partial<Case> = {},
): Case =>
  record(
    name,
    'heads of the publisher, and the wish to have it held back',
    code,
    async (world, evil) => {
      const heads = await twoHeads(world)
      if (!evil) return proofOf(...heads)
      const ordered = [...(await make(world, heads))].sort((a, b) => (cidOf(a) < cidOf(b) ? -1 : 1))
      return encodeCbor({ v: 1, type: 'equivocation', heads: ordered })
    },
    more,
  )

export const equivocations: readonly Case[] = [
  last(
    'two heads of one number, by one key',
    key,
    'equivocation',
    async (world, evil) => {
      const [one, other] = await twoHeads(world)
      return evil ? [one, other] : [one]
    },
    { ways: ['sync', 'news', 'heads'], recover: putRight },
  ),
  {
    name: 'one of two heads of one number, to somebody who has the proof',
    has: key,
    code: 'equivocation',
    says: /held back/,
    async play(world, evil) {
      const [one, other] = await twoHeads(world)
      return { shows: [evil ? proofOf(one, other) : one], installs: tool }
    },
    recover: putRight,
  },
  last(
    'two heads of one number, by two machines that did not hear each other',
    'nothing: an accident',
    'equivocation',
    async (world, evil) => {
      const [one, other] = await twoHeads(world, publisher(world), await delegate(world))
      return evil ? [one, other] : [one]
    },
    {
      // Each goes on from both: no new certificate is needed.
      async recover({ repository, client }) {
        for (const bytes of await client.catalogue.recordsOf(tool)) await repository.accept(bytes)
      },
    },
  ),
  falseProof(
    'a proof of two heads of different names',
    'bad-record',
    async (world, [one]) => [
      one,
      await seal(
        { ...firstHead(world, 'acme/other', []), sequence: 3, previous: world.heads[1].id },
        publisher(world),
      ),
    ],
    { says: /different names/ },
  ),
  falseProof(
    'a proof of two heads of different numbers',
    'bad-record',
    async (world, [one]) => [one, world.heads[1].bytes],
    {
      says: /different numbers/,
    },
  ),
  falseProof(
    'a proof of one head in two envelopes',
    'bad-record',
    async (world, [one]) => [one, await seal(nextHead(world), await delegate(world))],
    { says: /say the same/ },
  ),
  falseProof('a proof with a forged head', 'bad-signature', async (_, [one, other]) => {
    const { signatures } = headOf(one)
    return [one, repack(other, () => ({ signatures }))]
  }),
  falseProof(
    'a proof of three heads',
    'bad-record',
    async (world, heads) => [...heads, world.heads[1].bytes],
    {
      says: /two heads/,
    },
  ),
  {
    name: 'a proof against the publisher by a key whose certificate has expired',
    has: `${key} long after it was replaced; it backdates`,
    code: 'certificate-expired',
    async play(world, evil) {
      const old = await withCertificate(world, { notAfter: now + (evil ? 10 : 20) * day })
      const proof = proofOf(...(await twoHeads(world, old)))
      world.clock.now += 15 * day
      return { shows: [proof] }
    },
  },
  {
    name: 'a proof against the publisher by a key that was revoked',
    has: key,
    code: 'certificate-revoked',
    async play(world, evil) {
      const proof = proofOf(...(await twoHeads(world)))
      if (evil) await recoverKeys(world)
      return { shows: [proof] }
    },
  },
]
