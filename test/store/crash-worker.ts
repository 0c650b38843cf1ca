// A process that is meant to die: publishes, fetches and removes contents in a store without end, and says on
// standard output what was acknowledged. Arguments: directory, seed, and one of the controls that must be caught losing
// data: `early` acknowledges before the work is done, `unsynced` never syncs a payload file.
import { writeSync } from 'node:fs'
import { openStores, unsynced } from './crash-store.ts'
import { publish, type Sample, sample } from './sample-content.ts'

const [directory, seedText, mode] = process.argv.slice(2) as [string, string, string | undefined]
const { store } = await openStores(directory, mode === 'unsynced' ? unsynced : undefined)
let state = Number(seedText) >>> 0
const chance = (below: number) => {
  state = (Math.imul(state, 1664525) + 1013904223) >>> 0
  return Math.floor((state / 2 ** 32) * below)
}
/** With the time, so that what is said after a power cut can be told apart. */
const say = (line: string) => writeSync(1, `${line} ${Date.now()}\n`)
/** Few different contents, so that they meet again: published twice, fetched after removal, copied from. */
const someContent = () => sample(chance(12), 200_000 + chance(3) * 700_000)

async function fetch(content: Sample): Promise<void> {
  const partial = await store.openPartial(content.root, content.indexBytes)
  if (chance(2) === 0) await partial.copyLocal()
  for (const shard of partial.missing()) await partial.put(shard, content.shard(shard))
  if (chance(4) > 0) {
    await acknowledged(content, () => partial.complete())
  }
  await partial.close()
}

const removals = new Map<string, number>()

async function acknowledged({ root }: Sample, work: () => Promise<unknown>): Promise<void> {
  const before = removals.get(root)
  if (mode === 'early') say(`complete ${root}`)
  await work()
  // The other lane may have removed it since: then nothing is claimed.
  if (mode !== 'early' && removals.get(root) === before) say(`complete ${root}`)
}

async function remove({ root }: Sample): Promise<void> {
  if ((await store.state(root)) === undefined) return
  removals.set(root, (removals.get(root) ?? 0) + 1)
  say(`removing ${root}`)
  await store.remove(root)
  say(`removed ${root}`)
}

const lane = async () => {
  for (;;) {
    const content = someContent()
    const turn = chance(10)
    try {
      if (turn < 4) await acknowledged(content, () => publish(store, content))
      else if (turn < 8) await fetch(content)
      else await remove(content)
    } catch (error) {
      // Two lanes meet on one root: refused, or removed under the fetch.
      const { code } = error as { code?: string }
      if (code !== 'busy' && code !== 'not-found') throw error
    }
  }
}

say('ready -')
await Promise.all([lane(), lane()])
