// What is new is announced at once, oldest first: to the connected peers without looking anything up, and to those who
// shall keep it as soon as they are known. A burst costs as many explorations as it touches regions, not one a key.
import { withTimeout } from '../../base/deadline.ts'
import { isUnder } from '../keyspace.ts'
import type { KeyspaceRouter, Region } from '../router.ts'
import type { AnnouncementQueue, Queued } from './queue.ts'
import type { Regions } from './regions.ts'
import { bulletinsOf, type Message, type Rounds } from './round.ts'
import { type Cycle, nextSlot } from './schedule.ts'

export interface NewsDeps {
  readonly router: KeyspaceRouter
  readonly queue: AnnouncementQueue
  readonly rounds: Rounds
  readonly regions: Regions
  readonly now: () => number
}

export interface NewsOptions {
  readonly pageItems: number
  readonly pageTimeoutMs: number
  /** Stretches of the keyspace that are explored at once. */
  readonly explorations: number
}

/** With so few keys in a region one lookup each is cheaper than exploring it (as go-libp2p-kad-dht has it). */
const fewKeys = 2

export class News {
  readonly #deps: NewsDeps
  readonly #options: NewsOptions
  readonly #cycle: Cycle

  constructor(deps: NewsDeps, options: NewsOptions, cycle: Cycle) {
    this.#deps = deps
    this.#options = options
    this.#cycle = cycle
  }

  /** The oldest that nobody is telling yet. */
  async next(): Promise<readonly Queued[]> {
    const { queue, rounds, router } = this.#deps
    const found: Queued[] = []
    for await (const { item } of queue.inOrder('new', { limit: this.#options.pageItems + rounds.busy })) {
      if (found.length === this.#options.pageItems) break
      if (rounds.isBusy(item)) continue
      const entry = await queue.read(item)
      if (entry?.state === 'new') found.push({ item, location: router.locate(item), entry })
    }
    return found
  }

  /** Resolves when all was tried and written down. */
  async tell(queued: readonly Queued[], stopping: AbortSignal): Promise<void> {
    const { rounds, regions, now } = this.#deps
    await rounds.tell(
      queued,
      messages => this.#send(messages, withTimeout(stopping, this.#options.pageTimeoutMs)),
      location => nextSlot(regions.prefixAt(location), now(), this.#cycle),
      stopping,
    )
  }

  async #send(messages: readonly Message[], signal: AbortSignal): Promise<void> {
    const { router, regions } = this.#deps
    const groups = new Map<string, Message[]>()
    for (const message of messages) {
      const prefix = regions.prefixAt(message.location)
      groups.set(prefix, [...(groups.get(prefix) ?? []), message])
    }
    const waiting = [...groups.values()]
    const work = async () => {
      for (let group = waiting.shift(); group !== undefined; group = waiting.shift())
        await this.#sendGroup(group, signal)
    }
    const everywhere = Array.from({ length: this.#options.explorations }, work)
    await settled([router.tell(bulletinsOf(messages), router.neighbours(), { signal }), ...everywhere])
  }

  /** One region as far as is known: the keyspace may be cut finer by now, or coarser. */
  async #sendGroup(group: readonly Message[], signal: AbortSignal): Promise<void> {
    const { router } = this.#deps
    for (let rest = group; rest.length > 0; ) {
      const region = await this.#regionOf(rest[0] as Message, rest.length, signal)
      const inside = rest.filter(message => message === rest[0] || isUnder(region.prefix, message.location))
      const peers = [...new Set([...region.peers, ...router.neighbours()])]
      await router.tell(bulletinsOf(inside), peers, { signal })
      rest = rest.filter(message => !inside.includes(message))
    }
  }

  #regionOf({ bulletin, location }: Message, keys: number, signal: AbortSignal): Promise<Region> {
    const { router, regions, now } = this.#deps
    return regions.obtain(location, now, () =>
      router.explore(bulletin.item, { narrow: keys <= fewKeys, signal }),
    )
  }
}

/** All of them, whatever becomes of one; then the first failure. */
async function settled(work: readonly Promise<void>[]): Promise<void> {
  for (const result of await Promise.allSettled(work)) if (result.status === 'rejected') throw result.reason
}
