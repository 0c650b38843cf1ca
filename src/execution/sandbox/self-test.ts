// Proves at start that the sandbox holds on this machine, by running a canary in it as a payload is run: what must
// be out of reach is, and the limits on memory and processes are in force. Anything else refuses execution.
import { createServer } from 'node:net'
import { dirname } from 'node:path'
import { fileURLToPath } from 'node:url'
import type { RunOutcome } from '../runtime.ts'
import { runtimePath } from './command.ts'
import { payloadEnvironment } from './environment.ts'
import { type RunContext, runSandboxed } from './run.ts'

type Mode = 'reach' | 'memory' | 'processes'

const limits = {
  cpuCores: 2,
  memoryMb: 64,
  storageMb: 16,
  runSeconds: 10,
  processes: 16,
  fileMb: 8,
  outputBytes: 16_384,
}
/** What Node.js needs for itself. */
const ownMemoryMb = 96
const ownProcesses = 16

/** The canary reached what must be out of reach: no second attempt makes that good. */
export class SandboxLeak extends Error {}

/** @throws Error naming what did not hold */
export async function selfTest(context: RunContext, home: string): Promise<void> {
  // Something to reach: a port on the host's loopback.
  const server = createServer(socket => socket.destroy())
  await new Promise<void>((resolve, reject) => server.once('error', reject).listen(0, '127.0.0.1', resolve))
  try {
    const address = server.address()
    const port = typeof address === 'object' && address !== null ? address.port : 0
    const runs = (['reach', 'memory', 'processes'] as const).map(mode => run(context, mode, home, port))
    // All have ended, whatever one says, before the staging area goes.
    await Promise.allSettled(runs)
    const [reach, memory, processes] = (await Promise.all(runs)) as [CanaryRun, CanaryRun, CanaryRun]
    if (reach.outcome.exitCode === 0 && reach.stdout.trim() !== '[]')
      throw new SandboxLeak(`the sandbox's self-test failed: ${describe(reach)}`)
    if (reach.outcome.exitCode !== 0) throw new Error(`the sandbox's self-test failed: ${describe(reach)}`)
    if (memory.outcome.limit !== 'memory')
      throw new Error(`the sandbox does not bound memory: ${describe(memory)}`)
    if (processes.outcome.limit !== 'processes')
      throw new Error(`the sandbox does not bound processes: ${describe(processes)}`)
  } finally {
    server.close()
  }
}

interface CanaryRun {
  readonly outcome: RunOutcome
  readonly stdout: string
  readonly stderr: string
}

const describe = ({ outcome, stdout, stderr }: CanaryRun): string =>
  [
    stdout.trim(),
    stderr.trim(),
    `exit code ${outcome.exitCode ?? 'none'}`,
    outcome.limit === undefined ? '' : `limit ${outcome.limit}`,
  ]
    .filter(part => part !== '')
    .join(', ')

async function run(context: RunContext, mode: Mode, home: string, port: number): Promise<CanaryRun> {
  const directory = await context.staging.create('package', `self-test-${mode}`)
  const output = { stdout: '', stderr: '' }
  const request = {
    id: `self-test-${mode}`,
    packageDirectory: directory.path,
    entrypoint: '',
    args: [],
    env: {},
    input: new Uint8Array(),
    limits,
    onOutput: (stream: 'stdout' | 'stderr', bytes: Uint8Array) => {
      output[stream] += Buffer.from(bytes).toString('utf8')
    },
    signal: AbortSignal.timeout(15_000),
  }
  const env = payloadEnvironment(request)
  // Directories that hold something on every host and must not be seen; the sandbox has its own /tmp and /proc.
  const hiddenPaths = [
    ...['/etc/passwd', '/etc/shadow', '/root', '/home', '/var', '/sys', '/run', '/boot', '/proc/sys/kernel'],
    ...[home, context.staging.root, dirname(process.execPath)].filter(path => !path.startsWith('/usr/')),
  ]
  try {
    const outcome = await runSandboxed(
      context,
      {
        argv: [
          `${runtimePath}/node`,
          '--no-warnings',
          `${runtimePath}/canary.mjs`,
          `${runtimePath}/canary.json`,
        ],
        env,
        hostFiles: {
          node: process.execPath,
          'canary.mjs': fileURLToPath(new URL('canary.mjs', import.meta.url)),
        },
        madeFiles: {
          'canary.json': Buffer.from(
            JSON.stringify({ mode, hiddenPaths, port, environment: Object.keys(env) }),
          ),
        },
        ownMemoryMb,
        ownProcesses,
        outOfMemory: /out of memory|allocation failed/i,
      },
      request,
    )
    await outcome.dispose()
    return { outcome, ...output }
  } finally {
    await directory.dispose()
  }
}
