// Stored bytes that change by themselves (S5): found, not served, and fetched anew from another node; what cannot be
// repaired is said, and keeps being said.
import { open, readdir, rm, truncate } from 'node:fs/promises'
import { join } from 'node:path'
import { describe, expect, it } from 'vitest'
import { equalBytes } from '../../src/base/cbor.ts'
import { silentLog } from '../../src/base/log.ts'
import { MemoryKeyValue } from '../../src/base/memory-key-value.ts'
import { type CheckDeps, check } from '../../src/flows/check.ts'
import { MemoryNetwork } from '../../src/network/memory-host.ts'
import { FileContentStore } from '../../src/store/file-content-store.ts'
import { fetching, provider } from '../distribution/peers.ts'
import { publish, type Sample, sample } from '../store/sample-content.ts'
import { temporaryDirectory } from '../temporary.ts'

const damages = Number(process.env['CATALOG_DAMAGES'] ?? 200)
const seed = Number(process.env['CATALOG_SEED'] ?? Math.floor(Math.random() * 2 ** 31))

/** A node with contents that another one has too. */
async function node(contents: readonly Sample[], kept: (root: string) => boolean = () => true) {
  const directory = temporaryDirectory()
  const records = new MemoryKeyValue()
  const store = new FileContentStore({ records, log: silentLog }, { directory, reserveBytes: 0 })
  await store.start()
  for (const content of contents) await publish(store, content)
  const network = new MemoryNetwork()
  const other = provider(network)
  for (const content of contents) await publish(other.store, content)
  const { fetcher } = fetching(network, () => [other.peer], {}, store)
  const deps: CheckDeps = {
    store,
    fetcher,
    publisher: 'self',
    catalogue: { releasesByRoot: () => [] },
    pins: { has: () => false },
    isOwed: kept,
    resultState: () => undefined,
  }
  const roots = contents.map(({ root }) => root)
  const pathOf = async (root: string) => {
    const found = (await readdir(directory, { recursive: true })).find(name => name.endsWith(root))
    return join(directory, found as string)
  }
  return {
    store,
    records,
    other,
    deps,
    roots,
    pathOf,
    check: (repair = false) => check(deps, roots, { repair }),
  }
}

let state = seed >>> 0
const chance = (below: number) => {
  state = (Math.imul(state, 1664525) + 1013904223) >>> 0
  return Math.floor((state / 2 ** 32) * below)
}

async function flip(path: string, at: number): Promise<void> {
  const file = await open(path, 'r+')
  const byte = Buffer.alloc(1)
  await file.read(byte, 0, 1, at)
  await file.write(Buffer.of((byte[0] as number) ^ (1 << chance(8))), 0, 1, at)
  await file.close()
}

describe(`damage, seed ${seed}`, () => {
  it(`of ${damages} kinds and places is found each time, never served, and repaired from another node`, async () => {
    const contents = [1, 2, 3].map(number => sample(number, 600_000 * number))
    const { store, check, pathOf } = await node(contents)
    let shardsRepaired = 0
    for (let round = 0; round < damages; round++) {
      const { root, bytes, index, shard: good } = contents[round % contents.length] as Sample
      const path = await pathOf(root)
      const at = chance(bytes.byteLength)
      if (round % 3 === 0) await flip(path, at)
      else if (round % 3 === 1) await truncate(path, at)
      else await rm(path)
      const found = await check()
      expect(found.contents).toBe(3)
      expect(found.damaged.map(damage => damage.root)).toEqual([root])
      const bad = new Set(found.damaged[0]?.shards)
      for (const shard of index.shards.keys()) {
        const served = await store.readShard(root, shard).catch(() => undefined)
        if (served !== undefined) expect(equalBytes(served, good(shard))).toBe(true)
        expect(served === undefined).toBe(bad.has(shard))
      }
      const { damaged } = await check(true)
      expect(damaged).toMatchObject([{ root, shards: [...bad], repaired: true }])
      const lost = [...bad].reduce((sum, shard) => sum + good(shard).byteLength, 0)
      // Only the bad shards came, and the words of the protocol.
      expect(damaged[0]?.bytesTransferred).toBeGreaterThanOrEqual(lost)
      expect(damaged[0]?.bytesTransferred).toBeLessThan(lost + 50_000)
      shardsRepaired += bad.size
      expect((await check()).damaged).toEqual([])
    }
    expect(shardsRepaired).toBeGreaterThanOrEqual(damages)
    await store.stop()
  }, 120_000)

  it('that nobody can repair is said with its reason, and again by every later check', async () => {
    const content = sample(4, 1_500_000)
    const { store, other, check, pathOf } = await node([content])
    await other.store.remove(content.root)
    await flip(await pathOf(content.root), 700_000)
    const [first] = (await check(true)).damaged
    expect(first).toMatchObject({ repaired: false, error: { code: 'no-providers' } })
    const again = await check()
    expect(again.damaged).toEqual([
      { root: content.root, shards: first?.shards, repaired: false, bytesTransferred: 0 },
    ])
    await publish(other.store, content)
    expect((await check(true)).damaged).toMatchObject([{ repaired: true }])
    expect((await check()).damaged).toEqual([])
    await store.stop()
  })

  it('of the index itself is found, and repaired without fetching a good shard again', async () => {
    const content = sample(8, 2_000_000)
    const { store, check, records } = await node([content])
    await records.delete(`index/${content.root}`)
    // As after a restart: what memory still knew is gone.
    await store.stop()
    await store.start()
    expect((await check()).damaged).toMatchObject([
      { root: content.root, shards: [], repaired: false, error: { code: 'corrupt-content' } },
    ])
    const [repaired] = (await check(true)).damaged
    expect(repaired).toMatchObject({ repaired: true })
    expect(repaired?.bytesTransferred).toBeLessThan(50_000)
    expect((await check()).damaged).toEqual([])
    await store.stop()
  })

  it('of an ordinary fetch that was left is none: what is missing comes when it is gone on with', async () => {
    const content = sample(5, 1_000_000)
    const { store, check } = await node([content], () => false)
    await store.remove(content.root)
    const partial = await store.openPartial(content.root, content.indexBytes)
    await partial.put(0, content.shard(0))
    await partial.close()
    expect(await check()).toMatchObject({ contents: 1, bytes: content.shard(0).byteLength, damaged: [] })
    await store.stop()
  })

  it('is looked for without being in the way: progress after every shard, ended by a signal, no use of the contents', async () => {
    const contents = [6, 7].map(number => sample(number, 2_000_000)) as [Sample, Sample]
    const { store, deps, roots } = await node(contents)
    const order = async () => {
      const all = []
      for await (const content of store.roots()) all.push(content)
      return all.sort((a, b) => a.usedAt - b.usedAt).map(({ root }) => root)
    }
    const before = await order()
    const seen: number[] = []
    const result = await check(deps, roots.toReversed(), {
      onProgress: (_phase, done, total) => {
        seen.push(done)
        expect(total).toBe(4_000_000)
      },
    })
    expect(result).toEqual({ contents: 2, bytes: 4_000_000, damaged: [] })
    expect(seen).toHaveLength(contents[0].index.shards.length + contents[1].index.shards.length)
    expect(await order()).toEqual(before)
    const reason = new Error('enough')
    const ending = new AbortController()
    const cut = check(deps, roots, { signal: ending.signal, onProgress: () => ending.abort(reason) })
    await expect(cut).rejects.toBe(reason)
    await store.stop()
  })
})
