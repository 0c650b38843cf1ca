import fc from 'fast-check'
import { expect, it } from 'vitest'
import { TrafficMeter } from '../../src/network/traffic-meter.ts'

it('a steady flow is measured as what it is, from the fourth second on, whenever one looks', () => {
  fc.assert(
    fc.property(
      fc.integer({ min: 0, max: 1e9 }),
      fc.integer({ min: 5, max: 50 }),
      fc.integer({ min: 1, max: 100_000 }),
      (start, everyMs, bytes) => {
        const meter = new TrafficMeter()
        let now = start
        for (let count = 0; count * everyMs < 8000; count++, now += everyMs) meter.count(bytes, now)
        const expected = (bytes / everyMs) * 1000
        expect(Math.abs(meter.bytesPerSecond(now) - expected)).toBeLessThanOrEqual(0.02 * expected + 1)
      },
    ),
  )
})

it('what has ended is forgotten within seconds, and stays in the total', () => {
  const meter = new TrafficMeter()
  meter.count(5000, 10_200)
  meter.count(3000, 10_900)
  expect(meter.bytesPerSecond(11_000)).toBe(2000)
  expect(meter.bytesPerSecond(14_999)).toBeGreaterThan(0)
  expect(meter.bytesPerSecond(15_000)).toBe(0)
  expect(meter.bytesPerSecond(3_600_000)).toBe(0)
  expect(meter.totalBytes).toBe(8000)
})
