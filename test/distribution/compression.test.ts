import { zstdCompressSync } from 'node:zlib'
import { describe, expect, it } from 'vitest'
import { CatalogError } from '../../src/base/errors.ts'
import { silentLog } from '../../src/base/log.ts'
import { Compression, decompress, LinkMeter } from '../../src/distribution/compression.ts'
import { defaultLaneOptions, TransferLane } from '../../src/distribution/transfer-lane.ts'
import { transferProtocol } from '../../src/distribution/transfer-protocol.ts'
import { TransferServer } from '../../src/distribution/transfer-server.ts'
import { encodeFrame, FrameReader } from '../../src/network/frames.ts'
import { MemoryNetwork } from '../../src/network/memory-host.ts'
import { MemoryContentStore } from '../../src/store/memory-content-store.ts'
import { pseudoRandom, publish, sampleOf } from '../store/sample-content.ts'
import { hostile } from './peers.ts'

const shardBytes = 65_536
const cut = (bytes: Uint8Array) =>
  sampleOf(
    bytes,
    Array.from({ length: bytes.byteLength / shardBytes }, (_, i) =>
      bytes.subarray(i * shardBytes, (i + 1) * shardBytes),
    ),
  )
const text = cut(Buffer.alloc(16 * shardBytes, 'each line of this text is much like the one before\n'))
const noise = cut(pseudoRandom(3, 16 * shardBytes))
const slow = 1_000_000

async function serving(content: typeof text) {
  const network = new MemoryNetwork()
  const host = network.createHost()
  const store = new MemoryContentStore()
  await publish(store, content)
  new TransferServer({ host, store, log: silentLog })
  return { network, peer: host.peer }
}

async function serve(content: typeof text) {
  const { network, peer } = await serving(content)
  const lane = await TransferLane.open(network.createHost(), peer, defaultLaneOptions, {})
  const fetch = async (linkBytesPerSecond?: number) => {
    const before = lane.received
    const got: Uint8Array[] = []
    const take = async (shard: number, bytes: Uint8Array) => {
      got[shard] = Uint8Array.from(bytes)
    }
    const lengths = content.index.shards.map(({ length }) => length)
    await lane.shards(content.root, 0, lengths, take, { linkBytesPerSecond })
    expect(Buffer.compare(Buffer.concat(got.filter(bytes => bytes !== undefined)), content.bytes)).toBe(0)
    return (lane.received - before) / content.bytes.byteLength
  }
  return { fetch }
}

describe('compression on the wire', () => {
  it('shrinks text for a peer on a slow link, and gives it back to the byte', async () => {
    const { fetch } = await serve(text)
    expect(await fetch(slow)).toBeLessThan(0.1)
  })

  it('leaves alone what goes to a fast link, or to a peer that does not ask', async () => {
    const { fetch } = await serve(text)
    expect(await fetch(2 ** 40)).toBeGreaterThan(1)
    expect(await fetch()).toBeGreaterThan(1)
  })

  it('never compresses what does not shrink', async () => {
    const { fetch } = await serve(noise)
    const wire = await fetch(slow)
    expect(wire).toBeGreaterThan(1)
    expect(wire).toBeLessThan(1.001)
  })

  it('serves what is sound of a content with a damaged shard, whatever the sample meets', async () => {
    const network = new MemoryNetwork()
    const host = network.createHost()
    class Damaged extends MemoryContentStore {
      override async readShard(root: string, shard: number) {
        if (shard === 6) throw new CatalogError('corrupt-content', 'damaged')
        return super.readShard(root, shard)
      }
    }
    const store = new Damaged()
    await publish(store, text)
    new TransferServer({ host, store, log: silentLog })
    const lane = await TransferLane.open(network.createHost(), host.peer, defaultLaneOptions, {})
    let came = 0
    const take = async (_: number, bytes: Uint8Array) => {
      came += bytes.byteLength
    }
    await lane.shards(text.root, 0, [shardBytes, shardBytes], take, { linkBytesPerSecond: slow })
    expect(came).toBe(2 * shardBytes)
  })

  it('never compresses an answer of very many shards: a question of a few bytes costs no more', async () => {
    const tiny = sampleOf(
      text.bytes.subarray(0, 5000),
      Array.from({ length: 5000 }, (_, i) => text.bytes.subarray(i, i + 1)),
    )
    const { network, peer } = await serving(tiny)
    const stream = await network.createHost().open(peer, transferProtocol)
    const reader = new FrameReader(stream)
    const ask = async (count: number) => {
      await stream.write(encodeFrame({ id: 0, op: 'shards', root: tiny.root, first: 0, count, zstd: 1 }))
      const header = await reader.message(1024)
      if (header?.['code'] === 'ok') await reader.bytes(header['length'] as number)
      return [header?.['code'], header?.['length'], header?.['zstd']]
    }
    expect(await ask(1024)).toEqual(['ok', 1024, undefined])
    expect(await ask(1025)).toEqual(['invalid', undefined, undefined])
  })

  it('samples all over a content: noise behind a text is not taken for text, and only once', async () => {
    const compression = new Compression()
    let sampled = 0
    const sample = async (bytes: Uint8Array) => {
      sampled += 1
      return [bytes]
    }
    expect(await compression.pays('a', slow, () => sample(text.bytes))).toBe(true)
    expect(await compression.pays('a', slow, () => sample(noise.bytes))).toBe(true)
    expect(await compression.pays('b', slow, () => sample(noise.bytes))).toBe(false)
    expect(sampled).toBe(2)
  })

  it('sends a single shard that does not shrink as it is', async () => {
    const bytes = pseudoRandom(5, 1000)
    expect(await new Compression().compress(bytes)).toBe(bytes)
  })
})

describe('compressed shards of a hostile provider', () => {
  const bomb = zstdCompressSync(Buffer.alloc(64 * 1024 * 1024))

  it('a bomb is stopped at the length that the index gives', async () => {
    expect(bomb.byteLength).toBeLessThan(shardBytes)
    await expect(decompress(bomb, shardBytes, 'peer')).rejects.toMatchObject({ code: 'bad-peer-message' })
  })

  it('as are frames that are too short, and no frames at all', async () => {
    const short = zstdCompressSync(Buffer.alloc(10))
    await expect(decompress(short, shardBytes, 'peer')).rejects.toMatchObject({ code: 'bad-peer-message' })
    await expect(decompress(pseudoRandom(1, 100), shardBytes, 'peer')).rejects.toMatchObject({
      code: 'bad-peer-message',
    })
  })

  it.each([
    ['more frames than shards', [100, 100]],
    ['no frames', []],
    ['a frame longer than its shard', [shardBytes + 1]],
    ['an empty frame', [0]],
    ['a length that is a text', ['9']],
    ['a length below zero', [-5]],
  ])('%s end the lane before anything is read', async (_what, zstd) => {
    const network = new MemoryNetwork()
    const liar = hostile(network, async (question, stream) => {
      const length = (zstd as number[]).reduce((sum, each) => sum + Number(each), 0)
      await stream.write(encodeFrame({ id: question['id'], code: 'ok', length: Math.max(0, length), zstd }))
    })
    const lane = await TransferLane.open(network.createHost(), liar.peer, defaultLaneOptions, {})
    const asked = lane.shards(text.root, 0, [shardBytes], async () => undefined, { linkBytesPerSecond: slow })
    await expect(asked).rejects.toMatchObject({ code: 'bad-peer-message' })
  })
})

describe('the meter of a link', () => {
  it('counts bytes only while something is asked, and follows a change', () => {
    const meter = new LinkMeter()
    meter.begin(0)
    meter.received(10_000, 10)
    expect(meter.bytesPerSecond).toBeUndefined()
    meter.received(1_000_000, 1000)
    expect(meter.bytesPerSecond).toBeCloseTo(1_010_000, -4)
    meter.end()
    meter.begin(100_000)
    for (let at = 1; at <= 10; at++) meter.received(100_000, 100_000 + at * 1000)
    expect(meter.bytesPerSecond).toBeGreaterThan(95_000)
    expect(meter.bytesPerSecond).toBeLessThan(110_000)
  })
})
