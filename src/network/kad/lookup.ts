// Kademlia's iterative lookup: the k nearest peers to a key that answer. kad-dht 16's own follows only peers nearer
// than the one that named them, so that it misses some of the k: good enough to find a value, not to place one.
import { compareDistance, type Location, nearest } from '../keyspace.ts'
import type { Contact } from './explore.ts'

export interface LookupDeps {
  readonly replication: number
  /** Questions under way at once: Kademlia's alpha. */
  readonly concurrency: number
  /** A bound on the peers asked: a hostile one can name nearer ones for ever. */
  readonly maxAsked: number
  /** Whom the peer knows nearest to the key; throws where it does not answer. Bounds its own time. */
  readonly ask: (peer: string) => Promise<readonly Contact[]>
}

interface Candidate extends Contact {
  state: 'new' | 'asked' | 'answered'
}

export async function lookupNearest(
  target: Location,
  start: readonly Contact[],
  deps: LookupDeps,
): Promise<readonly Contact[]> {
  const { replication, concurrency, maxAsked } = deps
  const seen = new Set<string>()
  let candidates: Candidate[] = []
  const meet = (contacts: readonly Contact[]) => {
    for (const { peer, location } of contacts) {
      if (seen.has(peer)) continue
      seen.add(peer)
      candidates.push({ peer, location, state: 'new' })
    }
    candidates.sort((a, b) => compareDistance(target, a.location, b.location))
  }
  const asking = new Set<Promise<void>>()
  let asked = 0
  const ask = async (candidate: Candidate): Promise<void> => {
    try {
      const closer = await deps.ask(candidate.peer)
      candidate.state = 'answered'
      meet(nearest(target, closer, 2 * replication))
    } catch {
      candidates = candidates.filter(other => other !== candidate)
    }
  }
  meet(start)
  for (;;) {
    const best = candidates.slice(0, replication)
    if (best.every(({ state }) => state === 'answered')) return best
    for (const candidate of best) {
      if (candidate.state !== 'new' || asking.size >= concurrency || asked >= maxAsked) continue
      candidate.state = 'asked'
      asked++
      const question: Promise<void> = ask(candidate).finally(() => asking.delete(question))
      asking.add(question)
    }
    if (asking.size === 0) return best.filter(({ state }) => state === 'answered')
    await Promise.race(asking)
  }
}
