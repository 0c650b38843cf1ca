// A process that is meant to die: publishes, fetches, pins, reads, removes, collects and evicts without end in one
// home, and says on standard output what was acknowledged and what was taken back. Arguments: directory, seed, and
// `unleased` for the control that must be caught losing data.
import { writeSync } from 'node:fs'
import { join } from 'node:path'
import { LevelKeyValue } from '../../src/store/level-key-value.ts'
import { World, worldPackages } from './keeping-world.ts'

const [directory, seedText, mode] = process.argv.slice(2) as [string, string, string | undefined]
const say = (line: string) => writeSync(1, `${line}\n`)
const records = await LevelKeyValue.open({
  directory: join(directory, 'records'),
  reserveBytes: 0,
  lowWaterBytes: 0,
})
const packages = await worldPackages(join(directory, 'packages'), 6)
const world = new World({
  directory,
  records,
  packages,
  claims: { keep: root => say(`keep ${root}`), drop: root => say(`drop ${root}`) },
  maxBytes: 1_600_000,
  unleased: mode === 'unleased',
  // As a disk and a network make one wait.
  pause: () => new Promise(resolve => setImmediate(resolve)),
})
await world.start()

let state = Number(seedText) >>> 0
const chance = (below: number) => {
  state = (Math.imul(state, 1664525) + 1013904223) >>> 0
  return Math.floor((state / 2 ** 32) * below)
}

const deeds: readonly ((number: number) => Promise<void>)[] = [
  number => world.publish(number),
  number => world.publish(number),
  number => world.fetch(number),
  number => world.fetchPart(number),
  number => world.pin(number),
  number => world.unpin(number),
  number => world.read(number),
  number => world.stage(number),
  number => world.remove(number, true),
  number => world.remove(number, false),
  () => world.evict(500_000),
]

async function work(): Promise<void> {
  for (;;) {
    await (deeds[chance(deeds.length)] as (typeof deeds)[number])(chance(packages.length))
    for (const wrong of world.wrong.splice(0)) say(`wrong ${wrong.replaceAll('\n', ' ')}`)
    await new Promise(resolve => setImmediate(resolve))
  }
}

async function collectAgainAndAgain(): Promise<void> {
  for (;;) {
    await world.gc()
    await new Promise(resolve => setImmediate(resolve))
  }
}

say('ready -')
// Two collections at once: the daemon's own, and one that its user asks for.
await Promise.all([work(), work(), work(), collectAgainAndAgain(), collectAgainAndAgain()])
