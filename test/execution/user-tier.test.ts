// The same attacks and bombs in the weaker tier: this file starts the other test files of this folder as a plain user,
// and as root on a machine without control groups.
import { execFileSync } from 'node:child_process'
import { chownSync, mkdtempSync, readFileSync, rmSync, statSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { dirname, join } from 'node:path'
import { fileURLToPath } from 'node:url'
import { expect, test } from 'vitest'
import { root } from './harness.ts'

const uid = 61_234
const project = fileURLToPath(new URL('../..', import.meta.url))
const vitest = join(project, 'node_modules/vitest/vitest.mjs')

/** Whether any user may walk down to the checkout: a home of mode 0700 above it hides it. */
const reachable = (path: string): boolean =>
  (statSync(path).mode & 0o001) !== 0 && (path === dirname(path) || reachable(dirname(path)))

const variants = [
  {
    name: 'as a plain user',
    owner: uid,
    skipped: reachable(project) ? undefined : 'the checkout is where other users cannot go',
    become: ['/usr/bin/setpriv', '--reuid', String(uid), '--regid', String(uid), '--clear-groups', '--'],
  },
  {
    name: 'as root without control groups',
    owner: 0,
    skipped: undefined,
    become: [
      ...['/usr/bin/unshare', '--mount', '--propagation', 'private', '/bin/sh', '-c'],
      'mount -t tmpfs none /sys/fs/cgroup && exec "$@"',
      'sh',
    ],
  },
]

interface Report {
  readonly testResults: readonly {
    readonly assertionResults: readonly {
      readonly fullName: string
      readonly status: string
      readonly failureMessages: readonly string[]
    }[]
  }[]
}

/** Runs the files and gives their results, failed or not. */
function runAs(become: readonly string[], owner: number): Report {
  const files = ['runtimes', 'attacks', 'bombs', 'self-test'].map(name => `test/execution/${name}.test.ts`)
  const home = mkdtempSync(join(tmpdir(), 'catalog-user-'))
  chownSync(home, owner, owner)
  const report = join(home, 'report.json')
  const options = ['--configLoader=native', '--cache=false', '--reporter=json', `--outputFile=${report}`]
  const [file = '', ...args] = [...become, process.execPath, vitest, 'run', ...options, ...files]
  try {
    execFileSync(file, args, {
      cwd: project,
      env: { PATH: '/usr/bin:/bin:/usr/sbin:/sbin', HOME: home },
      stdio: 'pipe',
      timeout: 100_000,
    })
    return read(report)
  } catch (error) {
    try {
      return read(report)
    } catch {
      throw error
    }
  } finally {
    rmSync(home, { recursive: true, force: true })
  }
}

const read = (path: string): Report => JSON.parse(readFileSync(path, 'utf8')) as Report

for (const { name, owner, skipped, become } of variants) {
  const reason = root ? skipped : 'needs root, to become another user'
  test.skipIf(reason !== undefined)(
    `attacks, bombs and self-tests ${name}${reason === undefined ? '' : ` [${reason}]`}`,
    { timeout: 120_000 },
    () => {
      const results = runAs(become, owner).testResults.flatMap(({ assertionResults }) => assertionResults)
      const failed = results
        .filter(({ status }) => status === 'failed')
        .map(({ fullName, failureMessages }) => `${fullName}: ${failureMessages[0]?.slice(0, 600)}`)
      expect(failed).toEqual([])
      expect(results.filter(({ status }) => status === 'passed').length).toBeGreaterThan(60)
    },
  )
}
