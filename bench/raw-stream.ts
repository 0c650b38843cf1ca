// One QUIC stream of our transport from a second process, memory to memory: the ceiling of a fetch over one stream.
//
//   raw-stream.ts MIB                      both processes, over loopback; prints milliseconds
//   raw-stream.ts MIB send [IPV4]          prints its address, then sends so much on every stream that is opened
//   raw-stream.ts MIB receive ADDRESS      opens one stream there; prints milliseconds
//
// Timed from opening the stream, on a connection that is there, to its last byte.
import { spawn } from 'node:child_process'
import { createInterface } from 'node:readline'
import { fileURLToPath } from 'node:url'
import { silentLog } from '../src/base/log.ts'
import { createNodeKey } from '../src/network/identity.ts'
import { Libp2pHost } from '../src/network/libp2p-host.ts'
import { everybody } from '../test/network/admissions.ts'

const [mebibytes, mode, place] = process.argv.slice(2)
const size = Number(mebibytes) * 1024 * 1024
const host = new Libp2pHost(
  { privateKey: await createNodeKey(), admissions: everybody, log: silentLog },
  {
    network: 'bench',
    listen: [`/ip4/${mode === 'send' && place !== undefined ? place : '127.0.0.1'}/udp/0/quic-v1`],
  },
)

async function send(): Promise<void> {
  host.handle(
    '/raw/1',
    async stream => {
      const chunk = Buffer.alloc(256 * 1024, 1)
      for (let sent = 0; sent < size; sent += chunk.byteLength)
        await stream.write(chunk.subarray(0, Math.min(chunk.byteLength, size - sent)))
      await stream.close()
    },
    { maxInbound: 4, maxInboundPerPeer: 4 },
  )
  await host.start()
  console.log(host.addresses()[0])
  process.stdin.resume().once('end', () => process.exit(0))
}

async function receive(address: string): Promise<void> {
  await host.start()
  const peer = await host.dial(address)
  const started = performance.now()
  const stream = await host.open(peer, '/raw/1')
  let received = 0
  for (let chunk = await stream.read(); chunk !== undefined; chunk = await stream.read()) {
    received += chunk.byteLength
    stream.discard?.(chunk)
  }
  const milliseconds = performance.now() - started
  if (received !== size) throw new Error(`received ${received} of ${size} bytes`)
  console.log(milliseconds)
  await host.stop()
}

if (mode === 'send') await send()
else if (mode === 'receive') {
  await receive(place as string)
  process.exit(0)
} else {
  const sender = spawn(process.execPath, [fileURLToPath(import.meta.url), String(mebibytes), 'send'], {
    stdio: ['pipe', 'pipe', 'inherit'],
  })
  await receive(
    await new Promise<string>(resolve => createInterface({ input: sender.stdout }).once('line', resolve)),
  )
  sender.kill('SIGTERM')
  process.exit(0)
}
