// accept: the only way a record of others enters this node, whether a peer or the DHT brings it. (What this node signs
// itself is proved where it is sealed; the catalogue takes nothing without that stamp.)
//
//   bytes -decode-> Envelope -check network, dates, manifest-> -verify signatures-> Verified -catalogue-> durable

import { validateManifestValue } from '../assets/parse-manifest.ts'
import {
  decodeEnvelope,
  type Envelope,
  type HeadStatement,
  type ReleaseStatement,
} from '../assets/release.ts'
import type { Verified } from '../assets/stage.ts'
import { CatalogError } from '../base/errors.ts'

export interface AcceptDeps {
  readonly network: string
  readonly now: () => number
  readonly verifier: { verify<E extends Envelope>(envelope: E): Promise<Verified<E>> }
  readonly catalogue: {
    addRelease(envelope: Verified<Envelope<ReleaseStatement>>): Promise<unknown>
    addHead(envelope: Verified<Envelope<HeadStatement>>): Promise<unknown>
  }
}

/** A record signed further ahead than this is refused: clocks differ by less. */
const maxClockSkewMs = 10 * 60 * 1000

/**
 * Proves a record and makes it durable here; harmless for one that is known.
 * @throws CatalogError `bad-record`, `bad-signature`, `stale-record`, `quota-exceeded`
 */
export async function accept(deps: AcceptDeps, bytes: Uint8Array): Promise<Envelope> {
  const envelope = await prove(deps, bytes)
  if (isRelease(envelope)) await deps.catalogue.addRelease(envelope)
  else if (isHead(envelope)) await deps.catalogue.addHead(envelope)
  return envelope
}

/** Everything but storing: what the DHT's validator does with a record that it is to keep for others. */
export async function prove(
  deps: Omit<AcceptDeps, 'catalogue'>,
  bytes: Uint8Array,
): Promise<Verified<Envelope>> {
  const envelope = decodeEnvelope(bytes)
  const { statement } = envelope
  if (statement.network !== deps.network)
    throw refused(
      envelope,
      `it belongs to the network ${JSON.stringify(statement.network)}, this is ${JSON.stringify(deps.network)}`,
    )
  if (statement.signedAt > deps.now() + maxClockSkewMs)
    throw refused(
      envelope,
      `it was signed in the future (${new Date(statement.signedAt).toISOString()}); is a clock wrong?`,
    )
  if (statement.type === 'head' && statement.expiresAt <= deps.now())
    throw new CatalogError(
      'stale-record',
      `The head of ${statement.name} expired at ${new Date(statement.expiresAt).toISOString()}; its publisher must sign it anew.`,
      { id: envelope.id },
    )
  if (statement.type === 'release') checkManifest(envelope as Envelope<ReleaseStatement>)
  return deps.verifier.verify(envelope)
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
