// Who signs in the cases: the publisher, its other machine, other members, and the authority of the network.
import {
  type Certificate,
  type CertificateBody,
  decodeCertificate,
  encodeCertificateBody,
  type PublisherGrant,
} from '../../src/trust/certificate.ts'
import { signDocument } from '../../src/trust/document.ts'
import type { EnvelopeSigner } from '../../src/trust/envelope.ts'
import {
  authority,
  type Changes,
  idOf,
  keysOf,
  publisherCertificate,
  signers,
} from '../trust/test-network.ts'
import { signerOf } from './node.ts'
import { allRights, type World } from './world.ts'

/** The publisher of acme/tool, or whoever has stolen its keys. */
export const publisher = (world: World) => signerOf('publisher', [world.publisher, world.authority])

/** Another publisher of the network, with its own id and names. */
export const mallory = (world: World) =>
  signerOf('stranger', [world.mallory, world.authority], idOf('stranger'))

/** A second machine, by a certificate that the publisher itself issued. */
export async function delegate(world: World, changes: Changes<PublisherGrant> = {}) {
  const certificate = await publisherCertificate(
    world.publisher,
    { subject: keysOf('delegate'), rights: allRights, ...changes },
    ['publisher'],
  )
  return signerOf('delegate', [certificate, world.publisher, world.authority])
}

/** New keys for the publisher, by a new certificate of the authority. */
export async function renewed(world: World, changes: Changes<PublisherGrant> = {}) {
  const certificate = await publisherCertificate(world.authority, {
    subject: keysOf('node'),
    rights: allRights,
    ...changes,
  })
  return signerOf('node', [certificate, world.authority])
}

/** The publisher's keys with another certificate of the same authority. */
export async function withCertificate(world: World, changes: Changes<PublisherGrant>) {
  const certificate = await publisherCertificate(world.authority, { rights: allRights, ...changes })
  return signerOf('publisher', [certificate, world.authority])
}

/** The publisher's keys under another authority, made by two root keys. */
export async function underAuthority(
  changes: Parameters<typeof authority>[0],
  by?: Parameters<typeof authority>[1],
) {
  const above = await authority({ subject: keysOf('region'), ...changes }, by)
  const certificate = await publisherCertificate(above, { rights: allRights }, ['region'])
  return { above, certificate, signer: signerOf('publisher', [certificate, above]) }
}

/** The publisher's certificate is revoked, and it signs with new keys from now on. */
export async function recoverKeys(world: World): Promise<void> {
  await world.renewList([world.publisher.fingerprint], 7)
  world.repository.at.identity = await renewed(world)
  await world.catchUp()
}

/** A certificate as an authority would never issue it. */
export async function issued(world: World, body: Partial<CertificateBody<PublisherGrant>>) {
  const { publisher: like, authority: above } = world
  const bytes = encodeCertificateBody({ ...plainOf(like), ...body } as CertificateBody<PublisherGrant>)
  const document = await signDocument('catalog/certificate/v1', bytes, [signers.authority])
  return signerOf('publisher', [document, above])
}

/** A certificate's body, to be signed once more. */
export function plainOf(certificate: World['publisher']): CertificateBody<PublisherGrant> {
  const { body: _b, signatures: _s, bytes: _y, fingerprint: _f, ...plain } = certificate
  return plain
}

/** The certificate of whoever signs. */
export const decodeLeaf = ({ chain = [] }: EnvelopeSigner) =>
  decodeCertificate(chain[0] as Uint8Array) as Certificate<PublisherGrant>
