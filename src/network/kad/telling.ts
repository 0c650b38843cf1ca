// Who is told what: each bulletin goes to its k nearest of the given peers, all bulletins for a peer together, several
// peers at once. It knows the keyspace, not messages or streams.
import { raceAbort } from '../../base/deadline.ts'
import type { PeerText } from '../host.ts'
import { type Location, nearest } from '../keyspace.ts'
import type { Bulletin } from '../router.ts'
import type { Contact } from './explore.ts'

export interface TellingDeps {
  readonly replication: number
  readonly locate: (bulletin: Bulletin) => Location
  /** Counts what the peer confirms on the bulletins; never throws. */
  readonly send: (peer: PeerText, bulletins: readonly Bulletin[], signal: AbortSignal) => Promise<void>
  readonly concurrency: number
}

/** Throws only the signal's reason; what was confirmed by then is counted. */
export async function tellNearest(
  bulletins: readonly Bulletin[],
  peers: readonly Contact[],
  deps: TellingDeps,
  signal: AbortSignal,
): Promise<void> {
  signal.throwIfAborted()
  const forPeer = new Map<PeerText, Bulletin[]>()
  for (const bulletin of bulletins)
    for (const { peer } of nearest(deps.locate(bulletin), peers, deps.replication)) {
      if (bulletin.told.has(peer)) continue
      bulletin.told.add(peer)
      const mine = forPeer.get(peer)
      if (mine === undefined) forPeer.set(peer, [bulletin])
      else mine.push(bulletin)
    }
  const waiting = [...forPeer]
  const work = async () => {
    for (let next = waiting.shift(); next !== undefined && !signal.aborted; next = waiting.shift())
      await deps.send(next[0], next[1], signal)
  }
  await raceAbort(Promise.all(Array.from({ length: deps.concurrency }, work)), signal)
}
