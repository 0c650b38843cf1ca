// One execution that has not ended: its signal, its outputs, its clocks, and how it is to end. What starts it and what
// puts it on record is the executor's matter.
import type { ExecutionRecord, ExecutionSpec, ExecutionState } from '../executor.ts'
import { OutputLog } from './output-log.ts'
import type { Priority } from './waiting-line.ts'

/** How a live execution is to end when its signal fires. */
export interface Ending {
  readonly state: 'cancelled' | 'timed-out' | 'lost'
  readonly reason: string
}

export class LiveExecution {
  readonly spec: ExecutionSpec
  readonly priority: Priority
  readonly since = Date.now()
  readonly controller = new AbortController()
  readonly output: OutputLog<ExecutionState>
  readonly ended = Promise.withResolvers<void>()
  readonly #timers: NodeJS.Timeout[] = []
  ending: Ending | undefined

  constructor(spec: ExecutionSpec, keptOutputBytes: number) {
    this.spec = spec
    this.priority = spec.priority
    this.output = new OutputLog(keptOutputBytes)
  }

  /** Its first record. */
  queuedRecord(): ExecutionRecord {
    const { id, release, name, version, runtime, requester, limits } = this.spec
    const { cpuCores, memoryMb, storageMb, runSeconds } = limits
    return {
      id,
      release,
      name,
      version,
      runtime,
      requester,
      state: 'queued',
      allocated: { cpuCores, memoryMb, storageMb, runSeconds },
      createdAt: new Date(this.since).toISOString(),
    }
  }

  after(seconds: number, act: () => void): void {
    // Node.js fires a timer of more than 2^31 ms at once.
    this.#timers.push(setTimeout(act, Math.min(seconds * 1000, 2 ** 31 - 1)).unref())
  }

  clearTimers(): void {
    for (const timer of this.#timers) clearTimeout(timer)
  }
}
