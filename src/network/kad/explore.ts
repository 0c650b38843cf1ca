// Who is responsible for a stretch of the keyspace: lookups, until every peer of a region is known. One lookup that
// gives the k peers nearest to a point knows all peers of the largest subtree round it with fewer than k; the region is
// one bit wider, so it holds at least k, and its other half is looked up until it is covered too. So the k nearest of
// every key in the region are among its peers (as the sweep of go-libp2p-kad-dht does).
import type { Location, Prefix } from '../keyspace.ts'
import { isUnder, keyUnder, locationBits, prefixOf, sharedBits, siblingOf } from '../keyspace.ts'
import type { Region } from '../router.ts'

export interface Contact {
  readonly peer: string
  readonly location: Location
}

export interface Exploring {
  /** Kademlia's k. */
  readonly replication: number
  /** A bound on the lookups of one region, whatever peers answer. */
  readonly maxLookups: number
  readonly locate: (key: Uint8Array) => Location
  /** The k nearest peers that answer; fewer only where the network has no more. */
  readonly lookup: (key: Uint8Array) => Promise<readonly Contact[]>
}

/** `narrow`: one lookup, for this key alone, unless it shows that the network has fewer than k peers. */
export async function exploreRegion(key: Uint8Array, narrow: boolean, how: Exploring): Promise<Region> {
  const found = new Map<string, Contact>()
  let lookups = 0
  const cover = async (target: Uint8Array): Promise<Prefix> => {
    lookups++
    const peers = await how.lookup(target)
    for (const contact of peers) found.set(contact.peer, contact)
    return peers.length < how.replication ? '' : knownRound(how.locate(target), peers)
  }
  const region = (prefix: Prefix): Region => ({ prefix, peers: namesUnder(prefix, found), lookups })

  const at = how.locate(key)
  const known = await cover(key)
  if (known === '') return region('')
  if (narrow) return { prefix: prefixOf(at, locationBits), peers: [...found.keys()], lookups }
  const open = [siblingOf(known)]
  for (let prefix = open.pop(); prefix !== undefined && lookups < how.maxLookups; prefix = open.pop()) {
    const inside = keyUnder(prefix)
    if (inside === undefined) continue
    const covered = await cover(inside)
    for (let bits = prefix.length + 1; bits <= covered.length; bits++)
      open.push(siblingOf(covered.slice(0, bits)))
  }
  return region(known.slice(0, -1))
}

/** The largest subtree round the point all of whose peers are among its nearest. */
function knownRound(at: Location, peers: readonly Contact[]): Prefix {
  const farthest = Math.min(...peers.map(({ location }) => sharedBits(at, location)))
  return prefixOf(at, Math.min(farthest + 1, locationBits))
}

const namesUnder = (prefix: Prefix, found: ReadonlyMap<string, Contact>): string[] =>
  [...found.values()].filter(({ location }) => isUnder(prefix, location)).map(({ peer }) => peer)
