// How many bytes a fetch may have asked for and not yet stored: what bounds memory, what a crash wastes, and what each of
// several fetches gets of one link. Nothing here waits; whoever finds no room looks again when something has come.

import { transferLimits } from '../transfer-protocol.ts'

/** All fetches of a node together. In bytes. */
const nodeBytes = 64 * 1024 * 1024
/** One fetch, whatever the number of its providers, unless each would have less than `providerBytes`. */
const fetchBytes = transferLimits.maxOutstandingBytes
const providerBytes = 1024 * 1024

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
    const wanted = Math.max(fetchBytes, this.#providers.size * providerBytes)
    return Math.min(wanted, this.#node.bytesForEach) - this.#outstanding
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
    const own = this.#limit - this.#outstanding
    return this.#outstanding === 0 ? own : Math.min(own, this.#fetch.room)
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
