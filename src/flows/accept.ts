// accept: the only way a record of others enters this node, whether a peer or the DHT brings it. (What this node signs
// itself is proved where it is sealed; the catalogue takes nothing without that stamp.)
//
//   bytes -decode-> Envelope      -check network, dates, signatures, manifest-> Verified -standing-> catalogue
//                   Equivocation  -prove both heads-> catalogue
//                   other         -acceptNotice: trust documents-> catalogue
//
// An expired head is taken where it is newer than the known one: it installs nothing, but tells that there is one.

import { decodeEquivocation, type Equivocation, maxEquivocationBytes } from '../assets/equivocation.ts'
import { validateManifestValue } from '../assets/parse-manifest.ts'
import {
  decodeEnvelope,
  type Envelope,
  type FreshnessStatement,
  type HeadStatement,
  type ReleaseStatement,
  recordLimits,
} from '../assets/release.ts'
import type { Verified } from '../assets/stage.ts'
import { decodeCbor } from '../base/cbor.ts'
import { CatalogError, isCatalogError } from '../base/errors.ts'
import { hasExpired, type StandingOf } from './standing.ts'

export interface ProveDeps {
  readonly network: string
  readonly now: () => number
  readonly verifier: { verify<E extends Envelope>(envelope: E): Promise<Verified<E>> }
  readonly standing: StandingOf
}

export interface AcceptDeps extends ProveDeps {
  readonly catalogue: {
    head(publisher: string, name: string): Promise<Envelope<HeadStatement> | undefined>
    /** Whether releases that nobody may ever list may be kept for the publisher. */
    hasRoomFor(publisher: string): boolean
    addRelease(envelope: Verified<Envelope<ReleaseStatement>>): Promise<unknown>
    addHead(envelope: Verified<Envelope<HeadStatement>>): Promise<unknown>
    addFreshness(envelope: Verified<Envelope<FreshnessStatement>>): Promise<unknown>
    addEquivocation(proof: Verified<Equivocation>): Promise<unknown>
    /** Removes what is refused of the name's heads, statements and proofs. */
    dropHeadsOf(
      publisher: string,
      name: string,
      isRefused: (record: Envelope<HeadStatement> | Envelope<FreshnessStatement>) => boolean,
    ): Promise<unknown>
  }
  /** Proves and keeps what is neither an envelope nor a proof: the trust documents. */
  readonly acceptNotice: (bytes: Uint8Array) => Promise<unknown>
  /** A proved head may not follow the known one. */
  readonly onRefusedHead: (head: Envelope<HeadStatement>, refusal: CatalogError) => void
}

/** A record signed further ahead than this is refused: clocks differ by less. */
const maxClockSkewMs = 10 * 60 * 1000
/** Of a release's statement: its manifest, and texts that take less than this beside it. */
const maxReleaseBytes = recordLimits.maxInlineManifestBytes + 4096

export type Decoded =
  | { readonly kind: 'envelope'; readonly envelope: Envelope }
  | { readonly kind: 'equivocation'; readonly proof: Equivocation }
  | { readonly kind: 'notice' }

/** What a record is, by its shape; nothing of it is proved. @throws CatalogError `bad-record` */
export function decodeRecord(bytes: Uint8Array): Decoded {
  if (beginsAsEnvelope(bytes)) return { kind: 'envelope', envelope: decodeEnvelope(bytes) }
  const value = decodeCbor(bytes, maxEquivocationBytes, 'A record')
  if (value === null || typeof value !== 'object' || Array.isArray(value) || value instanceof Uint8Array)
    throw new CatalogError('bad-record', 'The record is refused: it is no map.')
  if ('statement' in value) return { kind: 'envelope', envelope: decodeEnvelope(bytes) }
  if ((value as { type?: unknown }).type === 'equivocation')
    return { kind: 'equivocation', proof: decodeEquivocation(bytes) }
  return { kind: 'notice' }
}

/** A map of five whose keys are, in canonical order, `v` and `chain`: spares nearly every record a second decoding. */
const envelopeStart = Buffer.from('a5617601656368', 'hex')
const beginsAsEnvelope = (bytes: Uint8Array): boolean =>
  Buffer.compare(bytes.subarray(0, envelopeStart.byteLength), envelopeStart) === 0

/**
 * Proves a record and makes it durable here; harmless for one that is known.
 * @throws CatalogError `bad-record`, `bad-signature`, `quota-exceeded`, what is wrong with a chain, and what the
 *   catalogue says of a head that may not follow the known one
 */
export async function accept(deps: AcceptDeps, bytes: Uint8Array): Promise<void> {
  const decoded = decodeRecord(bytes)
  if (decoded.kind === 'notice') return void (await deps.acceptNotice(bytes))
  if (decoded.kind === 'equivocation') {
    await deps.catalogue.addEquivocation(await proveEquivocation(deps, decoded.proof))
    for (const head of decoded.proof.heads) await dropRevokedMeanwhile(deps, head)
    return
  }
  const envelope = await prove(deps, decoded.envelope)
  if (isRelease(envelope)) {
    await refuseUnlisted(deps, envelope)
    return void (await deps.catalogue.addRelease(envelope))
  }
  refuseUnlessStanding(deps, envelope)
  if (isHead(envelope)) await addHead(deps, envelope)
  else await deps.catalogue.addFreshness(envelope as Verified<Envelope<FreshnessStatement>>)
  await dropRevokedMeanwhile(deps, envelope)
}

/** Whoever looks again at all that is here, because something was revoked, may have been past what was just being stored. */
async function dropRevokedMeanwhile(deps: AcceptDeps, envelope: Envelope): Promise<void> {
  if (deps.standing(envelope).state !== 'refused') return
  const { publisher, name } = envelope.statement
  await deps.catalogue.dropHeadsOf(publisher, name, record => deps.standing(record).state === 'refused')
  refuseUnlessStanding(deps, envelope)
}

/**
 * A release outlives the certificate of its keys, so who holds keys that were taken back, or have had their day, can go
 * on signing such. What no head lists must not use up the share, nor the versions, of the publisher.
 * @throws CatalogError `not-listed`
 */
async function refuseUnlisted(
  { catalogue, standing }: AcceptDeps,
  release: Envelope<ReleaseStatement>,
): Promise<void> {
  const state = standing(release)
  if (state.state !== 'refused' && !hasExpired(state)) return
  const { publisher, name, version } = release.statement
  const head = await catalogue.head(publisher, name)
  if (head?.statement.versions.some(({ id }) => id === release.id) === true) return
  if (head === undefined && catalogue.hasRoomFor(publisher)) return
  throw new CatalogError(
    'not-listed',
    `The release ${name}@${version} by ${publisher} is refused: its certificate holds no more, and no known head lists it.`,
    { id: release.id },
  )
}

/**
 * Who holds a key that has had its day can backdate, under any number: what stands on a certificate that holds does not
 * give way to it.
 * @throws CatalogError `certificate-expired`
 */
async function refuseOutlived(
  { catalogue, standing }: AcceptDeps,
  head: Envelope<HeadStatement>,
): Promise<void> {
  if (!hasExpired(standing(head))) return
  const { publisher, name, sequence } = head.statement
  const known = await catalogue.head(publisher, name)
  const state = known === undefined ? undefined : standing(known)
  if (known === undefined || state === undefined || state.state === 'refused' || hasExpired(state)) return
  throw new CatalogError(
    'certificate-expired',
    `Head ${sequence} of ${name} by ${publisher} is refused: its certificate has expired, and the known head is by a certificate that holds.`,
    { known: known.id, refused: head.id },
  )
}

async function addHead(deps: AcceptDeps, head: Verified<Envelope<HeadStatement>>): Promise<void> {
  await refuseOutlived(deps, head)
  try {
    await deps.catalogue.addHead(head)
  } catch (error) {
    if (isCatalogError(error)) deps.onRefusedHead(head, error)
    throw error
  }
}

/** Everything but whether it holds now: what it was when it was signed. */
export async function prove<E extends Envelope>(deps: ProveDeps, envelope: E): Promise<Verified<E>> {
  const { statement } = envelope
  if (statement.network !== deps.network)
    throw refused(
      envelope,
      `it belongs to the network ${JSON.stringify(statement.network)}, this is ${JSON.stringify(deps.network)}`,
    )
  if (statement.signedAt > deps.now() + maxClockSkewMs)
    throw refused(
      envelope,
      `it was signed in the future (${new Date(Math.min(statement.signedAt, 8.64e15)).toISOString()}); is a clock wrong?`,
    )
  if (statement.type === 'release') {
    if (envelope.statementBytes.byteLength > maxReleaseBytes)
      throw refused(envelope, `its manifest is larger than ${recordLimits.maxInlineManifestBytes} bytes`)
  } else if (statement.expiresAt - statement.signedAt > recordLimits.maxFreshMs)
    throw refused(envelope, `it is to live longer than ${recordLimits.maxFreshMs / 86_400_000} days`)
  const proved = await deps.verifier.verify(envelope)
  // A manifest of thousands of wrong keys takes a hundred times as long as the signatures: not from just anybody.
  if (statement.type === 'release') checkManifest(envelope as Envelope<ReleaseStatement>)
  return proved
}

/** @throws CatalogError with what is wrong with its chain at this time */
export function refuseUnlessStanding({ standing }: Pick<ProveDeps, 'standing'>, envelope: Envelope): void {
  const state = standing(envelope)
  if (state.state !== 'refused') return
  const { type, name } = envelope.statement
  throw new CatalogError(state.code, `The ${type} record of ${name} is refused: ${state.why}`, {
    id: envelope.id,
  })
}

async function proveEquivocation(deps: AcceptDeps, proof: Equivocation): Promise<Verified<Equivocation>> {
  for (const head of proof.heads) {
    refuseUnlessStanding(deps, await prove(deps, head))
    await refuseOutlived(deps, head)
  }
  return proof as Verified<Equivocation>
}

function checkManifest(envelope: Envelope<ReleaseStatement>): void {
  const { statement } = envelope
  if (statement.manifest === undefined) return
  const { metadata } = validateManifestValue(statement.manifest)
  if (metadata.name !== statement.name || metadata.version !== statement.version)
    throw refused(envelope, `its manifest is of ${metadata.name}@${metadata.version}`)
}

export const isRelease = (envelope: Verified<Envelope>): envelope is Verified<Envelope<ReleaseStatement>> =>
  envelope.statement.type === 'release'
const isHead = (envelope: Verified<Envelope>): envelope is Verified<Envelope<HeadStatement>> =>
  envelope.statement.type === 'head'

const refused = ({ statement, id }: Envelope, why: string) =>
  new CatalogError('bad-record', `The ${statement.type} record of ${statement.name} is refused: ${why}.`, {
    id,
  })
