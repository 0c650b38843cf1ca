// Who may move the next bytes over a limited link, and when. Pure: the time is passed in, nothing waits here.
//
// When: a token bucket for the link and one for each peer; in any t seconds at most rate x t + burst bytes pass.
// Who: start-time fair queueing (Goyal, Vin and Cheng 1996) in three rows: control before bulk, then the flows of
// a class, then the peers within a flow. Streams of one flow and peer take turns in the order in which they asked.
// Waiting on timers and promises is limited/pacer.ts; what a flow is, limited-host.ts says.

/** Small messages that others wait for, and the transfer of contents. */
export type TrafficKind = 'control' | 'bulk'

/** Bytes per second; absent: unlimited. */
export interface Rates {
  readonly total?: number | undefined
  readonly perPeer?: number | undefined
}

/** What waits for its turn: at most `quantum` bytes of one flow with one peer. */
export interface Turn {
  readonly kind: TrafficKind
  readonly flow: string
  readonly peer: string
  readonly bytes: number
}

/** Shares of a contended link: control goes first until it has taken three quarters, so that it starves nobody. */
const weights: Readonly<Record<TrafficKind, number>> = { control: 3, bulk: 1 }

/** Turns are at most this long, in seconds: so often does each of a hundred streams move once a second. */
const turnSeconds = 0.01
const minTurnBytes = 1024
const maxTurnBytes = 64 * 1024
/** What an idle link may make up for, in seconds: longer than a busy event loop is late, too short to be noticed. */
const burstSeconds = 0.1

/** The most that passes in one turn at this rate, in bytes. */
export const turnBytes = (rate: number): number =>
  Math.min(maxTurnBytes, Math.max(minTurnBytes, Math.floor(rate * turnSeconds)))

/** The most that passes at once after a time of rest, in bytes. */
export const burstBytes = (rate: number): number => Math.max(turnBytes(rate), Math.floor(rate * burstSeconds))

/** Less than a thousandth of a byte is a rounding error of the clock. */
const roundingBytes = 1e-3

class Bucket {
  readonly #rate: number
  readonly #burst: number
  #tokens: number
  #at = Number.NEGATIVE_INFINITY

  constructor(rate: number) {
    this.#rate = rate
    this.#burst = burstBytes(rate)
    this.#tokens = this.#burst
  }

  /** Milliseconds until so many bytes may pass; 0: now. */
  waitMs(bytes: number, now: number): number {
    this.#refill(now)
    const missing = bytes - this.#tokens
    return missing <= roundingBytes ? 0 : (missing / this.#rate) * 1000
  }

  take(bytes: number): void {
    this.#tokens -= bytes
  }

  /** Nothing would be forgotten if this were made anew. */
  isFull(now: number): boolean {
    this.#refill(now)
    return this.#tokens === this.#burst
  }

  #refill(now: number): void {
    if (now <= this.#at) return
    this.#tokens = Math.min(this.#burst, this.#tokens + ((now - this.#at) / 1000) * this.#rate)
    this.#at = now
  }
}

/** One part of the tree that shares a link: the link, a class, a flow, or a peer within a flow with its queue. */
class Share {
  readonly weight: number
  /** Finish tag of what passed last, in bytes by weight, on the clock of the share above. */
  finish: number
  /** Start tag of what passed last among the children. */
  clock = 0
  readonly children = new Map<string, Share>()
  readonly queue: Turn[] = []
  /** Turns that wait here and below. */
  waiting = 0
  #sweepAt = 64

  constructor(weight: number, finish: number) {
    this.weight = weight
    this.finish = finish
  }

  child(name: string, weight = 1): Share {
    let child = this.children.get(name)
    if (child !== undefined) return child
    if (this.children.size >= this.#sweepAt) this.#sweep()
    // A newcomer is owed nothing for the time before it came.
    child = new Share(weight, this.clock)
    this.children.set(name, child)
    return child
  }

  /** The start tag of the child's next turn: one that was away or held back is owed nothing for that time. */
  startOf(child: Share): number {
    return Math.max(child.finish, this.clock)
  }

  served(child: Share, bytes: number): void {
    this.clock = this.startOf(child)
    child.finish = this.clock + bytes / child.weight
  }

  /** Where nobody waits there is nothing to compare: the tags start anew. */
  rest(): void {
    this.clock = 0
    this.children.clear()
  }

  #sweep(): void {
    for (const [name, { waiting, finish }] of this.children)
      if (waiting === 0 && finish <= this.clock) this.children.delete(name)
    this.#sweepAt = Math.max(64, 2 * this.children.size)
  }
}

export class BandwidthScheduler {
  /** The most bytes of one turn; whoever has more takes several. Infinite without a limit. */
  readonly quantum: number
  readonly #perPeer: number | undefined
  readonly #link: Bucket | undefined
  readonly #peers = new Map<string, Bucket>()
  readonly #root = new Share(1, 0)
  #sweepPeersAt = 256
  /** The shortest wait for a peer's own limit that the last search came across, in milliseconds. */
  #peerWaitMs = Number.POSITIVE_INFINITY

  constructor({ total, perPeer }: Rates) {
    this.#link = total === undefined ? undefined : new Bucket(total)
    this.#perPeer = perPeer
    this.quantum = Math.min(
      ...[total, perPeer].map(rate => (rate === undefined ? Number.POSITIVE_INFINITY : turnBytes(rate))),
    )
  }

  /** Turns that wait. */
  get waiting(): number {
    return this.#root.waiting
  }

  /** Lets the turn pass at once where nobody waits and the limits allow it. */
  pass(turn: Turn, now: number): boolean {
    if (this.#root.waiting > 0 || this.#peerWait(turn, now) > 0) return false
    if ((this.#link?.waitMs(turn.bytes, now) ?? 0) > 0) return false
    this.#take(turn, now)
    return true
  }

  add(turn: Turn): void {
    if (turn.bytes > this.quantum) throw new RangeError(`a turn of ${turn.bytes} bytes`)
    const path = this.#path(turn)
    for (const share of path) share.waiting++
    path.at(-1)?.queue.push(turn)
  }

  /** Takes a turn that waits out of the queue. */
  remove(turn: Turn): void {
    const path = this.#path(turn)
    const queue = path.at(-1)?.queue
    const place = queue?.indexOf(turn) ?? -1
    if (place === -1) return
    queue?.splice(place, 1)
    this.#leave(path)
  }

  /** The turn that is next, if it may pass now; else the milliseconds until it is worth asking again. */
  next(now: number): Turn | number | undefined {
    if (this.#root.waiting === 0) return undefined
    this.#peerWaitMs = Number.POSITIVE_INFINITY
    const leaf = this.#search(this.#root, now)
    if (leaf === undefined) return this.#peerWaitMs
    const turn = leaf.queue[0] as Turn
    // Whoever is next is waited for, even where less than its bytes would suffice for another.
    const waitMs = this.#link?.waitMs(turn.bytes, now) ?? 0
    if (waitMs > 0) return waitMs
    leaf.queue.shift()
    const path = this.#path(turn)
    for (let row = 1; row < path.length; row++) path[row - 1]?.served(path[row] as Share, turn.bytes)
    this.#leave(path)
    this.#take(turn, now)
    return turn
  }

  /** All turns that wait, none of which does any more. */
  clear(): Turn[] {
    const turns: Turn[] = []
    const collect = ({ queue, children }: Share): void => {
      turns.push(...queue)
      for (const child of children.values()) collect(child)
    }
    collect(this.#root)
    for (const turn of turns) this.remove(turn)
    return turns
  }

  /** The queue with the smallest start tag in each row, past those whose peer has used up its own limit. */
  #search(share: Share, now: number): Share | undefined {
    if (share.children.size === 0) {
      const waitMs = this.#peerWait(share.queue[0] as Turn, now)
      if (waitMs > 0) this.#peerWaitMs = Math.min(this.#peerWaitMs, waitMs)
      return waitMs > 0 ? undefined : share
    }
    let best: Share | undefined
    let bestStart = Number.POSITIVE_INFINITY
    for (const child of share.children.values()) {
      const start = share.startOf(child)
      if (child.waiting === 0 || start >= bestStart) continue
      const leaf = this.#search(child, now)
      if (leaf === undefined) continue
      best = leaf
      bestStart = start
    }
    return best
  }

  #path({ kind, flow, peer }: Turn): readonly Share[] {
    const root = this.#root
    // Made together and in this order: of equals, the first goes first.
    const classes = {
      control: root.child('control', weights.control),
      bulk: root.child('bulk', weights.bulk),
    }
    const ofFlow = classes[kind].child(flow)
    return [root, classes[kind], ofFlow, ofFlow.child(peer)]
  }

  #leave(path: readonly Share[]): void {
    for (const share of path) if (--share.waiting === 0) share.rest()
  }

  #peerWait({ peer, bytes }: Turn, now: number): number {
    return this.#perPeer === undefined ? 0 : this.#bucketOf(peer, this.#perPeer, now).waitMs(bytes, now)
  }

  #take({ peer, bytes }: Turn, now: number): void {
    this.#link?.take(bytes)
    if (this.#perPeer !== undefined) this.#bucketOf(peer, this.#perPeer, now).take(bytes)
  }

  #bucketOf(peer: string, rate: number, now: number): Bucket {
    let bucket = this.#peers.get(peer)
    if (bucket !== undefined) return bucket
    if (this.#peers.size >= this.#sweepPeersAt) {
      for (const [each, rested] of this.#peers) if (rested.isFull(now)) this.#peers.delete(each)
      this.#sweepPeersAt = Math.max(256, 2 * this.#peers.size)
    }
    bucket = new Bucket(rate)
    this.#peers.set(peer, bucket)
    return bucket
  }
}
