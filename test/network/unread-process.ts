// Run as a process by libp2p-host.test.ts: sends 64 MiB to a second process that does not read, and prints how much
// the transport took and how much the memory of both has grown. Without arguments but `receive` it is that process.
import { fork } from 'node:child_process'
import { setTimeout as sleep } from 'node:timers/promises'
import { quicOnly, startHost, tcpOnly } from './swarm.ts'

const [transport = 'quic', role = 'send'] = process.argv.slice(2)
const MiB = 1024 * 1024
/** What is held, not what waits to be collected. QUIC's buffers are native and show only in the resident size. */
const memory = () => {
  globalThis.gc?.()
  const { heapUsed, external, rss } = process.memoryUsage()
  return transport === 'quic' ? rss : heapUsed + external
}
const host = await startHost(transport === 'quic' ? quicOnly : tcpOnly)

if (role === 'receive') {
  let before = memory()
  host.handle(
    '/unread/1',
    async (stream, { signal }) => {
      await stream.read(1)
      before = memory()
      await new Promise(resolve => signal.addEventListener('abort', resolve))
    },
    { maxInbound: 4, maxInboundPerPeer: 4 },
  )
  process.on('message', async message => {
    if (message === 'measure') process.send?.({ grown: (memory() - before) / MiB })
    else await host.stop().then(() => process.exit(0))
  })
  process.send?.({ address: host.addresses()[0] })
} else {
  const child = fork(import.meta.filename, [transport, 'receive'])
  const next = () =>
    new Promise<Record<string, unknown>>(resolve => child.once('message', m => resolve(m as never)))
  const { address } = await next()
  const peer = await host.dial(String(address))
  const stream = await host.open(peer, '/unread/1')
  await stream.write(new Uint8Array(1))
  await sleep(300)
  const before = memory()
  let sent = 0
  const piece = new Uint8Array(256 * 1024)
  const signal = AbortSignal.timeout(3000)
  try {
    for (; sent < 64 * MiB; sent += piece.byteLength) await stream.write(piece, { signal })
  } catch {
    // Held back until the signal, or cut: both are right.
  }
  const senderMiB = (memory() - before) / MiB
  child.send('measure')
  const { grown } = await next()
  child.send('stop')
  await host.stop()
  console.log(JSON.stringify({ sentMiB: sent / MiB, senderMiB, receiverMiB: grown }))
}
