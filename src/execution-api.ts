// The execution calls of the control socket: runs here and runs delegated to other nodes, seen as one list.
import { randomUUID } from 'node:crypto'
import { isAbsolute } from 'node:path'
import { CatalogError } from './base/errors.ts'
import type { CallOptions } from './base/lifecycle.ts'
import type {
  ContentView,
  ExecuteRequest,
  ExecutionEvent,
  ExecutionStatus,
  ExecutionView,
  ProgressOptions,
  ResultRequest,
  ResultResult,
} from './control/api.ts'
import { delegationLimits } from './execution/delegation-protocol.ts'
import type { Delegations } from './execution/delegations.ts'
import type { ExecutionFollowed, ExecutionRecord, Executor } from './execution/executor.ts'
import { type ExecuteDeps, execute } from './flows/execute.ts'
import type { ExecutionsApi } from './node-api.ts'

export interface ExecutionApiDeps {
  readonly self: string
  readonly executor: Executor
  readonly delegations: Delegations
  readonly flow: ExecuteDeps
  readonly sandbox: () => { readonly tier: string; readonly reason?: string }
  /** Keeps a content here while it is written. */
  readonly lease: (root: string) => Disposable
  /** Makes a result's content, which the peer has, complete here, and says how many files and bytes it is. */
  readonly fetchResult: (
    root: string,
    peer: string,
    options: ProgressOptions,
  ) => Promise<{ files: number; bytes: number }>
  readonly writeResult: (
    root: string,
    out: string,
    options: ProgressOptions & { force: boolean },
  ) => Promise<unknown>
  /** A result's content that is complete here. */
  readonly openResult: (root: string, options: CallOptions) => Promise<ContentView>
  readonly offersExecution: (peer: string) => Promise<boolean>
}

type AnyRecord = ExecutionRecord & { readonly peer?: string }

export function createExecutionApi(deps: ExecutionApiDeps): ExecutionsApi {
  const { executor, delegations } = deps
  const holderOf = (id: string) => (delegations.get(id) === undefined ? executor : delegations)
  const recordOf = (id: string): AnyRecord => {
    const record = delegations.get(id) ?? executor.get(id)
    if (record === undefined)
      throw new CatalogError(
        'no-such-execution',
        `There is no execution ${id} on this node; "catalog executions" lists those that are.`,
        { id },
      )
    return record
  }
  return {
    status: () => statusOf(deps),
    offersExecution: deps.offersExecution,
    execute: async (request, options) =>
      viewOf(deps, await execute(deps.flow, checkedRequest(request), options)),
    followExecution: (id, options) =>
      eventsOf(recordOf(id).peer ?? deps.self, id, holderOf(id).follow(id, options)),
    executions: async () =>
      [...executor.list(), ...delegations.list()]
        .sort(byCreation)
        .map(record => viewWithoutOutput(deps, record)),
    execution: async id => viewOf(deps, recordOf(id)),
    cancelExecution: async id => {
      recordOf(id)
      return viewOf(deps, await holderOf(id).cancel(id))
    },
    result: (id, request, options) => writeResultOf(deps, recordOf(id), request, options),
    resultContent: (id, options) => openResultOf(deps, recordOf(id), options),
  }
}

const byCreation = (a: AnyRecord, b: AnyRecord) =>
  a.createdAt < b.createdAt ? -1 : a.createdAt > b.createdAt ? 1 : 0

async function statusOf({ executor, flow, sandbox }: ExecutionApiDeps): Promise<ExecutionStatus> {
  const { queued, running, ceiling } = executor.load()
  const { tier, reason } = sandbox()
  const { cpuCores, memoryMb, storageMb, runSeconds } = ceiling
  return {
    local: flow.local,
    offer: flow.offer,
    tier,
    ...(reason === undefined ? {} : { tierReason: reason }),
    runtimes: await executor.runtimes(),
    queued,
    running,
    ceiling: { cpuCores, memoryMb, storageMb, runSeconds },
  }
}

function checkedRequest({
  ref,
  on,
  args,
  env,
  inputBase64,
  timeoutSeconds,
  nodes,
  publisher,
  allowStale,
}: ExecuteRequest) {
  if (nodes !== undefined && nodes !== 1)
    throw new CatalogError(
      'invalid-request',
      `This version runs a payload on one node; ${nodes} were asked for. Leave --nodes out.`,
    )
  const input = Buffer.from(inputBase64 ?? '', 'base64')
  if (input.byteLength > delegationLimits.maxInputBytes)
    throw new CatalogError(
      'too-large',
      `The input is ${input.byteLength} bytes; an execution takes at most ${delegationLimits.maxInputBytes}. Publish larger data as a package.`,
    )
  return {
    id: randomUUID(),
    ref,
    on,
    args,
    env,
    input,
    ...(timeoutSeconds === undefined ? {} : { runSeconds: timeoutSeconds }),
    ...(publisher === undefined ? {} : { publisher }),
    ...(allowStale === undefined ? {} : { allowStale }),
  }
}

async function* eventsOf(
  peer: string,
  id: string,
  events: AsyncIterable<ExecutionFollowed>,
): AsyncIterable<ExecutionEvent> {
  for await (const event of events)
    if ('state' in event) yield { state: event.state, id, peer }
    else if ('bytes' in event)
      yield { stream: event.stream, base64: Buffer.from(event.bytes).toString('base64') }
}

function viewWithoutOutput(deps: ExecutionApiDeps, record: AnyRecord): ExecutionView {
  const { stdoutBytes: _stdout, stderrBytes: _stderr, used, ...rest } = record
  return { ...rest, peer: record.peer ?? deps.self, ...(used === undefined ? {} : { used }) }
}

async function viewOf(deps: ExecutionApiDeps, record: AnyRecord): Promise<ExecutionView> {
  const logs = await (record.peer === undefined || record.peer === deps.self
    ? deps.executor
    : deps.delegations
  ).logs(record.id)
  return {
    ...viewWithoutOutput(deps, record),
    ...asText('stdout', logs.stdout),
    ...asText('stderr', logs.stderr),
  }
}

/** UTF-8 as text; anything else in base64, so that no byte is lost. */
function asText(
  stream: 'stdout' | 'stderr',
  bytes: Uint8Array,
): Partial<Pick<ExecutionView, 'stdout' | 'stdoutBase64' | 'stderr' | 'stderrBase64'>> {
  try {
    return { [stream]: new TextDecoder('utf-8', { fatal: true, ignoreBOM: true }).decode(bytes) }
  } catch {
    return { [`${stream}Base64`]: Buffer.from(bytes).toString('base64') }
  }
}

async function writeResultOf(
  deps: ExecutionApiDeps,
  record: AnyRecord,
  { out, force }: ResultRequest,
  options: ProgressOptions,
): Promise<ResultResult> {
  if (!isAbsolute(out))
    throw new CatalogError(
      'invalid-request',
      `The path ${JSON.stringify(out)} is not absolute; requests name absolute paths.`,
    )
  const { id } = record
  const resultRoot = resultRootOf(record)
  using _lease = deps.lease(resultRoot)
  const { files, bytes } = await deps.fetchResult(resultRoot, record.peer ?? deps.self, options)
  await deps.writeResult(resultRoot, out, { ...options, force: force === true })
  return { id, root: resultRoot, files, bytes, out }
}

async function openResultOf(
  deps: ExecutionApiDeps,
  record: AnyRecord,
  options: CallOptions,
): Promise<ContentView> {
  const resultRoot = resultRootOf(record)
  using _lease = deps.lease(resultRoot)
  await deps.fetchResult(resultRoot, record.peer ?? deps.self, options)
  return await deps.openResult(resultRoot, options)
}

/** @throws CatalogError `result-not-ready`, `not-found` */
function resultRootOf({ id, resultRoot, state, endedAt, name }: AnyRecord): string {
  if (resultRoot === undefined) {
    if (endedAt === undefined)
      throw new CatalogError(
        'result-not-ready',
        `The execution ${id} is ${state}; its result is there once it has ended.`,
        { id, state },
      )
    throw new CatalogError(
      'not-found',
      `The execution ${id} (${state}) kept no result: either the manifest of ${name} names no "outputs" directory, or the payload made none.`,
      { id, state },
    )
  }
  return resultRoot
}
