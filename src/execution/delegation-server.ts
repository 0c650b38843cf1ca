// The executing side of delegation (delegation-protocol.ts): answers other nodes' questions about executions here.
// Whether this node runs anything for others is its operator's word; who may see an execution is who submitted it.

import type { z } from 'zod'
import { CatalogError, toCatalogError } from '../base/errors.ts'
import type { CallOptions } from '../base/lifecycle.ts'
import type { Log } from '../base/log.ts'
import { encodeFrame, FrameReader, type Message } from '../network/frames.ts'
import type { ByteStream, Host } from '../network/host.ts'
import {
  checked,
  delegationLimits,
  errorMessage,
  executeProtocol,
  type Offer,
  type Question,
  questionSchema,
  type submitSchema,
} from './delegation-protocol.ts'
import type { ExecutionRecord, Executor } from './executor.ts'

export interface Submission {
  readonly id: string
  readonly release: string
  readonly args: readonly string[]
  readonly env: Readonly<Record<string, string>>
  readonly input: Uint8Array
  readonly runSeconds?: number
}

export interface DelegationServerDeps {
  readonly host: Host
  readonly executor: Pick<Executor, 'get' | 'cancel' | 'follow'>
  /** Would this node run it now? Refuses with a reason where the operator does not offer execution. */
  readonly offer: (question: Extract<Question, { op: 'offer' }>) => Promise<Offer>
  /** The execute flow: resolves the release and submits it for the requester. */
  readonly submit: (
    submission: Submission,
    requester: string,
    options: CallOptions,
  ) => Promise<ExecutionRecord>
  /** Whether the operator lets others execute here at all. */
  readonly offers: boolean
  readonly log: Log
}

export interface DelegationServerOptions {
  readonly maxStreamsPerPeer: number
  readonly maxStreams: number
}

export const defaultDelegationServerOptions: DelegationServerOptions = {
  // One stream follows each running execution; the rest are short.
  maxStreamsPerPeer: 32,
  maxStreams: 128,
}

export class DelegationServer {
  readonly #deps: DelegationServerDeps
  /** Submissions under way, by peer and id: asked twice, they run once. */
  readonly #submitting = new Map<string, Promise<ExecutionRecord>>()
  #inputBytesHeld = 0

  constructor(deps: DelegationServerDeps, options = defaultDelegationServerOptions) {
    this.#deps = deps
    deps.host.handle(executeProtocol, (stream, { signal }) => this.#serve(stream, signal), {
      maxInboundPerPeer: options.maxStreamsPerPeer,
      maxInbound: options.maxStreams,
      capability: 'execute',
    })
  }

  async #serve(stream: ByteStream, signal: AbortSignal): Promise<void> {
    const reader = new FrameReader(stream)
    const message = await within(stream, delegationLimits.answerMs, () =>
      reader.message(delegationLimits.maxQuestionBytes, { signal }),
    )
    if (message === undefined) return stream.close()
    const question = checked(questionSchema, message, stream.peer)
    try {
      if (question.op === 'follow') await this.#follow(stream, question.id, signal)
      else await this.#send(stream, await this.#answer(stream, question, reader, signal), signal)
    } catch (error) {
      if (signal.aborted) throw error
      const failure = toCatalogError(error)
      if (failure.code === 'internal')
        this.#deps.log.error(
          { peer: stream.peer, op: question.op, error: failure.message },
          'a delegated request failed',
        )
      await this.#send(stream, errorMessage(failure), signal)
    }
    await stream.close()
  }

  async #answer(
    stream: ByteStream,
    question: Exclude<Question, { op: 'follow' }>,
    reader: FrameReader,
    signal: AbortSignal,
  ): Promise<Message> {
    switch (question.op) {
      case 'about':
        return { offers: this.#deps.offers }
      case 'offer':
        return { ...(await this.#deps.offer(question)) }
      case 'submit':
        return viewMessage(await this.#submit(stream, question, reader, signal))
      case 'view':
        return viewMessage(this.#own(stream.peer, question.id))
      case 'cancel':
        this.#own(stream.peer, question.id)
        return viewMessage(await this.#deps.executor.cancel(question.id))
    }
  }

  async #submit(
    stream: ByteStream,
    question: z.infer<typeof submitSchema>,
    reader: FrameReader,
    signal: AbortSignal,
  ): Promise<ExecutionRecord> {
    const { peer } = stream
    // Before a single byte of its input takes memory here.
    if (!this.#deps.offers)
      throw new CatalogError(
        'not-offered',
        'It does not offer execution to others: execution.offer is false in its config.',
      )
    if (this.#inputBytesHeld + question.input > delegationLimits.maxInputBytesHeld)
      throw new CatalogError('busy', 'It is taking in as many inputs as it may; try again later.')
    this.#inputBytesHeld += question.input
    try {
      const input = await within(stream, delegationLimits.submitMs, () =>
        reader.bytes(question.input, { signal }),
      )
      return await this.#once(peer, question, input)
    } finally {
      this.#inputBytesHeld -= question.input
    }
  }

  /** Asked twice, because the first answer was lost on its way, it runs once. */
  async #once(
    peer: string,
    { id, release, args, env, runSeconds }: z.infer<typeof submitSchema>,
    input: Uint8Array,
  ): Promise<ExecutionRecord> {
    if (this.#deps.executor.get(id) !== undefined) return this.#own(peer, id)
    const key = `${peer}/${id}`
    const running = this.#submitting.get(key)
    if (running !== undefined) return running
    const submission = { id, release, args, env, input, ...(runSeconds === undefined ? {} : { runSeconds }) }
    // A lost stream cancels nothing: the requester asks again.
    const signal = AbortSignal.timeout(delegationLimits.submitMs)
    const submitted = this.#deps
      .submit(submission, peer, { signal })
      .finally(() => this.#submitting.delete(key))
    this.#submitting.set(key, submitted)
    return submitted
  }

  #own(peer: string, id: string): ExecutionRecord {
    const record = this.#deps.executor.get(id)
    if (record === undefined || record.requester !== peer)
      throw new CatalogError('no-such-execution', `There is no execution ${id} of yours here.`, { id })
    return record
  }

  async #follow(stream: ByteStream, id: string, signal: AbortSignal): Promise<void> {
    this.#own(stream.peer, id)
    for await (const event of this.#deps.executor.follow(id, { signal })) {
      if ('bytes' in event)
        for (let at = 0; at < event.bytes.byteLength; at += delegationLimits.maxPieceBytes)
          await this.#send(
            stream,
            { stream: event.stream, bytes: event.bytes.subarray(at, at + delegationLimits.maxPieceBytes) },
            signal,
          )
      else if ('state' in event) await this.#send(stream, { state: event.state }, signal)
      else await this.#send(stream, { stream: event.stream, lost: event.lost }, signal)
    }
    signal.throwIfAborted()
    await this.#send(stream, viewMessage(this.#own(stream.peer, id)), signal)
  }

  async #send(stream: ByteStream, message: Message, signal: AbortSignal): Promise<void> {
    await within(stream, delegationLimits.takeMs, () => stream.write(encodeFrame(message), { signal }))
  }
}

/** The work, unless the peer takes longer than this for its part of it: then its stream is over. */
async function within<T>(stream: ByteStream, timeoutMs: number, work: () => Promise<T>): Promise<T> {
  const timer = setTimeout(
    () =>
      stream.abort(
        new CatalogError('timeout', `The peer ${stream.peer} did nothing for ${timeoutMs / 1000} s.`),
      ),
    timeoutMs,
  )
  try {
    return await work()
  } finally {
    clearTimeout(timer)
  }
}

/** A record as JSON text: it has fractions and absent fields, which the canonical form of frames does not allow as they are. */
const viewMessage = (record: ExecutionRecord): Message => ({ view: JSON.stringify(record) })
