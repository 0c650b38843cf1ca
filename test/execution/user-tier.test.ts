// The same attacks and bombs as a plain user: this file starts the other test files of this folder under another uid.
import { execFileSync } from 'node:child_process'
import { accessSync, chownSync, constants, mkdtempSync, rmSync, statSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { dirname, join } from 'node:path'
import { fileURLToPath } from 'node:url'
import { expect, test } from 'vitest'
import { root } from './harness.ts'

const uid = 61_234
const project = fileURLToPath(new URL('../..', import.meta.url))

/** Whether any user may walk down to the checkout: a home of mode 0700 above it hides it. */
function reachable(path: string): boolean {
  const { mode } = statSync(path)
  return (mode & 0o001) !== 0 && (path === dirname(path) || reachable(dirname(path)))
}

const skipped = !root
  ? 'needs root, to become another user'
  : !reachable(project)
    ? 'the checkout is under a directory that other users cannot enter'
    : undefined

test.skipIf(skipped !== undefined)(
  `attacks, bombs and self-tests as a plain user${skipped === undefined ? '' : ` [${skipped}]`}`,
  { timeout: 180_000 },
  () => {
    const vitest = fileURLToPath(new URL('../../node_modules/vitest/vitest.mjs', import.meta.url))
    accessSync(vitest, constants.R_OK)
    const files = ['runtimes', 'attacks', 'bombs', 'self-test'].map(name => `test/execution/${name}.test.ts`)
    const become = ['--reuid', String(uid), '--regid', String(uid), '--clear-groups', '--']
    const run = [
      process.execPath,
      vitest,
      'run',
      '--configLoader=native',
      '--cache=false',
      '--reporter=json',
      ...files,
    ]
    const home = mkdtempSync(join(tmpdir(), 'catalog-user-'))
    chownSync(home, uid, uid)
    let report: string
    try {
      report = execFileSync('/usr/bin/setpriv', [...become, ...run], {
        cwd: project,
        encoding: 'utf8',
        env: { PATH: '/usr/bin:/bin', HOME: home },
        stdio: ['ignore', 'pipe', 'pipe'],
        timeout: 170_000,
        maxBuffer: 64 * 1024 * 1024,
      })
    } catch (error) {
      report = String((error as { stdout?: unknown }).stdout ?? '')
      if (!report.includes('numTotalTests')) throw error
    } finally {
      rmSync(home, { recursive: true, force: true })
    }
    const { testResults } = JSON.parse(report.slice(report.indexOf('{"'))) as {
      testResults: { assertionResults: { fullName: string; status: string; failureMessages: string[] }[] }[]
    }
    const results = testResults.flatMap(({ assertionResults }) => assertionResults)
    const failed = results
      .filter(({ status }) => status === 'failed')
      .map(({ fullName, failureMessages }) => `${fullName}: ${failureMessages[0]?.slice(0, 600)}`)
    expect(failed).toEqual([])
    expect(results.filter(({ status }) => status === 'passed').length).toBeGreaterThan(60)
  },
)
