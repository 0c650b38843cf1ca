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
//   question when it has answered the one before, and resets a stream on which nothing moves for two minutes:
//   no question comes, or no answer is taken.
// Errors    a malformed frame ends the stream. A failure in mid-answer resets it.
// Non-goals finding providers; asking for what is not a content root; compression (a later version).

import type { ContentStore } from '../assets/content-store.ts'
import { isCid } from '../base/cid.ts'
import { CatalogError, isCatalogError } from '../base/errors.ts'
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
    // One timer for the life of the stream: a signal for each question would outlive it by two minutes.
    const idle = setTimeout(
      () => stream.abort(new CatalogError('timeout', `The peer ${stream.peer} asked and took nothing.`)),
      transferLimits.idleMs,
    )
    const answer: Answer = {
      signal,
      async send(bytes) {
        idle.refresh()
        if (bytes.byteLength > 0) await stream.write(bytes, { signal })
        idle.refresh()
      },
    }
    try {
      const reader = new FrameReader(stream)
      for (;;) {
        const request = await reader.message(transferLimits.maxRequestBytes, { signal })
        if (request === undefined) break
        this.#log.debug({ peer: stream.peer, op: request['op'], root: request['root'] }, 'transfer request')
        await this.#answer(request, answer)
      }
      await stream.close()
    } finally {
      clearTimeout(idle)
    }
  }

  async #answer(request: Message, answer: Answer): Promise<void> {
    const id = naturalField(request, 'id')
    const root = textField(request, 'root', 100)
    const op = textField(request, 'op', 16)
    const refuse = (code: string) => answer.send(encodeFrame({ id, code }))
    if (!isCid(root)) return refuse('invalid')
    const found = await this.#find(op, root, request).catch((error: unknown) => {
      if (isCatalogError(error, 'bad-peer-message')) throw error
      this.#log.error({ root, op, error: String(error) }, 'a stored content cannot be read')
      return 'failed' as const
    })
    if (typeof found === 'string') return refuse(found)
    if ('bytes' in found) {
      await answer.send(encodeFrame({ id, code: 'ok', length: found.bytes.byteLength, ...found.header }))
      return answer.send(found.bytes)
    }
    return this.#sendRange(id, root, found, answer)
  }

  async #find(op: string, root: string, request: Message): Promise<Found> {
    switch (op) {
      case 'have':
        return this.#have(root)
      case 'index':
        return this.#index(
          root,
          naturalField(request, 'offset'),
          naturalField(request, 'length', transferLimits.maxIndexPieceBytes),
        )
      case 'shards':
        return this.#place(root, naturalField(request, 'first'), naturalField(request, 'count'))
      default:
        return 'invalid'
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

  /** Where shards that are here lie in the stream. */
  async #place(root: string, first: number, count: number): Promise<Found> {
    const [available, index] = await Promise.all([this.#store.available(root), this.#store.index(root)])
    if (available === undefined || index === undefined) return 'not-found'
    if (count < 1 || first + count > index.shards.length) return 'invalid'
    const offsets = shardOffsets(index.shards)
    const offset = offsets[first] as number
    const length = (offsets[first + count] as number) - offset
    if (length > transferLimits.maxShardsBytes) return 'invalid'
    for (let shard = first; shard < first + count; shard++) if (!available.has(shard)) return 'not-found'
    return { offset, length }
  }

  async #sendRange(id: number, root: string, range: Range, { signal, send }: Answer): Promise<void> {
    const chunks = this.#store.read(root, range.offset, range.length, { signal })[Symbol.asyncIterator]()
    const read = () =>
      chunks.next().catch((error: unknown) => {
        signal.throwIfAborted()
        this.#log.error({ root, ...range, error: String(error) }, 'a stored shard cannot be served')
        return undefined
      })
    try {
      // The header promises bytes, so the first of them must be in hand before it is sent.
      let next = await read()
      if (next === undefined) return await send(encodeFrame({ id, code: 'failed' }))
      await send(encodeFrame({ id, code: 'ok', length: range.length }))
      for (; next?.done === false; next = await read()) await send(next.value)
      if (next === undefined)
        throw new CatalogError('storage-failed', `${root} could not be read to the end.`)
    } finally {
      // A peer that left in the middle must not keep the file open.
      await chunks.return?.()
    }
  }
}

/** How a stream is answered: bytes sent keep it alive. */
interface Answer {
  readonly signal: AbortSignal
  send(bytes: Uint8Array): Promise<void>
}

interface Range {
  readonly offset: number
  readonly length: number
}

/** What answers a question: bytes, a range of the stream, or the code of a refusal. */
type Found =
  | { readonly header: Readonly<Record<string, unknown>>; readonly bytes: Uint8Array }
  | Range
  | 'not-found'
  | 'invalid'

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

/** What a client makes of a refusal. */
export const refusal = (peer: string, root: string, code: unknown): CatalogError =>
  code === 'not-found'
    ? new CatalogError('not-found', `The peer ${peer} does not hold ${root}.`, { peer, root })
    : new CatalogError(
        'bad-peer-message',
        `The peer ${peer} refused a request for ${root}: ${String(code)}.`,
        { peer, root },
      )
