// How a content is kept, for people and programs: what this node and the other holders say now. It changes nothing.
import type { CallOptions } from '../../base/lifecycle.ts'
import { replicateLimits } from '../replication-protocol.ts'
import type { CopyViews } from './copy-views.ts'
import type { Obligations } from './obligations.ts'
import type { ReplicationSessions } from './sessions.ts'
import type { Tender } from './tender.ts'

/** How one content is kept, as far as can be learned now. */
export interface ReplicaState {
  readonly root: string
  readonly factor: number
  /** Whole copies that stay. */
  readonly copies: number
  readonly peers: readonly ReplicaPeer[]
  /** Connected nodes that were asked and did not take a copy, with the reason. */
  readonly refusals: readonly { readonly peer: string; readonly reason: string }[]
}

export interface ReplicaPeer {
  readonly peer: string
  readonly here: boolean
  /** `whole`, `coming`, `leaving`, `failed`, `unknown`, or `gone`. */
  readonly state: string
  readonly draining: boolean
  /** Milliseconds since 1970: when bytes of it were last found right by this node. */
  readonly checkedAt?: number
}

export interface OverviewDeps {
  readonly self: string
  readonly obligations: Obligations
  readonly views: CopyViews
  readonly tender: Tender
  readonly sessions: ReplicationSessions
  readonly connected: () => readonly string[]
}

/** Rounds of asking whom the answers of the last one named. */
const maxRounds = 3

/** Asks the other holders first. Undefined where neither this node nor a peer keeps it. */
export async function overviewOf(
  deps: OverviewDeps,
  root: string,
  options: CallOptions,
): Promise<ReplicaState | undefined> {
  const { self, obligations, views, tender } = deps
  if (!obligations.has(root)) return askOthers(deps, root, options)
  await tender.meetAll(root, options)
  const mine = obligations.get(root)
  if (mine === undefined) return askOthers(deps, root, options)
  const peers = tender.copies(root).map(({ peer, present, standing, draining }): ReplicaPeer => {
    const { sampledAt, failures } = views.get(root, peer)
    const checkedAt = peer === self ? mine.checkedAt : failures === 0 ? sampledAt : undefined
    return {
      peer,
      here: peer === self,
      state: present ? standing : 'gone',
      draining,
      ...(checkedAt === undefined || checkedAt === 0 ? {} : { checkedAt }),
    }
  })
  return stateOf(deps, root, mine.factor, peers)
}

function stateOf(
  { tender }: OverviewDeps,
  root: string,
  factor: number,
  peers: readonly ReplicaPeer[],
): ReplicaState {
  const copies = peers.filter(({ state, draining }) => state === 'whole' && !draining).length
  return { root, factor, copies, peers, refusals: copies < factor ? tender.refusals(root) : [] }
}

/** What the connected peers, and those whom they name, say of a content that is not kept here. */
async function askOthers(
  deps: OverviewDeps,
  root: string,
  options: CallOptions,
): Promise<ReplicaState | undefined> {
  const asked = new Set<string>([deps.self])
  const peers: ReplicaPeer[] = []
  let factor = 0
  let next = deps.connected()
  for (let round = 0; round < maxRounds && next.length > 0; round++) {
    const asking = [...new Set(next)].filter(peer => !asked.has(peer)).slice(0, replicateLimits.maxHolders)
    const said = await Promise.all(
      asking.map(async peer => {
        asked.add(peer)
        const standing = await deps.sessions
          .meet(peer, root, { state: 'none' }, options)
          .catch(() => ({ state: 'none' }) as const)
        return { peer, standing }
      }),
    )
    options.signal?.throwIfAborted()
    next = []
    for (const { peer, standing } of said) {
      if (standing.state === 'none') continue
      factor = Math.max(factor, standing.factor)
      peers.push({ peer, here: false, state: standing.state, draining: standing.draining })
      next = [...next, ...standing.holders]
    }
  }
  return factor === 0 ? undefined : stateOf(deps, root, factor, peers)
}
