// The wire form of delegated execution: what one node asks of another, and how answers are checked.
//
// Protocol /catalog/<network>/execute/1
// Parties   the requester opens a stream and asks one question; the executing node answers. Who asks is proved
//           by the connection: an execution is seen, followed and cancelled only by the peer that submitted it.
// Questions frames (network/frames.ts) of at most 256 KiB:
//   { op: 'about' }                  → { offers }: does this node run anything for others?
//   { op: 'offer', runtime, demand }   → { fits, reason?, queued, running }: would you run this?
//   { op: 'submit', id, release, args, env, runSeconds, input }, then `input` raw bytes (at most 16 MiB)
//                                      → { view } | { error }; the same id from the same peer again gives its view
//   { op: 'view', id }                 → { view } | { error }
//   { op: 'cancel', id }               → { view } | { error }
//   { op: 'follow', id }               → frames { state } and { stream, bytes } (what is kept, then live; at most
//                                        64 KiB of bytes each) and { stream, lost } (so many bytes are not kept),
//                                        then { view } once it has ended | { error }
//   view  = a JSON object as UTF-8 text, an ExecutionRecord without its output (execution/executor.ts)
//   error = { code, message }
// Limits    a question comes within 10 s of the stream and, other than submit and follow, is answered within 10 s;
//           inputs on their way hold at most 64 MiB together, more are refused with 'busy', and a node that offers
//           nothing reads none; a follower that takes nothing for a minute is left. Results are content roots,
//           fetched by the transfer protocol.
// Errors    a malformed frame ends the stream. A lost stream cancels nothing: follow again.
// Non-goals payment, trust in results: receipts and quorums come later.
import { z } from 'zod'
import { isCid } from '../base/cid.ts'
import { CatalogError, type ErrorCode, errorTable } from '../base/errors.ts'
import type { Message } from '../network/frames.ts'

export const executeProtocol = '/execute/1'

export const delegationLimits = {
  maxQuestionBytes: 256 * 1024,
  maxAnswerBytes: 256 * 1024,
  maxInputBytes: 16 * 1024 * 1024,
  maxInputBytesHeld: 64 * 1024 * 1024,
  maxPieceBytes: 64 * 1024,
  answerMs: 10_000,
  submitMs: 60_000,
  takeMs: 60_000,
} as const

const text = (max: number) => z.string().max(max)
const executionId = z.string().regex(/^[a-z0-9-]{8,64}$/)

export const demandSchema = z.strictObject({
  cpuCores: z.number().positive().max(1e6),
  cpuArchitecture: text(64).optional(),
  gpuMemoryMb: z.number().nonnegative(),
  gpuType: text(64).optional(),
  gpuRequired: z.boolean(),
  memoryMb: z.number().positive(),
  storageMb: z.number().nonnegative(),
  networkBandwidthMbps: z.number().nonnegative(),
  minNodes: z.number().int().positive(),
  maxNodes: z.number().int().positive(),
  runSeconds: z.number().positive(),
  queueSeconds: z.number().nonnegative(),
  totalSeconds: z.number().positive(),
})

export const submitSchema = z.strictObject({
  op: z.literal('submit'),
  id: executionId,
  release: text(100).refine(isCid, 'a release id'),
  args: z.array(text(128 * 1024)).max(1024),
  env: z.record(text(256), text(32 * 1024)),
  runSeconds: z.number().positive().optional(),
  input: z.number().int().nonnegative().max(delegationLimits.maxInputBytes),
})

export const questionSchema = z.discriminatedUnion('op', [
  z.strictObject({ op: z.literal('about') }),
  z.strictObject({ op: z.literal('offer'), runtime: text(64), demand: demandSchema }),
  submitSchema,
  z.strictObject({ op: z.literal('view'), id: executionId }),
  z.strictObject({ op: z.literal('cancel'), id: executionId }),
  z.strictObject({ op: z.literal('follow'), id: executionId }),
])

export type Question = z.infer<typeof questionSchema>

export const offerSchema = z.strictObject({
  fits: z.boolean(),
  reason: text(1000).optional(),
  queued: z.number().int().nonnegative(),
  running: z.number().int().nonnegative(),
})

export type Offer = z.infer<typeof offerSchema>

/** @throws CatalogError `bad-peer-message` */
export function checked<T>(schema: z.ZodType<T>, value: unknown, peer: string): T {
  const parsed = schema.safeParse(value)
  if (parsed.success) return parsed.data
  const [issue] = parsed.error.issues
  throw new CatalogError(
    'bad-peer-message',
    `The peer ${peer} sent a malformed message: ${issue?.path.join('.')}: ${issue?.message}.`,
    { peer },
  )
}

export const errorMessage = (error: CatalogError): Message => ({
  error: { code: error.code, message: error.message.slice(0, 2000) },
})

/** Throws the error that the other side answered with, if it did; its code is kept where we know it. */
export function throwAnswered(answer: Message, peer: string): void {
  const error = answer['error'] as { code?: unknown; message?: unknown } | undefined
  if (error === undefined || error === null) return
  const code =
    typeof error.code === 'string' && Object.hasOwn(errorTable, error.code)
      ? (error.code as ErrorCode)
      : 'bad-peer-message'
  const message = typeof error.message === 'string' ? error.message.slice(0, 2000) : 'it gave no reason'
  throw new CatalogError(code, `The node ${peer} answered: ${message}`, { peer })
}
