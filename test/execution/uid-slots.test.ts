// The dedicated uids: never root's, never an account's, never two runs' at once.
import fc from 'fast-check'
import { expect, test } from 'vitest'
import { UidSlots } from '../../src/execution/sandbox/uid-slots.ts'

const whole = '         0          0 4294967295\n'
const homeTags = fc
  .array(fc.constantFrom(...'0123456789abcdef'), { minLength: 12, maxLength: 12 })
  .map(d => d.join(''))

test('are above every range in use and below 2^31, whatever the home', () => {
  fc.assert(
    fc.property(homeTags, tag => {
      const slots = UidSlots.find(tag, 64, whole)
      for (let taken = 0; taken < 64; taken++) {
        const { uid } = slots.take()
        expect(uid).toBeGreaterThan(1_879_048_191)
        expect(uid).toBeLessThan(2_147_352_576)
      }
    }),
  )
})

test('are each held once, and free again afterwards', () => {
  const slots = UidSlots.find('000000000000', 3, whole)
  const taken = [slots.take(), slots.take(), slots.take()]
  expect(new Set(taken.map(({ uid }) => uid)).size).toBe(3)
  expect(() => slots.take()).toThrowError(/slot/)
  taken[1]?.release()
  taken[1]?.release()
  expect(slots.take().uid).toBe(taken[1]?.uid)
  expect(() => slots.take()).toThrowError(/slot/)
})

test('are the highest of a container that has few, and refused where it has none to spare', () => {
  const slots = UidSlots.find('000000000000', 64, '0 100000 65536')
  for (let taken = 0; taken < 64; taken++) {
    const { uid } = slots.take()
    expect(uid).toBeGreaterThanOrEqual(10_000)
    expect(uid).toBeLessThan(65_534)
  }
  expect(() => UidSlots.find('000000000000', 64, '0 1000 1')).toThrowError(/no spare uids/)
})
