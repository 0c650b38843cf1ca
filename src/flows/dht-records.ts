// What the DHT may keep for others, or be believed for: a proved record under its own key, and no head older than one
// that is known here. Whatever passes is still only a hint: what enters the catalogue goes through accept.
import { decodeEnvelope, type Envelope } from '../assets/release.ts'
import { CatalogError } from '../base/errors.ts'
import type { RecordKey } from '../network/router.ts'
import { type AcceptDeps, prove } from './accept.ts'
import type { Head } from './resolve.ts'

export interface DhtRecordsDeps {
  readonly proving: Omit<AcceptDeps, 'catalogue'>
  readonly catalogue: {
    head(publisher: string, name: string): Promise<Head | undefined>
    releaseBytes(id: string): Promise<Uint8Array | undefined>
  }
}

/** The cheapest check first: a record of another key costs no signature. @throws CatalogError as `accept`, and `stale-record` */
export async function validateRecord(deps: DhtRecordsDeps, key: RecordKey, value: Uint8Array): Promise<void> {
  if (!belongsUnder(key, decodeEnvelope(value)))
    throw new CatalogError('bad-record', 'The record does not belong under its key.')
  const { statement } = await prove(deps.proving, value)
  if (statement.type !== 'head') return
  const known = await deps.catalogue.head(statement.publisher, statement.name)
  if (known !== undefined && known.statement.sequence > statement.sequence)
    throw new CatalogError('stale-record', `A later head of ${statement.name} is known.`)
}

const belongsUnder = (key: RecordKey, { statement, id }: Envelope): boolean =>
  key.kind === 'release'
    ? statement.type === 'release' && id === key.id
    : statement.type === 'head' && statement.publisher === key.publisher && statement.name === key.name

/** Releases under one key are one release; of heads the highest number is best. */
export function selectRecord(key: RecordKey, values: readonly Uint8Array[]): number {
  if (key.kind === 'release') return 0
  const sequences = values.map(value => {
    const { statement } = decodeEnvelope(value)
    return statement.type === 'head' ? statement.sequence : 0
  })
  return sequences.indexOf(Math.max(...sequences))
}

/** The record as it is here now; undefined when there is none any more. */
export async function recordUnder(
  { catalogue }: Pick<DhtRecordsDeps, 'catalogue'>,
  key: RecordKey,
): Promise<Uint8Array | undefined> {
  if (key.kind === 'release') return catalogue.releaseBytes(key.id)
  return (await catalogue.head(key.publisher, key.name))?.bytes
}
