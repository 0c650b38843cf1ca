// Offers of others to keep a copy: what is cheap to see is looked at first, room is set aside before anything is
// waited for, and the release is proved before the promise is made. It fetches no content.
import { LRUCache } from 'lru-cache'
import type { ContentUsage } from '../../assets/content-store.ts'
import { type ErrorCode, isCatalogError } from '../../base/errors.ts'
import type { CallOptions } from '../../base/lifecycle.ts'
import type { Log } from '../../base/log.ts'
import { type Offer, type Refusal, replicateLimits } from '../replication-protocol.ts'
import type { Obligations } from './obligations.ts'

export interface OffersOptions {
  readonly accept: boolean
  /** Bytes kept for others at most; undefined: half of what is free. */
  readonly maxBytes: number | undefined
  /** The part of it that the offers of one peer may take. */
  readonly peerShare: number
  /** Offers of one peer at once, and in the long run each second. */
  readonly burst: number
  readonly perSecond: number
  /** How many offers one counts for that was for nothing. */
  readonly garbageCost: number
}

export interface OffersDeps {
  readonly self: string
  readonly obligations: Obligations
  readonly usage: () => Promise<ContentUsage>
  /** Bytes that were promised and are still to come. */
  readonly pendingBytes: () => number
  /** Proves the release, asking the peer for its record. @throws CatalogError where it is none, or is not wanted here */
  readonly bring: (
    offer: { readonly release: string; readonly root: string; readonly size: number },
    from: string,
    options: CallOptions,
  ) => Promise<void>
  readonly log: Log
}

/** They say nothing about the release. */
const passing: ReadonlySet<ErrorCode> = new Set(['busy', 'peer-unreachable', 'storage-failed', 'timeout'])

export class Offers {
  readonly #deps: OffersDeps
  readonly #options: OffersOptions
  readonly #buckets = new LRUCache<string, { tokens: number; at: number }>({ max: 10_000 })
  readonly #considered = new Set<string>()
  /** Bytes of offers that there is room for, until they are promised or refused. */
  readonly #setAside = new Map<string, { readonly peer: string; readonly size: number }>()
  /** Room is looked at for one offer after another. */
  #turn: Promise<unknown> = Promise.resolve()

  constructor(deps: OffersDeps, options: OffersOptions) {
    this.#deps = deps
    this.#options = options
  }

  /** The promise is durable when it resolves to `accepted`. */
  async judge(offer: Offer, from: string, options: CallOptions): Promise<'accepted' | Refusal> {
    const { obligations, self, log } = this.#deps
    if (!this.#options.accept) return 'not-accepting'
    if (obligations.draining) return 'draining'
    if (obligations.has(offer.root)) return 'accepted'
    if (!this.#spend(from, 1) || this.#considered.has(offer.root)) return 'busy'
    this.#considered.add(offer.root)
    try {
      if (!(await this.#setRoomAside(offer, from))) return 'no-space'
      await this.#deps.bring(offer, from, options)
      if (obligations.draining) return 'draining'
      const holders = new Set([from, ...offer.holders])
      holders.delete(self)
      await obligations.add({
        root: offer.root,
        release: offer.release,
        size: offer.size,
        factor: offer.factor,
        factorVersion: offer.factorVersion,
        origin: offer.origin,
        offeredBy: from,
        since: Date.now(),
        checkedAt: 0,
        wasWhole: false,
        holders: [...holders].slice(0, replicateLimits.maxHolders),
      })
      return 'accepted'
    } catch (error) {
      options.signal?.throwIfAborted()
      if (!isCatalogError(error)) throw error
      log.info({ from, root: offer.root, error: error.message }, 'an offer to keep a copy was refused')
      if (error.code === 'no-space' || error.code === 'quota-exceeded') return 'no-space'
      this.#spend(from, this.#options.garbageCost)
      return passing.has(error.code) ? 'busy' : 'unwanted'
    } finally {
      this.#considered.delete(offer.root)
      this.#setAside.delete(offer.root)
    }
  }

  /** Bytes that may still be kept for others. */
  async room(): Promise<{ readonly total: number; readonly left: number }> {
    const { obligations, self, usage, pendingBytes } = this.#deps
    const { freeBytes } = await usage()
    const free = Math.max(0, freeBytes - pendingBytes())
    const kept = obligations.bytesForOthers(self).bytes
    const total = this.#options.maxBytes ?? Math.floor((free + kept) / 2)
    return { total, left: Math.min(total - kept, free) }
  }

  #setRoomAside({ root, size }: Offer, peer: string): Promise<boolean> {
    const looked = this.#turn.then(async () => {
      const { total, left } = await this.room()
      const aside = [...this.#setAside.values()]
      const sum = (items: typeof aside) => items.reduce((bytes, item) => bytes + item.size, 0)
      const ofPeer =
        this.#deps.obligations.bytesForOthers(this.#deps.self, peer).bytes +
        sum(aside.filter(each => each.peer === peer))
      const fits = sum(aside) + size <= left && ofPeer + size <= total * this.#options.peerShare
      if (fits) this.#setAside.set(root, { peer, size })
      return fits
    })
    this.#turn = looked.catch(() => undefined)
    return looked
  }

  #spend(peer: string, cost: number): boolean {
    const { burst, perSecond } = this.#options
    const now = performance.now()
    const { tokens, at } = this.#buckets.get(peer) ?? { tokens: burst, at: now }
    const left = Math.min(burst, tokens + ((now - at) / 1000) * perSecond)
    this.#buckets.set(peer, { tokens: Math.max(0, left - cost), at: now })
    return left >= cost
  }
}
