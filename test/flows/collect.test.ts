// Garbage collection and eviction against everything else that happens to contents, in any order and overlap.
import { readdir, stat } from 'node:fs/promises'
import { join } from 'node:path'
import fc from 'fast-check'
import { describe, expect, it } from 'vitest'
import type { KeyValue } from '../../src/base/key-value.ts'
import { MemoryKeyValue } from '../../src/base/memory-key-value.ts'
import { temporaryDirectory } from '../temporary.ts'
import { World, type WorldPackage, worldPackages } from './keeping-world.ts'

const verbs = [
  'publish',
  'fetch',
  'fetchPart',
  'pin',
  'unpin',
  'owe',
  'disown',
  'removeOwn',
  'removeForeign',
  'read',
  'stage',
  'gc',
  'evict',
  'crash',
  'settle',
  'collectAlong',
] as const
type Verb = (typeof verbs)[number]

interface Step {
  readonly verb: Verb
  readonly package: number
  /** Turns of the event loop that the step before gets alone. */
  readonly gap: number
}

const steps = (): fc.Arbitrary<Step[]> =>
  fc.array(
    fc.record({
      // Collecting is what is tried: it comes as often as all the rest.
      verb: fc.oneof(
        { weight: 3, arbitrary: fc.constantFrom(...verbs) },
        { weight: 2, arbitrary: fc.constantFrom<Verb[]>('gc', 'evict', 'publish', 'fetch') },
      ),
      package: fc.nat(3),
      gap: fc.nat(12),
    }),
    { minLength: 5, maxLength: 30 },
  )

const turns = async (count: number) => {
  for (let turn = 0; turn < count; turn++) await new Promise(resolve => setImmediate(resolve))
}

const maxBytes = 1_200_000

/** Takes a few turns for each write, as a disk does: others come in between. */
function slow(records: KeyValue): KeyValue {
  let state = 1
  const later = async (write: () => Promise<void>) => {
    state = (Math.imul(state, 1664525) + 1013904223) >>> 0
    await turns(state >>> 29)
    await write()
  }
  return {
    get: key => records.get(key),
    entries: range => records.entries(range),
    keys: range => records.keys(range),
    put: (key, value) => later(() => records.put(key, value)),
    delete: key => later(() => records.delete(key)),
    batch: writes => later(() => records.batch(writes)),
  }
}

async function fileBytes(directory: string): Promise<number> {
  let bytes = 0
  for (const name of await readdir(directory, { recursive: true })) {
    const found = await stat(join(directory, name)).catch(() => undefined)
    if (found?.isFile() === true) bytes += found.size
  }
  return bytes
}

/** Plays the steps; resolves to what was wrong afterwards, or while they ran. */
async function play(
  packages: readonly WorldPackage[],
  played: readonly Step[],
  unleased: boolean,
): Promise<string[]> {
  const directory = temporaryDirectory()
  const records = slow(new MemoryKeyValue())
  const claimed = new Set<string>()
  const claims = {
    keep: (root: string) => void claimed.add(root),
    drop: (root: string) => void claimed.delete(root),
  }
  const open = async () => {
    const world = new World({
      directory,
      records,
      packages,
      claims,
      maxBytes,
      unleased,
      pause: () => turns(1),
    })
    await world.start()
    return world
  }
  let world = await open()
  let running: Promise<unknown>[] = []
  const wrong: string[] = []
  for (const { verb, package: number, gap } of played) {
    await turns(gap)
    if (verb === 'crash') {
      world.die()
      await Promise.all(running)
      running = []
      wrong.push(...world.wrong)
      world = await open()
      for (const root of claimed) wrong.push(...asList(await world.brokenPromise(root)))
    } else if (verb === 'settle') await Promise.all(running)
    else if (verb === 'collectAlong') await collectAlong(world, Promise.all(running))
    else running.push(perform(world, verb, number))
  }
  await Promise.all(running)
  wrong.push(...world.wrong)
  for (const root of claimed) wrong.push(...asList(await world.brokenPromise(root)))
  if ((await fileBytes(join(directory, 'store'))) > maxBytes) wrong.push('the quota was exceeded')
  await world.gc()
  for (const root of claimed) wrong.push(...asList(await world.brokenPromise(root)))
  for await (const { root, complete } of world.store.roots())
    if (!world.isKept(root) && (!complete || world.catalogue.releasesByRoot(root).length === 0))
      wrong.push(`${root} is garbage`)
  await world.stop()
  return wrong
}

/** One collection after another while the others are at work. */
async function collectAlong(world: World, others: Promise<unknown>): Promise<void> {
  let working = true
  const ended = others.then(() => {
    working = false
  })
  while (working) {
    await world.gc()
    await turns(1)
  }
  await ended
}

const asList = (text: string | undefined) => (text === undefined ? [] : [text])

function perform(world: World, verb: Verb, number: number): Promise<unknown> {
  switch (verb) {
    case 'owe':
    case 'disown':
      world.owe(number, verb === 'owe')
      return Promise.resolve()
    case 'removeOwn':
    case 'removeForeign':
      return world.remove(number, verb === 'removeOwn')
    case 'evict':
      return world.evict(300_000 * (number + 1))
    case 'gc':
      return world.gc()
    case 'publish':
    case 'fetch':
    case 'fetchPart':
    case 'pin':
    case 'unpin':
    case 'read':
    case 'stage':
      return world[verb](number)
    default:
      return Promise.resolve()
  }
}

describe('collecting garbage, evicting and everything else at once', () => {
  it('never takes what is published, pinned or in use, over any interleaving and crash', async () => {
    const packages = await worldPackages(temporaryDirectory(), 4)
    await fc.assert(
      fc.asyncProperty(steps(), async played => {
        expect(await play(packages, played, false)).toEqual([])
      }),
      { numRuns: Number(process.env['CATALOG_INTERLEAVINGS'] ?? 60), endOnFailure: true },
    )
  }, 120_000)

  it('would be caught taking it: without leases it does', async () => {
    const packages = await worldPackages(temporaryDirectory(), 4)
    const wrong: string[] = []
    for (let round = 0; round < 40 && wrong.length === 0; round++) {
      const number = round % 4
      const verbsOfRound: Verb[] = ['publish', 'collectAlong']
      const played = verbsOfRound.map((verb): Step => ({ verb, package: number, gap: 0 }))
      wrong.push(...(await play(packages, played, true)))
    }
    expect(wrong).not.toEqual([])
  }, 60_000)
})
