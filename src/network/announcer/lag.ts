// How far announcing is behind, and what the cycles have cost: figures for people, and nothing else depends on them.
import type { KeyValue } from '../../base/key-value.ts'
import type { AnnouncementQueue } from './queue.ts'
import { type Cycle, cycleNumber } from './schedule.ts'
import type { Swept } from './sweep.ts'

export interface Lag {
  /** Entries that should have been announced, beyond a time of grace. */
  readonly overdue: number
  /** For how long the oldest of them has been, in ms. */
  readonly oldestOverdueMs?: number
  /** When the oldest entry that waits or fails was due, in ms since 1970. */
  readonly oldestDueMs?: number
}

/** Reads no more of the queue than is late. */
export async function measureLag(queue: AnnouncementQueue, now: number, graceMs: number): Promise<Lag> {
  let overdue = 0
  let oldest = Number.POSITIVE_INFINITY
  let pending = Number.POSITIVE_INFINITY
  const count = (since: number) => {
    if (since >= now - graceMs) return
    overdue++
    oldest = Math.min(oldest, since)
  }
  for (const state of ['new', 'told'] as const)
    for await (const since of queue.dueTimes(state)) {
      if (state === 'new') pending = Math.min(pending, since)
      if (since >= now - graceMs) break
      count(since)
    }
  for await (const since of queue.dueTimes('failing')) {
    pending = Math.min(pending, since)
    count(since)
  }
  return {
    overdue,
    ...(overdue === 0 ? {} : { oldestOverdueMs: now - oldest }),
    ...(pending === Number.POSITIVE_INFINITY ? {} : { oldestDueMs: pending }),
  }
}

/** What one cycle of re-announcing has cost. */
export interface CycleCost {
  readonly startedMs: number
  /** Time spent exploring and telling. */
  readonly busyMs: number
  readonly keys: number
  readonly regions: number
  readonly lookups: number
}

interface Stored {
  readonly phaseMs: number
  readonly depth: number
  readonly current: CycleCost
  readonly last?: CycleCost
}

const cycleKey = 'sweep/cycle'

/** This node's place in time, kept over restarts, and what its cycles cost. */
export class CycleRecord {
  readonly #records: KeyValue
  readonly #intervalMs: number
  #stored: Stored

  private constructor(records: KeyValue, intervalMs: number, stored: Stored) {
    this.#records = records
    this.#intervalMs = intervalMs
    this.#stored = stored
  }

  static async load(records: KeyValue, intervalMs: number, now: number): Promise<CycleRecord> {
    const value = await records.get(cycleKey)
    if (value !== undefined)
      return new CycleRecord(records, intervalMs, JSON.parse(new TextDecoder().decode(value)) as Stored)
    const phaseMs = Math.floor(now - Math.random() * intervalMs)
    const record = new CycleRecord(records, intervalMs, { phaseMs, depth: 0, current: empty(phaseMs) })
    await record.#write()
    return record
  }

  get cycle(): Cycle {
    return { intervalMs: this.#intervalMs, phaseMs: this.#stored.phaseMs }
  }

  /** The usual length of a region's prefix. */
  get depth(): number {
    return this.#stored.depth
  }

  /** The cycle that goes on, and the last one that is over. */
  costs(now: number): { readonly current: CycleCost; readonly last?: CycleCost } {
    this.#turn(now)
    const { current, last } = this.#stored
    return { current, ...(last === undefined ? {} : { last }) }
  }

  async add({ prefix, lookups, told }: Swept, busyMs: number, now: number): Promise<void> {
    this.#turn(now)
    const { current } = this.#stored
    this.#stored = {
      ...this.#stored,
      depth: prefix.length,
      current: {
        startedMs: current.startedMs,
        busyMs: current.busyMs + busyMs,
        keys: current.keys + told,
        regions: current.regions + 1,
        lookups: current.lookups + lookups,
      },
    }
    await this.#write()
  }

  #turn(now: number): void {
    const { phaseMs, current } = this.#stored
    const number = cycleNumber(now, this.cycle)
    if (number === cycleNumber(current.startedMs, this.cycle)) return
    this.#stored = { ...this.#stored, current: empty(phaseMs + number * this.#intervalMs), last: current }
  }

  #write(): Promise<void> {
    return this.#records.put(cycleKey, new TextEncoder().encode(JSON.stringify(this.#stored)))
  }
}

const empty = (startedMs: number): CycleCost => ({ startedMs, busyMs: 0, keys: 0, regions: 0, lookups: 0 })
