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
//   { op: 'heads', name }         → { records }: the current heads of a name, each with its freshness statement, and
//                                   proofs of equivocation against them, at most 24
//   { op: 'root', root }          → { records }: releases with that content root, at most 8
// Ids are 32-byte BLAKE3 digests of records; records are envelopes of at most 128 KiB, and notices (trust documents,
// proofs of equivocation) of at most 256 KiB and 64 bytes.
// Limits    nothing waits for more than 10 s; a stream has at most 1,000 questions, a session 32 reconciliation steps.
// Errors    a malformed message ends the stream. A record that was refused for what it is is not asked for again for
//           an hour; one that this node could not take just now ends the session and is found again by the next.
// Non-goals order, agreement, completeness: a peer may hide records; another will show them.

import { LRUCache } from 'lru-cache'
import { cidOf, cidOfDigest, digestOfCid } from '../base/cid.ts'
import { withTimeout } from '../base/deadline.ts'
import { CatalogError, type ErrorCode } from '../base/errors.ts'
import type { CallOptions } from '../base/lifecycle.ts'
import type { Log } from '../base/log.ts'
import { encodeFrame, FrameReader, listField, type Message } from '../network/frames.ts'
import type { ByteStream, Host } from '../network/host.ts'
import { decodeRanges, encodeRanges, IdSet, openReconciliation, reconcile } from './reconcile.ts'
import { answerSyncQuestion, type SyncCatalogue, syncLimits } from './sync/answers.ts'

export const syncProtocol = '/sync/1'

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
  readonly catalogue: SyncCatalogue & {
    /** Whether sync needs not bring it: it is here, or was forgotten on purpose. */
    isKnown(id: string): boolean
  }
  /** The accept flow: throws where the record is refused. */
  readonly accept: (bytes: Uint8Array, from: string) => Promise<unknown>
  readonly log: Log
}

/** This node's own trouble: it says nothing about the record, which may be taken another time. */
const passing: ReadonlySet<ErrorCode> = new Set([
  'busy',
  'cancelled',
  'daemon-stopping',
  'internal',
  'no-space',
  'storage-failed',
  'timeout',
])

/** Reconciled anew after a broken pull at most this often in a row, at growing intervals. */
const maxPullFailures = 5

export class Sync {
  readonly #deps: SyncDeps
  readonly #options: SyncOptions
  readonly #refused = new LRUCache<string, true>({ max: 20_000, ttl: 3_600_000 })
  /** Ids that peers are about to be asked for, while somebody asks. */
  readonly #pullFailures = new Map<string, number>()
  readonly #pullers = new Map<string, { readonly wanted: Set<string>; readonly done: Promise<void> }>()
  /** Records being accepted, and who sent them: they are no news to the sender. */
  readonly #incoming = new Map<string, string>()
  readonly #fresh = new Map<string, string | undefined>()
  /** Streams that this side opened. */
  readonly #streams = new Set<ByteStream>()
  #stopped = false
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
      capability: 'fetch',
    })
  }

  async start(): Promise<void> {
    if (!this.#options.enabled) return
    const { host } = this.#deps
    this.#unsubscribe = host.onPeer((peer, change) => {
      if (change === 'connected') this.#background(peer, this.reconcileWith(peer))
      else {
        this.#pullers.get(peer)?.wanted.clear()
        this.#pullFailures.delete(peer)
      }
    })
    for (const { peer } of host.connections()) this.#background(peer, this.reconcileWith(peer))
    this.#roundTimer = setInterval(() => this.#round(), this.#options.intervalMs).unref()
  }

  async stop(): Promise<void> {
    this.#stopped = true
    clearInterval(this.#roundTimer)
    clearTimeout(this.#newsTimer)
    this.#unsubscribe?.()
    const reason = new CatalogError('daemon-stopping', 'The daemon is stopping.')
    for (const stream of this.#streams) stream.abort(reason)
    await Promise.all([...this.#pullers.values()].map(({ done }) => done))
  }

  /** Tells every connected peer, except where it came from, that this record is here. */
  announce(id: string): void {
    if (!this.#options.enabled || this.#stopped) return
    this.#fresh.set(id, this.#incoming.get(id))
    this.#newsTimer ??= setTimeout(() => this.#tellNews(), this.#options.newsDelayMs)
  }

  /** Finds what differs from a peer's records and takes what is missing here; it learns what it misses. */
  async reconcileWith(peer: string, options: CallOptions = {}): Promise<void> {
    const ids = new IdSet(this.#deps.catalogue.recordIds())
    const need: Uint8Array[] = []
    const have: Uint8Array[] = []
    await this.#session(peer, options, async ask => {
      let ranges = openReconciliation(ids)
      for (let step = 0; step < syncLimits.maxSteps && ranges.length > 0; step++) {
        const answer = await ask({ op: 'reconcile', ranges: encodeRanges(ranges) })
        const found = reconcile(ids, decodeRanges(answer['ranges']), false)
        for (const id of found.need) need.push(id)
        for (const id of found.have) have.push(id)
        ranges = found.reply
      }
      const news = have.slice(0, (syncLimits.maxQuestions - syncLimits.maxSteps) * syncLimits.maxNews)
      for (let at = 0; at < news.length; at += syncLimits.maxNews)
        await ask({ op: 'news', ids: news.slice(at, at + syncLimits.maxNews) })
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
      for (const record of listField(answer, 'records', syncLimits.maxOfName)) await this.#take(record, peer)
    })
  }

  /** What this node believes has changed: what was refused before is asked for again, from everybody. */
  reconsider(): void {
    this.#refused.clear()
    if (!this.#options.enabled || this.#stopped) return
    for (const peer of new Set(this.#deps.host.connections().map(connection => connection.peer)))
      this.#background(peer, this.reconcileWith(peer))
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
    const news: { readonly id: string; readonly from: string | undefined }[] = []
    for (const [id, from] of this.#fresh) {
      if (news.length === syncLimits.maxNews) break
      news.push({ id, from })
      this.#fresh.delete(id)
    }
    if (this.#fresh.size > 0) this.#newsTimer = setTimeout(() => this.#tellNews(), this.#options.newsDelayMs)
    for (const peer of new Set(this.#deps.host.connections().map(connection => connection.peer))) {
      const ids = news.filter(({ from }) => from !== peer).map(({ id }) => digestOfCid(id))
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

  /** Queues ids to be pulled from a peer; one puller per peer. Resolves when all that waits was asked for. */
  async #want(peer: string, ids: readonly string[]): Promise<void> {
    const { catalogue } = this.#deps
    const running = this.#pullers.get(peer)
    const wanted = running?.wanted ?? new Set()
    for (const id of ids)
      if (wanted.size < syncLimits.maxWanted && !catalogue.isKnown(id) && !this.#refused.has(id))
        wanted.add(id)
    if (running !== undefined) return running.done
    if (wanted.size === 0 || this.#stopped) return
    const done = this.#pull(peer, wanted)
    this.#pullers.set(peer, { wanted, done })
    return done
  }

  async #pull(peer: string, wanted: Set<string>): Promise<void> {
    const { catalogue, log } = this.#deps
    const isMissing = (id: string) => !catalogue.isKnown(id) && !this.#refused.has(id)
    await Promise.resolve()
    try {
      while (wanted.size > 0 && !this.#stopped) {
        const batch: string[] = []
        for (const id of wanted) {
          if (batch.length === syncLimits.maxRecordsPerQuestion) break
          wanted.delete(id)
          if (isMissing(id)) batch.push(id)
        }
        if (batch.length === 0) continue
        await this.#pullBatch(peer, batch, {})
        // An answer is bounded: ask again for what did not fit, unless nothing came at all.
        const left = batch.filter(isMissing)
        if (left.length < batch.length) for (const id of left) wanted.add(id)
      }
      this.#pullFailures.delete(peer)
    } catch (error) {
      log.debug({ peer, error: String(error) }, 'pulling records ended early')
      this.#reconcileLater(peer)
    }
    // In the same turn as the last look at what is wanted: whoever wants more now starts anew.
    this.#pullers.delete(peer)
  }

  /** What a broken pull left is found again soon: the peer may only have been restarted. The interval comes anyway. */
  #reconcileLater(peer: string): void {
    const failures = (this.#pullFailures.get(peer) ?? 0) + 1
    if (failures > maxPullFailures || this.#stopped) return
    this.#pullFailures.set(peer, failures)
    const again = () => {
      if (!this.#stopped && this.#deps.host.isConnected(peer))
        this.#background(peer, this.reconcileWith(peer))
    }
    setTimeout(again, 500 * 2 ** failures).unref()
  }

  async #pullBatch(peer: string, ids: readonly string[], options: CallOptions): Promise<void> {
    await this.#stream(peer, options, async (stream, reader, alive) => {
      await stream.write(encodeFrame({ op: 'records', ids: ids.map(digestOfCid) }))
      for (let count = 0; count <= ids.length; count++) {
        const answer = await reader.message(syncLimits.maxRecordBytes + 1024)
        if (answer === undefined || answer['end'] === true) return
        await this.#take(answer['record'], peer)
        alive()
      }
    })
  }

  async #take(record: unknown, peer: string): Promise<void> {
    if (!(record instanceof Uint8Array) || record.byteLength > syncLimits.maxRecordBytes)
      throw new CatalogError('bad-peer-message', `The peer ${peer} sent something that is no record.`, {
        peer,
      })
    const id = cidOf(record)
    this.#incoming.set(id, peer)
    try {
      await this.#deps.accept(record, peer)
    } catch (error) {
      if (!(error instanceof CatalogError) || passing.has(error.code)) throw error
      this.#refused.set(id, true)
      this.#deps.log.info({ peer, code: error.code, error: error.message }, 'a record was refused')
    } finally {
      this.#incoming.delete(id)
    }
  }

  /** A stream on which questions are asked one after another. */
  async #session(
    peer: string,
    options: CallOptions,
    use: (ask: (question: Message) => Promise<Message>) => Promise<void>,
  ): Promise<void> {
    await this.#stream(peer, options, (stream, reader, alive) =>
      use(async question => {
        alive()
        await stream.write(encodeFrame(question))
        const answer = await reader.message(syncLimits.maxAnswerBytes)
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

  /** A stream of ours, for as long as something moves on it (`alive`), and the caller wants it. */
  async #stream(
    peer: string,
    { signal }: CallOptions,
    use: (stream: ByteStream, reader: FrameReader, alive: () => void) => Promise<void>,
  ): Promise<void> {
    const stream = await this.#deps.host.open(peer, syncProtocol, {
      signal: withTimeout(signal, syncLimits.answerMs),
    })
    const silent = setTimeout(() => stream.abort(notInTime(peer)), syncLimits.answerMs)
    const leave = () => stream.abort(signal?.reason as Error)
    signal?.addEventListener('abort', leave, { once: true })
    this.#streams.add(stream)
    try {
      if (this.#stopped) throw new CatalogError('daemon-stopping', 'The daemon is stopping.')
      await use(stream, new FrameReader(stream), () => silent.refresh())
      await stream.close()
    } catch (error) {
      stream.abort(error as Error)
      throw error
    } finally {
      this.#streams.delete(stream)
      signal?.removeEventListener('abort', leave)
      clearTimeout(silent)
    }
  }

  async #serve(stream: ByteStream, signal: AbortSignal): Promise<void> {
    const reader = new FrameReader(stream)
    const { peer } = stream
    const { catalogue } = this.#deps
    const onNews = (ids: readonly string[]) => {
      if (this.#options.enabled) this.#background(peer, this.#want(peer, ids))
    }
    const silent = setTimeout(() => stream.abort(notInTime(peer)), syncLimits.answerMs)
    try {
      for (let questions = 0; questions < syncLimits.maxQuestions; questions++) {
        const question = await reader.message(syncLimits.maxMessageBytes, { signal })
        if (question === undefined) break
        await answerSyncQuestion(question, { catalogue, onNews }, async answer => {
          await stream.write(encodeFrame(answer), { signal })
          silent.refresh()
        })
      }
      await stream.close()
    } finally {
      clearTimeout(silent)
    }
  }
}

const notInTime = (peer: string) =>
  new CatalogError(
    'timeout',
    `The peer ${peer} said nothing on a sync stream for ${syncLimits.answerMs / 1000} s.`,
  )
