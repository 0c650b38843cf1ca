// Who of the peers that matter is there: a connection is an answer; without one, or after a question that failed, the
// peer is redialled, and one that has not answered for the grace time is gone, until it is heard again.
import { CatalogError } from '../../base/errors.ts'
import type { CallOptions } from '../../base/lifecycle.ts'
import type { Host } from '../../network/host.ts'

export interface PeerWatchOptions {
  /** Silent for this long, and a dial since then failed: gone. */
  readonly graceMs: number
  /** Between two dials of a silent peer, and of one that is gone. */
  readonly redialMs: number
  readonly redialGoneMs: number
  readonly maxDials: number
}

export interface PeerWatchDeps {
  readonly host: Pick<Host, 'isConnected' | 'onPeer'>
  /** Resolves when the peer answers. */
  readonly probe: (peer: string, options: CallOptions) => Promise<void>
  /** The peers that matter now. */
  readonly peers: () => Iterable<string>
  readonly onChange: (peer: string, change: 'gone' | 'back') => void
}

interface Silence {
  readonly since: number
  gone: boolean
  dialling: boolean
  /** A dial that began after the silence has failed. */
  tried: boolean
  nextDial: number
}

export class PeerWatch {
  readonly #deps: PeerWatchDeps
  readonly #options: PeerWatchOptions
  readonly #silent = new Map<string, Silence>()
  readonly #stopping = new AbortController()
  #timer: NodeJS.Timeout | undefined
  #unsubscribe: (() => void) | undefined
  #dials = 0

  constructor(deps: PeerWatchDeps, options: PeerWatchOptions) {
    this.#deps = deps
    this.#options = options
  }

  start(): void {
    this.#unsubscribe = this.#deps.host.onPeer((peer, change) => {
      if (change === 'connected') this.heard(peer)
    })
    const every = Math.min(1000, Math.max(50, this.#options.graceMs / 10))
    this.#timer = setInterval(() => this.#look(), every).unref()
  }

  stop(): void {
    clearInterval(this.#timer)
    this.#unsubscribe?.()
    this.#stopping.abort(new CatalogError('daemon-stopping', 'The daemon is stopping.'))
  }

  isGone(peer: string): boolean {
    return this.#silent.get(peer)?.gone === true
  }

  isSilent(peer: string): boolean {
    return this.#silent.has(peer)
  }

  heard(peer: string): void {
    const silence = this.#silent.get(peer)
    if (silence === undefined) return
    this.#silent.delete(peer)
    if (silence.gone) this.#deps.onChange(peer, 'back')
  }

  /** It did not answer, though it may be connected. */
  failed(peer: string): void {
    if (!this.#silent.has(peer))
      this.#silent.set(peer, {
        since: performance.now(),
        gone: false,
        dialling: false,
        tried: false,
        nextDial: 0,
      })
  }

  #look(): void {
    const now = performance.now()
    const peers = new Set(this.#deps.peers())
    for (const peer of this.#silent.keys()) if (!peers.has(peer)) this.#silent.delete(peer)
    for (const peer of peers) {
      if (!this.#deps.host.isConnected(peer)) this.failed(peer)
      const silence = this.#silent.get(peer)
      if (silence === undefined) continue
      if (!silence.gone && silence.tried && now - silence.since >= this.#options.graceMs) {
        silence.gone = true
        this.#deps.onChange(peer, 'gone')
      }
      if (!silence.dialling && now >= silence.nextDial && this.#dials < this.#options.maxDials)
        void this.#dial(peer, silence)
    }
  }

  async #dial(peer: string, silence: Silence): Promise<void> {
    this.#dials++
    silence.dialling = true
    try {
      await this.#deps.probe(peer, { signal: this.#stopping.signal })
      if (this.#silent.get(peer) === silence) this.heard(peer)
    } catch {
      silence.tried = true
    } finally {
      this.#dials--
      silence.dialling = false
      const { redialMs, redialGoneMs } = this.#options
      silence.nextDial = performance.now() + (silence.gone ? redialGoneMs : redialMs)
    }
  }
}
