// What a head is worth at this time: its chain (trust's to say), its own life, and what extends it. A release counts
// where a current head lists it; a stale head still tells what there was.
import type { Envelope, FreshnessStatement } from '../assets/release.ts'
import type { Standing } from '../trust/trust-chain.ts'
import type { Head } from './resolve.ts'

export type { Standing }

/**
 * Whether an envelope's chain is valid now, nothing in it revoked, and this node not cut off from the news of it.
 * `expired`: stale because a certificate of the chain has had its day.
 */
export type StandingOf = (envelope: Envelope) => Standing

export const hasExpired = (standing: Standing): boolean =>
  standing.state === 'stale' && standing.expired === true

export interface HeadStandingDeps {
  readonly now: () => number
  readonly standing: StandingOf
  readonly catalogue: {
    freshness(publisher: string, name: string): Promise<Envelope<FreshnessStatement> | undefined>
  }
}

export async function headStanding(deps: HeadStandingDeps, head: Head): Promise<Standing> {
  const standing = deps.standing(head)
  if (standing.state === 'refused') return standing
  const expiry = await expiryOf(deps, head)
  if (expiry > deps.now()) return standing
  const { name, sequence } = head.statement
  const why = `The newest known head of ${name} (number ${sequence}) expired at ${new Date(expiry).toISOString()}, and nothing newer came.`
  // The older trouble is the one to tell.
  return standing.state === 'stale' && standing.since <= expiry
    ? standing
    : { state: 'stale', why, since: expiry }
}

/** When the head is old news: its own expiry, or what a freshness statement that holds makes of it. */
async function expiryOf({ catalogue, standing }: HeadStandingDeps, { id, statement }: Head): Promise<number> {
  const fresh = await catalogue.freshness(statement.publisher, statement.name)
  if (fresh?.statement.head !== id) return statement.expiresAt
  // Nor by a key that has had its day: whoever has it can backdate.
  const state = standing(fresh)
  if (state.state === 'refused' || hasExpired(state)) return statement.expiresAt
  return Math.max(statement.expiresAt, fresh.statement.expiresAt)
}
