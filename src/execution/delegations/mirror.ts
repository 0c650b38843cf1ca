// What an executing node says of an execution, checked, under what this node knows of it. It is kept here, so it is
// bounded here.
import { z } from 'zod'
import { isCid } from '../../base/cid.ts'
import type { Message } from '../../network/frames.ts'
import { checked, throwAnswered } from '../delegation-protocol.ts'
import type { DelegatedRecord } from '../delegations.ts'
import type { ExecutionState } from '../executor.ts'

/** The states before the end, in their order. */
export const passing: readonly ExecutionState[] = ['queued', 'fetching', 'running']
export const isFinal = (state: ExecutionState): boolean => !passing.includes(state)

const viewSchema = z.object({
  id: z.string(),
  state: z.enum(['queued', 'fetching', 'running', 'succeeded', 'failed', 'cancelled', 'timed-out', 'lost']),
  exitCode: z.number().int().optional(),
  limit: z.enum(['memory', 'time', 'output', 'processes', 'storage']).optional(),
  reason: z.string().max(4000).optional(),
  // Bounded, for it is kept: a record that is too large to be read again would keep this node from starting.
  error: z.object({ code: z.string().max(64), message: z.string().max(4000) }).optional(),
  allocated: z.object({
    cpuCores: z.number(),
    memoryMb: z.number(),
    storageMb: z.number(),
    runSeconds: z.number(),
  }),
  used: z
    .object({ cpuSeconds: z.number().optional(), memoryMb: z.number().optional(), wallSeconds: z.number() })
    .optional(),
  startedAt: z.string().max(64).optional(),
  endedAt: z.string().max(64).optional(),
  resultRoot: z.string().max(100).refine(isCid, 'a content root').optional(),
  stdoutBytes: z.number().optional(),
  stderrBytes: z.number().optional(),
  stdoutTruncated: z.boolean().optional(),
  stderrTruncated: z.boolean().optional(),
})

/** What this node knows of an execution that it handed over. */
export type Known = Pick<
  DelegatedRecord,
  'id' | 'release' | 'name' | 'version' | 'runtime' | 'peer' | 'requester' | 'createdAt'
>

/** @throws CatalogError the error that the answer carries, `bad-peer-message` */
export function mirrorOf(known: Known, answer: Message): DelegatedRecord {
  throwAnswered(answer, known.peer)
  const view = checked(viewSchema, parseJson(answer['view']), known.peer)
  const endedAt = isFinal(view.state) ? { endedAt: view.endedAt ?? new Date().toISOString() } : {}
  return { ...known, ...JSON.parse(JSON.stringify(view)), ...endedAt, id: known.id }
}

function parseJson(text: unknown): unknown {
  if (typeof text !== 'string') return undefined
  try {
    return JSON.parse(text)
  } catch {
    return undefined
  }
}
