// Tells the log and listeners of refused memberships, each once in a while: a refused peer dials again and again, and
// strangers can be many.
import type { Log } from '../../../base/log.ts'
import type { Refusal } from '../../admission.ts'
import type { PeerText } from '../../host.ts'

export type RefusalListener = (peer: PeerText, refusal: Refusal) => void

const againAfterMs = 3_600_000
const maxRemembered = 1000
/** Warnings in a minute, whoever they are about; the rest is for debugging. */
const maxWarnings = 20

export class RefusalNews {
  readonly #log: Log
  readonly #listeners = new Set<RefusalListener>()
  readonly #told = new Map<string, number>()
  #minute = 0
  #warnings = 0

  constructor(log: Log) {
    this.#log = log
  }

  onRefused(listener: RefusalListener): () => void {
    this.#listeners.add(listener)
    return () => this.#listeners.delete(listener)
  }

  tell(peer: PeerText, refusal: Refusal, address?: string): void {
    const { by, code, message } = refusal
    const fields = { peer, code, reason: message, ...(address === undefined ? {} : { address }) }
    const text = by === 'peer' ? 'a peer refused this node' : 'peer is not of this network; disconnecting'
    if (this.#isNews(`${peer} ${by} ${code}`)) this.#log.warn(fields, text)
    else this.#log.debug(fields, text)
    for (const listener of this.#listeners)
      try {
        listener(peer, refusal)
      } catch (err) {
        this.#log.error({ err, peer }, 'a listener for refusals failed')
      }
  }

  #isNews(key: string): boolean {
    const now = Date.now()
    if ((this.#told.get(key) ?? 0) > now - againAfterMs) return false
    const minute = Math.floor(now / 60_000)
    if (minute !== this.#minute) {
      this.#minute = minute
      this.#warnings = 0
    }
    if (++this.#warnings > maxWarnings) return false
    this.#told.delete(key)
    this.#told.set(key, now)
    const [oldest] = this.#told.keys()
    if (this.#told.size > maxRemembered && oldest !== undefined) this.#told.delete(oldest)
    return true
  }
}
