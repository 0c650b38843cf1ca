// The content that one fetch is filling: its index once it is known, which shards are still wanted, how far it is.
// It knows the store, and nothing of peers.
import type { ContentIndex } from '../../assets/content-index.ts'
import type { ContentStore, PartialContent } from '../../assets/content-store.ts'
import { ShardPool } from '../shard-pool.ts'
import { Changes } from './changes.ts'

/** A content whose index is known, open for writing. */
export interface Opened {
  readonly partial: PartialContent
  readonly pool: ShardPool
}

export interface IncomingDeps {
  readonly store: Pick<ContentStore, 'openPartial'>
  /** Ends with the fetch. */
  readonly signal: AbortSignal
  /** Told the index before anything is written; throws where nobody wants this content any more. */
  readonly onIndex: (index: ContentIndex) => void
  readonly onProgress: (doneBytes: number, totalBytes: number) => void
}

export class Incoming {
  readonly root: string
  /** Told when the index is known, a shard is free again, a provider has left, or all is here. */
  readonly changes = new Changes()
  /** Told whenever a shard has come to be here. */
  readonly arrivals = new Changes()
  /** Resolves once an index was accepted and is being opened. */
  readonly indexFound = Promise.withResolvers<void>()
  localBytes = 0
  /** Whether a shard has come from a provider, and was what it should be. */
  isServed = false
  /** When a shard, or the index, last came to be here; any clock's milliseconds. */
  progressAt = performance.now()
  readonly #deps: IncomingDeps
  #opening: Promise<Opened> | undefined
  #opened: Opened | undefined
  #doneBytes = 0
  #indexAskers = 0
  #indexAskedAt = 0
  #batchMs = 0

  constructor(root: string, deps: IncomingDeps) {
    this.root = root
    this.#deps = deps
  }

  get opened(): Opened | undefined {
    return this.#opened
  }

  get opening(): Promise<Opened> | undefined {
    return this.#opening
  }

  get done(): boolean {
    return this.#opened?.pool.done === true
  }

  get missingBytes(): number {
    return (this.#opened?.partial.index.size ?? 0) - this.#doneBytes
  }

  /** A shard asked for longer ago than this may be asked of another provider as well. */
  get overdueMs(): number {
    return 250 + 3 * this.#batchMs
  }

  /** From a question to its answer, with what was asked before it: how long a healthy provider takes now. */
  answered(milliseconds: number): void {
    this.#batchMs += (milliseconds - this.#batchMs) / 8
  }

  /** Opens the content by its verified index; the first one counts, later ones are the same. */
  open(index: ContentIndex, indexBytes: Uint8Array): Promise<Opened> {
    this.#opening ??= this.#open(index, indexBytes)
    this.indexFound.resolve()
    return this.#opening
  }

  async #open(index: ContentIndex, indexBytes: Uint8Array): Promise<Opened> {
    const { store, signal, onIndex } = this.#deps
    onIndex(index)
    signal.throwIfAborted()
    const partial = await store.openPartial(this.root, indexBytes)
    try {
      this.localBytes = await partial.copyLocal({ signal })
    } catch (error) {
      await partial.close()
      throw error
    }
    const missing = partial.missing()
    const lengths = index.shards.map(shard => shard.length)
    this.#doneBytes = index.size - missing.reduce((sum, shard) => sum + (lengths[shard] as number), 0)
    this.#opened = { partial, pool: new ShardPool(lengths, missing) }
    this.#progressed()
    this.changes.tell()
    return this.#opened
  }

  /** The shard is verified and written; harmless when another lane was first. */
  stored(shard: number): void {
    if (this.#opened?.pool.finish(shard) !== true) return
    this.isServed = true
    this.#doneBytes += this.#opened.partial.index.shards[shard]?.length as number
    this.#progressed()
    if (this.done) this.changes.tell()
  }

  /**
   * Whether one more provider should be asked for the index: one at a time, another whenever the last has had
   * `patienceMs`, so that a slow one cannot keep the others waiting. Resolves to false when there is an index.
   */
  async mayAskForIndex(patienceMs: number): Promise<boolean> {
    for (;;) {
      this.#deps.signal.throwIfAborted()
      if (this.#opening !== undefined) return false
      const waitMs = this.#indexAskedAt + patienceMs - performance.now()
      if (this.#indexAskers === 0 || waitMs <= 0) break
      await this.changes.next(waitMs)
    }
    this.#indexAskers += 1
    this.#indexAskedAt = performance.now()
    return true
  }

  /** Whoever was let ask by `mayAskForIndex` has its answer, or none. */
  askedForIndex(): void {
    this.#indexAskers -= 1
    this.changes.tell()
  }

  /** Makes the whole content durable. */
  async complete(): Promise<void> {
    await this.#opened?.partial.complete()
  }

  /** Keeps what is here. Nobody may write any more. */
  async close(): Promise<void> {
    await this.#opening?.catch(() => undefined)
    await this.#opened?.partial.close()
  }

  #progressed(): void {
    this.progressAt = performance.now()
    this.arrivals.tell()
    const { index } = (this.#opened as Opened).partial
    this.#deps.onProgress(this.#doneBytes, index.size)
  }
}
