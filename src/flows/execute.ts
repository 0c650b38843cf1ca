// execute: runs a release's payload on the node that suits: here, on a named peer, or on whichever offers.
//
//   Request -resolve-> Release -manifest-> Demand, Executable -choose-> here | peer
//     here  -submit-> Executor -fetch, stage, sandbox-> Outcome
//     peer  -delegate-> the same there, mirrored here
import { type Demand, demandOf, executableOf } from '../assets/demand.ts'
import type { Manifest } from '../assets/manifest.ts'
import {
  invalidManifestError,
  manifestFormatOf,
  parseManifest,
  validateManifestValue,
} from '../assets/parse-manifest.ts'
import { CatalogError, isCatalogError } from '../base/errors.ts'
import type { CallOptions } from '../base/lifecycle.ts'
import type { Offer } from '../execution/delegation-protocol.ts'
import type { Submission } from '../execution/delegation-server.ts'
import type { Delegations } from '../execution/delegations.ts'
import type { ExecutionRecord, ExecutionSpec, Executor } from '../execution/executor.ts'
import type { RunLimits } from '../execution/runtime.ts'
import type { Release } from './resolve.ts'

export interface ExecuteDeps {
  readonly self: string
  /** Whether this node runs for its own user, and for others. */
  readonly local: boolean
  readonly offer: boolean
  readonly limits: { readonly processes: number; readonly outputBytes: number }
  readonly executor: Pick<Executor, 'submit' | 'canRun' | 'load'>
  readonly delegations: Pick<Delegations, 'submit' | 'askOffer' | 'list'>
  readonly peers: () => readonly string[]
  readonly resolve: (
    ref: string,
    options: CallOptions & { publisher?: string | undefined; allowStale?: boolean | undefined },
  ) => Promise<{ readonly release: Release; readonly warnings: readonly string[] }>
  /** Bytes of one file of a release, fetched first where it is not here. */
  readonly readFile: (release: Release, path: string, options: CallOptions) => Promise<Uint8Array>
}

export interface ExecuteRequest extends Omit<Submission, 'release'> {
  readonly ref: string
  /** `auto`, `local` or a peer id. */
  readonly on: string
  readonly publisher?: string | undefined
  readonly allowStale?: boolean | undefined
}

export interface Started extends ExecutionRecord {
  readonly peer: string
  /** What one should know of the release. */
  readonly warnings?: readonly string[]
}

/** Peers asked for an offer at once. */
const maxPeersAsked = 32

/**
 * Resolves once the execution is on record.
 * @throws CatalogError `not-executable`, `no-node-fits` (with each node's reason), `forbidden`, `exceeds-ceiling`,
 *   `runtime-unavailable`, `sandbox-unavailable`, `not-offered`, `peer-unreachable`, and what resolving throws
 */
export async function execute(
  deps: ExecuteDeps,
  request: ExecuteRequest,
  options: CallOptions = {},
): Promise<Started> {
  const { ref, allowStale, publisher, ...rest } = request
  const { release, warnings } = await deps.resolve(ref, { ...options, publisher, allowStale })
  const record = await submitRelease(deps, release, rest, ref, options)
  return { ...record, ...(warnings.length === 0 ? {} : { warnings }) }
}

async function submitRelease(
  deps: ExecuteDeps,
  release: Release,
  { on, ...rest }: Omit<ExecuteRequest, 'ref' | 'publisher' | 'allowStale'>,
  ref: string,
  options: CallOptions,
): Promise<ExecutionRecord & { readonly peer: string }> {
  const submission: Submission = { ...rest, release: release.id }
  const manifest = await manifestOf(deps, release, options)
  const about = {
    name: release.statement.name,
    version: release.statement.version,
    runtime: executableOf(manifest).runtime,
  }
  const here = async () => ({
    ...(await submitHere(deps, release, manifest, submission, deps.self)),
    peer: deps.self,
  })
  const there = (peer: string) => deps.delegations.submit(peer, submission, about, options)
  if (on === 'local' || on === deps.self) {
    if (!deps.local)
      throw new CatalogError(
        'forbidden',
        'This node does not run executions for its own user: execution.local is false in its config. Use --on auto or a peer id.',
      )
    return here()
  }
  if (on !== 'auto') return there(on)
  const { offers, reasons } = await collectOffers(
    deps,
    about.runtime,
    demandFor(manifest, rest.runSeconds),
    options,
  )
  for (const { peer } of offers) {
    try {
      return await there(peer)
    } catch (error) {
      // It fitted a moment ago and does not any more: the next may.
      if (!isCatalogError(error) || error.code === 'cancelled') throw error
      reasons.push(`${peer}: ${error.message}`)
    }
  }
  if (deps.local) return hereInstead(here, reasons)
  throw nobodyFits(ref, reasons)
}

// Without a peer that fits, the asked node is one more candidate.
async function hereInstead<T>(here: () => Promise<T>, reasons: readonly string[]): Promise<T> {
  try {
    return await here()
  } catch (error) {
    if (reasons.length === 0 || !isCatalogError(error)) throw error
    throw new CatalogError(
      error.code,
      `${error.message} No other node took it either: ${reasons.join('; ')}`,
      error.data,
      error,
    )
  }
}

const nobodyFits = (ref: string, reasons: readonly string[]) =>
  new CatalogError(
    'no-node-fits',
    `No connected node offers to execute ${ref}${reasons.length === 0 ? '' : `: ${reasons.join('; ')}`}. Connect to a node that runs with --offer-execution, or allow execution.local here.`,
    { ref, reasons },
  )

/** Offers of connected peers, the least loaded first. */
async function collectOffers(deps: ExecuteDeps, runtime: string, demand: Demand, options: CallOptions) {
  const reasons: string[] = []
  const asked = deps.peers().slice(0, maxPeersAsked)
  const answers = await Promise.all(
    asked.map(async peer => ({
      peer,
      offer: await deps.delegations.askOffer(peer, runtime, demand, options),
    })),
  )
  options.signal?.throwIfAborted()
  const fitting = answers.filter((answer): answer is { peer: string; offer: Offer } => {
    if (answer.offer?.fits === false)
      reasons.push(`${answer.peer}: ${answer.offer.reason ?? 'it does not fit'}`)
    return answer.offer?.fits === true
  })
  // What this node has just handed over may not show in an answer yet; and where all are equal, chance spreads.
  const handedOver = (peer: string) =>
    deps.delegations.list().filter(record => record.peer === peer && record.endedAt === undefined).length
  const ranked = fitting.map(({ peer, offer }) => ({
    peer,
    load: Math.max(offer.queued + offer.running, handedOver(peer)),
    chance: Math.random(),
  }))
  return { offers: ranked.sort((a, b) => a.load - b.load || a.chance - b.chance), reasons }
}

/** Another node's question whether this one would run something now. */
export async function answerOffer(
  deps: ExecuteDeps,
  question: { runtime: string; demand: Demand },
): Promise<Offer> {
  const { queued, running } = deps.executor.load()
  if (!deps.offer) return { fits: false, reason: 'it does not offer execution', queued, running }
  const misfit = unmetDemand(question.demand)
  const fits =
    misfit === undefined
      ? await deps.executor.canRun(limitsOf(deps, question.demand), question.runtime)
      : { fits: false as const, reason: misfit }
  return fits.fits ? { fits: true, queued, running } : { fits: false, reason: fits.reason, queued, running }
}

/** Another node's execution. @throws CatalogError `not-offered` and what `submitHere` throws */
export async function acceptDelegated(
  deps: ExecuteDeps,
  submission: Submission,
  requester: string,
  options: CallOptions = {},
): Promise<ExecutionRecord> {
  if (!deps.offer)
    throw new CatalogError(
      'not-offered',
      'It does not offer execution to others: execution.offer is false in its config.',
    )
  const { release } = await deps.resolve(submission.release, options)
  return submitHere(deps, release, await manifestOf(deps, release, options), submission, requester)
}

async function submitHere(
  deps: ExecuteDeps,
  release: Release,
  manifest: Manifest,
  submission: Submission,
  requester: string,
): Promise<ExecutionRecord> {
  const demand = demandFor(manifest, submission.runSeconds)
  const misfit = unmetDemand(demand)
  if (misfit !== undefined)
    throw new CatalogError('exceeds-ceiling', `${release.statement.name} cannot run here: ${misfit}.`)
  const { runtime, entrypoint, args, env, outputs } = executableOf(manifest)
  const { execution } = manifest.spec
  const spec: ExecutionSpec = {
    id: submission.id,
    release: release.id,
    name: release.statement.name,
    version: release.statement.version,
    runtime,
    entrypoint,
    args: [...args, ...submission.args],
    env: { ...env, ...submission.env },
    input: submission.input,
    limits: limitsOf(deps, demand),
    requester,
    priority: execution.priority,
    queueSeconds: demand.queueSeconds,
    totalSeconds: demand.totalSeconds,
    ...(outputs === undefined ? {} : { outputs }),
    ...(execution.max_concurrent === undefined ? {} : { maxConcurrent: execution.max_concurrent }),
  }
  return deps.executor.submit(spec)
}

/** The manifest's demand; a shorter or longer run that the user asks for replaces its time. */
function demandFor(manifest: Manifest, runSeconds: number | undefined): Demand {
  const demand = demandOf(manifest)
  if (runSeconds === undefined) return demand
  return {
    ...demand,
    runSeconds,
    totalSeconds: Math.max(demand.totalSeconds, runSeconds + demand.queueSeconds),
  }
}

/** What no node of ours has yet; said rather than ignored. */
function unmetDemand({ gpuRequired, gpuMemoryMb, cpuArchitecture, minNodes }: Demand): string | undefined {
  if (gpuRequired || gpuMemoryMb > 0) return 'it has no GPU to offer'
  if (minNodes > 1) return `it asks for ${minNodes} nodes, and distributed execution is not available yet`
  const own = process.arch === 'x64' ? 'x86_64' : process.arch === 'arm64' ? 'aarch64' : process.arch
  if (cpuArchitecture !== undefined && cpuArchitecture !== own && cpuArchitecture !== process.arch)
    return `it has a ${own} processor, not ${cpuArchitecture}`
  return undefined
}

const limitsOf = (
  { limits }: ExecuteDeps,
  { cpuCores, memoryMb, storageMb, runSeconds }: Demand,
): RunLimits => ({
  cpuCores,
  memoryMb,
  storageMb: Math.max(1, storageMb),
  runSeconds,
  processes: limits.processes,
  // The scratch directory's limit holds anyway; this one is the kernel's, and has a ceiling of its own.
  fileMb: Math.min(4096, Math.max(1, storageMb)),
  outputBytes: limits.outputBytes,
})

/** The manifest inside the record, or read from the content where it was too large for that. */
export async function manifestOf(
  deps: Pick<ExecuteDeps, 'readFile'>,
  { statement, ...release }: Release,
  options: CallOptions,
): Promise<Manifest> {
  if (statement.manifest !== undefined) return validateManifestValue(statement.manifest)
  const bytes = await deps.readFile({ statement, ...release }, statement.manifestPath, options)
  const { manifest, problems } = parseManifest(bytes, manifestFormatOf(statement.manifestPath) ?? 'yaml')
  if (manifest === undefined) throw invalidManifestError(problems)
  return manifest
}
