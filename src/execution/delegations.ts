// The requesting side of delegation (delegation-protocol.ts): hands executions to other nodes and mirrors them
// here, so that state, logs and result are answered by this node as if it ran them, also after a restart.

import type { Demand } from '../assets/demand.ts'
import { withTimeout } from '../base/deadline.ts'
import { CatalogError, isCatalogError } from '../base/errors.ts'
import type { KeyValue } from '../base/key-value.ts'
import type { CallOptions } from '../base/lifecycle.ts'
import type { Log } from '../base/log.ts'
import type { Message } from '../network/frames.ts'
import type { Host } from '../network/host.ts'
import { checked, delegationLimits, type Offer, offerSchema } from './delegation-protocol.ts'
import type { Submission } from './delegation-server.ts'
import { ask } from './delegations/calls.ts'
import { Following, type FollowingOptions, pause } from './delegations/following.ts'
import { mirrorOf } from './delegations/mirror.ts'
import { OutputLog } from './executor/output-log.ts'
import { ExecutionRecords } from './executor/records.ts'
import type { ExecutionFollowed, ExecutionRecord, ExecutionState } from './executor.ts'
import type { OutputStream } from './runtime.ts'

/** A record kept here of an execution elsewhere; `requester` is this node. */
export type DelegatedRecord = ExecutionRecord & { readonly peer: string }

export interface DelegationsOptions extends FollowingOptions {
  readonly offerMs: number
  readonly keptOutputBytes: number
  readonly keptRecords: number
}

export const defaultDelegationsOptions: DelegationsOptions = {
  // Longer than a restart of its daemon, shorter than a person's patience.
  lostAfterMs: 45_000,
  retryMs: 1_000,
  probeMs: 15_000,
  offerMs: 3_000,
  keptOutputBytes: 1024 * 1024,
  keptRecords: 10_000,
}

interface Live {
  readonly output: OutputLog<ExecutionState>
  readonly following: Promise<void>
}

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

  /** Whether a peer runs anything for others; false also where it does not say. */
  async askWhetherOffers(peer: string): Promise<boolean> {
    try {
      const answer = await ask(this.#host, peer, { op: 'about' }, AbortSignal.timeout(this.#options.offerMs))
      return answer['offers'] === true
    } catch (error) {
      this.#log.debug({ peer, error: String(error) }, 'a peer did not say whether it offers execution')
      return false
    }
  }

  /** Whether a peer would run it; undefined when it does not answer in time. */
  async askOffer(
    peer: string,
    runtime: string,
    demand: Demand,
    options: CallOptions = {},
  ): Promise<Offer | undefined> {
    const signal = withTimeout(options.signal, this.#options.offerMs)
    try {
      const answer = await ask(this.#host, peer, { op: 'offer', runtime, demand }, signal)
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
    const view = await this.#handOver(peer, submission, options)
    const record = mirrorOf(
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

  /** Asks once more where the answer was lost on its way: by its id it runs once. */
  async #handOver(peer: string, { input, ...rest }: Submission, options: CallOptions): Promise<Message> {
    const signal = withTimeout(options.signal, delegationLimits.submitMs)
    const hand = () =>
      ask(this.#host, peer, { op: 'submit', ...rest, input: input.byteLength }, signal, input)
    try {
      return await hand().catch(error => {
        if (signal.aborted || !isCatalogError(error, 'peer-unreachable')) throw error
        return hand()
      })
    } catch (error) {
      // It may run there although nobody here knows: best ended, or somebody runs it twice.
      if (signal.aborted || isCatalogError(error, 'peer-unreachable'))
        ask(
          this.#host,
          peer,
          { op: 'cancel', id: rest.id },
          AbortSignal.timeout(delegationLimits.answerMs),
        ).catch(() => undefined)
      throw error
    }
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
    const { answerMs } = delegationLimits
    const answer = await ask(this.#host, record.peer, { op: 'cancel', id }, AbortSignal.timeout(answerMs))
    await Promise.race([this.#live.get(id)?.following, pause(answerMs, this.#stopping.signal)])
    const known = this.#require(id)
    return known.endedAt === undefined ? mirrorOf(known, answer) : known
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

  async logs(id: string): Promise<Readonly<Record<OutputStream, Uint8Array>>> {
    this.#require(id)
    return this.#live.get(id)?.output.outputs() ?? this.#records.outputs(id)
  }

  #require(id: string): DelegatedRecord {
    const record = this.get(id)
    if (record === undefined)
      throw new CatalogError('no-such-execution', `There is no execution ${id} on this node.`, { id })
    return record
  }

  #follow(record: DelegatedRecord): void {
    const output = new OutputLog<ExecutionState>(this.#options.keptOutputBytes)
    const following = this.#followToTheEnd(record, output).catch(error =>
      this.#log.error({ id: record.id, error: String(error) }, 'following a delegated execution failed'),
    )
    this.#live.set(record.id, { output, following })
  }

  async #followToTheEnd(record: DelegatedRecord, output: OutputLog<ExecutionState>): Promise<void> {
    const { id } = record
    const known = () => this.get(id) ?? record
    const keep = (change: Partial<DelegatedRecord>) => this.#records.put({ ...known(), ...change })
    const deps = { host: this.#host, output, keep, signal: this.#stopping.signal }
    try {
      const ended = await new Following(record, deps, this.#options).end()
      if (ended === undefined) return
      const kept = { stdout: output.kept('stdout').bytes, stderr: output.kept('stderr').bytes }
      await this.#records.put({ ...known(), ...ended }, kept)
      output.state(ended.state)
    } finally {
      this.#live.delete(id)
      output.end()
    }
  }
}
