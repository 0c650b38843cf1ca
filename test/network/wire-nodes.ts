// A node that answers all three protocols about the same small, unchanging things: for golden bytes and malformed frames.
import { decodeEnvelope, type Envelope } from '../../src/assets/release.ts'
import type { Verified } from '../../src/assets/stage.ts'
import { silentLog } from '../../src/base/log.ts'
import { MemoryKeyValue } from '../../src/base/memory-key-value.ts'
import { defaultSyncOptions, Sync } from '../../src/distribution/sync.ts'
import type { MemoryNetwork } from '../../src/network/memory-host.ts'
import { Catalogue } from '../../src/registry/catalogue.ts'
import { provider } from '../distribution/peers.ts'
import { executing, submissionOf } from '../execution/delegation-peers.ts'
import { headChain } from '../registry/records.ts'
import { pseudoRandom, publish, sampleOf } from '../store/sample-content.ts'

/** 40 bytes in three shards. */
const bytes = pseudoRandom(1, 40)
export const content = sampleOf(bytes, [bytes.subarray(0, 16), bytes.subarray(16, 32), bytes.subarray(32)])
export const records = headChain(2)
export const executionId = 'execution-1'

export async function wireNode(network: MemoryNetwork, requester: string) {
  const { host, store } = provider(network)
  await publish(store, content)
  const catalogue = new Catalogue({ records: new MemoryKeyValue(), log: silentLog })
  for (const each of [...records.releases, ...records.heads]) await catalogue.add(each as Verified<Envelope>)
  const accept = async (record: Uint8Array) => void decodeEnvelope(record)
  new Sync({ host, catalogue, accept, log: silentLog }, { ...defaultSyncOptions, enabled: false })
  const { executor } = executing(network, true, undefined, host)
  await executor.submit(submissionOf(executionId), requester)
  return { host, peer: host.peer, store, catalogue, executor }
}
