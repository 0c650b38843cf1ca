// Every check of the project, one after the other: types, style, dead code, layers, tests. All run even when one
// fails. The last line counts the tests; a failed check counts as one failure, and so does a run without tests.
// Usage: scripts/test [FILE…] (arguments go to vitest)
import { spawnSync } from 'node:child_process'
import { mkdtempSync, readFileSync, rmSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'

const checks: readonly (readonly [name: string, command: string, args: readonly string[]])[] = [
  ['types', 'tsc', ['--noEmit']],
  ['style', 'biome', ['check', '--error-on-warnings', '.']],
  ['dead code', 'knip', ['--no-progress']],
  ['layers', 'node', ['scripts/check-layers.ts']],
]

/** Longer than any run of the whole suite on a slow machine. */
const testsWithinMs = 45 * 60_000
const checkWithinMs = 5 * 60_000

interface Counts {
  readonly passed: number
  readonly failed: number
  readonly skipped: number
}

const failedChecks = checks.filter(([name, command, args]) => !passes(name, command, args))
const { passed, failed, skipped } = runTests(process.argv.slice(2))
const failures = failed + failedChecks.length
if (failedChecks.length > 0) console.log(`Failed checks: ${failedChecks.map(([name]) => name).join(', ')}`)
console.log(`${passed} passed, ${failures} failed, ${skipped} skipped`)
process.exitCode = failures > 0 || passed === 0 ? 1 : 0

function passes(name: string, command: string, args: readonly string[]): boolean {
  const start = performance.now()
  const { status, stdout, stderr, error } = spawnSync(command, args, {
    encoding: 'utf8',
    timeout: checkWithinMs,
  })
  const seconds = ((performance.now() - start) / 1000).toFixed(1)
  console.log(`${status === 0 ? '✓' : '✗'} ${name} (${command}, ${seconds} s)`)
  if (status !== 0) console.log([error?.message, stdout, stderr].filter(Boolean).join('\n').trimEnd())
  return status === 0
}

function runTests(args: readonly string[]): Counts {
  const directory = mkdtempSync(join(tmpdir(), 'catalog-test-report-'))
  const report = join(directory, 'report.json')
  try {
    const reporters = ['--reporter=default', '--reporter=json', `--outputFile.json=${report}`]
    const { status } = spawnSync('vitest', ['run', ...reporters, ...args], {
      stdio: 'inherit',
      timeout: testsWithinMs,
    })
    return countTests(report, status)
  } finally {
    rmSync(directory, { recursive: true, force: true })
  }
}

/** From vitest's own report; a run that left none, or failed beside its tests (a file that does not load), is a failure. */
function countTests(report: string, status: number | null): Counts {
  let counts: Counts
  try {
    const { numPassedTests, numFailedTests, numPendingTests, numTodoTests } = JSON.parse(
      readFileSync(report, 'utf8'),
    )
    counts = { passed: numPassedTests, failed: numFailedTests, skipped: numPendingTests + numTodoTests }
  } catch {
    console.log('vitest left no report')
    counts = { passed: 0, failed: 0, skipped: 0 }
  }
  return status === 0 || counts.failed > 0 ? counts : { ...counts, failed: 1 }
}
