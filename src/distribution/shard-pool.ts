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
  /** Its bytes wait for this node's own limits, so that another would bring them no sooner. */
  readonly heldBack?: boolean
}

interface Run {
  readonly first: number
  /** The shard after the last. */
  readonly end: number
}

/** In one batch: a content may have shards of a byte each. */
const maxShards = 1024

export class ShardPool {
  readonly #lengths: readonly number[]
  /** 1 for a shard that nobody has and nobody is fetching. */
  readonly #free: Uint8Array
  #freeCount = 0
  /** Shards being fetched, with the lanes that do and since when; insertion order is age. */
  readonly #taken = new Map<number, { readonly lanes: Set<Lane>; readonly since: number }>()
  /** Where each peer goes on. */
  readonly #places = new Map<string, number>()
  /** Grows when a shard becomes free. */
  #freed = 0
  /** What was looked through in vain, by peer. */
  readonly #futile = new Map<string, { readonly freed: number; readonly has: (shard: number) => boolean }>()
  /** Somebody is waiting for these. */
  readonly #urgent = new Set<Run>()

  constructor(lengths: readonly number[], missing: Iterable<number>) {
    this.#lengths = lengths
    this.#free = new Uint8Array(lengths.length)
    for (const shard of missing) this.#setFree(shard)
  }

  get done(): boolean {
    return this.#freeCount === 0 && this.#taken.size === 0
  }

  /** These shards go before all others, in order, until the returned function is called. */
  hurry(first: number, end: number): () => void {
    const run = { first, end }
    this.#urgent.add(run)
    return () => this.#urgent.delete(run)
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
    const wanted = (shard: number) => this.#free[shard] === 1 && has(shard)
    const urgent = this.#urgentFirst(wanted)
    // Who waits for a shard waits for that one, whatever else there is to do.
    const late =
      urgent === undefined && this.#urgent.size > 0
        ? this.#steal(lane, has, overdue, shard => this.#isUrgent(shard))
        : undefined
    if (late !== undefined) return late
    const first = urgent ?? this.#next(lane.peer, has, wanted)
    if (first === undefined) return this.#steal(lane, has, overdue, () => true)
    const lengths: number[] = []
    let bytes = 0
    let shard = first
    for (; shard < this.#free.length && lengths.length < maxShards && wanted(shard); shard++) {
      const length = this.#lengths[shard] as number
      if (lengths.length > 0 && bytes + length > maxBytes) break
      lengths.push(length)
      bytes += length
      this.#clearFree(shard)
      this.#taken.set(shard, { lanes: new Set([lane]), since: now })
    }
    this.#places.set(lane.peer, shard)
    return { first, lengths }
  }

  #urgentFirst(wanted: (shard: number) => boolean): number | undefined {
    for (const { first, end } of this.#urgent) {
      const shard = find(first, end, wanted)
      if (shard !== undefined) return shard
    }
    return undefined
  }

  #isUrgent(shard: number): boolean {
    for (const { first, end } of this.#urgent) if (shard >= first && shard < end) return true
    return false
  }

  #next(
    peer: string,
    has: (shard: number) => boolean,
    wanted: (shard: number) => boolean,
  ): number | undefined {
    const futile = this.#futile.get(peer)
    if (this.#freeCount === 0 || (futile?.freed === this.#freed && futile.has === has)) return undefined
    const place = this.#places.get(peer) ?? this.#newPlace()
    const found = find(place, this.#free.length, wanted) ?? find(0, place, wanted)
    // Nothing that it has is free: looking again is of no use before something is freed, or it has more.
    if (found === undefined) this.#futile.set(peer, { freed: this.#freed, has })
    return found
  }

  /**
   * Each provider begins in the middle of what is left to the others, so that they meet late, and that several nodes
   * that fetch the same content do not all have the same beginning of it.
   */
  #newPlace(): number {
    if (this.#places.size === 0) return 0
    let longest: Run = { first: 0, end: 0 }
    for (let first = 0; first < this.#free.length; ) {
      if (this.#free[first] === 0) {
        first += 1
        continue
      }
      let end = first
      while (end < this.#free.length && this.#free[end] === 1) end += 1
      if (end - first > longest.end - longest.first) longest = { first, end }
      first = end
    }
    return Math.floor((longest.first + longest.end) / 2)
  }

  // At most two lanes on one shard: the price of finishing early is bounded by what is in flight.
  #steal(
    lane: Lane,
    has: (shard: number) => boolean,
    overdue: number,
    may: (shard: number) => boolean,
  ): Batch | undefined {
    for (const [shard, { lanes, since }] of this.#taken) {
      if (since > overdue) return undefined
      if (!may(shard)) continue
      if (
        lanes.size > 1 ||
        !has(shard) ||
        [...lanes].some(({ peer, heldBack }) => peer === lane.peer || heldBack === true)
      )
        continue
      lanes.add(lane)
      return { first: shard, lengths: [this.#lengths[shard] as number] }
    }
    return undefined
  }

  /** The shard is verified and written; false when it already was. */
  finish(shard: number): boolean {
    return this.#taken.delete(shard) || this.#clearFree(shard)
  }

  /** The lane gives up what it was fetching; shards nobody else fetches are free again. */
  release(lane: Lane): void {
    for (const [shard, { lanes }] of this.#taken) {
      if (!lanes.delete(lane) || lanes.size > 0) continue
      this.#taken.delete(shard)
      this.#setFree(shard)
    }
  }

  #setFree(shard: number): void {
    if (this.#free[shard] === 1) return
    this.#free[shard] = 1
    this.#freeCount += 1
    this.#freed += 1
  }

  #clearFree(shard: number): boolean {
    if (this.#free[shard] !== 1) return false
    this.#free[shard] = 0
    this.#freeCount -= 1
    return true
  }
}

function find(from: number, end: number, wanted: (shard: number) => boolean): number | undefined {
  for (let shard = from; shard < end; shard++) if (wanted(shard)) return shard
  return undefined
}
