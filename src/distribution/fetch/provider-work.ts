// One provider at work for one fetch: the index where it is still missing, then shards over a few lanes, until
// there is nothing left for this provider. Whatever goes wrong with the provider ends its work and nothing else;
// only a failure of this node's own store ends the fetch.
import { contentIndexLimits, decodeContentIndex } from '../../assets/content-index.ts'
import { CatalogError, isCatalogError } from '../../base/errors.ts'
import type { CallOptions } from '../../base/lifecycle.ts'
import type { Batch } from '../shard-pool.ts'
import type { Availability, LaneOptions, TransferLane } from '../transfer-lane.ts'
import { transferLimits } from '../transfer-server.ts'
import type { Incoming, Opened } from './incoming.ts'

export interface ProviderWorkOptions {
  readonly lane: LaneOptions
  /** Streams to one provider. */
  readonly lanesPerProvider: number
  /** Bytes of consecutive shards in one question. */
  readonly batchBytes: number
  /** A provider that is sending the index for this long gets company: the next one is asked too. */
  readonly indexPatienceMs: number
  /** A lane with nothing to do for this long is closed. */
  readonly idleLaneMs: number
}

export interface ProviderWorkDeps {
  readonly incoming: Incoming
  readonly openLane: (peer: string, options: CallOptions) => Promise<TransferLane>
  /** The provider sent bytes with another hash than promised. */
  readonly onLie: (peer: string, what: string) => Promise<void>
  /** This node cannot keep the content: the fetch is over. */
  readonly onStoreFailure: (error: unknown) => void
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
    try {
      const first = await this.#openLane()
      const opened = await this.#opened(first)
      // A lane that was still sending an index that nobody needs any more is gone.
      const lane = this.#lanes.has(first) ? first : await this.#openLane()
      const available = await lane.have(this.#deps.incoming.root, opened.partial.index.shards.length)
      if (available === undefined) return 'nothing'
      work.push(this.#workOn(lane, available, opened))
      for (let extra = this.#extraLanes(); extra > 0; extra--)
        work.push(
          this.#openLane().then(
            each => this.#workOn(each, available, opened),
            () => undefined,
          ),
        )
      await Promise.all(work)
      return 'idle'
    } finally {
      this.#ending.abort(new CatalogError('cancelled', 'The work with this provider has ended.'))
      for (const lane of this.#lanes) this.#leave(lane)
      await Promise.allSettled(work)
    }
  }

  abort(reason: Error): void {
    this.#ending.abort(reason)
    for (const lane of this.#lanes) lane.abort(reason)
  }

  async #openLane(): Promise<TransferLane> {
    const { signal } = this.#ending
    const lane = await this.#deps.openLane(this.peer, { signal })
    this.#lanes.add(lane)
    if (signal.aborted) this.#leave(lane)
    signal.throwIfAborted()
    return lane
  }

  #leave(lane: TransferLane): void {
    const { incoming } = this.#deps
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

  async #fetchIndex(lane: TransferLane): Promise<void> {
    const { incoming, onLie, onStoreFailure } = this.#deps
    const asked = lane.index(incoming.root, contentIndexLimits.maxBytes)
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
  }

  async #workOn(lane: TransferLane, available: Availability, { partial, pool }: Opened): Promise<void> {
    const { incoming } = this.#deps
    const { batchBytes, idleLaneMs } = this.#options
    const flying = new Set<Promise<void>>()
    let outstanding = 0
    // A lane earns its window: so the first provider to answer does not take everything before the others do.
    let window = batchBytes
    let busyAt = performance.now()
    let failure: { error: unknown } | undefined
    const fly = (batch: Batch, bytes: number, askedAt: number) => {
      outstanding += bytes
      const flight = this.#transfer(lane, batch, partial)
        .then(
          () => {
            incoming.answered(performance.now() - askedAt)
            window = Math.min(window * 2, transferLimits.maxOutstandingBytes)
          },
          (error: unknown) => {
            failure ??= { error }
          },
        )
        .finally(() => {
          outstanding -= bytes
          flying.delete(flight)
        })
      flying.add(flight)
    }
    try {
      while (!pool.done && failure === undefined) {
        this.#ending.signal.throwIfAborted()
        const now = performance.now()
        const room = Math.min(window - outstanding, batchBytes)
        const batch =
          room > 0 ? pool.take(lane, available.has, room, now, now - incoming.overdueMs) : undefined
        if (batch !== undefined) {
          busyAt = now
          fly(batch, sum(batch.lengths), now)
        }
        // Either the window is full, or there is nothing for this lane until another gives up a shard.
        else if (flying.size > 0) await Promise.race(flying)
        else if (now - busyAt > idleLaneMs) return
        else await incoming.changes.next(100)
      }
      if (failure !== undefined) throw failure.error
    } finally {
      if (flying.size > 0)
        lane.abort(new CatalogError('cancelled', 'What was asked for is not needed any more.'))
      await Promise.allSettled(flying)
    }
  }

  async #transfer(lane: TransferLane, batch: Batch, partial: Opened['partial']): Promise<void> {
    const { incoming } = this.#deps
    await lane.shards(incoming.root, batch.first, batch.lengths, async (shard, bytes) => {
      this.served = true
      if (partial.has(shard) || this.#ending.signal.aborted) return
      await this.#put(partial, shard, bytes)
      incoming.stored(shard, bytes.byteLength)
    })
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
