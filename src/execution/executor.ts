// The local queue of executions and their record keeper: admits what fits under the node's ceiling, starts it when
// there is room, follows it to its end, and remembers it. Runs nothing itself (runtimes do), lays out no packages
// (`stage` does), and knows nothing of other nodes. Lost executions are not retried here: the requester decides.
//
//   queued -> fetching -> running -> succeeded | failed | cancelled | timed-out | lost
//
// `failed`: a bad exit, a limit, or an error. `timed-out`: the queue's or the total time. `lost`: the daemon ended first.
import { CatalogError, toCatalogError } from '../base/errors.ts'
import type { KeyValue } from '../base/key-value.ts'
import type { CallOptions } from '../base/lifecycle.ts'
import type { Log } from '../base/log.ts'
import { Admission, type Fits } from './executor/admission.ts'
import { type Ceiling, machineCeiling, type Shares } from './executor/allocations.ts'
import { type Ending, LiveExecution } from './executor/live.ts'
import { type Followed, keptOutput } from './executor/output-log.ts'
import { perform, type RecordChange } from './executor/perform.ts'
import { ExecutionRecords } from './executor/records.ts'
import { Schedule } from './executor/schedule.ts'
import type { Priority } from './executor/waiting-line.ts'
import type { LimitName, OutputStream, RunLimits, RunOutcome, Runtime } from './runtime.ts'

export type ExecutionState =
  | 'queued'
  | 'fetching'
  | 'running'
  | 'succeeded'
  | 'failed'
  | 'cancelled'
  | 'timed-out'
  | 'lost'

export interface ExecutionSpec {
  /** Letters, digits, `-` and `_`, at most 64; new on this node. */
  readonly id: string
  readonly release: string
  readonly name: string
  readonly version: string
  readonly runtime: string
  readonly entrypoint: string
  readonly args: readonly string[]
  readonly env: Readonly<Record<string, string>>
  readonly input: Uint8Array
  readonly limits: RunLimits
  /** The peer that asked. */
  readonly requester: string
  readonly priority: Priority
  /** Longest wait in the queue. */
  readonly queueSeconds: number
  /** Longest time from submission to the end. */
  readonly totalSeconds: number
  readonly outputs?: string
  readonly instance?: { readonly index: number; readonly count: number }
  /** Executions of this name at one time. */
  readonly maxConcurrent?: number
}

export interface ExecutionRecord {
  readonly id: string
  readonly release: string
  readonly name: string
  readonly version: string
  readonly runtime: string
  readonly requester: string
  readonly state: ExecutionState
  readonly exitCode?: number
  readonly limit?: LimitName
  /** In words, where the state and code do not say it all. */
  readonly reason?: string
  readonly error?: Readonly<Record<string, unknown>>
  readonly allocated: Shares & { readonly runSeconds: number }
  readonly used?: RunOutcome['used']
  /** ISO 8601. */
  readonly createdAt: string
  readonly startedAt?: string
  readonly endedAt?: string
  /** Content root of the kept outputs. */
  readonly resultRoot?: string
  /** Bytes written, kept or not. */
  readonly stdoutBytes?: number
  readonly stderrBytes?: number
  readonly stdoutTruncated?: boolean
  readonly stderrTruncated?: boolean
}

export type ExecutionFollowed = Followed<ExecutionState>

/** A package laid out for one run: a directory that the run uses up. */
export interface StagedPackage {
  readonly directory: string
  dispose(): Promise<void>
}

export interface ExecutorDeps {
  readonly records: KeyValue
  readonly runtimes: readonly Runtime[]
  stage(spec: ExecutionSpec, options: CallOptions): Promise<StagedPackage>
  /** Takes the outputs into the store; the directory is removed afterwards. */
  keepOutputs(directory: string, id: string): Promise<{ readonly root: string }>
  readonly log: Log
}

export interface ExecutorOptions {
  readonly ceiling: Ceiling
  readonly queueLength: number
  /** Executions at one time, whatever their size; the sandbox has so many uids. */
  readonly running: number
  readonly keptOutputBytes: number
  readonly keptRecords: number
}

export const defaultExecutorOptions = (): ExecutorOptions => ({
  ceiling: machineCeiling(),
  // Each waiting execution holds its input (up to 16 MiB) in memory.
  queueLength: 64,
  running: 32,
  keptOutputBytes: 1024 * 1024,
  keptRecords: 10_000,
})

export class Executor {
  readonly #deps: ExecutorDeps
  readonly #options: ExecutorOptions
  readonly #records: ExecutionRecords
  readonly #admission: Admission
  readonly #schedule: Schedule
  readonly #live = new Map<string, LiveExecution>()
  #stopping = false

  constructor(deps: ExecutorDeps, options: ExecutorOptions = defaultExecutorOptions()) {
    this.#deps = deps
    this.#options = options
    this.#records = new ExecutionRecords(deps.records, options.keptRecords)
    this.#admission = new Admission(deps.runtimes, options)
    this.#schedule = new Schedule(options, live => void this.#run(live))
  }

  /** Loads the records; what an earlier daemon did not finish is lost. */
  async start(): Promise<void> {
    await this.#records.load()
    for (const record of this.#records.all())
      if (record.endedAt === undefined)
        await this.#records.put({
          ...record,
          state: 'lost',
          reason: 'the daemon ended before the execution did',
          endedAt: new Date().toISOString(),
        })
  }

  /** Ends everything; within 3 s. */
  async stop(): Promise<void> {
    this.#stopping = true
    this.#schedule.stop()
    const ended = [...this.#live.values()].map(live => {
      this.#end(live, { state: 'lost', reason: 'the daemon was stopped' })
      return live.ended.promise
    })
    let timer: NodeJS.Timeout | undefined
    await Promise.race([
      Promise.all(ended),
      new Promise(resolve => {
        timer = setTimeout(resolve, 3_000)
      }),
    ])
    clearTimeout(timer)
  }

  /**
   * Resolves when the execution is durably on record.
   * @throws CatalogError `daemon-stopping`, `invalid-request`, `runtime-unavailable`, `sandbox-unavailable`, `exceeds-ceiling`, `busy`
   */
  async submit(spec: ExecutionSpec): Promise<ExecutionRecord> {
    await this.#admission.requireRuntime(spec)
    // From here to the record in memory nothing waits, so two submissions cannot take one place.
    this.#admission.requirePlace(spec, {
      ...this.#queue,
      idTaken: this.#records.get(spec.id) !== undefined,
    })
    return this.#admit(spec)
  }

  get(id: string): ExecutionRecord | undefined {
    return this.#records.get(id)
  }

  /** Oldest first. */
  list(): ExecutionRecord[] {
    return this.#records.all()
  }

  /**
   * Resolves when it has ended, at once where it already had.
   * @throws CatalogError `no-such-execution`
   */
  async cancel(id: string): Promise<ExecutionRecord> {
    const live = this.#live.get(id)
    if (live !== undefined) {
      this.#end(live, { state: 'cancelled', reason: 'it was cancelled' })
      await live.ended.promise
    }
    return this.#require(id)
  }

  /**
   * The states passed, what is kept of the outputs, then what comes, until the end. The signal ends the following alone.
   * @throws CatalogError `no-such-execution`
   */
  async *follow(id: string, options: CallOptions = {}): AsyncGenerator<ExecutionFollowed> {
    const record = this.#require(id)
    const live = this.#live.get(id)
    if (live !== undefined) return yield* live.output.follow(options.signal)
    const outputs = await this.logs(id)
    yield* keptOutput('stdout', outputs.stdout, record.stdoutBytes)
    yield* keptOutput('stderr', outputs.stderr, record.stderrBytes)
    yield { state: record.state }
  }

  /** @throws CatalogError `no-such-execution` */
  async logs(id: string): Promise<Readonly<Record<OutputStream, Uint8Array>>> {
    this.#require(id)
    return this.#live.get(id)?.output.outputs() ?? this.#records.outputs(id)
  }

  /** Whether such a demand could be run here at all, now or after a wait: what an offer to another node says. */
  canRun(demand: RunLimits, runtime: string): Promise<Fits> {
    return this.#admission.canRun(demand, runtime, this.#queue)
  }

  load(): {
    readonly queued: number
    readonly running: number
    readonly allocated: Shares
    readonly ceiling: Ceiling
  } {
    return {
      queued: this.#queue.waiting,
      running: this.#schedule.running,
      allocated: this.#schedule.allocated,
      ceiling: this.#options.ceiling,
    }
  }

  /** The names of the runtimes that can run here now. */
  runtimes(): Promise<string[]> {
    return this.#admission.available()
  }

  /** Waiting: in line, or on the way into it. */
  get #queue(): { readonly stopping: boolean; readonly waiting: number } {
    return { stopping: this.#stopping, waiting: this.#live.size - this.#schedule.running }
  }

  #require(id: string): ExecutionRecord {
    const record = this.#records.get(id)
    if (record === undefined)
      throw new CatalogError('no-such-execution', `There is no execution ${id} on this node.`, { id })
    return record
  }

  async #admit(spec: ExecutionSpec): Promise<ExecutionRecord> {
    const live = new LiveExecution(spec, this.#options.keptOutputBytes)
    this.#live.set(spec.id, live)
    live.output.state('queued')
    try {
      await this.#records.put(live.queuedRecord())
    } catch (error) {
      this.#live.delete(spec.id)
      throw error
    }
    this.#schedule.add(live)
    if (live.ending !== undefined || this.#stopping)
      this.#end(live, { state: 'lost', reason: 'the daemon was stopped' })
    live.after(spec.queueSeconds, () => {
      if (this.#records.get(spec.id)?.state === 'queued')
        this.#end(live, { state: 'timed-out', reason: 'it waited in the queue for its whole time' })
    })
    live.after(spec.totalSeconds, () =>
      this.#end(live, { state: 'timed-out', reason: 'its total time was over' }),
    )
    this.#schedule.pump()
    return this.#require(spec.id)
  }

  #end(live: LiveExecution, ending: Ending): void {
    live.ending ??= ending
    live.output.hurry()
    if (this.#schedule.withdraw(live)) void this.#finish(live, live.ending)
    else live.controller.abort(new CatalogError('cancelled', `Execution ${live.spec.id}: ${ending.reason}.`))
  }

  async #run(live: LiveExecution): Promise<void> {
    let result: RecordChange
    try {
      result = await perform(live.spec, this.#admission.runtime(live.spec.runtime) as Runtime, this.#deps, {
        signal: live.controller.signal,
        advance: change => this.#advance(live, change),
        onOutput: (stream, bytes) => live.output.append(stream, bytes),
      })
    } catch (error) {
      const failure = toCatalogError(error)
      result = live.ending ?? { state: 'failed', reason: failure.message, error: failure.toJSON() }
    }
    await this.#finish(live, result)
  }

  async #advance(live: LiveExecution, change: RecordChange): Promise<void> {
    const record = { ...this.#require(live.spec.id), ...change }
    live.output.state(record.state)
    await this.#records.put(record)
  }

  async #finish(live: LiveExecution, result: RecordChange): Promise<void> {
    const { id } = live.spec
    live.clearTimers()
    const stdout = live.output.kept('stdout')
    const stderr = live.output.kept('stderr')
    const record: ExecutionRecord = {
      ...this.#require(id),
      ...result,
      endedAt: new Date().toISOString(),
      stdoutBytes: stdout.total,
      stderrBytes: stderr.total,
      stdoutTruncated: stdout.total > stdout.bytes.length,
      stderrTruncated: stderr.total > stderr.bytes.length,
    }
    this.#schedule.release(live)
    try {
      await this.#records.put(record, { stdout: stdout.bytes, stderr: stderr.bytes })
    } catch (error) {
      // The answer stands in memory; after a restart the execution counts as lost.
      this.#deps.log.error({ error, id }, 'an execution ended and its record could not be stored')
    }
    live.output.state(record.state)
    live.output.end()
    this.#live.delete(id)
    live.ended.resolve()
    this.#schedule.pump()
  }
}
