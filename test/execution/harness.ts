// A started sandbox with its runtimes in a home of its own, and ways to run a payload in it and to see what is left.
import { execFileSync } from 'node:child_process'
import { existsSync, readdirSync, readFileSync } from 'node:fs'
import { mkdir, mkdtemp, rm, writeFile } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { dirname, join } from 'node:path'
import wabtInit from 'wabt'
import { silentLog } from '../../src/base/log.ts'
import { PythonRuntime } from '../../src/execution/python-runtime.ts'
import type { RunLimits, RunOutcome, RunRequest, Runtime } from '../../src/execution/runtime.ts'
import { UidSlots } from '../../src/execution/sandbox/uid-slots.ts'
import { defaultSandboxOptions, Sandbox, type SandboxOptions } from '../../src/execution/sandbox.ts'
import { homeTag, StagingArea, stagingRoot } from '../../src/execution/staging.ts'
import { WasmRuntime } from '../../src/execution/wasm-runtime.ts'

export const root = process.getuid?.() === 0
export const cgroups = ['memory', 'cgroup.controllers'].some(name => existsSync(`/sys/fs/cgroup/${name}`))

export const smallLimits: RunLimits = {
  cpuCores: 1,
  memoryMb: 64,
  storageMb: 16,
  runSeconds: 20,
  processes: 16,
  fileMb: 8,
  outputBytes: 256 * 1024,
}

export type Files = Readonly<Record<string, string | Uint8Array>>

export interface Ran {
  readonly outcome: RunOutcome
  readonly stdout: string
  readonly stderr: string
  readonly milliseconds: number
}

export class Bench {
  readonly home: string
  readonly staging: StagingArea
  readonly sandbox: Sandbox
  readonly python: PythonRuntime
  readonly wasm: WasmRuntime
  #count = 0

  private constructor(home: string, options: Partial<SandboxOptions>) {
    this.home = home
    this.staging = new StagingArea(stagingRoot(home))
    this.sandbox = new Sandbox(
      { staging: this.staging, log: silentLog },
      { ...defaultSandboxOptions, home, ...options },
    )
    this.python = new PythonRuntime({ sandbox: this.sandbox })
    this.wasm = new WasmRuntime({ sandbox: this.sandbox })
  }

  static async start(options: Partial<SandboxOptions> = {}, home?: string): Promise<Bench> {
    const bench = new Bench(home ?? (await mkdtemp(join(tmpdir(), 'catalog-home-'))), options)
    await bench.sandbox.start()
    return bench
  }

  async stop(): Promise<void> {
    await this.sandbox.stop()
    await rm(this.home, { recursive: true, force: true })
  }

  async stage(files: Files): Promise<{ readonly path: string; dispose(): Promise<void> }> {
    const directory = await this.staging.create('package', `test-${this.#count++}`)
    for (const [name, bytes] of Object.entries(files)) {
      await mkdir(dirname(join(directory.path, name)), { recursive: true })
      await writeFile(join(directory.path, name), bytes)
    }
    return directory
  }

  /** One run with its package; the caller disposes of the outcome where it asked for outputs. */
  async run(runtime: Runtime, files: Files, request: Partial<RunRequest> = {}): Promise<Ran> {
    const directory = await this.stage(files)
    const output = { stdout: [] as Uint8Array[], stderr: [] as Uint8Array[] }
    const started = performance.now()
    try {
      const outcome = await runtime.run({
        id: `test-${this.#count++}`,
        packageDirectory: directory.path,
        entrypoint: Object.keys(files)[0] ?? '',
        args: [],
        env: {},
        input: new Uint8Array(),
        limits: smallLimits,
        onOutput: (stream, bytes) => void output[stream].push(Uint8Array.from(bytes)),
        signal: AbortSignal.timeout(40_000),
        ...request,
      })
      return {
        outcome,
        stdout: Buffer.concat(output.stdout).toString('utf8'),
        stderr: Buffer.concat(output.stderr).toString('utf8'),
        milliseconds: performance.now() - started,
      }
    } finally {
      await directory.dispose()
    }
  }

  #firstUid(): number {
    return root ? UidSlots.find(homeTag(this.home), defaultSandboxOptions.slots).take().uid : Number.NaN
  }

  /** What runs of this bench have left on the host: processes, control groups, mounts, directories. */
  leftovers(): string[] {
    return [
      ...childProcesses(this.#firstUid()).map(line => `process ${line}`),
      ...cgroupDirectories(`catalog-${homeTag(this.home)}-`).map(path => `cgroup ${path}`),
      ...readFileSync('/proc/self/mountinfo', 'utf8')
        .split('\n')
        .filter(line => line.includes(this.staging.root))
        .map(line => `mount ${line}`),
      ...readdirSync(this.staging.root)
        .filter(name => !name.startsWith('file-shared'))
        .map(name => `directory ${name}`),
    ]
  }
}

/** Our own children, and whatever runs under a uid of this home. */
function childProcesses(firstUid: number): string[] {
  const listing = execFileSync('/bin/ps', ['-eo', 'pid=,ppid=,uid=,args='], { encoding: 'utf8' })
  return listing
    .split('\n')
    .map(line => line.trim())
    .filter(line => {
      const [, parent, uid] = line.split(/\s+/).map(Number)
      // Dead, and handed to the host's first process, which takes it away in its own time.
      if (parent === 1 && line.endsWith('<defunct>')) return false
      const ours = parent === process.pid && !line.includes('/bin/ps')
      return ours || (Number(uid) >= firstUid && Number(uid) < firstUid + defaultSandboxOptions.slots)
    })
}

function cgroupDirectories(prefix: string): string[] {
  const found: string[] = []
  const pending = ['/sys/fs/cgroup']
  for (let path = pending.pop(); path !== undefined; path = pending.pop())
    if (existsSync(path))
      for (const entry of readdirSync(path, { withFileTypes: true }))
        if (entry.isDirectory()) {
          if (entry.name.startsWith(prefix)) found.push(join(path, entry.name))
          pending.push(join(path, entry.name))
        }
  return found
}

const wabt = wabtInit()

/** A module from its text. */
export async function assemble(text: string): Promise<Uint8Array> {
  const module = (await wabt).parseWat('payload.wat', text)
  return Uint8Array.from(module.toBinary({}).buffer)
}
