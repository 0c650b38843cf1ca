// Mix and match, and wrong targets: true pieces put together to something that never was.

import { encodeContentIndex } from '../../../src/assets/content-index.ts'
import { decodeEnvelope, type HeadStatement, type ReleaseStatement } from '../../../src/assets/release.ts'
import { decodeCbor } from '../../../src/base/cbor.ts'
import { cidOf } from '../../../src/base/cid.ts'
import type { ErrorCode } from '../../../src/base/errors.ts'
import type { PublisherGrant } from '../../../src/trust/certificate.ts'
import { signRoot } from '../../../src/trust/root.ts'
import { type Sample, sampleOf } from '../../store/sample-content.ts'
import {
  authority,
  type Changes,
  goldenRoot,
  idOf,
  keysOf,
  network,
  nextRoot,
  publisherCertificate,
  revocations,
  rootBody,
  signers,
} from '../../trust/test-network.ts'
import { firstHead, nextHead, nextRelease, seal } from '../attacker.ts'
import { type Case, record } from '../case.ts'
import { publisherId, signerOf, tool } from '../node.ts'
import { mallory, publisher } from '../people.ts'
import type { World } from '../world.ts'

const ownKey = 'a publisher’s own key, and no scruples'
const mixed = 'acme/mixed'

/** A name whose first head lists as 1.0.0 what the attacker likes. */
const listsAs = (name: string, make: (world: World) => Promise<Uint8Array>): Case => ({
  name,
  has: ownKey,
  code: 'bad-record',
  says: /lists as 1\.0\.0 what is/,
  async play(world, evil) {
    const honest = await seal(nextRelease(world, { name: mixed, version: '1.0.0' }), publisher(world))
    const release = evil ? await make(world) : honest
    const head = await seal(
      firstHead(world, mixed, [{ version: '1.0.0', id: cidOf(release) }]),
      publisher(world),
    )
    return { shows: [release, head], installs: mixed }
  },
})

/** The same name, and a root of its own. */
async function otherNetwork(changes: Changes<PublisherGrant> = {}) {
  const root = await signRoot(rootBody({ keys: [keysOf('root-4')], threshold: 1 }), [signers['root-4']])
  const there = root.fingerprint
  const above = await authority({ network: there, issuer: there }, ['root-4'])
  const certificate = await publisherCertificate(above, { network: there, ...changes })
  return { root, above, signer: signerOf('publisher', [certificate, above]) }
}

const ofOtherNetwork = (name: string, make: (world: World) => ReleaseStatement | HeadStatement): Case =>
  record(
    name,
    'a network of its own that has the same name',
    'certificate-wrong-network',
    async (world, evil) => seal(make(world), evil ? (await otherNetwork()).signer : publisher(world)),
    { ways: ['sync', 'dht'] },
  )

const statementLies = (
  name: string,
  lie: (statement: ReleaseStatement) => Partial<ReleaseStatement>,
): Case => ({
  name,
  has: ownKey,
  code: 'bad-record',
  async play(world, evil) {
    const honest = nextRelease(world, { name: mixed, version: '1.0.0' })
    const release = await seal(evil ? { ...honest, ...lie(honest) } : honest, publisher(world))
    const head = await seal(
      firstHead(world, mixed, [{ version: '1.0.0', id: cidOf(release) }]),
      publisher(world),
    )
    return { shows: [release, head], installs: mixed }
  },
})

export const mixAndMatch: readonly Case[] = [
  listsAs('a head that lists another publisher’s release', world =>
    seal(
      nextRelease(world, { name: 'mallory/evil', version: '1.0.0', publisher: idOf('stranger') }),
      mallory(world),
    ),
  ),
  listsAs('a head that lists a release of another name', world =>
    seal(nextRelease(world, { name: 'acme/other', version: '1.0.0' }), publisher(world)),
  ),
  listsAs('a head that lists a release of another version', world =>
    seal(nextRelease(world, { name: mixed, version: '0.1.0' }), publisher(world)),
  ),
  ofOtherNetwork('a release of another network of the same name', nextRelease),
  ofOtherNetwork('a head of another network of the same name', nextHead),
  record(
    'a record of a network of another name',
    'membership of two networks',
    'bad-record',
    async (world, evil) => seal(nextRelease(world, evil ? { network: 'elsewhere' } : {}), publisher(world)),
    { ways: ['sync', 'dht'], says: /belongs to the network "elsewhere"/ },
  ),
  record(
    'a list of revocations of another network',
    'an authority of another network of the same name',
    'certificate-wrong-network',
    async ({ authority: above }, evil) => {
      const there = await otherNetwork()
      const changes = { sequence: 2, network: there.root.fingerprint }
      const list = evil
        ? await revocations(there.above, [there.above], changes)
        : await revocations(above, [above], { sequence: 2 })
      return list.bytes
    },
    { ways: ['sync', 'dht'] },
  ),
  record(
    'the root of another network of the same name',
    'a network of its own',
    'root-not-trusted',
    async (_, evil) => {
      const { root } = await otherNetwork()
      const honest = await nextRoot(goldenRoot, {}, ['root-1', 'root-2'])
      if (!evil) return honest.bytes
      return (await nextRoot(root, {}, ['root-4'])).bytes
    },
    { ways: ['sync', 'dht'], says: /does not follow/ },
  ),
  ...(
    [
      ['name', { name: 'acme/other', version: '1.2.0' }],
      ['version', { name: tool, version: '9.9.9' }],
    ] as const
  ).map(([what, metadata]) =>
    record(
      `a manifest of another ${what}`,
      ownKey,
      'bad-record',
      async (world, evil) => {
        const { manifest, ...rest } = nextRelease(world)
        const other = { ...(manifest as Record<string, unknown>), metadata }
        return seal({ ...rest, manifest: evil ? other : manifest }, publisher(world))
      },
      { ways: ['sync', 'dht'], says: /its manifest is of/ },
    ),
  ),
  ...(
    [
      ['release', (world: World) => world.releases[0].bytes],
      ['head', (world: World) => world.heads[1].bytes],
      ['list of revocations', (world: World) => world.list.bytes],
    ] as const
  ).map(
    ([what, bytes]): Case => ({
      name: `a true ${what} under another key of the DHT`,
      has: 'a place near that key',
      code: 'bad-record',
      says: /does not belong under its key/,
      ways: ['dht'],
      async play(world, evil) {
        // News to nobody; what counts is where it lies.
        const record = await unknownTwin(world, bytes(world))
        if (!evil) return { shows: [record] }
        if (what === 'release')
          return { shows: [record], key: { kind: 'release', id: cidOf(Buffer.from('x')) } }
        if (what === 'head')
          return { shows: [record], key: { kind: 'head', publisher: publisherId, name: mixed } }
        return { shows: [record], key: { kind: 'notice', notice: `revocations/${network}` } }
      },
    }),
  ),
  record(
    'a list of revocations that shows another authority’s chain',
    'the key of another authority',
    'certificate-wrong-issuer',
    async ({ authority: above }, evil) => {
      const other = await authority({ subject: keysOf('region') })
      const changes = { sequence: 2, issuer: above.fingerprint }
      const list = evil
        ? await revocations(above, [other], changes, 'region')
        : await revocations(above, [above], changes)
      return list.bytes
    },
    { ways: ['sync', 'dht'] },
  ),
]

/** As true as the record, and not known yet. */
async function unknownTwin(world: World, bytes: Uint8Array): Promise<Uint8Array> {
  if (isList(bytes)) return (await revocations(world.authority, [world.authority], { sequence: 2 })).bytes
  const { statement } = decodeEnvelope(bytes)
  return seal(statement.type === 'head' ? nextHead(world) : nextRelease(world), publisher(world))
}

const isList = (bytes: Uint8Array): boolean =>
  Object.hasOwn(decodeCbor(bytes, 1024 * 1024, 'A record') as object, 'body')

export const wrongTarget: readonly Case[] = [
  statementLies('a release that lies about its size', ({ size }) => ({ size: size + 1 })),
  statementLies('a release that lies about its number of files', ({ files }) => ({ files: files + 1 })),
  statementLies('a release that lies about its SHA-256', () => ({ sha256: new Uint8Array(32) })),
  statementLies('a release that lies about its BLAKE3', () => ({ blake3: new Uint8Array(32) })),
  served('a root whose index leads out of its package', 'invalid-package', {
    says: /path/,
    path: '../../.profile',
  }),
  served('another index than that of the root', 'no-providers', {
    change: content => ({
      ...content,
      indexBytes: content.indexBytes.map((byte, at) => (at === 9 ? ~byte : byte)),
    }),
  }),
  served('other bytes than those of the index', 'no-providers', {
    change: content => ({ ...content, bytes: Buffer.from(content.bytes).fill(7) }),
  }),
]

interface Harm {
  readonly says?: RegExp
  readonly path?: string
  readonly change?: (content: Sample) => Sample
}

/** The attacker alone has the content. */
function served(name: string, code: ErrorCode, { says, path = 'profile', change }: Harm): Case {
  return {
    ...{ name, has: `${ownKey}; and the only copy`, code },
    ...(says === undefined ? {} : { says }),
    async play(world, evil, attacker) {
      const content = oneFile(evil ? path : 'profile')
      const { root, index } = content
      attacker.content = evil && change !== undefined ? change(content) : content
      const { size, blake3, sha256 } = index
      const statement = nextRelease(world, {
        name: mixed,
        version: '1.0.0',
        root,
        size,
        files: 1,
        blake3,
        sha256,
      })
      const release = await seal(statement, publisher(world))
      const head = firstHead(world, mixed, [{ version: '1.0.0', id: cidOf(release) }])
      return { shows: [release, await seal(head, publisher(world))], installs: mixed }
    },
  }
}

/** A content of one file. */
function oneFile(path: string): Sample {
  const { bytes, index, shard } = sampleOf(Buffer.from('#!/bin/sh\n'))
  const named = { ...index, entries: index.entries.map(entry => ({ ...entry, path })) }
  const { bytes: indexBytes, root } = encodeContentIndex(named)
  return { bytes, index: named, indexBytes, root, shard }
}
