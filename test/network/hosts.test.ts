// Both hosts pass the one suite: libp2p over real loopback QUIC and TCP, and the memory twin.
import { silentLog } from '../../src/base/log.ts'
import { MemoryNetwork } from '../../src/network/memory-host.ts'
import { hostConformance } from '../conformance/host.ts'
import { quicOnly, startHost, tcpOnly } from './swarm.ts'

for (const [name, options] of [
  ['Libp2pHost over QUIC', quicOnly],
  ['Libp2pHost over TCP', tcpOnly],
] as const)
  hostConformance(name, async admissions => {
    const [a, b] = await Promise.all([
      startHost(options, silentLog, admissions.a),
      startHost(options, silentLog, admissions.b),
    ])
    return { a, b, stop: async () => void (await Promise.all([a.stop(), b.stop()])) }
  })

hostConformance('MemoryHost', async admissions => {
  const network = new MemoryNetwork()
  const a = network.createHost(undefined, silentLog, admissions.a)
  const b = network.createHost(undefined, silentLog, admissions.b)
  return { a, b, stop: async () => void (await Promise.all([a.stop(), b.stop()])) }
})
