import { expect, it } from 'vitest'
import { silentLog } from '../src/base/log.ts'
import { MemoryKeyValue } from '../src/base/memory-key-value.ts'
import { Doubts } from '../src/upkeep.ts'

/** A node that starts, looks again where it must, and stops; resolves to how often it looked. */
async function life(
  records: MemoryKeyValue,
  digest: string,
  { fails = false, during = async (_doubts: Doubts) => {} } = {},
): Promise<number> {
  let looks = 0
  const dropHeads = async () => {
    looks++
    if (fails) throw new Error('the disk is gone')
    return []
  }
  const doubts = new Doubts({
    ...{ records, dropHeads, log: silentLog },
    digest: () => digest,
    recheck: async () => [],
    reconsider: () => undefined,
  })
  await doubts.start()
  await during(doubts)
  await doubts.stop()
  return looks
}

it('what was believed is looked at again once for each news, also after a crash', async () => {
  const records = new MemoryKeyValue()
  expect(await life(records, 'a')).toBe(1)
  expect(await life(records, 'a')).toBe(0)
  expect(await life(records, 'b', { fails: true })).toBe(1)
  expect(await life(records, 'b')).toBe(1)
  expect(await life(records, 'b')).toBe(0)
  // A list that is only made anew is no news.
  expect(await life(records, 'b', { during: async doubts => doubts.take('renewed') })).toBe(0)
  expect(await life(records, 'b', { during: async doubts => doubts.take('revoked') })).toBe(1)
})
