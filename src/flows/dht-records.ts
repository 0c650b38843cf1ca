// What the DHT may keep for others, or be believed for: a proved record under its own key whose chain holds, and no head
// that has expired or is older than one that this node knows or saw. Whatever passes is still only a hint: what enters
// the catalogue goes through accept.
import { decodeEnvelope, type Envelope } from '../assets/release.ts'
import { CatalogError } from '../base/errors.ts'
import type { RecordKey } from '../network/router.ts'
import { type ProveDeps, prove, refuseUnlessStanding } from './accept.ts'
import type { Head } from './resolve.ts'
import { hasExpired } from './standing.ts'

export interface DhtRecordsDeps {
  readonly proving: ProveDeps
  readonly catalogue: {
    head(publisher: string, name: string): Promise<Head | undefined>
    releaseBytes(id: string): Promise<Uint8Array | undefined>
    highestSeen(publisher: string, name: string): number
    noteSeen(publisher: string, name: string, sequence: number): void
    notice(key: string): Promise<Uint8Array | undefined>
  }
  /** Takes a trust document that belongs under this key of notices; `waiting`: nobody can tell yet. @throws CatalogError when it is another's, forged or old */
  readonly takeNotice: (key: string, value: Uint8Array) => Promise<unknown>
}

/** The cheapest check first: a record of another key costs no signature. @throws CatalogError as `accept`, and `stale-record` */
export async function validateRecord(deps: DhtRecordsDeps, key: RecordKey, value: Uint8Array): Promise<void> {
  if (key.kind === 'notice') return takeNotice(deps, key.notice, value)
  const envelope = decodeEnvelope(value)
  if (!belongsUnder(key, envelope))
    throw new CatalogError('bad-record', 'The record does not belong under its key.')
  const { statement } = envelope
  if (statement.type === 'head') {
    const { publisher, name, sequence, expiresAt } = statement
    if (expiresAt <= deps.proving.now()) throw expired(envelope, expiresAt)
    if (sequence < deps.catalogue.highestSeen(publisher, name))
      throw new CatalogError('stale-record', `A later head of ${name} is known.`)
  }
  await prove(deps.proving, envelope)
  if (statement.type !== 'head') return
  refuseUnlessStanding(deps.proving, envelope)
  // The number of a key that has had its day must not stand in the way of others.
  if (hasExpired(deps.proving.standing(envelope)))
    throw new CatalogError(
      'certificate-expired',
      `The head of ${statement.name} is refused: its certificate has expired.`,
      {
        id: envelope.id,
      },
    )
  deps.catalogue.noteSeen(statement.publisher, statement.name, statement.sequence)
}

/** Kept unproved, it would keep the true one out. */
async function takeNotice(deps: DhtRecordsDeps, key: string, value: Uint8Array): Promise<void> {
  if ((await deps.takeNotice(key, value)) !== 'waiting') return
  throw new CatalogError(
    'root-not-trusted',
    `The root ${key} is refused: the one before it is not known here yet.`,
  )
}

const expired = ({ statement, id }: Envelope, at: number) =>
  new CatalogError(
    'stale-record',
    `The head of ${statement.name} expired at ${new Date(at).toISOString()}; its publisher must sign it anew.`,
    { id },
  )

const belongsUnder = (key: Exclude<RecordKey, { kind: 'notice' }>, { statement, id }: Envelope): boolean =>
  key.kind === 'release'
    ? statement.type === 'release' && id === key.id
    : statement.type === 'head' && statement.publisher === key.publisher && statement.name === key.name

/**
 * Releases under one key are one release; of heads the highest number is best, and of trust documents that which
 * `noticeNumber` gives.
 */
export function selectRecord(
  key: RecordKey,
  values: readonly Uint8Array[],
  noticeNumber: (value: Uint8Array) => number = () => 0,
): number {
  if (key.kind === 'release') return 0
  const sequences = values.map(value => {
    if (key.kind === 'notice') return noticeNumber(value)
    const { statement } = decodeEnvelope(value)
    return statement.type === 'head' ? statement.sequence : 0
  })
  return sequences.indexOf(Math.max(...sequences))
}

/** The record as it is here now; undefined when there is none any more. */
export async function recordUnder(
  {
    catalogue,
  }: { readonly catalogue: Pick<DhtRecordsDeps['catalogue'], 'head' | 'releaseBytes' | 'notice'> },
  key: RecordKey,
): Promise<Uint8Array | undefined> {
  if (key.kind === 'release') return catalogue.releaseBytes(key.id)
  if (key.kind === 'notice') return catalogue.notice(key.notice)
  return (await catalogue.head(key.publisher, key.name))?.bytes
}
