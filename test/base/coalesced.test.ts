import { setTimeout as sleep } from 'node:timers/promises'
import { expect, it } from 'vitest'
import { Coalesced } from '../../src/base/coalesced.ts'

it('runs once for each time it is asked, and once more for all that was asked during a run', async () => {
  const gates: (() => void)[] = []
  let atOnce = 0
  const work = async () => {
    atOnce++
    expect(atOnce).toBe(1)
    await new Promise<void>(resolve => gates.push(resolve))
    atOnce--
  }
  const coalesced = new Coalesced({ work }, { pauseMs: 0 })
  coalesced.ask()
  for (let i = 0; i < 100; i++) coalesced.ask()
  expect(gates).toHaveLength(1)
  gates[0]?.()
  await expect.poll(() => gates.length).toBe(2)
  gates[1]?.()
  await sleep(20)
  expect(gates).toHaveLength(2)
  coalesced.ask()
  await expect.poll(() => gates.length).toBe(3)
  coalesced.ask()
  const stopped = coalesced.stop()
  gates[2]?.()
  await stopped
  coalesced.ask()
  await sleep(20)
  expect(gates).toHaveLength(3)
})
