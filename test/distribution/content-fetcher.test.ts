import { describe, expect, it } from 'vitest'
import type { PartialContent } from '../../src/assets/content-store.ts'
import { CatalogError } from '../../src/base/errors.ts'
import { encodeFrame } from '../../src/network/frames.ts'
import { MemoryNetwork } from '../../src/network/memory-host.ts'
import { MemoryContentStore } from '../../src/store/memory-content-store.ts'
import { pseudoRandom, publish, readAll, sample, sampleOf } from '../store/sample-content.ts'
import { fetching, honestly, hostile, never, provider } from './peers.ts'

/** 2 MB in 32 shards of 64 KiB: small enough to be quick, enough for several questions and lanes. */
const even = (seed: number, shards = 32, shardBytes = 65_536) => {
  const bytes = pseudoRandom(seed, shards * shardBytes)
  return sampleOf(
    bytes,
    Array.from({ length: shards }, (_, i) => bytes.subarray(i * shardBytes, (i + 1) * shardBytes)),
  )
}

const codeOf = (work: Promise<unknown>) =>
  work.then(
    () => 'done',
    (error: unknown) => (error instanceof CatalogError ? error.code : String(error)),
  )

/** A store whose partial contents are wrapped. */
class WatchedStore extends MemoryContentStore {
  readonly #wrap: (partial: PartialContent) => Partial<PartialContent>

  constructor(wrap: (partial: PartialContent) => Partial<PartialContent>) {
    super()
    this.#wrap = wrap
  }

  override async openPartial(root: string, indexBytes: Uint8Array) {
    const partial = await super.openPartial(root, indexBytes)
    return { ...partial, ...this.#wrap(partial) }
  }
}

async function setUp(content = even(1)) {
  const network = new MemoryNetwork()
  const alice = provider(network)
  await publish(alice.store, content)
  return { network, alice, content }
}

describe('fetching a content', () => {
  it('brings every byte from one provider, and says what came from whom', async () => {
    const { network, alice, content } = await setUp()
    const { fetcher, store } = fetching(network, () => [alice.peer])
    const seen: number[] = []
    const report = await fetcher.fetch(content.root, {
      expectedSize: content.bytes.byteLength,
      onProgress: done => seen.push(done),
    })
    expect(
      Buffer.compare(await readAll(store, content.root, 0, content.bytes.byteLength), content.bytes),
    ).toBe(0)
    expect(report.providers).toEqual([{ peer: alice.peer, bytes: report.bytesTransferred }])
    expect(report.bytesTransferred).toBeGreaterThan(content.bytes.byteLength + content.indexBytes.byteLength)
    expect(report.bytesTransferred).toBeLessThan(
      content.bytes.byteLength + content.indexBytes.byteLength + 4_000,
    )
    expect(seen).toEqual([...seen].sort((a, b) => a - b))
    expect(seen.at(-1)).toBe(content.bytes.byteLength)
    expect(await store.state(content.root)).toBe('complete')
  })

  it('brings a content without a single shard', async () => {
    const { network, alice, content } = await setUp(sampleOf(new Uint8Array(0), []))
    const { fetcher, store } = fetching(network, () => [alice.peer])
    expect((await fetcher.fetch(content.root)).index.shards).toEqual([])
    expect(await store.state(content.root)).toBe('complete')
  })

  it('leaves no stream open at the provider', async () => {
    const { network, alice, content } = await setUp()
    const { fetcher, host } = fetching(network, () => [alice.peer])
    const open = new Set<unknown>()
    const original = host.open.bind(host)
    host.open = async (...args) => {
      const stream = await original(...args)
      open.add(stream)
      const { ended } = stream as unknown as { ended: AbortSignal }
      ended.addEventListener('abort', () => open.delete(stream))
      return stream
    }
    await fetcher.fetch(content.root)
    await new Promise(resolve => setTimeout(resolve, 20))
    expect(open.size).toBe(0)
  })

  it('uses two providers at once', async () => {
    const { network, alice, content } = await setUp(even(2, 96))
    const bob = provider(network)
    await publish(bob.store, content)
    for (const { peer } of [alice, bob]) network.slow(peer, { latencyMs: 2 })
    const { fetcher } = fetching(network, () => [alice.peer, bob.peer])
    const { providers } = await fetcher.fetch(content.root)
    expect(providers.map(({ peer }) => peer).sort()).toEqual([alice.peer, bob.peer].sort())
    for (const { bytes } of providers) expect(bytes).toBeGreaterThan(content.bytes.byteLength / 10)
  })

  it('takes in a provider that is found while it runs', async () => {
    const { network, alice, content } = await setUp(even(3, 96))
    network.slow(alice.peer, { bytesPerSecond: 2_000_000 })
    const bob = provider(network)
    await publish(bob.store, content)
    const found = [alice.peer]
    const { fetcher } = fetching(network, () => found)
    const report = fetcher.fetch(content.root, {
      onProgress: () => found.length === 1 && found.push(bob.peer),
    })
    expect((await report).providers.map(({ peer }) => peer)).toContain(bob.peer)
  })

  it('asks only for what is missing after an interruption, and for nothing that is here under another root', async () => {
    const { network, alice, content } = await setUp()
    const { fetcher, store } = fetching(network, () => [alice.peer])
    const half = await store.openPartial(content.root, content.indexBytes)
    for (let shard = 0; shard < 20; shard++) await half.put(shard, content.shard(shard))
    await half.close()
    const other = sampleOf(
      content.bytes.subarray(20 * 65_536, 28 * 65_536),
      Array.from({ length: 8 }, (_, i) => content.shard(20 + i)),
    )
    await publish(store, other)
    const { bytesTransferred, localBytes } = await fetcher.fetch(content.root)
    expect(localBytes).toBe(8 * 65_536)
    expect(bytesTransferred).toBeLessThan(4 * 65_536 + 2_000)
  })

  it('asks nobody for what is complete', async () => {
    const { network, content } = await setUp()
    const asked = hostile(network, never)
    const { fetcher, store } = fetching(network, () => [asked.peer])
    await publish(store, content)
    expect((await fetcher.fetch(content.root, { hints: [asked.peer] })).bytesTransferred).toBe(0)
    expect(asked.asked).toEqual([])
  })
})

describe('partial providers', () => {
  async function partial(
    network: MemoryNetwork,
    content: ReturnType<typeof even>,
    shards: readonly number[],
  ) {
    const node = provider(network)
    const open = await node.store.openPartial(content.root, content.indexBytes)
    for (const shard of shards) await open.put(shard, content.shard(shard))
    return node
  }

  it('together give what none of them has whole', async () => {
    const network = new MemoryNetwork()
    const content = even(4)
    const nodes = await Promise.all(
      [0, 1, 2].map(part =>
        partial(
          network,
          content,
          [...Array(32).keys()].filter(n => n % 3 === part),
        ),
      ),
    )
    const { fetcher, store } = fetching(network, () => nodes.map(({ peer }) => peer))
    const { providers } = await fetcher.fetch(content.root)
    expect(providers).toHaveLength(3)
    expect(
      Buffer.compare(await readAll(store, content.root, 0, content.bytes.byteLength), content.bytes),
    ).toBe(0)
  })

  it('one without the missing shards does not hold up the other', async () => {
    const { network, alice, content } = await setUp(even(5))
    const nothing = await partial(network, content, [])
    const { fetcher } = fetching(network, () => [nothing.peer, alice.peer])
    const started = performance.now()
    await fetcher.fetch(content.root)
    expect(performance.now() - started).toBeLessThan(1_000)
  })

  it('when nobody has the missing shards the fetch ends, and keeps what came', async () => {
    const network = new MemoryNetwork()
    const content = even(6)
    const some = await partial(network, content, [1, 2, 3])
    const { fetcher, store } = fetching(network, () => [some.peer])
    const started = performance.now()
    expect(await codeOf(fetcher.fetch(content.root))).toBe('no-providers')
    expect(performance.now() - started).toBeLessThan(5_000)
    expect((await store.available(content.root))?.has(2)).toBe(true)
    expect((await store.available(content.root))?.has(4)).toBe(false)
  })

  it('one that gets more while it is asked gives that too', async () => {
    const network = new MemoryNetwork()
    const content = even(7)
    const growing = provider(network)
    const open = await growing.store.openPartial(content.root, content.indexBytes)
    await open.put(0, content.shard(0))
    const { fetcher, store } = fetching(network, () => [growing.peer])
    const fetched = fetcher.fetch(content.root)
    for (let shard = 1; shard < 32; shard++) {
      await open.put(shard, content.shard(shard))
      await new Promise(resolve => setTimeout(resolve, 15))
    }
    await fetched
    expect(await store.state(content.root)).toBe('complete')
  })

  it('one that claims all and has nothing is given up on, alone; beside an honest one it does no harm', async () => {
    const { network, alice, content } = await setUp(even(8))
    const liar = hostile(network, (question, stream) =>
      question['op'] === 'shards'
        ? stream.write(encodeFrame({ id: question['id'], code: 'not-found' }))
        : honestly(content, question, stream),
    )
    const alone = fetching(network, () => [liar.peer])
    expect(await codeOf(alone.fetcher.fetch(content.root))).toBe('no-providers')
    const beside = fetching(network, () => [liar.peer, alice.peer])
    await beside.fetcher.fetch(content.root)
    expect(await beside.store.state(content.root)).toBe('complete')
  })
})

describe('providers that do harm', () => {
  const flipped = (bytes: Uint8Array) => bytes.map((byte, at) => (at === bytes.length - 1 ? byte ^ 1 : byte))

  it('a false shard is never stored, its sender is banned, and the fetch completes from the honest one', async () => {
    for (let seed = 0; seed < 20; seed++) {
      const { network, alice, content } = await setUp(even(100 + seed, 24))
      network.slow(alice.peer, { latencyMs: 1 })
      const bad = {
        ...content,
        bytes: content.bytes.map((byte, at) => (at % 65_536 === seed ? byte ^ 1 : byte)),
      }
      const liar = hostile(network, (question, stream) => honestly(bad, question, stream))
      const { fetcher, store, scores } = fetching(network, () => [liar.peer, alice.peer])
      await fetcher.fetch(content.root)
      expect(
        Buffer.compare(await readAll(store, content.root, 0, content.bytes.byteLength), content.bytes),
      ).toBe(0)
      expect(scores.isBanned(liar.peer)).toBe(true)
      expect(scores.isBanned(alice.peer)).toBe(false)
      const before = liar.asked.length
      await store.remove(content.root)
      await fetcher.fetch(content.root)
      expect(liar.asked.length).toBe(before)
    }
  })

  it('a false index bans its sender', async () => {
    const { network, alice, content } = await setUp()
    const liar = hostile(network, (question, stream) =>
      honestly({ ...content, indexBytes: flipped(content.indexBytes) }, question, stream),
    )
    const { fetcher, scores } = fetching(network, () => [liar.peer, alice.peer])
    await fetcher.fetch(content.root)
    expect(scores.isBanned(liar.peer)).toBe(true)
  })

  const write = (stream: { write(bytes: Uint8Array): Promise<void> }, message: Record<string, unknown>) =>
    stream.write(encodeFrame(message))
  it.each<[string, Parameters<typeof hostile>[1]]>([
    ['says nothing', never],
    ['sends garbage', (_, stream) => stream.write(Buffer.alloc(5000, 0xff))],
    [
      'answers out of turn',
      (question, stream) =>
        write(stream, { id: Number(question['id']) + 1, code: 'ok', length: 0, complete: true }),
    ],
    [
      'promises a huge index',
      (question, stream) => write(stream, { id: question['id'], code: 'ok', length: 1, total: 2 ** 40 }),
    ],
    [
      'sends its index byte by byte',
      async ({ id }, stream) => {
        await write(stream, { id, code: 'ok', length: 1, total: 1_000_000 })
        await stream.write(new Uint8Array(1))
      },
    ],
    ['ends the index early', ({ id }, stream) => write(stream, { id, code: 'ok', length: 0, total: 1000 })],
    [
      'trickles an index without end',
      async ({ id }, stream) => {
        await write(stream, { id, code: 'ok', length: 1024 * 1024, total: 64 * 1024 * 1024 })
        for (;;) {
          await stream.write(new Uint8Array(1024))
          await new Promise(resolve => setTimeout(resolve, 50))
        }
      },
    ],
    ['closes every stream', (_, stream) => stream.close()],
    ['resets every stream', (_, stream) => stream.abort(new Error('no'))],
    [
      'sends a bitmap that is too long',
      ({ id }, stream) => write(stream, { id, code: 'ok', complete: false, length: 1_000_000 }),
    ],
    ['answers with an unknown code', ({ id }, stream) => write(stream, { id, code: 'whatever' })],
  ])('one that %s is left, and the other completes it', async (_what, harm) => {
    const { network, alice, content } = await setUp()
    network.slow(alice.peer, { latencyMs: 2 })
    const bad = hostile(network, harm)
    const { fetcher, store } = fetching(network, () => [bad.peer, alice.peer])
    const started = performance.now()
    await fetcher.fetch(content.root)
    expect(await store.state(content.root)).toBe('complete')
    expect(performance.now() - started).toBeLessThan(4_000)
  })

  it('more of them than there are places do not keep the honest one out', async () => {
    const { network, alice, content } = await setUp()
    const bad = Array.from({ length: 12 }, () => hostile(network, never).peer)
    const { fetcher, store } = fetching(network, () => [...bad, alice.peer], { patienceMs: 3_000 })
    await fetcher.fetch(content.root)
    expect(await store.state(content.root)).toBe('complete')
  })

  it('a true index that breaks the rules ends the fetch with bad-record: nobody has a better one', async () => {
    const { network, content } = await setUp()
    const broken = sampleOf(content.bytes.subarray(0, 65_536), [content.shard(0), content.shard(1)])
    const author = hostile(network, (question, stream) => honestly(broken, question, stream))
    const { fetcher, scores } = fetching(network, () => [author.peer])
    expect(await codeOf(fetcher.fetch(broken.root))).toBe('bad-record')
    expect(scores.isBanned(author.peer)).toBe(false)
  })
})

describe('callers', () => {
  it('two of one content share one fetch; one that leaves does not end it for the other', async () => {
    const { network, alice, content } = await setUp(even(9, 64))
    network.slow(alice.peer, { bytesPerSecond: 8_000_000 })
    const { fetcher } = fetching(network, () => [alice.peer])
    const first = new AbortController()
    const leaving = fetcher.fetch(content.root, { signal: first.signal })
    const staying = fetcher.fetch(content.root, { signal: new AbortController().signal })
    setTimeout(() => first.abort(new CatalogError('cancelled', 'gone')), 60)
    expect(await codeOf(leaving)).toBe('cancelled')
    const { bytesTransferred } = await staying
    expect(bytesTransferred).toBeLessThan(content.bytes.byteLength + 20_000)
  })

  it('the last that leaves ends it; what came is kept, and a fetch right after goes on from there', async () => {
    const { network, alice, content } = await setUp(even(10, 64))
    network.slow(alice.peer, { bytesPerSecond: 8_000_000 })
    const { fetcher, store } = fetching(network, () => [alice.peer])
    const leave = new AbortController()
    let kept = 0
    const fetched = fetcher.fetch(content.root, {
      signal: leave.signal,
      onProgress: done => {
        kept = done
        if (done > 1_000_000) leave.abort(new CatalogError('cancelled', 'closed'))
      },
    })
    // Joins while the first is being wound up.
    const code = codeOf(fetched)
    await new Promise<void>(resolve => leave.signal.addEventListener('abort', () => resolve()))
    const again = fetcher.fetch(content.root)
    expect(await code).toBe('cancelled')
    const { bytesTransferred } = await again
    expect(bytesTransferred).toBeLessThan(content.bytes.byteLength - kept + 500_000)
    expect(await store.state(content.root)).toBe('complete')
  })

  it('one whose signed release says another size is refused alone', async () => {
    const { network, alice, content } = await setUp()
    const { fetcher } = fetching(network, () => [alice.peer])
    const wrong = codeOf(fetcher.fetch(content.root, { expectedSize: 1 }))
    const right = codeOf(fetcher.fetch(content.root, { expectedSize: content.bytes.byteLength }))
    expect(await Promise.all([wrong, right])).toEqual(['bad-record', 'done'])
  })

  it('nothing is stored of a content whose size nobody expects', async () => {
    const { network, alice, content } = await setUp()
    const { fetcher, store } = fetching(network, () => [alice.peer])
    expect(await codeOf(fetcher.fetch(content.root, { expectedSize: 1 }))).toBe('bad-record')
    expect(await store.state(content.root)).toBeUndefined()
  })

  it('one that aborts while the content is being opened is let go, and the store is free again', async () => {
    const { network, alice, content } = await setUp()
    const opening = Promise.withResolvers<void>()
    const store = new WatchedStore(() => ({
      copyLocal: async options => {
        opening.resolve()
        await new Promise(resolve => setTimeout(resolve, 100))
        options?.signal?.throwIfAborted()
        return 0
      },
    }))
    const { fetcher } = fetching(network, () => [alice.peer], {}, store)
    const leave = new AbortController()
    const fetched = codeOf(fetcher.fetch(content.root, { signal: leave.signal }))
    await opening.promise
    leave.abort(new CatalogError('cancelled', 'gone'))
    expect(await fetched).toBe('cancelled')
    await (await store.openPartial(content.root, content.indexBytes)).close()
    await fetcher.fetch(content.root)
  })

  it('nobody at all: no-providers within the patience, and at once afterwards it can be tried again', async () => {
    const { network, alice, content } = await setUp()
    const found: string[] = []
    const { fetcher } = fetching(network, () => found)
    const started = performance.now()
    expect(await codeOf(fetcher.fetch(content.root))).toBe('no-providers')
    expect(performance.now() - started).toBeLessThan(2_000)
    found.push(alice.peer)
    await fetcher.fetch(content.root)
  })
})

describe("this node's own store", () => {
  const failures: [string, (fail: () => void) => Partial<PartialContent>][] = [
    ['put', fail => ({ put: async () => fail() })],
    ['copyLocal', fail => ({ copyLocal: async () => Number(fail()) })],
    ['complete', fail => ({ complete: async () => fail() })],
  ]
  it.each(failures)(
    'a failure in %s ends the fetch with its own code, blames nobody, and the next fetch works',
    async (_step, wrap) => {
      for (const code of ['no-space', 'storage-failed'] as const) {
        const { network, alice, content } = await setUp()
        let broken = true
        const store = new WatchedStore(partial =>
          broken
            ? wrap(() => {
                throw new CatalogError(code, 'the disk')
              })
            : partial,
        )
        const { fetcher, scores } = fetching(network, () => [alice.peer], {}, store)
        expect(await codeOf(fetcher.fetch(content.root))).toBe(code)
        expect(scores.isBanned(alice.peer)).toBe(false)
        broken = false
        await fetcher.fetch(content.root)
        expect(await store.state(content.root)).toBe('complete')
      }
    },
  )

  it('no-space on opening is told as such', async () => {
    const { network, alice, content } = await setUp()
    const store = new MemoryContentStore()
    store.openPartial = async () => {
      throw new CatalogError('no-space', 'full')
    }
    expect(await codeOf(fetching(network, () => [alice.peer], {}, store).fetcher.fetch(content.root))).toBe(
      'no-space',
    )
  })

  it('a removal in the middle ends the fetch', async () => {
    const { network, alice, content } = await setUp(even(11, 64))
    network.slow(alice.peer, { bytesPerSecond: 4_000_000 })
    const { fetcher, store } = fetching(network, () => [alice.peer])
    let removed = false
    const code = codeOf(
      fetcher.fetch(content.root, {
        onProgress: done => {
          if (done < 500_000 || removed) return
          removed = true
          void store.remove(content.root)
        },
      }),
    )
    expect(await code).toBe('not-found')
    expect(await store.state(content.root)).toBeUndefined()
  })
})

it('content cut by content arrives too: shards of every length', async () => {
  const { network, alice, content } = await setUp(sample(12, 3_000_000))
  const { fetcher, store } = fetching(network, () => [alice.peer])
  await fetcher.fetch(content.root)
  expect(Buffer.compare(await readAll(store, content.root, 0, 3_000_000), content.bytes)).toBe(0)
})
