// When one head of a name may follow another (after TUF, https://theupdateframework.github.io/specification/latest/):
// numbers only rise, each follows from the one before it, and what was once listed stays listed, unchanged or revoked;
// yanks and deprecations come and go, a revoked version stays revoked. And when a contradiction between heads is over.
import type { Equivocation } from '../assets/equivocation.ts'
import { type Envelope, type HeadStatement, type ListedVersion, signingKeyOf } from '../assets/release.ts'
import { equalBytes } from '../base/cbor.ts'
import type { CidText } from '../base/cid.ts'
import { CatalogError, type ErrorCode } from '../base/errors.ts'

export type Head = Envelope<HeadStatement>

/** The part of a head that stays in memory. */
export interface HeadEntry {
  readonly id: CidText
  readonly sequence: number
  /** Bytes of the envelope. */
  readonly bytes: number
}

/**
 * Why `next` may not replace `current`, both of one publisher and name; undefined when it may. `twins` are the heads
 * that are proved to have been signed under the number of `current` besides: what follows one may follow here too.
 */
export function checkSuccession(
  current: Head,
  next: Head,
  twins: readonly Head[] = [],
): CatalogError | undefined {
  const [old, young] = [current.statement, next.statement]
  if (young.sequence < old.sequence)
    return new CatalogError(
      'stale-record',
      `Head ${young.sequence} of ${young.name} is refused: head ${old.sequence} is known.`,
      { known: current.id, sequence: old.sequence },
    )
  if (young.sequence === old.sequence) return sameNumber(current, next)
  if (young.sequence === old.sequence + 1 && ![current, ...twins].some(({ id }) => id === young.previous))
    return refusal(
      'head-fork',
      next,
      `it follows ${young.previous}, but head ${old.sequence} is ${current.id}`,
      {
        known: current.id,
      },
    )
  const fault = whatItLoses(current, next)
  return fault === undefined ? undefined : refusal(fault.code, next, fault.why, { version: fault.version })
}

/** Whether everything that one head lists is in another as well, unchanged or revoked. */
export const keepsAllOf = (before: Head, after: Head): boolean => whatItLoses(before, after) === undefined

function whatItLoses(before: Head, after: Head) {
  const listed = new Map(after.statement.versions.map(item => [item.version, item]))
  for (const item of before.statement.versions) {
    const fault = faultOf(item, listed.get(item.version))
    if (fault !== undefined) return { ...fault, version: item.version }
  }
  return undefined
}

function sameNumber(current: Head, next: Head): CatalogError {
  // Signed twice, and no contradiction: one of the two envelopes is enough.
  if (equalBytes(current.statementBytes, next.statementBytes))
    return new CatalogError('stale-record', `This head of ${next.statement.name} is known already.`, {
      known: current.id,
    })
  return refusal('equivocation', next, 'another head has the same number', {
    kept: current.id,
    refused: next.id,
  })
}

// Of a revoked version it does not matter which release it was: where two were signed under one version, neither is good.
function faultOf(before: ListedVersion, after: ListedVersion | undefined) {
  const { version } = before
  const fault = (code: ErrorCode, why: string) => ({ code, why })
  if (after === undefined) return fault('head-delisted', `it no longer lists ${version}`)
  if (after.revoked !== undefined) return undefined
  if (after.id !== before.id) return fault('head-replaced', `it lists another release as ${version}`)
  if (before.revoked !== undefined)
    return fault('head-replaced', `${version} is revoked and it lists it as good`)
  return undefined
}

/**
 * Whether a head ends the hold-up after an equivocation: it comes later, lists everything that both listed (what they
 * contradict each other about as revoked), and where one key signed both it is signed by another. Two machines of one
 * publisher that raced are healed by either.
 */
export function lifts({ sequence, heads }: Equivocation, head: Head): boolean {
  if (head.statement.sequence <= sequence) return false
  const [one, other] = heads
  const [key, otherKey] = [signingKeyOf(one), signingKeyOf(other)]
  if (equalBytes(key, otherKey) && equalBytes(key, signingKeyOf(head))) return false
  return keepsAllOf(one, head) && keepsAllOf(other, head)
}

const refusal = (code: ErrorCode, { statement }: Head, why: string, data: Record<string, unknown>) =>
  new CatalogError(
    code,
    `Head ${statement.sequence} of ${statement.name} by ${statement.publisher} is refused: ${why}. The known head is kept.`,
    data,
  )
