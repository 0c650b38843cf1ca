// Nodes that keep copies, in one process: real records, keys, transfer and replication on memory hosts.
import type { ContentUsage } from '../../src/assets/content-store.ts'
import type { CallOptions } from '../../src/base/lifecycle.ts'
import { silentLog } from '../../src/base/log.ts'
import { MemoryKeyValue } from '../../src/base/memory-key-value.ts'
import { ContentFetcher } from '../../src/distribution/content-fetcher.ts'
import { PeerScores } from '../../src/distribution/peer-scores.ts'
import { Replication } from '../../src/distribution/replication.ts'
import { TransferServer } from '../../src/distribution/transfer-server.ts'
import { mendCopy, proveOffered, pullCopy } from '../../src/flows/replicate.ts'
import type { Release } from '../../src/flows/resolve.ts'
import type { MemoryNetwork } from '../../src/network/memory-host.ts'
import type { Signer } from '../../src/trust/signer.ts'
import { node, packageOf } from '../flows/nodes.ts'
import { quick } from './peers.ts'

export interface KeeperOptions {
  readonly factor?: number
  readonly accept?: boolean
  readonly maxBytes?: number
  readonly freeBytes?: number
}

export type Keeper = Awaited<ReturnType<typeof keeper>>

/** Times short enough for a test; a copy counts as lost after a third of a second. */
const times = {
  graceMs: 300,
  retryMs: 40,
  maxRetryMs: 400,
  checkEveryMs: 400,
  verifyEveryMs: 3_600_000,
  askMs: 1_000,
  drainPatienceMs: 1_500,
}

export async function keeper(network: MemoryNetwork, signer: Signer, options: KeeperOptions = {}) {
  const flow = node(network, signer)
  const { host, store, catalogue } = flow
  new TransferServer({ host, store, log: silentLog })
  const fetcher = new ContentFetcher(
    {
      host,
      store,
      scores: new PeerScores({ records: new MemoryKeyValue() }),
      async *findProviders(_root: string, { signal }: CallOptions): AsyncIterable<string> {
        for (const { peer } of host.connections()) {
          signal?.throwIfAborted()
          yield peer
        }
      },
      log: silentLog,
    },
    quick,
  )
  const replicating = {
    ...{ store, fetcher, catalogue },
    announce: async () => undefined,
    ask: flow.resolving.ask,
  }
  const records = new MemoryKeyValue()
  const usage = async (): Promise<ContentUsage> => ({
    ...(await store.usage()),
    freeBytes: options.freeBytes ?? 1_000_000_000,
  })
  const replication = new Replication(
    {
      ...{ host, records, log: silentLog },
      store: {
        state: root => store.state(root),
        index: root => store.index(root),
        check: (root, call) => store.check(root, call),
        usage,
      },
      bring: (offer, from, call) => proveOffered(replicating, offer, from, call),
      pull: (kept, call) => pullCopy(replicating, kept, call),
      mend: (kept, call) => mendCopy(replicating, kept, call),
      knownPeers: () => [],
    },
    {
      ...times,
      factor: options.factor ?? 3,
      accept: options.accept ?? true,
      maxBytes: options.maxBytes,
    },
  )
  await replication.load()
  await replication.start()
  return {
    ...{ host, store, catalogue, records, replication, peer: host.peer },
    publish: async (name: string, content?: string, factor?: number): Promise<Release> => {
      const { release } = await flow.publish(await packageOf(name, '1.0.0', content))
      await replication.keep(
        { id: release.id, root: release.statement.root, size: release.statement.size },
        factor,
      )
      return release
    },
    accept: flow.accept,
    /** As a power cut: it answers nobody and asks nobody. */
    kill: async () => {
      await Promise.all([host.stop(), replication.stop()])
    },
  }
}

export async function connectAll(keepers: readonly { host: Keeper['host']; peer: string }[]): Promise<void> {
  for (const a of keepers)
    for (const b of keepers) if (a.peer < b.peer) await a.host.dial(`/memory/${b.peer}`)
}

/** Who has promised to keep the content, and has it whole. */
export async function keeping(keepers: readonly Keeper[], root: string): Promise<string[]> {
  const peers: string[] = []
  for (const { peer, replication, store } of keepers)
    if (replication.isOwed(root) && (await store.state(root)) === 'complete') peers.push(peer)
  return peers
}
