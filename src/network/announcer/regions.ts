// The regions that this node has explored: their shapes, for as long as nothing contradicts them, and for a short time
// the peers in them, so that a burst of announcements costs one exploration.
import { type Location, type Prefix, prefixOf } from '../keyspace.ts'
import type { Region } from '../router.ts'

/** Of a network of 100,000 nodes; what is forgotten is explored again. */
const maxRegions = 4096
const maxDepth = 32

export class Regions {
  readonly #known = new Map<Prefix, { readonly region: Region; readonly at: number }>()
  readonly #turns = new Map<Prefix, Promise<unknown>>()
  readonly #freshMs: number
  #depth: number

  /** `depth`: the usual length of a region's prefix, before one is known. */
  constructor(freshMs: number, depth = 0) {
    this.#freshMs = freshMs
    this.#depth = depth
  }

  /** The length of the prefix of the region that was explored last. */
  get depth(): number {
    return this.#depth
  }

  /** The prefix of the region that the location is in, as far as that is known or can be guessed. */
  prefixAt(location: Location): Prefix {
    return this.#covering(location)?.region.prefix ?? prefixOf(location, this.#depth)
  }

  /** The region, where it was explored so lately that its peers are still the right ones. */
  #freshAt(location: Location, now: number): Region | undefined {
    const known = this.#covering(location)
    return known !== undefined && now - known.at < this.#freshMs ? known.region : undefined
  }

  /** The fresh region there, else what `explore` gives; two that guess to be in one region do not both explore it. */
  async obtain(location: Location, now: () => number, explore: () => Promise<Region>): Promise<Region> {
    const guess = this.prefixAt(location)
    const mine = (this.#turns.get(guess) ?? Promise.resolve()).then(async () => {
      const fresh = this.#freshAt(location, now())
      if (fresh !== undefined) return fresh
      const region = await explore()
      this.learn(region, now())
      return region
    })
    const settled = mine.catch(() => undefined)
    this.#turns.set(guess, settled)
    try {
      return await mine
    } finally {
      if (this.#turns.get(guess) === settled) this.#turns.delete(guess)
    }
  }

  learn(region: Region, now: number): void {
    const { prefix } = region
    if (prefix.length > maxDepth) return
    for (const other of this.#known.keys())
      if (other.startsWith(prefix) || prefix.startsWith(other)) this.#known.delete(other)
    this.#known.set(prefix, { region, at: now })
    this.#depth = prefix.length
    for (const oldest of this.#known.keys()) {
      if (this.#known.size <= maxRegions) break
      this.#known.delete(oldest)
    }
  }

  /** Who is connected has changed: peers are looked up again. */
  stale(): void {
    for (const [prefix, { region }] of this.#known) this.#known.set(prefix, { region, at: 0 })
  }

  #covering(location: Location): { readonly region: Region; readonly at: number } | undefined {
    for (let bits = 0; bits <= maxDepth; bits++) {
      const known = this.#known.get(prefixOf(location, bits))
      if (known !== undefined) return known
    }
    return undefined
  }
}
