// T1: everything that a repository, a peer, a stolen key or an old backup can do to a client, after the attacks that The
// Update Framework names (https://theupdateframework.github.io/specification/latest/, section 1.5.2). Each is refused
// with its own code, leaves nothing behind, and the publisher's next release installs on the same client; the honest
// form of each is taken.
import { afterAll, describe, expect, it } from 'vitest'
import { cidOf } from '../../src/base/cid.ts'
import { type ErrorCode, isCatalogError } from '../../src/base/errors.ts'
import { Attacker, type Way } from './attacker.ts'
import type { Case } from './case.ts'
import { families } from './cases.ts'
import { tool } from './node.ts'
import { keyOf, makeWorld, type World } from './world.ts'

interface Outcome {
  readonly code: ErrorCode | 'taken' | 'crash'
  readonly why: string
}

const taken: Outcome = { code: 'taken', why: '' }
let refused = 0
let accepted = 0
let updated = 0
let controls = 0
const codes = new Map<string, number>()

describe.each(Object.entries(families))('%s', (_, cases) => {
  describe.each(cases.map(each => [each.name, each] as const))('%s', (_, each) => {
    it.each<Way>(each.ways ?? ['sync'])(`is refused: ${each.code}, by %s`, way => refuses(each, way))
    it.each<Way>(each.ways ?? ['sync'])('is taken in its honest form, by %s', way => takes(each, way))
  })
})

it('there are at least 53 cases, each under a name of its own', () => {
  const names = Object.values(families).flatMap(cases => cases.map(({ name }) => name))
  expect(new Set(names).size).toBe(names.length)
  expect(names.length).toBeGreaterThanOrEqual(53)
})

afterAll(() => {
  const count = Object.values(families).flat().length
  const table = [...codes].sort(([a], [b]) => (a < b ? -1 : 1)).map(([code, times]) => `${code} ${times}`)
  console.log(
    `hostile repository: ${count} cases, ${refused} deliveries refused, ${accepted} accepted, ${updated} honest updates installed afterwards, ${controls} honest forms taken\n${table.join(', ')}`,
  )
})

async function refuses(each: Case, way: Way): Promise<void> {
  await inWorld(async (world, attacker) => {
    const outcome = await play(each, way, world, attacker, true)
    if (outcome.code === 'taken') accepted += 1
    expect(outcome).toMatchObject({ code: each.code })
    if (each.says !== undefined) expect(outcome.why).toMatch(each.says)
    refused += 1
    codes.set(each.code, (codes.get(each.code) ?? 0) + 1)
    attacker.misbehave = undefined
    await each.recover?.(world)
    const next = await world.publishNext()
    await world.catchUp()
    expect((await world.client.install(tool)).release.id).toBe(next.id)
    expect(await world.client.store.state(next.statement.root)).toBe('complete')
    expect([...world.client.arrivals, ...world.repository.arrivals].filter(isCrash)).toEqual([])
    updated += 1
  })
}

async function takes(each: Case, way: Way): Promise<void> {
  await inWorld(async (world, attacker) => {
    expect(await play(each, way, world, attacker, false)).toEqual(taken)
    controls += 1
  })
}

const isCrash = ({ outcome }: { readonly outcome: string }) => outcome === 'crash'

async function inWorld(work: (world: World, attacker: Attacker) => Promise<void>): Promise<void> {
  const world = await makeWorld()
  const attacker = new Attacker(world)
  try {
    await attacker.connect()
    await work(world, attacker)
  } finally {
    await attacker.host.stop()
    await world.stop()
  }
}

/** What became of it. */
async function play(each: Case, way: Way, world: World, attacker: Attacker, evil: boolean): Promise<Outcome> {
  const { shows = [], installs, does, key } = await each.play(world, evil, attacker)
  const isKept = installs !== undefined || does !== undefined
  for (const [at, record] of shows.entries()) {
    const isLast = at === shows.length - 1
    const outcome = await show(world, attacker, record, way, isLast ? key : undefined)
    if (isLast && !isKept) return outcome
    expect(outcome).toEqual(taken)
  }
  return outcomeOf(async () => {
    await does?.()
    if (installs !== undefined) await world.client.install(installs)
  })
}

async function show(
  { client }: World,
  attacker: Attacker,
  record: Uint8Array,
  way: Way,
  key: ReturnType<typeof keyOf> | undefined,
): Promise<Outcome> {
  const id = cidOf(record)
  const before = client.arrivals.length
  await attacker.show(record, way, way === 'dht' ? (key ?? keyOf(record)) : keyOfNothing)
  const arrived = client.arrivals.slice(before).filter(arrival => arrival.id === id)
  expect(arrived.length).toBeGreaterThan(0)
  // Pushed or looked up, it is the same.
  const [first] = arrived
  expect(new Set(arrived.map(({ outcome }) => outcome)).size).toBe(1)
  if (first?.outcome === 'taken') return taken
  expect(client.catalogue.isKnown(id)).toBe(false)
  return { code: first?.outcome ?? 'crash', why: first?.why ?? '' }
}

const keyOfNothing = { kind: 'release', id: '' } as const

async function outcomeOf(work: () => Promise<unknown>): Promise<Outcome> {
  try {
    await work()
    return taken
  } catch (error) {
    return { code: isCatalogError(error) ? error.code : 'crash', why: String(error) }
  }
}
