import { cidOf } from '../../../src/base/cid.ts'
import { decodeCertificate } from '../../../src/trust/certificate.ts'
import { goldenRoot, nextRoot, now, publisherCertificate, revocations } from '../../trust/test-network.ts'
import { freshnessOf, nextHead, nextRelease, seal } from '../attacker.ts'
import { type Case, last, record } from '../case.ts'
import { tool } from '../node.ts'
import { delegate, publisher, recoverKeys, underAuthority, withCertificate } from '../people.ts'

const stolen = 'the key of the publisher, stolen'

export const revoked: readonly Case[] = [
  {
    name: 'a head by a certificate that was revoked',
    has: stolen,
    code: 'certificate-revoked',
    ways: ['sync', 'dht'],
    async play(world, evil) {
      const forged = await seal(nextHead(world), publisher(world))
      if (evil) await recoverKeys(world)
      return { shows: [forged] }
    },
  },
  {
    name: 'a head that was believed before its certificate was revoked',
    has: `${stolen}, while the client was offline`,
    code: 'not-found',
    async play(world, evil) {
      const release = await seal(nextRelease(world, { version: '6.6.6' }), publisher(world))
      const versions = [...world.heads[1].statement.versions, { version: '6.6.6', id: cidOf(release) }]
      const forged = await seal(nextHead(world, { versions }), publisher(world))
      await world.client.accept(release)
      await world.client.accept(forged)
      if (evil) await recoverKeys(world)
      return { installs: `${tool}@6.6.6` }
    },
  },
  {
    name: 'a backdated release that no head lists',
    has: stolen,
    code: 'certificate-revoked',
    async play(world, evil) {
      const release = await seal(
        nextRelease(world, { version: '6.6.6', signedAt: now - 1000 }),
        publisher(world),
      )
      const versions = [...world.heads[1].statement.versions, { version: '6.6.6', id: cidOf(release) }]
      const listing = await seal(nextHead(world, { versions }), publisher(world))
      if (evil) await recoverKeys(world)
      return { shows: [release, ...(evil ? [] : [listing])], installs: cidOf(release) }
    },
  },
  {
    name: 'a release that no head lists',
    has: 'a release that its publisher signed and never listed',
    code: 'not-listed',
    async play(world, evil) {
      const release = await seal(nextRelease(world, { version: '6.6.6' }), publisher(world))
      const versions = [...world.heads[1].statement.versions, { version: '6.6.6', id: cidOf(release) }]
      const listing = await seal(nextHead(world, { versions }), publisher(world))
      return { shows: [release, ...(evil ? [] : [listing])], installs: cidOf(release) }
    },
  },
  ...(['head', 'release'] as const).map(
    (what): Case => ({
      name: `a ${what} under an authority that the root has revoked`,
      has: 'the key of an authority, stolen',
      code: 'certificate-revoked',
      says: /by the root/,
      ways: ['sync', 'dht'],
      async play(world, evil) {
        const { above, signer } = await underAuthority({})
        const forged = await seal(what === 'head' ? nextHead(world) : nextRelease(world), signer)
        const root = await nextRoot(goldenRoot, { revoked: [above.fingerprint] }, ['root-1', 'root-2'])
        return { shows: [...(evil ? [root.bytes] : []), forged] }
      },
    }),
  ),
  {
    name: 'a second machine of a publisher that was revoked',
    has: 'a second machine, by a stolen key',
    code: 'certificate-revoked',
    ways: ['sync', 'dht'],
    async play(world, evil) {
      const forged = await seal(nextHead(world), await delegate(world))
      if (evil) await recoverKeys(world)
      return { shows: [forged] }
    },
  },
  {
    name: 'a freshness statement by a certificate that was revoked',
    has: 'the right to freshen, stolen',
    code: 'certificate-revoked',
    async play(world, evil) {
      const signer = await withCertificate(world, { rights: ['freshen'] })
      const fresh = await seal(freshnessOf(world, world.heads[1]), signer)
      const [leaf] = signer.chain as [Uint8Array]
      if (evil) await world.renewList([decodeCertificate(leaf).fingerprint], 7)
      if (evil) await world.catchUp()
      return { shows: [fresh] }
    },
  },
  ...(
    [
      ['a list of revocations by another', 'certificate-bad-signature', 'stranger'],
      ['a list of revocations by a publisher', 'certificate-bad-signature', 'publisher'],
    ] as const
  ).map(([name, code, by]) =>
    record(
      name,
      'the wish to have somebody revoked',
      code,
      async ({ authority: above, publisher: victim }, evil) => {
        const harm = [{ certificate: victim.fingerprint, at: now, reason: 'envy' }]
        const changes = { sequence: 2, revoked: evil ? harm : [] }
        return (await revocations(above, [above], changes, evil ? by : 'authority')).bytes
      },
      { ways: ['sync', 'dht'] },
    ),
  ),
  record(
    'a list of revocations by a publisher that may not delegate',
    'a publisher’s key and chain',
    'certificate-wrong-issuer',
    async ({ authority: above }, evil) => {
      const rights = evil ? (['publish'] as const) : (['delegate', 'publish'] as const)
      const own = await publisherCertificate(above, { rights })
      return (await revocations(own, [own, above], { sequence: 2 }, 'publisher')).bytes
    },
    { ways: ['sync', 'dht'] },
  ),
  last(
    'a list of revocations by an authority that was revoked',
    'the key of an authority, stolen',
    'certificate-revoked',
    async (_, evil) => {
      const { above } = await underAuthority({})
      const list = await revocations(above, [above], {}, 'region')
      const root = await nextRoot(goldenRoot, { revoked: [above.fingerprint] }, ['root-1', 'root-2'])
      return [...(evil ? [root.bytes] : []), list.bytes]
    },
    { ways: ['sync', 'dht'] },
  ),
]
