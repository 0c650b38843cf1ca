// Whether a peer really has a copy: a few shards at random, fetched by the transfer protocol and held against the
// content index here. It judges bytes alone; who is asked, and what follows, is decided elsewhere.
import type { ContentStore } from '../../assets/content-store.ts'
import { equalBytes } from '../../base/cbor.ts'
import { isCatalogError } from '../../base/errors.ts'
import { blake3 } from '../../base/hash.ts'
import type { CallOptions } from '../../base/lifecycle.ts'
import type { Host } from '../../network/host.ts'
import { defaultLaneOptions, TransferLane } from '../transfer-lane.ts'

export interface SampleDeps {
  readonly host: Host
  readonly store: Pick<ContentStore, 'index'>
}

/**
 * `good`, `bad` (wrong bytes, or none where all should be), or `unsure` where this node has no index to compare with.
 * @throws CatalogError `peer-unreachable`, `timeout`: it says nothing about the copy
 */
export async function sampleCopy(
  { host, store }: SampleDeps,
  peer: string,
  root: string,
  { samples, signal }: CallOptions & { readonly samples: number },
): Promise<'good' | 'bad' | 'unsure'> {
  const index = await store.index(root)
  if (index === undefined) return 'unsure'
  const lane = await TransferLane.open(host, peer, defaultLaneOptions, { signal })
  try {
    const held = await lane.have(root, { signal })
    if (held?.complete !== true) return 'bad'
    let good = true
    for (let count = 0; count < Math.min(samples, index.shards.length) && good; count++) {
      const number = Math.floor(Math.random() * index.shards.length)
      const shard = index.shards[number]
      if (shard === undefined) continue
      const compare = async (_: number, bytes: Uint8Array) => {
        good = equalBytes(blake3(bytes), shard.hash)
      }
      await lane.shards(root, number, [shard.length], compare, { signal })
    }
    return good ? 'good' : 'bad'
  } catch (error) {
    if (isCatalogError(error, 'not-found') || isCatalogError(error, 'bad-peer-message')) return 'bad'
    throw error
  } finally {
    await lane.close().catch(() => undefined)
  }
}
