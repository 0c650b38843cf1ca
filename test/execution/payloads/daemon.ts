// Stands for a daemon that is killed: starts a sandbox for the home it is given and a payload that would run for long.
import { writeFile } from 'node:fs/promises'
import { join } from 'node:path'
import { silentLog } from '../../../src/base/log.ts'
import { PythonRuntime } from '../../../src/execution/python-runtime.ts'
import { defaultSandboxOptions, Sandbox } from '../../../src/execution/sandbox.ts'
import { StagingArea, stagingRoot } from '../../../src/execution/staging.ts'

const home = process.argv[2] ?? ''
const staging = new StagingArea(stagingRoot(home))
const sandbox = new Sandbox({ staging, log: silentLog }, { ...defaultSandboxOptions, home })
await sandbox.start()
const directory = await staging.create('package', 'long')
await writeFile(
  join(directory.path, 'main.py'),
  'import os, time\nos.fork()\nos.setsid() if os.fork() == 0 else None\nprint("up", flush=True)\ntime.sleep(60)',
)
await new PythonRuntime({ sandbox }).run({
  id: 'long',
  packageDirectory: directory.path,
  entrypoint: 'main.py',
  args: [`--catalog-test=${home}`],
  env: {},
  input: new Uint8Array(),
  limits: {
    cpuCores: 1,
    memoryMb: 64,
    storageMb: 16,
    runSeconds: 60,
    processes: 16,
    fileMb: 8,
    outputBytes: 1000,
  },
  onOutput: (_stream, bytes) => void process.stdout.write(bytes),
  signal: new AbortController().signal,
})
