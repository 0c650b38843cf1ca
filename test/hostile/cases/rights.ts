// Rights that were not granted: what a leaf may sign, and what an issuer may issue.
import { encodeCbor } from '../../../src/base/cbor.ts'
import {
  encodeCertificateBody,
  issueCertificate,
  type PublisherGrant,
} from '../../../src/trust/certificate.ts'
import { encodeDocument, signDocument } from '../../../src/trust/document.ts'
import {
  authority,
  idOf,
  keysOf,
  nodeCertificate,
  publisherCertificate,
  signers,
} from '../../trust/test-network.ts'
import { freshnessOf, nextRelease, seal } from '../attacker.ts'
import { type Case, head, record, type SignerFor } from '../case.ts'
import { publisherId, signerOf } from '../node.ts'
import {
  decodeLeaf,
  delegate,
  issued,
  mallory,
  plainOf,
  publisher,
  underAuthority,
  withCertificate,
} from '../people.ts'
import { allRights } from '../world.ts'

const wrongUsage = (name: string, has: string, signer: SignerFor, says: RegExp): Case =>
  head(name, has, 'certificate-wrong-usage', signer, { says })
const wrongIssuer = (name: string, has: string, signer: SignerFor, says?: RegExp): Case =>
  head(name, has, 'certificate-wrong-issuer', signer, says === undefined ? {} : { says })

export const rights: readonly Case[] = [
  wrongUsage(
    'a head by who may only freshen',
    'the right to freshen',
    (world, evil) => withCertificate(world, { rights: evil ? ['freshen'] : ['yank'] }),
    /publish or yank is needed/,
  ),
  record(
    'a release by who may only yank',
    'the right to yank',
    'certificate-wrong-usage',
    async (world, evil) =>
      seal(nextRelease(world), await withCertificate(world, { rights: evil ? ['yank'] : ['publish'] })),
    { ways: ['sync', 'dht'], says: /publish is needed/ },
  ),
  record(
    'a freshness statement by who may only yank',
    'the right to yank',
    'certificate-wrong-usage',
    async (world, evil) =>
      seal(
        freshnessOf(world, world.heads[1]),
        await withCertificate(world, { rights: evil ? ['yank'] : ['freshen'] }),
      ),
    { says: /publish or freshen is needed/ },
  ),
  wrongUsage(
    'a certificate without any right',
    'a certificate',
    (world, evil) => withCertificate(world, { rights: evil ? [] : ['publish'] }),
    /rights none/,
  ),
  wrongUsage(
    'the chain of another publisher',
    'another publisher’s chain',
    (world, evil) => (evil ? { ...publisher(world), chain: mallory(world).chain ?? [] } : publisher(world)),
    /other keys/,
  ),
  wrongUsage(
    'the name of another publisher',
    'a certificate of its own for the same names',
    async (world, evil) => {
      const own = await publisherCertificate(world.authority, {
        ...{
          subject: keysOf('stranger'),
          publisher: evil ? idOf('stranger') : publisherId,
          rights: allRights,
        },
      })
      return signerOf('stranger', [own, world.authority])
    },
    /belongs to the publisher/,
  ),
  wrongUsage(
    'a node’s certificate',
    'the keys of a node',
    async (world, evil) => {
      const node = await nodeCertificate(world.authority, { subject: keysOf('publisher') })
      return signerOf('publisher', [evil ? node : world.publisher, world.authority])
    },
    /not a publisher certificate/,
  ),
  wrongUsage(
    'an authority’s certificate',
    'the keys of an authority',
    (world, evil) => (evil ? signerOf('authority', [world.authority]) : publisher(world)),
    /not a publisher certificate/,
  ),
  wrongIssuer(
    'a second machine by a publisher that may not delegate',
    'the key of such a publisher',
    async (world, evil) => {
      const leaf = await withCertificate(world, { rights: evil ? ['publish'] : ['delegate', 'publish'] })
      const certificate = await publisherCertificate(
        decodeLeaf(leaf),
        { subject: keysOf('delegate'), rights: ['publish'] },
        ['publisher'],
      )
      return { ...signerOf('delegate', []), chain: [certificate.bytes, ...(leaf.chain ?? [])] }
    },
    /no right to delegate/,
  ),
  wrongIssuer(
    'a second machine with more rights than the first',
    'the key of a publisher that may yank and delegate',
    async (world, evil) => {
      const leaf = await withCertificate(world, {
        rights: evil ? ['delegate', 'yank'] : ['delegate', 'publish'],
      })
      const certificate = await publisherCertificate(
        decodeLeaf(leaf),
        { subject: keysOf('delegate'), rights: ['publish'] },
        ['publisher'],
      )
      return { ...signerOf('delegate', []), chain: [certificate.bytes, ...(leaf.chain ?? [])] }
    },
    /no right to publish/,
  ),
  wrongIssuer(
    'a second machine of somebody else’s publisher',
    'a publisher that may delegate, and the same names',
    async (world, evil) => {
      const own = await publisherCertificate(world.authority, {
        ...{
          subject: keysOf('stranger'),
          publisher: evil ? idOf('stranger') : publisherId,
          rights: allRights,
        },
      })
      const certificate = await publisherCertificate(own, { subject: keysOf('delegate') }, ['stranger'])
      return signerOf('delegate', [certificate, own, world.authority])
    },
    /for itself alone/,
  ),
  wrongIssuer(
    'a publisher issued by a node',
    'the keys of a node',
    async (world, evil) => {
      const node = await nodeCertificate(world.authority)
      const above = evil ? node : world.authority
      const certificate = await publisherCertificate(above, { rights: allRights }, [
        evil ? 'node' : 'authority',
      ])
      return signerOf('publisher', [certificate, ...(evil ? [node] : []), world.authority])
    },
    /node certificate cannot issue/,
  ),
  wrongIssuer(
    'a publisher by an authority that may issue nodes alone',
    'the key of that authority',
    async (_, evil) => (await underAuthority({ issues: evil ? ['node'] : ['publisher'] })).signer,
    /may issue node/,
  ),
  wrongIssuer(
    'a chain with its middle cut out',
    'a second machine’s key',
    async (world, evil) => {
      const second = await delegate(world)
      const [leaf, middle, above] = second.chain as [Uint8Array, Uint8Array, Uint8Array]
      return { ...second, chain: evil ? [leaf, above] : [leaf, middle, above] }
    },
    /the chain goes on with/,
  ),
  wrongIssuer(
    'a chain that does not reach the root',
    'a publisher’s key',
    (world, evil) => {
      const signer = publisher(world)
      return evil ? { ...signer, chain: (signer.chain ?? []).slice(0, 1) } : signer
    },
    /missing from the chain/,
  ),
  wrongIssuer('a chain that issued itself', 'keys of its own', async (world, evil) => {
    const own = await issueCertificate<PublisherGrant>(
      { ...plainOf(world.publisher), issuer: world.publisher.fingerprint },
      [signers.publisher],
    )
    return evil ? signerOf('publisher', [own]) : publisher(world)
  }),
  head(
    'an authority below one that allows none',
    'the key of an authority',
    'certificate-path-too-long',
    async (world, evil) => {
      const upper = await authority({ maxPathLength: evil ? 0 : 1 })
      const lower = await authority({ subject: keysOf('region'), maxPathLength: 0 }, ['authority'], upper)
      const certificate = await publisherCertificate(lower, { rights: allRights }, ['region'])
      void world
      return signerOf('publisher', [certificate, lower, upper])
    },
  ),
  head(
    'a certificate that its issuer did not sign',
    'a publisher’s key',
    'certificate-bad-signature',
    async (world, evil) => {
      const by = evil ? 'stranger' : 'authority'
      const certificate = await publisherCertificate(world.authority, { rights: allRights }, [by])
      return signerOf('publisher', [certificate, world.authority])
    },
  ),
  head(
    'a certificate that was changed afterwards',
    'a publisher’s key',
    'certificate-bad-signature',
    async (world, evil) => {
      const wider = encodeCertificateBody({ ...plainOf(world.publisher), names: ['*'] })
      const forged = encodeDocument(wider, world.publisher.signatures)
      return evil ? signerOf('publisher', [forged, world.authority]) : publisher(world)
    },
  ),
  head(
    'a certificate that asks for what nobody knows',
    'the key of an authority of tomorrow',
    'certificate-unknown-critical',
    (world, evil) =>
      withCertificate(
        world,
        evil ? { critical: { 'catalog/quorum': 2 } } : { extensions: { 'catalog/quorum': 2 } },
      ),
  ),
  head(
    'an authority that asks for what nobody knows',
    'the root keys of tomorrow',
    'certificate-unknown-critical',
    async (_, evil) =>
      (await underAuthority(evil ? { critical: { x: true } } : { extensions: { x: true } })).signer,
  ),
  head(
    'a certificate with a field of its own',
    'the key of an authority',
    'certificate-malformed',
    (world, evil) => issued(world, evil ? ({ admin: true } as object) : {}),
    { says: /unknown field/ },
  ),
  head(
    'a certificate of another version',
    'the key of an authority',
    'certificate-malformed',
    async (world, evil) => {
      const body = encodeCbor({ ...plainOf(world.publisher), v: evil ? 2 : 1 })
      const document = await signDocument('catalog/certificate/v1', body, [signers.authority])
      return signerOf('publisher', [document, world.authority])
    },
    { says: /its version is 2/ },
  ),
]
