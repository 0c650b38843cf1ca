// What a new member is given: the network's roots, its own certificates, and what is revoked. It is believed for the
// root fingerprint that the member had from elsewhere, whoever hands it over. Also as a line of text, for files.
//
//   joined = canonical CBOR { v: 1, roots [from version 1 on], node [chain], publisher [chain], authority? [chain],
//            revocations [lists] }
//
// For an authority that the root made (new-authority.ts), node, publisher and revocations are empty: it certifies its
// own node, and nobody else need be there.
import { encodeCbor, equalBytes } from '../base/cbor.ts'
import { CatalogError } from '../base/errors.ts'
import { silentLog } from '../base/log.ts'
import { type CertificateType, certificateLimits } from './certificate.ts'
import { decodeStrictly } from './document.ts'
import { Fields, type PublicKeys } from './fields.ts'
import { TrustChain, type TrustChainDeps } from './trust-chain.ts'

export interface Joined {
  /** Root documents, version 1 first. */
  readonly roots: readonly Uint8Array[]
  /** Chains, leaf first. */
  readonly node: readonly Uint8Array[]
  readonly publisher: readonly Uint8Array[]
  readonly authority?: readonly Uint8Array[]
  readonly revocations: readonly Uint8Array[]
}

export const joinedLimits = { maxBytes: 1024 * 1024, maxRoots: 64, maxRevocations: 16 } as const

/** @throws CatalogError `too-large` */
export function encodeJoined({ authority, ...joined }: Joined): Uint8Array {
  const bytes = encodeCbor({ v: 1, ...joined, ...(authority === undefined ? {} : { authority }) })
  if (bytes.byteLength > joinedLimits.maxBytes)
    throw new CatalogError(
      'too-large',
      `What a new member needs is ${bytes.byteLength} bytes; ${joinedLimits.maxBytes} are accepted.`,
    )
  return bytes
}

/** The form alone. @throws CatalogError `certificate-malformed` */
export function decodeJoined(bytes: Uint8Array): Joined {
  const what = 'The answer with certificates'
  const known = ['v', 'roots', 'node', 'publisher', 'authority', 'revocations']
  const fields = new Fields(decodeStrictly(bytes, joinedLimits.maxBytes, what), known, what)
  fields.version(1)
  const list = (field: string, max: number) =>
    fields.list(field, max).map(one => {
      if (!(one instanceof Uint8Array)) throw fields.refuse(`${field} holds something that is not bytes`)
      return one
    })
  return {
    roots: list('roots', joinedLimits.maxRoots),
    node: list('node', certificateLimits.maxChain),
    publisher: list('publisher', certificateLimits.maxChain),
    ...(fields.has('authority') ? { authority: list('authority', certificateLimits.maxChain) } : {}),
    revocations: list('revocations', joinedLimits.maxRevocations),
  }
}

/** The keys that the certificates must be for. */
export interface JoiningKeys {
  readonly node: PublicKeys
  readonly publisher: PublicKeys
  readonly authority?: PublicKeys | undefined
}

/**
 * Resolves where all of it holds under the root, now.
 * @throws CatalogError `root-not-trusted`, `root-threshold`, `certificate-…`
 */
export async function proveJoined(
  joined: Joined,
  root: string,
  keys: JoiningKeys,
  deps: Pick<TrustChainDeps, 'check' | 'now'>,
): Promise<void> {
  const trust = await trustOf(joined, root, deps)
  await proveOwn(trust, joined.node, 'node', keys.node)
  await proveOwn(trust, joined.publisher, 'publisher', keys.publisher)
  if (joined.authority !== undefined && keys.authority !== undefined)
    await proveOwn(trust, joined.authority, 'authority', keys.authority)
}

/** What its roots and lists make believed. */
async function trustOf(
  joined: Joined,
  root: string,
  { check, now }: Pick<TrustChainDeps, 'check' | 'now'>,
): Promise<TrustChain> {
  const [firstRoot, ...later] = joined.roots
  if (firstRoot === undefined)
    throw new CatalogError('root-not-trusted', "The network's root document is missing from the answer.")
  const trust = new TrustChain({ notices: nowhere, check, now, log: silentLog }, { firstRoot, network: root })
  await trust.start()
  for (const bytes of [...later, ...joined.revocations]) await trust.accept(bytes)
  return trust
}

/** Whether it makes an authority that certifies its own node. */
export const isNewAuthority = ({ node, publisher, authority }: Joined): boolean =>
  node.length === 0 && publisher.length === 0 && authority !== undefined

/**
 * The same for an authority that certifies its own node: its chain holds under the root, now.
 * @throws as `proveJoined`
 */
export async function proveNewAuthority(
  joined: Joined,
  root: string,
  authority: PublicKeys,
  deps: Pick<TrustChainDeps, 'check' | 'now'>,
): Promise<void> {
  const trust = await trustOf(joined, root, deps)
  await proveOwn(trust, joined.authority ?? [], 'authority', authority)
}

/** A chain for one's own keys. @throws CatalogError `certificate-wrong-usage`, and as `TrustChain.prove` */
export async function proveOwn(
  trust: Pick<TrustChain, 'prove'>,
  chain: readonly Uint8Array[],
  type: CertificateType,
  keys: PublicKeys,
): Promise<void> {
  const [leaf] = await trust.prove(chain, { kind: 'any' })
  if (leaf?.type !== type)
    throw new CatalogError(
      'certificate-wrong-usage',
      `A ${type} certificate was expected, and a ${leaf?.type} certificate came.`,
    )
  if (!equalBytes(leaf.subject.ed25519, keys.ed25519) || !equalBytes(leaf.subject.falcon, keys.falcon))
    throw new CatalogError(
      'certificate-wrong-usage',
      `The ${type} certificate that came is for other keys than those of this node.`,
    )
}

/** A trust chain that only looks keeps nothing. */
const nowhere = {
  putNotice: async () => undefined,
  notice: async () => undefined,
  async *notices() {},
}
