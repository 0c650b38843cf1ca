// The queue and record keeper over the real sandbox and Python: states, ceilings, order, cancelling, following, memory.
import { readFile } from 'node:fs/promises'
import { join } from 'node:path'
import { afterAll, afterEach, beforeAll, beforeEach, describe, expect, test } from 'vitest'
import type { KeyValue } from '../../src/base/key-value.ts'
import { silentLog } from '../../src/base/log.ts'
import { MemoryKeyValue } from '../../src/base/memory-key-value.ts'
import {
  defaultExecutorOptions,
  type ExecutionFollowed,
  type ExecutionRecord,
  type ExecutionSpec,
  Executor,
  type ExecutorDeps,
  type ExecutorOptions,
} from '../../src/execution/executor.ts'
import { Bench, smallLimits } from './harness.ts'

const ceiling = { ...smallLimits, cpuCores: 2, memoryMb: 256, storageMb: 64, runSeconds: 30 }

let bench: Bench
let executor: Executor
let records: KeyValue
let kept: string[]
let count = 0
const programs = new Map<string, string>()

const make = (options: Partial<ExecutorOptions> = {}, deps: Partial<ExecutorDeps> = {}): Executor =>
  new Executor(
    {
      records,
      runtimes: [bench.python, bench.wasm],
      stage: async ({ id }) => {
        const directory = await bench.stage({ 'main.py': programs.get(id) ?? '' })
        return { directory: directory.path, dispose: () => directory.dispose() }
      },
      keepOutputs: async directory => {
        kept.push(await readFile(join(directory, 'result.txt'), 'utf8'))
        return { root: 'root-of-result' }
      },
      log: silentLog,
      ...deps,
    },
    { ...defaultExecutorOptions(), ceiling, ...options },
  )

const specOf = (program: string, more: Partial<ExecutionSpec> = {}): ExecutionSpec => {
  const id = more.id ?? `execution-${count++}`
  programs.set(id, program)
  return {
    id,
    release: 'a-release',
    name: 'word-count',
    version: '1.2.0',
    runtime: 'python',
    entrypoint: 'main.py',
    args: [],
    env: {},
    input: new Uint8Array(),
    limits: smallLimits,
    requester: 'a-peer',
    priority: 'normal',
    queueSeconds: 20,
    totalSeconds: 60,
    ...more,
  }
}

const sleeping = 'import time; print("up", flush=True); time.sleep(30)'

async function ended(id: string, of = executor): Promise<ExecutionRecord> {
  for await (const _event of of.follow(id));
  return of.get(id) as ExecutionRecord
}

const until = (id: string, state: string): Promise<void> =>
  expect.poll(() => executor.get(id)?.state, { timeout: 5_000, interval: 10 }).toBe(state)

beforeAll(async () => {
  bench = await Bench.start()
})
afterAll(() => bench.stop())
beforeEach(async () => {
  records = new MemoryKeyValue()
  kept = []
  executor = make()
  await executor.start()
})
afterEach(() => executor.stop())

describe('one execution', () => {
  test('passes through its states and is remembered with what it said', async () => {
    const spec = specOf(
      'import sys; print("out " + sys.stdin.read()); print("err", file=sys.stderr); sys.exit(0)',
      {
        input: Buffer.from('in'),
      },
    )
    expect(await executor.submit(spec)).toMatchObject({
      id: spec.id,
      state: expect.stringMatching(/queued|fetching/),
    })
    const events: ExecutionFollowed[] = []
    for await (const event of executor.follow(spec.id)) events.push(event)
    expect(events.flatMap(event => ('state' in event ? [event.state] : []))).toEqual([
      'queued',
      'fetching',
      'running',
      'succeeded',
    ])
    const record = executor.get(spec.id)
    expect(record).toMatchObject({
      state: 'succeeded',
      exitCode: 0,
      release: 'a-release',
      requester: 'a-peer',
      allocated: { cpuCores: 1, memoryMb: 64, storageMb: 16, runSeconds: 20 },
      used: { wallSeconds: expect.any(Number) },
      stdoutBytes: 7,
      stdoutTruncated: false,
    })
    expect(Date.parse(record?.endedAt ?? '')).toBeGreaterThanOrEqual(Date.parse(record?.startedAt ?? ''))
    const { stdout, stderr } = await executor.logs(spec.id)
    expect(Buffer.from(stdout).toString()).toBe('out in\n')
    expect(Buffer.from(stderr).toString()).toBe('err\n')
    expect(bench.leftovers()).toEqual([])
  })

  test('that fails says how', async () => {
    const bad = await executor.submit(specOf('import sys; sys.exit(3)'))
    expect(await ended(bad.id)).toMatchObject({ state: 'failed', exitCode: 3 })
    const slow = await executor.submit(
      specOf('while True: pass', { limits: { ...smallLimits, runSeconds: 1 } }),
    )
    expect(await ended(slow.id)).toMatchObject({ state: 'failed', limit: 'time', exitCode: 137 })
    const unstaged = make({}, { stage: () => Promise.reject(new Error('no such release')) })
    const lost = await unstaged.submit(specOf(''))
    expect(await ended(lost.id, unstaged)).toMatchObject({
      state: 'failed',
      error: { message: 'no such release' },
    })
  })

  test('has its outputs kept', async () => {
    const program = 'import os; os.mkdir("/scratch/out"); open("/scratch/out/result.txt", "w").write("42")'
    const { id } = await executor.submit(specOf(program, { outputs: 'out' }))
    expect(await ended(id)).toMatchObject({ state: 'succeeded', resultRoot: 'root-of-result' })
    expect(kept).toEqual(['42'])
    expect(bench.leftovers()).toEqual([])
  })

  test('keeps the beginning of a long output, and gives all of it to who follows', async () => {
    const small = make({ keptOutputBytes: 1_000 })
    const { id } = await small.submit(specOf('import sys; sys.stdout.write("0123456789" * 5_000)'))
    let live = 0
    for await (const event of small.follow(id)) if ('bytes' in event) live += event.bytes.length
    expect(live).toBe(50_000)
    expect(small.get(id)).toMatchObject({ stdoutBytes: 50_000, stdoutTruncated: true })
    expect((await small.logs(id)).stdout.length).toBe(1_000)
    const later: ExecutionFollowed[] = []
    for await (const event of small.follow(id)) later.push(event)
    expect(later).toMatchObject([
      { stream: 'stdout' },
      { stream: 'stdout', lost: 49_000 },
      { state: 'succeeded' },
    ])
  })

  test('is slowed by a slow follower, which loses nothing', async () => {
    const total = 4 * 1024 * 1024
    const program = `import os\nfor _ in range(${total / 65_536}): os.write(1, b"x" * 65536)`
    const roomy = { ...smallLimits, outputBytes: total }
    const patient = make({ ceiling: { ...ceiling, outputBytes: total } })
    const { id } = await patient.submit(specOf(program, { limits: roomy }))
    let taken = 0
    let waited = false
    for await (const event of patient.follow(id)) {
      if ('lost' in event) throw new Error(`lost ${event.lost}`)
      if (!('bytes' in event)) continue
      taken += event.bytes.length
      if (!waited) await new Promise(resolve => setTimeout(resolve, 500))
      // While the follower rested the payload could not run ahead by more than the high-water mark and some pipes.
      if (!waited) expect(patient.get(id)?.state).toBe('running')
      waited = true
    }
    expect(taken).toBe(total)
  })
})

describe('cancelling', () => {
  test('ends one that runs', async () => {
    const { id } = await executor.submit(specOf(sleeping))
    await until(id, 'running')
    const started = performance.now()
    expect(await executor.cancel(id)).toMatchObject({ state: 'cancelled' })
    expect(performance.now() - started).toBeLessThan(2_000)
    expect(bench.leftovers()).toEqual([])
    expect(await executor.cancel(id)).toMatchObject({ state: 'cancelled' })
  })

  test('ends one that waits, which never starts', async () => {
    const first = await executor.submit(specOf(sleeping, { limits: { ...smallLimits, cpuCores: 2 } }))
    const second = await executor.submit(specOf(sleeping))
    expect(await executor.cancel(second.id)).toMatchObject({ state: 'cancelled' })
    expect(executor.get(second.id)?.startedAt).toBeUndefined()
    await executor.cancel(first.id)
  })

  test('of what there is not is an error', async () => {
    await expect(executor.cancel('none')).rejects.toMatchObject({ code: 'no-such-execution' })
    await expect(executor.logs('none')).rejects.toMatchObject({ code: 'no-such-execution' })
  })
})

describe('admission', () => {
  test.each([
    ['memory', { memoryMb: 257 }],
    ['cores', { cpuCores: 3 }],
    ['time', { runSeconds: 31 }],
    ['storage', { storageMb: 65 }],
    ['what is no number', { memoryMb: Number.NaN }],
  ])('refuses a demand over the ceiling of %s', async (_what, more) => {
    const limits = { ...smallLimits, ...more }
    await expect(executor.submit(specOf('', { limits }))).rejects.toMatchObject({ code: 'exceeds-ceiling' })
    expect(await executor.canRun(limits, 'python')).toMatchObject({ fits: false })
    expect(executor.list()).toEqual([])
  })

  test('says what it can run', async () => {
    expect(await executor.canRun(smallLimits, 'python')).toEqual({ fits: true })
    expect(await executor.canRun(smallLimits, 'julia')).toMatchObject({ fits: false })
    expect(await executor.runtimes()).toEqual(['python', 'wasm'])
    await expect(executor.submit(specOf('', { runtime: 'julia' }))).rejects.toMatchObject({
      code: 'runtime-unavailable',
    })
  })

  test('refuses an id twice, even at once', async () => {
    const spec = specOf('')
    const results = await Promise.allSettled([executor.submit(spec), executor.submit(spec)])
    expect(results.map(({ status }) => status).sort()).toEqual(['fulfilled', 'rejected'])
    await ended(spec.id)
  })

  test('a full queue is busy', async () => {
    const short = make({ queueLength: 1, running: 1 })
    const first = await short.submit(specOf(sleeping))
    const second = await short.submit(specOf(sleeping))
    await expect(short.submit(specOf(sleeping))).rejects.toMatchObject({ code: 'busy' })
    expect(short.load()).toMatchObject({ queued: 1, running: 1, allocated: { memoryMb: 64 } })
    await short.cancel(second.id)
    await short.cancel(first.id)
    expect(short.load()).toMatchObject({ queued: 0, running: 0, allocated: { memoryMb: 0 } })
  })
})

describe('the queue', () => {
  test('never holds more than the ceiling, and starts the next when there is room', async () => {
    const big = { ...smallLimits, memoryMb: 128 }
    const ids: string[] = []
    for (let n = 0; n < 4; n++)
      ids.push(
        (await executor.submit(specOf('import time; time.sleep(0.4)', { limits: big, totalSeconds: 30 }))).id,
      )
    let most = 0
    const watch = setInterval(() => {
      most = Math.max(most, executor.load().allocated.memoryMb)
    }, 10)
    for (const id of ids) expect(await ended(id)).toMatchObject({ state: 'succeeded' })
    clearInterval(watch)
    expect(most).toBe(256)
  })

  test('higher priorities come first', async () => {
    const one = make({ running: 1 })
    const first = await one.submit(specOf('import time; time.sleep(0.5)'))
    const low = await one.submit(specOf('', { priority: 'low' }))
    const high = await one.submit(specOf('', { priority: 'high' }))
    await Promise.all([first, low, high].map(({ id }) => ended(id, one)))
    expect((one.get(high.id)?.startedAt ?? '') < (one.get(low.id)?.startedAt ?? '')).toBe(true)
  })

  test('a package runs as often at once as it says', async () => {
    const first = await executor.submit(specOf(sleeping, { maxConcurrent: 1 }))
    const second = await executor.submit(specOf('', { maxConcurrent: 1 }))
    await until(first.id, 'running')
    expect(executor.get(second.id)?.state).toBe('queued')
    await executor.cancel(first.id)
    expect(await ended(second.id)).toMatchObject({ state: 'succeeded' })
  })

  test('one that waits too long times out, and one that takes too long in all', async () => {
    const first = await executor.submit(
      specOf(sleeping, { limits: { ...smallLimits, cpuCores: 2 }, totalSeconds: 1.2 }),
    )
    const second = await executor.submit(specOf('', { queueSeconds: 0.3 }))
    expect(await ended(second.id)).toMatchObject({ state: 'timed-out' })
    expect(executor.get(second.id)?.startedAt).toBeUndefined()
    expect(await ended(first.id)).toMatchObject({ state: 'timed-out' })
    expect(executor.load().allocated).toEqual({ cpuCores: 0, memoryMb: 0, storageMb: 0 })
  })
})

describe('over a restart', () => {
  test('records and outputs are still there', async () => {
    const { id } = await executor.submit(specOf('print("said")'))
    const before = await ended(id)
    await executor.stop()
    executor = make()
    await executor.start()
    expect(executor.get(id)).toEqual(before)
    expect(Buffer.from((await executor.logs(id)).stdout).toString()).toBe('said\n')
    const events: ExecutionFollowed[] = []
    for await (const event of executor.follow(id)) events.push(event)
    expect(events.at(-1)).toEqual({ state: 'succeeded' })
  })

  test('what was running is lost', async () => {
    const { id } = await executor.submit(specOf(sleeping))
    await until(id, 'running')
    // The other daemon sees the store as a crash leaves it.
    const after = make()
    await after.start()
    expect(after.get(id)).toMatchObject({ state: 'lost', endedAt: expect.any(String) })
    await executor.cancel(id)
  })

  test('a stop ends what runs and what waits, in time', async () => {
    const first = await executor.submit(specOf(sleeping, { limits: { ...smallLimits, cpuCores: 2 } }))
    const second = await executor.submit(specOf(sleeping))
    await until(first.id, 'running')
    const started = performance.now()
    await executor.stop()
    expect(performance.now() - started).toBeLessThan(3_000)
    expect(executor.get(first.id)).toMatchObject({ state: 'lost' })
    expect(executor.get(second.id)).toMatchObject({ state: 'lost' })
    expect(bench.leftovers()).toEqual([])
    await expect(executor.submit(specOf(''))).rejects.toMatchObject({ code: 'daemon-stopping' })
  })

  test('the oldest are forgotten, with their outputs', async () => {
    const few = make({ keptRecords: 2 })
    const ids: string[] = []
    for (let n = 0; n < 4; n++) {
      ids.push((await few.submit(specOf(`print(${n})`))).id)
      await ended(ids.at(-1) ?? '', few)
    }
    expect(few.list().map(({ id }) => id)).toEqual(ids.slice(2))
    const keys: string[] = []
    for await (const key of records.keys({ prefix: 'execution/' })) keys.push(key)
    expect(keys.some(key => key.includes(ids[0] ?? ''))).toBe(false)
  })
})
