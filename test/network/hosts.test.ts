// Both hosts pass the one suite: libp2p over real loopback QUIC and TCP, and the memory twin.
import { MemoryNetwork } from '../../src/network/memory-host.ts'
import { hostConformance } from '../conformance/host.ts'
import { quicOnly, startHost, tcpOnly } from './swarm.ts'

for (const [name, options] of [
  ['Libp2pHost over QUIC', quicOnly],
  ['Libp2pHost over TCP', tcpOnly],
] as const)
  hostConformance(name, async () => {
    const [a, b] = await Promise.all([startHost(options), startHost(options)])
    return { a, b, stop: async () => void (await Promise.all([a.stop(), b.stop()])) }
  })

hostConformance('MemoryHost', async () => {
  const network = new MemoryNetwork()
  const [a, b] = [network.createHost(), network.createHost()]
  return { a, b, stop: async () => void (await Promise.all([a.stop(), b.stop()])) }
})
