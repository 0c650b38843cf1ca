// renew: signs this publisher's heads anew before they expire, so that what was published stays good for as long as
// its publisher's node runs now and then. Nothing in them changes but their number and their dates.
import type { Envelope, HeadStatement, Statement } from '../assets/release.ts'
import type { Verified } from '../assets/stage.ts'
import { headLifetimeMs } from './publish.ts'
import type { Head } from './resolve.ts'

export interface RenewDeps {
  readonly publisher: string
  readonly now: () => number
  readonly seal: <S extends Statement>(statement: S) => Promise<Verified<Envelope<S>>>
  readonly catalogue: {
    list(): readonly { readonly publisher: string; readonly name: string }[]
    head(publisher: string, name: string): Promise<Head | undefined>
    addHead(envelope: Verified<Envelope<HeadStatement>>): Promise<unknown>
  }
  readonly announceHead: (publisher: string, name: string) => Promise<void>
  readonly exclusively: <T>(name: string, work: () => Promise<T>) => Promise<T>
}

/** Half of a head's life: a node that runs once in two weeks keeps its names. */
const renewBeforeMs = headLifetimeMs / 2

/** Resolves to the number of heads that were renewed. */
export async function renewHeads(deps: RenewDeps): Promise<number> {
  const own = deps.catalogue.list().filter(({ publisher }) => publisher === deps.publisher)
  let renewed = 0
  for (const name of new Set(own.map(release => release.name)))
    if (await deps.exclusively(name, () => renewHead(deps, name))) renewed += 1
  return renewed
}

async function renewHead(deps: RenewDeps, name: string): Promise<boolean> {
  const head = await deps.catalogue.head(deps.publisher, name)
  if (head === undefined || head.statement.expiresAt - deps.now() > renewBeforeMs) return false
  const { sequence } = head.statement
  const signedAt = deps.now()
  const next = await deps.seal<HeadStatement>({
    ...head.statement,
    sequence: sequence + 1,
    previous: head.id,
    signedAt,
    expiresAt: signedAt + headLifetimeMs,
  })
  await deps.catalogue.addHead(next)
  await deps.announceHead(deps.publisher, name)
  return true
}
