// Rollback: what was true once, shown again.
import { CatalogError, type ErrorCode } from '../../../src/base/errors.ts'
import { day, goldenRoot, nextRoot, revocations } from '../../trust/test-network.ts'
import { freshnessOf, nextHead, seal } from '../attacker.ts'
import { type Case, last, record } from '../case.ts'
import { copyOf, startNode, tool } from '../node.ts'
import { delegate, publisher } from '../people.ts'
import type { World } from '../world.ts'

const copy = 'a copy of what was true once'

const listOf = ({ authority, clock }: World, sequence: number, expires = 30) =>
  revocations(authority, [authority], {
    sequence,
    issuedAt: clock.now,
    expiresAt: clock.now + expires * day,
  })

/** Another node, whose disk was set back to how it was after the first release. */
const restored = (world: World) =>
  copyOf(world.backup).then(records => startNode({ ...world, records, store: world.store }))

const repositoryFromBackup: Case = {
  name: 'a repository that was restored from a backup',
  has: 'an old backup of an honest node',
  code: 'stale-record',
  says: /head 2 is known/,
  async play(world, evil) {
    const { client } = world
    const node = evil ? await restored(world) : world.repository
    const does = async () => {
      await client.host.dial(node.host.addresses()[0] as string)
      const before = client.arrivals.length
      await client.sync.reconcileWith(node.peer)
      await client.sync.ask(node.peer, { name: tool }, {})
      if (evil) await node.stop()
      const refusal = client.arrivals.slice(before).find(({ outcome }) => outcome !== 'taken')
      if (refusal !== undefined) throw new CatalogError(refusal.outcome as ErrorCode, refusal.why)
    }
    return { does }
  },
}

export const rollback: readonly Case[] = [
  record(
    'an older head',
    copy,
    'stale-record',
    async (world, evil) => (evil ? world.heads[0].bytes : await seal(nextHead(world), publisher(world))),
    { ways: ['sync', 'news', 'heads', 'dht'], says: /head 2 is known|A later head/ },
  ),
  last(
    'an older head than one that only passed by in the DHT',
    copy,
    'stale-record',
    async (world, evil) => {
      const [third, fourth] = [nextHead(world), nextHead(world, { sequence: 4 })]
      const [newer, older] = await Promise.all([fourth, third].map(each => seal(each, publisher(world))))
      return evil ? ([newer, older] as Uint8Array[]) : ([older, newer] as Uint8Array[])
    },
    { ways: ['dht'], says: /A later head/ },
  ),
  record(
    'the known head in another envelope',
    'the key of a second machine',
    'stale-record',
    async (world, evil) => seal(evil ? world.heads[1].statement : nextHead(world), await delegate(world)),
    { says: /known already/ },
  ),
  record(
    'another first head',
    'the key of the publisher',
    'stale-record',
    async (world, evil) => {
      const { previous: _, ...first } = nextHead(world, { sequence: 1, versions: [] })
      return seal(evil ? first : nextHead(world), publisher(world))
    },
    { ways: ['sync', 'dht'] },
  ),
  record(
    'a freshness statement for an older head',
    'the right to freshen',
    'stale-record',
    (world, evil) => seal(freshnessOf(world, world.heads[evil ? 0 : 1]), publisher(world)),
    { says: /another head/ },
  ),
  last(
    'a freshness statement that shortens the life of a head',
    'an older freshness statement',
    'stale-record',
    async (world, evil) => {
      const until = (days: number) =>
        seal(
          freshnessOf(world, world.heads[1], { expiresAt: world.clock.now + days * day }),
          publisher(world),
        )
      const [longer, shorter] = await Promise.all([until(29), until(3)])
      return evil ? [longer, shorter] : [shorter, longer]
    },
    { says: /a later one is known/ },
  ),
  last(
    'an older root',
    'a version of the root that its holders signed and did not use',
    'stale-record',
    async (_, evil) => {
      const second = await nextRoot(goldenRoot, {}, ['root-1', 'root-2'])
      const third = await nextRoot(second, {}, ['root-1', 'root-2'])
      // The one that was followed stays known; this one never was.
      const older = await nextRoot(goldenRoot, { threshold: 1 }, ['root-1', 'root-2'])
      return evil ? [second.bytes, third.bytes, older.bytes] : [second.bytes, third.bytes]
    },
    { ways: ['sync', 'dht'], says: /version 3 is known/ },
  ),
  last(
    'the first root, after another',
    copy,
    'stale-record',
    async (_, evil) => {
      const second = await nextRoot(goldenRoot, {}, ['root-1', 'root-2'])
      return evil ? [second.bytes, goldenRoot.bytes] : [second.bytes]
    },
    { ways: ['sync', 'dht'], says: /version 2 is known/ },
  ),
  last(
    'an older list of revocations',
    copy,
    'stale-record',
    async (world, evil) => {
      const [second, third] = await Promise.all([listOf(world, 2), listOf(world, 3)])
      return evil ? [third.bytes, second.bytes] : [second.bytes, third.bytes]
    },
    { ways: ['sync', 'dht'], says: /list 3 is known/, recover: world => world.renewList([], 4) },
  ),
  record(
    'another list of revocations under the known number',
    'the key of the authority',
    'stale-record',
    async (world, evil) => (await listOf(world, evil ? 1 : 2, 29)).bytes,
    { says: /list 1 is known/ },
  ),
  repositoryFromBackup,
]
