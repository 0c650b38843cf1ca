// How a network gets its next root while the keys lie in different places: somebody proposes it, the holders of the
// old and the new keys sign it one after the other on machines without a network, anybody publishes it when the
// signatures of both thresholds are there. Who may decide is root.ts's affair, who believes it trust-chain.ts's.
//
//   proposal file = "catalog root proposal v1", a line break, and in base64 in lines of 76 characters
//                   canonical CBOR { v: 1, current: bytes (the root before), next: bytes (the document so far),
//                   authorities? [certificates that `next` carries and that bear no signature: at most 4] }
//   key file      = "catalog public keys v1", a line break, and so of { v: 1, ed25519, falcon }
//
// A proposal proves nothing. Who signs sees by `describeProposal` what would change; the root before it is believed no
// more than the file: signing under another one makes a document that nobody accepts.
import { decodeCbor, encodeCbor } from '../base/cbor.ts'
import { CatalogError, isCatalogError } from '../base/errors.ts'
import { checkOf, type DocumentSigner, encodeDocument, signBody } from './document.ts'
import { Fields, type PublicKeys, readKeys } from './fields.ts'
import { publisherFingerprint } from './keys.ts'
import {
  type AuthorityCertificate,
  describeNewAuthority,
  type NewAuthority,
  newAuthorityLimits,
  readNewAuthority,
} from './new-authority.ts'
import { decodeRoot, encodeRootBody, type Root, type RootBody, rootLimits, successionChecks } from './root.ts'
import { faultySignature } from './signature-check.ts'

export interface RootChanges {
  readonly add?: readonly PublicKeys[]
  /** Fingerprints of keys. */
  readonly remove?: readonly string[]
  readonly threshold?: number
  /** Fingerprints of certificates that hold no more. */
  readonly revoke?: readonly string[]
  /** Authorities that it makes by carrying them. */
  readonly authorities?: readonly AuthorityCertificate[]
  /** Milliseconds from now on; absent: as long as the root before it was made for. */
  readonly lifetimeMs?: number
}

export interface Proposal {
  readonly current: Root
  /** With the signatures that there are. */
  readonly next: Root
  /** Authorities that `next` makes: who signs it sees what they may do. */
  readonly authorities?: readonly AuthorityCertificate[]
}

/** How far a proposal is. Keys are fingerprints. */
export interface ProposalState {
  readonly version: number
  readonly network: string
  readonly added: readonly string[]
  readonly removed: readonly string[]
  readonly threshold: number
  readonly notAfter: number
  readonly carried: readonly string[]
  readonly revoked: readonly string[]
  /** Of those carried, the ones that this root makes. */
  readonly authorities: readonly NewAuthority[]
  readonly signed: readonly string[]
  /** Signatures that are still needed: of the root before it, and of its own keys. One may count for both. */
  readonly missing: { readonly old: number; readonly new: number }
}

const domain = 'catalog/root/v1'
const proposalHeader = 'catalog root proposal v1'
const keysHeader = 'catalog public keys v1'
/** Two roots, and new authorities. */
const maxProposalBytes =
  2 * rootLimits.maxBytes + newAuthorityLimits.maxCertificates * newAuthorityLimits.maxBytes + 1024
/** In base64 with line breaks. */
export const maxProposalCharacters = Math.ceil((maxProposalBytes * 4 * 77) / (3 * 76)) + 100

/**
 * The next root, unsigned. `carried`: certificates issued by earlier versions that are to hold on, by fingerprint; what
 * is revoked is taken out.
 * @throws CatalogError `invalid-request` (a key that is there already or not at all, a threshold that cannot be met)
 */
export function proposeRoot(
  current: Root,
  changes: RootChanges,
  carried: readonly string[],
  now: number,
): Proposal {
  const { add = [], remove = [], revoke = [], authorities = [] } = changes
  const names = current.keys.map(nameOf)
  const stranger = remove.find(name => !names.includes(name))
  if (stranger !== undefined)
    throw impossible(`${stranger} is no key of the root; its keys are ${names.join(', ')}`)
  const twice = add.find(key => names.includes(nameOf(key)))
  if (twice !== undefined) throw impossible(`${nameOf(twice)} is a key of the root already`)
  const keys = [...current.keys.filter(key => !remove.includes(nameOf(key))), ...add]
  const threshold = changes.threshold ?? current.threshold
  const most = Math.min(keys.length, rootLimits.maxThreshold)
  if (keys.length > rootLimits.maxKeys || threshold < 1 || threshold > most)
    throw impossible(
      `${threshold} of ${keys.length} keys is no threshold: there are 1 to ${rootLimits.maxKeys} keys, and it is 1 to ${most}`,
    )
  if (authorities.length > newAuthorityLimits.maxCertificates)
    throw impossible(
      `it would make ${authorities.length} authorities, and ${newAuthorityLimits.maxCertificates} at a time are allowed`,
    )
  const revoked = [...new Set([...current.revoked, ...revoke])]
  const made = authorities.map(({ fingerprint }) => fingerprint)
  const body: RootBody = {
    type: 'root',
    network: current.network,
    version: current.version + 1,
    previous: current.fingerprint,
    keys,
    threshold,
    notBefore: now,
    notAfter: now + (changes.lifetimeMs ?? current.notAfter - current.notBefore),
    carried: [...new Set([...current.carried, ...carried, ...made])].filter(name => !revoked.includes(name)),
    revoked,
  }
  try {
    const next = decodeRoot(encodeDocument(encodeRootBody(body), []).bytes)
    return { current, next, ...(authorities.length === 0 ? {} : { authorities }) }
  } catch (error) {
    if (isCatalogError(error, 'certificate-malformed'))
      throw impossible(error.message.replace(/\.$/, ''), error)
    throw error
  }
}

/**
 * Adds signatures: of the keys that the root before it or the next one has. Signing again changes nothing.
 * @throws CatalogError `invalid-request` (none of these keys decides)
 */
export async function signProposal(
  proposal: Proposal,
  signers: readonly DocumentSigner[],
): Promise<Proposal> {
  const { current, next } = proposal
  const deciding = new Set([...current.keys, ...next.keys].map(nameOf))
  const able = signers.filter(({ fingerprint }) => deciding.has(fingerprint))
  if (able.length === 0)
    throw impossible(
      `none of the keys here (${signers.map(({ fingerprint }) => fingerprint).join(', ') || 'none'}) decides about it`,
    )
  const due = able.filter(({ fingerprint }) => !next.signatures.some(({ key }) => key === fingerprint))
  const made = await Promise.all(due.map(signer => signBody(domain, next.body, signer)))
  const signed = decodeRoot(encodeDocument(next.body, [...next.signatures, ...made]).bytes)
  return { ...proposal, next: signed }
}

/**
 * The root that everybody accepts.
 * @throws CatalogError `root-threshold` (signatures are missing), `root-not-trusted`
 */
export function completeProposal(proposal: Proposal): Root {
  const { current, next } = proposal
  for (const check of successionChecks(current, next)) refuseFaulty(check)
  return next
}

export function describeProposal({ current, next, authorities = [] }: Proposal): ProposalState {
  const [before, after] = [current.keys.map(nameOf), next.keys.map(nameOf)]
  const signed = next.signatures.map(({ key }) => key)
  const count = (names: readonly string[]) => names.filter(name => signed.includes(name)).length
  return {
    version: next.version,
    network: next.network,
    added: after.filter(name => !before.includes(name)),
    removed: before.filter(name => !after.includes(name)),
    threshold: next.threshold,
    notAfter: next.notAfter,
    carried: next.carried,
    revoked: next.revoked,
    authorities: authorities.map(describeNewAuthority),
    signed,
    missing: {
      old: Math.max(0, current.threshold - count(before)),
      new: Math.max(0, next.threshold - count(after)),
    },
  }
}

export const encodeProposal = ({ current, next, authorities = [] }: Proposal): string =>
  armour(
    proposalHeader,
    encodeCbor({
      ...{ v: 1, current: current.bytes, next: next.bytes },
      ...(authorities.length === 0 ? {} : { authorities: authorities.map(({ bytes }) => bytes) }),
    }),
  )

/**
 * Every signature in it holds and is by a key that decides; the succession is looked at when it is complete.
 * @throws CatalogError `certificate-malformed`, `too-large`, `root-not-trusted`
 */
export function decodeProposal(text: string): Proposal {
  const what = 'The root proposal'
  const known = ['v', 'current', 'next', 'authorities']
  const fields = new Fields(unarmour(text, proposalHeader, what), known, what)
  fields.version(1)
  const [current, next] = [decodeRoot(fields.bytes('current')), decodeRoot(fields.bytes('next'))]
  const made = fields.has('authorities')
    ? fields.list('authorities', newAuthorityLimits.maxCertificates)
    : undefined
  const authorities = made?.map(bytes => readNewAuthority(bytes, next.carried))
  if (
    next.previous !== current.fingerprint ||
    next.version !== current.version + 1 ||
    next.network !== current.network
  )
    throw fields.refuse('its root does not follow the one before it')
  const keys = [...current.keys, ...next.keys]
  for (const { key } of next.signatures) {
    const signer = keys.find(each => nameOf(each) === key)
    const check = signer === undefined ? undefined : checkOf(domain, next, signer)
    if (check === undefined)
      throw new CatalogError(
        'root-not-trusted',
        `The root proposal is signed by ${key}, which decides nothing.`,
      )
    refuseFaulty(check)
  }
  return { current, next, ...(authorities === undefined ? {} : { authorities }) }
}

/** What the holder of a new key hands to whoever proposes. */
export const encodePublicKeys = ({ ed25519, falcon }: PublicKeys): string =>
  armour(keysHeader, encodeCbor({ v: 1, ed25519, falcon }))

/** @throws CatalogError `certificate-malformed`, `too-large` */
export function decodePublicKeys(text: string): PublicKeys {
  const what = 'The file of public keys'
  const raw = unarmour(text, keysHeader, what)
  const fields = new Fields(raw, ['v', 'ed25519', 'falcon'], what)
  fields.version(1)
  const { v: _, ...keys } = raw as Record<string, unknown>
  return readKeys(keys, what)
}

function refuseFaulty(check: Parameters<typeof faultySignature>[0]): void {
  const faulty = faultySignature(check)
  if (faulty !== undefined)
    throw new CatalogError(
      'root-not-trusted',
      `The next root is refused: an ${faulty} signature does not hold. The file was changed, or damaged.`,
    )
}

const armour = (header: string, bytes: Uint8Array): string =>
  `${header}\n${Buffer.from(bytes)
    .toString('base64')
    .replace(/.{1,76}/g, '$&\n')}`

function unarmour(text: string, header: string, what: string): unknown {
  if (text.length > maxProposalCharacters)
    throw new CatalogError(
      'too-large',
      `${what} has ${text.length} characters; at most ${maxProposalCharacters} are read.`,
    )
  const malformed = (why: string) =>
    new CatalogError('certificate-malformed', `${what} is malformed: ${why}.`)
  const [first, ...lines] = text.trimEnd().split(/\r?\n/)
  if (first !== header) throw malformed(`it does not begin with "${header}"`)
  const base64 = lines.join('')
  const bytes = Buffer.from(base64, 'base64')
  if (bytes.toString('base64') !== base64) throw malformed('it is not base64')
  try {
    return decodeCbor(new Uint8Array(bytes), maxProposalBytes, what)
  } catch (error) {
    throw isCatalogError(error, 'bad-record') ? malformed(error.message.replace(/\.$/, '')) : error
  }
}

const nameOf = ({ ed25519, falcon }: PublicKeys): string => publisherFingerprint(ed25519, falcon)

const impossible = (why: string, cause?: unknown) =>
  new CatalogError('invalid-request', `The root cannot be changed so: ${why}.`, {}, cause)
