// The sandbox: runs one command under hard limits, out of sight of the host, and leaves nothing behind.
// Owns the tier (what this machine allows), the self-test at start, slots of dedicated uids, and every clean-up.
// Does not know languages: python-runtime.ts and wasm-runtime.ts bring the command.
//
// Tiers: `strong` (daemon of root's, with cgroups): a uid of its own for each run, cgroup limits on memory, CPU and
// processes. `user` (anything less): our own uid mapped to nobody in a user namespace, a delegated cgroup where
// there is one, else resource limits and accounting from outside. `none`: the self-test failed, nothing is run.
//
// Storage is accounted from outside (the directories' blocks, every 100 ms and at the end) over a hard limit per
// file, not by a bounded tmpfs: a tmpfs would count as memory, and demands for storage exceed memory by far.

import { constants } from 'node:fs'
import { access } from 'node:fs/promises'
import { setTimeout as sleep } from 'node:timers/promises'
import { CatalogError } from '../base/errors.ts'
import type { Log } from '../base/log.ts'
import type { RunOutcome, RunRequest } from './runtime.ts'
import { type ControlGroups, findControlGroups } from './sandbox/cgroup.ts'
import { systemTools } from './sandbox/command.ts'
import { HostFiles } from './sandbox/host-files.ts'
import { type Command, type RunContext, runSandboxed } from './sandbox/run.ts'
import { SandboxLeak, selfTest } from './sandbox/self-test.ts'
import { UidSlots } from './sandbox/uid-slots.ts'
import { homeTag, type StagingArea } from './staging.ts'

export type Tier = 'strong' | 'user' | 'none'

export interface SandboxOptions {
  /** The node's home; it names the cgroups, so that two daemons on one machine never clean up each other's. */
  readonly home: string
  /** Where bubblewrap is. */
  readonly bwrap: string
  /** Refuse to run in anything less than the strong tier. */
  readonly requireStrong: boolean
  /** Runs at one time; each holds a uid in the strong tier. */
  readonly slots: number
}

export const defaultSandboxOptions: Omit<SandboxOptions, 'home'> = {
  bwrap: systemTools.bwrap,
  requireStrong: false,
  slots: 64,
}

export interface SandboxState {
  readonly tier: Tier
  /** Why it is not the strong tier, or why nothing can be run. */
  readonly reason?: string
}

const startAttempts = 3

export class Sandbox {
  readonly #staging: StagingArea
  readonly #log: Log
  readonly #options: SandboxOptions
  readonly #running = new Set<Promise<unknown>>()
  readonly #stopping = new AbortController()
  #state: SandboxState = { tier: 'none', reason: 'the sandbox was not started' }
  #context: RunContext | undefined

  constructor(deps: { staging: StagingArea; log: Log }, options: SandboxOptions) {
    this.#staging = deps.staging
    this.#log = deps.log
    this.#options = options
  }

  get state(): SandboxState {
    return this.#state
  }

  /** Finds the tier, clears what a killed daemon left and runs the self-test. A machine without a sandbox is a state, not an error. */
  async start(): Promise<void> {
    for (let attempt = 1; attempt <= startAttempts && this.#context === undefined; attempt++) {
      // What a killed daemon left may still be dying, and a busy machine may not let a canary reach its limit in time.
      if (attempt > 1) await sleep(attempt * 200)
      try {
        await this.#staging.start()
        const { context, state } = await this.#prepare()
        await selfTest(context, this.#options.home)
        this.#context = context
        this.#state = state
      } catch (error) {
        this.#state = { tier: 'none', reason: (error as Error).message }
        // A canary that got out once is enough.
        if (error instanceof SandboxLeak) break
      }
    }
    if (this.#context === undefined)
      this.#log.warn({ reason: this.#state.reason }, 'no sandbox: nothing is executed on this node')
  }

  /** Ends every run; within 3 s. */
  async stop(): Promise<void> {
    this.#stopping.abort(new CatalogError('daemon-stopping', 'The daemon is stopping; the run was ended.'))
    await Promise.allSettled(this.#running)
    this.#context = undefined
    this.#state = { tier: 'none', reason: 'the sandbox is stopped' }
    await this.#staging.stop()
  }

  /** @throws CatalogError `sandbox-unavailable` */
  async run(command: Command, request: RunRequest): Promise<RunOutcome> {
    if (this.#context === undefined)
      throw new CatalogError(
        'sandbox-unavailable',
        `Cannot run ${request.id}: no sandbox on this node (${this.#state.reason}). Nothing is run without one.`,
        { reason: this.#state.reason },
      )
    const signal = AbortSignal.any([request.signal, this.#stopping.signal])
    const running = runSandboxed(this.#context, command, { ...request, signal })
    this.#running.add(running)
    try {
      return await running
    } finally {
      this.#running.delete(running)
    }
  }

  async #prepare(): Promise<{ context: RunContext; state: SandboxState }> {
    const { bwrap, home, requireStrong, slots } = this.#options
    await this.#requireTools(bwrap)
    const root = process.getuid?.() === 0
    const groupPrefix = `catalog-${homeTag(home)}-`
    const found = findControlGroups(`${groupPrefix}probe-${process.pid}`)
    const groups: ControlGroups | undefined = 'reason' in found ? undefined : found
    await groups?.removeStale(groupPrefix)
    const reason =
      'reason' in found
        ? `no control groups: ${found.reason}`
        : root
          ? undefined
          : 'the daemon does not run as root'
    if (requireStrong && reason !== undefined)
      throw new Error(`the configuration requires the strong sandbox, and ${reason}`)
    return {
      context: {
        bwrap,
        groupPrefix,
        groups,
        staging: this.#staging,
        uids: root ? UidSlots.find(homeTag(home), slots) : undefined,
        files: new HostFiles(this.#staging, { copyUnreachable: root }),
      },
      state: reason === undefined ? { tier: 'strong' } : { tier: 'user', reason },
    }
  }

  async #requireTools(bwrap: string): Promise<void> {
    if (process.platform !== 'linux')
      throw new Error(`the sandbox is made of Linux namespaces, and this is ${process.platform}`)
    const tools = { ...systemTools, bwrap }
    for (const [name, path] of Object.entries(tools)) {
      if (name === 'setpriv' && process.getuid?.() !== 0) continue
      await access(path, constants.X_OK).catch(() => {
        const hint = name === 'bwrap' ? 'Install bubblewrap' : 'Install util-linux and coreutils'
        throw new Error(
          `${path} is missing. ${hint} from the distribution's packages, then restart the daemon`,
        )
      })
    }
  }
}
