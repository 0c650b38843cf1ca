// When one head of a name may follow another (after TUF, https://theupdateframework.github.io/specification/latest/):
// numbers only rise, each follows from the one before it, and what was once listed stays listed, unchanged.
import type { Envelope, HeadStatement } from '../assets/release.ts'
import type { CidText } from '../base/cid.ts'
import { CatalogError } from '../base/errors.ts'

/** The part of a head that stays in memory. */
export interface HeadEntry {
  readonly id: CidText
  readonly sequence: number
  /** Bytes of the envelope. */
  readonly bytes: number
}

/** Why `next` may not replace `current`, both of one publisher and name; undefined when it may. */
export function checkSuccession(
  current: Envelope<HeadStatement>,
  next: Envelope<HeadStatement>,
): CatalogError | undefined {
  const [old, young] = [current.statement, next.statement]
  if (young.sequence < old.sequence)
    return new CatalogError(
      'stale-record',
      `Head ${young.sequence} of ${young.name} is refused: head ${old.sequence} is known.`,
      { known: current.id, sequence: old.sequence },
    )
  if (young.sequence === old.sequence)
    return refusal(next, `another head has the same number`, {
      equivocation: true,
      kept: current.id,
      refused: next.id,
    })
  if (young.sequence === old.sequence + 1 && young.previous !== current.id)
    return refusal(next, `it follows ${young.previous}, but head ${old.sequence} is ${current.id}`, {
      fork: true,
      known: current.id,
    })
  const listed = new Map(young.versions.map(({ version, id }) => [version, id]))
  for (const { version, id } of old.versions) {
    if (!listed.has(version)) return refusal(next, `it no longer lists ${version}`, { delisted: version })
    if (listed.get(version) !== id)
      return refusal(next, `it lists another release as ${version}`, { replaced: version })
  }
  return undefined
}

const refusal = ({ statement }: Envelope<HeadStatement>, why: string, data: Record<string, unknown>) =>
  new CatalogError(
    'bad-record',
    `Head ${statement.sequence} of ${statement.name} by ${statement.publisher} is refused: ${why}. The known head is kept.`,
    data,
  )
