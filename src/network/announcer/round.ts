// One round of telling: takes entries of the queue, has them sent, and writes down what came of it. An entry that was
// changed meanwhile stays as it was changed; one that was removed is taken back.
import type { Log } from '../../base/log.ts'
import type { Location } from '../keyspace.ts'
import type { Announcement, Bulletin, KeyspaceRouter, RecordKey } from '../router.ts'
import { type AnnouncementQueue, type Entry, nameOf, type Queued } from './queue.ts'

export interface RoundDeps {
  readonly router: KeyspaceRouter
  readonly queue: AnnouncementQueue
  /** The record as it is now; undefined when it is no longer here: then its announcement ends. */
  recordBytes(key: RecordKey): Promise<Uint8Array | undefined>
  readonly now: () => number
  readonly log: Log
}

export interface RoundOptions {
  /** Entries, and bytes of records, that are under way together. */
  readonly pageItems: number
  readonly pageBytes: number
  /** After a failure, doubling up to the second figure. */
  readonly retryMs: number
  readonly maxRetryMs: number
}

/** A bulletin and the entry that it is told for. */
export interface Message {
  readonly bulletin: Bulletin
  readonly location: Location
  readonly entry: Entry
}

export const bulletinsOf = (messages: readonly Message[]): Bulletin[] =>
  messages.map(({ bulletin }) => bulletin)

export class Rounds {
  readonly #deps: RoundDeps
  readonly #options: RoundOptions
  readonly #busy = new Set<string>()
  /** Why the last entry that nobody accepted was not. */
  lastError: string | undefined

  constructor(deps: RoundDeps, options: RoundOptions) {
    this.#deps = deps
    this.#options = options
  }

  isBusy(item: Announcement): boolean {
    return this.#busy.has(nameOf(item))
  }

  get busy(): number {
    return this.#busy.size
  }

  /**
   * Tells the entries that no other round is telling, page by page. `send` fills the bulletins in; `nextAt` says when a
   * location is told again. What `send` throws is the failure of those that were not told. Resolves to the number told. `stopping` is no failure: what was not told by then stays as it is.
   */
  async tell(
    queued: readonly Queued[],
    send: (messages: readonly Message[]) => Promise<void>,
    nextAt: (location: Location) => number,
    stopping: AbortSignal,
  ): Promise<number> {
    const mine = queued.filter(({ item }) => !this.isBusy(item))
    for (const { item } of mine) this.#busy.add(nameOf(item))
    try {
      let told = 0
      for (let from = 0; from < mine.length && !stopping.aborted; ) {
        const { messages, to } = await this.#load(mine, from)
        told += await this.#page(messages, send, nextAt, stopping)
        from = to
      }
      return told
    } finally {
      for (const { item } of mine) this.#busy.delete(nameOf(item))
    }
  }

  async #load(queued: readonly Queued[], from: number): Promise<{ messages: Message[]; to: number }> {
    const messages: Message[] = []
    let bytes = 0
    let to = from
    for (; to < queued.length && messages.length < this.#options.pageItems; to++) {
      const { item, location, entry } = queued[to] as Queued
      const value = item.kind === 'record' ? await this.#deps.recordBytes(item.key) : undefined
      if (item.kind === 'record' && value === undefined) {
        await this.#replace(item, entry, undefined)
        continue
      }
      const bulletin = {
        item,
        told: new Set<string>(),
        accepted: 0,
        ...(value === undefined ? {} : { value }),
      }
      messages.push({ bulletin, location, entry })
      bytes += value?.byteLength ?? 0
      if (bytes >= this.#options.pageBytes) {
        to++
        break
      }
    }
    return { messages, to }
  }

  async #page(
    messages: readonly Message[],
    send: (messages: readonly Message[]) => Promise<void>,
    nextAt: (location: Location) => number,
    stopping: AbortSignal,
  ): Promise<number> {
    if (messages.length === 0) return 0
    let failure: Error | undefined
    await send(messages).catch((error: Error) => {
      failure = error
    })
    const told = messages.filter(({ bulletin }) => bulletin.accepted > 0)
    const written = stopping.aborted ? told : messages
    await Promise.all(
      written.map(({ bulletin, location, entry }) =>
        bulletin.accepted > 0
          ? this.#replace(bulletin.item, entry, this.#told(nextAt(location)))
          : this.#replace(bulletin.item, entry, this.#failed(bulletin, entry, failure)),
      ),
    )
    return told.length
  }

  #told(at: number): Omit<Entry, 'revision'> {
    return { state: 'told', at, since: at, triedAt: this.#deps.now(), failures: 0 }
  }

  #failed(bulletin: Bulletin, entry: Entry, failure: Error | undefined): Omit<Entry, 'revision'> {
    const reason = bulletin.refusal ?? failure?.message ?? 'no peer accepted it'
    this.lastError = `${nameOf(bulletin.item)}: ${reason}`
    const { retryMs, maxRetryMs } = this.#options
    const delay = Math.min(maxRetryMs, retryMs * 2 ** Math.min(entry.failures, 20))
    const triedAt = this.#deps.now()
    // Ten per cent either way, so that what failed together does not come back together.
    const at = Math.ceil(triedAt + delay * (0.9 + Math.random() * 0.2))
    return { state: 'failing', at, since: entry.since, triedAt, failures: entry.failures + 1 }
  }

  /** Puts the new entry in place of the one that was told, unless that has changed. */
  async #replace(item: Announcement, was: Entry, next: Omit<Entry, 'revision'> | undefined): Promise<void> {
    let removed = false
    await this.#deps.queue.change(item, is => {
      removed = is === undefined
      if (is?.revision !== was.revision) return is
      return next === undefined ? undefined : { ...next, revision: was.revision }
    })
    if (removed && item.kind === 'provide')
      await this.#deps.router.unprovide(item.cid).catch(err => {
        this.#deps.log.debug({ err, cid: item.cid }, 'the own provider record could not be withdrawn')
      })
  }
}
