// What is said of a release besides the release: by its publisher's newest head, and by what that is worth now. For lists
// and searches; whether it may be installed is resolve's to say.
import type { Equivocation } from '../assets/equivocation.ts'
import type { Head } from './resolve.ts'
import { type HeadStandingDeps, headStanding, type Standing } from './standing.ts'

export interface MarksDeps extends HeadStandingDeps {
  readonly catalogue: HeadStandingDeps['catalogue'] & {
    head(publisher: string, name: string): Promise<Head | undefined>
    contradictions(publisher: string, name: string): Promise<readonly Equivocation[]>
  }
}

export interface Marks {
  /** Why. */
  readonly yanked?: string
  readonly revoked?: string
  readonly deprecated?: string
  /** Since when nobody can say whether it still holds, ISO 8601. */
  readonly stale?: string
  /** No head that holds lists it. */
  readonly unlisted?: true
  /** Its publisher contradicted itself. */
  readonly heldBack?: true
}

/** What is said of the head of one name, looked up once for a whole list. */
interface HeadFacts {
  readonly head: Head | undefined
  readonly standing: Standing | undefined
  readonly isHeldBack: boolean
}

/** A view of many releases; good for one list, made anew for the next. */
export function marksReader(
  deps: MarksDeps,
): (release: {
  readonly id: string
  readonly publisher: string
  readonly name: string
  readonly version: string
}) => Promise<Marks> {
  const facts = new Map<string, Promise<HeadFacts>>()
  const factsOf = (publisher: string, name: string): Promise<HeadFacts> => {
    const key = `${publisher}/${name}`
    const known = facts.get(key) ?? readFacts(deps, publisher, name)
    facts.set(key, known)
    return known
  }
  return async ({ id, publisher, name, version }) => {
    const { head, standing, isHeldBack } = await factsOf(publisher, name)
    const item = head?.statement.versions.find(each => each.version === version)
    const isListed = item?.id === id && standing?.state !== 'refused'
    return {
      ...(item?.id === id && item.yanked !== undefined ? { yanked: item.yanked } : {}),
      ...(item?.revoked === undefined ? {} : { revoked: item.revoked }),
      ...(head?.statement.deprecated === undefined ? {} : { deprecated: head.statement.deprecated }),
      ...(standing?.state === 'stale' ? { stale: new Date(standing.since).toISOString() } : {}),
      ...(isListed ? {} : { unlisted: true }),
      ...(isHeldBack ? { heldBack: true } : {}),
    }
  }
}

async function readFacts(deps: MarksDeps, publisher: string, name: string): Promise<HeadFacts> {
  const head = await deps.catalogue.head(publisher, name)
  return {
    head,
    standing: head === undefined ? undefined : await headStanding(deps, head),
    isHeldBack: (await deps.catalogue.contradictions(publisher, name)).length > 0,
  }
}
