// resolve: from what a user wrote to one release. This node is asked first, then the DHT, then connected peers;
// names start from heads, so a version counts only where its publisher's current head lists it.
//
//   Ref -heads of the name-> -publisher-> -highest version in range-> release id -record-> Release

import { highestVersion, parseRef } from '../assets/name.ts'
import type { Envelope, HeadStatement, ReleaseStatement } from '../assets/release.ts'
import { cidOf } from '../base/cid.ts'
import { withTimeout } from '../base/deadline.ts'
import { CatalogError, type ErrorCode, isCatalogError } from '../base/errors.ts'
import type { CallOptions } from '../base/lifecycle.ts'
import type { Log } from '../base/log.ts'
import type { Router } from '../network/router.ts'

export type Release = Envelope<ReleaseStatement>
export type Head = Envelope<HeadStatement>

export interface ResolveDeps {
  readonly catalogue: {
    release(id: string): Promise<Release | undefined>
    headsOf(name: string): Promise<readonly Head[]>
    releasesByRoot(
      root: string,
    ): readonly { readonly id: string; readonly publisher: string; readonly signedAt: number }[]
    /** Lets a record that was forgotten by "remove" in again: somebody asks for it by name. */
    remember(id: string): Promise<void>
  }
  readonly router: Router
  readonly peers: () => readonly string[]
  /** Brings records of a peer through the accept flow. */
  readonly ask: (
    peer: string,
    question: { ids: string[] } | { name: string } | { root: string },
    options: CallOptions,
  ) => Promise<void>
  readonly accept: (bytes: Uint8Array) => Promise<unknown>
  /** Publisher by name, where the operator has pinned one. */
  readonly pins: Readonly<Record<string, string>>
  readonly log: Log
}

export interface ResolveOptions extends CallOptions {
  /** Only this publisher's release. */
  readonly publisher?: string | undefined
}

/** How long the network is asked, and how many peers: enough for a slow answer, short enough for a person. */
const searchMs = 8_000
const maxPeersAsked = 16
/** Sources asked at once, so that a silent one does not hide what the next one knows; and how long each may take. */
const askedAtOnce = 4
const askMs = 4_000

/** The DHT topic under which the holders of a name's heads are found. */
export const nameTopic = (name: string): string => cidOf(Buffer.from(`catalog/name/v1/${name}`))

/**
 * @throws CatalogError `invalid-ref`, `not-found` (with the versions that exist), `ambiguous-name` (with the publishers)
 */
export async function resolve(
  deps: ResolveDeps,
  text: string,
  options: ResolveOptions = {},
): Promise<Release> {
  const ref = parseRef(text)
  const here = () =>
    ref.kind === 'cid' ? byCid(deps, ref.cid, options) : byName(deps, ref.name, ref.range, options)
  const known = await here()
  if (known !== undefined) return known
  const ended = new AbortController()
  const signals = [
    ended.signal,
    AbortSignal.timeout(searchMs),
    ...(options.signal === undefined ? [] : [options.signal]),
  ]
  const wanted = { signal: AbortSignal.any(signals), publisher: options.publisher }
  const search =
    ref.kind === 'cid' ? searchCid(deps, ref.cid, wanted) : searchName(deps, ref.name, ref.range, wanted)
  try {
    for await (const _ of search) {
      const found = await here()
      if (found !== undefined) return found
    }
  } finally {
    ended.abort(new CatalogError('cancelled', 'The search has ended.'))
  }
  options.signal?.throwIfAborted()
  throw await notFound(deps, text, options)
}

async function byCid(deps: ResolveDeps, cid: string, options: ResolveOptions): Promise<Release | undefined> {
  const release = await deps.catalogue.release(cid)
  if (release !== undefined) return release
  const releases = deps.catalogue.releasesByRoot(cid).filter(({ publisher }) => isWanted(publisher, options))
  // One content may be several releases; the newest speaks for it.
  const [newest] = [...releases].sort((a, b) => b.signedAt - a.signedAt)
  return newest === undefined ? undefined : deps.catalogue.release(newest.id)
}

/** The publisher that the user names, or that the operator has pinned. */
const publisherOf = ({ pins }: ResolveDeps, name: string, { publisher }: ResolveOptions) =>
  publisher ?? (Object.hasOwn(pins, name) ? pins[name] : undefined)

const isWanted = (publisher: string, wanted: ResolveOptions) =>
  wanted.publisher === undefined || publisher === wanted.publisher

/** The heads of a name that count for this question. */
async function headsFor(deps: ResolveDeps, name: string, options: ResolveOptions): Promise<Head[]> {
  const publisher = publisherOf(deps, name, options)
  const heads = await deps.catalogue.headsOf(name)
  return heads.filter(
    ({ statement }) => isWanted(statement.publisher, { publisher }) && statement.versions.length > 0,
  )
}

async function byName(
  deps: ResolveDeps,
  name: string,
  range: string,
  options: ResolveOptions,
): Promise<Release | undefined> {
  const heads = await headsFor(deps, name, options)
  if (heads.length > 1) throw ambiguous(name, heads)
  const [head] = heads
  const chosen = head === undefined ? undefined : highestVersion(head.statement.versions, range)
  if (head === undefined || chosen === undefined) return undefined
  const release = await deps.catalogue.release(chosen.id)
  if (release === undefined) await deps.catalogue.remember(chosen.id)
  else refuseMixed(head, chosen.version, release)
  return release
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

/** Yields after every answer, so that the caller looks again. */
async function* searchCid(deps: ResolveDeps, cid: string, options: CallOptions): AsyncIterable<void> {
  await deps.catalogue.remember(cid)
  // A content root has no record of its own, but who provides it knows its releases.
  yield* askEach(fromDht(deps, cid, options), sources(deps, cid, options), async peer => {
    await quietly(deps, () => deps.ask(peer, { ids: [cid] }, inTime(options)))
    if ((await deps.catalogue.release(cid)) === undefined)
      await quietly(deps, () => deps.ask(peer, { root: cid }, inTime(options)))
  })
}

async function* searchName(
  deps: ResolveDeps,
  name: string,
  range: string,
  options: ResolveOptions,
): AsyncIterable<void> {
  yield* askEach(undefined, sources(deps, nameTopic(name), options), async peer => {
    await quietly(deps, () => deps.ask(peer, { name }, inTime(options)))
    await bringReleases(deps, name, range, peer, options)
  })
}

/** Brings releases that known heads of the name list: from the peer that showed the head, else from the DHT. */
async function bringReleases(
  deps: ResolveDeps,
  name: string,
  range: string,
  peer: string,
  options: ResolveOptions,
): Promise<void> {
  const heads = (await headsFor(deps, name, options)).map(({ statement }) => statement.versions)
  const chosen = heads.flatMap(versions => highestVersion(versions, range)?.id ?? [])
  // What was asked for, then the newest, which are last: enough for now, sync brings the rest.
  const newest = heads.flatMap(versions => versions.slice(-32).map(({ id }) => id)).reverse()
  const missing: string[] = []
  for (const id of new Set([...chosen, ...newest]))
    if (missing.length < 32 && (await deps.catalogue.release(id)) === undefined) missing.push(id)
  if (missing.length > 0) await quietly(deps, () => deps.ask(peer, { ids: missing }, inTime(options)))
  for (const id of chosen)
    if ((await deps.catalogue.release(id)) === undefined) await fromDht(deps, id, options)
}

async function fromDht(deps: ResolveDeps, id: string, options: CallOptions): Promise<void> {
  const record = await quietly(deps, () => deps.router.getRecord({ kind: 'release', id }, options))
  if (record !== undefined) await quietly(deps, () => deps.accept(record))
}

/** One source's time. */
const inTime = ({ signal }: CallOptions): CallOptions => ({ signal: withTimeout(signal, askMs) })

/** Asks a few sources at once; yields whenever one of them, or what was begun `first`, is done; ends with the first failure. */
async function* askEach(
  first: Promise<void> | undefined,
  from: AsyncIterable<string>,
  ask: (peer: string) => Promise<void>,
): AsyncIterable<void> {
  const running = new Set<Promise<void>>()
  const run = (work: Promise<void>) => {
    const done = work.finally(() => running.delete(done))
    // Raced while the search goes on; what fails after it is nobody's business.
    done.catch(() => undefined)
    running.add(done)
  }
  if (first !== undefined) run(first)
  const source = from[Symbol.asyncIterator]()
  let next: Promise<IteratorResult<string>> | undefined = source.next()
  try {
    while (next !== undefined || running.size > 0) {
      const open: Promise<IteratorResult<string>>[] =
        next !== undefined && running.size < askedAtOnce ? [next] : []
      const event = await Promise.race([...open, ...running])
      if (typeof event !== 'object') yield
      else if (event.done === true) next = undefined
      else {
        run(ask(event.value))
        next = source.next()
      }
    }
  } finally {
    void source.return?.()
  }
}

/** Whom to ask: those the DHT names, then whoever is connected; each once, at most `maxPeersAsked`. */
async function* sources(deps: ResolveDeps, topic: string, options: CallOptions): AsyncIterable<string> {
  const asked = new Set<string>()
  // Half of the time for the DHT, so that its silence cannot hide what a connected peer knows.
  const signal = withTimeout(options.signal, searchMs / 2)
  try {
    for await (const peer of deps.router.findProviders(topic, { signal })) {
      if (asked.has(peer)) continue
      if (asked.size >= maxPeersAsked / 2) break
      asked.add(peer)
      yield peer
    }
  } catch (error) {
    deps.log.debug({ topic, error: String(error) }, 'a DHT lookup ended early')
  }
  for (const peer of deps.peers()) {
    if (options.signal?.aborted === true || asked.size >= maxPeersAsked) return
    if (asked.has(peer)) continue
    asked.add(peer)
    yield peer
  }
}

/** One peer's or the DHT's failure does not end a search. */
async function quietly<T>(deps: ResolveDeps, work: () => Promise<T>): Promise<T | undefined> {
  try {
    return await work()
  } catch (error) {
    // This node's own trouble is not the source's: "not found" would send the user the wrong way.
    if (isCatalogError(error) && ownTrouble.has(error.code)) throw error
    deps.log.debug({ error: String(error) }, 'one source of a search failed')
    return undefined
  }
}

const ownTrouble: ReadonlySet<ErrorCode> = new Set(['no-space', 'storage-failed'])

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
  const versions = heads.flatMap(head => head.statement.versions.map(each => each.version))
  const known = versions.length > 0 ? ` Versions that exist: ${versions.slice(-10).join(', ')}.` : ''
  return new CatalogError(
    'not-found',
    `No release matches ${text} here or at any peer that answered.${known} ${next}`,
    { ref: text, versions },
  )
}
