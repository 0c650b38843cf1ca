import { describe, expect, it } from 'vitest'
import { MemoryNetwork } from '../../src/network/memory-host.ts'
import { pseudoRandom, publish, sampleOf } from '../store/sample-content.ts'
import { fetching, honestly, hostile, never, provider } from './peers.ts'

/** 8 MB in 128 shards: more than what comes beside the index, and than a first window. */
const bytes = pseudoRandom(7, 128 * 65_536)
const content = sampleOf(
  bytes,
  Array.from({ length: 128 }, (_, i) => bytes.subarray(i * 65_536, (i + 1) * 65_536)),
)

async function collect(source: AsyncIterable<Uint8Array>): Promise<Buffer> {
  const chunks: Uint8Array[] = []
  for await (const chunk of source) chunks.push(chunk)
  return Buffer.concat(chunks)
}

describe('reading a content before all of it is here', () => {
  it('gives a range from the end long before the rest has come, in order and to the byte', async () => {
    const network = new MemoryNetwork()
    const alice = provider(network)
    await publish(alice.store, content)
    network.slow(alice.peer, { bytesPerSecond: 4_000_000 })
    const { fetcher, store } = fetching(network, () => [alice.peer])
    const [from, length] = [100 * 65_536 + 17, 3 * 65_536]
    const read = await collect(fetcher.read(content.root, from, length))
    expect(Buffer.compare(read, bytes.subarray(from, from + length))).toBe(0)
    // The fetch ended with its only reader, and keeps what came.
    expect(await store.state(content.root)).toBe('partial')
    const here = await store.available(content.root)
    const count = content.index.shards.filter((_, shard) => here?.has(shard)).length
    expect(count).toBeLessThan(content.index.shards.length)
  })

  it('asks for what is being read before anything else', async () => {
    const network = new MemoryNetwork()
    const slow = hostile(network, (question, stream) => honestly(content, question, stream))
    const { fetcher } = fetching(network, () => [slow.peer])
    const reading = fetcher.read(content.root, 90 * 65_536, 65_536)
    await reading.next()
    await reading.return()
    const firsts = slow.asked.filter(({ op }) => op === 'shards').map(({ first }) => first)
    // One question may have gone out before the reader was known.
    expect(firsts.slice(0, 3)).toContain(90)
  })

  it('a reader and a fetch share one transfer; the reader that leaves does not end it', async () => {
    const network = new MemoryNetwork()
    const alice = provider(network)
    await publish(alice.store, content)
    const { fetcher, store } = fetching(network, () => [alice.peer])
    const whole = fetcher.fetch(content.root)
    const reading = fetcher.read(content.root, 0, bytes.byteLength)
    await reading.next()
    await reading.return()
    const report = await whole
    expect(await store.state(content.root)).toBe('complete')
    expect(report.bytesTransferred).toBeLessThan(bytes.byteLength * 1.1)
  })

  it('a reader fails with the fetch: nobody has what it waits for', async () => {
    const network = new MemoryNetwork()
    const { fetcher } = fetching(network, () => [])
    await expect(collect(fetcher.read(content.root, 0, 10))).rejects.toMatchObject({ code: 'no-providers' })
  })

  it('a reader that is cancelled leaves at once, though no byte comes', async () => {
    const network = new MemoryNetwork()
    const silent = hostile(network, () => never())
    const { fetcher } = fetching(network, () => [silent.peer], { patienceMs: 60_000 })
    const signal = AbortSignal.timeout(50)
    const reading = collect(fetcher.read(content.root, 0, 10, { signal }))
    expect(await reading.catch(error => error === signal.reason)).toBe(true)
  })

  it('a signal that fires while the fetch is being entered ends it too', async () => {
    const network = new MemoryNetwork()
    const silent = hostile(network, () => never())
    const { fetcher } = fetching(network, () => [silent.peer], { patienceMs: 60_000 })
    const abort = new AbortController()
    queueMicrotask(() => abort.abort(new Error('enough')))
    await expect(fetcher.fetch(content.root, { signal: abort.signal })).rejects.toThrow('enough')
  })

  it('the index alone can be had', async () => {
    const network = new MemoryNetwork()
    const alice = provider(network)
    await publish(alice.store, content)
    const { fetcher } = fetching(network, () => [alice.peer])
    expect((await fetcher.index(content.root)).size).toBe(bytes.byteLength)
  })
})

describe('a small content', () => {
  it('comes in one round trip: its bytes beside its index', async () => {
    const network = new MemoryNetwork()
    const small = sampleOf(bytes.subarray(0, 300_000))
    const alice = hostile(network, (question, stream) => honestly(small, question, stream))
    const { fetcher, store } = fetching(network, () => [alice.peer])
    await fetcher.fetch(small.root)
    expect(alice.asked.map(({ op }) => op)).toEqual(['index', 'small'])
    expect(await store.state(small.root)).toBe('complete')
  })
})
