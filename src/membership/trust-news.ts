// News of the network's trust through the DHT, a second way beside sync: an authority announces its revocation list and
// the newest root; every node looks for what it should have heard of and has not. Whatever the DHT gives is proved.
import { withTimeout } from '../base/deadline.ts'
import { isCatalogError } from '../base/errors.ts'
import type { Service } from '../base/lifecycle.ts'
import type { Log } from '../base/log.ts'
import type { Announcement, Router } from '../network/router.ts'
import { revocationNotice, rootNotice, type TrustChain } from '../trust/trust-chain.ts'

export interface TrustNewsDeps {
  readonly trust: Pick<TrustChain, 'root' | 'revocationLists' | 'accept' | 'onChange'>
  readonly router: Pick<Router, 'getRecord'>
  readonly announcer: { add(item: Announcement): Promise<void> }
  /** Fingerprint of this node's own authority certificate, where it is one. */
  readonly authority: string | undefined
  readonly peers: () => readonly string[]
  readonly now: () => number
  readonly log: Log
}

export interface TrustNewsOptions {
  readonly checkMs: number
  /** A list that is older was to be replaced: authorities make a new one every day. */
  readonly overdueMs: number
  readonly lookupMs: number
}

export const defaultTrustNewsOptions: TrustNewsOptions = {
  checkMs: 3600 * 1000,
  overdueMs: 26 * 3600 * 1000,
  lookupMs: 15_000,
}

export class TrustNews implements Service {
  readonly #deps: TrustNewsDeps
  readonly #options: TrustNewsOptions
  readonly #stopping = new AbortController()
  #timer: NodeJS.Timeout | undefined
  #unsubscribe: (() => void) | undefined
  #check: Promise<void> = Promise.resolve()

  constructor(deps: TrustNewsDeps, options: Partial<TrustNewsOptions> = {}) {
    this.#deps = deps
    this.#options = { ...defaultTrustNewsOptions, ...options }
  }

  /** After the announcer. */
  async start(): Promise<void> {
    this.#unsubscribe = this.#deps.trust.onChange(() => this.#announce())
    this.#announce()
    this.#timer = setInterval(() => {
      this.#check = this.look()
    }, this.#options.checkMs).unref()
  }

  async stop(): Promise<void> {
    clearInterval(this.#timer)
    this.#unsubscribe?.()
    this.#stopping.abort()
    await this.#check
  }

  /** Looks for what is overdue, and for the root after the known one; resolves to when all was looked for. */
  async look(): Promise<void> {
    const { trust, peers, now } = this.#deps
    if (peers().length === 0) return
    const overdue = trust
      .revocationLists()
      .filter(({ issuedAt }) => now() - issuedAt > this.#options.overdueMs)
      .map(({ issuer }) => revocationNotice(issuer))
    for (const notice of [...overdue, rootNotice(trust.root.version + 1)]) await this.#find(notice)
  }

  async #find(notice: string): Promise<void> {
    const { router, trust, log } = this.#deps
    try {
      const signal = withTimeout(this.#stopping.signal, this.#options.lookupMs)
      const bytes = await router.getRecord({ kind: 'notice', notice }, { signal })
      if (bytes !== undefined && (await trust.accept(bytes)) === 'added')
        log.info({ notice }, 'the DHT had news that no peer had brought')
    } catch (error) {
      if (!isCatalogError(error, 'stale-record'))
        log.debug({ notice, error: String(error) }, 'the DHT had no news')
    }
  }

  #announce(): void {
    const { authority, trust, announcer, log } = this.#deps
    if (authority === undefined) return
    const { version } = trust.root
    const notices = [revocationNotice(authority), ...(version > 1 ? [rootNotice(version)] : [])]
    Promise.all(
      notices.map(notice => announcer.add({ kind: 'record', key: { kind: 'notice', notice } })),
    ).catch((error: unknown) =>
      log.warn({ error: String(error) }, 'what is revoked could not be announced in the DHT'),
    )
  }
}
