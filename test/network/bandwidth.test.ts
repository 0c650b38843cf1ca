// The scheduler alone, on a clock of its own: what may pass in a window, who shares how, and that nobody starves.
import fc from 'fast-check'
import { describe, expect, it } from 'vitest'
import {
  BandwidthScheduler,
  burstBytes,
  type Rates,
  type TrafficKind,
  type Turn,
  turnBytes,
} from '../../src/network/bandwidth.ts'

const mebibyte = 1024 * 1024

interface Passed extends Turn {
  readonly at: number
}

/** Streams that always have more to move, `streams` of one flow and peer, each with pieces of its own size. */
interface Demand {
  readonly flow: string
  readonly peer: string
  readonly streams?: number
  readonly kind?: TrafficKind
  readonly pieceBytes?: number
  /** Milliseconds from the start; it asks only in between. */
  readonly from?: number
  readonly to?: number
}

/** Runs the link for so long, as the pacer would: asks for the next turn whenever one may be due. */
function run(rates: Rates, demands: readonly Demand[], ms: number): Passed[] {
  const scheduler = new BandwidthScheduler(rates)
  const passed: Passed[] = []
  const owners = new Map<Turn, Demand>()
  let now = 1000
  const start = now
  const ask = (demand: Demand) => {
    const {
      kind = 'bulk',
      pieceBytes = scheduler.quantum,
      flow,
      peer,
      to = Number.POSITIVE_INFINITY,
    } = demand
    // As a stream does: at once where that is possible, else in line.
    for (let passing = true; passing && now - start < Math.min(to, ms); ) {
      const turn = { kind, flow, peer, bytes: Math.min(pieceBytes, scheduler.quantum) }
      passing = scheduler.pass(turn, now)
      if (passing) passed.push({ ...turn, at: now })
      else {
        owners.set(turn, demand)
        scheduler.add(turn)
      }
    }
  }
  const arrivals = [...demands].sort((a, b) => (a.from ?? 0) - (b.from ?? 0))
  for (;;) {
    while (arrivals.length > 0 && (arrivals[0]?.from ?? 0) <= now - start) {
      const demand = arrivals.shift() as Demand
      for (let stream = 0; stream < (demand.streams ?? 1); stream++) ask(demand)
    }
    const next = scheduler.next(now)
    if (typeof next === 'object') {
      passed.push({ ...next, at: now })
      ask(owners.get(next) as Demand)
      owners.delete(next)
      continue
    }
    const arrival = arrivals[0]
    const arrivalMs = arrival === undefined ? Number.POSITIVE_INFINITY : start + (arrival.from ?? 0) - now
    const waitMs = Math.min(next ?? Number.POSITIVE_INFINITY, arrivalMs)
    now += waitMs
    if (now - start > ms || waitMs === Number.POSITIVE_INFINITY) return passed
  }
}

const bytesOf = (passed: readonly Passed[], which: (turn: Passed) => boolean = () => true): number =>
  passed.filter(which).reduce((sum, { bytes }) => sum + bytes, 0)

/** In every window that begins and ends with a turn. */
function expectWithin(passed: readonly Passed[], rate: number): void {
  let excess = 0
  let most = 0
  // The greatest sum of bytes minus what the rate allows over any consecutive turns (Kadane).
  passed.forEach(({ bytes, at }, place) => {
    const earlier = passed[place - 1]?.at ?? at
    excess = Math.max(0, excess - ((at - earlier) / 1000) * rate) + bytes
    most = Math.max(most, excess)
  })
  // Each turn may come a rounding error too early.
  expect(most).toBeLessThanOrEqual(burstBytes(rate) + 0.01 * passed.length)
}

const rate = fc.integer({ min: 64 * 1024, max: 400 * mebibyte })
const demand = fc.record({
  flow: fc.constantFrom('a', 'b', 'c'),
  peer: fc.constantFrom('p', 'q', 'r'),
  streams: fc.integer({ min: 1, max: 6 }),
  kind: fc.constantFrom<TrafficKind>('control', 'bulk'),
  pieceBytes: fc.integer({ min: 1024, max: 64 * 1024 }),
  from: fc.integer({ min: 0, max: 200 }),
  to: fc.integer({ min: 200, max: 600 }),
})

describe('a limited link', () => {
  it('never carries more than its rate and one burst, nor does any peer', () => {
    fc.assert(
      fc.property(
        rate,
        fc.option(rate),
        fc.array(demand, { minLength: 1, maxLength: 6 }),
        (total, perPeer, demands) => {
          const passed = run({ total, perPeer: perPeer ?? undefined }, demands, 500)
          expectWithin(passed, total)
          if (perPeer !== null)
            for (const peer of ['p', 'q', 'r'])
              expectWithin(
                passed.filter(turn => turn.peer === peer),
                perPeer,
              )
        },
      ),
      { numRuns: 30 },
    )
  })

  it('is used in full by whoever wants it', () => {
    fc.assert(
      fc.property(rate, fc.array(demand, { minLength: 1, maxLength: 6 }), (total, demands) => {
        const always = demands.map(({ from, to, ...rest }) => rest)
        const bytes = bytesOf(run({ total }, always, 1000))
        expect(bytes).toBeGreaterThanOrEqual(total - turnBytes(total))
      }),
      { numRuns: 40 },
    )
  })

  it('gives what one peer may not use to the others', () => {
    const total = 10 * mebibyte
    const perPeer = 3 * mebibyte
    const demands = [
      { flow: 'fetch', peer: 'p' },
      { flow: 'fetch', peer: 'q' },
    ]
    const both = run({ total, perPeer }, demands, 2000)
    for (const peer of ['p', 'q']) {
      const mine = bytesOf(both, turn => turn.peer === peer)
      expect(mine / (2 * perPeer)).toBeGreaterThan(0.99)
    }
    // One of them, within one flow, is at its limit: the other flow has all the rest.
    const rest = run(
      { total, perPeer: 9 * mebibyte },
      [
        { flow: 'a', peer: 'p', streams: 3 },
        { flow: 'b', peer: 'p' },
      ],
      1000,
    )
    expect(bytesOf(rest) / (9 * mebibyte)).toBeGreaterThan(0.99)
  })

  it('is shared evenly by flows, whatever their streams, peers and pieces', () => {
    fc.assert(
      fc.property(
        rate,
        fc.array(
          fc.record({ streams: fc.integer({ min: 1, max: 20 }), peers: fc.integer({ min: 1, max: 4 }) }),
          {
            minLength: 2,
            maxLength: 5,
          },
        ),
        fc.boolean(),
        (total, flows, small) => {
          const demands = flows.flatMap(({ streams, peers }, flow) =>
            Array.from({ length: peers }, (_, peer) => ({
              flow: `flow ${flow}`,
              peer: `${flow} ${peer}`,
              streams,
              ...(small && flow === 0 ? { pieceBytes: 1024 } : {}),
            })),
          )
          const passed = run({ total }, demands, 500)
          // From the first moment at which all are in line, at every moment.
          let apart = 0
          const counts = new Map(flows.map((_, flow) => [`flow ${flow}`, 0]))
          for (const { flow, bytes } of passed.filter(({ at }) => at > 1000)) {
            counts.set(flow, (counts.get(flow) ?? 0) + bytes)
            const values = [...counts.values()]
            apart = Math.max(apart, Math.max(...values) - Math.min(...values))
          }
          // Twice, because each may be ahead, or behind, by the piece that it has just had or waits for.
          expect(apart).toBeLessThanOrEqual(2 * turnBytes(total))
        },
      ),
      { numRuns: 40 },
    )
  })

  it('is shared evenly by the peers of one flow', () => {
    const passed = run(
      { total: mebibyte },
      [
        { flow: 'fetch', peer: 'p', streams: 8 },
        { flow: 'fetch', peer: 'q' },
      ],
      1000,
    )
    const [p, q] = ['p', 'q'].map(peer => bytesOf(passed, turn => turn.peer === peer && turn.at > 1000))
    expect(Math.abs((p as number) - (q as number))).toBeLessThanOrEqual(2 * turnBytes(mebibyte))
  })

  it('owes a flow nothing for the time in which it asked for nothing', () => {
    const passed = run(
      { total: mebibyte },
      [
        { flow: 'long', peer: 'p' },
        { flow: 'late', peer: 'q', from: 500 },
      ],
      1000,
    )
    const after = (flow: string) => bytesOf(passed, turn => turn.flow === flow && turn.at >= 1500)
    expect(Math.abs(after('long') - after('late'))).toBeLessThanOrEqual(2 * turnBytes(mebibyte))
  })

  it('carries small messages before bulk, and bulk all the same', () => {
    const total = mebibyte
    const scheduler = new BandwidthScheduler({ total })
    const bulk = (flow: string): Turn => ({ kind: 'bulk', flow, peer: flow, bytes: scheduler.quantum })
    let now = 0
    while (scheduler.pass(bulk('x'), now));
    for (let stream = 0; stream < 50; stream++) scheduler.add(bulk(`fetch ${stream}`))
    const control: Turn = { kind: 'control', flow: 'peer', peer: 'peer', bytes: 500 }
    scheduler.add(control)
    const waitMs = scheduler.next(now) as number
    expect(waitMs).toBeLessThan(1000 * (500 / total) + 0.01)
    now += waitMs
    expect(scheduler.next(now)).toBe(control)
    const passed = run(
      { total },
      [
        { flow: 'sync', peer: 'p', kind: 'control', streams: 10 },
        { flow: 'fetch', peer: 'q' },
      ],
      4000,
    )
    const share = bytesOf(passed, ({ kind, at }) => kind === 'bulk' && at > 1000) / (4 * total)
    expect(share).toBeGreaterThan(0.24)
    expect(share).toBeLessThan(0.26)
  })

  it('lets nobody wait much longer than one turn of each who is in line', () => {
    fc.assert(
      fc.property(rate, fc.integer({ min: 1, max: 40 }), (total, flows) => {
        const demands = Array.from({ length: flows }, (_, flow) => ({
          flow: `${flow}`,
          peer: `${flow}`,
          streams: 3,
        }))
        const passed = run({ total }, demands, 1000)
        const roundMs = (1000 * flows * turnBytes(total)) / total
        for (let flow = 0; flow < flows; flow++) {
          const times = [1000, ...passed.filter(turn => turn.flow === `${flow}`).map(({ at }) => at), 2000]
          const longest = Math.max(...times.slice(1).map((at, place) => at - (times[place] as number)))
          expect(longest).toBeLessThanOrEqual(2 * roundMs + 1)
        }
      }),
      { numRuns: 30 },
    )
  })

  it('forgets a turn that is taken out, and all that is cleared', () => {
    const scheduler = new BandwidthScheduler({ total: mebibyte })
    const turn = (flow: string): Turn => ({ kind: 'bulk', flow, peer: 'p', bytes: scheduler.quantum })
    while (scheduler.pass(turn('x'), 0));
    const [first, second, third] = [turn('a'), turn('b'), turn('c')]
    for (const each of [first, second, third]) scheduler.add(each)
    scheduler.remove(first)
    scheduler.remove(first)
    expect(scheduler.waiting).toBe(2)
    expect(scheduler.next(10_000)).toBe(second)
    expect(scheduler.clear()).toEqual([third])
    expect(scheduler.next(20_000)).toBeUndefined()
    expect(scheduler.waiting).toBe(0)
  })

  it('takes small turns on a slow link, so that many share it within a second', () => {
    expect(turnBytes(64 * 1024)).toBe(1024)
    expect(turnBytes(mebibyte)).toBe(10_485)
    expect(turnBytes(1000 * mebibyte)).toBe(64 * 1024)
  })
})
