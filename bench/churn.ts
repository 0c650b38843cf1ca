// Many nodes fetch one package at once while some of them, chosen by seed, are killed (kill -9) and started again in
// the middle of it. Used by the bench, by a daemon test in a short form, and by the campaign in a long one.
import { setTimeout as sleep } from 'node:timers/promises'
import type { FetchFailure, FetchResult, Progress } from '../src/control/api.ts'

/** What it drives: a daemon that can be killed and started again at the address that it had. */
export interface ChurnNode {
  readonly home: string
  readonly client: {
    fetch(
      request: { readonly refs: readonly string[] },
      options: { readonly onProgress: (progress: Progress) => void },
    ): Promise<(FetchResult | FetchFailure)[]>
  }
  start(): Promise<void>
  end(signal: 'SIGKILL'): Promise<unknown>
}

export interface ChurnReport {
  /** Nodes that completed the fetch, survivors and restarted ones, and what went wrong on the others. */
  readonly survivors: number
  readonly restarted: number
  readonly killed: number
  readonly failures: readonly string[]
  /** Bytes that the fetches received: of a killed one what had been stored, and what its resumed fetch received. */
  readonly receivedBytes: number
  readonly milliseconds: number
}

export interface ChurnOptions {
  readonly id: string
  readonly size: number
  /** The first node is the publisher; the others fetch. */
  readonly nodes: readonly ChurnNode[]
  readonly victims: number
  readonly seed: number
  readonly say?: (line: string) => void
}

/** Longest time that a killed node stays away. */
const awayMs = 3_000

export async function churn(options: ChurnOptions): Promise<ChurnReport> {
  const { nodes, id, size, say = () => undefined } = options
  const random = randomNumbers(options.seed)
  const order = nodes.map(node => [random(), node] as const).sort(([a], [b]) => a - b)
  const victims = new Map(
    // Each is killed once it has a part of the package that is its own lot; the publisher once others have it.
    order
      .slice(0, options.victims)
      .map(([, node]) => [node, { at: 0.1 + 0.8 * random(), away: random() * awayMs }]),
  )
  const done = new Map<ChurnNode, number>()
  const failures: string[] = []
  let receivedBytes = 0
  let survivors = 0
  let restarted = 0
  const kills: Promise<void>[] = []
  const started = performance.now()

  async function kill(node: ChurnNode, away: number): Promise<void> {
    await node.end('SIGKILL')
    await sleep(away)
    await node.start()
  }

  function onProgress(node: ChurnNode, progress: Progress): void {
    if (progress.phase !== 'transfer') return
    done.set(node, Math.max(done.get(node) ?? 0, progress.done ?? 0))
    for (const [victim, lot] of victims) {
      const stage = victim === nodes[0] ? mean(done, nodes.length - 1) : (done.get(victim) ?? 0)
      if (stage < lot.at * size) continue
      victims.delete(victim)
      say(`  kill -9 of ${victim.home} at ${((100 * stage) / size).toFixed(0)} %`)
      const killing = kill(victim, lot.away)
      killing.catch(() => undefined)
      kills.push(killing)
      killed.set(victim, killing)
    }
  }

  const killed = new Map<ChurnNode, Promise<void>>()
  async function fetchOn(node: ChurnNode): Promise<void> {
    try {
      const bytes = await fetchOnce(node, id, progress => onProgress(node, progress))
      receivedBytes += bytes
      survivors++
    } catch (error) {
      const killing = killed.get(node)
      if (killing === undefined) {
        failures.push(`${node.home}: ${String(error)}`)
        return
      }
      await killing
      const before = done.get(node) ?? 0
      const bytes = await fetchOnce(node, id, progress => onProgress(node, progress))
      receivedBytes += before + bytes
      restarted++
    }
  }

  const fetches = await Promise.allSettled(nodes.slice(1).map(fetchOn))
  for (const fetch of fetches) if (fetch.status === 'rejected') failures.push(String(fetch.reason))
  await Promise.all(kills)
  const milliseconds = performance.now() - started
  return { survivors, restarted, killed: kills.length, failures, receivedBytes, milliseconds }
}

/** @returns the bytes received @throws what went wrong */
async function fetchOnce(
  node: ChurnNode,
  id: string,
  onProgress: (progress: Progress) => void,
): Promise<number> {
  const [result] = await node.client.fetch({ refs: [id] }, { onProgress })
  if (result === undefined || 'error' in result) throw new Error(JSON.stringify(result?.error))
  return result.bytesTransferred
}

const mean = (done: ReadonlyMap<unknown, number>, count: number): number =>
  [...done.values()].reduce((sum, each) => sum + each, 0) / count

/** Numbers in [0, 1) that a seed repeats (mulberry32, public domain). */
export function randomNumbers(seed: number): () => number {
  let state = seed >>> 0
  return () => {
    state = (state + 0x6d2b79f5) >>> 0
    let mixed = Math.imul(state ^ (state >>> 15), state | 1)
    mixed ^= mixed + Math.imul(mixed ^ (mixed >>> 7), mixed | 61)
    return ((mixed ^ (mixed >>> 14)) >>> 0) / 2 ** 32
  }
}
