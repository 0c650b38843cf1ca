// When a region is announced again: each at its own time of the cycle, which follows from where it lies, so that the
// work is spread evenly over the interval and all keys of a region come up together. Pure.
import { fractionOf, type Prefix } from '../keyspace.ts'

export interface Cycle {
  readonly intervalMs: number
  /** This node's own beginning, so that not all nodes of a network announce at one time. In ms since 1970. */
  readonly phaseMs: number
}

/** What comes up within this is told along with its region; so what was just told is not told twice. */
export const earlyMs = ({ intervalMs }: Cycle): number => intervalMs / 8

/** The region's next time: an interval from now, give or take an eighth where it was not told on its time. */
export function nextSlot(prefix: Prefix, now: number, cycle: Cycle): number {
  const offset = cycle.phaseMs + fractionOf(prefix) * cycle.intervalMs
  const turns = Math.ceil((now + earlyMs(cycle) - offset) / cycle.intervalMs)
  return Math.ceil(offset + turns * cycle.intervalMs)
}

/** The number of the cycle that the time lies in. */
export const cycleNumber = (now: number, { intervalMs, phaseMs }: Cycle): number =>
  Math.floor((now - phaseMs) / intervalMs)
