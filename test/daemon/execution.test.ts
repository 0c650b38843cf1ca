import { readFile } from 'node:fs/promises'
import { join } from 'node:path'
import { fileURLToPath } from 'node:url'
import { beforeAll, describe, expect, it } from 'vitest'
import type { ExecutionView, PublishResult } from '../../src/control/api.ts'
import { Laboratory, type TestNode, until } from './harness.ts'

const laboratory = new Laboratory()
const lineCount = fileURLToPath(new URL('../../src/cli/demo/packages/line-count', import.meta.url))
let asked: TestNode
let worker: TestNode

beforeAll(async () => {
  asked = await laboratory.started('asked')
  worker = await laboratory.started('worker', [asked], ['--offer-execution'])
  await asked.client.publish({ path: lineCount })
  await until('they are connected', async () => (await asked.client.peers()).length === 1)
})

interface PythonOptions {
  readonly version?: string
  readonly execution?: Record<string, unknown>
}

/** Publishes a package whose payload is the program. */
async function python(
  name: string,
  program: string,
  { version = '1.0.0', execution = {} }: PythonOptions = {},
): Promise<string> {
  const path = await laboratory.package(
    name,
    version,
    { 'main.py': program, 'data.txt': 'packaged' },
    {
      execution: {
        runtime: 'python',
        entrypoint: 'main.py',
        memory_mb: 96,
        storage_mb: 16,
        timeout_config: { run_seconds: 20 },
        ...execution,
      },
    },
  )
  return (await asked.json<PublishResult>('publish', path)).id
}

describe('executing', () => {
  it('hands a payload to a node that offers, with input, arguments, environment, output and exit code', async () => {
    await python(
      'echo',
      'import os, sys\nprint(sys.argv[1:], os.environ["MODE"], open("data.txt").read(), sys.stdin.read())\nprint("complaint", file=sys.stderr)\nsys.exit(7)\n',
    )
    const { code, stdout, stderr } = await asked.run(
      'execute',
      'echo',
      '--env',
      'MODE=plain',
      '--',
      'a',
      'b c',
    )
    expect([code, stdout, stderr.includes('complaint')]).toEqual([7, "['a', 'b c'] plain packaged \n", true])
    const [peer] = (await asked.json<{ peers: { peer: string; offersExecution: boolean }[] }>('peers')).peers
    expect(peer).toMatchObject({ peer: worker.peerId, offersExecution: true })
    expect((await worker.client.peers())[0]?.offersExecution).toBe(false)
    const executions = (await asked.json<{ executions: ExecutionView[] }>('executions')).executions
    expect(executions.at(-1)).toMatchObject({
      name: 'echo',
      peer: worker.peerId,
      requester: asked.peerId,
      state: 'failed',
      exitCode: 7,
    })
  })

  it('gives one JSON object with --json, also for WebAssembly, and reads input from a file or standard input', async () => {
    const input = await laboratory.package('input', '1.0.0', { 'in.txt': 'one two\nthree\n' })
    const view = JSON.parse(
      (
        await asked.run(
          'execute',
          'line-count',
          '--on',
          worker.peerId,
          '--input',
          join(input, 'in.txt'),
          '--json',
        )
      ).stdout,
    ) as ExecutionView
    expect(view).toMatchObject({
      state: 'succeeded',
      exitCode: 0,
      stdout: '2 3 14\n',
      stderr: '',
      peer: worker.peerId,
    })
    const local = JSON.parse(
      (await asked.run('execute', 'line-count', '--on', 'local', '--json')).stdout,
    ) as ExecutionView
    expect(local).toMatchObject({ state: 'succeeded', stdout: '0 0 0\n', peer: asked.peerId })
  })

  it('follows a detached execution, and gives its logs and result as if it had run here', async () => {
    await python(
      'slow',
      'import os, time\nprint("begun", flush=True)\ntime.sleep(2)\nos.mkdir(os.environ["CATALOG_SCRATCH"] + "/out")\nopen(os.environ["CATALOG_SCRATCH"] + "/out/answer", "w").write("42")\nprint("done")\n',
      { execution: { outputs: 'out' } },
    )
    const { id } = await asked.json<{ id: string }>('execute', 'slow', '--on', worker.peerId, '--detach')
    await until('it runs', async () => (await asked.client.execution(id)).state === 'running')
    await until('its first line is here', async () => (await asked.client.execution(id)).stdout === 'begun\n')
    const early = await asked.run('result', id, '--out', await laboratory.path('early'), '--json')
    expect([early.code, JSON.parse(early.stderr).error.code]).toEqual([6, 'result-not-ready'])
    await until('it has ended', async () => (await asked.client.execution(id)).state === 'succeeded')
    expect((await asked.run('logs', id)).stdout).toBe('begun\ndone\n')
    const out = await laboratory.path('result')
    expect(await asked.json('result', id, '--out', out)).toMatchObject({ id, files: 1, bytes: 2 })
    expect(await readFile(join(out, 'answer'), 'utf8')).toBe('42')
  })

  it('cancels a delegated execution, and a client that goes away cancels its own', async () => {
    await python('endless', 'import time\nprint("on", flush=True)\nwhile True: time.sleep(1)\n')
    const { id } = await asked.json<{ id: string }>('execute', 'endless', '--on', worker.peerId, '--detach')
    await until('it runs', async () => (await asked.client.execution(id)).stdout === 'on\n')
    expect(await asked.json('cancel', id)).toMatchObject({ id, state: 'cancelled' })
    const gone = new AbortController()
    const waiting = asked.client.execute(
      { ref: 'endless', on: worker.peerId, args: [], env: {} },
      { signal: gone.signal, onEvent: event => 'stream' in event && gone.abort() },
    )
    await expect(waiting).rejects.toThrow()
    await until('it was cancelled there', async () =>
      (await worker.client.executions()).every(({ state }) => state !== 'running'),
    )
  })

  it('resumes following after its own daemon was killed', async () => {
    await python('outlives', 'import time\nfor i in range(5):\n    print(i, flush=True)\n    time.sleep(1)\n')
    const { id } = await asked.json<{ id: string }>('execute', 'outlives', '--on', worker.peerId, '--detach')
    await until('it prints', async () => ((await asked.client.execution(id)).stdout ?? '').length > 2)
    await asked.end('SIGKILL')
    await asked.start(['--bootstrap', worker.address])
    await until('it succeeded', async () => (await asked.client.execution(id)).state === 'succeeded', 20_000)
    expect((await asked.client.execution(id)).stdout).toBe('0\n1\n2\n3\n4\n')
  })

  it('says what it cannot run and why, with a code for each', async () => {
    const refusals: [string[], number, string][] = [
      [['execute', 'nowhere'], 125, 'not-found'],
      [
        ['execute', 'line-count', '--on', '12D3KooWGnW1QG4CBkJfDDbVbkqT1bhsGUyGqTbhLsFh2ZGRzR4v'],
        125,
        'peer-unreachable',
      ],
      [['execute', 'line-count', '--nodes', '3'], 125, 'invalid-request'],
    ]
    await asked.json('publish', await laboratory.package('still-life', '1.0.0', { x: 'x' }))
    refusals.push([['execute', 'still-life'], 125, 'not-executable'])
    await python('greedy', 'print(1)', { execution: { memory_mb: 16_000_000 } })
    refusals.push([['execute', 'greedy', '--on', 'local'], 125, 'exceeds-ceiling'])
    await python('gpu', 'print(1)', { execution: { gpu_required: true } })
    refusals.push([['execute', 'gpu', '--on', 'local'], 125, 'exceeds-ceiling'])
    for (const [args, exit, code] of refusals) {
      const finished = await asked.run(...args, '--json')
      expect([args.join(' '), finished.code, JSON.parse(finished.stderr).error.code]).toEqual([
        args.join(' '),
        exit,
        code,
      ])
    }
    // A node that does not offer execution runs nothing for others.
    const unwilling = await worker.run('execute', 'line-count', '--on', asked.peerId, '--json')
    expect([unwilling.code, JSON.parse(unwilling.stderr).error.code]).toEqual([125, 'not-offered'])
  })

  it('spreads executions that are asked for at once over the nodes that offer', async () => {
    const second = await laboratory.started('second-worker', [asked, worker], ['--offer-execution'])
    await python('busy', 'import time\ntime.sleep(2)\n')
    await until('both are connected', async () => (await asked.client.peers()).length === 2)
    const views = await Promise.all(
      Array.from({ length: 8 }, () => asked.client.execute({ ref: 'busy', on: 'auto', args: [], env: {} })),
    )
    const used = new Set(views.map(({ peer }) => peer))
    expect([...used].sort()).toEqual([second.peerId, worker.peerId].sort())
    await second.end('SIGTERM')
  })

  it('keeps a hostile payload in: no network, no files of the host, no fork bomb', async () => {
    await python(
      'hostile',
      'import socket, os\ndef attempt(what, f):\n    try:\n        f()\n        print("ESCAPED", what)\n    except OSError as e:\n        print("held", what)\nattempt("network", lambda: socket.create_connection(("127.0.0.1", 22), 1))\nattempt("dns", lambda: socket.getaddrinfo("example.org", 80))\nattempt("shadow", lambda: open("/etc/shadow").read())\nattempt("home", lambda: os.listdir("/root"))\nattempt("package", lambda: open("main.py", "w"))\n',
    )
    const held = JSON.parse((await asked.run('execute', 'hostile', '--json')).stdout) as ExecutionView
    expect(held.stdout).toBe('held network\nheld dns\nheld shadow\nheld home\nheld package\n')
    await python(
      'bomb',
      'import os, time\nwhile True:\n    try:\n        os.fork()\n    except OSError:\n        time.sleep(0.01)\n',
      { execution: { timeout_config: { run_seconds: 3 } } },
    )
    const bomb = JSON.parse((await asked.run('execute', 'bomb', '--json')).stdout) as ExecutionView
    expect(bomb.state).toBe('failed')
    expect(['processes', 'time', 'memory']).toContain(bomb.limit)
    await python('flood', 'while True: print("x" * 10000)')
    const flood = JSON.parse((await asked.run('execute', 'flood', '--json')).stdout) as ExecutionView
    expect(flood).toMatchObject({ state: 'failed', limit: 'output', stdoutTruncated: true })
    expect(flood.stdout?.length).toBe(1024 * 1024)
  })
})
