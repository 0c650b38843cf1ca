// How many bytes a fetch may have asked for and not yet stored: what bounds memory, what a crash wastes, and what each of
// several fetches gets of one link. Nothing here waits; whoever finds no room looks again when something has come.

import { transferLimits } from '../transfer-protocol.ts'

/** All fetches of a node together. In bytes. */
const nodeBytes = 64 * 1024 * 1024
/** One fetch, whatever the number of its providers, unless each would have less than `providerBytes`. */
const fetchBytes = transferLimits.maxOutstandingBytes
const providerBytes = 1024 * 1024
/**
 * Room is worth a question when it is so much of what a provider may have outstanding: a question for each shard as the
 * one before is stored costs four times the processor time (the silly window syndrome, RFC 813).
 */
const worthwhile = 1 / 4

/** Shared by the fetches of a node: all have the same, so that none starves. */
export class NodeWindow {
  readonly #fetches = new Set<FetchWindow>()

  open(): FetchWindow {
    const window = new FetchWindow(this)
    this.#fetches.add(window)
    return window
  }

  close(window: FetchWindow): void {
    this.#fetches.delete(window)
  }

  get bytesForEach(): number {
    return nodeBytes / Math.max(1, this.#fetches.size)
  }
}

export class FetchWindow {
  readonly #node: NodeWindow
  readonly #providers = new Set<ProviderWindow>()
  #outstanding = 0

  constructor(node: NodeWindow) {
    this.#node = node
  }

  join(firstBytes: number): ProviderWindow {
    const window = new ProviderWindow(this, firstBytes)
    this.#providers.add(window)
    return window
  }

  leave(window: ProviderWindow): void {
    this.#providers.delete(window)
  }

  close(): void {
    this.#node.close(this)
  }

  get room(): number {
    return this.#bytes - this.#outstanding
  }

  /** What each provider has where all are as fast. */
  get bytesForEach(): number {
    return this.#bytes / Math.max(1, this.#providers.size)
  }

  get #bytes(): number {
    const wanted = Math.max(fetchBytes, this.#providers.size * providerBytes)
    return Math.min(wanted, this.#node.bytesForEach)
  }

  add(bytes: number): void {
    this.#outstanding += bytes
  }
}

/**
 * What one provider may be asked for at once. It earns its window, doubling with each answer: so the first to answer does
 * not take everything before the others do.
 */
export class ProviderWindow {
  readonly #fetch: FetchWindow
  #limit: number
  #outstanding = 0

  constructor(fetch: FetchWindow, firstBytes: number) {
    this.#fetch = fetch
    this.#limit = firstBytes
  }

  /** Bytes that may be asked for now; 0 or less for none. With nothing outstanding there is always some. */
  get room(): number {
    if (this.#outstanding === 0) return this.#limit
    const room = Math.min(this.#limit - this.#outstanding, this.#fetch.room)
    return room < worthwhile * Math.min(this.#limit, this.#fetch.bytesForEach) ? 0 : room
  }

  asked(bytes: number): void {
    this.#outstanding += bytes
    this.#fetch.add(bytes)
  }

  /** What was asked for is stored, or given up. */
  settled(bytes: number): void {
    this.#outstanding -= bytes
    this.#fetch.add(-bytes)
  }

  earn(): void {
    this.#limit = Math.min(this.#limit * 2, fetchBytes)
  }

  close(): void {
    this.#fetch.leave(this)
  }
}
