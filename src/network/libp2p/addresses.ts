// Peer ids and addresses from outside, as libp2p's own types or refused with `invalid-request`.
import type { PeerId } from '@libp2p/interface'
import { peerIdFromString } from '@libp2p/peer-id'
import { type Multiaddr, multiaddr } from '@multiformats/multiaddr'
import { CatalogError } from '../../base/errors.ts'
import type { PeerText } from '../host.ts'

export function parsePeer(peer: PeerText): PeerId {
  try {
    return peerIdFromString(peer)
  } catch {
    throw new CatalogError('invalid-request', `${JSON.stringify(peer)} is not a peer id.`)
  }
}

export function parseAddress(address: string): Multiaddr {
  try {
    if (address.length <= 500) return multiaddr(address)
  } catch {
    // Told below, with an example.
  }
  throw new CatalogError(
    'invalid-request',
    `${JSON.stringify(address.slice(0, 100))} is not a multiaddr, for example /ip4/192.0.2.1/udp/4001/quic-v1/p2p/12D3….`,
  )
}
