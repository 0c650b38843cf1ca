// One provider at work for one fetch: the index where it is still missing, then shards over a few lanes, until
// there is nothing left for this provider. Whatever goes wrong with the provider ends its work and nothing else;
// only a failure of this node's own store ends the fetch.
import { contentIndexLimits, decodeContentIndex } from '../../assets/content-index.ts'
import { CatalogError, isCatalogError } from '../../base/errors.ts'
import type { CallOptions } from '../../base/lifecycle.ts'
import type { LinkMeter } from '../compression.ts'
import type { Batch } from '../shard-pool.ts'
import type { Availability, LaneOptions, TransferLane } from '../transfer-lane.ts'
import { refusal, transferLimits } from '../transfer-protocol.ts'
import type { Incoming, Opened } from './incoming.ts'
import type { FetchWindow, ProviderWindow } from './window.ts'

export interface ProviderWorkOptions {
  readonly lane: LaneOptions
  /** Streams to one provider. */
  readonly lanesPerProvider: number
  /** Bytes of consecutive shards in one question. */
  readonly batchBytes: number
  /** With more than this missing, a connection of its own is worth opening. */
  readonly bulkBytes: number
  /** A provider that is sending the index for this long gets company: the next one is asked too. */
  readonly indexPatienceMs: number
  /** A lane with nothing to do for this long is closed. */
  readonly idleLaneMs: number
  /** A provider that is fetching the content itself is asked this often what it has by now. */
  readonly haveAgainMs: number
}

export interface ProviderWorkDeps {
  readonly incoming: Incoming
  readonly window: FetchWindow
  /** How fast this provider has been, in this fetch and earlier ones. */
  readonly link: LinkMeter
  readonly openLane: (peer: string, options: CallOptions) => Promise<TransferLane>
  /** One on a connection of its own; undefined where there is none. */
  readonly openBulkLane: (peer: string, options: CallOptions) => Promise<TransferLane | undefined>
  /** The provider sent bytes with another hash than promised. */
  readonly onLie: (peer: string, what: string) => Promise<void>
  /** This node cannot keep the content: the fetch is over. */
  readonly onStoreFailure: (error: unknown) => void
}

/** What the lanes to one provider share. */
interface Job {
  readonly opened: Opened
  readonly window: ProviderWindow
  /** Replaced whole when the provider is asked again. */
  readonly available: Availability & { askedAt: number }
  /** Asks for everything while it is there; the others leave the work to it. */
  bulk?: TransferLane | undefined
}

export class ProviderWork {
  readonly peer: string
  /** Whether it gave anything of the content. */
  served = false
  /** Bytes received from it, protocol included. */
  received = 0
  readonly #deps: ProviderWorkDeps
  readonly #options: ProviderWorkOptions
  readonly #lanes = new Set<TransferLane>()
  readonly #ending = new AbortController()
  readonly #since = performance.now()

  constructor(peer: string, deps: ProviderWorkDeps, options: ProviderWorkOptions) {
    this.peer = peer
    this.#deps = deps
    this.#options = options
  }

  /**
   * Resolves when there is nothing more to do: 'idle' when the provider may have more to give later, 'nothing'
   * when it does not hold the content. Throws what went wrong with it. Nothing is in flight when it settles.
   */
  async run(): Promise<'idle' | 'nothing'> {
    const work: Promise<void>[] = []
    const window = this.#deps.window.join(this.#options.batchBytes)
    try {
      const first = await this.#openLane()
      const opened = await this.#opened(first)
      if (opened.pool.done) return 'idle'
      // A lane that was still sending an index that nobody needs any more is gone.
      const lane = this.#lanes.has(first) ? first : await this.#openLane()
      const available = await lane.have(this.#deps.incoming.root)
      if (available === undefined) return 'nothing'
      const job: Job = { opened, window, available: { ...available, askedAt: performance.now() } }
      work.push(this.#workOn(lane, job), this.#workOnMore(job))
      await Promise.all(work)
      return 'idle'
    } finally {
      this.#ending.abort(new CatalogError('cancelled', 'The work with this provider has ended.'))
      for (const lane of this.#lanes) this.#leave(lane)
      await Promise.allSettled(work)
      window.close()
    }
  }

  abort(reason: Error): void {
    this.#ending.abort(reason)
    for (const lane of this.#lanes) lane.abort(reason)
  }

  /** Bytes a second since it began. */
  get rate(): number {
    let bytes = this.received
    for (const lane of this.#lanes) bytes += lane.received
    return (bytes * 1000) / Math.max(1, performance.now() - this.#since)
  }

  /** Beside the first lane: one on a connection of its own where there is much to come, else a few of the usual ones. */
  async #workOnMore(job: Job): Promise<void> {
    const bulk = await this.#workOnBulk(job)
    if (bulk === 'done') return
    // The first lane has left, and may have been closed for its silence.
    const first = bulk === 'failed' ? 1 : 0
    const work = Array.from({ length: this.#extraLanes() + first }, async () => {
      const lane = await this.#openLane().catch(() => undefined)
      if (lane !== undefined) await this.#workOn(lane, job)
    })
    await Promise.all(work)
  }

  /** Where it is not there, or fails on its way, what goes over the usual connection may still come. */
  async #workOnBulk(job: Job): Promise<'done' | 'absent' | 'failed'> {
    if (this.#deps.incoming.missingBytes < this.#options.bulkBytes) return 'absent'
    const lane = await this.#deps.openBulkLane(this.peer, { signal: this.#ending.signal })
    if (lane === undefined) return 'absent'
    this.#join(lane)
    job.bulk = lane
    try {
      await this.#workOn(lane, job)
      return 'done'
    } catch (error) {
      const isOnTheWay = isCatalogError(error, 'peer-unreachable') || isCatalogError(error, 'timeout')
      if (isOnTheWay && !this.#ending.signal.aborted) return 'failed'
      throw error
    } finally {
      job.bulk = undefined
      this.#leave(lane)
    }
  }

  async #openLane(): Promise<TransferLane> {
    const { signal } = this.#ending
    return this.#join(await this.#deps.openLane(this.peer, { signal }))
  }

  #join(lane: TransferLane): TransferLane {
    this.#lanes.add(lane)
    if (this.#ending.signal.aborted) this.#leave(lane)
    this.#ending.signal.throwIfAborted()
    return lane
  }

  #leave(lane: TransferLane): void {
    const { incoming } = this.#deps
    if (!this.#lanes.has(lane)) return
    this.received += lane.received
    this.#lanes.delete(lane)
    incoming.opened?.pool.release(lane)
    lane.close().catch(() => undefined)
    incoming.changes.tell()
  }

  /** More lanes only where there is work for them. */
  #extraLanes(): number {
    const batches = Math.ceil(this.#deps.incoming.missingBytes / this.#options.batchBytes)
    return Math.max(0, Math.min(this.#options.lanesPerProvider, batches) - 1)
  }

  /** The content opened for writing; the first provider that has a true index gives it. */
  async #opened(lane: TransferLane): Promise<Opened> {
    const { incoming } = this.#deps
    if (await incoming.mayAskForIndex(this.#options.indexPatienceMs))
      try {
        await this.#fetchIndex(lane)
      } finally {
        incoming.askedForIndex()
      }
    return incoming.opening as Promise<Opened>
  }

  /** The index, and beside it the whole stream where that is small: one round trip for a small package. */
  async #fetchIndex(lane: TransferLane): Promise<void> {
    const { incoming, onLie, onStoreFailure } = this.#deps
    const asked = lane.index(incoming.root, contentIndexLimits.maxBytes)
    const small = lane.small(incoming.root, transferLimits.maxSmallBytes)
    // What became of it counts only once there is an index.
    small.catch(() => undefined)
    const bytes = await Promise.race([asked, incoming.indexFound.promise.then(() => undefined)])
    if (bytes === undefined) return this.#leave(lane)
    this.served = true
    try {
      const index = decodeContentIndex(bytes, incoming.root)
      await incoming.open(index, bytes).catch(onStoreFailure)
    } catch (error) {
      if (isCatalogError(error, 'corrupt-content')) await onLie(this.peer, 'a content index')
      // The true index, which its author made wrong: nobody has a better one.
      else onStoreFailure(error)
      throw error
    }
    await this.#putSmall((await incoming.opening) as Opened, await small)
  }

  async #putSmall({ partial }: Opened, stream: Uint8Array | undefined): Promise<void> {
    if (stream === undefined || stream.byteLength !== partial.index.size) return
    let offset = 0
    for (const [shard, { length }] of partial.index.shards.entries()) {
      if (!partial.has(shard)) await this.#keep(partial, [shard], stream.subarray(offset, offset + length))
      offset += length
    }
  }

  async #workOn(lane: TransferLane, job: Job): Promise<void> {
    const { incoming, link } = this.#deps
    const { batchBytes, idleLaneMs } = this.#options
    const { pool } = job.opened
    const flying = new Set<Promise<void>>()
    let counted = lane.received
    const count = () => {
      link.received(lane.received - counted, performance.now())
      counted = lane.received
    }
    let busyAt = performance.now()
    let failure: { error: unknown } | undefined
    const fly = (batch: Batch, now: number) => {
      const flight = this.#fly(lane, batch, job, now, count)
        .catch((error: unknown) => {
          failure ??= { error }
        })
        .finally(() => {
          flying.delete(flight)
          incoming.changes.tell()
        })
      flying.add(flight)
    }
    try {
      while (!pool.done && failure === undefined) {
        this.#ending.signal.throwIfAborted()
        const now = performance.now()
        const room = Math.min(job.window.room, batchBytes)
        const overdue = now - incoming.overdueMs
        const standsBy = job.bulk !== undefined && job.bulk !== lane
        const mayAsk = room > 0 && !standsBy
        const batch = mayAsk ? pool.take(lane, job.available.has, room, now, overdue) : undefined
        if (batch !== undefined) {
          busyAt = now
          fly(batch, now)
        }
        // Either the window is full, or there is nothing for this lane until another gives up a shard.
        else if (flying.size > 0) await Promise.race(flying)
        // It stays open: a peer with which nothing is open may be let go.
        else if (standsBy) return
        else if (now - busyAt > idleLaneMs && room > 0) return
        else if (!job.available.complete && room > 0) await this.#askAgain(lane, job)
        else await incoming.changes.next(100)
      }
      if (failure !== undefined) throw failure.error
    } finally {
      if (flying.size > 0)
        lane.abort(new CatalogError('cancelled', 'What was asked for is not needed any more.'))
      await Promise.allSettled(flying)
    }
  }

  /** A provider that is fetching too may have more by now. One of its lanes asks, the others see the answer. */
  async #askAgain(lane: TransferLane, job: Job): Promise<void> {
    const { incoming } = this.#deps
    const waitMs = job.available.askedAt + this.#options.haveAgainMs - performance.now()
    if (waitMs > 0) return incoming.changes.next(waitMs)
    job.available.askedAt = performance.now()
    const available = await lane.have(incoming.root)
    if (available === undefined) throw refusal(this.peer, incoming.root, 'not-found')
    Object.assign(job.available, available)
    incoming.changes.tell()
  }

  /** One question, from asking to stored. */
  async #fly(
    lane: TransferLane,
    batch: Batch,
    { opened, window }: Job,
    askedAt: number,
    count: () => void,
  ): Promise<void> {
    const { incoming, link } = this.#deps
    const bytes = sum(batch.lengths)
    window.asked(bytes)
    link.begin(askedAt)
    try {
      await this.#transfer(lane, batch, opened.partial)
      incoming.answered(performance.now() - askedAt)
      window.earn()
    } finally {
      window.settled(bytes)
      count()
      link.end()
    }
  }

  async #transfer(lane: TransferLane, batch: Batch, partial: Opened['partial']): Promise<void> {
    const { incoming, link } = this.#deps
    const onShards = async (first: number, bytes: Uint8Array, count: number) => {
      this.served = true
      const shards = Array.from({ length: count }, (_, place) => first + place)
      if (this.#ending.signal.aborted || shards.every(shard => partial.has(shard))) return
      await this.#keep(partial, shards, bytes)
    }
    const { bytesPerSecond } = link
    await lane.shards(incoming.root, batch.first, batch.lengths, onShards, {
      linkBytesPerSecond: bytesPerSecond,
    })
  }

  async #keep(partial: Opened['partial'], shards: readonly number[], bytes: Uint8Array): Promise<void> {
    await this.#put(partial, shards[0] as number, bytes)
    for (const shard of shards) this.#deps.incoming.stored(shard)
  }

  async #put(partial: Opened['partial'], shard: number, bytes: Uint8Array): Promise<void> {
    try {
      await partial.put(shard, bytes)
    } catch (error) {
      if (isCatalogError(error, 'corrupt-content')) await this.#deps.onLie(this.peer, 'a shard')
      else this.#deps.onStoreFailure(error)
      throw error
    }
  }
}

const sum = (lengths: readonly number[]): number => lengths.reduce((total, length) => total + length, 0)
