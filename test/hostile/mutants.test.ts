// C2: true records with something changed in them: bits, lengths, parts of one in another. None is taken, nothing
// breaks, and each refusal has a code. The true ones are taken, before and afterwards.
import { afterAll, beforeAll, expect, it } from 'vitest'
import { equivocationOf } from '../../src/assets/equivocation.ts'
import { decodeEnvelope } from '../../src/assets/release.ts'
import { decodeCbor, encodeCbor } from '../../src/base/cbor.ts'
import { cidOf } from '../../src/base/cid.ts'
import { revocations } from '../trust/test-network.ts'
import { freshnessOf, nextHead, nextRelease, seal } from './attacker.ts'
import { copyOf, type HostileNode, startNode } from './node.ts'
import { delegate, publisher } from './people.ts'
import { makeWorld, type World } from './world.ts'

const seed = Number(process.env['CATALOG_SEED'] ?? Math.floor(Math.random() * 2 ** 31))
const mutants = Number(process.env['CATALOG_MUTANTS'] ?? 5_000)

/** Mulberry32: the same numbers for the same seed. */
let state = seed >>> 0
function below(limit: number): number {
  state = (state + 0x6d2b79f5) >>> 0
  let t = Math.imul(state ^ (state >>> 15), 1 | state)
  t = (t + Math.imul(t ^ (t >>> 7), 61 | t)) ^ t
  return ((t ^ (t >>> 14)) >>> 0) % limit
}
const pick = <T>(items: readonly T[]): T => items[below(items.length)] as T

let world: World
let records: readonly Uint8Array[]
beforeAll(async () => {
  world = await makeWorld()
  records = await trueRecords(world)
})
afterAll(() => world.stop())

async function trueRecords(here: World): Promise<Uint8Array[]> {
  const { authority, heads } = here
  const [own, second] = [publisher(here), await delegate(here)]
  const other = nextHead(here, { deprecated: 'Use another.' })
  const envelopes = [
    await seal(nextRelease(here), own),
    await seal(nextRelease(here, { version: '1.3.0' }), second),
    await seal(nextHead(here), own),
    await seal(other, second),
    await seal(freshnessOf(here, heads[1]), own),
    await seal(freshnessOf(here, heads[1], { expiresAt: here.clock.now + 1000 }), second),
  ]
  const proof = equivocationOf(
    decodeEnvelope(envelopes[2] as Uint8Array) as World['heads'][0],
    decodeEnvelope(envelopes[3] as Uint8Array) as World['heads'][0],
  )
  const list = await revocations(authority, [authority], { sequence: 2 })
  return [...envelopes, proof.bytes, list.bytes]
}

const mutations: Readonly<Record<string, (bytes: Uint8Array) => Uint8Array>> = {
  'bits flipped': bytes => {
    const changed = Uint8Array.from(bytes)
    for (let count = 0; count <= below(3); count++) {
      const at = below(changed.length)
      changed[at] = (changed[at] as number) ^ (1 << below(8))
    }
    return changed
  },
  truncated: bytes => bytes.slice(0, below(bytes.length)),
  extended: bytes => Buffer.concat([bytes, Buffer.alloc(1 + below(40), below(256))]),
  'a piece overwritten': bytes => {
    const changed = Uint8Array.from(bytes)
    const at = below(changed.length)
    changed.fill(below(256), at, at + 1 + below(64))
    return changed
  },
  'a piece cut out': bytes => {
    const at = below(bytes.length)
    return Buffer.concat([bytes.subarray(0, at), bytes.subarray(at + 1 + below(64))])
  },
  'a piece of another': bytes => {
    const changed = Uint8Array.from(bytes)
    const other = pick(records)
    const at = below(Math.min(changed.length, other.length))
    changed.set(other.subarray(at, Math.min(at + 1 + below(2000), changed.length)), at)
    return changed
  },
  'a part of another': bytes => swapped(bytes, pick(records)),
  'parts in another order': bytes => shuffled(bytes),
}

type Parts = Record<string, unknown>
const partsOf = (bytes: Uint8Array): Parts => decodeCbor(bytes, 1024 * 1024, 'A record') as Parts

/** One field, signature or certificate of one record in another. */
function swapped(bytes: Uint8Array, other: Uint8Array): Uint8Array {
  const [own, foreign] = [partsOf(bytes), partsOf(other)]
  const field = pick(Object.keys(foreign))
  const [mine, theirs] = [own[field], foreign[field]]
  if (!Array.isArray(mine) || !Array.isArray(theirs) || theirs.length === 0 || below(2) === 0)
    return encodeCbor({ ...own, [field]: theirs })
  const mixed = [...mine]
  mixed[below(mixed.length + 1)] = pick(theirs)
  return encodeCbor({ ...own, [field]: mixed })
}

function shuffled(bytes: Uint8Array): Uint8Array {
  const own = partsOf(bytes)
  const lists = Object.entries(own).filter(([, value]) => Array.isArray(value) && value.length > 0)
  const [field, value] = pick(lists) as [string, unknown[]]
  const list = [...value]
  const choice = below(3)
  if (choice === 0) list.reverse()
  else if (choice === 1) list.splice(below(list.length), 1)
  else list.push(pick(list))
  return encodeCbor({ ...own, [field]: list })
}

it(`none of ${mutants} changed records is taken (seed ${seed})`, { timeout: 120_000 }, async () => {
  const honest = new Set(records.map(cidOf))
  const outcomes = new Map<string, number>()
  const started = performance.now()
  let played = 0
  const failures: string[] = []
  while (played < mutants) {
    const [kind, mutate] = pick(Object.entries(mutations))
    const mutant = mutate(pick(records))
    // Now and then it becomes a true one again.
    if (honest.has(cidOf(mutant))) continue
    played += 1
    const outcome = await outcomeAt(world.client, mutant)
    outcomes.set(outcome, (outcomes.get(outcome) ?? 0) + 1)
    if (outcome === 'taken' || outcome === 'crash')
      failures.push(`${kind}: ${outcome} ${Buffer.from(mutant).toString('base64')}`)
  }
  const seconds = (performance.now() - started) / 1000
  const table = [...outcomes].sort().map(([code, count]) => `${code} ${count}`)
  console.log(`mutants, seed ${seed}: ${played} in ${seconds.toFixed(1)} s: ${table.join(', ')}`)
  expect(failures.slice(0, 3)).toEqual([])
  expect(outcomes.size).toBeGreaterThan(4)

  // It is as it was, and takes what is true: each on a node of its own, because they contradict each other.
  expect((await world.client.head()).id).toBe(world.heads[1].id)
  for (const record of records) {
    const { net, routing, clock } = world
    const node = await startNode({ net, routing, clock, records: await copyOf(world.records) })
    expect(await outcomeAt(node, record)).toBe('taken')
    await node.stop()
  }
})

async function outcomeAt(node: HostileNode, bytes: Uint8Array): Promise<string> {
  await node.accept(bytes).catch(() => undefined)
  return node.arrivals.at(-1)?.outcome ?? 'crash'
}
