// A fetch of much: it asks over a connection of its own, and over the usual one where there is none, or none any more.
import { describe, expect, it } from 'vitest'
import { CatalogError } from '../../src/base/errors.ts'
import type { ByteStream, FillOptions } from '../../src/network/host.ts'
import { MemoryNetwork } from '../../src/network/memory-host.ts'
import { pseudoRandom, publish, readAll, sampleOf } from '../store/sample-content.ts'
import { fetching, honestly, hostile, provider } from './peers.ts'

const shardBytes = 65_536
const shards = 160
const bytes = pseudoRandom(77, shards * shardBytes)
const content = sampleOf(
  bytes,
  Array.from({ length: shards }, (_, i) => bytes.subarray(i * shardBytes, (i + 1) * shardBytes)),
)

async function setUp() {
  const network = new MemoryNetwork()
  const alice = provider(network)
  await publish(alice.store, content)
  return { network, alice, ...watched(network, () => [alice.peer]) }
}

type Wrap = (stream: ByteStream) => ByteStream | undefined

/** A node that fetches, what it opened, and a hand in its data connections. */
function watched(network: MemoryNetwork, candidates: () => string[]) {
  const node = fetching(network, candidates)
  const opened = { usual: 0, bulk: 0, received: 0 }
  const hand = { wrap: ((stream: ByteStream) => stream) as Wrap }
  const { open, openBulk } = node.host
  node.host.open = async (...args) => {
    opened.usual += 1
    return open.apply(node.host, args)
  }
  node.host.openBulk = async (...args) => {
    opened.bulk += 1
    const { usual } = opened
    const stream = await openBulk.apply(node.host, args)
    // The memory host carries them over its usual streams.
    opened.usual = usual
    return stream === undefined ? undefined : hand.wrap(stream)
  }
  const whole = async () => {
    const stored = await readAll(node.store, content.root, 0, bytes.byteLength)
    return Buffer.compare(stored, bytes) === 0
  }
  return { ...node, opened, hand, whole }
}

/** The stream with another way to read: it may fail after so many bytes, or count. */
const reading = (stream: ByteStream, onRead: (count: number) => Promise<void> | void): ByteStream => ({
  peer: stream.peer,
  read: async (maxBytes, options) => {
    const chunk = await stream.read(maxBytes, options)
    await onRead(chunk?.byteLength ?? 0)
    return chunk
  },
  fill: async (into, { onPart, ...options }: FillOptions) => {
    for (let filled = 0; filled < into.byteLength; ) {
      const chunk = await stream.read(into.byteLength - filled, options)
      if (chunk === undefined) return false
      await onRead(chunk.byteLength)
      into.set(chunk, filled)
      filled += chunk.byteLength
      onPart(chunk.byteLength)
    }
    return true
  },
  write: (...args) => stream.write(...args),
  closeWrite: () => stream.closeWrite(),
  close: () => stream.close(),
  abort: error => stream.abort(error),
})

/** Nothing comes any more, until somebody ends it. */
const untilEnded = (stream: ByteStream): Promise<never> =>
  new Promise((_, reject) => {
    const { ended } = stream as unknown as { ended: AbortSignal }
    ended.addEventListener('abort', () => reject(ended.reason as Error))
  })

describe('a fetch of much', () => {
  it('moves nearly all over one connection of its own, and one usual stream', async () => {
    const { fetcher, opened, hand, whole } = await setUp()
    let overBulk = 0
    hand.wrap = stream =>
      reading(stream, count => {
        overBulk += count
      })
    const report = await fetcher.fetch(content.root)
    expect(await whole()).toBe(true)
    expect(opened).toMatchObject({ usual: 1, bulk: 1 })
    expect(overBulk).toBeGreaterThan(bytes.byteLength / 2)
    expect(report.bytesTransferred).toBeGreaterThan(bytes.byteLength)
    expect(report.bytesTransferred).toBeLessThan(bytes.byteLength * 1.01)
  })

  it('takes more of the usual streams where there is no such connection', async () => {
    const { fetcher, opened, hand, whole } = await setUp()
    hand.wrap = stream => void stream.close()
    await fetcher.fetch(content.root)
    expect(await whole()).toBe(true)
    expect(opened).toMatchObject({ usual: 2, bulk: 1 })
  })

  it('goes on over the usual ones when it breaks off in the middle, and nobody is blamed', async () => {
    const { fetcher, opened, hand, whole, scores, alice } = await setUp()
    let left = 3_000_000
    hand.wrap = stream =>
      reading(stream, count => {
        left -= count
        if (left < 0) throw new CatalogError('peer-unreachable', 'cut')
      })
    const report = await fetcher.fetch(content.root)
    expect(await whole()).toBe(true)
    expect(opened.bulk).toBe(1)
    expect(report.providers.map(({ peer }) => peer)).toEqual([alice.peer])
    expect(scores.isBanned(alice.peer)).toBe(false)
  })

  it('goes on over the usual ones when nothing comes on it any more', async () => {
    const { fetcher, opened, hand, whole, alice } = await setUp()
    let left = 3_000_000
    hand.wrap = stream =>
      reading(stream, count => {
        left -= count
        return left < 0 ? untilEnded(stream) : undefined
      })
    const report = await fetcher.fetch(content.root)
    expect(await whole()).toBe(true)
    expect(opened.bulk).toBe(1)
    expect(report.providers.map(({ peer }) => peer)).toEqual([alice.peer])
  })

  it('bans who lies on it', async () => {
    const network = new MemoryNetwork()
    let questions = 0
    const liar = hostile(network, async (question, stream) => {
      questions += 1
      // The index is true; what comes later is not.
      if (question['op'] !== 'shards' || questions < 6) return honestly(content, question, stream)
      const wrong = { ...content, bytes: new Uint8Array(bytes.byteLength) }
      return honestly(wrong, question, stream)
    })
    const alice = provider(network)
    await publish(alice.store, content)
    const { fetcher, scores, whole } = watched(network, () => [liar.peer, alice.peer])
    await fetcher.fetch(content.root)
    expect(await whole()).toBe(true)
    expect(scores.isBanned(liar.peer)).toBe(true)
  })

  it('ends with its caller while such a connection is being made', async () => {
    const { fetcher, host } = await setUp()
    const opening = Promise.withResolvers<void>()
    host.openBulk = (_peer, _protocol, options) => {
      opening.resolve()
      return new Promise((_, reject) =>
        options?.signal?.addEventListener('abort', () => reject(options.signal?.reason as Error)),
      )
    }
    // What is here by then is not enough.
    host.open = ((open: typeof host.open) =>
      (async (...args) => {
        const stream = await open.apply(host, args)
        return reading(stream, async () => void (await new Promise(resolve => setTimeout(resolve, 20))))
      }) as typeof host.open)(host.open)
    const leaving = new AbortController()
    const fetched = fetcher.fetch(content.root, { signal: leaving.signal })
    await opening.promise
    leaving.abort(new Error('changed my mind'))
    await expect(fetched).rejects.toThrow('changed my mind')
  })

  it('of little opens none', async () => {
    const network = new MemoryNetwork()
    const alice = provider(network)
    const little = sampleOf(bytes.subarray(0, 2 * shardBytes), [
      bytes.subarray(0, shardBytes),
      bytes.subarray(shardBytes, 2 * shardBytes),
    ])
    await publish(alice.store, little)
    const { fetcher, opened } = watched(network, () => [alice.peer])
    await fetcher.fetch(little.root)
    expect(opened.bulk).toBe(0)
  })
})
