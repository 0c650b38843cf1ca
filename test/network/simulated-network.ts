// A network of which everything is known, for the planner: peers at locations of the keyspace, lookups that find the
// nearest of them, a clock that the test moves. It counts lookups, and who was told what, and when.
import { sha256 } from '../../src/base/hash.ts'
import { announcementKey } from '../../src/network/kad/dht.ts'
import { type Contact, exploreRegion } from '../../src/network/kad/explore.ts'
import { nearest } from '../../src/network/keyspace.ts'
import type { Announcement, Bulletin, KeyspaceRouter, Region } from '../../src/network/router.ts'

const sha = (text: string) => sha256(new TextEncoder().encode(text))

export interface Told {
  readonly name: string
  readonly location: Uint8Array
  readonly at: number
  readonly peers: ReadonlySet<string>
}

export const itemName = (item: Announcement): string =>
  item.kind === 'provide' ? item.cid : JSON.stringify(item.key)

export class SimulatedNetwork implements KeyspaceRouter {
  readonly contacts: readonly Contact[]
  readonly told: Told[] = []
  readonly explored: Region[] = []
  readonly #replication: number
  now = 1_000_000
  lookups = 0
  isDown = false
  /** What every exploration takes. */
  explorationMs = 0

  constructor(size: number, replication: number, seed = 'seed') {
    this.#replication = replication
    this.contacts = Array.from({ length: size }, (_, i) => ({
      peer: `peer-${i}`,
      location: sha(`${seed} ${i}`),
    }))
  }

  locate(item: Announcement): Uint8Array {
    return sha256(announcementKey(item))
  }

  neighbours(): readonly string[] {
    return this.isDown ? [] : this.contacts.slice(0, 1).map(({ peer }) => peer)
  }

  async explore(item: Announcement, options: { narrow?: boolean } = {}): Promise<Region> {
    if (this.isDown) throw new Error('the network is down')
    const region = await this.exploreAt(announcementKey(item), options.narrow === true)
    this.now += this.explorationMs
    this.explored.push(region)
    return region
  }

  exploreAt(key: Uint8Array, narrow = false): Promise<Region> {
    return exploreRegion(key, narrow, {
      replication: this.#replication,
      maxLookups: 64,
      locate: sha256,
      lookup: async target => {
        this.lookups++
        return nearest(sha256(target), this.contacts, this.#replication)
      },
    })
  }

  async tell(bulletins: readonly Bulletin[], peers: readonly string[]): Promise<void> {
    const known = new Set(peers)
    const among = this.contacts.filter(({ peer }) => known.has(peer))
    for (const bulletin of bulletins) {
      const location = this.locate(bulletin.item)
      for (const { peer } of nearest(location, among, this.#replication)) bulletin.told.add(peer)
      bulletin.accepted = bulletin.told.size
      this.told.push({ name: itemName(bulletin.item), location, at: this.now, peers: bulletin.told })
    }
  }

  async unprovide(): Promise<void> {}

  /** The k peers that should hold what lies there. */
  closest(location: Uint8Array): string[] {
    return nearest(location, this.contacts, this.#replication).map(({ peer }) => peer)
  }
}
