// What this node remembers of providers: who sent bytes with a false hash, banned for a while, across restarts; and, since
// the start, how fast each delivered and how often it failed, which decides whom to ask first.
import { LRUCache } from 'lru-cache'
import { decodeCbor, encodeCbor } from '../base/cbor.ts'
import type { KeyValue } from '../base/key-value.ts'
import { LinkMeter } from './compression.ts'

export interface PeerScoresOptions {
  readonly banMs: number
  readonly maxBans: number
  /** Peers whose deeds are remembered, until the next start. */
  readonly maxPeers: number
  /** A failure counts half as much after this long. */
  readonly failureHalfLifeMs: number
}

export const defaultPeerScoresOptions: PeerScoresOptions = {
  // A wrong byte is a broken disk or a liar; a day is long enough to matter and short enough to be forgiven.
  banMs: 24 * 3600 * 1000,
  maxBans: 10_000,
  maxPeers: 5_000,
  failureHalfLifeMs: 10 * 60 * 1000,
}

/** What a peer that has delivered nothing yet is taken for: worth trying before the slow, after the fast. In bytes a second. */
const unknownRate = 1024 * 1024

interface Deeds {
  readonly link: LinkMeter
  failures: number
  failedAt: number
}

export class PeerScores {
  readonly #records: KeyValue
  readonly #options: PeerScoresOptions
  readonly #bannedUntil = new Map<string, number>()
  readonly #deeds: LRUCache<string, Deeds>

  /** `records` keys: `ban/<peer>` → { until: milliseconds since 1970, reason }. */
  constructor(deps: { records: KeyValue }, options = defaultPeerScoresOptions) {
    this.#records = deps.records
    this.#options = options
    this.#deeds = new LRUCache({ max: options.maxPeers })
  }

  async start(): Promise<void> {
    const now = Date.now()
    for await (const [key, value] of this.#records.entries({ prefix: 'ban/' })) {
      const { until } = decodeCbor(value, 1024, 'A ban') as { until: number }
      if (until > now) this.#bannedUntil.set(key.slice('ban/'.length), until)
      else await this.#records.delete(key)
    }
  }

  /** For a peer that sent bytes with another hash than promised. */
  async ban(peer: string, reason: string): Promise<void> {
    const until = Date.now() + this.#options.banMs
    this.#bannedUntil.set(peer, until)
    if (this.#bannedUntil.size > this.#options.maxBans) {
      const oldest = this.#bannedUntil.keys().next().value
      if (oldest !== undefined) {
        this.#bannedUntil.delete(oldest)
        await this.#records.delete(`ban/${oldest}`)
      }
    }
    await this.#records.put(`ban/${peer}`, encodeCbor({ until, reason: reason.slice(0, 200) }))
  }

  isBanned(peer: string): boolean {
    const until = this.#bannedUntil.get(peer)
    if (until === undefined) return false
    if (until > Date.now()) return true
    this.#bannedUntil.delete(peer)
    return false
  }

  /** The meter of what this peer delivers. */
  link(peer: string): LinkMeter {
    return this.#of(peer).link
  }

  /** It stalled, broke off or broke the protocol. */
  failed(peer: string): void {
    const deeds = this.#of(peer)
    deeds.failures = this.#failuresOf(deeds) + 1
    deeds.failedAt = Date.now()
  }

  /** The same peers, whom to ask first first. */
  rank(peers: readonly string[]): string[] {
    const worth = new Map(peers.map(peer => [peer, this.#worth(peer)]))
    return peers.toSorted((a, b) => (worth.get(b) as number) - (worth.get(a) as number))
  }

  #worth(peer: string): number {
    const deeds = this.#deeds.peek(peer)
    if (deeds === undefined) return unknownRate
    return (deeds.link.bytesPerSecond ?? unknownRate) / 4 ** this.#failuresOf(deeds)
  }

  #failuresOf({ failures, failedAt }: Deeds): number {
    return failures * 0.5 ** ((Date.now() - failedAt) / this.#options.failureHalfLifeMs)
  }

  #of(peer: string): Deeds {
    let deeds = this.#deeds.get(peer)
    if (deeds === undefined) {
      deeds = { link: new LinkMeter(), failures: 0, failedAt: 0 }
      this.#deeds.set(peer, deeds)
    }
    return deeds
  }
}
