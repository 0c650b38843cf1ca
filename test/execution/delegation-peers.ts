// Two ends of delegation in one process: an executing node whose executor is a script of events, and a requesting
// node. The wire, the server and the mirror are the real ones.

import { CatalogError } from '../../src/base/errors.ts'
import type { CallOptions } from '../../src/base/lifecycle.ts'
import { silentLog } from '../../src/base/log.ts'
import { MemoryKeyValue } from '../../src/base/memory-key-value.ts'
import { DelegationServer, type Submission } from '../../src/execution/delegation-server.ts'
import { Delegations, defaultDelegationsOptions } from '../../src/execution/delegations.ts'
import { OutputLog } from '../../src/execution/executor/output-log.ts'
import type { ExecutionFollowed, ExecutionRecord, ExecutionState } from '../../src/execution/executor.ts'
import type { MemoryNetwork } from '../../src/network/memory-host.ts'

export const release = 'bafyr4ianzvzej3jom3nd7nnoozw5eqxxzbjvr2ab3sypdgxky52it6pigm'

/** Keeps executions as the real executor does, and lets the test say what happens to them. */
export class ScriptedExecutor {
  readonly records = new Map<string, ExecutionRecord>()
  readonly logs = new Map<string, OutputLog<ExecutionState>>()
  submitted = 0
  keptBytes = 1024 * 1024

  async submit({ id, release }: Submission, requester: string): Promise<ExecutionRecord> {
    this.submitted += 1
    const allocated = { cpuCores: 1, memoryMb: 64, storageMb: 16, runSeconds: 10 }
    const record = {
      id,
      release,
      name: 'work',
      version: '1.0.0',
      runtime: 'wasm',
      requester,
      allocated,
      state: 'queued',
      createdAt: '2026-01-01T00:00:00.000Z',
    } as const
    this.records.set(id, record)
    this.logs.set(id, new OutputLog(this.keptBytes))
    this.log(id).state('queued')
    return record
  }

  log(id: string): OutputLog<ExecutionState> {
    return this.logs.get(id) as OutputLog<ExecutionState>
  }

  get(id: string): ExecutionRecord | undefined {
    return this.records.get(id)
  }

  advance(id: string, change: Partial<ExecutionRecord> & { readonly state: ExecutionState }): void {
    this.records.set(id, { ...(this.get(id) as ExecutionRecord), ...change })
    this.log(id).state(change.state)
    if (change.endedAt !== undefined) this.log(id).end()
  }

  end(id: string, change: Partial<ExecutionRecord> = {}): void {
    this.advance(id, { state: 'succeeded', exitCode: 0, endedAt: '2026-01-01T00:00:01.000Z', ...change })
  }

  async cancel(id: string): Promise<ExecutionRecord> {
    this.end(id, { state: 'cancelled' })
    return this.get(id) as ExecutionRecord
  }

  async *follow(id: string, { signal }: CallOptions = {}): AsyncGenerator<ExecutionFollowed> {
    if (this.get(id) === undefined)
      throw new CatalogError('no-such-execution', `There is no execution ${id}.`)
    yield* this.log(id).follow(signal)
  }
}

export function executing(
  network: MemoryNetwork,
  offers = true,
  peer?: string,
  host = network.createHost(peer),
) {
  const executor = new ScriptedExecutor()
  new DelegationServer({
    host,
    executor,
    offers,
    offer: async () => ({ fits: true, queued: 0, running: 0 }),
    submit: (submission, requester) => executor.submit(submission, requester),
    log: silentLog,
  })
  return { host, executor, peer: host.peer }
}

export function requesting(
  network: MemoryNetwork,
  options: Partial<typeof defaultDelegationsOptions> = {},
  records = new MemoryKeyValue(),
) {
  const host = network.createHost()
  const delegations = new Delegations(
    { host, records, log: silentLog },
    { ...defaultDelegationsOptions, retryMs: 20, lostAfterMs: 300, probeMs: 100, ...options },
  )
  return { host, delegations, records, peer: host.peer }
}

export const submissionOf = (id: string, input = new Uint8Array(0)): Submission => ({
  id,
  release,
  args: ['a'],
  env: { MODE: 'x' },
  input,
})

export const about = { name: 'work', version: '1.0.0', runtime: 'wasm' }
