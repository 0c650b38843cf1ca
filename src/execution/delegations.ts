// The requesting side of delegation (delegation-protocol.ts): hands executions to other nodes and mirrors them
// here, so that state, logs and result are answered by this node as if it ran them, also after a restart.
import { z } from 'zod'
import type { Demand } from '../assets/demand.ts'
import { CatalogError, isCatalogError, toCatalogError } from '../base/errors.ts'
import type { KeyValue } from '../base/key-value.ts'
import type { CallOptions } from '../base/lifecycle.ts'
import type { Log } from '../base/log.ts'
import { encodeFrame, FrameReader, type Message } from '../network/frames.ts'
import type { ByteStream, Host } from '../network/host.ts'
import {
  checked,
  delegationLimits,
  executeProtocol,
  type Offer,
  offerSchema,
  throwAnswered,
} from './delegation-protocol.ts'
import type { Submission } from './delegation-server.ts'
import { OutputLog } from './executor/output-log.ts'
import { ExecutionRecords } from './executor/records.ts'
import type { ExecutionFollowed, ExecutionRecord, ExecutionState } from './executor.ts'

/** A record kept here of an execution elsewhere; `requester` is this node. */
export type DelegatedRecord = ExecutionRecord & { readonly peer: string }

export interface DelegationsOptions {
  /** An executing node that cannot be reached for this long has lost the execution. */
  readonly lostAfterMs: number
  readonly retryMs: number
  readonly offerMs: number
  readonly keptOutputBytes: number
  readonly keptRecords: number
}

export const defaultDelegationsOptions: DelegationsOptions = {
  // Longer than a restart of its daemon, shorter than a person's patience.
  lostAfterMs: 45_000,
  retryMs: 1_000,
  offerMs: 3_000,
  keptOutputBytes: 1024 * 1024,
  keptRecords: 10_000,
}

interface Live {
  readonly output: OutputLog<ExecutionState>
  readonly following: Promise<void>
}

const viewSchema = z.object({
  id: z.string(),
  state: z.enum(['queued', 'fetching', 'running', 'succeeded', 'failed', 'cancelled', 'timed-out', 'lost']),
  exitCode: z.number().int().optional(),
  limit: z.enum(['memory', 'time', 'output', 'processes', 'storage']).optional(),
  reason: z.string().max(4000).optional(),
  error: z.record(z.string(), z.unknown()).optional(),
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
  resultRoot: z.string().max(100).optional(),
  stdoutBytes: z.number().optional(),
  stderrBytes: z.number().optional(),
  stdoutTruncated: z.boolean().optional(),
  stderrTruncated: z.boolean().optional(),
})

export class Delegations {
  readonly #host: Host
  readonly #log: Log
  readonly #options: DelegationsOptions
  readonly #records: ExecutionRecords
  readonly #live = new Map<string, Live>()
  readonly #stopping = new AbortController()

  /** `records` must be a scope of its own: the keys are those of the executor. */
  constructor(deps: { host: Host; records: KeyValue; log: Log }, options = defaultDelegationsOptions) {
    this.#host = deps.host
    this.#log = deps.log
    this.#options = options
    this.#records = new ExecutionRecords(deps.records, options.keptRecords)
  }

  /** Reads what is on record, without reaching out to anybody. */
  load(): Promise<void> {
    return this.#records.load()
  }

  /** Takes up what an earlier daemon was following. After `load`. */
  async start(): Promise<void> {
    for (const record of this.#records.all())
      if (record.endedAt === undefined) this.#follow(record as DelegatedRecord)
  }

  /** The executions go on at their nodes. */
  async stop(): Promise<void> {
    this.#stopping.abort(new CatalogError('daemon-stopping', 'The daemon is stopping.'))
    await Promise.allSettled([...this.#live.values()].map(live => live.following))
  }

  /** Whether a peer would run it; undefined when it does not answer in time. */
  async askOffer(
    peer: string,
    runtime: string,
    demand: Demand,
    options: CallOptions = {},
  ): Promise<Offer | undefined> {
    const patience = AbortSignal.timeout(this.#options.offerMs)
    const signal = options.signal === undefined ? patience : AbortSignal.any([patience, options.signal])
    try {
      const answer = await this.#ask(peer, { op: 'offer', runtime, demand }, signal)
      return checked(offerSchema, answer, peer)
    } catch (error) {
      this.#log.debug({ peer, error: String(error) }, 'a peer made no offer')
      return undefined
    }
  }

  /**
   * Hands an execution to a peer; resolves once it is on record there and here.
   * @throws CatalogError what the peer answers, `peer-unreachable`
   */
  async submit(
    peer: string,
    submission: Submission,
    about: { name: string; version: string; runtime: string },
    options: CallOptions = {},
  ): Promise<DelegatedRecord> {
    const { input, ...rest } = submission
    const patience = AbortSignal.timeout(delegationLimits.submitMs)
    const signal = options.signal === undefined ? patience : AbortSignal.any([patience, options.signal])
    const view = await this.#ask(peer, { op: 'submit', ...rest, input: input.byteLength }, signal, input)
    const record = this.#mirror(
      {
        ...about,
        id: submission.id,
        release: submission.release,
        peer,
        requester: this.#host.peer,
        createdAt: new Date().toISOString(),
      },
      view,
    )
    await this.#records.put(record)
    this.#follow(record)
    return record
  }

  get(id: string): DelegatedRecord | undefined {
    return this.#records.get(id) as DelegatedRecord | undefined
  }

  list(): DelegatedRecord[] {
    return this.#records.all() as DelegatedRecord[]
  }

  /** Resolves when the executing node says that it has ended. @throws CatalogError `peer-unreachable` */
  async cancel(id: string): Promise<DelegatedRecord> {
    const record = this.#require(id)
    if (record.endedAt !== undefined) return record
    await this.#ask(record.peer, { op: 'cancel', id }, AbortSignal.timeout(delegationLimits.answerMs))
    await this.#live.get(id)?.following
    return this.#require(id)
  }

  async *follow(id: string, options: CallOptions = {}): AsyncGenerator<ExecutionFollowed> {
    const live = this.#live.get(id)
    if (live !== undefined) return yield* live.output.follow(options.signal)
    const record = this.#require(id)
    const outputs = await this.logs(id)
    for (const stream of ['stdout', 'stderr'] as const)
      if (outputs[stream].length > 0) yield { stream, bytes: outputs[stream] }
    yield { state: record.state }
  }

  async logs(id: string): Promise<{ stdout: Uint8Array; stderr: Uint8Array }> {
    this.#require(id)
    const live = this.#live.get(id)
    if (live !== undefined)
      return { stdout: live.output.kept('stdout').bytes, stderr: live.output.kept('stderr').bytes }
    return {
      stdout: await this.#records.output('stdout', id),
      stderr: await this.#records.output('stderr', id),
    }
  }

  #require(id: string): DelegatedRecord {
    const record = this.get(id)
    if (record === undefined)
      throw new CatalogError('no-such-execution', `There is no execution ${id} on this node.`, { id })
    return record
  }

  /** What the executing node says of an execution, under what this node knows of it. */
  #mirror(
    known: Pick<
      DelegatedRecord,
      'id' | 'release' | 'name' | 'version' | 'runtime' | 'peer' | 'requester' | 'createdAt'
    >,
    answer: Message,
  ): DelegatedRecord {
    throwAnswered(answer, known.peer)
    const view = checked(viewSchema, parseJson(answer['view']), known.peer)
    return { ...known, ...JSON.parse(JSON.stringify(view)), id: known.id }
  }

  #follow(record: DelegatedRecord): void {
    const output = new OutputLog<ExecutionState>(this.#options.keptOutputBytes)
    const following = this.#followToTheEnd(record, output).catch(error =>
      this.#log.error({ id: record.id, error: String(error) }, 'following a delegated execution failed'),
    )
    this.#live.set(record.id, { output, following })
  }

  async #followToTheEnd(record: DelegatedRecord, output: OutputLog<ExecutionState>): Promise<void> {
    const mirror = { received: { stdout: 0, stderr: 0 }, states: 0 }
    let lastHeard = Date.now()
    let ended: DelegatedRecord | undefined
    while (ended === undefined) {
      try {
        ended = await this.#followOnce(record, output, mirror, () => {
          lastHeard = Date.now()
        })
      } catch (error) {
        if (this.#stopping.signal.aborted) return
        const gone = isCatalogError(error, 'no-such-execution')
        if (gone || Date.now() - lastHeard > this.#options.lostAfterMs) ended = this.#lost(record, error)
        else await new Promise(resolve => setTimeout(resolve, this.#options.retryMs))
      }
    }
    const kept = { stdout: output.kept('stdout').bytes, stderr: output.kept('stderr').bytes }
    await this.#records.put(ended, kept)
    output.state(ended.state)
    output.end()
    this.#live.delete(record.id)
  }

  #lost(record: DelegatedRecord, error: unknown): DelegatedRecord {
    const reason = `the node ${record.peer} cannot be reached any more: ${toCatalogError(error).message}`
    return { ...record, state: 'lost', reason, endedAt: new Date().toISOString() }
  }

  /** One stream of events; a later one begins again, so what was already taken is passed over. */
  async #followOnce(
    record: DelegatedRecord,
    output: OutputLog<ExecutionState>,
    mirror: { readonly received: Record<'stdout' | 'stderr', number>; states: number },
    heard: () => void,
  ): Promise<DelegatedRecord> {
    const seen = { stdout: 0, stderr: 0, states: 0 }
    const signal = this.#stopping.signal
    return this.#withStream(
      record.peer,
      AbortSignal.any([signal, AbortSignal.timeout(24 * 3600 * 1000)]),
      async (stream, reader) => {
        await stream.write(encodeFrame({ op: 'follow', id: record.id }), { signal })
        await stream.closeWrite()
        for (;;) {
          const message = await reader.message(delegationLimits.maxAnswerBytes, { signal })
          if (message === undefined)
            throw new CatalogError('peer-unreachable', `The node ${record.peer} stopped answering.`, {
              peer: record.peer,
            })
          heard()
          if ('view' in message || 'error' in message) return this.#mirror(record, message)
          const name = message['stream']
          if (name === 'stdout' || name === 'stderr')
            await this.#takeOutput(message, name, seen, mirror.received, output)
          else if (++seen.states > mirror.states) await this.#takeState(record, message, mirror, output)
        }
      },
    )
  }

  async #takeOutput(
    message: Message,
    name: 'stdout' | 'stderr',
    seen: Record<'stdout' | 'stderr', number>,
    received: Record<'stdout' | 'stderr', number>,
    output: OutputLog<ExecutionState>,
  ): Promise<void> {
    const bytes = message['bytes']
    if (!(bytes instanceof Uint8Array)) return
    const fresh = bytes.subarray(Math.max(0, Math.min(bytes.byteLength, received[name] - seen[name])))
    seen[name] += bytes.byteLength
    received[name] = Math.max(received[name], seen[name])
    if (fresh.byteLength > 0) await output.append(name, fresh)
  }

  async #takeState(
    record: DelegatedRecord,
    message: Message,
    mirror: { states: number },
    output: OutputLog<ExecutionState>,
  ): Promise<void> {
    const parsed = viewSchema.shape.state.safeParse(message['state'])
    mirror.states += 1
    // The final state comes with the view, and is told once that is durable here.
    if (!parsed.success || isFinal(parsed.data)) return
    const state = parsed.data
    const startedAt = state === 'running' ? { startedAt: new Date().toISOString() } : {}
    await this.#records.put({ ...(this.get(record.id) ?? record), ...startedAt, state })
    output.state(state)
  }

  async #ask(peer: string, question: Message, signal: AbortSignal, input?: Uint8Array): Promise<Message> {
    return this.#withStream(peer, signal, async (stream, reader) => {
      await stream.write(encodeFrame(question), { signal })
      if (input !== undefined && input.byteLength > 0) await stream.write(input, { signal })
      await stream.closeWrite()
      const answer = await reader.message(delegationLimits.maxAnswerBytes, { signal })
      if (answer === undefined)
        throw new CatalogError('peer-unreachable', `The node ${peer} did not answer.`, { peer })
      throwAnswered(answer, peer)
      return answer
    })
  }

  async #withStream<T>(
    peer: string,
    signal: AbortSignal,
    use: (stream: ByteStream, reader: FrameReader) => Promise<T>,
  ): Promise<T> {
    const stream = await this.#host.open(peer, executeProtocol, { signal })
    try {
      const result = await use(stream, new FrameReader(stream))
      stream.close().catch(() => undefined)
      return result
    } catch (error) {
      stream.abort(error as Error)
      throw error
    }
  }
}

const isFinal = (state: ExecutionState) => state !== 'queued' && state !== 'fetching' && state !== 'running'

function parseJson(text: unknown): unknown {
  if (typeof text !== 'string') return undefined
  try {
    return JSON.parse(text)
  } catch {
    return undefined
  }
}
