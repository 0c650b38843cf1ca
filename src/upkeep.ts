// What a node does by itself for as long as it runs: collecting garbage, renewing and uniting heads, looking again at what
// it believed when something is revoked. A part of the composition root.
import { Coalesced } from './base/coalesced.ts'
import type { KeyValue } from './base/key-value.ts'
import type { Service } from './base/lifecycle.ts'
import type { Log } from './base/log.ts'
import { type CollectDeps, type CollectOptions, collect } from './flows/collect.ts'
import { type HealDeps, healGraceMs, healHead } from './flows/heal.ts'
import { Turns } from './registry/turns.ts'
import type { TrustChange } from './trust/trust-chain.ts'

/** How often this publisher's heads are looked at; they are renewed at half of their 30 days. */
const renewEveryMs = 12 * 3600 * 1000

/** What a crash left half-done is taken away before anybody can see it, and what nothing refers to again and again. */
export function createCollector(
  { collecting, log }: { readonly collecting: CollectDeps; readonly log: Log },
  { everyMs }: { readonly everyMs: number },
): Service {
  const stopping = new AbortController()
  let timer: NodeJS.Timeout | undefined
  let run: Promise<void> = Promise.resolve()
  const collectOnce = async (options: CollectOptions = {}): Promise<void> => {
    const found = await collect(collecting, { ...options, signal: stopping.signal })
    const { bytes, unreferenced, partial, results } = found
    const contents = unreferenced.contents + partial.contents + results.contents
    if (contents > 0) log.info({ contents, bytes }, 'contents that nothing refers to were removed')
  }
  const later = () => {
    if (!stopping.signal.aborted) timer = setTimeout(again, everyMs).unref()
  }
  const again = () => {
    run = collectOnce()
      .catch((error: unknown) => {
        if (!stopping.signal.aborted) log.warn({ error: String(error) }, 'garbage could not be collected')
      })
      .finally(later)
  }
  return {
    async start() {
      await collectOnce({ contentsOnly: true })
      later()
    },
    async stop() {
      stopping.abort()
      clearTimeout(timer)
      await run
    },
  }
}

export interface HeadKeeperDeps {
  /** Renews what is due; resolves to how many were. */
  readonly renewAll: () => Promise<number>
  /** What uniting a name's heads takes; undefined where this node does not sign for it. */
  readonly healing: (publisher: string, name: string) => HealDeps | undefined
  readonly log: Log
}

/** Renews this node's heads, and unites those that its publisher's machines signed without hearing of each other. */
export class HeadKeeper implements Service {
  readonly #deps: HeadKeeperDeps
  readonly #stopping = new AbortController()
  readonly #turns = new Turns()
  readonly #waiting = new Set<string>()
  #timer: NodeJS.Timeout | undefined

  constructor(deps: HeadKeeperDeps) {
    this.#deps = deps
  }

  async start(): Promise<void> {
    const { renewAll, log } = this.#deps
    const renew = () =>
      renewAll().then(
        renewed => renewed > 0 && log.info({ renewed }, 'heads were signed anew'),
        (error: unknown) => log.error({ error: String(error) }, 'heads could not be signed anew'),
      )
    void renew()
    this.#timer = setInterval(renew, renewEveryMs).unref()
  }

  async stop(): Promise<void> {
    clearInterval(this.#timer)
    this.#stopping.abort()
  }

  /** One at work and at most one after it, whatever number of heads say that there is something to unite. */
  async heal(publisher: string, name: string): Promise<void> {
    const { healing, log } = this.#deps
    const deps = healing(publisher, name)
    const key = `${publisher}/${name}`
    if (deps === undefined || this.#waiting.has(key)) return
    this.#waiting.add(key)
    await this.#turns
      .take(key, async () => {
        this.#waiting.delete(key)
        await healHead(deps, name, { graceMs: healGraceMs, signal: this.#stopping.signal })
      })
      .catch((error: unknown) =>
        log.warn({ package: name, error: String(error) }, 'contradicting heads could not be united'),
      )
  }
}

export interface DoubtsDeps {
  readonly records: KeyValue
  /** A digest of what decides whether somebody is believed. */
  readonly digest: () => string
  /** Connected members that hold no more; they are let go. */
  readonly recheck: () => Promise<readonly string[]>
  /** Heads that hold no more. */
  readonly dropHeads: () => Promise<readonly string[]>
  /** What was refused before is asked for again. */
  readonly reconsider: () => void
  readonly log: Log
}

const lookedUnderKey = 'looked-under'

/**
 * Looks again at what was believed under older news: members, and the heads of publishers. Under which news it has
 * looked is on record, so that a start after a crash does what was left, and any other does not read every head.
 */
export class Doubts implements Service {
  readonly #deps: DoubtsDeps
  // Whoever may revoke cannot keep every node busy with it.
  readonly #runs = new Coalesced({ work: () => this.#look() }, { pauseMs: 1000 })
  #newRoot = false

  constructor(deps: DoubtsDeps) {
    this.#deps = deps
  }

  async start(): Promise<void> {
    const before = await this.#deps.records.get(lookedUnderKey)
    if (before === undefined || Buffer.from(before).toString() !== this.#deps.digest()) this.#runs.ask()
  }

  take(change: TrustChange): void {
    // A list that was only made anew takes nothing back.
    if (change === 'renewed') return
    this.#newRoot ||= change === 'root'
    this.#runs.ask()
  }

  stop(): Promise<void> {
    return this.#runs.stop()
  }

  async #look(): Promise<void> {
    const { records, recheck, dropHeads, reconsider, log } = this.#deps
    const isRoot = this.#newRoot
    this.#newRoot = false
    const digest = this.#deps.digest()
    try {
      const [peers, dropped] = [await recheck(), await dropHeads()]
      if (peers.length + dropped.length > 0)
        log.warn({ peers, heads: dropped.length }, 'what was revoked was let go')
      // A root brings authorities whose records were strangers' before; a dropped head makes place for an honest one.
      if (isRoot || dropped.length > 0) reconsider()
      await records.put(lookedUnderKey, Buffer.from(digest))
    } catch (error) {
      log.error({ error: String(error) }, 'not all could be checked against the news of what is revoked')
    }
  }
}
