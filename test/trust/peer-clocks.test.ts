import { describe, expect, test } from 'vitest'
import { PeerClocks } from '../../src/trust/peer-clocks.ts'

const noon = Date.UTC(2026, 10, 22, 12)
const day = 24 * 3_600_000

describe('the clock of a node, beside those of the members that it meets', () => {
  const world = () => {
    const time = { here: noon, uptime: 1000 }
    const clocks = new PeerClocks({ now: () => time.here, uptime: () => time.uptime })
    const pass = (milliseconds: number) => {
      time.here += milliseconds
      time.uptime += milliseconds
    }
    return { time, clocks, pass }
  }

  test('is called wrong where most have another time, until it is set', () => {
    const { time, clocks, pass } = world()
    expect(clocks.trouble()).toBeUndefined()
    clocks.note('a', noon + day)
    clocks.note('b', noon + day + 1000)
    clocks.note('c', noon)
    expect(clocks.trouble()).toMatch(
      /^here it is 2026-11-22T12:00:00Z, and for 2 of 3 members met it is about 2026-11-23/,
    )
    pass(3_600_000)
    expect(clocks.trouble()).toContain('here it is 2026-11-22T13:00:00Z')
    time.here += day
    expect(clocks.trouble()).toBeUndefined()
  })

  test('is not called wrong for a few minutes, a few liars, or what was said long ago', () => {
    const { clocks, pass } = world()
    clocks.note('a', noon + 9 * 60_000)
    expect(clocks.trouble()).toBeUndefined()
    clocks.note('liar', 0)
    expect(clocks.trouble()).toBeUndefined()
    pass(2 * day)
    // The same message, looked at again.
    clocks.note('a', noon + 9 * 60_000)
    expect(clocks.trouble()).toBeUndefined()
  })

  test('takes any time that a peer may say', () => {
    const { clocks } = world()
    clocks.note('a', Number.MAX_SAFE_INTEGER)
    expect(clocks.trouble()).toContain('the end of time')
    for (let peer = 0; peer < 1000; peer++) clocks.note(`peer ${peer}`, noon)
    expect(clocks.trouble()).toBeUndefined()
  })
})
