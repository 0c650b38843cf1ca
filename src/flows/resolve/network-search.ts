// Asking the network for what this node does not know: the DHT, the peers it names, connected peers; several at once, each
// in its time. Whatever they bring goes through accept; the caller looks again after every answer.
import { withTimeout } from '../../base/deadline.ts'
import { type ErrorCode, isCatalogError } from '../../base/errors.ts'
import type { CallOptions } from '../../base/lifecycle.ts'
import { nameTopic } from '../name-topic.ts'
import type { ResolveDeps, ResolveOptions } from '../resolve.ts'
import { chooseVersion, headsFor } from './judgement.ts'

/** How many peers are asked: enough for a slow answer, few enough for a person. */
const maxPeersAsked = 16
/** Sources asked at once, so that a silent one does not hide what the next one knows; and how long each may take. */
const askedAtOnce = 4
const askMs = 4_000
/** Pinned peers are connected and known to be good: they answer at once, or are not reachable. */
const comparedMs = 2_000
/** The DHT's part of a search: half of its time, so that its silence cannot hide what a connected peer knows. */
const lookupMs = 4_000

/** Yields after every answer, so that the caller looks again. */
export async function* searchCid(deps: ResolveDeps, cid: string, options: CallOptions): AsyncIterable<void> {
  await deps.catalogue.remember(cid)
  // A content root has no record of its own, but who provides it knows its releases.
  const first = fromDht(deps, cid, options).then(() => headsFromDht(deps, cid, options))
  yield* askEach(first, sources(deps, cid, options), async peer => {
    await quietly(deps, () => deps.ask(peer, { ids: [cid] }, inTime(options)))
    if ((await deps.catalogue.release(cid)) === undefined)
      await quietly(deps, () => deps.ask(peer, { root: cid }, inTime(options)))
    // A release counts where a head lists it.
    for (const { name } of await releasesOf(deps, cid))
      await quietly(deps, () => deps.ask(peer, { name }, inTime(options)))
  })
}

/** The releases that a release id or content root names, as far as they are known. */
async function releasesOf({ catalogue }: ResolveDeps, cid: string) {
  const release = await catalogue.release(cid)
  const named = release === undefined ? catalogue.releasesByRoot(cid) : [release.statement]
  return named.slice(0, 4)
}

async function headsFromDht(deps: ResolveDeps, cid: string, options: CallOptions): Promise<void> {
  for (const { publisher, name } of await releasesOf(deps, cid))
    await headFromDht(deps, publisher, name, options)
}

async function headFromDht(
  deps: ResolveDeps,
  publisher: string,
  name: string,
  options: CallOptions,
): Promise<void> {
  const key = { kind: 'head', publisher, name } as const
  const record = await quietly(deps, () => deps.router.getRecord(key, options))
  if (record !== undefined) await quietly(deps, () => deps.accept(record))
}

export async function* searchName(
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

/** Whoever surrounds this node in the DHT can keep news from it: pinned peers are a second way to every answer. */
export async function comparePinned(
  deps: ResolveDeps,
  { publisher, name }: { readonly publisher: string; readonly name: string },
  range: string,
  options: ResolveOptions,
): Promise<void> {
  const pinned = deps.pinnedPeers()
  if (pinned.length === 0) return
  const before = await deps.catalogue.head(publisher, name)
  const signal = withTimeout(options.signal, comparedMs)
  await Promise.all(
    pinned.map(async peer => {
      await quietly(deps, () => deps.ask(peer, { name }, { signal }))
      await bringReleases(deps, name, range, peer, { ...options, signal })
    }),
  )
  const after = await deps.catalogue.head(publisher, name)
  if (before !== undefined && after !== undefined && after.id !== before.id)
    deps.log.warn(
      { package: name, shown: before.statement.sequence, pinned: after.statement.sequence },
      'a pinned peer has a newer head than the network showed',
    )
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
  const chosen = heads.flatMap(versions => chooseVersion(versions, range)?.id ?? [])
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
  const signal = withTimeout(options.signal, lookupMs)
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
