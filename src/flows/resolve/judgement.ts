// Whether a release that is known here may be installed, by what its publisher's newest head says of it and what that
// head is worth now. Pure looking: nothing is asked of anybody.
import { highestVersion, isSemanticVersion } from '../../assets/name.ts'
import type { ListedVersion } from '../../assets/release.ts'
import { CatalogError } from '../../base/errors.ts'
import type { Head, Release, ResolveDeps, ResolveOptions } from '../resolve.ts'
import { headStanding } from '../standing.ts'

export interface Judgement {
  readonly release: Release
  /** What whoever takes it should know. */
  readonly warnings: readonly string[]
  /** Good, as far as one can tell: since when one cannot (ms since 1970), and why. */
  readonly stale?: { readonly since: number; readonly why: string }
  /** Why it may not be installed. */
  readonly refusal?: CatalogError
}

/** The publisher that the user names, or that the operator has pinned. */
const publisherOf = ({ pins }: ResolveDeps, name: string, { publisher }: ResolveOptions) =>
  publisher ?? (Object.hasOwn(pins, name) ? pins[name] : undefined)

/** The heads of a name that count for this question. */
export async function headsFor(deps: ResolveDeps, name: string, options: ResolveOptions): Promise<Head[]> {
  const publisher = publisherOf(deps, name, options)
  const heads = await deps.catalogue.headsOf(name)
  return heads.filter(
    ({ statement }) =>
      (publisher === undefined || statement.publisher === publisher) && statement.versions.length > 0,
  )
}

/** The highest that may be chosen: a yanked one only where its exact version is named, a revoked one never. */
export function chooseVersion(versions: readonly ListedVersion[], range: string): ListedVersion | undefined {
  const isExact = isSemanticVersion(range)
  const good = versions.filter(
    ({ yanked, revoked }) => revoked === undefined && (isExact || yanked === undefined),
  )
  return highestVersion(good, range)
}

export async function judge(deps: ResolveDeps, release: Release): Promise<Judgement> {
  const { publisher, name, version } = release.statement
  const head = await deps.catalogue.head(publisher, name)
  const item = head?.statement.versions.find(each => each.version === version)
  const isListed = item?.id === release.id
  // Whichever release it was under this version.
  if (item?.revoked !== undefined) return { release, warnings: [], refusal: revoked(name, item) }
  const [proof] = await deps.catalogue.contradictions(publisher, name)
  if (proof !== undefined) return { release, warnings: [], refusal: heldBack(name, proof) }
  if (head === undefined || !isListed)
    return { release, warnings: [], refusal: notListed(deps, release, head) }
  const standing = await headStanding(deps, head)
  if (standing.state === 'refused')
    return {
      release,
      warnings: [],
      refusal: new CatalogError(
        standing.code,
        `${name}@${version} cannot be taken on the word of its publisher any more: ${sentence(standing.why)}`,
        { id: release.id, publisher },
      ),
    }
  const stale =
    standing.state === 'stale' ? { stale: { since: standing.since, why: sentence(standing.why) } } : {}
  return { release, warnings: warningsOf(name, item, head), ...stale }
}

function warningsOf(name: string, { version, yanked }: ListedVersion, { statement }: Head): string[] {
  return [
    ...(yanked === undefined ? [] : [`${name}@${version} was yanked by its publisher: ${sentence(yanked)}`]),
    ...(statement.deprecated === undefined
      ? []
      : [`${name} is deprecated by its publisher: ${sentence(statement.deprecated)}`]),
  ]
}

const sentence = (text: string): string => (/[.!?]$/.test(text) ? text : `${text}.`)

export const revoked = (name: string, { version, id, revoked: reason = '' }: ListedVersion) =>
  new CatalogError(
    'release-revoked',
    `${name}@${version} was revoked by its publisher and is not installed any more: ${sentence(reason)} Take another version; "catalog show ${name}" lists them.`,
    { id, name, version, reason },
  )

export const heldBack = (
  name: string,
  proof: {
    readonly publisher: string
    readonly sequence: number
    readonly heads: readonly Head[]
    readonly id: string
  },
) => {
  const heads = proof.heads.map(({ id }) => id)
  return new CatalogError(
    'equivocation',
    `${name} by ${proof.publisher} is held back: its publisher signed two different heads under number ${proof.sequence}, ${heads.join(' and ')}, so one cannot know which of them holds. Wait for a later head that puts it right, or ask the publisher; the proof is ${proof.id}.`,
    { name, publisher: proof.publisher, sequence: proof.sequence, heads, proof: proof.id },
  )
}

function notListed(deps: ResolveDeps, release: Release, head: Head | undefined): CatalogError {
  const { id, statement } = release
  const { publisher, name, version } = statement
  const standing = deps.standing(release)
  // Where the head went with its certificate, that is what to tell.
  if (standing.state === 'refused' && standing.code === 'certificate-revoked')
    return new CatalogError(
      'certificate-revoked',
      `The release ${id} (${name}@${version}) is not installed: ${sentence(standing.why)}`,
      { id, name, version, publisher },
    )
  const why =
    head === undefined
      ? `no head of ${name} by ${publisher} is known here or to any peer that answered`
      : `the newest known head of ${name} (number ${head.statement.sequence}) does not list it`
  return new CatalogError(
    'not-listed',
    `The release ${id} (${name}@${version}) is not installed: ${why}, so its publisher may have taken it back.`,
    { id, name, version, publisher },
  )
}
