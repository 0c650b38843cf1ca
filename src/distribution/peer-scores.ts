// What this node remembers of providers: who sent bytes with a false hash, banned for a while, across restarts.
import { decodeCbor, encodeCbor } from '../base/cbor.ts'
import type { KeyValue } from '../base/key-value.ts'

export interface PeerScoresOptions {
  readonly banMs: number
  readonly maxBans: number
}

export const defaultPeerScoresOptions: PeerScoresOptions = {
  // A wrong byte is a broken disk or a liar; a day is long enough to matter and short enough to be forgiven.
  banMs: 24 * 3600 * 1000,
  maxBans: 10_000,
}

export class PeerScores {
  readonly #records: KeyValue
  readonly #options: PeerScoresOptions
  readonly #bannedUntil = new Map<string, number>()

  /** `records` keys: `ban/<peer>` → { until: milliseconds since 1970, reason }. */
  constructor(deps: { records: KeyValue }, options = defaultPeerScoresOptions) {
    this.#records = deps.records
    this.#options = options
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
}
