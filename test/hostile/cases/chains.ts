// Chains: certificates that are too old or too young, grant something else, or were taken back.
import { cidOf } from '../../../src/base/cid.ts'
import { encodeCbor } from '../../../src/base/cbor.ts'
import { encodeDocument, signDocument } from '../../../src/trust/document.ts'
import {
  type Certificate,
  type CertificateBody,
  decodeCertificate,
  encodeCertificateBody,
  issueCertificate,
  type PublisherGrant,
} from '../../../src/trust/certificate.ts'
import type { EnvelopeSigner } from '../../../src/trust/envelope.ts'
import {
  authority,
  type Changes,
  day,
  goldenRoot,
  idOf,
  keysOf,
  nextRoot,
  nodeCertificate,
  now,
  publisherCertificate,
  revocations,
  signers,
} from '../../trust/test-network.ts'
import { firstHead, freshnessOf, nextHead, nextRelease, seal } from '../attacker.ts'
import { type Case, last, record } from '../case.ts'
import { delegate, mallory, publisher, recoverKeys, underAuthority, withCertificate } from '../people.ts'
import { allRights, publisherId, signerOf, tool, type World } from '../world.ts'

type SignerFor = (world: World, evil: boolean) => EnvelopeSigner | Promise<EnvelopeSigner>

/** The next head, signed by somebody whose chain does not hold; in its honest form, does. */
const head = (name: string, has: string, code: Case['code'], signer: SignerFor, more: Partial<Case> = {}): Case =>
  record(name, has, code, async (world, evil) => seal(nextHead(world), await signer(world, evil)), {
    ways: ['sync', 'dht'],
    ...more,
  })

const expiredKey = 'the key of a certificate that has expired'
const early = 'the key of a certificate of tomorrow'

/** The publisher's certificate with one date changed, to the day or to the millisecond. */
const dated = (name: string, has: string, code: Case['code'], good: Changes<PublisherGrant>, bad: Changes<PublisherGrant>): Case =>
  head(name, has, code, (world, evil) => withCertificate(world, evil ? bad : good))

export const expiry: readonly Case[] = [
  dated('a publisher’s certificate that has expired', expiredKey, 'certificate-expired', {}, { notAfter: now - 3_600_000 }),
  dated('a publisher’s certificate that ended a millisecond ago', expiredKey, 'certificate-expired', { notAfter: now }, { notAfter: now - 1 }),
  dated('a publisher’s certificate of tomorrow', early, 'certificate-not-yet-valid', {}, { notBefore: now + day }),
  dated('a publisher’s certificate that begins in a millisecond', early, 'certificate-not-yet-valid', { notBefore: now }, { notBefore: now + 1 }),
  head('an authority that has expired', expiredKey, 'certificate-expired', async (_, evil) =>
    (await underAuthority(evil ? { notAfter: now - 1 } : { notAfter: now })).signer,
  ),
  head('an authority of tomorrow', early, 'certificate-not-yet-valid', async (_, evil) =>
    (await underAuthority(evil ? { notBefore: now + 1 } : { notBefore: now })).signer,
  ),
  head('a second machine whose certificate has expired', expiredKey, 'certificate-expired', (world, evil) =>
    delegate(world, evil ? { notAfter: now - 1 } : {}),
  ),
  record(
    'a release by a certificate that had expired when it was signed',
    expiredKey,
    'certificate-expired',
    async (world, evil) => seal(nextRelease(world), await withCertificate(world, evil ? { notAfter: now - 1 } : {})),
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
  head('a root that has expired', 'nothing: its holders were asleep', 'certificate-expired', async (world, evil) => {
    const root = await nextRoot(goldenRoot, { notAfter: evil ? now - 1 : now }, ['root-1', 'root-2'])
    await world.client.accept(root.bytes)
    return publisher(world)
  }, {
    says: /its holders must make the next version/,
    async recover({ client, repository }) {
      const { root } = client.trust
      const next = await nextRoot(root, { notAfter: now + 3650 * day }, ['root-1', 'root-2'])
      for (const node of [client, repository])
        for (const { bytes } of [root, next]) await node.accept(bytes).catch(() => undefined)
    },
  }),
  {
    name: 'a head by a certificate that has expired since',
    has: `${expiredKey}, and backdates`,
    code: 'stale-head',
    async play(world, evil) {
      const signer = await withCertificate(world, { notAfter: now + (evil ? 10 : 20) * day })
      const backdated = await seal(nextHead(world), signer)
      world.clock.now += 15 * day
      return { shows: [backdated], installs: tool }
    },
    recover: async world => world.repository.accept((await world.client.head()).bytes),
  },
]

async function publisherCertificateUnder(above: Uint8Array, notBefore: number): Promise<Uint8Array> {
  return (await publisherCertificate(decodeCertificate(above), { notBefore, rights: allRights }, ['region'])).bytes
}

const grantsNot = (name: string, has: string, signer: SignerFor): Case =>
  head(name, has, 'certificate-name-not-granted', signer)

/** A certificate as an authority would never issue it. */
async function issued(world: World, body: Partial<CertificateBody<PublisherGrant>>) {
  const { publisher: like, authority: above } = world
  const bytes = encodeCertificateBody({ ...plainOf(like), ...body } as CertificateBody<PublisherGrant>)
  const document = await signDocument('catalog/certificate/v1', bytes, [signers.authority])
  return signerOf('publisher', [document, above])
}

function plainOf(certificate: World['publisher']): CertificateBody<PublisherGrant> {
  const { body: _b, signatures: _s, bytes: _y, fingerprint: _f, ...plain } = certificate
  return plain
}

export const names: readonly Case[] = [
  record(
    'a name that was granted to another',
    'the key of another publisher',
    'certificate-name-not-granted',
    (world, evil) => {
      const { previous: _, ...first } = nextHead(world, { sequence: 1, publisher: idOf('stranger'), versions: [] })
      return seal(evil ? first : { ...first, name: 'mallory/tool' }, mallory(world))
    },
    { ways: ['sync', 'dht'] },
  ),
  grantsNot('a scope without its slash', 'a certificate for acme-*', (world, evil) =>
    withCertificate(world, { names: [evil ? 'acme-*' : 'acme/*'] }),
  ),
  grantsNot('a prefix that ends before the slash', 'a certificate for a*', (world, evil) =>
    withCertificate(world, { names: [evil ? 'a*' : '*'] }),
  ),
  grantsNot('a prefix that is the name itself', 'a certificate for acme/tool*', (world, evil) =>
    withCertificate(world, { names: [evil ? 'acme/tool*' : 'acme/too*'] }),
  ),
  grantsNot('a certificate for no names', 'a certificate of who just joined', (world, evil) =>
    withCertificate(world, { names: evil ? [] : [tool] }),
  ),
  grantsNot('a second machine with more names than the first', 'the key of a publisher that may delegate', (world, evil) =>
    delegate(world, { names: evil ? ['*'] : ['acme/*'] }),
  ),
  grantsNot('a second machine with a longer prefix over the slash', 'the key of a publisher that may delegate', async (world, evil) => {
    const leaf = await withCertificate(world, { names: evil ? ['acme/to*'] : ['acme/*'] })
    const above = decodeLeaf(leaf)
    const certificate = await publisherCertificate(above, { subject: keysOf('delegate'), names: ['acme/t*'] }, ['publisher'])
    return { ...signerOf('delegate', []), chain: [certificate.bytes, ...(leaf.chain ?? [])] }
  }),
  grantsNot('a publisher with more names than its authority', 'the key of an authority for beta/*', async (_, evil) =>
    (await underAuthority({ names: [evil ? 'beta/*' : 'acme/*'] })).signer,
  ),
  ...(['**', 'acme/*/x', 'ACME/*', '../*', 'acme/*\u0000', ''] as const).map(pattern =>
    head(
      `a pattern that is none: ${JSON.stringify(pattern)}`,
      'the key of an authority that signs anything',
      'certificate-malformed',
      (world, evil) => issued(world, { names: [evil ? pattern : 'acme/*'] }),
    ),
  ),
  ...(['Acme/tool', 'acme/tool/', 'acme/\u0442ool', '../tool', 'acme//tool', '__proto__'] as const).map(name =>
    record(
      `a name that is none: ${JSON.stringify(name)}`,
      'a certificate for every name',
      'bad-record',
      async (world, evil) =>
        seal(firstHead(world, evil ? name : 'acme/plain', []), await withCertificate(world, { names: ['*'] })),
      { says: /not a package name/ },
    ),
  ),
]

const wrongUsage = (name: string, has: string, signer: SignerFor, says: RegExp): Case =>
  head(name, has, 'certificate-wrong-usage', signer, { says })
const wrongIssuer = (name: string, has: string, signer: SignerFor, says?: RegExp): Case =>
  head(name, has, 'certificate-wrong-issuer', signer, says === undefined ? {} : { says })

export const rights: readonly Case[] = [
  wrongUsage('a head by who may only freshen', 'the right to freshen', (world, evil) =>
    withCertificate(world, { rights: evil ? ['freshen'] : ['yank'] }), /publish or yank is needed/),
  record(
    'a release by who may only yank',
    'the right to yank',
    'certificate-wrong-usage',
    async (world, evil) => seal(nextRelease(world), await withCertificate(world, { rights: evil ? ['yank'] : ['publish'] })),
    { ways: ['sync', 'dht'], says: /publish is needed/ },
  ),
  record(
    'a freshness statement by who may only yank',
    'the right to yank',
    'certificate-wrong-usage',
    async (world, evil) =>
      seal(freshnessOf(world, world.heads[1]), await withCertificate(world, { rights: evil ? ['yank'] : ['freshen'] })),
    { says: /publish or freshen is needed/ },
  ),
  wrongUsage('a certificate without any right', 'a certificate', (world, evil) =>
    withCertificate(world, { rights: evil ? [] : ['publish'] }), /rights none/),
  wrongUsage('the chain of another publisher', 'another publisher’s chain', (world, evil) =>
    evil ? { ...publisher(world), chain: mallory(world).chain ?? [] } : publisher(world), /other keys/),
  wrongUsage('the name of another publisher', 'a certificate of its own for the same names', async (world, evil) => {
    const own = await publisherCertificate(world.authority, {
      ...{ subject: keysOf('stranger'), publisher: evil ? idOf('stranger') : publisherId, rights: allRights },
    })
    return signerOf('stranger', [own, world.authority])
  }, /belongs to the publisher/),
  wrongUsage('a node’s certificate', 'the keys of a node', async (world, evil) => {
    const node = await nodeCertificate(world.authority, { subject: keysOf('publisher') })
    return signerOf('publisher', [evil ? node : world.publisher, world.authority])
  }, /not a publisher certificate/),
  wrongUsage('an authority’s certificate', 'the keys of an authority', (world, evil) =>
    evil ? signerOf('authority', [world.authority]) : publisher(world), /not a publisher certificate/),
  wrongIssuer('a second machine by a publisher that may not delegate', 'the key of such a publisher', async (world, evil) => {
    const leaf = await withCertificate(world, { rights: evil ? ['publish'] : ['delegate', 'publish'] })
    const certificate = await publisherCertificate(decodeLeaf(leaf), { subject: keysOf('delegate'), rights: ['publish'] }, ['publisher'])
    return { ...signerOf('delegate', []), chain: [certificate.bytes, ...(leaf.chain ?? [])] }
  }, /no right to delegate/),
  wrongIssuer('a second machine with more rights than the first', 'the key of a publisher that may yank and delegate', async (world, evil) => {
    const leaf = await withCertificate(world, { rights: evil ? ['delegate', 'yank'] : ['delegate', 'publish'] })
    const certificate = await publisherCertificate(decodeLeaf(leaf), { subject: keysOf('delegate'), rights: ['publish'] }, ['publisher'])
    return { ...signerOf('delegate', []), chain: [certificate.bytes, ...(leaf.chain ?? [])] }
  }, /no right to publish/),
  wrongIssuer('a second machine of somebody else’s publisher', 'a publisher that may delegate, and the same names', async (world, evil) => {
    const own = await publisherCertificate(world.authority, {
      ...{ subject: keysOf('stranger'), publisher: evil ? idOf('stranger') : publisherId, rights: allRights },
    })
    const certificate = await publisherCertificate(own, { subject: keysOf('delegate') }, ['stranger'])
    return signerOf('delegate', [certificate, own, world.authority])
  }, /for itself alone/),
  wrongIssuer('a publisher issued by a node', 'the keys of a node', async (world, evil) => {
    const node = await nodeCertificate(world.authority)
    const above = evil ? node : world.authority
    const certificate = await publisherCertificate(above, { rights: allRights }, [evil ? 'node' : 'authority'])
    return signerOf('publisher', [certificate, ...(evil ? [node] : []), world.authority])
  }, /node certificate cannot issue/),
  wrongIssuer('a publisher by an authority that may issue nodes alone', 'the key of that authority', async (_, evil) =>
    (await underAuthority({ issues: evil ? ['node'] : ['publisher'] })).signer, /may issue node/),
  wrongIssuer('a chain with its middle cut out', 'a second machine’s key', async (world, evil) => {
    const second = await delegate(world)
    const [leaf, middle, above] = second.chain as [Uint8Array, Uint8Array, Uint8Array]
    return { ...second, chain: evil ? [leaf, above] : [leaf, middle, above] }
  }, /the chain goes on with/),
  wrongIssuer('a chain that does not reach the root', 'a publisher’s key', (world, evil) => {
    const signer = publisher(world)
    return evil ? { ...signer, chain: (signer.chain ?? []).slice(0, 1) } : signer
  }, /missing from the chain/),
  wrongIssuer('a chain that issued itself', 'keys of its own', async (world, evil) => {
    const own = await issueCertificate<PublisherGrant>({ ...plainOf(world.publisher), issuer: world.publisher.fingerprint }, [signers.publisher])
    return evil ? signerOf('publisher', [own]) : publisher(world)
  }),
  head('an authority below one that allows none', 'the key of an authority', 'certificate-path-too-long', async (world, evil) => {
    const upper = await authority({ maxPathLength: evil ? 0 : 1 })
    const lower = await authority({ subject: keysOf('region'), maxPathLength: 0 }, ['authority'], upper)
    const certificate = await publisherCertificate(lower, { rights: allRights }, ['region'])
    void world
    return signerOf('publisher', [certificate, lower, upper])
  }),
  head('a certificate that its issuer did not sign', 'a publisher’s key', 'certificate-bad-signature', async (world, evil) => {
    const by = evil ? 'stranger' : 'authority'
    const certificate = await publisherCertificate(world.authority, { rights: allRights }, [by])
    return signerOf('publisher', [certificate, world.authority])
  }),
  head('a certificate that was changed afterwards', 'a publisher’s key', 'certificate-bad-signature', async (world, evil) => {
    const wider = encodeCertificateBody({ ...plainOf(world.publisher), names: ['*'] })
    const forged = encodeDocument(wider, world.publisher.signatures)
    return evil ? signerOf('publisher', [forged, world.authority]) : publisher(world)
  }),
  head('a certificate that asks for what nobody knows', 'the key of an authority of tomorrow', 'certificate-unknown-critical', (world, evil) =>
    withCertificate(world, evil ? { critical: { 'catalog/quorum': 2 } } : { extensions: { 'catalog/quorum': 2 } }),
  ),
  head('an authority that asks for what nobody knows', 'the root keys of tomorrow', 'certificate-unknown-critical', async (_, evil) =>
    (await underAuthority(evil ? { critical: { x: true } } : { extensions: { x: true } })).signer,
  ),
  head('a certificate with a field of its own', 'the key of an authority', 'certificate-malformed', (world, evil) =>
    issued(world, evil ? ({ admin: true } as object) : {}),
  { says: /unknown field/ }),
  head('a certificate of another version', 'the key of an authority', 'certificate-malformed', async (world, evil) => {
    const body = encodeCbor({ ...plainOf(world.publisher), v: evil ? 2 : 1 })
    const document = await signDocument('catalog/certificate/v1', body, [signers.authority])
    return signerOf('publisher', [document, world.authority])
  }, { says: /its version is 2/ }),
]

const decodeLeaf = ({ chain = [] }: EnvelopeSigner) =>
  decodeCertificate(chain[0] as Uint8Array) as Certificate<PublisherGrant>

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
      const release = await seal(nextRelease(world, { version: '6.6.6', signedAt: now - 1000 }), publisher(world))
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
    record(name, 'the wish to have somebody revoked', code, async ({ authority: above, publisher: victim }, evil) => {
      const harm = [{ certificate: victim.fingerprint, at: now, reason: 'envy' }]
      const changes = { sequence: 2, revoked: evil ? harm : [] }
      return (await revocations(above, [above], changes, evil ? by : 'authority')).bytes
    }, { ways: ['sync', 'dht'] }),
  ),
  record(
    'a list of revocations in the name of a publisher',
    'a publisher’s key and chain',
    'certificate-wrong-issuer',
    async ({ authority: above, publisher: own }, evil) =>
      (evil
        ? await revocations(own, [own, above], { sequence: 2 }, 'publisher')
        : await revocations(above, [above], { sequence: 2 })
      ).bytes,
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
