// Both routers pass the one suite: Kademlia over real QUIC, and the memory twin.
import { MemoryRouting } from '../../src/network/memory-router.ts'
import { routerConformance, select, validate } from '../conformance/router.ts'
import { connect, startKadNode, stopAll } from './swarm.ts'

routerConformance('KadRouter', async size => {
  const nodes = await Promise.all(Array.from({ length: size }, () => startKadNode()))
  // A star: the others know each other only through the first.
  for (const node of nodes.slice(1)) await connect(node.host, nodes[0]?.host as (typeof node)['host'])
  return { nodes, stop: async () => void (await stopAll(nodes)) }
})

routerConformance('MemoryRouter', async size => {
  const routing = new MemoryRouting()
  const nodes = Array.from({ length: size }, (_, i) => {
    const peer = `peer-${i}`
    return { peer, router: routing.createRouter(peer, validate, select) }
  })
  return { nodes, stop: async () => undefined }
})
