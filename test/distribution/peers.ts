// Nodes for tests of distribution, in one process: a host, a store, the serving half; and peers that do harm, each
// a program of its own against the wire protocol rather than a flag of ours.
import type { ContentStore } from '../../src/assets/content-store.ts'
import type { CallOptions } from '../../src/base/lifecycle.ts'
import { silentLog } from '../../src/base/log.ts'
import { MemoryKeyValue } from '../../src/base/memory-key-value.ts'
import {
  ContentFetcher,
  type ContentFetcherOptions,
  defaultContentFetcherOptions,
} from '../../src/distribution/content-fetcher.ts'
import { PeerScores } from '../../src/distribution/peer-scores.ts'
import { transferProtocol } from '../../src/distribution/transfer-protocol.ts'
import { TransferServer } from '../../src/distribution/transfer-server.ts'
import { encodeFrame, FrameReader, type Message } from '../../src/network/frames.ts'
import type { ByteStream } from '../../src/network/host.ts'
import type { MemoryNetwork } from '../../src/network/memory-host.ts'
import { MemoryContentStore } from '../../src/store/memory-content-store.ts'
import type { Sample } from '../store/sample-content.ts'

/** Short times, so that giving up takes a moment and not a person's patience. */
export const quick: ContentFetcherOptions = {
  ...defaultContentFetcherOptions,
  lane: { stallMs: 300, crawlBytesPerSecond: 4096, crawlWindowMs: 600 },
  patienceMs: 800,
  servedPatienceMs: 800,
  searchAgainMs: 50,
  searchMoreMs: 100,
  indexPatienceMs: 100,
  idleLaneMs: 150,
}

export function provider(
  network: MemoryNetwork,
  store: ContentStore = new MemoryContentStore(),
  peer?: string,
) {
  const host = network.createHost(peer)
  new TransferServer({ host, store, log: silentLog })
  return { host, store, peer: host.peer }
}

/** A node that fetches; `candidates` are who may have it, asked anew at every search. */
export function fetching(
  network: MemoryNetwork,
  candidates: () => readonly string[],
  options: Partial<ContentFetcherOptions> = {},
  store: ContentStore = new MemoryContentStore(),
) {
  const host = network.createHost()
  const scores = new PeerScores({ records: new MemoryKeyValue() })
  async function* findProviders(_root: string, { signal }: CallOptions): AsyncIterable<string> {
    for (const peer of candidates()) {
      signal?.throwIfAborted()
      yield peer
    }
  }
  const deps = { host, store, scores, findProviders, log: silentLog }
  return { host, store, scores, fetcher: new ContentFetcher(deps, { ...quick, ...options }) }
}

type Harm = (question: Message, stream: ByteStream) => Promise<void> | void

/** A peer that answers transfer questions as it likes, and counts them. */
export function hostile(network: MemoryNetwork, harm: Harm, peer?: string) {
  const host = network.createHost(peer)
  const asked: Message[] = []
  host.handle(
    transferProtocol,
    async stream => {
      const reader = new FrameReader(stream)
      for (let q = await reader.message(1024); q !== undefined; q = await reader.message(1024)) {
        asked.push(q)
        await harm(q, stream)
      }
    },
    { maxInboundPerPeer: 64, maxInbound: 64 },
  )
  return { peer: host.peer, host, asked }
}

/** The honest answer to a question about a content. */
export async function honestly(
  { index, indexBytes, bytes }: Sample,
  question: Message,
  stream: ByteStream,
): Promise<void> {
  const { id, op } = question
  if (op === 'have') return stream.write(encodeFrame({ id, code: 'ok', length: 0, complete: true }))
  if (op === 'index') {
    const offset = question['offset'] as number
    const piece = indexBytes.subarray(offset, offset + (question['length'] as number))
    await stream.write(
      encodeFrame({ id, code: 'ok', length: piece.byteLength, total: indexBytes.byteLength }),
    )
    return stream.write(piece)
  }
  if (op === 'small') {
    const small = bytes.byteLength <= (question['max'] as number) ? bytes : new Uint8Array(0)
    await stream.write(encodeFrame({ id, code: 'ok', length: small.byteLength }))
    return stream.write(small)
  }
  const first = question['first'] as number
  const before = index.shards.slice(0, first).reduce((sum, { length }) => sum + length, 0)
  const asked = index.shards.slice(first, first + (question['count'] as number))
  const length = asked.reduce((sum, shard) => sum + shard.length, 0)
  await stream.write(encodeFrame({ id, code: 'ok', length }))
  await stream.write(bytes.subarray(before, before + length))
}

export const never = () => new Promise<never>(() => undefined)
