// The TXT records of a name: asks the servers in turn and keeps what they say for as long as they say, within bounds.
// Where none answers, what was known before serves on for a while (RFC 8767): an old hint beats none.
import { Resolver } from 'node:dns'
import { LRUCache } from 'lru-cache'
import { withTimeout } from '../../base/deadline.ts'
import type { CallOptions } from '../../base/lifecycle.ts'
import { type DnsServer, parseDnsServer } from '../../base/network-name.ts'
import { askServer } from './exchange.ts'
import { responseCodes, type TxtAnswer } from './message.ts'

export interface TxtLookupOptions {
  /** `ADDRESS` or `ADDRESS:PORT`, asked in this order; none: the system's, read anew for each lookup. */
  readonly servers: readonly string[]
  /** Of the servers, so many are asked. */
  readonly maxServers: number
  readonly serverTimeoutMs: number
  readonly resendMs: number
  /** No answer is asked for again sooner, whatever its TTL, nor kept for longer. */
  readonly minTtlMs: number
  readonly maxTtlMs: number
  /** How long an absence holds where the server does not say. */
  readonly absenceMs: number
  /** How long after its end an answer still serves where no server gives another. */
  readonly staleMs: number
  readonly maxNames: number
}

export const defaultTxtLookupOptions: TxtLookupOptions = {
  servers: [],
  maxServers: 3,
  // One resend at a second, another at two: as long as a resolver that must ask others usually takes.
  serverTimeoutMs: 3000,
  resendMs: 1000,
  // A TTL of 0 would be a query a second for as long as there are few peers.
  minTtlMs: 30_000,
  // A wrong record that was put right reaches every node within the hour.
  maxTtlMs: 3_600_000,
  absenceMs: 60_000,
  staleMs: 24 * 3_600_000,
  // Of 4 KiB of text at most.
  maxNames: 512,
}

export interface TxtRecords {
  readonly texts: readonly string[]
  /** Milliseconds since 1970 until which there is no need to ask again. */
  readonly freshUntil: number
  readonly problems: readonly string[]
  /** No server answered: it is what was known before. */
  readonly stale?: true
}

interface Entry {
  readonly records: TxtRecords
  readonly staleUntil: number
}

export class TxtLookup {
  readonly #options: TxtLookupOptions
  readonly #known: LRUCache<string, Entry>
  #answered: string | undefined

  constructor(options: Partial<TxtLookupOptions> = {}) {
    this.#options = { ...defaultTxtLookupOptions, ...options }
    this.#known = new LRUCache({ max: this.#options.maxNames })
  }

  /**
   * No texts where the name, or its records, do not exist.
   * @throws Error that says of each server why it did not answer, or the signal's reason
   */
  async lookup(name: string, { signal }: CallOptions = {}): Promise<TxtRecords> {
    const before = this.#known.get(name)
    if (before !== undefined && before.records.freshUntil > Date.now()) return before.records
    try {
      const records = this.#readable(name, await this.#askInTurn(name, signal))
      this.#known.set(name, { records, staleUntil: records.freshUntil + this.#options.staleMs })
      return records
    } catch (error) {
      if (before === undefined || before.staleUntil < Date.now()) throw error
      return {
        ...before.records,
        freshUntil: Date.now() + this.#options.minTtlMs,
        problems: [`${(error as Error).message}; using what it said before`],
        stale: true,
      }
    }
  }

  async #askInTurn(name: string, signal: AbortSignal | undefined): Promise<TxtAnswer> {
    const failures: string[] = []
    signal?.throwIfAborted()
    for (const { text, server } of this.#servers())
      try {
        const { serverTimeoutMs, resendMs } = this.#options
        const answer = await askServer(server, name, {
          signal: withTimeout(signal, serverTimeoutMs),
          resendMs,
        })
        if (answer.responseCode === responseCodes.ok || answer.responseCode === responseCodes.noSuchName)
          return this.#prefer(text, answer)
        failures.push(`${text} answers ${codeNames[answer.responseCode] ?? `code ${answer.responseCode}`}`)
      } catch (error) {
        signal?.throwIfAborted()
        failures.push(`${text}: ${reason(error, this.#options.serverTimeoutMs)}`)
      }
    const why = failures.length === 0 ? 'there is no DNS server to ask' : failures.join('; ')
    throw new Error(`${name} could not be looked up: ${why}`)
  }

  /** One that answered is asked first from now on: one that is silent costs its time once. */
  #prefer(text: string, answer: TxtAnswer): TxtAnswer {
    this.#answered = text
    return answer
  }

  #servers(): { text: string; server: DnsServer }[] {
    const { servers, maxServers } = this.#options
    // A new Resolver reads the system's file anew: a laptop moves from network to network.
    const texts = servers.length > 0 ? servers : new Resolver().getServers()
    const first = texts.slice(0, maxServers)
    const preferred = first.filter(text => text === this.#answered)
    return [...new Set([...preferred, ...first])].flatMap(text => {
      const server = parseDnsServer(text)
      return server === undefined ? [] : [{ text, server }]
    })
  }

  #readable(name: string, { texts, ttlSeconds, cut }: TxtAnswer): TxtRecords {
    const { minTtlMs, maxTtlMs, absenceMs } = this.#options
    const ttlMs = ttlSeconds === undefined ? absenceMs : ttlSeconds * 1000
    const problems = cut ? [`${name} has too many records; the first ${texts.length} are used`] : []
    const freshUntil = Date.now() + Math.min(Math.max(ttlMs, minTtlMs), maxTtlMs)
    return { texts, freshUntil, problems }
  }
}

const codeNames: Readonly<Record<number, string>> = { 1: 'FORMERR', 2: 'SERVFAIL', 4: 'NOTIMP', 5: 'REFUSED' }

function reason(error: unknown, timeoutMs: number): string {
  const { name, message } = error as Error
  return name === 'TimeoutError' ? `no answer within ${timeoutMs} ms` : message
}
