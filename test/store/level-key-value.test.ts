import { readdir, readFile, stat, writeFile } from 'node:fs/promises'
import { join } from 'node:path'
import { describe, expect, it } from 'vitest'
import { MemoryKeyValue } from '../../src/base/memory-key-value.ts'
import { scoped } from '../../src/base/scoped-key-value.ts'
import { LevelKeyValue } from '../../src/store/level-key-value.ts'
import { collect, keyValueConformance } from '../conformance/key-value.ts'
import { deleteDirectory, makeTemporaryDirectory, temporaryDirectory } from './temporary-directory.ts'

const bytes = (text: string) => new TextEncoder().encode(text)

keyValueConformance('LevelDB', async () => {
  const directory = await makeTemporaryDirectory()
  const store = await LevelKeyValue.open({ directory: join(directory, 'db'), reserveBytes: 0 })
  const close = async () => {
    await store.stop()
    await deleteDirectory(directory)
  }
  return { store, close }
})

keyValueConformance('memory', async () => ({ store: new MemoryKeyValue(), close: async () => undefined }))

keyValueConformance('a scope of memory with neighbours', async () => {
  const whole = new MemoryKeyValue()
  await whole.put('scope', bytes('above'))
  await whole.put('scope0', bytes('behind'))
  return {
    store: scoped(whole, 'scope/'),
    close: async () => {
      expect(await collect(whole.keys({ prefix: 'scope0' }))).toEqual(['scope0'])
      expect(await whole.get('scope')).toBeDefined()
    },
  }
})

describe('a LevelDB store', () => {
  it('keeps what it acknowledged when it is opened again', async () => {
    const directory = join(await temporaryDirectory(), 'db')
    const first = await LevelKeyValue.open({ directory })
    await Promise.all(Array.from({ length: 500 }, (_, i) => first.put(`k/${i}`, bytes(String(i)))))
    await first.stop()
    await first.stop()
    const second = await LevelKeyValue.open({ directory })
    expect(await collect(second.keys({ prefix: 'k/' }))).toHaveLength(500)
    await second.stop()
  })

  it('refuses a second opener', async () => {
    const directory = join(await temporaryDirectory(), 'db')
    const first = await LevelKeyValue.open({ directory, reserveBytes: 0 })
    await expect(LevelKeyValue.open({ directory })).rejects.toMatchObject({ code: 'already-running' })
    await first.stop()
  })

  it('refuses a store that a newer Catalog wrote', async () => {
    const directory = join(await temporaryDirectory(), 'db')
    const { Level } = await import('level')
    const newer = new Level(directory)
    await newer.put('\0version', '2')
    await newer.close()
    await expect(LevelKeyValue.open({ directory })).rejects.toMatchObject({
      code: 'store-too-new',
      data: { found: 2 },
    })
    // It was left closed: the newer Catalog can have it.
    await newer.open()
    await newer.close()
  })

  it('says that a damaged database is damaged', async () => {
    const directory = join(await temporaryDirectory(), 'db')
    const store = await LevelKeyValue.open({ directory, reserveBytes: 0 })
    await store.put('a', bytes('1'))
    await store.stop()
    const manifest = (await readdir(directory)).find(name => name.startsWith('MANIFEST')) as string
    const content = await readFile(join(directory, manifest))
    await writeFile(join(directory, manifest), content.fill(0xff))
    await expect(LevelKeyValue.open({ directory })).rejects.toMatchObject({ code: 'storage-failed' })
  })

  it('fails when used while it is not open', async () => {
    const store = new LevelKeyValue({ directory: join(await temporaryDirectory(), 'db') })
    await expect(store.get('a')).rejects.toMatchObject({ code: 'daemon-stopping' })
    await expect(store.put('a', bytes('1'))).rejects.toMatchObject({ code: 'daemon-stopping' })
  })

  it('refuses values, not deletes, when little is left on the disk', async () => {
    const directory = join(await temporaryDirectory(), 'db')
    const before = await LevelKeyValue.open({ directory, reserveBytes: 0 })
    await before.put('a', bytes('1'))
    await before.stop()
    const store = await LevelKeyValue.open({
      directory,
      reserveBytes: 0,
      lowWaterBytes: Number.MAX_SAFE_INTEGER,
    })
    const refused = store.put('b', bytes('1'))
    const deleted = store.delete('a')
    await expect(refused).rejects.toMatchObject({ code: 'no-space' })
    await deleted
    expect(await collect(store.keys({ prefix: '' }))).toEqual([])
    await store.stop()
  })

  it('holds a reserve back on the disk', async () => {
    const directory = join(await temporaryDirectory(), 'db')
    const store = await LevelKeyValue.open({ directory, reserveBytes: 3_000_000 })
    const reserve = await stat(`${directory}.reserve`)
    expect(reserve.size).toBe(3_000_000)
    expect(reserve.blocks * 512).toBeGreaterThanOrEqual(3_000_000)
    await store.stop()
  })

  it('shares one sync among writes that come together', async () => {
    const directory = join(await temporaryDirectory(), 'db')
    const store = await LevelKeyValue.open({ directory, reserveBytes: 0 })
    const serial = await milliseconds(async () => {
      for (let i = 0; i < 300; i++) await store.put(`s/${i}`, bytes('x'))
    })
    const together = await milliseconds(() =>
      Promise.all(Array.from({ length: 300 }, (_, i) => store.put(`t/${i}`, bytes('x')))),
    )
    expect(together).toBeLessThan(serial / 2)
    await store.stop()
  })
})

async function milliseconds(work: () => Promise<unknown>): Promise<number> {
  const start = performance.now()
  await work()
  return performance.now() - start
}
