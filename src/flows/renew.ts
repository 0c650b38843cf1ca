// renew: keeps this publisher's heads from expiring, so that what was published stays good for as long as one of its
// nodes runs now and then. A node that may publish signs the head anew; one that may only freshen says that it is still
// the newest. Nothing else in it changes.
import type { Envelope, FreshnessStatement } from '../assets/release.ts'
import type { Verified } from '../assets/stage.ts'
import { addNextHead, type HeadDraft, headLifetimeMs, type NextHeadDeps } from './next-head.ts'

export interface RenewDeps extends NextHeadDeps {
  readonly catalogue: NextHeadDeps['catalogue'] & {
    list(): readonly { readonly publisher: string; readonly name: string }[]
    freshness(publisher: string, name: string): Promise<Envelope<FreshnessStatement> | undefined>
    addFreshness(envelope: Verified<Envelope<FreshnessStatement>>): Promise<unknown>
  }
  /** What this node's certificate lets it sign for a name of the publisher; undefined: nothing. */
  readonly signs: (name: string) => 'head' | 'freshness' | undefined
  readonly announceHead: (publisher: string, name: string) => Promise<void>
}

/** Half of a head's life: a node that runs once in two weeks keeps its names. */
const renewBeforeMs = headLifetimeMs / 2

/** Resolves to the number of heads that were renewed. */
export async function renewHeads(deps: RenewDeps): Promise<number> {
  const own = deps.catalogue.list().filter(({ publisher }) => publisher === deps.publisher)
  let renewed = 0
  for (const name of new Set(own.map(release => release.name)))
    if (await deps.exclusively(name, () => renew(deps, name))) renewed += 1
  return renewed
}

async function renew(deps: RenewDeps, name: string): Promise<boolean> {
  const signs = deps.signs(name)
  if (signs === undefined || !(await isOld(deps, name, signs))) return false
  // Another of the publisher's machines may have been faster.
  await deps.askPeers(name, {})
  if (!(await isOld(deps, name, signs))) return false
  if (signs === 'freshness') return freshen(deps, name)
  const next = await addNextHead(deps, name, (draft: HeadDraft) => draft)
  if (next !== undefined) await deps.announceHead(deps.publisher, name)
  return next !== undefined
}

/** A head that is kept alive by freshness statements is signed anew all the same: the DHT knows only heads. */
async function isOld(deps: RenewDeps, name: string, signs: 'head' | 'freshness'): Promise<boolean> {
  const head = await deps.catalogue.head(deps.publisher, name)
  if (head === undefined) return false
  const fresh = signs === 'freshness' ? await deps.catalogue.freshness(deps.publisher, name) : undefined
  const expiry = Math.max(head.statement.expiresAt, fresh?.statement.expiresAt ?? 0)
  return expiry - deps.now() <= renewBeforeMs
}

/** Signs that the current head is still the newest; false where that is in doubt. */
async function freshen(deps: RenewDeps, name: string): Promise<boolean> {
  const { network, publisher, catalogue } = deps
  const head = await catalogue.head(publisher, name)
  if (head === undefined || (await catalogue.contradictions(publisher, name)).length > 0) return false
  const signedAt = deps.now()
  const statement = await deps.seal<FreshnessStatement>({
    ...{ type: 'freshness', network, publisher, name },
    ...{ head: head.id, sequence: head.statement.sequence },
    ...{ signedAt, expiresAt: signedAt + headLifetimeMs },
  })
  return (await catalogue.addFreshness(statement)) === 'added'
}
