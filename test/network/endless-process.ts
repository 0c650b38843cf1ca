// Run as a process by libp2p-host.test.ts, which kills it: sends without end to whoever asks.
import { startHost, tcpOnly } from './swarm.ts'

const host = await startHost(tcpOnly)
host.handle(
  '/endless/1',
  async stream => {
    for (;;) await stream.write(new Uint8Array(64 * 1024))
  },
  { maxInbound: 4, maxInboundPerPeer: 4 },
)
process.send?.(host.addresses()[0])
process.on('disconnect', () => process.exit(0))
