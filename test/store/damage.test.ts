// Stored payloads that are flipped, cut short, zeroed or deleted behind the store's back.
import { open, rm, stat, truncate } from 'node:fs/promises'
import { join } from 'node:path'
import { expect, it } from 'vitest'
import { digestOfCid } from '../../src/base/cid.ts'
import { isCatalogError } from '../../src/base/errors.ts'
import { silentLog } from '../../src/base/log.ts'
import { MemoryKeyValue } from '../../src/base/memory-key-value.ts'
import { FileContentStore } from '../../src/store/file-content-store.ts'
import { pseudoRandom, publish, type Sample, sample } from './sample-content.ts'
import { temporaryDirectory } from './temporary-directory.ts'

const rounds = 200

it(`finds each of ${rounds} damages, serves none of them, and is repaired shard by shard`, async () => {
  const directory = await temporaryDirectory()
  const store = new FileContentStore({ records: new MemoryKeyValue(), log: silentLog }, { directory })
  await store.start()
  const contents = [1, 2, 3].map(seed => sample(seed, 700_000 * seed))
  for (const content of contents) await publish(store, content)
  let reallyDamaged = 0
  for (let round = 0; round < rounds; round++) {
    const content = contents[round % contents.length] as Sample
    const chance = new Uint32Array(pseudoRandom(round + 100, 8).slice().buffer)
    const at = (chance[0] as number) % content.bytes.byteLength
    const path = pathOf(directory, content)
    const expected = await damages[round % damages.length]?.(path, content, at, chance[1] as number)
    reallyDamaged += 1
    const bad = await store.check(content.root)
    expect(bad, `round ${round}`).toEqual(expected)
    await expectOnlyGoodBytes(store, content)
    for (const shard of bad)
      await expect(store.readShard(content.root, shard)).rejects.toMatchObject({ code: 'corrupt-content' })
    await repair(store, content, bad)
  }
  expect(reallyDamaged).toBe(rounds)
  await store.stop()
}, 60_000)

const pathOf = (directory: string, { root }: Sample) =>
  join(directory, 'content', Buffer.from(digestOfCid(root).subarray(0, 1)).toString('hex'), root)

/** The shards that have a byte in [start, end). */
function touched({ index }: Sample, start: number, end: number): number[] {
  let offset = 0
  return index.shards.flatMap(({ length }, shard) => {
    const begin = offset
    offset += length
    return begin < end && offset > start ? [shard] : []
  })
}

type Damage = (path: string, content: Sample, at: number, chance: number) => Promise<number[]>

const damages: readonly Damage[] = [
  async function flipOneBit(path, content, at, chance) {
    await overwrite(path, at, Uint8Array.of((content.bytes[at] as number) ^ (1 << (chance % 8))))
    return touched(content, at, at + 1)
  },
  async function cutShort(path, content, at) {
    await truncate(path, at)
    return touched(content, at, content.bytes.byteLength)
  },
  async function zero(path, content, at, chance) {
    const end = Math.min(content.bytes.byteLength, at + 1 + (chance % 50_000))
    await overwrite(path, at, new Uint8Array(end - at))
    return touched(content, at, end).filter(shard => !sameAsZeroed(content, shard, at, end))
  },
  async function deleteFile(path, content) {
    await rm(path)
    return [...content.index.shards.keys()]
  },
]

/** One zeroed byte may have been zero before. */
function sameAsZeroed(content: Sample, shard: number, start: number, end: number): boolean {
  const offset = content.index.shards.slice(0, shard).reduce((sum, { length }) => sum + length, 0)
  const hit = content.shard(shard).subarray(Math.max(0, start - offset), Math.max(0, end - offset))
  return hit.every(byte => byte === 0)
}

async function overwrite(path: string, at: number, bytes: Uint8Array): Promise<void> {
  const file = await open(path, 'r+')
  await file.write(bytes, 0, bytes.byteLength, at)
  await file.close()
  expect((await stat(path)).size).toBeGreaterThan(at)
}

/** Reads to the first error: what came before it is right to the byte, and an error there was. */
async function expectOnlyGoodBytes(store: FileContentStore, content: Sample): Promise<void> {
  let offset = 0
  let failure: unknown
  try {
    for await (const part of store.read(content.root, 0, content.bytes.byteLength)) {
      expect(Buffer.from(part).equals(content.bytes.subarray(offset, offset + part.byteLength))).toBe(true)
      offset += part.byteLength
    }
  } catch (error) {
    failure = error
  }
  const whole = offset === content.bytes.byteLength
  expect(whole || isCatalogError(failure, 'corrupt-content')).toBe(true)
}

async function repair(store: FileContentStore, content: Sample, bad: readonly number[]): Promise<void> {
  const partial = await store.openPartial(content.root, content.indexBytes)
  expect(partial.missing()).toEqual(bad)
  for (const shard of bad) await partial.put(shard, content.shard(shard))
  await partial.complete()
  expect(await store.check(content.root)).toEqual([])
}
