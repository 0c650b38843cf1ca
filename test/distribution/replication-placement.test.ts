import fc from 'fast-check'
import { describe, expect, it } from 'vitest'
import { type Copy, plan, rank } from '../../src/distribution/replication/placement.ts'

const peer = fc.integer({ min: 0, max: 40 }).map(number => `peer-${number}`)
const peers = fc.uniqueArray(peer, { minLength: 1, maxLength: 20 })
const root = fc.string({ minLength: 1, maxLength: 20 })
const copy = fc.record({
  peer,
  present: fc.boolean(),
  standing: fc.constantFrom<Copy['standing'][]>('whole', 'coming', 'leaving', 'failed', 'unknown'),
  proved: fc.boolean(),
  draining: fc.boolean(),
  since: fc.integer({ min: 0, max: 5 }),
})
const copies = fc.uniqueArray(copy, { minLength: 1, maxLength: 12, selector: each => each.peer })

const whole = (name: string, since = 0): Copy => ({
  peer: name,
  present: true,
  standing: 'whole',
  proved: true,
  draining: false,
  since,
})

describe('rank', () => {
  it('does not depend on the order in which peers are given', () => {
    fc.assert(
      fc.property(root, peers, fc.infiniteStream(fc.nat()), (of, all, random) => {
        const shuffled = all
          .map(each => ({ each, key: random.next().value }))
          .sort((a, b) => a.key - b.key)
          .map(({ each }) => each)
        expect(rank(of, shuffled)).toEqual(rank(of, all))
      }),
    )
  })

  it('moves nothing but what the peer that leaves had: of the first n, n - 1 stay', () => {
    fc.assert(
      fc.property(root, peers, fc.nat(), fc.integer({ min: 1, max: 5 }), (of, all, who, count) => {
        const gone = all[who % all.length] as string
        const before = rank(of, all).slice(0, count)
        const after = rank(
          of,
          all.filter(each => each !== gone),
        ).slice(0, count)
        expect(before.filter(each => each !== gone).every(each => after.includes(each))).toBe(true)
      }),
    )
  })

  it('spreads the first place evenly', () => {
    const nodes = Array.from({ length: 10 }, (_, number) => `peer-${number}`)
    const firsts = new Map<string, number>()
    for (let number = 0; number < 10_000; number++) {
      const first = rank(`root-${number}`, nodes)[0] as string
      firsts.set(first, (firsts.get(first) ?? 0) + 1)
    }
    // 1,000 expected each; the standard deviation is 30.
    for (const count of firsts.values()) expect(Math.abs(count - 1000)).toBeLessThan(200)
    expect(firsts.size).toBe(10)
  })
})

describe('a plan', () => {
  it('names exactly one actor for one view, whatever the order, and never one that is not there', () => {
    fc.assert(
      fc.property(root, copies, fc.integer({ min: 1, max: 6 }), (of, all, factor) => {
        const { actors } = plan(of, factor, all)
        expect(plan(of, factor, all.toReversed()).actors).toEqual(actors)
        expect(new Set(actors).size).toBe(actors.length)
        const present = all.filter(each => each.present)
        expect(actors.length > 0).toBe(present.length > 0)
        for (const actor of actors) expect(present.map(each => each.peer)).toContain(actor)
      }),
    )
  })

  it('lets nobody go while fewer than the factor are proved whole, staying and present', () => {
    fc.assert(
      fc.property(root, copies, fc.integer({ min: 1, max: 6 }), (of, all, factor) => {
        const { release, drop, settled } = plan(of, factor, all)
        const good = all.filter(
          each => each.present && each.proved && each.standing === 'whole' && !each.draining,
        )
        const staying = good.filter(each => !release.includes(each.peer) && !drop.includes(each.peer))
        expect(settled).toBe(good.length >= factor)
        if (settled) expect(staying).toHaveLength(factor)
        else expect([...release, ...drop]).toEqual([])
      }),
    )
  })

  it('asks for no more copies than are missing, and counts on none that is draining, failed or gone', () => {
    fc.assert(
      fc.property(root, copies, fc.integer({ min: 1, max: 6 }), (of, all, factor) => {
        const { missing } = plan(of, factor, all)
        const counted = all.filter(
          each => each.present && !each.draining && each.standing !== 'failed' && each.standing !== 'leaving',
        )
        expect(missing).toBe(Math.max(0, factor - counted.length))
      }),
    )
  })

  it('lets the youngest of too many go', () => {
    const all = [whole('old', 1), whole('older', 0), whole('new', 9), whole('newer', 10)]
    expect(plan('root', 2, all).release.toSorted()).toEqual(['new', 'newer'])
  })
})

/** A network without delays: nodes with room, and every holder acting on the same true view. */
class Model {
  readonly room: Map<string, number>
  readonly holders = new Map<string, number>()
  moved = 0

  constructor(rooms: readonly number[]) {
    this.room = new Map(rooms.map((left, number) => [`peer-${number}`, left]))
  }

  settle(of: string, factor: number): void {
    for (let step = 0; step < 50; step++) {
      const view = [...this.holders].map(([name, since]) => ({
        ...whole(name, since),
        present: this.room.has(name),
      }))
      const { missing, drop, release } = plan(of, factor, view)
      const candidates = rank(of, [...this.room.keys()]).filter(name => !this.holders.has(name))
      const taken = candidates.filter(name => (this.room.get(name) ?? 0) > 0).slice(0, missing)
      for (const name of taken) {
        this.holders.set(name, step + 1 + this.moved)
        this.moved++
      }
      for (const name of [...drop, ...release]) this.holders.delete(name)
      if (taken.length + drop.length + release.length === 0) return
    }
    throw new Error('it does not come to rest')
  }
}

describe('placement by plans', () => {
  const rooms = fc.array(fc.integer({ min: 0, max: 1 }), { minLength: 1, maxLength: 15 })

  it('reaches the factor wherever enough nodes have room, and as many as there are elsewhere', () => {
    fc.assert(
      fc.property(root, rooms, fc.integer({ min: 1, max: 6 }), (of, room, factor) => {
        const model = new Model(room)
        model.holders.set('peer-0', 0)
        model.settle(of, factor)
        const able = room.slice(1).filter(left => left > 0).length + 1
        expect(model.holders.size).toBe(Math.min(factor, able))
      }),
    )
  })

  it('moves one copy for each holder that is lost, and none for a node that was not one or that joins', () => {
    fc.assert(
      fc.property(root, fc.integer({ min: 4, max: 12 }), fc.nat(), (of, count, who) => {
        const model = new Model(Array.from({ length: count }, () => 1))
        model.holders.set('peer-0', 0)
        model.settle(of, 3)
        const lost = `peer-${who % count}`
        const wasHolder = model.holders.has(lost)
        model.moved = 0
        model.room.delete(lost)
        model.settle(of, 3)
        expect(model.moved).toBe(wasHolder ? 1 : 0)
        expect([...model.holders.keys()].filter(name => model.room.has(name))).toHaveLength(3)
        model.moved = 0
        model.room.set('joined', 1)
        model.settle(of, 3)
        expect(model.moved).toBe(0)
        // The lost one comes back with its copy: one too many, and the youngest goes.
        model.room.set(lost, 1)
        if (wasHolder) model.holders.set(lost, 1000)
        model.settle(of, 3)
        expect([...model.holders.keys()]).toHaveLength(3)
        expect(model.holders.has(lost)).toBe(false)
      }),
    )
  })
})
