// The sweep: what is due again or failed is announced region by region, the region of the oldest first, with one
// exploration for all keys in it. It has no timers: announcer.ts calls it.
import { withTimeout } from '../../base/deadline.ts'
import type { Announcement, KeyspaceRouter, Region } from '../router.ts'
import type { AnnouncementQueue, Queued } from './queue.ts'
import type { Regions } from './regions.ts'
import { bulletinsOf, type Message, type Rounds } from './round.ts'
import { type Cycle, earlyMs, nextSlot } from './schedule.ts'

export interface SweepDeps {
  readonly router: KeyspaceRouter
  readonly queue: AnnouncementQueue
  readonly rounds: Rounds
  readonly regions: Regions
  readonly now: () => number
}

export interface SweepOptions {
  /** Entries read and told together, and how long that may take. */
  readonly pageItems: number
  readonly pageTimeoutMs: number
  readonly exploreTimeoutMs: number
}

export interface Swept {
  readonly prefix: string
  readonly lookups: number
  /** Keys that were due there, and those of them that peers have confirmed. */
  readonly due: number
  readonly told: number
}

export class Sweep {
  readonly #deps: SweepDeps
  readonly #options: SweepOptions
  readonly #cycle: Cycle
  /** A pass through everything that fails, due or not, because a peer has come. */
  #revisit: { readonly startedAt: number; after: string | undefined } | undefined

  constructor(deps: SweepDeps, options: SweepOptions, cycle: Cycle) {
    this.#deps = deps
    this.#options = options
    this.#cycle = cycle
  }

  revisit(): void {
    this.#revisit = { startedAt: this.#deps.now(), after: undefined }
  }

  /** What is due and has waited longest; else when something will be. */
  async next(): Promise<{ readonly item: Announcement } | { readonly at: number }> {
    const again = await this.#nextRevisited()
    if (again !== undefined) return { item: again }
    const [told, failing] = [await this.#first('told'), await this.#first('failing')]
    const first =
      (told?.at ?? Number.POSITIVE_INFINITY) <= (failing?.at ?? Number.POSITIVE_INFINITY) ? told : failing
    if (first === undefined) return { at: Number.POSITIVE_INFINITY }
    return first.at <= this.#deps.now() ? { item: first.item } : { at: first.at }
  }

  async #first(state: 'told' | 'failing'): Promise<{ at: number; item: Announcement } | undefined> {
    const { queue, rounds } = this.#deps
    // At most the busy ones come before one that is free.
    for await (const { at, item } of queue.inOrder(state, { limit: rounds.busy + 1 }))
      if (!rounds.isBusy(item)) return { at, item }
    return undefined
  }

  async #nextRevisited(): Promise<Announcement | undefined> {
    const { queue, rounds } = this.#deps
    while (this.#revisit !== undefined) {
      const pass = this.#revisit
      const from = pass.after === undefined ? {} : { after: pass.after }
      let item: Announcement | undefined
      for await (const entry of queue.inOrder('failing', { limit: 1, ...from })) {
        item = entry.item
        pass.after = entry.place
      }
      if (pass !== this.#revisit) continue
      if (item === undefined) {
        this.#revisit = undefined
        return undefined
      }
      const entry = await queue.read(item)
      if (entry?.state === 'failing' && entry.triedAt < pass.startedAt && !rounds.isBusy(item)) return item
    }
    return undefined
  }

  /** Announces all that is due, or nearly, in the region of the item. Throws where the region cannot be explored. */
  async announceRegionOf(item: Announcement, signal: AbortSignal): Promise<Swept> {
    const { router, queue, regions, now } = this.#deps
    const region = await router.explore(item, { signal: withTimeout(signal, this.#options.exploreTimeoutMs) })
    regions.learn(region, now())
    const count = { due: 0, told: 0 }
    for (let after: string | undefined, first = true; first || after !== undefined; first = false) {
      const page = await queue.region(region.prefix, { limit: this.#options.pageItems, after })
      await this.#tell(region, page.entries, count, signal)
      signal.throwIfAborted()
      after = page.after
    }
    return { prefix: region.prefix, lookups: region.lookups, ...count }
  }

  async #tell(
    region: Region,
    entries: readonly Queued[],
    count: { due: number; told: number },
    signal: AbortSignal,
  ): Promise<void> {
    const { router, rounds, now } = this.#deps
    const until = now() + earlyMs(this.#cycle)
    // What is new is told on a way of its own; what fails goes along, due or not.
    const due = entries.filter(({ entry }) =>
      entry.state === 'told' ? entry.at < until : entry.state === 'failing',
    )
    const peers = [...new Set([...region.peers, ...router.neighbours()])]
    const send = (messages: readonly Message[]) => {
      const timed = withTimeout(signal, this.#options.pageTimeoutMs)
      return router.tell(bulletinsOf(messages), peers, { signal: timed })
    }
    count.due += due.length
    count.told += await rounds.tell(due, send, () => nextSlot(region.prefix, now(), this.#cycle), signal)
  }
}
