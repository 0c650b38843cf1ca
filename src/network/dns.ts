// Names of networks: what DNS says of each name among the bootstrap addresses, asked in the background when it is
// wanted and old. All of it is a hint: a peer proves who it is when it is dialled, and a failing or lying DNS is a
// warning. How records are written is in dns/name-records.ts, how they are looked up in dns/txt-lookup.ts.

import { settleWithin, withTimeout } from '../base/deadline.ts'
import type { Service } from '../base/lifecycle.ts'
import type { Log } from '../base/log.ts'
import { parseNetworkName, type WrittenName } from '../base/network-name.ts'
import { peerOf, readAddressRecords, readRootRecords } from './dns/name-records.ts'
import { defaultTxtLookupOptions, TxtLookup, type TxtLookupOptions } from './dns/txt-lookup.ts'

/** What a name stands for, as far as DNS says. */
export interface NetworkName {
  readonly name: string
  /** Multiaddrs, each with /p2p/…. */
  readonly addresses: readonly string[]
  /** Of the network's root. Nothing trusts it: what the operator gives decides. */
  readonly rootFingerprint?: string
}

export interface NetworkNameState extends NetworkName {
  /** Milliseconds since 1970: when DNS was last asked (absent: it has not answered yet), and when it will be again. */
  readonly askedAt?: number
  readonly askAgainAt: number
  readonly problems: readonly string[]
}

export interface DnsNamesOptions extends TxtLookupOptions {
  readonly maxAddresses: number
  /** How many names lead to further names, and how many are looked up for one. */
  readonly maxDepth: number
  readonly maxLookups: number
  /** For everything that one name needs. */
  readonly resolveTimeoutMs: number
  /** Names resolved at once. */
  readonly concurrency: number
  /** After a failure: doubles up to the second figure. */
  readonly retryMs: number
  readonly maxRetryMs: number
}

export const defaultDnsNamesOptions: DnsNamesOptions = {
  ...defaultTxtLookupOptions,
  maxAddresses: 64,
  // The largest public network's bootstrap name takes one step and four names.
  maxDepth: 3,
  maxLookups: 16,
  resolveTimeoutMs: 20_000,
  concurrency: 8,
  retryMs: 5000,
  maxRetryMs: 5 * 60_000,
}

interface Resolved extends NetworkName {
  readonly freshUntil: number
  readonly problems: readonly string[]
  /** Whether its addresses were looked up. */
  readonly answered: boolean
}

export class DnsNames implements Service {
  readonly #log: Log
  readonly #options: DnsNamesOptions
  readonly #txt: TxtLookup
  readonly #states = new Map<string, NetworkNameState>()
  readonly #failures = new Map<string, number>()
  readonly #running = new Map<string, Promise<void>>()
  #stopping = new AbortController()

  constructor({ log }: { readonly log: Log }, options: Partial<DnsNamesOptions> = {}) {
    this.#log = log
    this.#options = { ...defaultDnsNamesOptions, ...options }
    this.#txt = new TxtLookup(this.#options)
  }

  async start(): Promise<void> {
    if (this.#stopping.signal.aborted) this.#stopping = new AbortController()
  }

  async stop(): Promise<void> {
    this.#stopping.abort()
    await settleWithin(Promise.all(this.#running.values()), 1000)
  }

  /**
   * The addresses that a bootstrap entry stands for, as far as is known now; what is not known or old is asked for in
   * the background. Undefined for an entry that is no name.
   */
  addressesOf(entry: string): readonly string[] | undefined {
    const written = parseNetworkName(entry)
    if (written === undefined) return undefined
    const state = this.#states.get(written.name) ?? {
      name: written.name,
      addresses: [],
      askAgainAt: 0,
      problems: [],
    }
    this.#states.set(written.name, state)
    if (state.askAgainAt <= Date.now()) this.#ask(state)
    return ofPeer(state.addresses, written)
  }

  /** What is known of every name that was asked for. */
  names(): NetworkNameState[] {
    return [...this.#states.values()]
  }

  #ask(before: NetworkNameState): void {
    const { name } = before
    const { signal } = this.#stopping
    // A caller that finds all places taken comes again.
    if (signal.aborted || this.#running.has(name) || this.#running.size >= this.#options.concurrency) return
    const work = this.#resolve(name, signal)
      .then(resolved => this.#take(before, resolved))
      .catch((err: unknown) => {
        if (!signal.aborted) this.#log.error({ err, name }, 'resolving a name failed unexpectedly')
      })
      .finally(() => this.#running.delete(name))
    this.#running.set(name, work)
  }

  #take(before: NetworkNameState, { freshUntil, answered, ...found }: Resolved): void {
    if (this.#stopping.signal.aborted) return
    const { name } = before
    const { retryMs, maxRetryMs } = this.#options
    const failures = answered ? 0 : (this.#failures.get(name) ?? 0) + 1
    this.#failures.set(name, failures)
    const retryAt = Date.now() + Math.min(maxRetryMs, retryMs * 2 ** Math.min(failures - 1, 20))
    this.#states.set(name, {
      ...found,
      askAgainAt: failures > 0 ? retryAt : freshUntil,
      ...(answered
        ? { askedAt: Date.now() }
        : before.askedAt === undefined
          ? {}
          : { askedAt: before.askedAt }),
    })
    this.#tell(before, found)
  }

  /** One warning for each new trouble, and a line for each change of what is known. */
  #tell(before: NetworkNameState, after: NetworkName & { readonly problems: readonly string[] }): void {
    const { name, addresses, problems } = after
    if (problems.length > 0) {
      const write = problems.join() === before.problems.join() ? this.#log.debug : this.#log.warn
      write.call(
        this.#log,
        { name, problems },
        'DNS says too little of a bootstrap name; going on with what is known',
      )
    }
    const known = ({ addresses, rootFingerprint }: NetworkName) =>
      JSON.stringify([[...addresses].sort(), rootFingerprint])
    if (known(before) !== known(after))
      this.#log.info({ name, addresses: addresses.length }, 'what DNS says of a bootstrap name has changed')
  }

  async #resolve(name: string, signal: AbortSignal): Promise<Resolved> {
    const limited = withTimeout(signal, this.#options.resolveTimeoutMs)
    const [found, root] = await Promise.all([this.#addresses(name, limited), this.#root(name, limited)])
    // Where DNS does not answer at all, it is said once.
    const problems = [...found.problems, ...(found.answered ? root.problems : [])]
    if (found.answered && found.addresses.length === 0)
      problems.push(`_dnsaddr.${name} has no address that can be used: is the name right?`)
    return {
      name,
      addresses: found.addresses,
      ...(root.fingerprint === undefined ? {} : { rootFingerprint: root.fingerprint }),
      freshUntil: Math.min(found.freshUntil, root.freshUntil),
      problems,
      answered: found.answered,
    }
  }

  /** Follows names to names, breadth first: what is nearest to the name that was given is found first. */
  async #addresses(
    name: string,
    signal: AbortSignal,
  ): Promise<{ addresses: string[]; freshUntil: number; problems: string[]; answered: boolean }> {
    const { maxAddresses, maxDepth, maxLookups } = this.#options
    const addresses = new Set<string>()
    const problems: string[] = []
    const queue: (WrittenName & { depth: number })[] = [{ name, depth: 0 }]
    const seen = new Set<string>()
    let freshUntil = Number.POSITIVE_INFINITY
    let answered = false
    for (const at of queue) {
      const key = `${at.name} ${at.peer ?? ''}`
      if (seen.has(key)) continue
      if (seen.size === maxLookups || at.depth > maxDepth) {
        problems.push(`_dnsaddr.${name} leads to more names than are followed`)
        break
      }
      seen.add(key)
      try {
        const records = await this.#txt.lookup(`_dnsaddr.${at.name}`, { signal })
        const found = readAddressRecords(records.texts)
        problems.push(...records.problems)
        if (found.ignored > 0)
          problems.push(
            `_dnsaddr.${at.name} has ${found.ignored} records that are no address with a /p2p/ peer`,
          )
        for (const address of ofPeer(found.addresses, at)) addresses.add(address)
        queue.push(...narrowed(found.names, at).map(next => ({ ...next, depth: at.depth + 1 })))
        freshUntil = Math.min(freshUntil, records.freshUntil)
        if (at.depth === 0) answered = records.stale !== true
      } catch (error) {
        problems.push(this.#failure(`_dnsaddr.${at.name}`, error))
        // What is missing is asked for again soon, what was found is used.
        freshUntil = Math.min(freshUntil, Date.now() + this.#options.minTtlMs)
      }
    }
    if (addresses.size > maxAddresses)
      problems.push(`${name} has ${addresses.size} addresses; ${maxAddresses} are used`)
    return { addresses: [...addresses].slice(0, maxAddresses), freshUntil, problems, answered }
  }

  /** Most names have none yet: its absence is no trouble. */
  async #root(
    name: string,
    signal: AbortSignal,
  ): Promise<{ fingerprint?: string; freshUntil: number; problems: string[] }> {
    try {
      const records = await this.#txt.lookup(`_catalog.${name}`, { signal })
      const { root, conflict } = readRootRecords(records.texts)
      const problems = conflict ? [`_catalog.${name} names several roots: none is shown`] : []
      return {
        ...(root === undefined ? {} : { fingerprint: root }),
        freshUntil: records.freshUntil,
        problems,
      }
    } catch (error) {
      const freshUntil = Date.now() + this.#options.minTtlMs
      return { freshUntil, problems: [this.#failure(`_catalog.${name}`, error)] }
    }
  }

  #failure(name: string, error: unknown): string {
    const { name: kind, message } = error as Error
    const late = `${name} could not be looked up: it took more than ${this.#options.resolveTimeoutMs} ms`
    return kind === 'TimeoutError' ? late : message
  }
}

const ofPeer = (addresses: readonly string[], { peer }: WrittenName): readonly string[] =>
  peer === undefined ? addresses : addresses.filter(address => peerOf(address) === peer)

/** A name that stood for one peer's addresses leads only to that peer's. */
function narrowed(names: readonly WrittenName[], { peer }: WrittenName): readonly WrittenName[] {
  if (peer === undefined) return names
  return names.filter(each => each.peer === undefined || each.peer === peer).map(each => ({ ...each, peer }))
}
