// One execution from its place in the queue to its result: lays out the package, runs it, keeps what it made.
import type { ExecutionRecord, ExecutionSpec, ExecutionState, ExecutorDeps } from '../executor.ts'
import type { OutputStream, RunOutcome, Runtime } from '../runtime.ts'

export type RecordChange = Partial<ExecutionRecord> & { readonly state: ExecutionState }

export interface Performance {
  readonly signal: AbortSignal
  /** Puts a new state on record. */
  advance(change: RecordChange): Promise<void>
  onOutput(stream: OutputStream, bytes: Uint8Array): Promise<void>
}

/** What the record says at the end; rejects where the payload could not be run, and with the signal's reason. */
export async function perform(
  spec: ExecutionSpec,
  runtime: Runtime,
  deps: Pick<ExecutorDeps, 'stage' | 'keepOutputs'>,
  { signal, advance, onOutput }: Performance,
): Promise<RecordChange> {
  await advance({ state: 'fetching' })
  const staged = await deps.stage(spec, { signal })
  try {
    signal.throwIfAborted()
    await advance({ state: 'running', startedAt: new Date().toISOString() })
    const outcome = await runtime.run({ ...spec, packageDirectory: staged.directory, onOutput, signal })
    try {
      return await judge(outcome, spec.id, deps)
    } finally {
      await outcome.dispose()
    }
  } finally {
    await staged.dispose()
  }
}

async function judge(
  outcome: RunOutcome,
  id: string,
  deps: Pick<ExecutorDeps, 'keepOutputs'>,
): Promise<RecordChange> {
  const { exitCode, killedBy, limit, used, outputsDirectory } = outcome
  const code = exitCode ?? (killedBy === undefined ? undefined : 128 + killedBy)
  const kept = outputsDirectory === undefined ? undefined : await deps.keepOutputs(outputsDirectory, id)
  return {
    state: code === 0 && limit === undefined ? 'succeeded' : 'failed',
    ...(code === undefined ? {} : { exitCode: code }),
    ...(limit === undefined ? {} : { limit, reason: `it reached its limit: ${limit}` }),
    used,
    ...(kept === undefined ? {} : { resultRoot: kept.root }),
  }
}
