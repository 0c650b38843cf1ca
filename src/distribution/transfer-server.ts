// The serving half of the transfer protocol. It answers for what is on this disk, complete or in part, and
// never sends a byte whose shard does not have its hash (the content store checks on read).
//
// Protocol /catalog/<network>/transfer/1
// Parties   a client opens a stream and asks; the server answers in the order of the questions.
// Requests  frames (network/frames.ts) of at most 1 KiB, any number in flight:
//   { id, op: 'have', root }                    which shards can be had
//   { id, op: 'index', root, offset, length }   bytes of the content index; length at most 1 MiB
//   { id, op: 'shards', root, first, count }    shards [first, first + count), at most 4 MiB of them
// Answers   a frame { id, code: 'ok', length, … } followed by `length` raw bytes, or { id, code } with a code
//   of: 'not-found' (no such root or shard here), 'invalid' (the question is out of bounds), 'failed' (disk).
//   have:   { complete }, the bytes are a bitmap, shard n at bit n % 8 of byte n / 8; none when complete
//   index:  { total }, the bytes of the index from `offset`; the client checks them against the root
//   shards: the shards' bytes one after the other; the client checks each against the index
// Limits    a client keeps at most `maxOutstandingBytes` asked for and not yet taken; a server reads the next
//   question when it has answered the one before, and closes a stream that asks nothing for two minutes.
// Errors    a malformed frame ends the stream. A failure in mid-answer resets it.
// Non-goals finding providers; asking for what is not a content root; compression (a later version).

import type { ContentStore } from '../assets/content-store.ts'
import { isCid } from '../base/cid.ts'
import { CatalogError } from '../base/errors.ts'
import type { Log } from '../base/log.ts'
import { encodeFrame, FrameReader, type Message, naturalField, textField } from '../network/frames.ts'
import type { ByteStream, Host } from '../network/host.ts'

export const transferProtocol = '/transfer/1'

export const transferLimits = {
  maxRequestBytes: 1024,
  maxHeaderBytes: 1024,
  maxIndexPieceBytes: 1024 * 1024,
  maxShardsBytes: 4 * 1024 * 1024,
  maxOutstandingBytes: 2 * 1024 * 1024,
  idleMs: 120_000,
} as const

export interface TransferServerOptions {
  readonly maxStreamsPerPeer: number
  readonly maxStreams: number
}

export const defaultTransferServerOptions: TransferServerOptions = {
  // A fetch opens a few streams per provider, and a peer may run several fetches.
  maxStreamsPerPeer: 24,
  // Each stream holds at most one shard in memory: 256 MiB at the very worst.
  maxStreams: 256,
}

export class TransferServer {
  readonly #store: ContentStore
  readonly #log: Log

  constructor(deps: { host: Host; store: ContentStore; log: Log }, options = defaultTransferServerOptions) {
    this.#store = deps.store
    this.#log = deps.log
    deps.host.handle(transferProtocol, (stream, { signal }) => this.#serve(stream, signal), {
      maxInboundPerPeer: options.maxStreamsPerPeer,
      maxInbound: options.maxStreams,
    })
  }

  async #serve(stream: ByteStream, signal: AbortSignal): Promise<void> {
    const reader = new FrameReader(stream)
    for (;;) {
      const idle = AbortSignal.any([signal, AbortSignal.timeout(transferLimits.idleMs)])
      const request = await reader.message(transferLimits.maxRequestBytes, { signal: idle })
      if (request === undefined) break
      await this.#answer(stream, request, signal)
    }
    await stream.close()
  }

  async #answer(stream: ByteStream, request: Message, signal: AbortSignal): Promise<void> {
    const id = naturalField(request, 'id')
    const root = textField(request, 'root', 100)
    const op = textField(request, 'op', 16)
    this.#log.debug({ peer: stream.peer, op, root }, 'transfer request')
    const refuse = (code: string) => stream.write(encodeFrame({ id, code }), { signal })
    if (!isCid(root)) return refuse('invalid')
    if (op === 'have') return this.#have(stream, id, root, signal)
    if (op === 'index') return this.#index(stream, id, root, request, signal)
    if (op === 'shards') return this.#shards(stream, id, root, request, signal)
    return refuse('invalid')
  }

  async #have(stream: ByteStream, id: number, root: string, signal: AbortSignal): Promise<void> {
    const [available, index] = await Promise.all([this.#store.available(root), this.#store.index(root)])
    if (available === undefined || index === undefined)
      return stream.write(encodeFrame({ id, code: 'not-found' }), { signal })
    const { complete } = available
    const bitmap = new Uint8Array(complete ? 0 : Math.ceil(index.shards.length / 8))
    if (!complete)
      for (let shard = 0; shard < index.shards.length; shard++)
        if (available.has(shard)) bitmap[shard >> 3] = (bitmap[shard >> 3] as number) | (1 << (shard & 7))
    await stream.write(encodeFrame({ id, code: 'ok', length: bitmap.byteLength, complete }), { signal })
    if (bitmap.byteLength > 0) await stream.write(bitmap, { signal })
  }

  async #index(
    stream: ByteStream,
    id: number,
    root: string,
    request: Message,
    signal: AbortSignal,
  ): Promise<void> {
    const offset = naturalField(request, 'offset')
    const length = naturalField(request, 'length', transferLimits.maxIndexPieceBytes)
    const bytes = await this.#store.indexBytes(root)
    if (bytes === undefined) return stream.write(encodeFrame({ id, code: 'not-found' }), { signal })
    const piece = bytes.subarray(offset, offset + length)
    await stream.write(encodeFrame({ id, code: 'ok', length: piece.byteLength, total: bytes.byteLength }), {
      signal,
    })
    if (piece.byteLength > 0) await stream.write(piece, { signal })
  }

  async #shards(
    stream: ByteStream,
    id: number,
    root: string,
    request: Message,
    signal: AbortSignal,
  ): Promise<void> {
    const first = naturalField(request, 'first')
    const count = naturalField(request, 'count')
    const [available, place] = await Promise.all([
      this.#store.available(root),
      this.#place(root, first, count),
    ])
    if (place === 'invalid') return stream.write(encodeFrame({ id, code: 'invalid' }), { signal })
    let here = available !== undefined && place !== undefined
    for (let shard = first; here && shard < first + count; shard++) here = available?.has(shard) === true
    if (!here || place === undefined) return stream.write(encodeFrame({ id, code: 'not-found' }), { signal })
    // The header promises bytes, so the first of them must be in hand before it is sent.
    const chunks = this.#store.read(root, place.offset, place.length, { signal })[Symbol.asyncIterator]()
    let next: IteratorResult<Uint8Array>
    try {
      next = await chunks.next()
    } catch (error) {
      this.#log.error({ root, first, error }, 'a stored shard cannot be served; run "catalog check"')
      return stream.write(encodeFrame({ id, code: 'failed' }), { signal })
    }
    await stream.write(encodeFrame({ id, code: 'ok', length: place.length }), { signal })
    for (; next.done !== true; next = await chunks.next()) await stream.write(next.value, { signal })
  }

  /** Where shards lie in the stream; undefined for an unknown root, 'invalid' for a question out of bounds. */
  async #place(
    root: string,
    first: number,
    count: number,
  ): Promise<{ offset: number; length: number } | 'invalid' | undefined> {
    const index = await this.#store.index(root)
    if (index === undefined) return undefined
    if (count < 1 || first + count > index.shards.length) return 'invalid'
    const offsets = shardOffsets(index.shards)
    const offset = offsets[first] as number
    const length = (offsets[first + count] as number) - offset
    return length > transferLimits.maxShardsBytes ? 'invalid' : { offset, length }
  }
}

const offsetsOf = new WeakMap<object, Float64Array>()

/** Offsets of every shard in the stream, and its end; computed once per index. */
export function shardOffsets(shards: readonly { readonly length: number }[]): Float64Array {
  let offsets = offsetsOf.get(shards)
  if (offsets === undefined) {
    offsets = new Float64Array(shards.length + 1)
    for (let shard = 0; shard < shards.length; shard++)
      offsets[shard + 1] = (offsets[shard] as number) + (shards[shard]?.length ?? 0)
    offsetsOf.set(shards, offsets)
  }
  return offsets
}

/** What a client makes of a refusal. */
export const refusal = (peer: string, root: string, code: unknown): CatalogError =>
  code === 'not-found'
    ? new CatalogError('not-found', `The peer ${peer} does not hold ${root}.`, { peer, root })
    : new CatalogError(
        'bad-peer-message',
        `The peer ${peer} refused a request for ${root}: ${String(code)}.`,
        { peer, root },
      )
