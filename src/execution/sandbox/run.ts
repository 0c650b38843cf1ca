// One run from prepared package to outcome: makes its directories and cgroup, starts the command, moves its input and
// output, ends it at a limit or an abort, and takes everything away again. command.ts says what the payload sees,
// watch.ts which limit was hit.
import { type ChildProcess, spawn } from 'node:child_process'
import { closeSync, openSync, readFileSync } from 'node:fs'
import { chmod, chown, lchown, lstat, mkdir, opendir, rename, writeFile } from 'node:fs/promises'
import { release } from 'node:os'
import { join } from 'node:path'
import type { Readable, Writable } from 'node:stream'
import { CatalogError } from '../../base/errors.ts'
import type { OutputStream, RunOutcome, RunRequest } from '../runtime.ts'
import type { StagedDirectory, StagingArea } from '../staging.ts'
import { processTree } from './accounting.ts'
import type { ControlGroup, ControlGroups } from './cgroup.ts'
import { bwrapOptions, jobFile, sandboxCommand } from './command.ts'
import type { HostFiles } from './host-files.ts'
import { inheritedDescriptors } from './inherited.ts'
import { checkRequest, outputsDirectory } from './request.ts'
import { seccompFilter } from './seccomp.ts'
import type { UidSlots } from './uid-slots.ts'
import { type Usage, Watch } from './watch.ts'

/** What a runtime brings: the command inside the sandbox and what it needs for itself. */
export interface Command {
  readonly argv: readonly string[]
  /** The whole environment of the payload. */
  readonly env: Readonly<Record<string, string>>
  /** Host files that appear, read-only, under /runtime by these names. */
  readonly hostFiles: Readonly<Record<string, string>>
  /** Files made for this run, under /runtime as well. */
  readonly madeFiles: Readonly<Record<string, Uint8Array>>
  readonly ownMemoryMb: number
  /** Processes and threads. */
  readonly ownProcesses: number
  /** What the engine says on standard error when it is refused memory: the only trace where no cgroup counts. */
  readonly outOfMemory: RegExp
}

/** What the sandbox found on this machine. */
export interface RunContext {
  readonly bwrap: string
  readonly groupPrefix: string
  readonly groups: ControlGroups | undefined
  readonly staging: StagingArea
  /** Present when we are root. */
  readonly uids: UidSlots | undefined
  readonly files: HostFiles
}

const mib = 1024 * 1024
const fd = { args: 3, filter: 4, status: 5 }
/** bwrap, the shell that is pid 1, and one to spare while the start forks. */
const sandboxProcesses = 3

export async function runSandboxed(
  context: RunContext,
  command: Command,
  request: RunRequest,
): Promise<RunOutcome> {
  checkRequest(request)
  request.signal.throwIfAborted()
  const slot = context.uids?.take()
  let directory: StagedDirectory | undefined
  let group: ControlGroup | undefined
  try {
    directory = await context.staging.create('run', request.id)
    const layout = await layOut(context, directory, command, request, slot?.uid)
    const { limits } = request
    const processes = limits.processes + command.ownProcesses + sandboxProcesses
    const memoryMb = limits.memoryMb + command.ownMemoryMb
    group = context.groups?.create(`${context.groupPrefix}${request.id}-${process.pid}`, {
      memoryMb,
      cpuCores: limits.cpuCores,
      processes,
    })
    const filter = seccompFilter(process.arch, { countedMemory: group !== undefined })
    if (filter === undefined)
      throw new CatalogError(
        'sandbox-unavailable',
        `There is no system-call filter for ${process.arch} processors; nothing is run without one.`,
      )
    const started = performance.now()
    const child = start(context, layout, filter, group, slot?.uid)
    const watch = new Watch(
      { pid: child.pid ?? 0, group, writable: [layout.scratch, layout.tmp] },
      {
        memoryMb,
        processes,
        cpuSeconds: limits.runSeconds * limits.cpuCores + 1,
        storageBytes: limits.storageMb * mib,
        runSeconds: limits.runSeconds,
      },
      () => endTree(child),
    )
    const end = await attend(child, watch, request)
    if (group === undefined && end.exitCode !== 0 && command.outOfMemory.test(end.stderrTail))
      watch.hit('memory')
    const used: Usage = await watch.end(end.exitCode)
    await group?.remove()
    request.signal.throwIfAborted()
    const outputs = await outputsDirectory(layout.scratch, request.outputs)
    const owned = directory
    if (outputs === undefined) await owned.dispose()
    directory = undefined
    return {
      ...verdict(end, watch, request.id),
      used: { ...used, wallSeconds: Math.round(performance.now() - started) / 1000 },
      ...(outputs === undefined ? {} : { outputsDirectory: outputs }),
      dispose: () => owned.dispose(),
    }
  } finally {
    await group?.remove()
    await directory?.dispose()
    slot?.release()
  }
}

interface Layout {
  readonly scratch: string
  readonly tmp: string
  readonly options: Uint8Array
}

/** The run's directory: package, scratch and tmp of the payload's uid, job and runtime files that it may only read. */
async function layOut(
  context: RunContext,
  directory: StagedDirectory,
  command: Command,
  request: RunRequest,
  uid: number | undefined,
): Promise<Layout> {
  const { limits } = request
  const at = (name: string): string => join(directory.path, name)
  await rename(request.packageDirectory, at('package'))
  await mkdir(at('scratch'), { mode: 0o700 })
  await mkdir(at('tmp'), { mode: 0o700 })
  await mkdir(at('made'), { mode: 0o755 })
  for (const [name, bytes] of Object.entries(command.madeFiles))
    await writeFile(at(`made/${name}`), bytes, { mode: 0o444 })
  const counted = context.groups !== undefined
  const nproc = limits.processes + command.ownProcesses + sandboxProcesses + 2
  const job = jobFile(command.argv, command.env, {
    processes: uid !== undefined || countsPerNamespace() ? nproc : nproc + threadsOnHost(),
    // One file may pass the storage limit by a little, so that accounting finds it and names the limit.
    fileBytes: Math.min(limits.fileMb, limits.storageMb + 1) * mib,
    cpuSeconds: Math.ceil(limits.runSeconds * Math.max(1, limits.cpuCores)) + 2,
    openFiles: counted ? 1024 : 256,
    // Twice the limit: what grows is found by accounting, and named; this stops what grows faster than that looks.
    ...(counted ? {} : { dataBytes: 2 * (limits.memoryMb + command.ownMemoryMb) * mib + 256 * mib }),
  })
  await writeFile(at('made/job'), job, { mode: 0o444 })
  const made = Object.keys(command.madeFiles).map(name => [name, at(`made/${name}`)])
  const host = Object.entries(command.hostFiles).map(async ([name, path]) => [
    name,
    await context.files.reachable(path),
  ])
  if (uid !== undefined) {
    for (const name of ['package', 'scratch', 'tmp']) await giveTo(at(name), uid)
    await chown(directory.path, 0, uid)
    await chmod(directory.path, 0o710)
  }
  const options = bwrapOptions(
    {
      packageDirectory: at('package'),
      scratchDirectory: at('scratch'),
      tmpDirectory: at('tmp'),
      jobFile: at('made/job'),
      runtimeFiles: Object.fromEntries([...made, ...(await Promise.all(host))]),
      sharedMemoryBytes: Math.min(64, Math.ceil(limits.memoryMb / 4)) * mib,
    },
    fd.filter,
  )
  return { scratch: at('scratch'), tmp: at('tmp'), options }
}

/** The owner changes and the modes stay, so that the payload sees the package exactly as it was published. */
async function giveTo(path: string, uid: number): Promise<void> {
  await lchown(path, uid, uid)
  if (!(await lstat(path)).isDirectory()) return
  for await (const entry of await opendir(path)) await giveTo(join(path, entry.name), uid)
}

/** Since Linux 5.14 RLIMIT_NPROC counts within the user namespace; before, all that our uid runs on the host. */
function countsPerNamespace(): boolean {
  const [major = 0, minor = 0] = release().split('.').map(Number)
  return major > 5 || (major === 5 && minor >= 14)
}

const threadsOnHost = (): number => Number(readFileSync('/proc/loadavg', 'utf8').split(/[ /]/)[4] ?? 0)

function start(
  context: RunContext,
  layout: Layout,
  filter: Uint8Array,
  group: ControlGroup | undefined,
  uid: number | undefined,
): ChildProcess {
  const { file, args } = sandboxCommand({
    bwrap: context.bwrap,
    joinFiles: group?.joinFiles ?? [],
    ...(uid === undefined ? {} : { uid }),
    argsFd: fd.args,
    statusFd: fd.status,
  })
  const stdio: ('pipe' | 'ignore' | number)[] = Array.from({ length: 6 }, () => 'pipe' as const)
  const nothing = openSync('/dev/null', 'r+')
  try {
    // Descriptors of our parent's that would reach the payload are covered by /dev/null.
    for (const inherited of inheritedDescriptors(stdio.length)) {
      while (stdio.length < inherited) stdio.push('ignore')
      stdio.push(nothing)
    }
    // A session of its own: an interrupt at the daemon's terminal is the daemon's to handle.
    const child = spawn(file, args, { env: {}, cwd: '/', stdio, detached: true })
    send(child, fd.args, layout.options)
    send(child, fd.filter, filter)
    return child
  } finally {
    closeSync(nothing)
  }
}

/** A reader that has gone (EPIPE) is no error here: its exit says why. */
function send(child: ChildProcess, index: number, bytes: Uint8Array): void {
  const stream = child.stdio[index] as Writable
  stream.on('error', () => undefined)
  stream.end(bytes)
}

/**
 * Ends pid 1 of the sandbox, with which the kernel ends everything in it; bwrap reaps it and ends. Where the start has
 * not come so far, or bwrap does not end, bwrap and its group are killed, and its --die-with-parent does the rest.
 */
function endTree(child: ChildProcess): void {
  const gone = (): boolean => child.exitCode !== null || child.signalCode !== null
  if (child.pid === undefined || gone()) return
  const inside = processTree(child.pid, 10_000).slice(1)
  for (const pid of inside)
    try {
      process.kill(pid, 'SIGKILL')
    } catch {
      // Gone with pid 1.
    }
  if (inside.length === 0) endGroup(child)
  else setTimeout(() => gone() || endGroup(child), 300)
}

/**
 * Ends bwrap with its process group: a child that it makes in this very moment, and that does not know yet with whom it
 * is to die, would else wait for it for ever, and hold the pipes open.
 */
function endGroup(child: ChildProcess): void {
  try {
    process.kill(-(child.pid as number), 'SIGKILL')
  } catch {
    child.kill('SIGKILL')
  }
}

interface End {
  /** From bwrap's status: present when the payload was started and ended by itself. */
  readonly exitCode: number | undefined
  readonly signal: NodeJS.Signals | null
  readonly stderrTail: string
}

/** Feeds the input, takes the output, and resolves when the sandbox is gone and all its output is read. */
async function attend(child: ChildProcess, watch: Watch, request: RunRequest): Promise<End> {
  const { promise: exited, resolve, reject } = Promise.withResolvers<NodeJS.Signals | null>()
  child.once('error', reject)
  child.once('exit', (_code, signal) => resolve(signal))
  const abort = (): void => endTree(child)
  request.signal.addEventListener('abort', abort)
  try {
    if (request.signal.aborted) abort()
    send(child, 0, request.input)
    const output = new OutputMeter(request, () => watch.hit('output'))
    const [signal, status] = await Promise.all([
      exited,
      readAll(child.stdio[fd.status] as Readable),
      output.take('stdout', child.stdout as Readable),
      output.take('stderr', child.stderr as Readable),
    ])
    const exitCode = /"exit-code"\s*:\s*(\d+)/.exec(status)?.[1]
    return {
      exitCode: exitCode === undefined ? undefined : Number(exitCode),
      signal,
      stderrTail: output.stderrTail,
    }
  } catch (error) {
    endTree(child)
    throw error
  } finally {
    request.signal.removeEventListener('abort', abort)
  }
}

const statusBytesAtMost = 4_096
const stderrTailLength = 4_096

async function readAll(stream: Readable): Promise<string> {
  let text = ''
  for await (const chunk of stream) if (text.length < statusBytesAtMost) text += String(chunk)
  return text
}

/** Counts both outputs together, hands on what is within the limit, and reads the rest away. */
class OutputMeter {
  readonly #request: RunRequest
  readonly #onLimit: () => void
  #left: number
  stderrTail = ''

  constructor(request: RunRequest, onLimit: () => void) {
    this.#request = request
    this.#onLimit = onLimit
    this.#left = request.limits.outputBytes
  }

  async take(name: OutputStream, stream: Readable): Promise<void> {
    for await (const chunk of stream as AsyncIterable<Buffer>) {
      if (name === 'stderr')
        this.stderrTail = (this.stderrTail + chunk.toString('utf8')).slice(-stderrTailLength)
      if (this.#request.signal.aborted) continue
      const within = chunk.subarray(0, this.#left)
      this.#left -= within.length
      if (within.length < chunk.length) this.#onLimit()
      if (within.length > 0) await this.#request.onOutput(name, within)
    }
  }
}

const signalNumbers: Readonly<Record<string, number>> = { SIGKILL: 9, SIGSEGV: 11, SIGTERM: 15, SIGSYS: 31 }

function verdict(end: End, watch: Watch, id: string): Pick<RunOutcome, 'exitCode' | 'killedBy' | 'limit'> {
  if (watch.limit !== undefined) {
    // 137 is our own SIGKILL, or that of the out-of-memory killer.
    const { exitCode } = end
    return exitCode === undefined || exitCode === 137
      ? { killedBy: 9, limit: watch.limit }
      : { exitCode, limit: watch.limit }
  }
  if (end.exitCode !== undefined) {
    const killedBy = end.exitCode > 128 && end.exitCode < 128 + 65 ? { killedBy: end.exitCode - 128 } : {}
    return { exitCode: end.exitCode, ...killedBy }
  }
  if (end.signal !== null) return { killedBy: signalNumbers[end.signal] ?? 9 }
  throw new CatalogError(
    'sandbox-unavailable',
    `The sandbox for ${id} could not be set up: ${end.stderrTail.trim() || 'it ended without a word'}.`,
    { reason: end.stderrTail.trim() },
  )
}
