// What this node has set aside, and for how much it can: the ceiling, the sum of what runs, and whether one more fits.
import { availableParallelism, totalmem } from 'node:os'
import type { RunLimits } from '../runtime.ts'

/** The most that one execution may demand, and of cores, memory and storage the most that all may hold together. */
export type Ceiling = RunLimits

const mib = 1024 * 1024

/** Half of the memory and all cores of this machine; the rest are what an ordinary job stays well under. */
export const machineCeiling = (): Ceiling => ({
  cpuCores: availableParallelism(),
  memoryMb: Math.floor(totalmem() / mib / 2),
  storageMb: 10_240,
  runSeconds: 3_600,
  processes: 256,
  fileMb: 4_096,
  outputBytes: 64 * mib,
})

const shared = ['cpuCores', 'memoryMb', 'storageMb'] as const
export type Shares = Readonly<Record<(typeof shared)[number], number>>

/** The first demand over its ceiling, in words; undefined where all fit. */
export function overCeiling(demand: RunLimits, ceiling: Ceiling): string | undefined {
  for (const name of Object.keys(ceiling) as (keyof RunLimits)[])
    if (!(demand[name] > 0 && demand[name] <= ceiling[name]))
      return `${name}: ${demand[name]} demanded, at most ${ceiling[name]} here`
  return undefined
}

export class Allocations {
  readonly #ceiling: Ceiling
  readonly #held = new Map<string, Shares>()

  constructor(ceiling: Ceiling) {
    this.#ceiling = ceiling
  }

  get held(): Shares {
    const sum = { cpuCores: 0, memoryMb: 0, storageMb: 0 }
    for (const held of this.#held.values()) for (const name of shared) sum[name] += held[name]
    return sum
  }

  fits(demand: Shares): boolean {
    const { held } = this
    // Fractions of cores do not add up exactly.
    return shared.every(name => held[name] + demand[name] <= this.#ceiling[name] + 1e-9)
  }

  take(id: string, demand: Shares): void {
    this.#held.set(id, demand)
  }

  release(id: string): void {
    this.#held.delete(id)
  }
}
