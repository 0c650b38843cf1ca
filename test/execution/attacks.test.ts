// E1: what a hostile payload tries against the host, in each runtime, and the control that shows the attempts are real.
import { execFileSync, spawn } from 'node:child_process'
import { existsSync, rmSync } from 'node:fs'
import { copyFile, readFile, writeFile } from 'node:fs/promises'
import { createServer, type Server } from 'node:net'
import { join } from 'node:path'
import { afterAll, beforeAll, describe, expect, test } from 'vitest'
import { assemble, Bench, root, smallLimits } from './harness.ts'
import { linkModule, openModule } from './wasm-modules.ts'

interface Attempt {
  readonly name: string
  readonly effect: boolean | string
}

const attempts = new URL('payloads/attempts.py', import.meta.url)
const marker = `catalog-attempt-${process.pid}`
const markers = [join('/tmp', marker), join('/dev/shm', marker)]

let bench: Bench
let connections = 0
const servers: Server[] = []
const bystander = spawn('/bin/sleep', ['120'], { stdio: 'ignore' })
let target: string

beforeAll(async () => {
  process.env['CATALOG_TEST_CANARY'] = marker
  bench = await Bench.start()
  const listen = (where: { port: number; host: string } | { path: string }): Promise<Server> =>
    new Promise((resolve, reject) => {
      const server = createServer(socket => {
        connections++
        socket.destroy()
      })
      servers.push(server)
      server.once('error', reject).listen(where, () => resolve(server))
    })
  const address = (await listen({ port: 0, host: '127.0.0.1' })).address()
  await listen({ path: `\0${marker}` })
  await listen({ path: join(bench.home, 'control.sock') })
  await writeFile(join(bench.home, 'node.key'), 'secret', { mode: 0o600 })
  target = JSON.stringify({
    port: typeof address === 'object' ? address?.port : 0,
    abstract: marker,
    home: bench.home,
    staging: bench.staging.root,
    pid: bystander.pid,
    canary: marker,
    marker,
  })
})

afterAll(async () => {
  bystander.kill()
  for (const server of servers) server.close()
  for (const path of markers) rmSync(path, { force: true })
  await bench.stop()
})

const parse = (stdout: string): Attempt[] =>
  stdout
    .trim()
    .split('\n')
    .map(line => JSON.parse(line) as Attempt)

/** An attempt that needs the host to see its mark had its effect only where the host does. */
const effects = (all: readonly Attempt[]): string[] =>
  all
    .filter(({ effect }) => effect === true || (effect === 'seen by the host' && markers.some(existsSync)))
    .map(({ name }) => name)

describe('python', () => {
  test('no attempt has an effect', async () => {
    const ran = await bench.run(
      bench.python,
      { 'attempts.py': await readFile(attempts, 'utf8') },
      { input: Buffer.from(target), limits: { ...smallLimits, processes: 32, runSeconds: 30 } },
    )
    expect(ran.stderr).toBe('')
    expect(ran.outcome).toMatchObject({ exitCode: 0 })
    const all = parse(ran.stdout)
    expect(all.length).toBeGreaterThanOrEqual(60)
    expect(effects(all)).toEqual([])
    expect(connections).toBe(0)
    expect(bystander.exitCode ?? bystander.signalCode).toBeNull()
    expect(bench.leftovers().filter(line => !line.includes('sleep'))).toEqual([])
    expect(await readFile(join(bench.home, 'node.key'), 'utf8')).toBe('secret')
  })

  test('the control: outside the sandbox at least 15 do', async () => {
    // A copy: some attempts are on the file itself.
    const copy = join(bench.home, 'attempts.py')
    await copyFile(attempts, copy)
    const stdout = execFileSync('/usr/bin/python3', [copy], {
      input: target,
      encoding: 'utf8',
      timeout: 60_000,
      cwd: bench.home,
    })
    const working = effects(parse(stdout))
    expect(working.length, working.join(', ')).toBeGreaterThanOrEqual(15)
  })
})

describe('wasm', () => {
  const outside = [
    '/etc/passwd',
    '/etc/shadow',
    '../etc/passwd',
    '../../../../../../etc/passwd',
    'x/../../etc/passwd',
    '/proc/1/environ',
    '../proc/self/environ',
    '../runtime/node',
    '/dev/mem',
  ]

  test('the control: a file of the package opens, and one is made in the scratch directory', async () => {
    const files = { 'm.wasm': await assemble(openModule), data: 'x' }
    expect((await bench.run(bench.wasm, files, { args: ['data', 'r'] })).outcome.exitCode).toBe(0)
    expect((await bench.run(bench.wasm, files, { args: ['new', 'w'] })).outcome.exitCode).toBe(0)
  })

  test.each(outside)('does not open %s', async path => {
    const files = { 'm.wasm': await assemble(openModule) }
    expect((await bench.run(bench.wasm, files, { args: [path, 'r'] })).outcome.exitCode).toBe(1)
  })

  test.each(['/etc/passwd', '../../etc/passwd', '/proc/1/environ'])(
    'does not open %s through a link of its own',
    async path => {
      const files = { 'm.wasm': await assemble(linkModule) }
      expect((await bench.run(bench.wasm, files, { args: [path] })).outcome.exitCode).toBe(1)
    },
  )

  test('does not write to its package', async () => {
    const files = { 'm.wasm': await assemble(openModule), 'data/x': 'x' }
    expect((await bench.run(bench.wasm, files, { args: ['data/y', 'w'] })).outcome.exitCode).toBe(1)
  })
})

test.skipIf(!root)('a payload runs under a uid of its own, never that of root [needs root]', async () => {
  const run = bench.run(bench.python, { 'main.py': 'import time; time.sleep(1.5)' })
  await new Promise(resolve => setTimeout(resolve, 700))
  const uids = execFileSync('/bin/ps', ['-eo', 'uid=,args='], { encoding: 'utf8' })
    .split('\n')
    .filter(line => line.includes('/package/main.py') || line.includes('/usr/bin/bwrap --args'))
    .map(line => Number(line.trim().split(' ')[0]))
  expect(uids.length).toBeGreaterThanOrEqual(2)
  expect(uids.every(uid => uid >= 1_900_000_000)).toBe(true)
  await run
})
