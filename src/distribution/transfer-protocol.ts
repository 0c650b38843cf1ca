// The words of the transfer protocol: what both halves must agree on. The serving half is transfer-server.ts, the
// asking half transfer-lane.ts.
//
// Protocol /catalog/<network>/transfer/1
// Parties   a client opens a stream and asks; the server answers in the order of the questions.
// Requests  frames (network/frames.ts) of at most 1 KiB, any number in flight:
//   { id, op: 'have', root }                    which shards can be had
//   { id, op: 'index', root, offset, length }   bytes of the content index; length at most 1 MiB
//   { id, op: 'small', root, max }              the whole stream, if it has at most `max` bytes; max at most 1 MiB
//   { id, op: 'shards', root, first, count, zstd }
//                                               shards [first, first + count), at most 1024 and 4 MiB of them; `zstd` (or absent)
//                                               is the bytes a second that the client gets from this server: they may
//                                               come compressed where the server does that faster
// Answers   a frame { id, code: 'ok', length, … } followed by `length` raw bytes, or { id, code } with a code
//   of: 'not-found' (no such root or shard here), 'invalid' (the question is out of bounds), 'failed' (disk).
//   have:   { complete }, the bytes are a bitmap, shard n at bit n % 8 of byte n / 8; none when complete
//   index:  { total }, the bytes of the index from `offset`; the client checks them against the root
//   small:  the bytes of the stream; none where it is larger, or not complete here
//   shards: the shards' bytes one after the other; the client checks each against the index. With { zstd: [n, …] } each
//           shard is a zstd frame (RFC 8878) of n bytes, or the shard itself where n is its length
// A client that knows nothing of a root asks index, have and small at once: a small package takes one round trip.
// Limits    a client keeps at most `maxOutstandingBytes` asked for and not yet taken; a server reads the next
//   question when it has answered the one before, and resets a stream on which nothing moves for four minutes:
//   no question comes, or no answer is taken.
// Errors    a malformed frame ends the stream. A failure in mid-answer resets it.
// Non-goals finding providers; asking for what is not a content root.
import { CatalogError } from '../base/errors.ts'

export const transferProtocol = '/transfer/1'

export const transferLimits = {
  maxRequestBytes: 1024,
  /** A compressed answer lists the length of each of its shards: 64 of 64 KiB at the least. */
  maxHeaderBytes: 1024,
  maxIndexPieceBytes: 1024 * 1024,
  maxSmallBytes: 1024 * 1024,
  maxShardsBytes: 4 * 1024 * 1024,
  maxShards: 1024,
  /** More are not compressed: their lengths would not fit into a header. */
  maxCompressedShards: 128,
  maxOutstandingBytes: 4 * 1024 * 1024,
  idleMs: 240_000,
} as const

/** What a client makes of a refusal. */
export const refusal = (peer: string, root: string, code: unknown): CatalogError =>
  code === 'not-found'
    ? new CatalogError('not-found', `The peer ${peer} does not hold ${root}.`, { peer, root })
    : new CatalogError(
        'bad-peer-message',
        `The peer ${peer} refused a request for ${root}: ${String(code)}.`,
        { peer, root },
      )
