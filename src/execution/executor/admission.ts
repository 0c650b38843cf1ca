// What this node takes on: whether a demand fits under its ceiling, its queue has a place, and a runtime can run it.
// An offer to another node asks the same as a submission, and changes nothing.
import { CatalogError } from '../../base/errors.ts'
import type { ExecutionSpec } from '../executor.ts'
import type { RunLimits, Runtime } from '../runtime.ts'
import { type Ceiling, overCeiling } from './allocations.ts'

export type Fits = { readonly fits: true } | { readonly fits: false; readonly reason: string }

/** The queue at the moment of the question. */
export interface QueueView {
  readonly stopping: boolean
  readonly waiting: number
}

export class Admission {
  readonly #runtimes: readonly Runtime[]
  readonly #ceiling: Ceiling
  readonly #queueLength: number

  constructor(
    runtimes: readonly Runtime[],
    limits: { readonly ceiling: Ceiling; readonly queueLength: number },
  ) {
    this.#runtimes = runtimes
    this.#ceiling = limits.ceiling
    this.#queueLength = limits.queueLength
  }

  runtime(name: string): Runtime | undefined {
    return this.#runtimes.find(runtime => runtime.name === name)
  }

  /** The names of the runtimes that can run here now. */
  async available(): Promise<string[]> {
    const names: string[] = []
    for (const runtime of this.#runtimes) if ((await runtime.probe()).ok) names.push(runtime.name)
    return names
  }

  /** Whether such a demand could be run here at all, now or after a wait. */
  async canRun(demand: RunLimits, runtime: string, queue: QueueView): Promise<Fits> {
    const over = overCeiling(demand, this.#ceiling)
    if (over !== undefined) return { fits: false, reason: over }
    if (queue.stopping) return { fits: false, reason: 'the node is stopping' }
    if (queue.waiting >= this.#queueLength) return { fits: false, reason: 'the queue is full' }
    const probe = await this.runtime(runtime)?.probe()
    if (probe === undefined) return { fits: false, reason: `there is no runtime ${runtime}` }
    return probe.ok ? { fits: true } : { fits: false, reason: probe.reason }
  }

  /** @throws CatalogError `runtime-unavailable`, `sandbox-unavailable` */
  async requireRuntime({ runtime, name, version }: ExecutionSpec): Promise<void> {
    const probe = await this.runtime(runtime)?.probe()
    if (probe?.ok === true) return
    const reason = probe?.reason ?? 'it has no such runtime'
    const code = reason.startsWith('no sandbox') ? 'sandbox-unavailable' : 'runtime-unavailable'
    throw new CatalogError(code, `This node cannot run ${name}@${version} (${runtime}): ${reason}.`, {
      runtime,
      reason,
    })
  }

  /**
   * At once, so that two submissions cannot take one place.
   * @throws CatalogError `daemon-stopping`, `invalid-request`, `exceeds-ceiling`, `busy`
   */
  requirePlace(spec: ExecutionSpec, queue: QueueView & { readonly idTaken: boolean }): void {
    const what = `${spec.name}@${spec.version}`
    if (queue.stopping)
      throw new CatalogError('daemon-stopping', `Cannot execute ${what}: the node is stopping.`)
    if (!/^[A-Za-z0-9_-]{1,64}$/.test(spec.id) || queue.idTaken)
      throw new CatalogError('invalid-request', `Cannot execute ${what}: ${spec.id} is no new execution id.`)
    const over = overCeiling(spec.limits, this.#ceiling)
    if (over !== undefined)
      throw new CatalogError(
        'exceeds-ceiling',
        `Cannot execute ${what} here: ${over}. Ask another node, or raise the ceiling in its configuration.`,
        { demand: over },
      )
    if (queue.waiting >= this.#queueLength)
      throw new CatalogError(
        'busy',
        `Cannot execute ${what} now: ${queue.waiting} executions are waiting. Try again later.`,
      )
  }
}
