// The port that runs one payload: what a run asks for, what it may use, what came of it.
// Implementations: python-runtime.ts, wasm-runtime.ts; both run their payload in the sandbox and nowhere else.
// A payload's bad exit is an outcome; only a run that could not be had (no sandbox, no interpreter) is an error.

/** The payload's own limits; what a runtime needs for itself (an engine's memory, its threads) is added by it. */
export interface RunLimits {
  /** Cores, fractions allowed. */
  readonly cpuCores: number
  readonly memoryMb: number
  /** Bytes in the scratch directory and /tmp together, each file or directory counted as 4 KiB at least. */
  readonly storageMb: number
  /** Wall-clock seconds; CPU seconds are bounded by `runSeconds × cpuCores`. */
  readonly runSeconds: number
  /** Processes and threads at one time. */
  readonly processes: number
  /** Largest single file. */
  readonly fileMb: number
  /** Standard output and standard error together. */
  readonly outputBytes: number
}

export type OutputStream = 'stdout' | 'stderr'
export type LimitName = 'memory' | 'time' | 'output' | 'processes' | 'storage'

export interface RunRequest {
  /** Letters, digits, `-` and `_`, at most 64: names the run's directories and cgroups. */
  readonly id: string
  /** A plain directory made by StagingArea; its owner may be changed to the sandbox's uid, and it is used up by the run. */
  readonly packageDirectory: string
  /** A path inside the package. */
  readonly entrypoint: string
  readonly args: readonly string[]
  readonly env: Readonly<Record<string, string>>
  readonly input: Uint8Array
  readonly limits: RunLimits
  /** A directory under the scratch directory that is handed back when the run ends. */
  readonly outputs?: string
  readonly instance?: { readonly index: number; readonly count: number }
  /** Reading from the payload waits for the promise: a slow taker slows the payload, not this process. */
  onOutput(stream: OutputStream, bytes: Uint8Array): void | Promise<void>
  readonly signal: AbortSignal
}

export interface RunOutcome {
  /** The payload's exit code; 128 + n where signal n ended it, as a shell says it. Absent when we ended it. */
  readonly exitCode?: number
  /** The signal that ended it: 9 where we did. */
  readonly killedBy?: number
  /** The limit that ended it. */
  readonly limit?: LimitName
  /** `memoryMb` is the peak, file cache included where a cgroup counts it. */
  readonly used: { readonly cpuSeconds?: number; readonly memoryMb?: number; readonly wallSeconds: number }
  /** On the host, until `dispose`; absent where none was asked for, or the payload made none (or made a link of it). */
  readonly outputsDirectory?: string
  /** Removes the run's scratch directory, and the outputs with it. Safe to call twice. */
  dispose(): Promise<void>
}

export type Probe =
  | { readonly ok: true; readonly detail?: string }
  | { readonly ok: false; readonly reason: string }

export interface Runtime {
  readonly name: string
  probe(): Promise<Probe>
  /**
   * Resolves when the payload and every process it started are gone. An abort ends the payload and rejects with
   * the signal's reason.
   * @throws CatalogError `sandbox-unavailable`, `runtime-unavailable`, `not-executable`, `invalid-request`, `no-space`
   */
  run(request: RunRequest): Promise<RunOutcome>
}
