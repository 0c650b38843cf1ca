// Where the copies of a content belong, and who sees to it: pure decisions over what one node knows. Every holder
// computes the same from the same view, so exactly one acts. It asks nobody and keeps nothing.
//
// Rendezvous hashing (Thaler and Ravishankar, "Using name-based mappings to increase hit rates", 1998): each peer's
// rank for a root is a hash of both, so a peer that comes or goes moves only what it held or now ranks first for.
import { blake3 } from '../../base/hash.ts'

/** What one node knows of one holder's copy. */
export interface Copy {
  readonly peer: string
  /** False once the peer has not answered for the grace time. */
  readonly present: boolean
  /** What the holder says; `failed`: its bytes were wrong more than once. `unknown`: it has not been heard yet. */
  readonly standing: 'whole' | 'coming' | 'leaving' | 'failed' | 'unknown'
  /** Bytes of it were read and had the right hashes. */
  readonly proved: boolean
  /** It is handing over what it holds. */
  readonly draining: boolean
  /** Milliseconds since 1970 at which this copy was first proved here; a copy not proved is younger than any that is. */
  readonly since: number
}

export interface Plan {
  /** Who acts: the first, and the next where those before it do nothing for too long. */
  readonly actors: readonly string[]
  /** Copies to be placed on other nodes. */
  readonly missing: number
  /** Enough copies are proved: what is beyond may go. */
  readonly settled: boolean
  /** Holders that are gone or have failed, and are no longer needed. */
  readonly drop: readonly string[]
  /** Holders that are present and no longer needed, to be asked to verify the others and let go. */
  readonly release: readonly string[]
}

/** The peers, best first for this root. */
export function rank(root: string, peers: readonly string[]): string[] {
  const score = (peer: string) => Buffer.from(blake3(Buffer.from(`${root}\0${peer}`)))
  return peers
    .map(peer => ({ peer, score: score(peer) }))
    .sort((a, b) => Buffer.compare(b.score, a.score))
    .map(({ peer }) => peer)
}

/**
 * A copy that may be whole counts when it is asked whether more are needed, only a proved one when it is asked
 * whether one may go: in doubt there is a copy too many, never one too few.
 */
export function plan(root: string, factor: number, copies: readonly Copy[]): Plan {
  const present = copies.filter(copy => copy.present)
  const staying = present.filter(({ draining, standing }) => !draining && standing !== 'leaving')
  const hopeful = staying.filter(({ standing }) => standing !== 'failed')
  const good = staying.filter(({ standing, proved }) => standing === 'whole' && proved)
  const settled = good.length >= factor
  const kept = new Set(oldestFirst(root, good).slice(0, factor))
  return {
    actors: actorsOf(root, present),
    missing: Math.max(0, factor - hopeful.length),
    settled,
    drop: settled
      ? copies.filter(copy => !copy.present || copy.standing === 'failed').map(({ peer }) => peer)
      : [],
    release: settled
      ? present.filter(copy => !kept.has(copy) && copy.standing !== 'leaving').map(({ peer }) => peer)
      : [],
  }
}

/** By rank, those who can act best: with a proved copy and staying, else with a proved copy, else anybody. */
function actorsOf(root: string, present: readonly Copy[]): string[] {
  const whole = present.filter(({ standing, proved }) => standing === 'whole' && proved)
  const staying = whole.filter(({ draining }) => !draining)
  const able = [staying, whole, present].find(each => each.length > 0) ?? []
  return rank(
    root,
    able.map(({ peer }) => peer),
  )
}

// The youngest go first: newcomers, whoever they are, never push out those who have proved themselves for long.
function oldestFirst(root: string, copies: readonly Copy[]): Copy[] {
  const places = new Map(
    rank(
      root,
      copies.map(({ peer }) => peer),
    ).map((peer, place) => [peer, place]),
  )
  return [...copies].sort(
    (a, b) => a.since - b.since || (places.get(a.peer) ?? 0) - (places.get(b.peer) ?? 0),
  )
}
