// Certificates on their way to nodes that are not connected: kept until the node has them, and handed over whenever it
// is there. The certificates protocol is how (certificates-protocol.ts).
//
//   records: `<peer>/<notBefore, 16 digits>/<fingerprint>` = canonical CBOR { v: 1, chain: [bytes] }
import { decodeCbor, encodeCbor } from '../base/cbor.ts'
import { settleWithin } from '../base/deadline.ts'
import { CatalogError, isCatalogError } from '../base/errors.ts'
import type { KeyValue } from '../base/key-value.ts'
import type { CallOptions, Service } from '../base/lifecycle.ts'
import type { Log } from '../base/log.ts'
import type { Host, PeerText } from '../network/host.ts'
import { type Certificate, certificateLimits, decodeChain } from '../trust/certificate.ts'
import { type Chain, deliver } from './certificates-protocol.ts'

export interface OutboxOptions {
  readonly maxWaiting: number
  /** Milliseconds until what a connected node did not take is tried again. */
  readonly retryMs: number
}

export const defaultOutboxOptions: OutboxOptions = {
  // 15 KiB each at most times: 15 MiB. Grants are made by people.
  maxWaiting: 1000,
  retryMs: 5 * 60_000,
}

export interface OutboxDeps {
  readonly host: Host
  readonly records: KeyValue
  readonly now: () => number
  readonly log: Log
}

export class Outbox implements Service {
  readonly #deps: OutboxDeps
  readonly #options: OutboxOptions
  readonly #underWay = new Map<PeerText, Promise<void>>()
  #stopping = new AbortController()
  #unsubscribe: (() => void) | undefined
  #timer: NodeJS.Timeout | undefined

  constructor(deps: OutboxDeps, options: Partial<OutboxOptions> = {}) {
    this.#deps = deps
    this.#options = { ...defaultOutboxOptions, ...options }
  }

  async start(): Promise<void> {
    if (this.#stopping.signal.aborted) this.#stopping = new AbortController()
    const { host } = this.#deps
    this.#unsubscribe = host.onPeer((peer, change) => {
      if (change === 'connected') void this.#handOver(peer)
    })
    const all = () => {
      for (const peer of new Set(host.connections().map(connection => connection.peer)))
        void this.#handOver(peer)
    }
    all()
    this.#timer = setInterval(all, this.#options.retryMs)
    this.#timer.unref()
  }

  async stop(): Promise<void> {
    this.#unsubscribe?.()
    clearInterval(this.#timer)
    this.#stopping.abort(new CatalogError('daemon-stopping', 'This node is stopping.'))
    await settleWithin(Promise.all(this.#underWay.values()), 1000)
  }

  /**
   * Durable when it resolves; whether the node has it already. A refusal of a connected node is thrown.
   * @throws CatalogError `quota-exceeded`, `certificate-…`
   */
  async send(peer: PeerText, chain: Chain, options: CallOptions = {}): Promise<'delivered' | 'waiting'> {
    const { host, records } = this.#deps
    const [leaf] = decodeChain(chain)
    const { notBefore, fingerprint } = leaf as Certificate
    if ((await count(records, this.#options.maxWaiting)) >= this.#options.maxWaiting)
      throw new CatalogError(
        'quota-exceeded',
        `${this.#options.maxWaiting} certificates wait for nodes that are away.`,
      )
    const key = `${peer}/${String(notBefore).padStart(16, '0')}/${fingerprint}`
    await records.put(key, encodeCbor({ v: 1, chain }))
    if (!host.isConnected(peer)) return 'waiting'
    try {
      await deliver(host, peer, chain, options)
    } catch (error) {
      if (!isFinal(error)) return 'waiting'
      await records.delete(key)
      throw error
    }
    await records.delete(key)
    return 'delivered'
  }

  /** How many certificates wait for a node. */
  waitingFor(peer: PeerText): Promise<number> {
    return count(this.#deps.records, this.#options.maxWaiting, `${peer}/`)
  }

  #handOver(peer: PeerText): Promise<void> {
    const running = this.#underWay.get(peer)
    if (running !== undefined || this.#stopping.signal.aborted) return running ?? Promise.resolve()
    const work = this.#handOverAll(peer)
      .catch((error: unknown) => {
        if (!this.#stopping.signal.aborted)
          this.#deps.log.debug({ peer, error: String(error) }, 'certificates could not be handed over now')
      })
      .finally(() => this.#underWay.delete(peer))
    this.#underWay.set(peer, work)
    return work
  }

  /** The oldest first: each may replace the one before. */
  async #handOverAll(peer: PeerText): Promise<void> {
    const { host, records, now, log } = this.#deps
    for await (const [key, value] of records.entries({ prefix: `${peer}/` })) {
      const chain = (
        decodeCbor(value, certificateLimits.maxChainBytes + 1024, 'A waiting certificate') as { chain: Chain }
      ).chain
      const [leaf] = decodeChain(chain)
      try {
        if ((leaf?.notAfter ?? 0) > now()) await deliver(host, peer, chain, { signal: this.#stopping.signal })
      } catch (error) {
        if (!isFinal(error)) throw error
        log.warn(
          { peer, certificate: leaf?.fingerprint, error: String(error) },
          'a node does not take its certificate',
        )
      }
      await records.delete(key)
    }
  }
}

async function count(records: KeyValue, limit: number, prefix = ''): Promise<number> {
  let found = 0
  for await (const _key of records.keys({ prefix, limit })) found += 1
  return found
}

/** Whether asking again makes no sense: the certificate itself was refused. */
const isFinal = (error: unknown): boolean =>
  isCatalogError(error) &&
  (/^certificate-/.test(error.code) || ['stale-record', 'quota-exceeded'].includes(error.code))
