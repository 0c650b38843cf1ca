// kill -9 at random moments of publishing, fetching and removing: what was acknowledged is whole afterwards.
import { spawn } from 'node:child_process'
import { once } from 'node:events'
import { fileURLToPath } from 'node:url'
import { describe, expect, it } from 'vitest'
import { Acknowledged, inspect } from './crash-store.ts'
import { deleteDirectory, makeTemporaryDirectory } from './temporary-directory.ts'

const worker = fileURLToPath(new URL('crash-worker.ts', import.meta.url))
const rounds = Number(process.env['CATALOG_KILLS'] ?? 50)
const seed = Number(process.env['CATALOG_SEED'] ?? Math.floor(Math.random() * 2 ** 31))

/** Runs the worker until it is killed `delayMs` after it is ready; resolves to what it said. */
async function runAndKill(
  directory: string,
  workerSeed: number,
  delayMs: number,
  mode: string,
): Promise<string> {
  const child = spawn(process.execPath, [worker, directory, String(workerSeed), mode], {
    stdio: ['ignore', 'pipe', 'pipe'],
  })
  let output = ''
  let complaints = ''
  const killed = once(child, 'close')
  child.stderr.on('data', data => {
    complaints += data
  })
  child.stdout.on('data', data => {
    output += data
  })
  child.stdout.once('data', () => setTimeout(() => child.kill('SIGKILL'), delayMs))
  const [, signal] = await killed
  expect({ signal, complaints }).toEqual({ signal: 'SIGKILL', complaints: '' })
  return output
}

async function crashAgainAndAgain(times: number, firstSeed: number, mode: string) {
  const directory = await makeTemporaryDirectory()
  const acknowledged = new Acknowledged()
  const result = { wrong: [] as string[], slowestOpenMs: 0, roots: 0, completions: 0 }
  try {
    for (let round = 0; round < times; round++) {
      const roundSeed = firstSeed + round * 7919
      // The control loses only while a write is under way: the sooner the more often.
      const output = await runAndKill(directory, roundSeed, (roundSeed * 31) % 150, mode)
      acknowledged.hear(output)
      const found = await inspect(directory, acknowledged)
      result.wrong.push(...found.wrong)
      result.slowestOpenMs = Math.max(result.slowestOpenMs, found.openMs)
      result.roots += found.roots
      result.completions = acknowledged.completions
      // What was lost once is not counted again.
      for (const wrong of found.wrong) acknowledged.complete.delete(wrong.split(' ')[1] as string)
    }
    return result
  } finally {
    await deleteDirectory(directory)
  }
}

describe(`kill -9, seed ${seed}`, () => {
  it(`loses nothing that was acknowledged in ${rounds} kills`, async () => {
    const lanes = await Promise.all(
      [0, 1].map(lane => crashAgainAndAgain(Math.ceil(rounds / 2), seed + lane * 104729, 'honest')),
    )
    for (const { wrong, slowestOpenMs, roots, completions } of lanes) {
      expect(wrong).toEqual([])
      expect(slowestOpenMs).toBeLessThan(5000)
      // It did work, and there was something to lose.
      expect(roots).toBeGreaterThan(rounds)
      expect(completions).toBeGreaterThan(rounds / 10)
    }
  }, 120_000)

  it('would be caught losing data: a worker that acknowledges too early does', async () => {
    const { wrong } = await crashAgainAndAgain(12, seed, 'early')
    expect(wrong.length).toBeGreaterThan(0)
  }, 60_000)
})
