// Which connected peers are of this network, and who is told when that changes. A peer that answers the network's
// member protocol is; one that does not is disconnected once it is identified.
import type { IdentifyResult, Libp2p } from '@libp2p/interface'
import type { Log } from '../../base/log.ts'
import type { PeerText } from '../host.ts'

export type PeerListener = (peer: PeerText, change: 'connected' | 'disconnected') => void

export class Membership {
  readonly #log: Log
  readonly #network: string
  readonly #protocol: string
  readonly #members = new Set<PeerText>()
  readonly #listeners = new Set<PeerListener>()

  /** `protocol`: as it stands on the wire. */
  constructor(log: Log, options: { readonly network: string; readonly protocol: string }) {
    this.#log = log
    this.#network = options.network
    this.#protocol = options.protocol
  }

  watch(node: Libp2p): void {
    node.addEventListener('peer:identify', ({ detail }) => this.#identified(node, detail))
    node.addEventListener('peer:disconnect', ({ detail }) => {
      const peer = detail.toString()
      if (this.#members.delete(peer)) this.#tell(peer, 'disconnected')
    })
  }

  has(peer: PeerText): boolean {
    return this.#members.has(peer)
  }

  /** Tells nobody. */
  clear(): void {
    this.#members.clear()
  }

  onPeer(listener: PeerListener): () => void {
    this.#listeners.add(listener)
    return () => this.#listeners.delete(listener)
  }

  #identified(node: Libp2p, result: IdentifyResult): void {
    const peer = result.peerId.toString()
    if (!result.protocols.includes(this.#protocol)) {
      this.#log.warn(
        { peer, network: this.#network, address: result.connection.remoteAddr.toString() },
        'peer is not of this network; disconnecting',
      )
      for (const connection of node.getConnections(result.peerId))
        connection.abort(new Error('foreign network'))
      return
    }
    if (this.#members.has(peer) || node.getConnections(result.peerId).length === 0) return
    this.#members.add(peer)
    this.#tell(peer, 'connected')
  }

  #tell(peer: PeerText, change: 'connected' | 'disconnected'): void {
    for (const listener of this.#listeners)
      try {
        listener(peer, change)
      } catch (err) {
        this.#log.error({ err, peer, change }, 'a listener for peers failed')
      }
  }
}
