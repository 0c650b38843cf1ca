// resolve: from what a user wrote to one release that may be installed. This node is asked first, then the DHT, then
// connected peers; a version counts only where its publisher's current head lists it.
//
//   Ref -heads of the name-> -publisher-> -highest version in range-> release id -record-> Release -judge-> Resolution
//
// What is here already can be read on, with a warning, where its head is old or gone; what was revoked cannot.

import type { Equivocation } from '../assets/equivocation.ts'
import { highestVersion, isSemanticVersion, parseRef, type Ref } from '../assets/name.ts'
import type { Envelope, FreshnessStatement, HeadStatement, ReleaseStatement } from '../assets/release.ts'
import { CatalogError, type ErrorCode } from '../base/errors.ts'
import type { CallOptions } from '../base/lifecycle.ts'
import type { Log } from '../base/log.ts'
import type { Router } from '../network/router.ts'
import { chooseVersion, headsFor, heldBack, type Judgement, judge, revoked } from './resolve/judgement.ts'
import { comparePinned, searchCid, searchName } from './resolve/network-search.ts'
import { hasExpired, headStanding, type StandingOf } from './standing.ts'

export type Release = Envelope<ReleaseStatement>
export type Head = Envelope<HeadStatement>

export interface ResolveDeps {
  readonly catalogue: {
    release(id: string): Promise<Release | undefined>
    head(publisher: string, name: string): Promise<Head | undefined>
    headsOf(name: string): Promise<readonly Head[]>
    freshness(publisher: string, name: string): Promise<Envelope<FreshnessStatement> | undefined>
    contradictions(publisher: string, name: string): Promise<readonly Equivocation[]>
    releasesByRoot(root: string): readonly {
      readonly id: string
      readonly publisher: string
      readonly name: string
      readonly signedAt: number
    }[]
    /** Lets a record that was forgotten by "remove" in again: somebody asks for it by name. */
    remember(id: string): Promise<void>
  }
  readonly router: Router
  readonly peers: () => readonly string[]
  /** Connected peers whose answers every other is compared with. */
  readonly pinnedPeers: () => readonly string[]
  /** Brings records of a peer through the accept flow. */
  readonly ask: (
    peer: string,
    question: { ids: string[] } | { name: string } | { root: string },
    options: CallOptions,
  ) => Promise<void>
  readonly accept: (bytes: Uint8Array) => Promise<unknown>
  readonly now: () => number
  readonly standing: StandingOf
  /** Whether all of a content is on this node. */
  readonly isHere: (root: string) => Promise<boolean>
  /** Publisher by name, where the operator has pinned one. */
  readonly pins: Readonly<Record<string, string>>
  readonly log: Log
}

export interface ResolveOptions extends CallOptions {
  /** Only this publisher's release. */
  readonly publisher?: string | undefined
  /** Take what a stale head lists, too. */
  readonly allowStale?: boolean | undefined
  /** `look`: to show or remove it, so whatever is known will do; what speaks against it is a warning. */
  readonly purpose?: 'install' | 'look'
  /** Where what is known here would do, ask nobody for anything newer. */
  readonly asKnown?: boolean
}

export interface Resolution {
  readonly release: Release
  /** Sentences for whoever asked. */
  readonly warnings: readonly string[]
  /** Set where nobody can say whether it still holds: since when (ms since 1970). */
  readonly stale?: { readonly since: number }
}

/** How long the network is asked; and where what is known would do, for something newer. */
const searchMs = 8_000
const refreshMs = 2_000

/** As `resolution`, for whoever has nobody to warn. */
export async function resolve(
  deps: ResolveDeps,
  text: string,
  options: ResolveOptions = {},
): Promise<Release> {
  return (await resolution(deps, text, options)).release
}

/**
 * @throws CatalogError `invalid-ref`, `not-found` (with the versions that exist), `ambiguous-name` (with the publishers),
 *   `not-listed`, `stale-head`, `equivocation`, `release-revoked`, and what is wrong with the chain of its head
 */
export async function resolution(
  deps: ResolveDeps,
  text: string,
  options: ResolveOptions = {},
): Promise<Resolution> {
  const ref = parseRef(text)
  const here = () =>
    ref.kind === 'cid' ? byCid(deps, ref.cid, options) : byName(deps, ref.name, ref.range, options)
  const known = await here()
  if (known !== undefined && (isGood(known) || options.purpose === 'look' || isFinal(known)))
    return settle(deps, ref, known, options)
  const wouldDo = known !== undefined && (await canDo(deps, ref, known, options))
  if (wouldDo && options.asKnown === true) return settle(deps, ref, known, options)
  const found = (await searchFor(deps, ref, here, wouldDo ? refreshMs : searchMs, options)) ?? (await here())
  options.signal?.throwIfAborted()
  if (found === undefined) throw await notFound(deps, text, options)
  return settle(deps, ref, found, options)
}

/** The first answer with which nothing is wrong. */
async function searchFor(
  deps: ResolveDeps,
  ref: Ref,
  here: () => Promise<Judgement | undefined>,
  timeoutMs: number,
  options: ResolveOptions,
): Promise<Judgement | undefined> {
  const ended = new AbortController()
  const signals = [
    ended.signal,
    AbortSignal.timeout(timeoutMs),
    ...(options.signal === undefined ? [] : [options.signal]),
  ]
  const wanted = { signal: AbortSignal.any(signals), publisher: options.publisher }
  const search =
    ref.kind === 'cid' ? searchCid(deps, ref.cid, wanted) : searchName(deps, ref.name, ref.range, wanted)
  try {
    for await (const _ of search) {
      const found = await here()
      if (found === undefined || !isGood(found)) continue
      await comparePinned(deps, found.release.statement, ref.kind === 'name' ? ref.range : '*', wanted)
      const compared = await here()
      if (compared !== undefined && isGood(compared)) return compared
    }
  } finally {
    ended.abort(new CatalogError('cancelled', 'The search has ended.'))
  }
  return undefined
}

const isGood = ({ refusal, stale }: Judgement): boolean => refusal === undefined && stale === undefined
/** No later head undoes it. */
const isFinal = ({ refusal }: Judgement): boolean => refusal?.code === 'release-revoked'

/** What is wrong with a release that is here already does not keep it from being read, unless it was taken back. */
const readable: ReadonlySet<ErrorCode> = new Set(['not-listed', 'equivocation', 'certificate-expired'])

async function canDo(
  deps: ResolveDeps,
  ref: Ref,
  { release, refusal, stale }: Judgement,
  { allowStale }: ResolveOptions,
): Promise<boolean> {
  if (refusal === undefined && (stale === undefined || allowStale === true)) return true
  // Which of two contradicting lists a name means, nobody can say; a release id means one release.
  const isReadable =
    refusal === undefined ||
    (readable.has(refusal.code) && (ref.kind === 'cid' || refusal.code !== 'equivocation'))
  return isReadable && deps.isHere(release.statement.root)
}

/** What is known, as an answer or as an error. */
async function settle(
  deps: ResolveDeps,
  ref: Ref,
  judgement: Judgement,
  options: ResolveOptions,
): Promise<Resolution> {
  const { release, refusal, stale, warnings } = judgement
  if (options.purpose !== 'look' && !(await canDo(deps, ref, judgement, options)))
    throw refusal ?? staleHead(judgement)
  const trouble = refusal?.message ?? stale?.why
  return {
    release,
    warnings: [...warnings, ...(trouble === undefined ? [] : [trouble])],
    ...(stale === undefined ? {} : { stale: { since: stale.since } }),
  }
}

function staleHead({ release, stale }: Judgement): CatalogError {
  const { name, version } = release.statement
  const since = new Date(stale?.since ?? 0).toISOString()
  return new CatalogError(
    'stale-head',
    `${name}@${version} is not installed: ${stale?.why} It may have been taken back since. Connect to more nodes, or take it all the same with --allow-stale.`,
    { id: release.id, name, version, since },
  )
}

async function byCid(
  deps: ResolveDeps,
  cid: string,
  options: ResolveOptions,
): Promise<Judgement | undefined> {
  const release = await deps.catalogue.release(cid)
  if (release !== undefined) return judge(deps, release)
  // One content may be several releases; of those that may be installed the newest speaks for it.
  const newestFirst = deps.catalogue
    .releasesByRoot(cid)
    .filter(({ publisher }) => options.publisher === undefined || publisher === options.publisher)
    .toSorted((a, b) => b.signedAt - a.signedAt)
  let best: Judgement | undefined
  for (const { id } of newestFirst) {
    const candidate = await deps.catalogue.release(id)
    const judgement = candidate === undefined ? undefined : await judge(deps, candidate)
    if (judgement !== undefined && isGood(judgement)) return judgement
    if (best === undefined || (best.refusal !== undefined && judgement?.refusal === undefined))
      best = judgement ?? best
  }
  return best
}

async function byName(
  deps: ResolveDeps,
  name: string,
  range: string,
  options: ResolveOptions,
): Promise<Judgement | undefined> {
  const all = await headsFor(deps, name, options)
  const standings = await Promise.all(all.map(head => headStanding(deps, head)))
  const standing = all.filter((_, at) => standings[at]?.state !== 'refused')
  // Whoever held the name until a certificate expired has no say beside those who hold it now.
  const holding = standing.filter(head => !hasExpired(deps.standing(head)))
  const heads = [holding, standing, all].find(some => some.length > 0) ?? []
  if (heads.length > 1) throw ambiguous(name, heads)
  const [head] = heads
  if (head === undefined) return undefined
  const { versions } = head.statement
  const chosen = chooseVersion(versions, range)
  const item = chosen ?? highestVersion(versions, range)
  if (item === undefined) return undefined
  const release = await deps.catalogue.release(item.id)
  if (chosen === undefined && options.purpose !== 'look') {
    // No later head undoes it; a range may match something newer.
    if (item.revoked !== undefined && isSemanticVersion(range)) throw revoked(name, item)
    return undefined
  }
  if (release === undefined) {
    await deps.catalogue.remember(item.id)
    return undefined
  }
  refuseMixed(head, item.version, release)
  return judge(deps, release)
}

// A head that lists another's release, or another version of its own, would let its publisher pass one for the other.
function refuseMixed({ statement: head }: Head, version: string, { id, statement }: Release): void {
  if (statement.publisher === head.publisher && statement.name === head.name && statement.version === version)
    return
  throw new CatalogError(
    'bad-record',
    `The head of ${head.name} by ${head.publisher} lists as ${version} what is ${statement.name}@${statement.version} by ${statement.publisher}; its publisher made it wrong.`,
    { id },
  )
}

const ambiguous = (name: string, heads: readonly Head[]) => {
  const publishers = heads.map(head => head.statement.publisher).sort()
  return new CatalogError(
    'ambiguous-name',
    `Several publishers hold the name ${name}: ${publishers.join(', ')}. Name one with --publisher, or pin it in config.yaml under publishers.pins.`,
    { name, publishers },
  )
}

async function notFound(deps: ResolveDeps, text: string, options: ResolveOptions): Promise<CatalogError> {
  const ref = parseRef(text)
  const next = 'Check the spelling, and "catalog peers" for who can be asked.'
  if (ref.kind === 'cid')
    return new CatalogError(
      'not-found',
      `No release ${text} is known here or to any peer that answered. ${next}`,
      { ref: text },
    )
  const heads = await headsFor(deps, ref.name, options)
  for (const { statement } of heads) {
    const [proof] = await deps.catalogue.contradictions(statement.publisher, ref.name)
    if (proof !== undefined) return heldBack(ref.name, proof)
  }
  const listed = heads.flatMap(head => head.statement.versions)
  const versions = listed.filter(({ revoked }) => revoked === undefined).map(({ version }) => version)
  const known = versions.length > 0 ? ` Versions that exist: ${versions.slice(-10).join(', ')}.` : ''
  const yanked = highestVersion(
    listed.filter(item => item.yanked !== undefined && item.revoked === undefined),
    ref.range,
  )
  const gone = highestVersion(listed, ref.range)
  if (gone?.revoked !== undefined && yanked === undefined) return revoked(ref.name, gone)
  const hint =
    yanked === undefined || isSemanticVersion(ref.range)
      ? ''
      : ` ${yanked.version} would match and was yanked (${yanked.yanked}); it can be had by its exact version, ${ref.name}@${yanked.version}.`
  return new CatalogError(
    'not-found',
    `No release matches ${text} here or at any peer that answered.${known}${hint} ${next}`,
    { ref: text, versions },
  )
}
