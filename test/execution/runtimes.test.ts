// What a well-behaved payload sees and gets, in Python and in WebAssembly.
import { constants, existsSync } from 'node:fs'
import { copyFile, mkdtemp, readdir, readFile, rm, stat } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { afterAll, beforeAll, describe, expect, test } from 'vitest'
import { PythonRuntime } from '../../src/execution/python-runtime.ts'
import { defaultWasmOptions, WasmRuntime } from '../../src/execution/wasm-runtime.ts'
import { assemble, Bench, cgroups, root, smallLimits } from './harness.ts'
import { echoModule, foreignModule, trapModule } from './wasm-modules.ts'

let bench: Bench
beforeAll(async () => {
  bench = await Bench.start()
})
afterAll(() => bench.stop())

test('the tier is the best that this user can have', () => {
  expect(bench.sandbox.state.tier).toBe(root && cgroups ? 'strong' : 'user')
})

describe('python', () => {
  test('gets its arguments, environment, input and package, and gives its output and exit code', async () => {
    const program = [
      'import json, os, sys',
      'import helper',
      'print(json.dumps({"args": sys.argv[1:], "mode": os.environ["MODE"], "input": sys.stdin.read(),',
      '  "cwd": os.getcwd(), "helper": helper.value, "data": open("data/x.txt").read(),',
      '  "home": os.environ["HOME"], "scratch": os.environ["CATALOG_SCRATCH"], "uid": os.getuid(),',
      '  "instance": os.environ.get("CATALOG_INSTANCE")}))',
      'print("on the other hand", file=sys.stderr)',
      'sys.exit(3)',
    ].join('\n')
    const ran = await bench.run(
      bench.python,
      { 'main.py': program, 'helper.py': 'value = 41 + 1', 'data/x.txt': 'some data' },
      {
        args: ['--fast', "it's", '$HOME', ''],
        env: { MODE: 'plain', LD_PRELOAD: '/package/none.so' },
        input: Buffer.from('hello'),
      },
    )
    expect(ran.outcome).toMatchObject({ exitCode: 3 })
    expect(ran.outcome.limit).toBeUndefined()
    expect(JSON.parse(ran.stdout)).toEqual({
      args: ['--fast', "it's", '$HOME', ''],
      mode: 'plain',
      input: 'hello',
      cwd: '/package',
      helper: 42,
      data: 'some data',
      home: '/scratch',
      scratch: '/scratch',
      uid: 65534,
      instance: null,
    })
    expect(ran.stderr).toContain('on the other hand')
  })

  test('an entrypoint in a folder imports its neighbours and the package', async () => {
    const ran = await bench.run(bench.python, {
      'src/main.py': 'import near, far; print(near.x + far.x)',
      'src/near.py': 'x = "near "',
      'far.py': 'x = "far"',
    })
    expect(ran.stdout).toBe('near far\n')
  })

  test('its standard library works: threads, processes, temporary files, pipes', async () => {
    const program = [
      'import tempfile, threading, multiprocessing, subprocess, sqlite3',
      'def double(n): return 2 * n',
      'if __name__ == "__main__":',
      '  with multiprocessing.get_context("fork").Pool(2) as pool: print(pool.map(double, [1, 2]))',
      '  with tempfile.NamedTemporaryFile() as f: f.write(b"x")',
      '  print(subprocess.check_output(["echo", "sub"]).decode().strip())',
      '  print(sqlite3.connect(":memory:").execute("select 1 + 1").fetchone())',
    ].join('\n')
    const ran = await bench.run(bench.python, { 'main.py': program })
    expect(ran.stderr).toBe('')
    expect(ran.stdout).toBe('[2, 4]\nsub\n(2,)\n')
  })

  test('an instance knows its number', async () => {
    const program = 'import os; print(os.environ["CATALOG_INSTANCE"], os.environ["CATALOG_INSTANCES"])'
    const ran = await bench.run(bench.python, { 'main.py': program }, { instance: { index: 1, count: 3 } })
    expect(ran.stdout).toBe('1 3\n')
  })

  test('a signal that ends it is told', async () => {
    const ran = await bench.run(bench.python, { 'main.py': 'import os; os.kill(os.getpid(), 15)' })
    expect(ran.outcome).toMatchObject({ exitCode: 143, killedBy: 15 })
  })

  test('a large input and output pass through whole', async () => {
    const input = Buffer.alloc(4 * 1024 * 1024, 'abcdefghij')
    const program = 'import sys, shutil; shutil.copyfileobj(sys.stdin.buffer, sys.stdout.buffer)'
    const ran = await bench.run(
      bench.python,
      { 'main.py': program },
      { input, limits: { ...smallLimits, outputBytes: 5 * 1024 * 1024 } },
    )
    expect(ran.outcome.exitCode).toBe(0)
    expect(ran.stdout === input.toString('utf8')).toBe(true)
  })

  test('a payload that does not read its input is no error', async () => {
    const ran = await bench.run(bench.python, { 'main.py': '' }, { input: Buffer.alloc(1024 * 1024) })
    expect(ran.outcome.exitCode).toBe(0)
  })

  test('a missing interpreter is named, with what to install', async () => {
    const runtime = new PythonRuntime(
      { sandbox: bench.sandbox },
      { interpreter: '/usr/bin/python9', ownMemoryMb: 32 },
    )
    expect(await runtime.probe()).toEqual({
      ok: false,
      reason: expect.stringContaining('apt-get install python3'),
    })
    await expect(bench.run(runtime, { 'main.py': '' })).rejects.toMatchObject({ code: 'runtime-unavailable' })
  })
})

describe('wasm', () => {
  test('gets its arguments, environment and input, and gives its output and exit code', async () => {
    const ran = await bench.run(
      bench.wasm,
      { 'bin/echo.wasm': await assemble(echoModule) },
      {
        args: ['one', 'two'],
        env: { MODE: 'plain', NODE_OPTIONS: '--nonsense' },
        input: Buffer.from('hello'),
      },
    )
    expect(ran.stderr).toBe('')
    expect(ran.outcome).toMatchObject({ exitCode: 7 })
    const parts = ran.stdout.split('\0')
    expect(parts.slice(0, 3)).toEqual(['bin/echo.wasm', 'one', 'two'])
    expect(parts).toContain('MODE=plain')
    expect(parts).toContain('CATALOG_SCRATCH=/scratch')
    expect(parts.at(-1)).toBe('hello')
  })

  test('a trap is told', async () => {
    const ran = await bench.run(bench.wasm, { 'm.wasm': await assemble(trapModule) })
    expect(ran.outcome.exitCode).toBe(134)
    expect(ran.stderr).toContain('trap: unreachable')
  })

  test('a module that wants more than WASI is told what', async () => {
    const ran = await bench.run(bench.wasm, { 'm.wasm': await assemble(foreignModule) })
    expect(ran.outcome.exitCode).toBe(134)
    expect(ran.stderr).toContain('imports node.require')
  })

  test('what is no module is refused before anything starts', async () => {
    await expect(bench.run(bench.wasm, { 'm.wasm': 'not wasm' })).rejects.toMatchObject({
      code: 'not-executable',
    })
  })
})

test.skipIf(!root)('an engine in a home that no one may enter is run from a copy [needs root]', async () => {
  const directory = await mkdtemp(join(tmpdir(), 'catalog-private-'))
  try {
    const node = join(directory, 'node')
    await copyFile(process.execPath, node, constants.COPYFILE_FICLONE)
    const wasm = new WasmRuntime({ sandbox: bench.sandbox }, { ...defaultWasmOptions, node })
    const ran = await bench.run(wasm, { 'm.wasm': await assemble(echoModule) })
    expect(ran.outcome.exitCode).toBe(7)
    expect((await stat(directory)).mode & 0o777).toBe(0o700)
  } finally {
    await rm(directory, { recursive: true })
  }
})

describe('outputs', () => {
  test('are handed back, and gone once disposed of', async () => {
    const program =
      'import os; os.makedirs("/scratch/out/deep"); open("/scratch/out/deep/r.txt", "w").write("42")'
    const { outcome } = await bench.run(bench.python, { 'main.py': program }, { outputs: 'out' })
    const directory = outcome.outputsDirectory ?? ''
    expect(await readdir(directory)).toEqual(['deep'])
    expect(await readFile(join(directory, 'deep/r.txt'), 'utf8')).toBe('42')
    await outcome.dispose()
    expect(existsSync(directory)).toBe(false)
    expect(bench.leftovers()).toEqual([])
  })

  test.each([
    ['a link', 'import os; os.symlink("/etc", "/scratch/out")', 'out'],
    ['a link on the way', 'import os; os.symlink("/", "/scratch/out")', 'out/etc'],
    ['a file', 'open("/scratch/out", "w")', 'out'],
    ['nothing', '', 'out'],
  ])('are absent where the payload made %s of them', async (_what, program, outputs) => {
    const { outcome } = await bench.run(bench.python, { 'main.py': program }, { outputs })
    expect(outcome.exitCode).toBe(0)
    expect(outcome.outputsDirectory).toBeUndefined()
  })
})

describe('what is asked for', () => {
  test.each([
    ['an entrypoint outside the package', { entrypoint: '../main.py' }, 'not-executable'],
    ['an absolute entrypoint', { entrypoint: '/usr/bin/python3' }, 'not-executable'],
    ['a missing entrypoint', { entrypoint: 'none.py' }, 'not-executable'],
    ['outputs outside the scratch directory', { outputs: '../x' }, 'invalid-request'],
    ['a variable with a bad name', { env: { 'A=B': 'x' } }, 'invalid-request'],
    ['a NUL in an argument', { args: ['a\0b'] }, 'invalid-request'],
    ['an argument that no exec takes', { args: ['a'.repeat(200_000)] }, 'invalid-request'],
    ['an id that is a path', { id: '../x' }, 'invalid-request'],
    ['no time', { limits: { ...smallLimits, runSeconds: 0 } }, 'invalid-request'],
  ])('is refused: %s', async (_what, request, code) => {
    await expect(bench.run(bench.python, { 'main.py': '' }, request)).rejects.toMatchObject({ code })
    expect(bench.leftovers()).toEqual([])
  })

  test('an abort ends the run with its reason and leaves nothing', async () => {
    const controller = new AbortController()
    const reason = new Error('enough')
    setTimeout(() => controller.abort(reason), 300)
    const started = performance.now()
    const run = bench.run(
      bench.python,
      { 'main.py': 'import time; time.sleep(30)' },
      { signal: controller.signal },
    )
    await expect(run).rejects.toBe(reason)
    expect(performance.now() - started).toBeLessThan(2_000)
    expect(bench.leftovers()).toEqual([])
  })
})
