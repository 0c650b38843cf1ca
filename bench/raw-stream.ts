// One QUIC stream of our transport from a second process, memory to memory: the ceiling of a fetch over one stream.
// Usage: raw-stream.ts MIB    prints milliseconds. (`send` as a second argument is the sending process.)
import { spawn } from 'node:child_process'
import { createInterface } from 'node:readline'
import { fileURLToPath } from 'node:url'
import { silentLog } from '../src/base/log.ts'
import { createNodeKey } from '../src/network/identity.ts'
import { Libp2pHost } from '../src/network/libp2p-host.ts'

const size = Number(process.argv[2]) * 1024 * 1024
const host = new Libp2pHost(
  { privateKey: await createNodeKey(), log: silentLog },
  { network: 'bench', listen: ['/ip4/127.0.0.1/udp/0/quic-v1'] },
)

if (process.argv[3] === 'send') {
  host.handle(
    '/raw/1',
    async stream => {
      const chunk = Buffer.alloc(256 * 1024, 1)
      for (let sent = 0; sent < size; sent += chunk.byteLength) await stream.write(chunk)
      await stream.close()
    },
    { maxInbound: 4, maxInboundPerPeer: 4 },
  )
  await host.start()
  console.log(host.addresses()[0])
} else {
  const sender = spawn(process.execPath, [fileURLToPath(import.meta.url), String(process.argv[2]), 'send'], {
    stdio: ['ignore', 'pipe', 'inherit'],
  })
  const address = await new Promise<string>(resolve =>
    createInterface({ input: sender.stdout }).once('line', resolve),
  )
  await host.start()
  const peer = await host.dial(address)
  const stream = await host.open(peer, '/raw/1')
  const started = performance.now()
  let received = 0
  for (let chunk = await stream.read(); chunk !== undefined; chunk = await stream.read())
    received += chunk.byteLength
  if (received !== size) throw new Error(`received ${received} of ${size} bytes`)
  console.log(performance.now() - started)
  sender.kill('SIGTERM')
  await host.stop()
  process.exit(0)
}
