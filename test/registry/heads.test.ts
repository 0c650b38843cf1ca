import fc from 'fast-check'
import { beforeEach, describe, expect, it } from 'vitest'
import { decodeEquivocation, type Equivocation, equivocationOf } from '../../src/assets/equivocation.ts'
import type { HeadStatement, ListedVersion } from '../../src/assets/release.ts'
import type { Verified } from '../../src/assets/stage.ts'
import { cidOf, cidOfDigest } from '../../src/base/cid.ts'
import { silentLog } from '../../src/base/log.ts'
import { MemoryKeyValue } from '../../src/base/memory-key-value.ts'
import { Catalogue, type CatalogueOptions, type RecordEvent } from '../../src/registry/catalogue.ts'
import { alice, bob, freshness, head, headChain, release } from './records.ts'

type Head = ReturnType<typeof head>

let records: MemoryKeyValue
let catalogue: Catalogue

const open = async (options: Partial<CatalogueOptions> = {}) => {
  const opened = new Catalogue({ records, log: silentLog }, options)
  await opened.start()
  return opened
}
const reopen = async () => {
  await catalogue.stop()
  catalogue = await open()
}
beforeEach(async () => {
  records = new MemoryKeyValue()
  catalogue = await open()
})

const knownIds = () => new Set(catalogue.recordIds().map(digest => cidOfDigest(digest)))
const proofOf = (one: Head, other: Head) => equivocationOf(one, other) as Verified<Equivocation>
const current = async () => (await catalogue.head(alice, 'word-count'))?.id
const listed = (version: string, content = version, marks: Partial<ListedVersion> = {}): ListedVersion => ({
  version,
  id: cidOf(Buffer.from(content)),
  ...marks,
})
const after = (before: Head, fields: Partial<HeadStatement>, key = 0) =>
  head({ sequence: before.statement.sequence + 1, previous: before.id, ...fields }, key)

describe('what a head says of its versions', () => {
  const first = head({ versions: [listed('1.0.0'), listed('1.1.0')] })

  it('yanks and deprecations come and go', async () => {
    await catalogue.addHead(first)
    const yanked = after(first, {
      versions: [listed('1.0.0', '1.0.0', { yanked: 'counts twice' }), listed('1.1.0')],
      deprecated: 'Use text-stats.',
    })
    await catalogue.addHead(yanked)
    await catalogue.addHead(after(yanked, { versions: first.statement.versions }))
    expect((await catalogue.head(alice, 'word-count'))?.statement.versions).toEqual(first.statement.versions)
  })

  it('a revoked version stays revoked', async () => {
    await catalogue.addHead(first)
    const revoked = after(first, {
      versions: [listed('1.0.0', '1.0.0', { revoked: 'steals keys' }), listed('1.1.0')],
    })
    await catalogue.addHead(revoked)
    for (const versions of [
      first.statement.versions,
      [listed('1.0.0', '1.0.0', { yanked: 'x' }), listed('1.1.0')],
    ])
      await expect(catalogue.addHead(after(revoked, { versions }))).rejects.toMatchObject({
        code: 'head-replaced',
        data: { version: '1.0.0' },
      })
    expect(await current()).toBe(revoked.id)
  })

  it('the same head in another envelope is no contradiction', async () => {
    await catalogue.addHead(first)
    await expect(catalogue.addHead(head(first.statement, 7))).rejects.toMatchObject({ code: 'stale-record' })
    expect(await catalogue.contradictions(alice, 'word-count')).toEqual([])
  })

  it('numbers may be skipped, and what was listed must still be there', async () => {
    await catalogue.addHead(first)
    const stranger = cidOf(Buffer.from('stranger'))
    await expect(catalogue.addHead(head({ sequence: 9, previous: stranger }))).rejects.toMatchObject({
      code: 'head-delisted',
    })
    const far = head({ sequence: 9, previous: stranger, versions: first.statement.versions })
    expect(await catalogue.addHead(far)).toBe('added')
  })
})

describe('two heads under one number', () => {
  const base = head({ versions: [listed('1.0.0')] })
  const mine = after(base, { versions: [listed('1.0.0'), listed('1.1.0')] }, 1)
  const theirs = after(base, { versions: [listed('1.0.0'), listed('1.2.0')] }, 2)
  const union = [listed('1.0.0'), listed('1.1.0'), listed('1.2.0')]
  const proof = proofOf(mine, theirs)

  it('make the same proof wherever they meet, which is a record like any other', async () => {
    const told: RecordEvent[] = []
    catalogue.onRecord(event => told.push(event))
    for (const each of [base, mine]) await catalogue.addHead(each)
    await expect(catalogue.addHead(theirs)).rejects.toMatchObject({ code: 'equivocation' })
    for (const restarted of [false, true]) {
      if (restarted) await reopen()
      expect((await catalogue.contradictions(alice, 'word-count')).map(({ id }) => id)).toEqual([proof.id])
      expect(knownIds()).toEqual(new Set([mine.id, proof.id]))
      expect(catalogue.isKnown(proof.id)).toBe(true)
      const bytes = (await catalogue.record(proof.id)) as Uint8Array
      expect(decodeEquivocation(bytes).heads.map(({ id }) => id)).toEqual([mine.id, theirs.id].sort())
    }
    expect(told.filter(({ kind }) => kind === 'equivocation')).toMatchObject([
      { id: proof.id, publisher: alice, name: 'word-count' },
    ])
    expect(await catalogue.addEquivocation(proof)).toBe('known')
  })

  it('of this node’s own making that nobody saw prove nothing', async () => {
    for (const each of [base, theirs]) await catalogue.addHead(each)
    await expect(catalogue.addHead(mine, { unseen: true })).rejects.toMatchObject({ code: 'equivocation' })
    expect(await catalogue.contradictions(alice, 'word-count')).toEqual([])
  })

  it('are told to whoever knows neither, and hold back that name of that publisher alone', async () => {
    expect(await catalogue.addEquivocation(proof)).toBe('added')
    expect([mine.id, theirs.id]).toContain(await current())
    expect(await catalogue.contradictions(alice, 'word-count')).toHaveLength(1)
    expect(await catalogue.contradictions(bob, 'word-count')).toEqual([])
    expect(await catalogue.contradictions(alice, 'word')).toEqual([])
    const all: string[] = []
    for await (const each of catalogue.equivocations()) all.push(each.id)
    expect(all).toEqual([proof.id])
  })

  it.each<[string, number, readonly ListedVersion[], boolean]>([
    ['either machine, with everything that both listed', 1, union, true],
    ['a third machine, with everything', 3, union, true],
    ['one that lists its own alone', 1, mine.statement.versions, false],
  ])('of two machines are put right by %s: %#', async (_who, key, versions, right) => {
    for (const each of [base, mine]) await catalogue.addHead(each)
    await catalogue.addHead(theirs).catch(() => undefined)
    await catalogue.addHead(after(mine, { versions }, key))
    expect(await catalogue.contradictions(alice, 'word-count')).toHaveLength(right ? 0 : 1)
  })

  it('of one key are put right only by another', async () => {
    const forged = head(theirs.statement, 1)
    for (const each of [base, mine]) await catalogue.addHead(each)
    await catalogue.addHead(forged).catch(() => undefined)
    const same = after(mine, { versions: union }, 1)
    await catalogue.addHead(same)
    expect(await catalogue.contradictions(alice, 'word-count')).toHaveLength(1)
    const rotated = after(same, { versions: union }, 5)
    await catalogue.addHead(rotated)
    expect(await catalogue.contradictions(alice, 'word-count')).toEqual([])
    // The key that did it is not believed again.
    await catalogue.addHead(after(rotated, { versions: union }, 1))
    expect(await catalogue.contradictions(alice, 'word-count')).toHaveLength(1)
  })

  it('that list different releases as one version are put right only by revoking it', async () => {
    const [a, b] = [listed('1.1.0', 'a'), listed('1.1.0', 'b')]
    const [one, two] = [
      after(base, { versions: [listed('1.0.0'), a] }, 1),
      after(base, { versions: [listed('1.0.0'), b] }, 2),
    ]
    for (const each of [base, one]) await catalogue.addHead(each)
    await catalogue.addHead(two).catch(() => undefined)
    await expect(catalogue.addHead(after(one, { versions: [listed('1.0.0'), b] }, 2))).rejects.toMatchObject({
      code: 'head-replaced',
    })
    await catalogue.addHead(after(one, { versions: [listed('1.0.0'), { ...b, revoked: 'two of it' }] }, 2))
    expect(await catalogue.contradictions(alice, 'word-count')).toEqual([])
  })

  it('end on the head that unites them, in whatever order the records come', async () => {
    const healed = after(mine, { versions: union }, 1)
    const next = after(healed, { versions: union }, 2)
    const all = [base, mine, theirs, healed, next, proof]
    await fc.assert(
      fc.asyncProperty(fc.shuffledSubarray(all, { minLength: all.length }), async order => {
        records = new MemoryKeyValue()
        catalogue = await open()
        for (const each of order)
          await ('heads' in each ? catalogue.addEquivocation(each) : catalogue.addHead(each)).catch(
            () => undefined,
          )
        expect(await current()).toBe(next.id)
        expect(await catalogue.contradictions(alice, 'word-count')).toEqual([])
      }),
      { numRuns: 200 },
    )
  })

  it('are kept in a bounded number, the ones that hold the name back before those that are over', async () => {
    let last = base
    await catalogue.addHead(base)
    for (let round = 0; round < 40; round++) {
      const [one, two] = [1, 2].map(key =>
        after(last, { versions: last.statement.versions, signedAt: key }, key),
      )
      last = after(one as Head, { versions: last.statement.versions }, 1)
      await catalogue.addEquivocation(proofOf(one as Head, two as Head))
      await catalogue.addHead(last)
    }
    const kept: number[] = []
    for await (const { sequence } of catalogue.equivocations()) kept.push(sequence)
    expect(kept).toHaveLength(8)
    expect(Math.max(...kept)).toBe(80)
    const open2 = after(last, { versions: last.statement.versions, signedAt: 9 }, 1)
    await catalogue.addEquivocation(
      proofOf(open2, head(open2.statement.signedAt === 9 ? { ...open2.statement, signedAt: 8 } : {}, 1)),
    )
    expect(await catalogue.contradictions(alice, 'word-count')).toHaveLength(1)
  })
})

describe('a freshness statement', () => {
  it('is kept beside its head, replaced by a later one, and gone with the head', async () => {
    const { heads } = headChain(2)
    const [first, second] = heads as [Head, Head]
    await catalogue.addHead(first)
    const [early, late] = [freshness(first, 1_801_000_000_000), freshness(first, 1_802_000_000_000)]
    expect(await catalogue.add(early)).toBe('added')
    expect(await catalogue.add(late)).toBe('added')
    expect(await catalogue.add(late)).toBe('known')
    await expect(catalogue.addFreshness(early)).rejects.toMatchObject({ code: 'stale-record' })
    for (const restarted of [false, true]) {
      if (restarted) await reopen()
      expect((await catalogue.freshness(alice, 'word-count'))?.id).toBe(late.id)
      expect(knownIds()).toEqual(new Set([first.id, late.id]))
      expect(await catalogue.recordsOf('word-count')).toHaveLength(2)
    }
    await catalogue.addHead(second)
    expect(await catalogue.freshness(alice, 'word-count')).toBeUndefined()
    expect(knownIds()).toEqual(new Set([second.id]))
    await expect(catalogue.addFreshness(late)).rejects.toMatchObject({ code: 'stale-record' })
  })

  it('that comes before its head waits for it', async () => {
    const { heads } = headChain(2)
    const [first, second] = heads as [Head, Head]
    await catalogue.addHead(first)
    const fresh = freshness(second, 1_801_000_000_000)
    expect(await catalogue.addFreshness(fresh)).toBe('waiting')
    expect(catalogue.isKnown(fresh.id)).toBe(false)
    await catalogue.addHead(second)
    expect((await catalogue.freshness(alice, 'word-count'))?.id).toBe(fresh.id)
  })

  it('about another head of that number is refused', async () => {
    const { heads } = headChain(1)
    await catalogue.addHead(heads[0] as Head)
    const other = head({ ...(heads[0] as Head).statement, signedAt: 1 })
    await expect(catalogue.addFreshness(freshness(other, 2))).rejects.toMatchObject({ code: 'stale-record' })
  })
})

describe('notices', () => {
  const notice = (text: string) => ({ bytes: Buffer.from(text), id: cidOf(Buffer.from(text)) })

  it('replace one another under their key, before and after a restart, and are records that sync carries', async () => {
    const [one, two, other] = [notice('one'), notice('two'), notice('other')]
    const told: RecordEvent[] = []
    catalogue.onRecord(event => told.push(event))
    await catalogue.putNotice('root/000001', one.id, one.bytes)
    await catalogue.putNotice('root/000001', one.id, one.bytes)
    await catalogue.putNotice('root/000001', two.id, two.bytes)
    await catalogue.putNotice('revocations/b-authority', other.id, other.bytes)
    expect(told.map(({ id }) => id)).toEqual([one.id, two.id, other.id])
    for (const restarted of [false, true]) {
      if (restarted) await reopen()
      expect(knownIds()).toEqual(new Set([two.id, other.id]))
      expect(catalogue.isKnown(one.id)).toBe(false)
      expect(Buffer.from((await catalogue.record(two.id)) ?? [])).toEqual(two.bytes)
      expect(Buffer.from((await catalogue.notice('root/000001')) ?? [])).toEqual(two.bytes)
      const keys: string[] = []
      for await (const { key } of catalogue.notices('root/')) keys.push(key)
      expect(keys).toEqual(['root/000001'])
    }
  })

  it('of one owner and kind are bounded, and crowd out no other', async () => {
    for (let at = 0; at < 10_000; at++)
      await catalogue.putNotice(`flood/x/${at}`, `id-${at}`, new Uint8Array(1)).catch(() => undefined)
    await expect(catalogue.putNotice('flood/x/one-more', 'id', new Uint8Array(1))).rejects.toMatchObject({
      code: 'quota-exceeded',
    })
    const { id, bytes } = notice('honest')
    await catalogue.putNotice('root/000001', id, bytes)
  })
})

describe('after a revocation', () => {
  it('what the revoked hand signed is gone, and an honest head of a lower number is taken', async () => {
    const honest = head({ versions: [listed('1.0.0')] }, 1)
    const thief = head(
      { sequence: 1_000_000, previous: honest.id, versions: [listed('1.0.0'), listed('6.6.6')] },
      9,
    )
    const others = head({ publisher: bob })
    await catalogue.addHead(honest)
    await catalogue.addHead(thief)
    await catalogue.addFreshness(freshness(thief, 1_801_000_000_000))
    await catalogue.addEquivocation(proofOf(thief, head({ ...thief.statement, signedAt: 1 }, 9)))
    await catalogue.addHead(others)
    catalogue.noteSeen(alice, 'another', 2 ** 40)
    const next = after(honest, { versions: [listed('1.0.0'), listed('1.1.0')] }, 2)
    await expect(catalogue.addHead(next)).rejects.toMatchObject({ code: 'stale-record' })

    const isRefused = ({ signatures }: { signatures: readonly { key: Uint8Array }[] }) =>
      signatures[0]?.key[0] === 9
    expect(await catalogue.dropHeads(isRefused)).toHaveLength(3)
    for (const restarted of [false, true]) {
      if (restarted) await reopen()
      expect(await current()).toBeUndefined()
      expect(knownIds()).toEqual(new Set([others.id]))
    }
    expect(catalogue.highestSeen(alice, 'another')).toBe(0)
    expect(await catalogue.addHead(next)).toBe('added')
    expect(await catalogue.headsOf('word-count')).toHaveLength(2)
  })

  it('gives its room back', async () => {
    catalogue = await open({ maxRecordsPerPublisher: 1 })
    await catalogue.addHead(head({}, 9))
    await catalogue.dropHeads(() => true)
    expect(await catalogue.addRelease(release())).toBe('added')
  })

  it('numbers that were seen passing by are remembered until then', () => {
    catalogue.noteSeen(alice, 'x', 7)
    catalogue.noteSeen(alice, 'x', 3)
    expect([catalogue.highestSeen(alice, 'x'), catalogue.highestSeen(bob, 'x')]).toEqual([7, 0])
  })
})
