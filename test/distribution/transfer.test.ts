import { describe, expect, it } from 'vitest'
import { CatalogError } from '../../src/base/errors.ts'
import { silentLog } from '../../src/base/log.ts'
import { findProviders, holdersOf } from '../../src/distribution/providers.ts'
import { defaultLaneOptions, TransferLane } from '../../src/distribution/transfer-lane.ts'
import { transferProtocol } from '../../src/distribution/transfer-protocol.ts'
import { encodeFrame, FrameReader } from '../../src/network/frames.ts'
import { MemoryNetwork } from '../../src/network/memory-host.ts'
import { MemoryContentStore } from '../../src/store/memory-content-store.ts'
import { pseudoRandom, publish, sampleOf } from '../store/sample-content.ts'
import { honestly, hostile, never, provider } from './peers.ts'

const bytes = pseudoRandom(1, 40 * 65_536)
const content = sampleOf(
  bytes,
  Array.from({ length: 40 }, (_, i) => bytes.subarray(i * 65_536, (i + 1) * 65_536)),
)

/** Counts the reads of stored bytes that are open. */
class CountingStore extends MemoryContentStore {
  reading = 0
  damaged: number | undefined

  override async *read(...args: Parameters<MemoryContentStore['read']>) {
    this.reading += 1
    try {
      let shard = 0
      for await (const chunk of super.read(...args)) {
        if (shard++ === this.damaged) throw new CatalogError('corrupt-content', 'damaged')
        yield chunk
      }
    } finally {
      this.reading -= 1
    }
  }
}

async function setUp() {
  const network = new MemoryNetwork()
  const store = new CountingStore()
  const server = provider(network, store)
  await publish(store, content)
  return { network, store, server, client: network.createHost() }
}

const until = async (holds: () => boolean) => {
  for (let at = 0; at < 200 && !holds(); at++) await new Promise(resolve => setTimeout(resolve, 10))
  expect(holds()).toBe(true)
}

describe('the serving half', () => {
  it('lets go of the file when the peer leaves in the middle of an answer', async () => {
    const { network, store, server, client } = await setUp()
    network.slow(server.peer, { bytesPerSecond: 1_000_000 })
    const stream = await client.open(server.peer, transferProtocol)
    await stream.write(encodeFrame({ id: 0, op: 'shards', root: content.root, first: 0, count: 40 }))
    await stream.read()
    expect(store.reading).toBe(1)
    stream.abort(new Error('gone'))
    await until(() => store.reading === 0)
  })

  it('says failed for a damaged first shard, and resets the stream for a later one', async () => {
    const { store, server, client } = await setUp()
    const ask = async () => {
      const stream = await client.open(server.peer, transferProtocol)
      await stream.write(encodeFrame({ id: 0, op: 'shards', root: content.root, first: 0, count: 3 }))
      const reader = new FrameReader(stream)
      const code = (await reader.message(1024))?.['code']
      if (code !== 'ok') return { code }
      const rest = reader.bytes(3 * 65_536)
      return {
        code,
        rest: await rest.then(
          () => 'all',
          () => 'reset',
        ),
      }
    }
    store.damaged = 0
    expect(await ask()).toEqual({ code: 'failed' })
    store.damaged = 2
    expect(await ask()).toEqual({ code: 'ok', rest: 'reset' })
    store.damaged = undefined
    expect(await ask()).toEqual({ code: 'ok', rest: 'all' })
    expect(store.reading).toBe(0)
  })

  it('holds back with a peer that does not read, and serves the others meanwhile', async () => {
    const { store, server, client } = await setUp()
    const stream = await client.open(server.peer, transferProtocol)
    for (let id = 0; id < 20; id++)
      await stream.write(encodeFrame({ id, op: 'shards', root: content.root, first: 0, count: 40 }))
    await new Promise(resolve => setTimeout(resolve, 50))
    // Stuck in the first answer, which is larger than what may wait unread.
    expect(store.reading).toBe(1)
    const lane = await TransferLane.open(client, server.peer, defaultLaneOptions, {})
    expect(await lane.have(content.root)).toMatchObject({ complete: true })
    stream.abort(new Error('enough'))
    await until(() => store.reading === 0)
  })
})

describe('a lane', () => {
  it('has several questions in flight, and answers each in order', async () => {
    const { server, client } = await setUp()
    const lane = await TransferLane.open(client, server.peer, defaultLaneOptions, {})
    const got: number[] = []
    const ask = (first: number) =>
      lane.shards(
        content.root,
        first,
        [65_536, 65_536],
        async (shard, _, count) => void got.push(...Array.from({ length: count }, (_, at) => shard + at)),
      )
    await Promise.all([ask(4), ask(0), lane.have(content.root), ask(8), lane.index(content.root, 1 << 20)])
    expect(got).toEqual([4, 5, 0, 1, 8, 9])
  })

  it('stays in step after a refusal', async () => {
    const { server, client } = await setUp()
    const lane = await TransferLane.open(client, server.peer, defaultLaneOptions, {})
    const unknown = sampleOf(new Uint8Array(1)).root
    await expect(lane.index(unknown, 1024)).rejects.toMatchObject({ code: 'not-found' })
    expect(await lane.have(unknown)).toBeUndefined()
    expect(Buffer.compare(await lane.index(content.root, 1 << 20), content.indexBytes)).toBe(0)
  })

  it.each([
    ['nothing', 0],
    ['a byte now and then', 40],
  ])('gives up on a provider that sends %s, and says so', async (_what, everyMs) => {
    const { network, client } = await setUp()
    const slow = hostile(network, async (question, stream) => {
      if (everyMs === 0) return never()
      await stream.write(encodeFrame({ id: question['id'], code: 'ok', length: 65_536 }))
      for (;;) {
        await stream.write(new Uint8Array(1))
        await new Promise(resolve => setTimeout(resolve, everyMs))
      }
    })
    const options = { stallMs: 200, crawlBytesPerSecond: 4096, crawlWindowMs: 400 }
    const lane = await TransferLane.open(client, slow.peer, options, {})
    await expect(lane.shards(content.root, 0, [65_536], async () => undefined)).rejects.toMatchObject({
      code: 'timeout',
    })
  })

  it('does not blame the provider for the time that this node takes to store', async () => {
    const { server, client } = await setUp()
    const options = { stallMs: 100, crawlBytesPerSecond: 1_000_000, crawlWindowMs: 100 }
    const lane = await TransferLane.open(client, server.peer, options, {})
    let stored = 0
    await lane.shards(content.root, 0, [65_536, 65_536, 65_536], async (_first, _bytes, count) => {
      await new Promise(resolve => setTimeout(resolve, 250))
      stored += count
    })
    expect(stored).toBe(3)
  })

  it('keeps no timer and no stream once it is closed', async () => {
    const { server, client } = await setUp()
    const timers = () => process.getActiveResourcesInfo().filter(each => each === 'Timeout').length
    const before = timers()
    const lane = await TransferLane.open(client, server.peer, defaultLaneOptions, {})
    for (let at = 0; at < 50; at++) await lane.have(content.root)
    await lane.close()
    await until(() => timers() <= before + 1)
    await expect(lane.have(content.root)).rejects.toMatchObject({ code: 'cancelled' })
  })
})

describe('finding providers', () => {
  it('names connected peers at once, then those of the DHT, each once', async () => {
    const { server, client } = await setUp()
    await client.dial(`/memory/${server.peer}`)
    const router = {
      async *findProviders() {
        yield* ['distant', server.peer, client.peer]
      },
    }
    const found: string[] = []
    for await (const peer of findProviders({ host: client, router, log: silentLog }, content.root))
      found.push(peer)
    expect(found).toEqual([server.peer, 'distant'])
  })

  it('asks who holds a content; a peer that lies or is silent costs no more than the time given', async () => {
    const { network, server, client } = await setUp()
    const silent = hostile(network, never)
    const complete = hostile(network, (question, stream) => honestly(content, question, stream))
    const none = provider(network)
    const router = {
      async *findProviders() {
        yield* [silent.peer, complete.peer, none.peer, 'nobody', server.peer]
      },
    }
    const started = performance.now()
    const holders = await holdersOf({ host: client, router, log: silentLog }, content.root, {
      signal: AbortSignal.timeout(300),
    })
    expect(performance.now() - started).toBeLessThan(1_000)
    expect(holders.map(({ peer }) => peer).sort()).toEqual([complete.peer, server.peer].sort())
  })
})
