// What nodes say to each other to keep copies of a release: the messages, their limits and their bytes. Who says
// what when is in replication.ts and replication/; the content itself travels by the transfer protocol.
//
// Protocol /catalog/<network>/replicate/1
// Parties   holders of a content (whoever has promised to keep a copy) and nodes that are asked to become one. The
//           client opens a stream and asks, one question after another; the server answers each.
// Questions frames (network/frames.ts) of at most 16 KiB:
//   { op: 'offer', root, release, size, factor, factorVersion, origin, holders }
//             → { code: 'accepted' } once the promise is durable; the bytes are pulled afterwards
//             → { code: 'refused', reason }: 'no-space', 'not-accepting', 'draining', 'busy' (too many offers), or
//               'unwanted' (no such signed release, it says otherwise, or it was removed here)
//   { op: 'meet', root, …standing } → { …standing }: both sides tell how they stand to the content
//   { op: 'check', root }   → { }: your copy gave wrong bytes; verify it
//   { op: 'release', root } → { }: there are enough without yours; verify that, then let go
//   { op: 'leave', root }   → { }: I no longer hold a copy
// A standing is { state, bytes, draining, factor, factorVersion, origin, holders } with state 'whole', 'coming'
//   (bytes so far in `bytes`), 'leaving', or { state: 'none' } alone.
// Limits    32 holders, factors from 1 to 16, peer ids of 128 characters; 64 questions a stream, none waits for more
//           than 15 s; offers of one peer are counted, and refused when they are too many.
// Trust     all of it is a hint. A release is proved by its signatures before its offer is accepted; a copy counts
//           once random shards of it were fetched and had their hashes; a holder lets go only after it has proved
//           enough other copies itself. Only the origin lowers a factor; others may raise it, up to the limit.
// Errors    a malformed message ends the stream.
// Non-goals agreement: two nodes with different views may both act, and what is then too many is released later.
import { isCid } from '../base/cid.ts'
import { CatalogError } from '../base/errors.ts'
import { listField, type Message, naturalField, textField } from '../network/frames.ts'

export const replicateProtocol = '/replicate/1'

export const replicateLimits = {
  maxMessageBytes: 16 * 1024,
  maxHolders: 32,
  maxFactor: 16,
  maxPeerLength: 128,
  maxQuestions: 64,
  answerMs: 15_000,
} as const

export const refusals = ['no-space', 'not-accepting', 'draining', 'busy', 'unwanted'] as const
export type Refusal = (typeof refusals)[number]

/** What all holders of one content agree on, as far as they have heard of it. */
export interface Terms {
  /** Copies there should be. */
  readonly factor: number
  /** Counts the changes of the factor. */
  readonly factorVersion: number
  /** The peer that asked for the copies first, and may lower the factor. */
  readonly origin: string
  readonly holders: readonly string[]
}

export interface Offer extends Terms {
  readonly root: string
  readonly release: string
  /** Bytes of the stream, as the signed release says. */
  readonly size: number
}

export type Standing =
  | { readonly state: 'none' }
  | ({
      readonly state: 'whole' | 'coming' | 'leaving'
      readonly bytes: number
      readonly draining: boolean
    } & Terms)

export type Question =
  | { readonly op: 'offer'; readonly offer: Offer }
  | { readonly op: 'meet'; readonly root: string; readonly standing: Standing }
  | { readonly op: 'check' | 'release' | 'leave'; readonly root: string }

export function encodeQuestion(question: Question): Message {
  const { op } = question
  if (op === 'offer') return { op, ...question.offer }
  if (op === 'meet') return { op, root: question.root, ...question.standing }
  return { op, root: question.root }
}

/** @throws CatalogError `bad-peer-message`, for everything below too */
export function decodeQuestion(message: Message): Question {
  const op = message['op']
  const root = cidField(message, 'root')
  switch (op) {
    case 'offer': {
      const offer = {
        root,
        release: cidField(message, 'release'),
        size: naturalField(message, 'size'),
        ...decodeTerms(message),
      }
      return { op, offer }
    }
    case 'meet':
      return { op, root, standing: decodeStanding(message) }
    case 'check':
    case 'release':
    case 'leave':
      return { op, root }
    default:
      throw new CatalogError('bad-peer-message', 'A peer asked an unknown question of replication.')
  }
}

export function decodeStanding(message: Message): Standing {
  const state = message['state']
  if (state === 'none') return { state }
  if (state !== 'whole' && state !== 'coming' && state !== 'leaving')
    throw new CatalogError('bad-peer-message', "A peer's message has no valid state.")
  if (typeof message['draining'] !== 'boolean')
    throw new CatalogError('bad-peer-message', "A peer's message has no valid draining.")
  return {
    state,
    bytes: naturalField(message, 'bytes'),
    draining: message['draining'],
    ...decodeTerms(message),
  }
}

export function decodeOfferAnswer(message: Message): 'accepted' | Refusal {
  if (message['code'] === 'accepted') return 'accepted'
  const reason = refusals.find(each => each === message['reason'])
  if (message['code'] !== 'refused' || reason === undefined)
    throw new CatalogError('bad-peer-message', 'A peer gave no valid answer to an offer.')
  return reason
}

function decodeTerms(message: Message): Terms {
  const factor = naturalField(message, 'factor', replicateLimits.maxFactor)
  if (factor < 1) throw new CatalogError('bad-peer-message', "A peer's message has no valid factor.")
  return {
    factor,
    factorVersion: naturalField(message, 'factorVersion', 2 ** 31),
    origin: peerOf(message['origin']),
    holders: listField(message, 'holders', replicateLimits.maxHolders).map(peerOf),
  }
}

function cidField(message: Message, field: string): string {
  const value = textField(message, field, 100)
  if (!isCid(value)) throw new CatalogError('bad-peer-message', `A peer's message has no valid ${field}.`)
  return value
}

function peerOf(value: unknown): string {
  if (typeof value !== 'string' || !/^[A-Za-z0-9-]{1,128}$/.test(value))
    throw new CatalogError('bad-peer-message', 'A peer named a holder that is no peer id.')
  return value
}
