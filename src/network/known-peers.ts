// The peers this node can come back to: those given to it (bootstrap) and those it has met, with the addresses that
// worked, kept across restarts. It dials them while there are few connections, with backoff; nobody waits for it.
//
// KeyValue: `peer/<peer id>` → JSON {"addresses":[…], "lastSeen": ms}, at most `maxPeers` entries.

import { pause, settleWithin, withTimeout } from '../base/deadline.ts'
import type { KeyValue } from '../base/key-value.ts'
import type { CallOptions, Service } from '../base/lifecycle.ts'
import type { Log } from '../base/log.ts'
import type { Host, PeerText } from './host.ts'

export interface KnownPeersOptions {
  /** Multiaddrs of peers to start from, or names that stand for such. */
  readonly bootstrap: readonly string[]
  /** The best by last success are kept. */
  readonly maxPeers: number
  readonly maxAddressesPerPeer: number
  /** Below this many connected peers, known ones are dialled. */
  readonly enoughPeers: number
  readonly dialTimeoutMs: number
  readonly dialConcurrency: number
  /** Between attempts at one peer or address: doubles up to the second figure. */
  readonly retryMs: number
  readonly maxRetryMs: number
  /** How often it looks whether there are too few connections. */
  readonly checkMs: number
  /** Forgotten after so many failures in a row. */
  readonly maxFailures: number
}

export const defaultKnownPeersOptions: KnownPeersOptions = {
  bootstrap: [],
  maxPeers: 200,
  maxAddressesPerPeer: 8,
  enoughPeers: 8,
  dialTimeoutMs: 5000,
  dialConcurrency: 8,
  retryMs: 1000,
  maxRetryMs: 5 * 60_000,
  checkMs: 1000,
  maxFailures: 30,
}

export interface KnownPeersDeps {
  readonly host: Pick<Host, 'peer' | 'dial' | 'isConnected' | 'connections' | 'onPeer'> & {
    /** The addresses at which a connected peer says it listens. */
    knownAddresses?(peer: PeerText): Promise<string[]>
  }
  readonly records: KeyValue
  /** What a bootstrap entry that is a name stands for, as far as is known now; undefined for one that is none. */
  readonly names?: { addressesOf(entry: string): readonly string[] | undefined }
  readonly log: Log
}

interface KnownPeer {
  readonly addresses: readonly string[]
  /** Milliseconds since 1970. */
  readonly lastSeen: number
}

interface Backoff {
  failures: number
  dueAt: number
}

interface Candidate {
  readonly name: string
  readonly addresses: readonly string[]
  readonly peer?: PeerText
}

const prefix = 'peer/'

export class KnownPeers implements Service {
  readonly #deps: KnownPeersDeps
  readonly #options: KnownPeersOptions
  readonly #peers = new Map<PeerText, KnownPeer>()
  readonly #backoff = new Map<string, Backoff>()
  readonly #warned = new Set<string>()
  /** Who answered at a bootstrap address that does not say it. */
  readonly #bootstrapPeers = new Map<string, PeerText>()
  /** What the bootstrap entries stand for: given as addresses, and found through names. */
  #given: readonly string[] = []
  #named: readonly string[] = []
  #stopping = new AbortController()
  #loop: Promise<void> | undefined
  #unsubscribe: (() => void) | undefined

  constructor(deps: KnownPeersDeps, options: Partial<KnownPeersOptions> = {}) {
    this.#deps = deps
    this.#options = { ...defaultKnownPeersOptions, ...options }
  }

  /** Reads the list and begins to dial in the background: readiness needs no peer. */
  async start(): Promise<void> {
    if (this.#loop !== undefined) return
    this.#stopping = new AbortController()
    for await (const [key, value] of this.#deps.records.entries({
      prefix,
      limit: this.#options.maxPeers * 2,
    })) {
      const peer = parsePeer(value, this.#options.maxAddressesPerPeer)
      if (peer === undefined) await this.#deps.records.delete(key)
      else this.#peers.set(key.slice(prefix.length), peer)
    }
    this.#unsubscribe = this.#deps.host.onPeer((peer, change) => {
      if (change === 'connected') void this.#remember(peer)
    })
    for (const { peer } of this.#deps.host.connections()) void this.#remember(peer)
    this.#loop = this.#run(this.#stopping.signal)
  }

  async stop(): Promise<void> {
    this.#stopping.abort()
    this.#unsubscribe?.()
    if (this.#loop !== undefined) await settleWithin(this.#loop, 1000)
    this.#loop = undefined
  }

  /** The peers met before, the most recent first. */
  list(): { peer: PeerText; addresses: readonly string[]; lastSeen: number }[] {
    return [...this.#peers]
      .map(([peer, { addresses, lastSeen }]) => ({ peer, addresses, lastSeen }))
      .sort((a, b) => b.lastSeen - a.lastSeen)
  }

  async #run(signal: AbortSignal): Promise<void> {
    while (!signal.aborted) {
      try {
        await this.#dialSome({ signal })
      } catch (err) {
        this.#deps.log.warn({ err }, 'dialling known peers failed')
      }
      await pause(this.#options.checkMs, signal)
    }
  }

  /** Bootstrap addresses are tried while there are few peers at all; known peers by their last success. */
  async #dialSome({ signal }: CallOptions): Promise<void> {
    this.#lookUpNames()
    const connected = new Set(this.#deps.host.connections().map(view => view.peer)).size
    if (connected >= this.#options.enoughPeers) return
    const due = this.#candidates().filter(({ name }) => (this.#backoff.get(name)?.dueAt ?? 0) <= Date.now())
    const batch = due.slice(0, this.#options.dialConcurrency)
    await Promise.all(batch.map(candidate => this.#dial(candidate, signal)))
  }

  /** Names may stand for other addresses than a moment ago: what concerns only old ones is forgotten. */
  #lookUpNames(): void {
    const { names } = this.#deps
    const entries = this.#options.bootstrap.map(entry => ({ entry, found: names?.addressesOf(entry) }))
    this.#given = entries.filter(({ found }) => found === undefined).map(({ entry }) => entry)
    this.#named = [...new Set(entries.flatMap(({ found }) => found ?? []))]
    const current = new Set([...this.#given, ...this.#named])
    for (const old of [this.#warned, this.#bootstrapPeers])
      for (const address of old.keys()) if (!current.has(address)) old.delete(address)
    for (const name of this.#backoff.keys())
      if (!current.has(name) && !this.#peers.has(name)) this.#backoff.delete(name)
  }

  /** Names are a hint: what they stand for takes turns with the peers met before, and both come after what is given. */
  #candidates(): Candidate[] {
    const open = (addresses: readonly string[]): Candidate[] =>
      addresses
        .filter(address => !this.#isConnectedTo(address))
        .map(address => ({ name: address, addresses: [address] }))
    const known = this.list()
      .filter(({ peer }) => !this.#deps.host.isConnected(peer))
      .map(({ peer, addresses }) => ({ name: peer, addresses, peer }))
    return [...open(this.#given), ...inTurns(known, open(this.#named))]
  }

  #isConnectedTo(address: string): boolean {
    const peer = this.#peerAt(address)
    return peer === this.#deps.host.peer || (peer !== undefined && this.#deps.host.isConnected(peer))
  }

  #peerAt(address: string): PeerText | undefined {
    return /\/p2p\/([^/]+)$/.exec(address)?.[1] ?? this.#bootstrapPeers.get(address)
  }

  async #dial(candidate: Candidate, signal: AbortSignal | undefined): Promise<void> {
    for (const address of candidate.addresses)
      try {
        const peer = await this.#deps.host.dial(address, {
          signal: withTimeout(signal, this.#options.dialTimeoutMs),
        })
        if (candidate.peer === undefined) this.#bootstrapPeers.set(address, peer)
        // Not forgotten yet: a foreign node answers too and is disconnected, again and again, until it backs off.
        this.#postpone(candidate.name)
        return
      } catch (err) {
        if (signal?.aborted === true) return
        this.#tell(candidate, address, err)
      }
    const failures = this.#postpone(candidate.name)
    if (candidate.peer !== undefined && failures >= this.#options.maxFailures)
      await this.#forget(candidate.peer)
  }

  /** One warning for each given address, and one for those of names; what is repeated or only remembered is for debugging. */
  #tell(candidate: Candidate, address: string, err: unknown): void {
    const alike = this.#named.includes(address) ? this.#named : [address]
    const first = candidate.peer === undefined && !alike.some(each => this.#warned.has(each))
    this.#warned.add(address)
    const fields = { address, reason: err instanceof Error ? err.message : String(err) }
    if (first) this.#deps.log.warn(fields, 'a bootstrap address cannot be reached; trying again later')
    else this.#deps.log.debug(fields, 'a known peer cannot be reached')
  }

  #postpone(name: string): number {
    const failures = (this.#backoff.get(name)?.failures ?? 0) + 1
    const delay = Math.min(this.#options.maxRetryMs, this.#options.retryMs * 2 ** Math.min(failures - 1, 20))
    this.#backoff.set(name, { failures, dueAt: Date.now() + delay * (0.75 + Math.random() / 2) })
    return failures
  }

  /** A peer of our network is connected: its address worked. */
  async #remember(peer: PeerText): Promise<void> {
    const { host, log } = this.#deps
    this.#backoff.delete(peer)
    for (const address of [...this.#given, ...this.#named])
      if (this.#peerAt(address) === peer) this.#backoff.delete(address)
    // An inbound connection comes from a port that nobody listens on: what we dialled, or what the peer says, counts.
    const dialled = host
      .connections()
      .filter(view => view.peer === peer && view.direction === 'outbound')
      .flatMap(view => view.addresses)
    const said = (await host.knownAddresses?.(peer).catch(() => [])) ?? []
    const known = this.#peers.get(peer)?.addresses ?? []
    const addresses = [...new Set([...dialled, ...said, ...known])].slice(
      0,
      this.#options.maxAddressesPerPeer,
    )
    if (addresses.length === 0) return
    const entry = { addresses, lastSeen: Date.now() }
    this.#peers.set(peer, entry)
    try {
      await this.#deps.records.put(`${prefix}${peer}`, encodePeer(entry))
      for (const { peer: oldest } of this.list().slice(this.#options.maxPeers)) await this.#forget(oldest)
    } catch (err) {
      log.warn({ err, peer }, 'a peer could not be remembered')
    }
  }

  async #forget(peer: PeerText): Promise<void> {
    this.#peers.delete(peer)
    this.#backoff.delete(peer)
    await this.#deps.records.delete(`${prefix}${peer}`)
  }
}

function inTurns<T>(first: readonly T[], second: readonly T[]): T[] {
  const rounds = Array.from({ length: Math.max(first.length, second.length) }, (_, round) => round)
  return rounds.flatMap(round => [...first.slice(round, round + 1), ...second.slice(round, round + 1)])
}

const encodePeer = (peer: KnownPeer): Uint8Array => new TextEncoder().encode(JSON.stringify(peer))

/** Undefined for what is not a known peer (another version wrote it): it is met again. */
function parsePeer(bytes: Uint8Array, maxAddresses: number): KnownPeer | undefined {
  try {
    const value = JSON.parse(new TextDecoder().decode(bytes)) as Partial<KnownPeer>
    const addresses = value.addresses?.filter(address => typeof address === 'string').slice(0, maxAddresses)
    if (addresses === undefined || addresses.length === 0 || typeof value.lastSeen !== 'number')
      return undefined
    return { addresses, lastSeen: value.lastSeen }
  } catch {
    return undefined
  }
}
