// The order of the queue: priority, ageing, room, and that nothing waits for ever.
import fc from 'fast-check'
import { expect, test } from 'vitest'
import { Allocations, overCeiling } from '../../src/execution/executor/allocations.ts'
import { type Priority, WaitingLine } from '../../src/execution/executor/waiting-line.ts'
import { smallLimits } from './harness.ts'

interface Item {
  readonly name: string
  readonly priority: Priority
  readonly since: number
  readonly size: number
}

const priorities = fc.constantFrom<Priority>('low', 'normal', 'high')
const anyItem = fc.record({
  name: fc.string(),
  priority: priorities,
  since: fc.nat(100_000),
  size: fc.integer({ min: 1, max: 4 }),
})
const always = () => true

test('of two that came together the higher priority is first; of two alike the older', () => {
  const line = new WaitingLine<Item>()
  const item = (name: string, priority: Priority, since: number): Item => ({ name, priority, since, size: 1 })
  for (const each of [
    item('c', 'normal', 2),
    item('d', 'low', 1),
    item('b', 'normal', 1),
    item('a', 'high', 2),
  ])
    line.add(each)
  const order = Array.from({ length: 4 }, () => line.next(1_000, always)?.name)
  expect(order).toEqual(['a', 'b', 'c', 'd'])
  expect(line.next(1_000, always)).toBeUndefined()
})

test('a low one that has waited a minute is as good as a high one that comes', () => {
  const line = new WaitingLine<Item>()
  line.add({ name: 'low', priority: 'low', since: 0, size: 1 })
  line.add({ name: 'high', priority: 'high', since: 61_000, size: 1 })
  expect(line.next(61_000, always)?.name).toBe('low')
})

test('a large one is passed for a while, then the rest wait for it', () => {
  const line = new WaitingLine<Item>()
  const large: Item = { name: 'large', priority: 'normal', since: 0, size: 4 }
  line.add(large)
  const fits = ({ size }: Item): boolean => size <= 2
  line.add({ name: 'small', priority: 'normal', since: 1_000, size: 1 })
  expect(line.next(5_000, fits)?.name).toBe('small')
  line.add({ name: 'late', priority: 'normal', since: 11_000, size: 1 })
  expect(line.next(11_000, fits)).toBeUndefined()
  expect(line.next(11_000, always)?.name).toBe('large')
})

test('none starves: with others coming all the time, each is taken within its age and the room it needs', () => {
  fc.assert(
    fc.property(priorities, fc.array(priorities, { minLength: 200, maxLength: 200 }), (own, others) => {
      const line = new WaitingLine<Item>()
      line.add({ name: 'mine', priority: own, since: 0, size: 1 })
      // One comes and one goes each second.
      const taken = others.findIndex((priority, second) => {
        line.add({ name: 'other', priority, since: second * 1_000, size: 1 })
        return line.next(second * 1_000, always)?.name === 'mine'
      })
      return taken >= 0 && taken <= 61
    }),
  )
})

test('what is held is never over the ceiling, and nothing stays held', () => {
  fc.assert(
    fc.property(fc.array(anyItem, { maxLength: 50 }), items => {
      const ceiling = { ...smallLimits, cpuCores: 4, memoryMb: 512, storageMb: 64 }
      const allocations = new Allocations(ceiling)
      const demandOf = ({ size }: Item) => ({ ...smallLimits, cpuCores: size / 3, memoryMb: size * 64 })
      const running: string[] = []
      items.forEach((item, index) => {
        while (!allocations.fits(demandOf(item)) && running.length > 0)
          allocations.release(running.shift() ?? '')
        allocations.take(String(index), demandOf(item))
        running.push(String(index))
        expect(allocations.held.memoryMb).toBeLessThanOrEqual(ceiling.memoryMb)
        expect(allocations.held.cpuCores).toBeLessThanOrEqual(ceiling.cpuCores + 1e-6)
        expect(allocations.held.storageMb).toBeLessThanOrEqual(ceiling.storageMb)
      })
      for (const id of running) allocations.release(id)
      expect(allocations.held).toEqual({ cpuCores: 0, memoryMb: 0, storageMb: 0 })
    }),
  )
})

test('a demand over one ceiling is named, and none is clipped', () => {
  expect(overCeiling(smallLimits, smallLimits)).toBeUndefined()
  for (const name of Object.keys(smallLimits) as (keyof typeof smallLimits)[]) {
    expect(overCeiling({ ...smallLimits, [name]: smallLimits[name] + 0.5 }, smallLimits)).toContain(name)
    for (const value of [0, -1, Number.NaN, Number.POSITIVE_INFINITY])
      expect(overCeiling({ ...smallLimits, [name]: value }, smallLimits)).toContain(name)
  }
})
