import { cidOf } from '../../../src/base/cid.ts'
import { decodeCertificate, type PublisherGrant } from '../../../src/trust/certificate.ts'
import {
  type Changes,
  day,
  goldenRoot,
  nextRoot,
  now,
  publisherCertificate,
} from '../../trust/test-network.ts'
import { firstHead, nextRelease, seal } from '../attacker.ts'
import { type Case, head, record } from '../case.ts'
import { delegate, publisher, underAuthority, withCertificate } from '../people.ts'
import { allRights } from '../world.ts'

const expiredKey = 'the key of a certificate that has expired'
const early = 'the key of a certificate of tomorrow'

/** The publisher's certificate with one date changed, to the day or to the millisecond. */
const dated = (
  name: string,
  has: string,
  code: Case['code'],
  good: Changes<PublisherGrant>,
  bad: Changes<PublisherGrant>,
): Case => head(name, has, code, (world, evil) => withCertificate(world, evil ? bad : good))

export const expiry: readonly Case[] = [
  dated(
    'a publisher’s certificate that has expired',
    expiredKey,
    'certificate-expired',
    {},
    { notAfter: now - 3_600_000 },
  ),
  dated(
    'a publisher’s certificate that ended a millisecond ago',
    expiredKey,
    'certificate-expired',
    { notAfter: now },
    { notAfter: now - 1 },
  ),
  dated(
    'a publisher’s certificate of tomorrow',
    early,
    'certificate-not-yet-valid',
    {},
    { notBefore: now + day },
  ),
  dated(
    'a publisher’s certificate that begins in a millisecond',
    early,
    'certificate-not-yet-valid',
    { notBefore: now },
    { notBefore: now + 1 },
  ),
  head(
    'an authority that has expired',
    expiredKey,
    'certificate-expired',
    async (_, evil) => (await underAuthority(evil ? { notAfter: now - 1 } : { notAfter: now })).signer,
  ),
  head(
    'an authority of tomorrow',
    early,
    'certificate-not-yet-valid',
    async (_, evil) => (await underAuthority(evil ? { notBefore: now + 1 } : { notBefore: now })).signer,
  ),
  head('a second machine whose certificate has expired', expiredKey, 'certificate-expired', (world, evil) =>
    delegate(world, evil ? { notAfter: now - 1 } : {}),
  ),
  record(
    'a release by a certificate that had expired when it was signed',
    expiredKey,
    'certificate-expired',
    async (world, evil) =>
      seal(nextRelease(world), await withCertificate(world, evil ? { notAfter: now - 1 } : {})),
    { ways: ['sync', 'dht'] },
  ),
  record(
    'a release from before there was a network',
    'a key, and a clock that goes wrong',
    'certificate-not-yet-valid',
    async (world, evil) => {
      const notBefore = goldenRoot.notBefore - 90 * day
      const { signer } = await underAuthority({ notBefore })
      const above = signer.chain?.[1] as Uint8Array
      const leaf = await publisherCertificateUnder(above, notBefore)
      const signedAt = evil ? goldenRoot.notBefore - 1 : goldenRoot.notBefore
      return seal(nextRelease(world, { signedAt }), { ...signer, chain: [leaf, above] })
    },
    { ways: ['sync', 'dht'], says: /root is valid from/ },
  ),
  head(
    'a root that has expired',
    'nothing: its holders were asleep',
    'certificate-expired',
    async (world, evil) => {
      const root = await nextRoot(goldenRoot, { notAfter: evil ? now - 1 : now }, ['root-1', 'root-2'])
      await world.client.accept(root.bytes)
      return publisher(world)
    },
    {
      says: /its holders must make the next version/,
      async recover({ client, repository }) {
        const { root } = client.trust
        const next = await nextRoot(root, { notAfter: now + 3650 * day }, ['root-1', 'root-2'])
        for (const node of [client, repository])
          for (const { bytes } of [root, next]) await node.accept(bytes).catch(() => undefined)
      },
    },
  ),
  {
    name: 'the only head of a name, by a certificate that has expired since',
    has: `${expiredKey}, and backdates`,
    code: 'stale-head',
    says: /valid until/,
    async play(world, evil) {
      const name = 'acme/mixed'
      const signer = await withCertificate(world, { notAfter: now + (evil ? 10 : 20) * day })
      const release = await seal(nextRelease(world, { name, version: '1.0.0' }), signer)
      const backdated = await seal(firstHead(world, name, [{ version: '1.0.0', id: cidOf(release) }]), signer)
      world.clock.now += 15 * day
      return { shows: [release, backdated], installs: name }
    },
  },
]

async function publisherCertificateUnder(above: Uint8Array, notBefore: number): Promise<Uint8Array> {
  return (await publisherCertificate(decodeCertificate(above), { notBefore, rights: allRights }, ['region']))
    .bytes
}
