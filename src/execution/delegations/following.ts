// Follows one execution on another node to its end, over as many streams as that takes: output and states are taken
// once, silence is looked into, and a node that cannot be reached for too long has lost it.
import { withTimeout } from '../../base/deadline.ts'
import { CatalogError, isCatalogError, toCatalogError } from '../../base/errors.ts'
import { encodeFrame, type FrameReader, type Message } from '../../network/frames.ts'
import type { ByteStream, Host } from '../../network/host.ts'
import { delegationLimits } from '../delegation-protocol.ts'
import type { DelegatedRecord } from '../delegations.ts'
import type { OutputLog } from '../executor/output-log.ts'
import type { ExecutionState } from '../executor.ts'
import { ask, withStream } from './calls.ts'
import { isFinal, mirrorOf, passing } from './mirror.ts'

export interface FollowingOptions {
  /** An executing node that cannot be reached for this long has lost the execution. */
  readonly lostAfterMs: number
  readonly retryMs: number
  /** A node that says nothing of a running execution for this long is asked whether it is still there. */
  readonly probeMs: number
}

export interface FollowingDeps {
  readonly host: Host
  readonly output: OutputLog<ExecutionState>
  /** Keeps a changed record; resolves once it is durable. */
  readonly keep: (change: Partial<DelegatedRecord>) => Promise<void>
  /** This node is stopping. */
  readonly signal: AbortSignal
}

type Stream = 'stdout' | 'stderr'

export class Following {
  readonly #record: DelegatedRecord
  readonly #deps: FollowingDeps
  readonly #options: FollowingOptions
  /** Bytes taken of each output, over all streams. */
  readonly #taken: Record<Stream, number> = { stdout: 0, stderr: 0 }
  /** Place in `passing` of the last state that was taken. */
  #passed = -1
  #heardAt = Date.now()

  constructor(record: DelegatedRecord, deps: FollowingDeps, options: FollowingOptions) {
    this.#record = record
    this.#deps = deps
    this.#options = options
  }

  /** The execution as it ended; undefined when this node stops before. */
  async end(): Promise<DelegatedRecord | undefined> {
    const { signal } = this.#deps
    for (;;) {
      try {
        return await this.#followOnce()
      } catch (error) {
        if (signal.aborted) return undefined
        const forgotten = isCatalogError(error, 'no-such-execution')
        if (forgotten || Date.now() - this.#heardAt > this.#options.lostAfterMs) return this.#lost(error)
        await pause(this.#options.retryMs, signal)
      }
    }
  }

  #lost(error: unknown): DelegatedRecord {
    const reason = `the node ${this.#record.peer} cannot be reached any more: ${toCatalogError(error).message}`
    return { ...this.#record, state: 'lost', reason, endedAt: new Date().toISOString() }
  }

  /** One stream of events; a later one begins again, so what was already taken is passed over. */
  async #followOnce(): Promise<DelegatedRecord> {
    const { host, signal } = this.#deps
    const { id, peer } = this.#record
    const seen = { stdout: 0, stderr: 0 }
    const opening = withTimeout(signal, delegationLimits.answerMs)
    return withStream(host, peer, opening, async (stream, reader) => {
      const probing = this.#probeWhileSilent(stream, reader)
      try {
        await stream.write(encodeFrame({ op: 'follow', id }), { signal })
        await stream.closeWrite()
        for (;;) {
          const message = await reader.message(delegationLimits.maxAnswerBytes, { signal })
          if (message === undefined)
            throw new CatalogError('peer-unreachable', `The node ${peer} stopped answering.`, { peer })
          if ('view' in message || 'error' in message) return this.#ended(message)
          const name = message['stream']
          if (name === 'stdout' || name === 'stderr') await this.#takeOutput(message, name, seen)
          else await this.#takeState(message['state'])
          this.#heardAt = Date.now()
        }
      } finally {
        clearInterval(probing)
      }
    })
  }

  /** Ends the stream of a node that is silent and does not answer either. */
  #probeWhileSilent(stream: ByteStream, reader: FrameReader): NodeJS.Timeout {
    const { id, peer } = this.#record
    const { probeMs } = this.#options
    let received = -1
    const probe = async () => {
      try {
        await ask(this.#deps.host, peer, { op: 'view', id }, AbortSignal.timeout(probeMs))
        this.#heardAt = Date.now()
      } catch (error) {
        stream.abort(error as Error)
      }
    }
    return setInterval(() => {
      const silent = received === reader.received
      received = reader.received
      if (silent) void probe()
    }, probeMs).unref()
  }

  /** The view that ends a stream is of an execution that has ended. */
  #ended(answer: Message): DelegatedRecord {
    const ended = mirrorOf(this.#record, answer)
    if (isFinal(ended.state)) return ended
    const { peer } = this.#record
    throw new CatalogError(
      'bad-peer-message',
      `The node ${peer} ended a stream of events in the state ${ended.state}.`,
      { peer },
    )
  }

  async #takeOutput({ bytes, lost }: Message, name: Stream, seen: Record<Stream, number>): Promise<void> {
    const taken = this.#taken
    if (typeof lost === 'number' && Number.isSafeInteger(lost) && lost > 0) seen[name] += lost
    else if (bytes instanceof Uint8Array) {
      const fresh = bytes.subarray(Math.max(0, Math.min(bytes.byteLength, taken[name] - seen[name])))
      seen[name] += bytes.byteLength
      if (fresh.byteLength > 0) await this.#deps.output.append(name, fresh)
    }
    taken[name] = Math.max(taken[name], seen[name])
  }

  /** States only go on: one that was passed, and the final one, which comes with the view, tell nothing new. */
  async #takeState(told: unknown): Promise<void> {
    const place = passing.indexOf(told as ExecutionState)
    const state = passing[place]
    if (state === undefined || place <= this.#passed) return
    this.#passed = place
    await this.#deps.keep({
      state,
      ...(state === 'running' ? { startedAt: new Date().toISOString() } : {}),
    })
    this.#deps.output.state(state)
  }
}

/** Waits, unless the signal ends it. */
export function pause(timeoutMs: number, signal: AbortSignal): Promise<void> {
  return new Promise(resolve => {
    const done = () => {
      clearTimeout(timer)
      signal.removeEventListener('abort', done)
      resolve()
    }
    const timer = setTimeout(done, timeoutMs).unref()
    signal.addEventListener('abort', done)
    if (signal.aborted) done()
  })
}
