// E3: where the sandbox is missing or does not hold, execution is refused with the reason, and nothing runs outside it.
import { execFileSync, spawn } from 'node:child_process'
import { existsSync } from 'node:fs'
import { chmod, mkdtemp, readdir, rm, writeFile } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { afterEach, beforeEach, expect, test } from 'vitest'
import { StagingArea, stagingRoot } from '../../src/execution/staging.ts'
import { Bench, root } from './harness.ts'

let directory: string
beforeEach(async () => {
  directory = await mkdtemp(join(tmpdir(), 'catalog-tools-'))
  await chmod(directory, 0o755)
})
afterEach(() => rm(directory, { recursive: true, force: true }))

/** A bubblewrap that does something else: the rest of its words after `--` are the command. */
async function standIn(script: string): Promise<string> {
  const path = join(directory, 'bwrap')
  await writeFile(path, `#!/bin/sh\n${script}\n`, { mode: 0o755 })
  return path
}

/** Runs the job on the host, as no sandbox should: the job file is found among the options. */
const unsandboxed = `
options=$(tr '\\0' '\\n' <&3)
job=$(echo "$options" | grep '/made/job$')
canary=$(echo "$options" | grep 'canary.mjs$' | head -1)
made=$(dirname "$job")
echo '{"exit-code": 0}' >&5
exec "$CATALOG_NODE" "$canary" "$made/canary.json"`

const cases: readonly (readonly [string, () => Promise<string>, RegExp])[] = [
  ['bubblewrap is missing', async () => join(directory, 'none'), /bubblewrap/],
  [
    'bubblewrap cannot make namespaces',
    () => standIn('echo "bwrap: No permissions to create new namespace" >&2; exit 1'),
    /No permissions/,
  ],
  ['bubblewrap ends without a word', () => standIn('exit 0'), /could not be set up/],
  [
    'bubblewrap claims success and runs nothing',
    () => standIn("echo '{\"exit-code\": 0}' >&5; echo '[]'"),
    /does not bound memory/,
  ],
  [
    'the payload runs on the host',
    () => standIn(`CATALOG_NODE=${process.execPath}; ${unsandboxed}`),
    /self-test failed/,
  ],
  [
    'there is no system-call filter',
    () =>
      standIn(
        `exec 4<&-; tr '\\0' '\\n' <&3 | awk 'BEGIN{s=0} s>0{s--;next} /^--seccomp$/{s=1;next} {printf "%s%c",$0,0}' > ${directory}/options.$$; exec /usr/bin/bwrap --args 3 --json-status-fd 5 -- /bin/sh /runtime/job 3< ${directory}/options.$$`,
      ),
    /no system-call filter|socket|namespace/,
  ],
  [
    'the network is shared',
    () =>
      standIn(
        `{ tr '\\0' '\\n' <&3 | awk '{printf "%s%c",$0,0}'; printf '%s\\0' --share-net; } > ${directory}/options.$$; exec /usr/bin/bwrap --args 3 --json-status-fd 5 -- /bin/sh /runtime/job 3< ${directory}/options.$$`,
      ),
    /network interface/,
  ],
  [
    'a directory of the host is bound',
    () =>
      standIn(
        `{ printf '%s\\0' --ro-bind /etc /etc; cat <&3; } > ${directory}/options.$$; exec /usr/bin/bwrap --args 3 --json-status-fd 5 -- /bin/sh /runtime/job 3< ${directory}/options.$$`,
      ),
    /\/etc\/passwd of the host is visible|self-test/,
  ],
]

test.each(cases)('nothing is run where %s', async (_what, make, reason) => {
  const path = await make()
  await chmod(directory, 0o777)
  const bench = await Bench.start({ bwrap: path })
  try {
    expect(bench.sandbox.state).toMatchObject({ tier: 'none', reason: expect.stringMatching(reason) })
    const mark = join(directory, 'ran')
    const program = `open(${JSON.stringify(mark)}, "w")`
    await expect(bench.run(bench.python, { 'main.py': program })).rejects.toMatchObject({
      code: 'sandbox-unavailable',
    })
    expect(existsSync(mark)).toBe(false)
    expect(await bench.python.probe()).toMatchObject({ ok: false })
    expect(await bench.wasm.probe()).toMatchObject({ ok: false })
  } finally {
    await bench.stop()
  }
})

test.skipIf(root)('the strong sandbox is insisted on and cannot be had [needs not to be root]', async () => {
  const bench = await Bench.start({ requireStrong: true })
  expect(bench.sandbox.state).toMatchObject({
    tier: 'none',
    reason: expect.stringContaining('requires the strong'),
  })
  await bench.stop()
})

test('what a daemon left that was killed is cleared by the next', async () => {
  const home = await mkdtemp(join(tmpdir(), 'catalog-home-'))
  try {
    const daemon = spawn(process.execPath, [new URL('payloads/daemon.ts', import.meta.url).pathname, home], {
      stdio: ['ignore', 'pipe', 'inherit'],
    })
    await new Promise(resolve => daemon.stdout.once('data', resolve))
    const payloads = (): string[] =>
      execFileSync('/bin/ps', ['-eo', 'pid=,stat=,args='], { encoding: 'utf8' })
        .split('\n')
        .filter(line => line.includes(`--catalog-test=${home}`) && !line.includes('daemon.ts'))
    expect(payloads().length).toBeGreaterThan(0)
    daemon.kill('SIGKILL')
    await new Promise(resolve => daemon.once('exit', resolve))
    await expect.poll(payloads, { timeout: 2_000 }).toEqual([])
    const staging = new StagingArea(stagingRoot(home))
    expect((await readdir(staging.root)).length).toBeGreaterThan(0)

    const bench = await Bench.start({}, home)
    expect(bench.sandbox.state).not.toMatchObject({ tier: 'none' })
    // The processes that were orphaned by the kill are reaped by the host, in its own time.
    await expect.poll(() => bench.leftovers(), { timeout: 5_000 }).toEqual([])
    await bench.stop()
    expect(existsSync(staging.root)).toBe(false)
  } finally {
    await rm(home, { recursive: true, force: true })
  }
})
