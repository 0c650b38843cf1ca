// Keeping what nodes know of releases the same: on connecting and at intervals two nodes reconcile the ids of
// their records; news of a fresh record goes to every connected peer at once. Whatever comes in passes `accept`.
//
// Protocol /catalog/<network>/sync/1
// Parties   a client opens a stream and asks, one question after another; the server answers each.
// Questions frames (network/frames.ts) of at most 1 MiB:
//   { op: 'reconcile', ranges }   → { ranges }: one step of range-based reconciliation (distribution/reconcile.ts)
//   { op: 'records', ids }        → frames { record } for those that are here, then { end: true }; at most 64 ids,
//                                   at most 2 MiB of answers (ask again for what is missing)
//   { op: 'news', ids }           → { }: the client has these new records; at most 256 ids
//   { op: 'heads', name }         → { records }: the current heads of a name, at most 8
//   { op: 'root', root }          → { records }: releases with that content root, at most 8
// Ids are 32-byte BLAKE3 digests of envelopes; records are envelopes of at most 128 KiB.
// Limits    a question is answered within 10 s; a session has at most 32 reconciliation steps.
// Errors    a malformed message ends the stream. A refused record is not asked for again for an hour.
// Non-goals order, agreement, completeness: a peer may hide records; another will show them.
import { LRUCache } from 'lru-cache'
import { isPackageName } from '../assets/name.ts'
import { recordLimits } from '../assets/release.ts'
import { cidOf, cidOfDigest, digestOfCid, isCid } from '../base/cid.ts'
import { CatalogError } from '../base/errors.ts'
import { digestBytes } from '../base/hash.ts'
import type { CallOptions } from '../base/lifecycle.ts'
import type { Log } from '../base/log.ts'
import { encodeFrame, FrameReader, listField, type Message, textField } from '../network/frames.ts'
import type { ByteStream, Host } from '../network/host.ts'
import {
  decodeRanges,
  encodeRanges,
  IdSet,
  openReconciliation,
  reconcile,
  reconcileLimits,
} from './reconcile.ts'

export const syncProtocol = '/sync/1'

export const syncLimits = {
  maxMessageBytes: 1024 * 1024,
  maxRecordsPerQuestion: 64,
  maxAnswerBytes: 2 * 1024 * 1024,
  maxNews: 256,
  maxNamed: 8,
  maxSteps: 32,
  answerMs: 10_000,
} as const

export interface SyncOptions {
  readonly enabled: boolean
  readonly intervalMs: number
  /** Peers reconciled with at each interval. */
  readonly peersPerRound: number
  /** Fresh records wait this long, so that a release and its head travel together. */
  readonly newsDelayMs: number
  readonly maxStreamsPerPeer: number
  readonly maxStreams: number
}

export const defaultSyncOptions: SyncOptions = {
  enabled: true,
  intervalMs: 60_000,
  // Three random peers a minute spread a record through any connected network in a few rounds.
  peersPerRound: 3,
  newsDelayMs: 50,
  maxStreamsPerPeer: 4,
  maxStreams: 128,
}

/** What this engine needs of the registry and the accept flow. */
export interface SyncDeps {
  readonly host: Host
  readonly catalogue: {
    /** Digests of every record that this node knows or has forgotten on purpose, ascending; it may change while a session lasts, the next one sees the rest. */
    recordIds(): readonly Uint8Array[]
    isKnown(id: string): boolean
    record(id: string): Promise<Uint8Array | undefined>
    headsOf(name: string): Promise<readonly { readonly bytes: Uint8Array }[]>
    releasesByRoot(root: string): readonly { readonly id: string }[]
  }
  /** The accept flow: throws where the record is refused. */
  readonly accept: (bytes: Uint8Array, from: string) => Promise<unknown>
  readonly log: Log
}

export class Sync {
  readonly #deps: SyncDeps
  readonly #options: SyncOptions
  readonly #stopping = new AbortController()
  readonly #refused = new LRUCache<string, true>({ max: 20_000, ttl: 3_600_000 })
  readonly #pulling = new Map<string, Promise<void>>()
  readonly #wanted = new Map<string, Set<string>>()
  readonly #fresh = new Map<string, string | undefined>()
  #newsTimer: NodeJS.Timeout | undefined
  #roundTimer: NodeJS.Timeout | undefined
  #unsubscribe: (() => void) | undefined

  constructor(deps: SyncDeps, options = defaultSyncOptions) {
    this.#deps = deps
    this.#options = options
    const { maxStreamsPerPeer: maxInboundPerPeer, maxStreams: maxInbound } = options
    deps.host.handle(syncProtocol, (stream, { signal }) => this.#serve(stream, signal), {
      maxInboundPerPeer,
      maxInbound,
    })
  }

  async start(): Promise<void> {
    if (!this.#options.enabled) return
    this.#unsubscribe = this.#deps.host.onPeer((peer, change) => {
      if (change === 'connected') this.#background(peer, this.reconcileWith(peer))
      else this.#wanted.delete(peer)
    })
    for (const { peer } of this.#deps.host.connections()) this.#background(peer, this.reconcileWith(peer))
    this.#roundTimer = setInterval(() => this.#round(), this.#options.intervalMs).unref()
  }

  async stop(): Promise<void> {
    clearInterval(this.#roundTimer)
    clearTimeout(this.#newsTimer)
    this.#unsubscribe?.()
    this.#stopping.abort(new CatalogError('daemon-stopping', 'The daemon is stopping.'))
    await Promise.allSettled(this.#pulling.values())
  }

  /** Tells every connected peer, except where it came from, that this record is here. */
  announce(id: string, from?: string): void {
    if (!this.#options.enabled) return
    this.#fresh.set(id, from)
    this.#newsTimer ??= setTimeout(() => this.#tellNews(), this.#options.newsDelayMs)
  }

  /** Finds what differs from a peer's records and takes what is missing here; it learns what it misses. */
  async reconcileWith(peer: string, options: CallOptions = {}): Promise<void> {
    const ids = this.#currentSet()
    const need: Uint8Array[] = []
    const have: Uint8Array[] = []
    await this.#session(peer, options, async ask => {
      let ranges = openReconciliation(ids)
      for (let step = 0; step < syncLimits.maxSteps && ranges.length > 0; step++) {
        const answer = await ask({ op: 'reconcile', ranges: encodeRanges(ranges) })
        const found = reconcile(ids, decodeRanges(answer['ranges']), false)
        need.push(...found.need)
        have.push(...found.have)
        ranges = found.reply
      }
      for (let at = 0; at < have.length; at += syncLimits.maxNews)
        await ask({ op: 'news', ids: have.slice(at, at + syncLimits.maxNews) })
    })
    this.#deps.log.debug({ peer, need: need.length, have: have.length }, 'reconciled')
    await this.#want(peer, need.map(cidOfDigest))
  }

  /** Asks a peer for records by id, a name's heads, or a root's releases; each is accepted before it counts. */
  async ask(
    peer: string,
    question: { ids: string[] } | { name: string } | { root: string },
    options: CallOptions,
  ): Promise<void> {
    if ('ids' in question) return this.#pullBatch(peer, question.ids, options)
    const request =
      'name' in question ? { op: 'heads', name: question.name } : { op: 'root', root: question.root }
    await this.#session(peer, options, async ask => {
      const answer = await ask(request)
      for (const record of listField(answer, 'records', syncLimits.maxNamed)) await this.#take(record, peer)
    })
  }

  #round(): void {
    const peers = this.#deps.host.connections().map(connection => connection.peer)
    for (let count = 0; count < this.#options.peersPerRound && peers.length > 0; count++) {
      const [peer] = peers.splice(Math.floor(Math.random() * peers.length), 1)
      if (peer !== undefined) this.#background(peer, this.reconcileWith(peer))
    }
  }

  #tellNews(): void {
    this.#newsTimer = undefined
    const news = [...this.#fresh].splice(0, syncLimits.maxNews)
    for (const [id] of news) this.#fresh.delete(id)
    if (this.#fresh.size > 0) this.#newsTimer = setTimeout(() => this.#tellNews(), this.#options.newsDelayMs)
    for (const { peer } of this.#deps.host.connections()) {
      const ids = news.filter(([, from]) => from !== peer).map(([id]) => digestOfCid(id))
      if (ids.length > 0)
        this.#background(
          peer,
          this.#session(peer, {}, async ask => void (await ask({ op: 'news', ids }))),
        )
    }
  }

  #background(peer: string, work: Promise<unknown>): void {
    work.catch(error => this.#deps.log.debug({ peer, error: String(error) }, 'sync with a peer ended early'))
  }

  /** Queues ids to be pulled from a peer; one puller per peer. */
  #want(peer: string, ids: readonly string[]): Promise<void> {
    const wanted = this.#wanted.get(peer) ?? new Set()
    this.#wanted.set(peer, wanted)
    for (const id of ids)
      if (wanted.size < 100_000 && !this.#deps.catalogue.isKnown(id) && !this.#refused.has(id)) wanted.add(id)
    const running = this.#pulling.get(peer) ?? Promise.resolve()
    const next = running
      .then(() => this.#pull(peer, wanted))
      .finally(() => {
        if (this.#pulling.get(peer) === next) this.#pulling.delete(peer)
      })
    this.#pulling.set(peer, next)
    return next
  }

  async #pull(peer: string, wanted: Set<string>): Promise<void> {
    try {
      while (wanted.size > 0 && !this.#stopping.signal.aborted) {
        const batch = [...wanted].slice(0, syncLimits.maxRecordsPerQuestion)
        for (const id of batch) wanted.delete(id)
        const unknown = batch.filter(id => !this.#deps.catalogue.isKnown(id))
        if (unknown.length === 0) continue
        await this.#pullBatch(peer, unknown, {})
        // An answer is bounded: ask again for what did not fit, unless nothing came at all.
        const left = unknown.filter(id => !this.#deps.catalogue.isKnown(id) && !this.#refused.has(id))
        if (left.length < unknown.length) for (const id of left) wanted.add(id)
      }
    } catch (error) {
      this.#deps.log.debug({ peer, error: String(error) }, 'pulling records ended early')
    }
  }

  async #pullBatch(peer: string, ids: readonly string[], options: CallOptions): Promise<void> {
    await this.#stream(peer, options, async (stream, reader, signal) => {
      await stream.write(encodeFrame({ op: 'records', ids: ids.map(digestOfCid) }), { signal })
      for (let count = 0; count <= ids.length; count++) {
        const answer = await reader.message(recordLimits.maxBytes + 1024, { signal })
        if (answer === undefined || answer['end'] === true) return
        await this.#take(answer['record'], peer)
      }
    })
  }

  async #take(record: unknown, peer: string): Promise<void> {
    if (!(record instanceof Uint8Array) || record.byteLength > recordLimits.maxBytes)
      throw new CatalogError('bad-peer-message', `The peer ${peer} sent something that is no record.`, {
        peer,
      })
    try {
      await this.#deps.accept(record, peer)
    } catch (error) {
      if (!(error instanceof CatalogError)) throw error
      // What is unproved stays so; what did not fit now may fit later.
      this.#refused.set(cidOf(record), true)
      this.#deps.log.info({ peer, code: error.code, error: error.message }, 'a record was refused')
    }
  }

  #currentSet(): IdSet {
    return new IdSet(this.#deps.catalogue.recordIds())
  }

  /** A stream on which questions are asked one after another. */
  async #session(
    peer: string,
    options: CallOptions,
    use: (ask: (question: Message) => Promise<Message>) => Promise<void>,
  ): Promise<void> {
    await this.#stream(peer, options, (stream, reader) =>
      use(async question => {
        const signal = this.#patience(options)
        await stream.write(encodeFrame(question), { signal })
        const answer = await reader.message(syncLimits.maxAnswerBytes, { signal })
        if (answer === undefined)
          throw new CatalogError(
            'bad-peer-message',
            `The peer ${peer} ended a sync session without an answer.`,
            { peer },
          )
        return answer
      }),
    )
  }

  async #stream(
    peer: string,
    options: CallOptions,
    use: (stream: ByteStream, reader: FrameReader, signal: AbortSignal) => Promise<void>,
  ): Promise<void> {
    const signal = this.#patience(options)
    const stream = await this.#deps.host.open(peer, syncProtocol, { signal })
    try {
      await use(stream, new FrameReader(stream), signal)
      await stream.close()
    } catch (error) {
      stream.abort(error as Error)
      throw error
    }
  }

  #patience(options: CallOptions): AbortSignal {
    const signals = [this.#stopping.signal, AbortSignal.timeout(syncLimits.answerMs)]
    return AbortSignal.any(options.signal === undefined ? signals : [...signals, options.signal])
  }

  async #serve(stream: ByteStream, signal: AbortSignal): Promise<void> {
    const reader = new FrameReader(stream)
    for (let questions = 0; questions < 1000; questions++) {
      const patience = AbortSignal.any([signal, this.#patience({})])
      const question = await reader.message(syncLimits.maxMessageBytes, { signal: patience })
      if (question === undefined) break
      await this.#answer(stream, question, patience)
    }
    await stream.close()
  }

  async #answer(stream: ByteStream, question: Message, signal: AbortSignal): Promise<void> {
    const { catalogue } = this.#deps
    const reply = (message: Message) => stream.write(encodeFrame(message), { signal })
    switch (question['op']) {
      case 'reconcile': {
        const step = reconcile(this.#currentSet(), decodeRanges(question['ranges']), true)
        if (step.reply.length > reconcileLimits.maxRanges)
          throw new CatalogError('bad-peer-message', 'Too many ranges.')
        return reply({ ranges: encodeRanges(step.reply) })
      }
      case 'records':
        return this.#answerRecords(listField(question, 'ids', syncLimits.maxRecordsPerQuestion), reply)
      case 'news': {
        const ids = listField(question, 'ids', syncLimits.maxNews).map(idOf)
        if (this.#options.enabled) this.#background(stream.peer, this.#want(stream.peer, ids))
        return reply({})
      }
      case 'heads': {
        const name = textField(question, 'name', 256)
        return reply({
          records: isPackageName(name) ? capped((await catalogue.headsOf(name)).map(head => head.bytes)) : [],
        })
      }
      case 'root': {
        const root = textField(question, 'root', 100)
        return reply({ records: isCid(root) ? capped(await this.#releasesOfRoot(root)) : [] })
      }
      default:
        throw new CatalogError('bad-peer-message', `The peer ${stream.peer} asked an unknown sync question.`)
    }
  }

  async #releasesOfRoot(root: string): Promise<Uint8Array[]> {
    const { catalogue } = this.#deps
    const entries = catalogue.releasesByRoot(root).slice(0, syncLimits.maxNamed)
    const records = await Promise.all(entries.map(({ id }) => catalogue.record(id)))
    return records.filter(record => record !== undefined)
  }

  async #answerRecords(ids: readonly unknown[], reply: (message: Message) => Promise<void>): Promise<void> {
    let sent = 0
    for (const id of ids.map(idOf)) {
      const record = await this.#deps.catalogue.record(id)
      if (record === undefined) continue
      sent += record.byteLength
      if (sent > syncLimits.maxAnswerBytes) break
      await reply({ record })
    }
    await reply({ end: true })
  }
}

function idOf(value: unknown): string {
  if (!(value instanceof Uint8Array) || value.byteLength !== digestBytes)
    throw new CatalogError('bad-peer-message', 'A record id is not 32 bytes.')
  return cidOfDigest(value)
}

/** As many records as fit into one answer. */
function capped(records: readonly Uint8Array[]): Uint8Array[] {
  let bytes = 0
  return records.slice(0, syncLimits.maxNamed).filter(record => {
    bytes += record.byteLength
    return bytes < syncLimits.maxAnswerBytes - 1024
  })
}
