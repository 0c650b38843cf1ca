// Watches one run for the limits that nothing enforces by itself or that the kernel enforces silently, and names the
// first one that was hit. Ends nothing itself: it tells `onLimit`, once.

import { statSync } from 'node:fs'
import { statfs } from 'node:fs/promises'
import type { LimitName } from '../runtime.ts'
import { diskUsage, processTree, proportionalMemory, treeUsage, unlinkedBytes } from './accounting.ts'
import type { ControlGroup } from './cgroup.ts'

const mib = 1024 * 1024
/** Node.js fires a timer of more than this at once. */
const longestTimerMs = 2 ** 31 - 1
const pollMs = { counted: 100, uncounted: 50 }
/** Below this much free space on the staging disk every run ends: the daemon's store needs it to stay consistent. */
const freeReserveBytes = 256 * mib

export interface WatchLimits {
  readonly memoryMb: number
  readonly processes: number
  readonly cpuSeconds: number
  readonly storageBytes: number
  readonly runSeconds: number
}

export interface Watched {
  /** bwrap's process id on the host. */
  readonly pid: number
  readonly group: ControlGroup | undefined
  readonly writable: readonly string[]
}

export interface Usage {
  readonly cpuSeconds?: number
  readonly memoryMb?: number
}

export class Watch {
  readonly #run: Watched
  readonly #limits: WatchLimits
  readonly #onLimit: (limit: LimitName) => void
  readonly #wall: NodeJS.Timeout
  #poll: NodeJS.Timeout | undefined
  #hit: LimitName | undefined
  #ended = false
  #cpuSeconds = 0
  #memoryMb = 0

  constructor(run: Watched, limits: WatchLimits, onLimit: (limit: LimitName) => void) {
    this.#run = run
    this.#limits = limits
    this.#onLimit = onLimit
    this.#wall = setTimeout(() => this.hit('time'), Math.min(limits.runSeconds * 1000, longestTimerMs))
    this.#next(this.#pollMs)
  }

  get limit(): LimitName | undefined {
    return this.#hit
  }

  hit(limit: LimitName): void {
    if (this.#hit !== undefined || this.#ended) return
    this.#hit = limit
    this.#onLimit(limit)
  }

  /** The last look, after the payload has gone: a limit that was hit between two looks is still told. */
  async end(exitCode: number | undefined): Promise<Usage> {
    clearTimeout(this.#wall)
    clearTimeout(this.#poll)
    const limit = this.#hit ?? this.#counted() ?? limitOfSignal(exitCode) ?? (await this.#stored([]))
    this.#ended = true
    this.#hit = limit
    const counted = this.#run.group?.counters()
    const cpuSeconds = counted?.cpuSeconds ?? this.#cpuSeconds
    const memoryMb = counted?.peakMemoryMb ?? this.#memoryMb
    return {
      ...(cpuSeconds > 0 ? { cpuSeconds: round(cpuSeconds) } : {}),
      ...(memoryMb > 0 ? { memoryMb: round(memoryMb) } : {}),
    }
  }

  get #pollMs(): number {
    return this.#run.group === undefined ? pollMs.uncounted : pollMs.counted
  }

  #next(delayMs: number): void {
    this.#poll = setTimeout(() => void this.#look(), delayMs)
  }

  async #look(): Promise<void> {
    const started = performance.now()
    // The wall timer stands whatever goes wrong here, and the last look reports.
    const limit = await this.#measure().catch(() => undefined)
    if (this.#ended || this.#hit !== undefined) return
    if (limit !== undefined) return this.hit(limit)
    // A tree that is slow to walk is walked less often, so that it takes at most half of the daemon's time.
    this.#next(Math.max(this.#pollMs, performance.now() - started))
  }

  async #measure(): Promise<LimitName | undefined> {
    const pids = processTree(this.#run.pid, 4 * this.#limits.processes + 64)
    return this.#counted() ?? this.#uncounted(pids) ?? (await this.#stored(pids))
  }

  /** What the cgroup's counters say. */
  #counted(): LimitName | undefined {
    if (this.#run.group === undefined) return undefined
    const { memoryKills, processRefusals, cpuSeconds } = this.#run.group.counters()
    if (memoryKills > 0) return 'memory'
    if (processRefusals > 0) return 'processes'
    return (cpuSeconds ?? 0) > this.#limits.cpuSeconds ? 'time' : undefined
  }

  /** The same from /proc, where there is no cgroup. */
  #uncounted(pids: readonly number[]): LimitName | undefined {
    if (this.#run.group !== undefined) return undefined
    const { threads, cpuSeconds, memoryBytes } = treeUsage(pids)
    this.#cpuSeconds = Math.max(this.#cpuSeconds, cpuSeconds)
    this.#memoryMb = Math.max(this.#memoryMb, memoryBytes / mib)
    if (threads > this.#limits.processes) return 'processes'
    if (cpuSeconds > this.#limits.cpuSeconds) return 'time'
    const limit = this.#limits.memoryMb * mib
    return memoryBytes > limit && (proportionalMemory(pids) ?? memoryBytes) > limit ? 'memory' : undefined
  }

  async #stored(pids: readonly number[]): Promise<LimitName | undefined> {
    const [first] = this.#run.writable
    if (first === undefined) return undefined
    const { storageBytes } = this.#limits
    const unlinked = unlinkedBytes(pids, statSync(first).dev)
    if (unlinked + (await diskUsage(this.#run.writable, storageBytes)) > storageBytes) return 'storage'
    const { bavail, bsize } = await statfs(first)
    return bavail * bsize < freeReserveBytes ? 'storage' : undefined
  }
}

const round = (value: number): number => Math.round(value * 1000) / 1000

/** SIGXCPU and SIGXFSZ are sent by the kernel for a resource limit and for nothing else. */
const limitOfSignal = (exitCode: number | undefined): LimitName | undefined =>
  exitCode === 128 + 24 ? 'time' : exitCode === 128 + 25 ? 'storage' : undefined
