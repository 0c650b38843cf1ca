// One stream of the stock @chainsafe/libp2p-quic wrapper, as it comes, between two processes, memory to memory: what
// raw-stream.ts is measured against. Timed in the same way: from opening the stream on a connection that is there.
//
//   stock-stream.ts MIB          both processes, over loopback; prints milliseconds
//   stock-stream.ts MIB send     prints its address, then sends so much on every stream that is opened
import { spawn } from 'node:child_process'
import { once } from 'node:events'
import { createInterface } from 'node:readline'
import { fileURLToPath } from 'node:url'
import { quic } from '@chainsafe/libp2p-quic'
import type { Stream } from '@libp2p/interface'
import { multiaddr } from '@multiformats/multiaddr'
import { createLibp2p } from 'libp2p'
import { silentLogger } from '../src/network/libp2p/silent-logger.ts'

const [mebibytes, mode] = process.argv.slice(2)
const size = Number(mebibytes) * 1024 * 1024
// The native code refuses to construct without `shutdownTimeout`; the wrapper's type does not know it.
const transport = quic({ shutdownTimeout: 3000 } as Parameters<typeof quic>[0])
const node = await createLibp2p({
  logger: silentLogger,
  addresses: { listen: ['/ip4/127.0.0.1/udp/0/quic-v1'] },
  transports: [transport],
  connectionGater: { denyDialMultiaddr: () => false },
})

async function sendAll(stream: Stream): Promise<void> {
  const chunk = Buffer.alloc(256 * 1024, 1)
  for (let sent = 0; sent < size; sent += chunk.byteLength) {
    const taken = stream.send(chunk.subarray(0, Math.min(chunk.byteLength, size - sent)))
    if (!taken) await once(stream, 'drain')
  }
  await stream.close()
}

async function receive(address: string): Promise<void> {
  const connection = await node.dial(multiaddr(address))
  const started = performance.now()
  const stream = await connection.newStream('/raw/1')
  let received = 0
  stream.addEventListener('message', ({ data }) => {
    received += data.byteLength
  })
  await once(stream, 'remoteCloseWrite')
  const milliseconds = performance.now() - started
  if (received !== size) throw new Error(`received ${received} of ${size} bytes`)
  console.log(milliseconds)
}

if (mode === 'send') {
  await node.handle('/raw/1', sendAll)
  console.log(String(node.getMultiaddrs()[0]))
  process.stdin.resume().once('end', () => process.exit(0))
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
