// One publisher on two machines that know nothing of each other but what records tell, over any order of publishing,
// hearing and healing. Signatures are placeholders that name the machine; the flows and catalogues are the real ones.
import fc from 'fast-check'
import { describe, expect, it } from 'vitest'
import { type Envelope, encodeEnvelope, encodeStatement, type Statement } from '../../src/assets/release.ts'
import type { Verified } from '../../src/assets/stage.ts'
import { cidOf, cidOfDigest } from '../../src/base/cid.ts'
import { isCatalogError } from '../../src/base/errors.ts'
import { silentLog } from '../../src/base/log.ts'
import { MemoryKeyValue } from '../../src/base/memory-key-value.ts'
import { accept } from '../../src/flows/accept.ts'
import { type HealDeps, healHead } from '../../src/flows/heal.ts'
import { addNextHead, listing } from '../../src/flows/next-head.ts'
import { Catalogue } from '../../src/registry/catalogue.ts'
import { Turns } from '../../src/registry/turns.ts'

const publisher = 'b-publisher'
const name = 'tool'
const keyOf = (machine: number) => new Uint8Array(32).fill(machine + 1)

function machine(number: number) {
  const catalogue = new Catalogue({ records: new MemoryKeyValue(), log: silentLog })
  const turns = new Turns()
  let clock = 0
  const deps: HealDeps = {
    ...{ network: 'test', publisher, signingKey: keyOf(number), catalogue, log: silentLog },
    // No two statements of one machine are signed in the same millisecond.
    now: () => 1_000 + clock++,
    seal: async <S extends Statement>(statement: S) => {
      const signature = { algorithm: 'ed25519', key: keyOf(number), signature: new Uint8Array(64) }
      return encodeEnvelope(statement, encodeStatement(statement), [signature]) as Verified<Envelope<S>>
    },
    askPeers: async () => undefined,
    announceHead: async () => undefined,
    exclusively: (key, work) => turns.take(key, work),
  }
  const accepting = {
    ...{ network: 'test', now: () => 2_000, catalogue },
    verifier: { verify: async <E extends Envelope>(envelope: E) => envelope as Verified<E> },
    standing: () => ({ state: 'current' }) as const,
    acceptNotice: async () => undefined,
    onRefusedHead: () => undefined,
  }
  return {
    catalogue,
    publish: (version: string) =>
      addNextHead(deps, name, draft =>
        draft.versions.some(item => item.version === version)
          ? undefined
          : listing(draft, { version, id: cidOf(Buffer.from(`${version} of ${number}`)) }, name),
      ),
    heal: () => healHead(deps, name, { graceMs: 0, signal: new AbortController().signal }),
    /** Takes what the other has and this one lacks, in an order of the test's choosing. */
    async hear(other: { catalogue: Catalogue }, order: (ids: string[]) => string[]) {
      const ids = other.catalogue.recordIds().map(digest => cidOfDigest(digest))
      for (const id of order(ids.filter(each => !catalogue.isKnown(each)))) {
        const bytes = await other.catalogue.record(id)
        if (bytes !== undefined)
          await accept(accepting, bytes).catch(error => {
            if (!isCatalogError(error)) throw error
          })
      }
    },
    head: async () => (await catalogue.head(publisher, name))?.statement,
    /** What is still to be put right here. */
    open: async () => [
      ...(await catalogue.contradictions(publisher, name)),
      ...(await catalogue.divergent(publisher, name)),
    ],
  }
}

type Machine = ReturnType<typeof machine>
/** [what, who, from whom, a number for orders and versions] */
const step = fc.tuple(fc.constantFrom('publish', 'hear', 'hear', 'heal'), fc.nat(1), fc.nat(2), fc.nat(5))
const rotate = (by: number) => (ids: string[]) => {
  const sorted = [...ids].sort()
  return [...sorted.slice(by % (sorted.length || 1)), ...sorted.slice(0, by % (sorted.length || 1))]
}

describe('two machines of one publisher', () => {
  it.each([2, 3])(
    'and %i who publish: all end on one head that lists everything, held back by nobody',
    async count => {
      await fc.assert(
        fc.asyncProperty(fc.array(step, { maxLength: 40 }), fc.boolean(), async (steps, clash) => {
          // The last only listens, unless three publish.
          const machines = [0, 1, 2].map(machine) as [Machine, Machine, Machine]
          const published = new Set<string>()
          for (const [what, who, from, number] of steps) {
            const at = machines[count === 3 ? (who + number) % 3 : who] as Machine
            if (what === 'publish') {
              // Where they clash, both sign releases of the same versions.
              const version = clash ? `1.0.${number}` : `1.${machines.indexOf(at)}.${number}`
              await at.publish(version)
              published.add(version)
            } else if (what === 'hear') {
              await at.hear(machines[from] as Machine, rotate(number))
              await (machines[2] as Machine).hear(at, rotate(number + 1))
            } else await at.heal()
          }
          // The world goes on, and everybody hears of everything; whoever has the lower key is first.
          let rounds = 0
          for (; rounds < 6; rounds++) {
            for (const pass of [0, 1])
              for (const to of machines)
                for (const from of machines) if (from !== to) await to.hear(from, rotate(rounds + pass))
            if ((await Promise.all(machines.map(each => each.open()))).flat().length === 0) break
            for (const each of machines) if (await each.heal()) break
          }
          expect(rounds).toBeLessThan(6)
          const heads = await Promise.all(machines.map(each => each.head()))
          expect(heads[1]).toEqual(heads[0])
          expect(heads[2]).toEqual(heads[0])
          expect(new Set(heads[0]?.versions.map(({ version }) => version))).toEqual(published)
        }),
        { numRuns: 150 },
      )
    },
  )
})
