// What replication is made of, joined: who asks whom, and with which limits. No state of its own.

import type { ContentStore } from '../../assets/content-store.ts'
import { withTimeout } from '../../base/deadline.ts'
import type { KeyValue } from '../../base/key-value.ts'
import type { Log } from '../../base/log.ts'
import type { Host } from '../../network/host.ts'
import { CopyViews } from './copy-views.ts'
import { Obligations } from './obligations.ts'
import { Offers, type OffersDeps } from './offers.ts'
import { OwnCopies, type OwnCopiesDeps } from './own-copies.ts'
import { PeerWatch, type PeerWatchDeps } from './peer-watch.ts'
import { sampleCopy } from './sample.ts'
import { ReplicationSessions } from './sessions.ts'
import { Tender } from './tender.ts'

export interface ReplicationOptions {
  /** Copies of what is published here, this node's included. */
  readonly factor: number
  readonly accept: boolean
  /** Bytes kept for others; undefined: half of what is free. */
  readonly maxBytes: number | undefined
  readonly checkEveryMs: number
  readonly verifyEveryMs: number
  readonly graceMs: number
  /** From publishing to the first offers: who fetches it meanwhile has a copy that need not be sent again. */
  readonly settleMs: number
  /** First pause before what is not in order is looked at again; it doubles up to the second figure. */
  readonly retryMs: number
  readonly maxRetryMs: number
  /** Shards read of a copy to prove it. */
  readonly samples: number
  /** One question to a peer. */
  readonly askMs: number
  /** A drain in which nothing moves for this long is reported as far as it came. */
  readonly drainPatienceMs: number
}

const minuteMs = 60_000

export const defaultReplicationOptions: ReplicationOptions = {
  // Two may be lost at once.
  factor: 3,
  accept: true,
  maxBytes: undefined,
  // Three shards of each other copy an hour: keeping a thousand packages costs a node about 0.4 MB/s.
  checkEveryMs: 60 * minuteMs,
  verifyEveryMs: 24 * 60 * minuteMs,
  // A daemon restarts in less; QUIC itself takes ten seconds to notice a lost peer.
  graceMs: 30_000,
  settleMs: 0,
  retryMs: 2_000,
  maxRetryMs: 5 * minuteMs,
  samples: 3,
  askMs: 5_000,
  drainPatienceMs: 20_000,
}

export interface ReplicationDeps extends Pick<OffersDeps, 'bring'>, Pick<OwnCopiesDeps, 'pull' | 'mend'> {
  readonly host: Host
  readonly records: KeyValue
  readonly store: Pick<ContentStore, 'state' | 'index' | 'check' | 'usage'>
  /** Peers that were met before, connected or not. */
  readonly knownPeers: () => readonly string[]
  readonly log: Log
}

interface Events {
  readonly ownChange: OwnCopiesDeps['onChange']
  readonly peerChange: PeerWatchDeps['onChange']
}

export type ReplicationParts = ReturnType<typeof makeParts>

export function makeParts(deps: ReplicationDeps, options: ReplicationOptions, events: Events) {
  const { host, store, log } = deps
  const { graceMs, settleMs, checkEveryMs, retryMs, maxRetryMs, askMs, samples } = options
  const self = host.peer
  const connected = () => [...new Set(host.connections().map(({ peer }) => peer))]
  const obligations = new Obligations(deps.records)
  const views = new CopyViews(obligations, { stalledMs: Math.max(2 * graceMs, minuteMs) })
  const sessions = new ReplicationSessions(host, askMs)
  const own = new OwnCopies(
    { obligations, store, pull: deps.pull, mend: deps.mend, onChange: events.ownChange, log },
    {
      pullsAtOnce: 3,
      verifyEveryMs: options.verifyEveryMs,
      suspectEveryMs: Math.min(minuteMs, checkEveryMs),
      retryMs,
      maxRetryMs,
      giveUpMs: 10 * minuteMs,
    },
  )
  const coholders = () => {
    const peers = new Set<string>()
    for (const { holders } of obligations.all()) for (const peer of holders) peers.add(peer)
    return peers
  }
  const watch = new PeerWatch(
    {
      host,
      probe: (peer, call) => sessions.probe(peer, call),
      peers: coholders,
      onChange: events.peerChange,
    },
    {
      graceMs,
      redialMs: Math.min(5_000, graceMs / 4),
      redialGoneMs: Math.max(minuteMs / 2, graceMs),
      maxDials: 8,
    },
  )
  const tender = new Tender(
    {
      ...{ self, obligations, views, own, watch, sessions, log },
      sample: (peer, root, { signal }) =>
        sampleCopy({ host, store }, peer, root, { samples, signal: withTimeout(signal, 2 * askMs) }),
      candidates: () => ({ connected: connected(), known: deps.knownPeers() }),
    },
    {
      checkEveryMs,
      settleMs,
      turnMs: Math.min(10_000, graceMs),
      refusedMs: Math.min(minuteMs, 15 * retryMs),
      refusedLongMs: 10 * minuteMs,
    },
  )
  const offers = new Offers(
    {
      ...{ self, obligations, log, bring: deps.bring },
      usage: () => store.usage(),
      pendingBytes: () => own.pendingBytes,
    },
    {
      accept: options.accept,
      maxBytes: options.maxBytes,
      peerShare: 0.75,
      // A node that was lost leaves all its packages to be offered at once; one for nothing costs a record's transfer
      // and the proof of its signatures.
      burst: 1000,
      perSecond: 50,
      garbageCost: 25,
    },
  )
  return { self, connected, obligations, views, sessions, own, watch, tender, offers }
}
