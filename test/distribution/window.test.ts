import fc from 'fast-check'
import { describe, expect, it } from 'vitest'
import { NodeWindow } from '../../src/distribution/fetch/window.ts'

const mebibyte = 1024 * 1024
const batch = mebibyte / 2

/** Asks for batches until there is no room; resolves to the bytes asked for. */
function fill(window: { room: number; asked(bytes: number): void }): number {
  let asked = 0
  while (window.room > 0) {
    const bytes = Math.min(window.room, mebibyte)
    window.asked(bytes)
    asked += bytes
  }
  return asked
}

describe('what a fetch may have outstanding', () => {
  it('a provider earns its window, up to 4 MiB', () => {
    const provider = new NodeWindow().open().join(batch)
    const grown = Array.from({ length: 6 }, () => {
      const asked = fill(provider)
      provider.settled(asked)
      provider.earn()
      return asked
    })
    expect(grown.map(bytes => bytes / mebibyte)).toEqual([0.5, 1, 2, 4, 4, 4])
  })

  it('several providers share 4 MiB, and have 1 MiB each where that is more', () => {
    const total = (providers: number) => {
      const fetch = new NodeWindow().open()
      const windows = Array.from({ length: providers }, () => fetch.join(4 * mebibyte))
      // In turns, as they answer.
      let asked = 0
      for (let more = true; more; ) {
        more = false
        for (const window of windows)
          if (window.room > 0) {
            const bytes = Math.min(window.room, batch)
            window.asked(bytes)
            asked += bytes
            more = true
          }
      }
      return asked / mebibyte
    }
    // Less than a quarter of a provider's share is not worth a question.
    expect(total(1)).toBeGreaterThan(3)
    expect(total(1)).toBeLessThanOrEqual(4)
    expect(total(4)).toBe(4)
    expect(total(8)).toBe(8)
  })

  it('a little room is none, so that questions stay large; with nothing outstanding there is always some', () => {
    const provider = new NodeWindow().open().join(4 * mebibyte)
    provider.asked(3 * mebibyte + 1)
    expect(provider.room).toBe(0)
    provider.settled(1)
    expect(provider.room).toBe(mebibyte)
    provider.settled(3 * mebibyte)
    provider.asked(4 * mebibyte)
    expect(provider.room).toBe(0)
    provider.settled(4 * mebibyte)
    expect(provider.room).toBe(4 * mebibyte)
  })

  it('a hundred fetches share what the node has, and none is without', () => {
    const node = new NodeWindow()
    const providers = Array.from({ length: 100 }, () => node.open().join(4 * mebibyte))
    const asked = providers.map(fill)
    expect(Math.max(...asked)).toBe(Math.min(...asked))
    expect(asked.reduce((sum, bytes) => sum + bytes, 0)).toBeLessThanOrEqual(128 * mebibyte)
  })

  it('whatever is asked, settled, earned, joined and left, the sum comes back to nothing, and someone can always ask', () => {
    fc.assert(
      fc.property(
        fc.array(fc.tuple(fc.nat({ max: 7 }), fc.constantFrom('ask', 'settle', 'earn')), { maxLength: 200 }),
        steps => {
          const fetch = new NodeWindow().open()
          const windows = Array.from({ length: 8 }, () => fetch.join(batch))
          const outstanding = windows.map(() => 0)
          for (const [at, step] of steps) {
            const window = windows[at] as (typeof windows)[number]
            if (step === 'earn') window.earn()
            else if (step === 'settle' && (outstanding[at] as number) > 0) {
              window.settled(batch)
              outstanding[at] = (outstanding[at] as number) - batch
            } else if (window.room > 0) {
              window.asked(batch)
              outstanding[at] = (outstanding[at] as number) + batch
            }
            expect(outstanding.reduce((sum, bytes) => sum + bytes, 0)).toBeLessThanOrEqual(12 * mebibyte)
            // Who has nothing outstanding may always ask: nobody waits for an answer that nobody owes.
            for (const [place, bytes] of outstanding.entries())
              if (bytes === 0) expect(windows[place]?.room).toBeGreaterThan(0)
          }
          for (const [at, bytes] of outstanding.entries()) windows[at]?.settled(bytes)
          expect(fetch.room).toBe(8 * mebibyte)
        },
      ),
    )
  })
})
