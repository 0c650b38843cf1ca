// resolve: from what a user wrote to one release. This node is asked first, then the DHT, then connected peers;
// names start from heads, so a version counts only where its publisher's current head lists it.
//
//   Ref -heads of the name-> -publisher-> -highest version in range-> release id -record-> Release
import { highestVersion, parseRef } from '../assets/name.ts'
import type { Envelope, HeadStatement, ReleaseStatement } from '../assets/release.ts'
import { cidOf } from '../base/cid.ts'
import { CatalogError } from '../base/errors.ts'
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
  const patience = AbortSignal.timeout(searchMs)
  const signal = options.signal === undefined ? patience : AbortSignal.any([options.signal, patience])
  for await (const _ of ref.kind === 'cid'
    ? searchCid(deps, ref.cid, { signal })
    : searchName(deps, ref.name, { signal })) {
    const found = await here()
    if (found !== undefined) return found
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

const isWanted = (publisher: string, wanted: ResolveOptions) =>
  wanted.publisher === undefined || publisher === wanted.publisher

async function byName(
  deps: ResolveDeps,
  name: string,
  range: string,
  options: ResolveOptions,
): Promise<Release | undefined> {
  const publisher = options.publisher ?? deps.pins[name]
  const heads = (await deps.catalogue.headsOf(name)).filter(
    head => isWanted(head.statement.publisher, { publisher }) && head.statement.versions.length > 0,
  )
  if (heads.length > 1) throw ambiguous(name, heads)
  const [head] = heads
  const chosen = head === undefined ? undefined : highestVersion(head.statement.versions, range)
  if (chosen === undefined) return undefined
  const release = await deps.catalogue.release(chosen.id)
  if (release === undefined) await deps.catalogue.remember(chosen.id)
  return release
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
  const record = await quietly(deps, () => deps.router.getRecord({ kind: 'release', id: cid }, options))
  if (record !== undefined) yield void (await quietly(deps, () => deps.accept(record)))
  // A content root has no record of its own, but who provides it knows its releases.
  for await (const peer of sources(deps, cid, options)) {
    await quietly(deps, () => deps.ask(peer, { ids: [cid] }, options))
    yield
    await quietly(deps, () => deps.ask(peer, { root: cid }, options))
    yield
  }
}

async function* searchName(deps: ResolveDeps, name: string, options: CallOptions): AsyncIterable<void> {
  for await (const peer of sources(deps, nameTopic(name), options)) {
    await quietly(deps, () => deps.ask(peer, { name }, options))
    yield* missingReleases(deps, name, peer, options)
  }
}

/** Brings the releases that known heads of the name list: from the peer that showed the head, else from the DHT. */
async function* missingReleases(
  deps: ResolveDeps,
  name: string,
  peer: string,
  options: CallOptions,
): AsyncIterable<void> {
  const listed = (await deps.catalogue.headsOf(name)).flatMap(head =>
    head.statement.versions.map(version => version.id),
  )
  const missing: string[] = []
  for (const id of listed) if ((await deps.catalogue.release(id)) === undefined) missing.push(id)
  // The newest are last; one question is enough for what a user wants now, sync brings the rest.
  const wanted = missing.slice(-32)
  if (wanted.length > 0) await quietly(deps, () => deps.ask(peer, { ids: wanted }, options))
  yield
  for (const id of wanted.slice(-4).reverse()) {
    if ((await deps.catalogue.release(id)) !== undefined) continue
    const record = await quietly(deps, () => deps.router.getRecord({ kind: 'release', id }, options))
    if (record !== undefined) yield void (await quietly(deps, () => deps.accept(record)))
  }
}

/** Whom to ask: those the DHT names, then whoever is connected; each once, at most `maxPeersAsked`. */
async function* sources(deps: ResolveDeps, topic: string, options: CallOptions): AsyncIterable<string> {
  const asked = new Set<string>()
  // Half of the time for the DHT, so that its silence cannot hide what a connected peer knows.
  const half = AbortSignal.timeout(searchMs / 2)
  const signal = options.signal === undefined ? half : AbortSignal.any([options.signal, half])
  try {
    for await (const peer of deps.router.findProviders(topic, { signal })) {
      if (asked.size >= maxPeersAsked / 2 || asked.has(peer)) continue
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
    deps.log.debug({ error: String(error) }, 'one source of a search failed')
    return undefined
  }
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
  const heads = (await deps.catalogue.headsOf(ref.name)).filter(head =>
    isWanted(head.statement.publisher, { publisher: options.publisher ?? deps.pins[ref.name] }),
  )
  const versions = heads.flatMap(head => head.statement.versions.map(each => each.version))
  const known = versions.length > 0 ? ` Versions that exist: ${versions.slice(-10).join(', ')}.` : ''
  return new CatalogError(
    'not-found',
    `No release matches ${text} here or at any peer that answered.${known} ${next}`,
    { ref: text, versions },
  )
}
