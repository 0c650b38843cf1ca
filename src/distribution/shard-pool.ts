// Which shards of one fetch are still wanted, and who is fetching which: the bookkeeping that lets any number
// of lanes work on one content without fetching a shard twice, and lets the fast take over from the slow at
// the end. Pure: no I/O, and the time is passed in.

export interface Batch {
  readonly first: number
  /** Lengths in bytes of consecutive shards from `first` on. */
  readonly lengths: readonly number[]
}

/** Who fetches; two lanes to one peer never race each other for a shard. */
interface Lane {
  readonly peer: string
}

export class ShardPool {
  readonly #lengths: readonly number[]
  /** Shards nobody has and nobody is fetching, ascending. */
  readonly #free = new Set<number>()
  /** Shards being fetched, with the lanes that do and since when; insertion order is age. */
  readonly #taken = new Map<number, { readonly lanes: Set<Lane>; readonly since: number }>()

  constructor(lengths: readonly number[], missing: Iterable<number>) {
    this.#lengths = lengths
    for (const shard of missing) this.#free.add(shard)
  }

  get done(): boolean {
    return this.#free.size === 0 && this.#taken.size === 0
  }

  /**
   * The next run of consecutive free shards that the lane's provider has, up to `maxBytes` (at least one shard);
   * once nothing is free, the oldest shard that only another peer is fetching, and since before `overdue`: whoever
   * delivers as expected is not raced. Undefined when there is nothing for it. Times are any clock's, the same in
   * every call.
   */
  take(
    lane: Lane,
    has: (shard: number) => boolean,
    maxBytes: number,
    now = 0,
    overdue = now,
  ): Batch | undefined {
    for (const first of this.#free) {
      if (!has(first)) continue
      const lengths: number[] = []
      let bytes = 0
      for (let shard = first; this.#free.has(shard) && has(shard); shard++) {
        const length = this.#lengths[shard] as number
        if (lengths.length > 0 && bytes + length > maxBytes) break
        lengths.push(length)
        bytes += length
      }
      for (let shard = first; shard < first + lengths.length; shard++) {
        this.#free.delete(shard)
        this.#taken.set(shard, { lanes: new Set([lane]), since: now })
      }
      return { first, lengths }
    }
    return this.#steal(lane, has, overdue)
  }

  // At most two lanes on one shard: the price of finishing early is bounded by what is in flight.
  #steal(lane: Lane, has: (shard: number) => boolean, overdue: number): Batch | undefined {
    for (const [shard, { lanes, since }] of this.#taken) {
      if (since > overdue) return undefined
      if (lanes.size > 1 || !has(shard) || [...lanes].some(({ peer }) => peer === lane.peer)) continue
      lanes.add(lane)
      return { first: shard, lengths: [this.#lengths[shard] as number] }
    }
    return undefined
  }

  /** The shard is verified and written; false when it already was. */
  finish(shard: number): boolean {
    return this.#taken.delete(shard) || this.#free.delete(shard)
  }

  /** The lane gives up what it was fetching; shards nobody else fetches are free again. */
  release(lane: Lane): void {
    for (const [shard, { lanes }] of this.#taken) {
      if (!lanes.delete(lane) || lanes.size > 0) continue
      this.#taken.delete(shard)
      this.#free.add(shard)
    }
  }
}
