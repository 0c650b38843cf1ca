// A network in one process for the hostile suite: an honest repository that publishes, a client that installs, and room
// for an attacker. What everybody starts from is signed once for each test file.
import { decodeEnvelope } from '../../src/assets/release.ts'
import type { MemoryKeyValue } from '../../src/base/memory-key-value.ts'
import type { Head, Release } from '../../src/flows/resolve.ts'
import { MemoryNetwork } from '../../src/network/memory-host.ts'
import { MemoryRouting } from '../../src/network/memory-router.ts'
import type { RecordKey } from '../../src/network/router.ts'
import { MemoryContentStore } from '../../src/store/memory-content-store.ts'
import type { AuthorityGrant, Certificate, PublisherGrant } from '../../src/trust/certificate.ts'
import type { RevocationList } from '../../src/trust/revocation-list.ts'
import { noticeOf } from '../../src/trust/trust-chain.ts'
import {
  authority,
  day,
  idOf,
  keysOf,
  now,
  publisherCertificate,
  revocations,
} from '../trust/test-network.ts'

import { type Clock, copyOf, publisherId, signerOf, startNode, tool } from './node.ts'

/** What there is before anybody does harm: acme/tool in two versions, and what was true before the second. */
export interface Beginning {
  readonly authority: Certificate<AuthorityGrant>
  readonly publisher: Certificate<PublisherGrant>
  /** Another member of the network, with names of its own. */
  readonly mallory: Certificate<PublisherGrant>
  readonly list: RevocationList
  readonly releases: readonly [Release, Release]
  readonly heads: readonly [Head, Head]
  readonly records: MemoryKeyValue
  /** The repository's disk as it was after the first release. */
  readonly backup: MemoryKeyValue
  readonly store: MemoryContentStore
}

export const allRights = ['delegate', 'freshen', 'publish', 'yank'] as const

let begun: Promise<Beginning> | undefined
export function beginning(): Promise<Beginning> {
  begun ??= begin()
  return begun
}

async function begin(): Promise<Beginning> {
  const above = await authority()
  const publisher = await publisherCertificate(above, { rights: allRights })
  const mallory = await publisherCertificate(above, {
    ...{ subject: keysOf('stranger'), publisher: idOf('stranger') },
    ...{ names: ['mallory/*'], rights: allRights },
  })
  const list = await revocations(above, [above])
  const clock = { now }
  const store = new MemoryContentStore()
  const node = await startNode({
    ...{ net: new MemoryNetwork(), routing: new MemoryRouting(), clock, store },
    identity: signerOf('publisher', [publisher, above]),
  })
  await node.accept(list.bytes)
  const first = await node.publish(tool, '1.0.0')
  const firstHead = await node.head()
  const backup = await copyOf(node.records)
  const second = await node.publish(tool, '1.1.0')
  const secondHead = await node.head()
  await node.stop()
  return {
    ...{ authority: above, publisher, mallory, list, store, backup, records: node.records },
    releases: [first, second],
    heads: [firstHead, secondHead],
  }
}

/** An honest repository with all of that, and a client that has heard of it and holds none of the contents. */
export async function makeWorld() {
  const start = await beginning()
  const clock: Clock = { now }
  const parts = { net: new MemoryNetwork(), routing: new MemoryRouting(), clock }
  const repository = await startNode({
    ...{ ...parts, records: await copyOf(start.records), store: start.store },
    identity: signerOf('publisher', [start.publisher, start.authority]),
  })
  const client = await startNode({ ...parts, records: await copyOf(start.records), curious: true })
  await client.host.dial(repository.host.addresses()[0] as string)
  let minor = 1
  return {
    ...parts,
    ...start,
    repository,
    client,
    /** Brings what the repository knows to the client. */
    catchUp: async () => client.sync.reconcileWith(repository.peer),
    /** The publisher's next release, on the repository. */
    publishNext: () => repository.publish(tool, `1.${++minor}.0`),
    /** The authority's list goes on: without it everybody is cut off after 30 days. */
    async renewList(revoked: readonly string[] = [], sequence = 2) {
      const { authority: above } = start
      const list = await revocations(above, [above], {
        ...{ sequence, issuedAt: clock.now, expiresAt: clock.now + 30 * day },
        revoked: revoked.map(certificate => ({ certificate, at: clock.now, reason: 'key stolen' })),
      })
      await repository.accept(list.bytes)
      return list
    },
    stop: () => Promise.all([repository.stop(), client.stop()]),
  }
}

export type World = Awaited<ReturnType<typeof makeWorld>>

/** Where an honest node would put a record in the DHT. */
export function keyOf(bytes: Uint8Array): RecordKey {
  try {
    const { statement, id } = decodeEnvelope(bytes)
    const { publisher, name } = statement
    return statement.type === 'release' ? { kind: 'release', id } : { kind: 'head', publisher, name }
  } catch {
    // What is no record at all is tried in place of the head.
    return isNotice(bytes) ? { kind: 'notice', notice: noticeOf(bytes).key } : headKey
  }
}

const headKey = { kind: 'head', publisher: publisherId, name: tool } as const

function isNotice(bytes: Uint8Array): boolean {
  try {
    return noticeOf(bytes).key !== ''
  } catch {
    return false
  }
}
