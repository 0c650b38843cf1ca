// E2: payloads that take all they can. Each is ended within its limit and a second, the limit is named, and nothing is
// left: no process, control group, mount or directory.
import { afterAll, beforeAll, beforeEach, describe, expect, test } from 'vitest'
import type { LimitName, RunLimits } from '../../src/execution/runtime.ts'
import { assemble, Bench, cgroups, type Ran, root, smallLimits } from './harness.ts'
import { fillModule, floodModule, memoryModule, spinModule } from './wasm-modules.ts'

let bench: Bench
beforeAll(async () => {
  bench = await Bench.start()
})
afterAll(() => bench.stop())
// A bomb is let off only where the self-test has shown that limits on memory and processes hold.
beforeEach(() => expect(bench.sandbox.state.tier).not.toBe('none'))

const limits: RunLimits = { ...smallLimits, runSeconds: 3 }
/** Of the machine's noise, above the limit and its second. */
const startMs = 700

interface Bomb {
  readonly name: string
  readonly limit: LimitName
  readonly program: string
  readonly limits?: Partial<RunLimits>
}

const python: readonly Bomb[] = [
  {
    name: 'forks without end',
    limit: 'processes',
    program: 'import os\nwhile True:\n  try: os.fork()\n  except OSError: pass',
  },
  {
    name: 'forks without end, each in a session of its own',
    limit: 'processes',
    program: 'import os\nwhile True:\n  try:\n    if os.fork() == 0: os.setsid()\n  except OSError: pass',
  },
  {
    name: 'starts threads without end',
    limit: 'processes',
    program:
      'import threading, time\nwhile True:\n  try: threading.Thread(target=time.sleep, args=(60,)).start()\n  except RuntimeError: time.sleep(0.01)',
  },
  {
    name: 'takes memory on the heap, quickly',
    limit: 'memory',
    program: 'kept = []\nwhile True: kept.append(bytearray(b"x") * (8 << 20))',
  },
  {
    name: 'takes memory on the heap, slowly',
    limit: 'memory',
    program:
      'import time\nkept = []\nwhile True:\n  kept.append(bytearray(b"x") * (4 << 20))\n  time.sleep(0.02)',
  },
  {
    name: 'takes memory by mmap',
    limit: 'memory',
    program:
      'import mmap, time\nkept = []\nwhile True:\n  m = mmap.mmap(-1, 4 << 20)\n  m.write(b"x" * (4 << 20))\n  kept.append(m)\n  time.sleep(0.01)',
  },
  {
    name: 'takes memory in many children',
    limit: 'memory',
    program:
      'import os, time\nfor _ in range(8):\n  if os.fork() == 0:\n    kept = bytearray(b"x") * (16 << 20)\n    time.sleep(60)\ntime.sleep(60)',
  },
  { name: 'spins', limit: 'time', program: 'while True: pass', limits: { runSeconds: 1 } },
  {
    name: 'spins in many processes',
    limit: 'time',
    program: 'import os\nfor _ in range(3): os.fork()\nwhile True: pass',
    limits: { runSeconds: 1 },
  },
  {
    name: 'sleeps and ignores every signal',
    limit: 'time',
    program:
      'import signal, time\nfor n in range(1, 32):\n  try: signal.signal(n, signal.SIG_IGN)\n  except OSError: pass\nwhile True: time.sleep(60)',
    limits: { runSeconds: 1 },
  },
  {
    name: 'fills the disk with many files',
    limit: 'storage',
    program:
      'import itertools, time\nfor n in itertools.count():\n  open(f"/scratch/{n}", "wb").write(b"x" * (1 << 20))\n  time.sleep(0.005)',
  },
  {
    name: 'fills /tmp',
    limit: 'storage',
    program:
      'import itertools, time\nfor n in itertools.count():\n  open(f"/tmp/{n}", "wb").write(b"x" * (1 << 20))\n  time.sleep(0.005)',
  },
  {
    name: 'fills the disk with empty files',
    limit: 'storage',
    program: 'import itertools\nfor n in itertools.count(): open(f"/scratch/{n}", "wb").close()',
    limits: { runSeconds: 6, storageMb: 4, fileMb: 4 },
  },
  {
    name: 'fills the disk through files without a name',
    limit: 'storage',
    program:
      'import os, time\nkept = []\nwhile True:\n  f = open("/scratch/x", "wb")\n  os.unlink("/scratch/x")\n  f.write(b"x" * (2 << 20)); f.flush()\n  kept.append(f)\n  time.sleep(0.01)',
  },
  {
    name: 'makes one file too large',
    limit: 'storage',
    program:
      'import signal\nsignal.signal(signal.SIGXFSZ, signal.SIG_DFL)\nf = open("/scratch/x", "wb")\nwhile True: f.write(b"x" * (1 << 20))',
    limits: { fileMb: 2 },
  },
  {
    name: 'nests directories without end',
    limit: 'storage',
    program:
      'import os\nos.chdir("/scratch")\nfor _ in range(3000):\n  os.mkdir("d" * 200)\n  os.chdir("d" * 200)\nimport time; time.sleep(60)',
  },
  {
    name: 'floods standard output',
    limit: 'output',
    program: 'import os\nwhile True: os.write(1, b"x" * 65536)',
  },
  {
    name: 'floods standard error',
    limit: 'output',
    program: 'import os\nwhile True: os.write(2, b"x" * 65536)',
  },
]

const wasm: readonly Bomb[] = [
  { name: 'takes memory', limit: 'memory', program: memoryModule },
  { name: 'spins', limit: 'time', program: spinModule, limits: { runSeconds: 1 } },
  { name: 'fills the disk', limit: 'storage', program: fillModule, limits: { fileMb: 1_000 } },
  { name: 'floods its output', limit: 'output', program: floodModule },
]

function check(bomb: Bomb, { outcome, milliseconds, stdout, stderr }: Ran): void {
  const bounds = { ...limits, ...bomb.limits }
  expect(outcome.limit, stderr.slice(0, 500)).toBe(bomb.limit)
  expect(milliseconds).toBeLessThan(bounds.runSeconds * 1000 + 1_000 + startMs)
  expect(stdout.length + stderr.length).toBeLessThanOrEqual(bounds.outputBytes)
  expect(bench.leftovers()).toEqual([])
}

describe('python', () => {
  test.each(python)('one that $name', async bomb => {
    const request = { limits: { ...limits, ...bomb.limits } }
    check(bomb, await bench.run(bench.python, { 'main.py': bomb.program }, request))
  })
})

describe('wasm', () => {
  test.each(wasm)('one that $name', async bomb => {
    const request = { limits: { ...limits, ...bomb.limits } }
    check(bomb, await bench.run(bench.wasm, { 'm.wasm': await assemble(bomb.program) }, request))
  })
})

test.skipIf(!root || !cgroups)(
  'processor time is bounded by the cores asked for [needs root and cgroups]',
  async () => {
    const { outcome } = await bench.run(
      bench.python,
      { 'main.py': 'import os\nfor _ in range(3): os.fork()\nwhile True: pass' },
      { limits: { ...limits, cpuCores: 0.5, runSeconds: 2 } },
    )
    expect(outcome.limit).toBe('time')
    expect(outcome.used.cpuSeconds).toBeLessThan(1.5)
  },
)

test('a payload that stays within its limits is told of none', async () => {
  const program =
    'kept = bytearray(b"x") * (24 << 20); open("/scratch/x", "wb").write(b"x" * (6 << 20)); print("ok")'
  const { outcome, stdout } = await bench.run(bench.python, { 'main.py': program })
  expect(stdout).toBe('ok\n')
  expect(outcome).toMatchObject({ exitCode: 0 })
  expect(outcome.limit).toBeUndefined()
})
