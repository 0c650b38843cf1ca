// Runs Python programs with the system's interpreter in the sandbox. The package's directory is importable, the
// user's site packages are not, and no byte code is written.
import { constants } from 'node:fs'
import { access } from 'node:fs/promises'
import { CatalogError } from '../base/errors.ts'
import type { Probe, RunOutcome, RunRequest, Runtime } from './runtime.ts'
import { packagePath } from './sandbox/command.ts'
import { payloadEnvironment } from './sandbox/environment.ts'
import { checkEntrypoint } from './sandbox/request.ts'
import type { Sandbox } from './sandbox.ts'

export interface PythonOptions {
  /** A system path: never taken from the daemon's PATH. */
  readonly interpreter: string
  /** The interpreter's own memory. */
  readonly ownMemoryMb: number
}

export const defaultPythonOptions: PythonOptions = {
  interpreter: '/usr/bin/python3',
  // CPython 3.11 with its standard library loaded is resident at 10 to 25 MiB.
  ownMemoryMb: 32,
}

export class PythonRuntime implements Runtime {
  readonly name = 'python'
  readonly #sandbox: Sandbox
  readonly #options: PythonOptions

  constructor(deps: { sandbox: Sandbox }, options: PythonOptions = defaultPythonOptions) {
    this.#sandbox = deps.sandbox
    this.#options = options
  }

  async probe(): Promise<Probe> {
    const { interpreter } = this.#options
    const { tier, reason } = this.#sandbox.state
    if (tier === 'none') return { ok: false, reason: `no sandbox: ${reason}` }
    return access(interpreter, constants.X_OK).then(
      () => ({ ok: true, detail: interpreter }) as const,
      () =>
        ({
          ok: false,
          reason: `${interpreter} is missing. Install the package python3 (for example: apt-get install python3)`,
        }) as const,
    )
  }

  async run(request: RunRequest): Promise<RunOutcome> {
    const probe = await this.probe()
    if (!probe.ok && this.#sandbox.state.tier !== 'none')
      throw new CatalogError('runtime-unavailable', `Cannot run ${request.id}: ${probe.reason}.`)
    await checkEntrypoint(request.packageDirectory, request.entrypoint)
    const env = payloadEnvironment(request)
    const path = request.env['PYTHONPATH']
    return this.#sandbox.run(
      {
        // -s: no user site; -B: no byte code. An entrypoint in a folder finds its neighbours first, then the package.
        argv: [
          this.#options.interpreter,
          '-s',
          '-B',
          `${packagePath}/${request.entrypoint}`,
          ...request.args,
        ],
        env: { ...env, PYTHONPATH: path === undefined ? packagePath : `${packagePath}:${path}` },
        hostFiles: {},
        madeFiles: {},
        ownMemoryMb: this.#options.ownMemoryMb,
        ownProcesses: 0,
        outOfMemory: /^MemoryError/m,
      },
      request,
    )
  }
}
