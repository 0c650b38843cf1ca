// The power is cut at random moments of publishing, fetching and removing: what was acknowledged is on the disk.
import { execFile } from 'node:child_process'
import { fileURLToPath } from 'node:url'
import { promisify } from 'node:util'
import { describe, expect, it, type TestContext } from 'vitest'
import { runInNamespace, whyNoMounts } from './mount-namespace.ts'
import { temporaryDirectory } from './temporary-directory.ts'

const worker = fileURLToPath(new URL('power-cut-worker.ts', import.meta.url))
const rounds = Number(process.env['CATALOG_POWER_CUTS'] ?? 25)
const seed = Number(process.env['CATALOG_SEED'] ?? Math.floor(Math.random() * 2 ** 31))

interface Report {
  readonly wrong: readonly string[]
  readonly slowestOpenMs: number
  readonly roots: number
  readonly completions: number
}

async function cutPower(context: TestContext, times: number, mode: string): Promise<Report> {
  const why = (await whyNoMounts()) ?? (await whyNoTools())
  if (why !== undefined) context.skip(`SKIP: ${why}`)
  const command = [process.execPath, worker, await temporaryDirectory(), String(times), String(seed), mode]
  return JSON.parse(await runInNamespace(command)) as Report
}

async function whyNoTools(): Promise<string | undefined> {
  for (const tool of ['mkfs.ext4', 'python3', 'losetup'])
    try {
      await promisify(execFile)(tool, [tool === 'mkfs.ext4' ? '-V' : '--version'])
    } catch {
      return `${tool} is not here`
    }
  return undefined
}

describe(`power cut, seed ${seed}`, () => {
  it(`loses nothing that was acknowledged in ${rounds} cuts`, async context => {
    const { wrong, slowestOpenMs, roots, completions } = await cutPower(context, rounds, 'honest')
    expect(wrong).toEqual([])
    expect(slowestOpenMs).toBeLessThan(5000)
    expect(roots).toBeGreaterThan(rounds)
    expect(completions).toBeGreaterThan(rounds / 2)
  }, 180_000)

  it('would be caught losing data: a store that never syncs its payloads does', async context => {
    const { wrong } = await cutPower(context, 4, 'unsynced')
    expect(wrong.length).toBeGreaterThan(0)
  }, 60_000)
})
