import fc from 'fast-check'
import { beforeEach, describe, expect, it } from 'vitest'
import { decodeEnvelope } from '../../src/assets/release.ts'
import { cidOf, cidOfDigest, digestOfCid } from '../../src/base/cid.ts'
import type { KeyValue } from '../../src/base/key-value.ts'
import { silentLog } from '../../src/base/log.ts'
import { MemoryKeyValue } from '../../src/base/memory-key-value.ts'
import { Catalogue, type CatalogueOptions, type RecordEvent } from '../../src/registry/catalogue.ts'
import { alice, bob, head, headChain, release } from './records.ts'

let records: KeyValue
let catalogue: Catalogue

async function open(options: Partial<CatalogueOptions> = {}): Promise<Catalogue> {
  const opened = new Catalogue({ records, log: silentLog }, options)
  await opened.start()
  return opened
}

/** The same records in a new process. */
async function reopen(options: Partial<CatalogueOptions> = {}): Promise<void> {
  await catalogue.stop()
  catalogue = await open(options)
}

const knownIds = () => catalogue.recordIds().map(digest => cidOfDigest(digest))

beforeEach(async () => {
  records = new MemoryKeyValue()
  catalogue = await open()
})

describe('releases in the catalogue', () => {
  it('are found by id, name, root and version, before and after a restart', async () => {
    const one = release({ version: '1.0.0' })
    const two = release({ version: '2.0.0-rc.1' })
    const other = release({ publisher: bob, version: '1.5.0', content: 'word-count@1.0.0' })
    for (const item of [one, two, other]) expect(await catalogue.add(item)).toBe('added')
    for (const restarted of [false, true]) {
      if (restarted) await reopen()
      expect(catalogue.count).toBe(3)
      expect((await catalogue.release(one.id))?.statement).toEqual(one.statement)
      expect(await catalogue.releaseBytes(one.id)).toEqual(new Uint8Array(one.bytes))
      expect(catalogue.releasesOf('word-count').map(entry => entry.version)).toEqual([
        '2.0.0-rc.1',
        '1.5.0',
        '1.0.0',
      ])
      expect(
        catalogue
          .releasesByRoot(one.statement.root)
          .map(entry => entry.id)
          .sort(),
      ).toEqual([one.id, other.id].sort())
      expect((await catalogue.find(bob, 'word-count', '1.5.0'))?.id).toBe(other.id)
      expect(await catalogue.find(bob, 'word-count', '1.0.0')).toBeUndefined()
      expect(await catalogue.release(cidOf(Buffer.from('no such')))).toBeUndefined()
    }
  })

  it('are added once, whoever else adds them at the same time', async () => {
    const item = release()
    const outcomes = await Promise.all([1, 2, 3].map(() => catalogue.addRelease(item)))
    expect(outcomes).toEqual(['added', 'known', 'known'])
    expect(catalogue.count).toBe(1)
  })

  it('are told to listeners once they are durable, whatever another listener does', async () => {
    const told: (RecordEvent & { readonly durable: Promise<boolean> })[] = []
    catalogue.onRecord(() => {
      throw new Error('a bad listener')
    })
    const unsubscribe = catalogue.onRecord(event => {
      told.push({ ...event, durable: records.get(`release/${event.id}`).then(bytes => bytes !== undefined) })
    })
    const item = release()
    await catalogue.addRelease(item)
    await catalogue.addRelease(item)
    expect(told).toMatchObject([{ kind: 'release', id: item.id, publisher: alice, name: 'word-count' }])
    expect(await told[0]?.durable).toBe(true)
    unsubscribe()
    await catalogue.addRelease(release({ version: '2.0.0' }))
    expect(told).toHaveLength(1)
  })

  it('are not there when the disk refused them, and can be added again', async () => {
    const disk = new MemoryKeyValue()
    let broken = true
    records = Object.assign(Object.create(disk) as KeyValue, {
      batch: (writes: Parameters<KeyValue['batch']>[0]) =>
        broken ? Promise.reject(new Error('EIO')) : disk.batch(writes),
      get: (key: string) => disk.get(key),
      entries: (range: Parameters<KeyValue['entries']>[0]) => disk.entries(range),
      keys: (range: Parameters<KeyValue['keys']>[0]) => disk.keys(range),
    })
    catalogue = await open({ maxRecordsPerPublisher: 1 })
    const item = release()
    await expect(catalogue.addRelease(item)).rejects.toThrow('EIO')
    expect(catalogue.count).toBe(0)
    expect(knownIds()).toEqual([])
    broken = false
    expect(await catalogue.addRelease(item)).toBe('added')
  })

  it('are listed by name and in pages', async () => {
    for (const name of ['zeta', 'alpha', 'beta'])
      for (const version of ['1.0.0', '1.10.0', '1.9.0'])
        await catalogue.addRelease(release({ name, version }))
    const whole = catalogue.list().map(({ name, version }) => `${name}@${version}`)
    expect(whole).toEqual(
      ['alpha', 'beta', 'zeta'].flatMap(name => ['1.10.0', '1.9.0', '1.0.0'].map(v => `${name}@${v}`)),
    )
    for (const limit of [1, 2, 3, 4, 9]) {
      const paged: string[] = []
      for (let after: string | undefined; ; ) {
        const page = catalogue.list({ limit, ...(after === undefined ? {} : { after }) })
        if (page.length === 0) break
        paged.push(...page.map(({ name, version }) => `${name}@${version}`))
        after = page.at(-1)?.id
      }
      expect(paged).toEqual(whole)
    }
  })

  it('take what a hostile manifest says with care', async () => {
    const manifests: unknown[] = [
      undefined,
      'text',
      [],
      { metadata: [], spec: 3 },
      { metadata: { tags: [1, null, {}, 'ok', 'x'.repeat(5_000), ...Array(1_000).fill('many')] }, spec: {} },
      { spec: { description: `\u001b[31mred\u0000 ${'long '.repeat(5_000)}`, type: {}, category: [] } },
    ]
    for (const [i, manifest] of manifests.entries()) {
      const item = release({ version: `1.0.${i}`, manifest })
      await catalogue.addRelease(item)
      const summary = await catalogue.summary(item.id)
      expect(summary?.type).toBe('package')
      expect(summary?.category).toBeUndefined()
      expect(summary?.tags.length).toBeLessThanOrEqual(32)
      expect(summary?.tags.every(tag => tag.length <= 64 && tag !== '')).toBe(true)
      expect(summary?.description.length).toBeLessThanOrEqual(1_000)
      // biome-ignore lint/suspicious/noControlCharactersInRegex: they are what must be gone.
      expect(summary?.description).not.toMatch(/[\u0000-\u001f]/)
    }
  })
})

describe('a forgotten release', () => {
  it('is gone, stays away until it is remembered, and counts as known to sync', async () => {
    const item = release()
    await catalogue.addRelease(item)
    expect(await catalogue.forget(item.id)).toBe(true)
    expect(await catalogue.forget(item.id)).toBe(false)
    for (const restarted of [false, true]) {
      if (restarted) await reopen()
      expect(catalogue.count).toBe(0)
      expect(catalogue.releasesOf('word-count')).toEqual([])
      expect(catalogue.releasesByRoot(item.statement.root)).toEqual([])
      expect(catalogue.list()).toEqual([])
      expect(await catalogue.releaseBytes(item.id)).toBeUndefined()
      expect(await catalogue.record(item.id)).toBeUndefined()
      expect(catalogue.isForgotten(item.id)).toBe(true)
      expect(knownIds()).toEqual([item.id])
      expect(await catalogue.addRelease(item)).toBe('forgotten')
    }
    await catalogue.remember(item.id)
    expect(knownIds()).toEqual([])
    expect(await catalogue.addRelease(item)).toBe('added')
    await reopen()
    expect(catalogue.count).toBe(1)
  })

  it('gives its room back', async () => {
    catalogue = await open({ maxRecordsPerPublisher: 1 })
    const [first, second] = [release({ version: '1.0.0' }), release({ version: '2.0.0' })]
    await catalogue.addRelease(first)
    await expect(catalogue.addRelease(second)).rejects.toMatchObject({ code: 'quota-exceeded' })
    await catalogue.forget(first.id)
    expect(await catalogue.addRelease(second)).toBe('added')
  })
})

describe('heads in the catalogue', () => {
  it('replace the head before them, before and after a restart', async () => {
    const { heads } = headChain(3)
    for (const item of heads) expect(await catalogue.add(item)).toBe('added')
    expect(await catalogue.addHead(heads[2] as (typeof heads)[0])).toBe('known')
    const theirs = head({ publisher: bob })
    await catalogue.addHead(theirs)
    for (const restarted of [false, true]) {
      if (restarted) await reopen()
      expect((await catalogue.head(alice, 'word-count'))?.id).toBe(heads[2]?.id)
      expect(catalogue.headEntry(alice, 'word-count')).toMatchObject({ id: heads[2]?.id, sequence: 3 })
      expect((await catalogue.headsOf('word-count')).map(({ id }) => id)).toEqual([heads[2]?.id, theirs.id])
      expect(await catalogue.headsOf('other')).toEqual([])
      expect(new Set(knownIds())).toEqual(new Set([heads[2]?.id, theirs.id]))
      expect(decodeEnvelope((await catalogue.record(theirs.id)) as Uint8Array).id).toBe(theirs.id)
      expect(await catalogue.record(heads[0]?.id ?? '')).toBeUndefined()
    }
  })

  it('never go back', async () => {
    const { heads } = headChain(3)
    await catalogue.addHead(heads[2] as (typeof heads)[0])
    for (const older of heads.slice(0, 2))
      await expect(catalogue.addHead(older)).rejects.toMatchObject({ code: 'stale-record' })
    expect((await catalogue.head(alice, 'word-count'))?.statement.sequence).toBe(3)
  })

  it('never fork: the first is kept, and both are kept as proof', async () => {
    const { heads } = headChain(2)
    const fork = head({ ...(heads[1] as (typeof heads)[0]).statement, expiresAt: 1_800_000_000_001 })
    await catalogue.addHead(heads[0] as (typeof heads)[0])
    await catalogue.addHead(heads[1] as (typeof heads)[0])
    await expect(catalogue.addHead(fork)).rejects.toMatchObject({
      code: 'equivocation',
      data: { kept: heads[1]?.id, refused: fork.id },
    })
    await reopen()
    expect((await catalogue.head(alice, 'word-count'))?.id).toBe(heads[1]?.id)
    const [proof, ...others] = await catalogue.contradictions(alice, 'word-count')
    expect(proof?.heads.map(({ id }) => id)).toEqual([heads[1]?.id, fork.id].sort())
    expect(others).toEqual([])
    expect(await catalogue.contradictions(bob, 'word-count')).toEqual([])
  })

  it('follow from the one before, keep what it listed, and keep it the same', async () => {
    const { heads, releases } = headChain(2)
    const [first, second] = heads as [(typeof heads)[0], (typeof heads)[0]]
    await catalogue.addHead(first)
    const stranger = cidOf(Buffer.from('stranger'))
    const wrong = [
      [{ previous: stranger }, 'head-fork'],
      [{ versions: second.statement.versions.slice(1) }, 'head-delisted'],
      [{ versions: [{ version: '1.0.0', id: stranger }] }, 'head-replaced'],
      [{ sequence: 9, versions: [] }, 'head-delisted'],
    ] as const
    for (const [changes, code] of wrong)
      await expect(catalogue.addHead(head({ ...second.statement, ...changes }))).rejects.toMatchObject({
        code,
      })
    expect((await catalogue.head(alice, 'word-count'))?.id).toBe(first.id)
    // The next honest one is taken all the same.
    expect(await catalogue.addHead(second)).toBe('added')
    expect(releases).toHaveLength(2)
  })

  it('decide which of two releases of one version counts', async () => {
    const early = release({ content: 'early', signedAt: 1 })
    const late = release({ content: 'late', signedAt: 2 })
    await catalogue.addRelease(late)
    await catalogue.addRelease(early)
    expect((await catalogue.find(alice, 'word-count', '1.0.0'))?.id).toBe(early.id)
    await catalogue.addHead(head({ versions: [{ version: '1.0.0', id: late.id }] }))
    expect((await catalogue.find(alice, 'word-count', '1.0.0'))?.id).toBe(late.id)
    expect(catalogue.count).toBe(2)
  })

  it('end in the same state whatever the order of arrival, and never go down on the way', async () => {
    const chains = [headChain(5), headChain(4, bob), headChain(3, alice, 'acme/other')]
    const all = chains.flatMap(({ heads, releases }) => [...heads, ...releases])
    await fc.assert(
      fc.asyncProperty(fc.shuffledSubarray(all, { minLength: all.length }), async order => {
        records = new MemoryKeyValue()
        catalogue = await open()
        let highest = 0
        for (const item of order) {
          const stale = { code: 'stale-record' }
          if (item.statement.type === 'head')
            await catalogue
              .addHead(item as ReturnType<typeof head>)
              .catch(error => expect(error).toMatchObject(stale))
          else await catalogue.addRelease(item as ReturnType<typeof release>)
          const sequence = (await catalogue.head(alice, 'word-count'))?.statement.sequence ?? 0
          expect(sequence).toBeGreaterThanOrEqual(highest)
          highest = sequence
        }
        const expected = chains.flatMap(({ heads, releases }) =>
          [heads.at(-1), ...releases].map(item => item?.id),
        )
        for (const restarted of [false, true]) {
          if (restarted) await reopen()
          expect(new Set(knownIds())).toEqual(new Set(expected))
        }
      }),
      { numRuns: 40 },
    )
  })

  it('end in the same state when they arrive at the same time', async () => {
    const { heads } = headChain(8)
    await Promise.allSettled([...heads].reverse().map(item => catalogue.addHead(item)))
    expect((await catalogue.head(alice, 'word-count'))?.statement.sequence).toBe(8)
    await reopen()
    expect((await catalogue.head(alice, 'word-count'))?.statement.sequence).toBe(8)
  })
})

describe('the ids of all records', () => {
  it('are ascending and complete, however they were built', async () => {
    const { heads, releases } = headChain(6)
    await catalogue.addRelease(releases[0] as (typeof releases)[0])
    expect(knownIds()).toHaveLength(1)
    for (const item of releases) await catalogue.addRelease(item)
    for (const item of heads) await catalogue.addHead(item)
    await catalogue.forget(releases[3]?.id ?? '')
    const grown = catalogue.recordIds().map(digest => Buffer.from(digest).toString('hex'))
    expect(grown).toEqual([...grown].sort())
    expect(grown).toHaveLength(7)
    await reopen()
    expect(catalogue.recordIds().map(digest => Buffer.from(digest).toString('hex'))).toEqual(grown)
    expect(grown).toContain(Buffer.from(digestOfCid(heads.at(-1)?.id ?? '')).toString('hex'))
  })
})

describe('quotas of the catalogue', () => {
  it('bound the records and bytes of each publisher, but not of this node’s own', async () => {
    const options = { maxRecordsPerPublisher: 2, ownPublisher: bob }
    catalogue = await open(options)
    await catalogue.addRelease(release({ version: '1.0.0' }))
    await catalogue.addHead(head())
    for (const restarted of [false, true]) {
      if (restarted) await reopen(options)
      await expect(catalogue.addRelease(release({ version: '3.0.0' }))).rejects.toMatchObject({
        code: 'quota-exceeded',
      })
    }
    expect(catalogue.count).toBe(1)
    for (const version of ['1.0.0', '2.0.0', '3.0.0'])
      expect(await catalogue.addRelease(release({ publisher: bob, version }))).toBe('added')
  })

  it('bound bytes, and everything together', async () => {
    const item = release()
    catalogue = await open({ maxBytesPerPublisher: item.bytes.byteLength })
    expect(await catalogue.addRelease(item)).toBe('added')
    await expect(catalogue.addHead(head())).rejects.toMatchObject({ code: 'quota-exceeded' })
    records = new MemoryKeyValue()
    catalogue = await open({ maxRecords: 1 })
    await catalogue.addRelease(item)
    await expect(catalogue.addRelease(release({ publisher: bob }))).rejects.toMatchObject({
      code: 'quota-exceeded',
    })
  })

  it('hold when many arrive at once', async () => {
    catalogue = await open({ maxRecordsPerPublisher: 3 })
    const many = Array.from({ length: 10 }, (_, i) => release({ version: `1.0.${i}` }))
    const outcomes = await Promise.allSettled(many.map(item => catalogue.addRelease(item)))
    expect(outcomes.filter(({ status }) => status === 'fulfilled')).toHaveLength(3)
    expect(catalogue.count).toBe(3)
  })
})
