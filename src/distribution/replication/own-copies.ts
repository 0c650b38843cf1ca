// This node's own side of its promises: pulls what is not here yet, verifies every byte of what is, slowly and one
// content at a time, and fetches again what is damaged. Whom to tell of it is the callers' business.
import PQueue from 'p-queue'
import type { ContentStore } from '../../assets/content-store.ts'
import { type ErrorCode, isCatalogError } from '../../base/errors.ts'
import type { CallOptions } from '../../base/lifecycle.ts'
import type { Log } from '../../base/log.ts'
import type { Obligation, Obligations } from './obligations.ts'

export interface OwnCopiesOptions {
  readonly pullsAtOnce: number
  /** Every byte of a copy is verified once in this time. */
  readonly verifyEveryMs: number
  /** A suspicion leads to a verification at most this often. */
  readonly suspectEveryMs: number
  /** Between attempts that failed: doubles up to the second figure. */
  readonly retryMs: number
  readonly maxRetryMs: number
  /** A copy that never was whole is given up when nothing of it came for this long. */
  readonly giveUpMs: number
}

export interface FetchContent extends CallOptions {
  readonly onProgress: (doneBytes: number) => void
}

export interface OwnCopiesDeps {
  readonly obligations: Obligations
  readonly store: Pick<ContentStore, 'state' | 'check'>
  /** Complete, durable and announced when it resolves. */
  readonly pull: (obligation: Obligation, options: FetchContent) => Promise<void>
  /** Fetches the damaged shards of a content anew. */
  readonly mend: (obligation: Obligation, options: FetchContent) => Promise<void>
  /** The copy is whole now, or no longer, or was given up. */
  readonly onChange: (root: string, change: 'whole' | 'coming' | 'given-up') => void
  readonly log: Log
}

interface OwnCopy {
  whole: boolean
  damaged: boolean
  bytes: number
  progressAt: number
  failures: number
  busy: boolean
  suspectedAt: number
  timer: NodeJS.Timeout | undefined
}

/** A promise that cannot be kept for want of room is given back at once. */
const hopeless: ReadonlySet<ErrorCode> = new Set(['no-space', 'quota-exceeded', 'bad-record', 'too-large'])

export class OwnCopies {
  readonly #deps: OwnCopiesDeps
  readonly #options: OwnCopiesOptions
  readonly #copies = new Map<string, OwnCopy>()
  readonly #pulls: PQueue
  readonly #checks = new PQueue({ concurrency: 1 })
  readonly #stopping = new AbortController()
  #verifier: NodeJS.Timeout | undefined

  constructor(deps: OwnCopiesDeps, options: OwnCopiesOptions) {
    this.#deps = deps
    this.#options = options
    this.#pulls = new PQueue({ concurrency: options.pullsAtOnce })
  }

  async start(): Promise<void> {
    for (const { root } of this.#deps.obligations.all()) await this.ensure(root)
    const every = Math.min(60_000, Math.max(100, this.#options.verifyEveryMs / 10))
    this.#verifier = setInterval(() => this.#verifyNext(), every).unref()
  }

  async stop(): Promise<void> {
    clearInterval(this.#verifier)
    this.#stopping.abort()
    for (const { timer } of this.#copies.values()) clearTimeout(timer)
    this.#pulls.clear()
    this.#checks.clear()
  }

  isWhole(root: string): boolean {
    const copy = this.#copies.get(root)
    return copy?.whole === true && !copy.damaged
  }

  /** Bytes here of a copy that is coming. */
  bytes(root: string): number {
    return this.#copies.get(root)?.bytes ?? 0
  }

  /** Bytes that are still to come, of all copies. */
  get pendingBytes(): number {
    let bytes = 0
    for (const { root, size } of this.#deps.obligations.all())
      if (this.#copies.get(root)?.whole !== true) bytes += Math.max(0, size - this.bytes(root))
    return bytes
  }

  forget(root: string): void {
    clearTimeout(this.#copies.get(root)?.timer)
    this.#copies.delete(root)
  }

  /** Looks whether it is here, and begins to bring it where it is not. */
  async ensure(root: string): Promise<void> {
    const copy = this.#copy(root)
    copy.whole = (await this.#deps.store.state(root)) === 'complete'
    const { obligations } = this.#deps
    if (!copy.whole) this.#bring(root)
    else if (obligations.get(root)?.wasWhole === false) await obligations.change(root, { wasWhole: true })
  }

  /** Somebody got wrong bytes from here. Until they are verified, the copy does not count as whole. */
  suspect(root: string): void {
    const copy = this.#copies.get(root)
    const now = performance.now()
    if (copy?.whole !== true || copy.busy || now - copy.suspectedAt < this.#options.suspectEveryMs) return
    copy.suspectedAt = now
    this.#verify(root)
  }

  #copy(root: string): OwnCopy {
    let copy = this.#copies.get(root)
    if (copy === undefined) {
      copy = {
        whole: false,
        damaged: false,
        bytes: 0,
        progressAt: performance.now(),
        failures: 0,
        busy: false,
        suspectedAt: Number.NEGATIVE_INFINITY,
        timer: undefined,
      }
      this.#copies.set(root, copy)
    }
    return copy
  }

  /** The copy that was verified longest ago, when its time has come. */
  #verifyNext(): void {
    if (this.#checks.size + this.#checks.pending > 0) return
    let oldest: Obligation | undefined
    for (const each of this.#deps.obligations.all())
      if (this.isWhole(each.root) && (oldest === undefined || each.checkedAt < oldest.checkedAt))
        oldest = each
    if (oldest !== undefined && Date.now() - oldest.checkedAt >= this.#options.verifyEveryMs)
      this.#verify(oldest.root)
  }

  #verify(root: string): void {
    const { obligations, store, log } = this.#deps
    const copy = this.#copy(root)
    if (copy.busy) return
    copy.busy = true
    const work = async () => {
      if (!obligations.has(root)) return
      const bad = await store.check(root, { signal: this.#stopping.signal })
      if (bad.length === 0) return obligations.change(root, { checkedAt: Date.now() })
      log.warn({ root, shards: bad.length }, 'a kept copy is damaged; fetching what is bad anew')
      copy.damaged = true
      this.#deps.onChange(root, 'coming')
      this.#bring(root)
    }
    this.#checks
      .add(work)
      .catch((error: unknown) => {
        if (!this.#stopping.signal.aborted)
          log.warn({ root, error: String(error) }, 'a kept copy could not be verified')
      })
      .finally(() => {
        copy.busy = false
      })
  }

  #bring(root: string): void {
    this.#pulls.add(() => this.#bringNow(root)).catch(() => undefined)
  }

  async #bringNow(root: string): Promise<void> {
    const { obligations, log, onChange } = this.#deps
    const obligation = obligations.get(root)
    const copy = this.#copies.get(root)
    if (obligation === undefined || copy === undefined || this.isWhole(root)) return
    const onProgress = (done: number) => {
      if (done > copy.bytes) copy.progressAt = performance.now()
      copy.bytes = done
    }
    const options = { signal: this.#stopping.signal, onProgress }
    try {
      await (copy.damaged ? this.#deps.mend(obligation, options) : this.#deps.pull(obligation, options))
      copy.whole = true
      copy.damaged = false
      copy.failures = 0
      await obligations.change(root, { wasWhole: true, checkedAt: Date.now() })
      onChange(root, 'whole')
    } catch (error) {
      if (this.#stopping.signal.aborted) return
      log.info({ root, error: String(error) }, 'a copy to be kept could not be brought')
      if (this.#isHopeless(obligation, copy, error)) return onChange(root, 'given-up')
      const { retryMs, maxRetryMs } = this.#options
      const delay = Math.min(maxRetryMs, retryMs * 2 ** Math.min(copy.failures++, 20))
      copy.timer = setTimeout(() => this.#bring(root), delay).unref()
    }
  }

  #isHopeless({ wasWhole }: Obligation, { progressAt }: OwnCopy, error: unknown): boolean {
    if (wasWhole) return false
    const lost = isCatalogError(error) && hopeless.has(error.code)
    return lost || performance.now() - progressAt > this.#options.giveUpMs
  }
}
