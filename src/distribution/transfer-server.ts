// The serving half of the transfer protocol (transfer-protocol.ts). It answers for what is on this disk, complete or in
// part, and never sends a byte whose shard does not have its hash (the content store checks on read).
import type { ContentIndex } from '../assets/content-index.ts'
import type { ContentStore } from '../assets/content-store.ts'
import { isCid } from '../base/cid.ts'
import { CatalogError, isCatalogError } from '../base/errors.ts'
import type { Log } from '../base/log.ts'
import { encodeFrame, FrameReader, type Message, naturalField, textField } from '../network/frames.ts'
import type { ByteStream, Host } from '../network/host.ts'
import { Compression, type CompressionOptions, defaultCompressionOptions } from './compression.ts'
import { SendBuffers } from './send-buffers.ts'
import { transferLimits, transferProtocol } from './transfer-protocol.ts'

export interface TransferServerOptions {
  readonly maxStreamsPerPeer: number
  readonly maxStreams: number
  readonly compression: CompressionOptions
}

export const defaultTransferServerOptions: TransferServerOptions = {
  // A fetch opens a few streams per provider, and a peer may run several fetches.
  maxStreamsPerPeer: 24,
  // Each stream holds at most three runs of half a MiB in memory, one sent and two read ahead: 384 MiB at the very worst.
  maxStreams: 256,
  compression: defaultCompressionOptions,
}

export class TransferServer {
  readonly #store: ContentStore
  readonly #log: Log
  readonly #compression: Compression
  readonly #buffers = new SendBuffers()

  constructor(deps: { host: Host; store: ContentStore; log: Log }, options = defaultTransferServerOptions) {
    this.#store = deps.store
    this.#log = deps.log
    this.#compression = new Compression(options.compression)
    deps.host.handle(transferProtocol, (stream, { signal }) => this.#serve(stream, signal), {
      maxInboundPerPeer: options.maxStreamsPerPeer,
      maxInbound: options.maxStreams,
      capability: 'fetch',
      bulk: true,
    })
  }

  async #serve(stream: ByteStream, signal: AbortSignal): Promise<void> {
    // One timer for the life of the stream: a signal for each question would outlive it by minutes.
    const idle = setTimeout(
      () => stream.abort(new CatalogError('timeout', `The peer ${stream.peer} asked and took nothing.`)),
      transferLimits.idleMs,
    )
    const buffers = stream.givesBack === true ? this.#buffers : undefined
    const pieces = this.#answers(stream, { signal, buffers })
    try {
      // What comes next is read while this is sent, across the end of an answer too.
      for (let next = pieces.next(); ; ) {
        const { done, value } = await next
        if (done === true) break
        next = pieces.next()
        next.catch(() => undefined)
        for (const slice of slicesOf(value)) {
          idle.refresh()
          await stream.write(slice, { signal })
        }
        buffers?.give(value)
        idle.refresh()
      }
      await stream.close()
    } catch (error) {
      // A question that is being waited for would hold the generator open.
      stream.abort(error as Error)
      throw error
    } finally {
      clearTimeout(idle)
      await pieces.return()
    }
  }

  /** The bytes to send on a stream, in order, as its questions come. */
  async *#answers(stream: ByteStream, answering: Answering): AsyncGenerator<Uint8Array, void, undefined> {
    const reader = new FrameReader(stream)
    for (;;) {
      const request = await reader.message(transferLimits.maxRequestBytes, answering)
      if (request === undefined) return
      this.#log.debug({ peer: stream.peer, op: request['op'], root: request['root'] }, 'transfer request')
      yield* this.#answer(request, answering)
    }
  }

  async *#answer(request: Message, answering: Answering): AsyncGenerator<Uint8Array, void, undefined> {
    const id = naturalField(request, 'id')
    const root = textField(request, 'root', 100)
    const op = textField(request, 'op', 16)
    const isRoot = root === answering.root || isCid(root)
    if (isRoot) answering.root = root
    const found = isRoot ? await this.#find(op, root, request) : 'invalid'
    if (typeof found === 'string') yield encodeFrame({ id, code: found })
    else if ('bytes' in found) {
      yield encodeFrame({ id, code: 'ok', length: found.bytes.byteLength, ...found.header })
      yield found.bytes
    } else yield* this.#range(id, root, found, answering)
  }

  async #find(op: string, root: string, request: Message): Promise<Found> {
    try {
      switch (op) {
        case 'have':
          return await this.#have(root)
        case 'index': {
          const length = naturalField(request, 'length', transferLimits.maxIndexPieceBytes)
          return await this.#index(root, naturalField(request, 'offset'), length)
        }
        case 'small':
          return await this.#small(root, naturalField(request, 'max', transferLimits.maxSmallBytes))
        case 'shards':
          return await this.#shards(root, request)
        default:
          return 'invalid'
      }
    } catch (error) {
      if (isCatalogError(error, 'bad-peer-message')) throw error
      this.#log.error({ root, op, error: String(error) }, 'a stored content cannot be read')
      return 'failed'
    }
  }

  async #have(root: string): Promise<Found> {
    const [available, index] = await Promise.all([this.#store.available(root), this.#store.index(root)])
    if (available === undefined || index === undefined) return 'not-found'
    const { complete } = available
    const bitmap = new Uint8Array(complete ? 0 : Math.ceil(index.shards.length / 8))
    if (!complete)
      for (let shard = 0; shard < index.shards.length; shard++)
        if (available.has(shard)) bitmap[shard >> 3] = (bitmap[shard >> 3] as number) | (1 << (shard & 7))
    return { header: { complete }, bytes: bitmap }
  }

  async #index(root: string, offset: number, length: number): Promise<Found> {
    const bytes = await this.#store.indexBytes(root)
    if (bytes === undefined) return 'not-found'
    return { header: { total: bytes.byteLength }, bytes: bytes.subarray(offset, offset + length) }
  }

  async #small(root: string, max: number): Promise<Found> {
    const [state, index] = await Promise.all([this.#store.state(root), this.#store.index(root)])
    if (state === undefined || index === undefined) return 'not-found'
    if (state !== 'complete' || index.size > max) return { header: {}, bytes: new Uint8Array(0) }
    return { index, first: 0, count: index.shards.length, length: index.size, linkBytesPerSecond: undefined }
  }

  /** Where shards that are here lie in the stream. */
  async #shards(root: string, request: Message): Promise<Found> {
    const first = naturalField(request, 'first')
    const count = naturalField(request, 'count')
    const linkBytesPerSecond = request['zstd'] === undefined ? undefined : naturalField(request, 'zstd')
    const [available, index] = await Promise.all([this.#store.available(root), this.#store.index(root)])
    if (available === undefined || index === undefined) return 'not-found'
    if (count < 1 || count > transferLimits.maxShards || first + count > index.shards.length) return 'invalid'
    let length = 0
    for (let shard = first; shard < first + count; shard++) {
      length += index.shards[shard]?.length as number
      if (length > transferLimits.maxShardsBytes) return 'invalid'
      if (!available.has(shard)) return 'not-found'
    }
    return { index, first, count, length, linkBytesPerSecond }
  }

  async *#range(
    id: number,
    root: string,
    range: Range,
    { signal, buffers }: Answering,
  ): AsyncGenerator<Uint8Array, void, undefined> {
    const { index, first, length } = range
    const refused = (error: unknown) => {
      signal.throwIfAborted()
      this.#log.error({ root, first, error: String(error) }, 'a stored shard cannot be served')
      return encodeFrame({ id, code: 'failed' })
    }
    // A peer may ask for shards of a few bytes each: no answer costs more than its bytes.
    if (range.count <= transferLimits.maxCompressedShards && (await this.#paysToCompress(root, range)))
      return yield* await this.#compressed(id, root, range).catch(error => [refused(error)])
    const offset = shardOffsets(index.shards)[first] as number
    const allocate = buffers === undefined ? undefined : (bytes: number) => buffers.take(bytes)
    const chunks = this.#store.read(root, offset, length, { signal, allocate })[Symbol.asyncIterator]()
    try {
      // The header promises bytes, so the first of them must be in hand before it is sent.
      const start = await chunks.next().catch(refused)
      if (start instanceof Uint8Array) return yield start
      const frame = encodeFrame({ id, code: 'ok', length })
      const framed = start.done === true ? undefined : buffers?.framed(frame, start.value)
      yield framed ?? frame
      let next = framed === undefined ? start : await chunks.next()
      for (; next.done !== true; next = await chunks.next()) yield next.value
    } finally {
      // A peer that left in the middle must not keep the file open.
      await chunks.return?.()
    }
  }

  async #paysToCompress(root: string, { index, linkBytesPerSecond }: Range): Promise<boolean> {
    if (linkBytesPerSecond === undefined) return false
    return this.#compression.pays(root, linkBytesPerSecond, async () => {
      const places = Array.from({ length: sampledShards }, (_, i) =>
        Math.floor(((i + 0.5) * index.shards.length) / sampledShards),
      )
      // One that is damaged, or not here yet, says nothing of the others.
      const read = (shard: number) => this.#store.readShard(root, shard).catch(() => undefined)
      const shards = await Promise.all([...new Set(places)].map(read))
      return shards.filter(shard => shard !== undefined)
    })
  }

  /** The whole answer at once: its header says how long each compressed shard is. */
  async #compressed(id: number, root: string, { first, count }: Range): Promise<Uint8Array[]> {
    const frames: Uint8Array[] = []
    for (let shard = first; shard < first + count; shard++) {
      const bytes = await this.#store.readShard(root, shard)
      if (bytes === undefined) throw new CatalogError('not-found', `Shard ${shard} of ${root} has gone.`)
      frames.push(await this.#compression.compress(bytes))
    }
    const zstd = frames.map(frame => frame.byteLength)
    const length = zstd.reduce((sum, bytes) => sum + bytes, 0)
    return [encodeFrame({ id, code: 'ok', length, zstd }), ...frames]
  }
}

/** What a peer has to take before it counts as gone: at the slowest rate that counts as service, two minutes' worth. */
const sliceBytes = 512 * 1024
/** A frame goes with the first slice. */
const slackBytes = 1024

function* slicesOf(piece: Uint8Array): Iterable<Uint8Array> {
  for (let at = 0; at < piece.byteLength; ) {
    const rest = piece.byteLength - at
    const end = rest <= sliceBytes + slackBytes ? piece.byteLength : at + sliceBytes
    yield piece.subarray(at, end)
    at = end
  }
}

/** What belongs to answering on one stream. */
interface Answering {
  readonly signal: AbortSignal
  /** For streams that give back what they have written. */
  readonly buffers: SendBuffers | undefined
  /** What the last question was about; nearly every one is about the same. */
  root?: string
}

/** From all over a content: what shrinks at its beginning may not further on. */
const sampledShards = 4

/** Shards that are here, in stream order. */
interface Range {
  readonly index: ContentIndex
  readonly first: number
  readonly count: number
  /** Bytes of all of them. */
  readonly length: number
  /** What the client says it gets, where it takes compressed shards. */
  readonly linkBytesPerSecond: number | undefined
}

/** What answers a question: bytes, shards, or the code of a refusal. */
type Found =
  | { readonly header: Readonly<Record<string, unknown>>; readonly bytes: Uint8Array }
  | Range
  | 'not-found'
  | 'invalid'
  | 'failed'

const offsetsOf = new WeakMap<object, Float64Array>()

/** Offsets of every shard in the stream, and its end; computed once per index. */
function shardOffsets(shards: readonly { readonly length: number }[]): Float64Array {
  let offsets = offsetsOf.get(shards)
  if (offsets === undefined) {
    offsets = new Float64Array(shards.length + 1)
    for (let shard = 0; shard < shards.length; shard++)
      offsets[shard + 1] = (offsets[shard] as number) + (shards[shard]?.length ?? 0)
    offsetsOf.set(shards, offsets)
  }
  return offsets
}
