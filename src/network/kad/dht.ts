// The parts of kad-dht 16 that are used beside its documented interface, and the bytes of this network's keys.
import type { MessageType, QueryEvent } from '@libp2p/kad-dht'
import type { peerIdFromString } from '@libp2p/peer-id'
import { CID } from 'multiformats/cid'
import * as Digest from 'multiformats/hashes/digest'
import type { CidText } from '../../base/cid.ts'
import { sha256 } from '../../base/hash.ts'
import type { CallOptions } from '../../base/lifecycle.ts'
import { recordKeyBytes } from '../record-key.ts'
import type { Announcement } from '../router.ts'

export type PeerId = ReturnType<typeof peerIdFromString>

export interface Dht {
  readonly network: {
    sendRequest(to: PeerId, message: KadMessage, options: SendOptions): AsyncIterable<QueryEvent>
  }
  readonly providers: {
    addProvider(cid: CID, peer: PeerId): Promise<void>
    removeProvider(cid: CID, peer: PeerId): Promise<void>
  }
  readonly routingTable: { closestPeers(location: Uint8Array): PeerId[]; readonly size: number }
  get(key: Uint8Array, options: CallOptions): AsyncIterable<QueryEvent>
  findProviders(cid: CID, options: CallOptions): AsyncIterable<QueryEvent>
}

interface KadMessage {
  readonly type: MessageType
  readonly key: Uint8Array
}

interface SendOptions extends CallOptions {
  readonly path: { index: number; queued: number; running: number; total: number }
}

export const noPath = { index: -1, queued: 0, running: 0, total: 0 }

/** kad-dht reads provider keys as CIDv0, which can only carry SHA-256; so the CID's text is hashed. */
export function providerKey(cid: CidText): CID {
  return CID.createV1(0x55, Digest.create(0x12, sha256(new TextEncoder().encode(cid))))
}

/** What the announcement lies under: its location is the SHA-256 of these bytes. */
export const announcementKey = (item: Announcement): Uint8Array =>
  item.kind === 'record' ? recordKeyBytes(item.key) : providerKey(item.cid).multihash.bytes
