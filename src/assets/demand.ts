// What an execution of a package asks of a node, and what a node starts: a manifest's two descriptions (resources
// and execution) as one demand, with a default for everything that the author left out.
import { CatalogError } from '../base/errors.ts'
import type { ExecutionSpec, Manifest, Runtime } from './manifest.ts'

/** For one instance, except `minNodes` and `maxNodes`. Memory is the payload's own: the runtime's need is added by who runs it. */
export interface Demand {
  readonly cpuCores: number
  /** Absent: any. */
  readonly cpuArchitecture?: string | undefined
  /** MiB. */
  readonly gpuMemoryMb: number
  readonly gpuType?: string | undefined
  readonly gpuRequired: boolean
  /** MiB. */
  readonly memoryMb: number
  /** MiB of scratch space. */
  readonly storageMb: number
  /** Mbit/s. */
  readonly networkBandwidthMbps: number
  readonly minNodes: number
  readonly maxNodes: number
  /** Seconds a payload may run, an execution may wait, and both together. */
  readonly runSeconds: number
  readonly queueSeconds: number
  readonly totalSeconds: number
}

/** What a manifest that says nothing asks for: enough for a small script, little enough for any node. */
export const defaultDemand = {
  cpuCores: 1,
  memoryMb: 256,
  storageMb: 64,
  runSeconds: 60,
  /** A queue that has not moved in a minute is better told than waited for. */
  queueSeconds: 60,
} as const

/** Where both `resources` and `execution` give an amount, the larger is demanded. */
export function demandOf(manifest: Manifest): Demand {
  const { resources, execution } = manifest.spec
  const larger = (key: 'cpu_cores' | 'gpu_memory_mb' | 'memory_mb' | 'storage_mb', silent: number) => {
    const amounts = [resources[key], execution[key]].filter(amount => amount !== undefined)
    return amounts.length === 0 ? silent : Math.max(...amounts)
  }
  const architecture = execution.cpu_architecture ?? resources.cpu_architecture
  const gpuType = execution.gpu_type ?? resources.gpu_type
  const { queue_seconds, run_seconds, total_seconds } = execution.timeout_config ?? {}
  const runSeconds =
    run_seconds ?? Math.min(total_seconds ?? defaultDemand.runSeconds, defaultDemand.runSeconds)
  const queueSeconds = queue_seconds ?? defaultDemand.queueSeconds
  const minNodes = execution.min_nodes ?? 1
  return {
    cpuCores: larger('cpu_cores', defaultDemand.cpuCores),
    ...(architecture !== undefined && { cpuArchitecture: architecture }),
    gpuMemoryMb: larger('gpu_memory_mb', 0),
    ...(gpuType !== undefined && { gpuType }),
    gpuRequired: execution.gpu_required,
    memoryMb: larger('memory_mb', defaultDemand.memoryMb),
    storageMb: larger('storage_mb', defaultDemand.storageMb),
    networkBandwidthMbps: resources.network_bandwidth_mbps ?? 0,
    minNodes,
    maxNodes: Math.max(execution.max_nodes ?? minNodes, minNodes),
    runSeconds,
    queueSeconds,
    totalSeconds: total_seconds ?? runSeconds + queueSeconds,
  }
}

/** What is started, with which arguments and environment. */
export interface Executable {
  readonly runtime: Runtime
  /** A path in the package. */
  readonly entrypoint: string
  readonly args: readonly string[]
  readonly env: Readonly<Record<string, string>>
  /** A directory under the scratch directory that is kept as the result. */
  readonly outputs?: string
  readonly network: ExecutionSpec['network']
  readonly persistentStorage: boolean
  readonly julia?: NonNullable<ExecutionSpec['julia']>
}

/** @throws CatalogError `not-executable`, naming the fields that are missing. */
export function executableOf(manifest: Manifest): Executable {
  const { name, version } = manifest.metadata
  const { execution, type } = manifest.spec
  const { runtime, entrypoint, outputs, julia } = execution
  if (type === 'library')
    throw new CatalogError(
      'not-executable',
      `${name}@${version} cannot be executed: it is a library. Execute a package that depends on it.`,
      { name, version },
    )
  if (runtime === undefined || entrypoint === undefined) {
    const missing = [
      ...(runtime === undefined ? ['spec.execution.runtime'] : []),
      ...(entrypoint === undefined ? ['spec.execution.entrypoint'] : []),
    ]
    throw new CatalogError(
      'not-executable',
      `${name}@${version} cannot be executed: its manifest has no ${missing.join(' and no ')}. Publish a version that has.`,
      { name, version, missing },
    )
  }
  return {
    runtime,
    entrypoint,
    args: execution.args,
    env: execution.env,
    ...(outputs !== undefined && { outputs }),
    network: execution.network,
    persistentStorage: execution.persistent_storage,
    ...(julia !== undefined && { julia }),
  }
}
