// kill -9 while garbage is collected beside publishing, fetching, pinning, reading and removing (S6): nothing that was
// acknowledged and not taken back is gone, and nothing that was promised while it ran was broken.
import { spawn } from 'node:child_process'
import { once } from 'node:events'
import { join } from 'node:path'
import { fileURLToPath } from 'node:url'
import { describe, expect, it } from 'vitest'
import { LevelKeyValue } from '../../src/store/level-key-value.ts'
import { temporaryDirectory } from '../temporary.ts'
import { World, worldPackages } from './keeping-world.ts'

const worker = fileURLToPath(new URL('keeping-worker.ts', import.meta.url))
const rounds = Number(process.env['CATALOG_COLLECT_KILLS'] ?? 20)
const seed = Number(process.env['CATALOG_SEED'] ?? Math.floor(Math.random() * 2 ** 31))

/** Runs the worker until it has said so many lines and a moment more; resolves to what it said. */
async function runAndKill(directory: string, workerSeed: number, mode: string): Promise<string[]> {
  const child = spawn(process.execPath, [worker, directory, String(workerSeed), mode], {
    stdio: ['ignore', 'pipe', 'pipe'],
  })
  let output = ''
  let complaints = ''
  const ended = once(child, 'close')
  const enough = 3 + (workerSeed % 6)
  let killing = false
  child.stderr.on('data', data => {
    complaints += data
  })
  child.stdout.on('data', data => {
    output += data
    if (killing || output.split('\n').length < enough) return
    killing = true
    setTimeout(() => child.kill('SIGKILL'), workerSeed % 40)
  })
  const [, signal] = await ended
  expect({ signal, complaints }).toEqual({ signal: 'SIGKILL', complaints: '' })
  // The last line may have been cut by the kill.
  return output.split('\n').slice(0, -1)
}

async function campaign(times: number, firstSeed: number, mode: string) {
  const directory = temporaryDirectory()
  const packages = await worldPackages(join(directory, 'packages'), 6)
  const claimed = new Set<string>()
  const result = { wrong: [] as string[], claims: 0 }
  for (let round = 0; round < times; round++) {
    for (const line of await runAndKill(directory, firstSeed + round * 7919, mode)) {
      const [what, root = ''] = line.split(' ')
      if (what === 'wrong') result.wrong.push(line)
      if (what === 'drop') claimed.delete(root)
      if (what !== 'keep') continue
      claimed.add(root)
      result.claims += 1
    }
    const records = await LevelKeyValue.open({ directory: join(directory, 'records'), reserveBytes: 0 })
    const claims = { keep: () => undefined, drop: () => undefined }
    const world = new World({ directory, records, packages, claims })
    // Collects as a daemon does when it starts.
    await world.start()
    for (const root of claimed) {
      const broken = await world.brokenPromise(root)
      if (broken === undefined) continue
      result.wrong.push(`round ${round}: ${broken}`)
      claimed.delete(root)
    }
    await world.stop()
    await records.stop()
  }
  return result
}

describe(`collecting under kill -9, seed ${seed}`, () => {
  it(`deletes nothing that is referenced in ${rounds} kills`, async () => {
    const lanes = await Promise.all(
      [0, 1].map(lane => campaign(Math.ceil(rounds / 2), seed + lane * 104_729, 'honest')),
    )
    expect(lanes.flatMap(({ wrong }) => wrong)).toEqual([])
    // There was something to lose.
    expect(lanes.reduce((sum, { claims }) => sum + claims, 0)).toBeGreaterThan(rounds)
  }, 180_000)

  it('would be caught deleting it: a worker without leases does', async () => {
    let wrong: readonly string[] = []
    for (let attempt = 0; attempt < 10 && wrong.length === 0; attempt++)
      wrong = (await campaign(4, seed + attempt * 31, 'unleased')).wrong
    expect(wrong).not.toEqual([])
  }, 120_000)
})
