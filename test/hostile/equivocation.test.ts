// T2: one publisher shows two peers different heads. Whatever it lists, whoever hears of it in whatever order: both peers
// and a third come to hold the same proof, nobody installs, its old key cannot put it right, and a new one can.
import fc from 'fast-check'
import { expect, it } from 'vitest'
import { decodeEnvelope, type ListedVersion } from '../../src/assets/release.ts'
import { cidOf } from '../../src/base/cid.ts'
import { isCatalogError } from '../../src/base/errors.ts'
import { nextHead, seal } from './attacker.ts'
import { copyOf, type HostileNode, publisherId, startNode, tool } from './node.ts'
import { publisher, renewed } from './people.ts'
import { makeWorld, type World } from './world.ts'

const seed = Number(process.env['CATALOG_SEED'] ?? Math.floor(Math.random() * 2 ** 31))
const scenarios = Number(process.env['CATALOG_SCENARIOS'] ?? 10)

/** Which of two nodes asks which; every pair comes up sooner or later. */
type Meeting = readonly [number, number]

const scenario = fc.record({
  jump: fc.constantFrom(0, 1, 7, 1_000_000),
  more: fc.uniqueArray(fc.integer({ min: 2, max: 40 }), { maxLength: 4 }),
  others: fc.uniqueArray(fc.integer({ min: 2, max: 40 }), { maxLength: 4 }),
  deprecated: fc.boolean(),
  yanked: fc.boolean(),
  /** Whether what both list more is other releases under the same versions. */
  clash: fc.boolean(),
  meetings: fc.array(fc.constantFrom<Meeting>([0, 1], [1, 0], [1, 2], [2, 1], [0, 2], [2, 0]), {
    minLength: 1,
    maxLength: 8,
  }),
})

it(`${scenarios} publishers that contradict themselves are held back until they put it right (seed ${seed})`, async () => {
  let held = 0
  let lifted = 0
  const play = fc.asyncProperty(scenario, async each => {
    const world = await makeWorld()
    const parts = { net: world.net, routing: world.routing, clock: world.clock }
    const peer = async () => startNode({ ...parts, records: await copyOf(world.records) })
    const nodes = [world.client, await peer(), await peer()]
    for (const { host } of nodes.slice(1)) await host.dial(world.repository.host.addresses()[0] as string)
    try {
      const heads = await contradict(world, each)
      await Promise.all(heads.map((head, at) => (nodes[at] as HostileNode).accept(head)))
      const all: Meeting[] = [
        [0, 1],
        [1, 0],
        [2, 0],
        [2, 1],
        [0, 2],
        [1, 2],
      ]
      await meet(nodes, [...each.meetings, ...all])
      const ids = await Promise.all(nodes.map(proofsAt))
      expect(ids[0]).toHaveLength(1)
      expect(ids).toEqual([ids[0], ids[0], ids[0]])
      for (const node of nodes) expect(await codes(node, world)).toEqual(Array(3).fill('equivocation'))
      held += 1

      // Whoever has the key that contradicted itself cannot put it right.
      const statement = unionOf(world, heads)
      for (const node of nodes)
        await node.accept(await seal(statement, publisher(world))).catch(() => undefined)
      for (const node of nodes) expect(await codes(node, world)).toEqual(Array(3).fill('equivocation'))
      const last = {
        sequence: statement.sequence + 1,
        previous: cidOf(await seal(statement, publisher(world))),
      }
      await world.client.accept(await seal({ ...statement, ...last }, await renewed(world)))
      await meet(nodes, all)
      for (const node of nodes) expect(await codes(node, world)).toEqual(Array(3).fill('installed'))
      lifted += 1
    } finally {
      await Promise.all(nodes.slice(1).map(node => node.stop()))
      await world.stop()
    }
  })
  await fc.assert(play, { seed, numRuns: scenarios, endOnFailure: true })
  console.log(
    `equivocation, seed ${seed}: ${held} of ${scenarios} held back on three nodes, ${lifted} lifted`,
  )
})

type Scenario = typeof scenario extends fc.Arbitrary<infer T> ? T : never

const listed = (numbers: readonly number[], what = 'release'): ListedVersion[] =>
  [...numbers]
    .sort((a, b) => a - b)
    .map(at => ({ version: `1.${at}.0`, id: cidOf(Buffer.from(`${what} ${at}`)) }))

/** Two heads of one number by one key, of which the second says something else in any case. */
async function contradict(world: World, each: Scenario): Promise<[Uint8Array, Uint8Array]> {
  const [first, second] = world.heads[1].statement.versions as [ListedVersion, ListedVersion]
  const sequence = 3 + each.jump
  const common = { sequence, ...(each.deprecated ? { deprecated: 'Use another.' } : {}) }
  const other = [
    first,
    each.yanked ? { ...second, yanked: 'counts twice' } : second,
    ...listed(each.others, each.clash ? 'other' : 'release'),
  ]
  return [
    await seal(
      nextHead(world, { ...common, versions: [first, second, ...listed(each.more)] }),
      publisher(world),
    ),
    await seal(
      nextHead(world, {
        ...common,
        versions: other,
        signedAt: world.clock.now - 1,
        expiresAt: world.clock.now + 1000,
      }),
      publisher(world),
    ),
  ]
}

/** The next head, which lists what both did; what they contradict each other about as revoked. */
function unionOf(world: World, heads: readonly Uint8Array[]) {
  const statements = heads.map(bytes => decodeEnvelope(bytes).statement as World['heads'][0]['statement'])
  const versions = new Map<string, ListedVersion>()
  for (const item of statements.flatMap(each => each.versions)) {
    const before = versions.get(item.version)
    const isClash = before !== undefined && before.id !== item.id
    versions.set(item.version, isClash ? { ...item, revoked: 'two releases' } : item)
  }
  const inOrder = [...versions.values()].sort((a, b) => minorOf(a) - minorOf(b))
  const sequence = (statements[0]?.sequence ?? 0) + 1
  return nextHead(world, { sequence, previous: cidOf(heads[0] as Uint8Array), versions: inOrder })
}

const minorOf = ({ version }: ListedVersion): number => Number(version.split('.')[1])

async function meet(nodes: readonly HostileNode[], meetings: readonly Meeting[]): Promise<void> {
  for (const [one, other] of meetings)
    await (nodes[one] as HostileNode).sync.reconcileWith((nodes[other] as HostileNode).peer)
}

async function proofsAt(node: HostileNode): Promise<string[]> {
  const proofs = await node.catalogue.contradictions(publisherId, tool)
  return proofs.map(({ id }) => id)
}

/** What becomes of an installation by name, by version and by release id. */
function codes(node: HostileNode, world: World): Promise<string[]> {
  const refs = [`${tool}@^1.0.0 <1.2.0`, `${tool}@1.0.0`, world.releases[0].id]
  return Promise.all(
    refs.map(ref =>
      node.install(ref).then(
        () => 'installed',
        (error: unknown) => (isCatalogError(error) ? error.code : String(error)),
      ),
    ),
  )
}
