// Joining without a connection: a request for certificates as a file, and the answer to it as another. Neither is
// secret. The request proves that who made it holds the keys; the answer is believed for the root fingerprint alone.
//
//   request file = "catalog-request-v1 " || base64url of request || "\n"
//   request = canonical CBOR { v: 1, root? (fingerprint), label?, time, node, publisher, authority? : { ed25519, falcon },
//             proofs: { node, publisher, authority? : { ed25519, falcon } } }
//   proof   = both signatures over lp("catalog/request/v1") || lp(canonical CBOR of the request without proofs)
//   answer file = "catalog-membership-v1 " || base64url of what joined.ts gives || "\n"
import { encodeCbor } from '../base/cbor.ts'
import { CatalogError } from '../base/errors.ts'
import type { Authority } from './authority.ts'
import { type NodeCapability, type NodeRole, publisherRights } from './certificate.ts'
import { type DocumentSigner, decodeStrictly } from './document.ts'
import { Fields, isFingerprint, type PublicKeys } from './fields.ts'
import { decodeJoined, encodeJoined, type Joined } from './joined.ts'
import { publisherFingerprint } from './keys.ts'
import {
  type Possession,
  possessionCheck,
  possessionMessage,
  provePossession,
  readPossession,
} from './possession.ts'
import type { TrustChain, TrustChainDeps } from './trust-chain.ts'

export interface MembershipRequest {
  /** Root fingerprint of the network that it is meant for; absent: any. */
  readonly root?: string | undefined
  readonly label?: string | undefined
  /** Milliseconds since 1970 (UTC). */
  readonly time: number
  readonly node: PublicKeys
  readonly publisher: PublicKeys
  /** For a node that is to be an authority. */
  readonly authority?: PublicKeys | undefined
}

export interface RequestSigners {
  readonly node: DocumentSigner
  readonly publisher: DocumentSigner
  readonly authority?: DocumentSigner | undefined
}

const domain = 'catalog/request/v1'
const maxBytes = 24 * 1024
const holders = ['node', 'publisher', 'authority'] as const
type Holder = (typeof holders)[number]

/** The text of the request file. */
export async function encodeRequest(
  about: Pick<MembershipRequest, 'root' | 'label' | 'time'>,
  signers: RequestSigners,
): Promise<string> {
  const body = present({
    v: 1,
    ...about,
    ...mapHolders(holder => signers[holder]?.publicKeys),
  })
  const message = possessionMessage(domain, encodeCbor(body))
  const proofs: Partial<Record<Holder, Possession>> = {}
  for (const holder of holders) {
    const signer = signers[holder]
    if (signer !== undefined) proofs[holder] = await provePossession(signer, message)
  }
  return toLine('catalog-request-v1', encodeCbor({ ...body, proofs }))
}

/** @throws CatalogError `certificate-malformed`, `certificate-bad-signature` */
export async function decodeRequest(
  text: string,
  { check }: Pick<TrustChainDeps, 'check'>,
): Promise<MembershipRequest> {
  const what = 'The request'
  const raw = decodeStrictly(fromLine('catalog-request-v1', text, maxBytes, what), maxBytes, what)
  const fields = new Fields(raw, ['v', 'root', 'label', 'time', ...holders, 'proofs'], what)
  fields.version(1)
  const { proofs, ...body } = raw as Record<string, unknown>
  const proofFields = new Fields(proofs, holders, "The request's proofs")
  const request = {
    ...(fields.has('root') ? { root: fields.text('root', 56) } : {}),
    ...(fields.has('label') ? { label: labelOf(fields) } : {}),
    time: fields.natural('time'),
    node: fields.keys('node'),
    publisher: fields.keys('publisher'),
    ...(fields.has('authority') ? { authority: fields.keys('authority') } : {}),
  }
  if (request.root !== undefined && !isFingerprint(request.root))
    throw fields.refuse('its root is no fingerprint')
  const message = possessionMessage(domain, encodeCbor(body))
  for (const holder of holders) {
    const keys = request[holder]
    if (keys === undefined) continue
    const proof = readPossession(proofFields.raw(holder), `The request's proof of its ${holder} keys`)
    if ((await check(possessionCheck(keys, message, proof))) !== undefined)
      throw new CatalogError(
        'certificate-bad-signature',
        `The request does not prove that its maker holds the ${holder} keys.`,
      )
  }
  return request
}

/** For people alone; no control characters. @throws CatalogError `certificate-malformed` */
export function labelOf(fields: Fields): string {
  const label = fields.text('label', 100)
  if (/\p{C}/u.test(label)) throw fields.refuse('its label has control characters')
  return label
}

export interface RequestGrant {
  readonly roles: readonly NodeRole[]
  readonly capabilities: readonly NodeCapability[]
  readonly label?: string | undefined
}

/** What a request may be given; issued by the authority, in its ledger when it resolves. @throws CatalogError `certificate-wrong-network`, and as `Issuer.issue` */
export async function issueForRequest(
  request: MembershipRequest,
  { roles, capabilities, label = request.label }: RequestGrant,
  {
    authority,
    trust,
  }: {
    readonly authority: Authority
    readonly trust: Pick<TrustChain, 'network' | 'roots' | 'revocationLists'>
  },
): Promise<Joined> {
  refuseOtherNetwork(request, trust.network)
  const authorityKeys = roles.includes('authority') ? authorityKeysOf(request) : undefined
  const holder = request.node.ed25519
  const node = await authority.issueNode({ subject: request.node, roles, capabilities, label })
  const publisher = await authority.issuePublisher({ ...newPublisher(request.publisher), holder, label })
  const wanted =
    authorityKeys === undefined
      ? {}
      : {
          authority: await authority.issueAuthority({
            ...{
              subject: authorityKeys,
              label,
              maxPathLength: 0,
              names: ['*'],
              issues: ['node', 'publisher'],
            },
          }),
        }
  return { roots: await trust.roots(), node, publisher, ...wanted, revocations: listsFor(trust, authority) }
}

/** @throws CatalogError `certificate-wrong-network` */
export function refuseOtherNetwork({ root }: Pick<MembershipRequest, 'root'>, network: string): void {
  if (root !== undefined && root !== network)
    throw new CatalogError(
      'certificate-wrong-network',
      `The request is meant for the network ${root}, this one is ${network}.`,
    )
}

/** @throws CatalogError `invalid-request` */
export function authorityKeysOf({ authority }: Pick<MembershipRequest, 'authority'>): PublicKeys {
  if (authority !== undefined) return authority
  throw new CatalogError(
    'invalid-request',
    'The request is not of a node that is to be an authority: it has no keys of one. Make it with `catalog init --request FILE --authority`.',
  )
}

/** A publisher that is new has no names: those are granted. */
export const newPublisher = (keys: PublicKeys) =>
  ({
    subject: keys,
    publisher: publisherFingerprint(keys.ed25519, keys.falcon),
    names: [],
    rights: publisherRights,
  }) as const

/** The lists of the authorities over a new member's certificates. */
export function listsFor(trust: Pick<TrustChain, 'revocationLists'>, authority: Authority): Uint8Array[] {
  const above = new Set(authority.certificates.map(({ fingerprint }) => fingerprint))
  return trust
    .revocationLists()
    .filter(({ issuer }) => above.has(issuer))
    .map(({ bytes }) => bytes)
}

export const encodeMembershipFile = (joined: Joined): string =>
  toLine('catalog-membership-v1', encodeJoined(joined))

/** The form alone: `proveJoined` is what makes it believed. @throws CatalogError `certificate-malformed` */
export const decodeMembershipFile = (text: string): Joined =>
  decodeJoined(fromLine('catalog-membership-v1', text, 1024 * 1024, 'The membership file'))

const toLine = (header: string, bytes: Uint8Array): string =>
  `${header} ${Buffer.from(bytes).toString('base64url')}\n`

function fromLine(header: string, text: string, max: number, what: string): Uint8Array {
  const malformed = new CatalogError(
    'certificate-malformed',
    `${what} is malformed: it is not one line that begins with ${header}.`,
  )
  if (text.length > 2 * max) throw malformed
  const [, inside] = new RegExp(`^${header} ([A-Za-z0-9_-]+)\\s*$`).exec(text) ?? []
  if (inside === undefined) throw malformed
  return new Uint8Array(Buffer.from(inside, 'base64url'))
}

const mapHolders = <T>(of: (holder: Holder) => T): Record<Holder, T> => ({
  node: of('node'),
  publisher: of('publisher'),
  authority: of('authority'),
})

const present = (fields: Record<string, unknown>): Record<string, unknown> =>
  Object.fromEntries(Object.entries(fields).filter(([, value]) => value !== undefined))
