// A disk that is full, at 20 levels of what is left: typed refusals, nothing lost, reads and removals go on, and it
// recovers without a restart when space returns.
import { fileURLToPath } from 'node:url'
import { expect, it } from 'vitest'
import type { LevelReport } from './full-disk-worker.ts'
import { runOnSmallDisk, whyNoMounts } from './mount-namespace.ts'
import { temporaryDirectory } from './temporary-directory.ts'

const levels = 20

it(`works on a disk that is full, at ${levels} levels`, async context => {
  const why = await whyNoMounts()
  if (why !== undefined) context.skip(`SKIP: ${why}`)
  const worker = fileURLToPath(new URL('full-disk-worker.ts', import.meta.url))
  const output = await runOnSmallDisk(await temporaryDirectory(), 32, worker, [String(levels)])
  const reports = JSON.parse(output) as LevelReport[]
  expect(reports).toHaveLength(levels)
  expect(reports.filter(({ wrong }) => wrong.length > 0)).toEqual([])
  // The disk was full: at the lowest levels nothing fits, and at the highest something does.
  for (const report of reports.slice(0, 2)) expect(report.accepted).toBe(0)
  for (const report of reports.slice(-2)) expect(report.accepted).toBeGreaterThan(0)
  expect(reports.filter(({ refusals }) => refusals.length > 0).length).toBeGreaterThan(levels / 2)
}, 120_000)
