// Runs WebAssembly command modules (WASI preview 1) in a Node.js process of their own inside the sandbox.
// node:wasi is no sandbox and is not used as one: the process around it is (https://nodejs.org/api/wasi.html#security).
import { open, stat } from 'node:fs/promises'
import { join } from 'node:path'
import { fileURLToPath } from 'node:url'
import { CatalogError } from '../base/errors.ts'
import type { Probe, RunOutcome, RunRequest, Runtime } from './runtime.ts'
import { packagePath, runtimePath, scratchPath } from './sandbox/command.ts'
import { payloadEnvironment } from './sandbox/environment.ts'
import { checkEntrypoint } from './sandbox/request.ts'
import type { Sandbox } from './sandbox.ts'

export interface WasmOptions {
  /** The Node.js binary. */
  readonly node: string
  /** The engine's own memory for a small module; compiling takes `memoryPerModuleByte` more. */
  readonly ownMemoryMb: number
  readonly memoryPerModuleByte: number
  readonly heapMb: number
}

export const defaultWasmOptions: WasmOptions = {
  node: process.execPath,
  // Node.js 24 is resident at 45 MiB when idle, with its file pages; the rest is V8's heap and code.
  ownMemoryMb: 128,
  // Baseline and optimised code and the compiler's working memory, generously.
  memoryPerModuleByte: 12,
  heapMb: 64,
}

/** The engine's helper threads (V8, libuv), which a payload cannot use. */
const engineThreads = 16
const wasmMagic = Buffer.from([0x00, 0x61, 0x73, 0x6d, 0x01, 0x00, 0x00, 0x00])
const mib = 1024 * 1024

export class WasmRuntime implements Runtime {
  readonly name = 'wasm'
  readonly #sandbox: Sandbox
  readonly #options: WasmOptions

  constructor(deps: { sandbox: Sandbox }, options: WasmOptions = defaultWasmOptions) {
    this.#sandbox = deps.sandbox
    this.#options = options
  }

  async probe(): Promise<Probe> {
    const { tier, reason } = this.#sandbox.state
    return tier === 'none'
      ? { ok: false, reason: `no sandbox: ${reason}` }
      : { ok: true, detail: `WASI preview 1, Node.js ${process.versions.node}` }
  }

  async run(request: RunRequest): Promise<RunOutcome> {
    await checkEntrypoint(request.packageDirectory, request.entrypoint)
    const module = join(request.packageDirectory, request.entrypoint)
    await checkModule(module, request.entrypoint)
    const { node, ownMemoryMb, memoryPerModuleByte, heapMb } = this.#options
    const { size } = await stat(module)
    const job = {
      module: `${packagePath}/${request.entrypoint}`,
      args: [request.entrypoint, ...request.args],
      env: payloadEnvironment(request),
      preopens: { '.': packagePath, [packagePath]: packagePath, [scratchPath]: scratchPath, '/tmp': '/tmp' },
    }
    return this.#sandbox.run(
      {
        argv: [
          ...[`${runtimePath}/node`, `--max-old-space-size=${heapMb}`, '--v8-pool-size=2', '--no-warnings'],
          ...[`${runtimePath}/wasi-runner.mjs`, `${runtimePath}/wasi-job.json`],
        ],
        // The payload's variables go to the module, never to the engine, which has options of its own in NODE_*.
        env: { PATH: '/usr/bin:/bin', HOME: scratchPath, LANG: 'C.UTF-8' },
        hostFiles: {
          node,
          'wasi-runner.mjs': fileURLToPath(new URL('sandbox/wasi-runner.mjs', import.meta.url)),
        },
        madeFiles: { 'wasi-job.json': Buffer.from(JSON.stringify(job)) },
        ownMemoryMb: ownMemoryMb + Math.ceil((size * memoryPerModuleByte) / mib),
        ownProcesses: engineThreads,
        outOfMemory: /out of memory|allocation failed/i,
      },
      request,
    )
  }
}

async function checkModule(path: string, entrypoint: string): Promise<void> {
  const file = await open(path)
  try {
    const head = Buffer.alloc(wasmMagic.length)
    await file.read(head, 0, head.length, 0)
    if (!head.equals(wasmMagic))
      throw new CatalogError(
        'not-executable',
        `The entrypoint ${entrypoint} is not a WebAssembly module (version 1). Compile it for wasm32-wasi (WASI preview 1).`,
        { fields: ['spec.execution.entrypoint'] },
      )
  } finally {
    await file.close()
  }
}
