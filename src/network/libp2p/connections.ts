// Questions to a node about its connections and stored peers: which to use, how one looks from outside, whom to forget.
import type { Connection, Libp2p, PeerId } from '@libp2p/interface'
import { plainAddress } from '../data/address.ts'
import type { ConnectionView } from '../host.ts'
import { isQuic } from './node.ts'

export function bestConnection(node: Libp2p, peer: PeerId): Connection | undefined {
  // The newest: of a peer that was killed and came back, QUIC takes ten seconds to notice that the older is dead.
  const open = node
    .getConnections(peer)
    .filter(connection => connection.status === 'open')
    .sort((a, b) => b.timeline.open - a.timeline.open)
  return open.find(connection => isQuic(connection.remoteAddr)) ?? open[0]
}

/** The IP addresses at the other end of the peer's direct connections, that of the best first; those with a zone are left out. */
export function addressesOf(node: Libp2p, peer: PeerId): string[] {
  const best = bestConnection(node, peer)
  const connections = [best, ...node.getConnections(peer)].filter(each => each?.status === 'open')
  const addresses = connections.map(each => {
    const parts = each?.remoteAddr.getComponents() ?? []
    if (parts.some(({ name }) => name === 'p2p-circuit' || name === 'ip6zone')) return ''
    return plainAddress(parts.find(({ name }) => name === 'ip4' || name === 'ip6')?.value ?? '')
  })
  return [...new Set(addresses.filter(address => address !== ''))]
}

export function viewOf(connection: Connection): ConnectionView {
  const latency = connection.rtt
  return {
    peer: connection.remotePeer.toString(),
    addresses: [connection.remoteAddr.toString()],
    transport: isQuic(connection.remoteAddr) ? 'quic' : 'tcp',
    direction: connection.direction,
    connectedAt: connection.timeline.open,
    ...(latency === undefined ? {} : { latencyMs: latency }),
  }
}

/** libp2p keeps every peer it ever met until somebody asks for it. */
export async function forgetPeers(node: Libp2p, maxStoredPeers: number): Promise<void> {
  const absent: PeerId[] = []
  await node.peerStore.forEach(peer => {
    if (node.getConnections(peer.id).length === 0 && !peer.id.equals(node.peerId)) absent.push(peer.id)
  })
  const surplus = absent.length - maxStoredPeers
  for (const peer of absent.slice(0, Math.max(0, surplus))) await node.peerStore.delete(peer)
}
