// A hostile program of its own: joins a network as a member, claims to provide a content root, and serves it badly.
//
//   node hostile-provider.ts BEHAVIOUR ROOT HONEST VICTIM HOME    prints its peer id once it is ready to do harm
//
// A BEHAVIOUR that ends in -late serves the truth until 99 % of it are out, and prints a line when harm begins; one with
// -bulk in it takes data connections.
// HONEST and VICTIM are multiaddrs, HOME is that of a member, whose keys and certificates it uses. It takes the true index from the honest node: a liar that is believed at first
// does more harm.

import { decodeContentIndex } from '../../src/assets/content-index.ts'
import { silentLog } from '../../src/base/log.ts'
import { defaultLaneOptions, TransferLane } from '../../src/distribution/transfer-lane.ts'
import { encodeFrame, FrameReader } from '../../src/network/frames.ts'
import type { ByteStream } from '../../src/network/host.ts'
import { Libp2pHost } from '../../src/network/libp2p-host.ts'
import { membershipOf } from './membership.ts'

const [behaviour, root, honest, victim, home] = process.argv.slice(2) as [
  string,
  string,
  string,
  string,
  string,
]
const host = new Libp2pHost(
  { ...(await membershipOf(home)), log: silentLog },
  { network: 'catalog', listen: ['/ip4/127.0.0.1/udp/0/quic-v1'] },
)
await host.start()
const lane = await TransferLane.open(host, await host.dial(honest), defaultLaneOptions, {})
const indexBytes = await lane.index(root, 64 * 1024 * 1024)
const index = decodeContentIndex(indexBytes, root)
/** The true shards, where it serves those at first: once 99 % of them are out, it begins to do harm. */
const shards: Uint8Array[] = []
const honestly = behaviour.endsWith('-late') ? Math.floor(index.shards.length * 0.99) : 0
const served = new Set<number>()
if (honestly > 0)
  for (const { length } of index.shards)
    await lane.shards(root, shards.length, [length], async (_, bytes) => {
      shards.push(Uint8Array.from(bytes))
    })
await lane.close()

async function answer(stream: ByteStream): Promise<void> {
  const reader = new FrameReader(stream)
  for (;;) {
    const question = await reader.message(1024)
    if (question === undefined) return
    const id = question['id']
    if (behaviour === 'garbage') return stream.write(Buffer.alloc(5000, 0xff))
    if (question['op'] === 'have')
      await stream.write(encodeFrame({ id, code: 'ok', length: 0, complete: true }))
    else if (question['op'] === 'index') await answerIndex(stream, id, Number(question['offset']))
    // All that it has is too large to come beside its index.
    else if (question['op'] === 'small') await stream.write(encodeFrame({ id, code: 'ok', length: 0 }))
    else await answerShards(stream, id, Number(question['first']), Number(question['count']))
  }
}

async function answerIndex(stream: ByteStream, id: unknown, offset: number): Promise<void> {
  const bytes = Uint8Array.from(indexBytes)
  if (behaviour === 'false-index') bytes[bytes.length - 1] = (bytes[bytes.length - 1] as number) ^ 1
  const piece = bytes.subarray(offset, offset + 1024 * 1024)
  await stream.write(encodeFrame({ id, code: 'ok', length: piece.byteLength, total: bytes.byteLength }))
  await stream.write(piece)
}

async function answerShards(stream: ByteStream, id: unknown, first: number, count: number): Promise<void> {
  const length = index.shards.slice(first, first + count).reduce((sum, shard) => sum + shard.length, 0)
  await stream.write(encodeFrame({ id, code: 'ok', length: behaviour === 'too-short' ? length - 1 : length }))
  let shard = first
  for (; shard < first + count && (served.size < honestly || served.has(shard)); shard++) {
    served.add(shard)
    await stream.write(shards[shard] as Uint8Array)
  }
  if (shard === first + count) return
  if (honestly > 0) process.stdout.write('harm begins\n')
  if (behaviour.startsWith('stalls')) return new Promise(() => undefined)
  if (behaviour.startsWith('crawls'))
    for (let sent = 0; sent < 600; sent++) {
      await stream.write(Buffer.alloc(1))
      await new Promise(resolve => setTimeout(resolve, 1000))
    }
  await stream.write(Buffer.alloc(behaviour === 'too-short' ? length - 1 : length, 7))
}

const limits = { maxInboundPerPeer: 64, maxInbound: 64 }
const bulk = behaviour.includes('-bulk') ? ({ bulk: true } as const) : {}
host.handle('/transfer/1', stream => answer(stream), { ...limits, ...bulk })
await host.dial(victim)
process.stdout.write(`${host.peer}\n`)
