import { execFile } from 'node:child_process'
import { appendFile, mkdir, mkdtemp, rm, symlink, truncate, utimes, writeFile } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { promisify } from 'node:util'
import fc from 'fast-check'
import { afterEach, beforeEach, describe, expect, it } from 'vitest'
import { decodeContentIndex, encodeContentIndex, type FileEntry } from '../../src/assets/content-index.ts'
import type { ContentWriter } from '../../src/assets/content-store.ts'
import { Cutter } from '../../src/assets/cutter.ts'
import { comparePaths } from '../../src/assets/entry-path.ts'
import { packTree } from '../../src/assets/pack.ts'
import type { SourceEntry } from '../../src/assets/package-tree.ts'
import { equalBytes } from '../../src/base/cbor.ts'
import { blake3, sha256 } from '../../src/base/hash.ts'
import { MemoryContentStore } from '../../src/store/memory-content-store.ts'
import { pseudoRandom, readAll } from '../store/sample-content.ts'

const mebibyte = 1024 * 1024

describe('packing a tree', () => {
  let directory: string
  let store: MemoryContentStore
  beforeEach(async () => {
    directory = await mkdtemp(join(tmpdir(), 'catalog-pack-'))
    store = new MemoryContentStore()
  })
  afterEach(() => rm(directory, { recursive: true, force: true }))

  const onDisk = async (path: string, bytes: Uint8Array, mode = 0o644): Promise<SourceEntry> => {
    const absolutePath = join(directory, path)
    await mkdir(join(absolutePath, '..'), { recursive: true })
    await writeFile(absolutePath, bytes, { mode })
    return { kind: 'file', path, mode, size: bytes.byteLength, source: { kind: 'disk', absolutePath } }
  }
  const inline = (path: string, bytes: Uint8Array): SourceEntry => ({
    kind: 'file',
    path,
    mode: 0o644,
    size: bytes.byteLength,
    source: { kind: 'inline', bytes },
  })
  const pack = async (entries: readonly SourceEntry[]) => {
    const writer = await store.createWriter(0)
    const index = await packTree(entries, writer)
    return { index, root: await writer.commit(index) }
  }

  it('describes every file so that it can be read back alone', async () => {
    const contents: Record<string, Uint8Array> = {
      'a.bin': pseudoRandom(1, 3 * mebibyte),
      'b/empty': new Uint8Array(0),
      'b/small': pseudoRandom(2, 1000),
      'c.bin': pseudoRandom(3, mebibyte + 1),
      'd.inline': pseudoRandom(4, 10),
    }
    const files = await Promise.all(
      Object.entries(contents).map(([path, bytes]) =>
        path === 'd.inline' ? inline(path, bytes) : onDisk(path, bytes, path === 'a.bin' ? 0o755 : 0o644),
      ),
    )
    const others: SourceEntry[] = [
      { kind: 'directory', path: 'e' },
      { kind: 'link', path: 'f', target: 'a.bin' },
    ]
    const { index, root } = await pack([...files, ...others])
    const whole = Buffer.concat(Object.values(contents))
    expect(index.size).toBe(whole.byteLength)
    expect([equalBytes(index.blake3, blake3(whole)), equalBytes(index.sha256, sha256(whole))]).toEqual([
      true,
      true,
    ])
    const cutter = new Cutter(
      Object.entries(contents).map(([path, { byteLength: size }]) => ({ path, size })),
    )
    const shards = [...cutter.push(whole)]
    expect(index.shards.map(({ length }) => length)).toEqual(shards.map(shard => shard.byteLength))
    expect(index.shards.every(({ hash }, i) => equalBytes(hash, blake3(shards[i] as Uint8Array)))).toBe(true)
    for (const entry of index.entries.filter(({ kind }) => kind === 'file') as FileEntry[]) {
      const bytes = contents[entry.path] as Uint8Array
      expect(equalBytes(await readAll(store, root, entry.offset, entry.size), bytes), entry.path).toBe(true)
      expect(
        equalBytes(entry.blake3, blake3(bytes)) && equalBytes(entry.sha256, sha256(bytes)),
        entry.path,
      ).toBe(true)
      expect(entry.mode).toBe(entry.path === 'a.bin' ? 0o755 : 0o644)
    }
    expect(index.entries.slice(-2)).toEqual(others)
    expect(decodeContentIndex(encodeContentIndex(index).bytes, root)).toEqual(index)
  })

  it('packs nothing, and a single file', async () => {
    expect((await pack([])).index).toMatchObject({ size: 0, entries: [], shards: [] })
    const none = (await pack([inline('empty', new Uint8Array(0))])).index
    expect(equalBytes(none.sha256, sha256(new Uint8Array(0)))).toBe(true)
    const bytes = pseudoRandom(5, 2 * mebibyte)
    const single = (await pack([await onDisk('a', bytes), inline('b', new Uint8Array(0))])).index
    expect(equalBytes(single.blake3, blake3(bytes)) && equalBytes(single.sha256, sha256(bytes))).toBe(true)
  })

  it('gives one root to the same files, wherever their bytes come from', async () => {
    const tree = fc.uniqueArray(
      fc.record({
        path: fc.stringMatching(/^[a-c]{1,3}$/),
        size: fc.oneof(fc.nat(100), fc.nat(400_000)),
        seed: fc.nat(),
      }),
      { selector: ({ path }) => path, maxLength: 8 },
    )
    await fc.assert(
      fc.asyncProperty(tree, async files => {
        files.sort((a, b) => comparePaths(a.path, b.path))
        const bytes = files.map(({ size, seed }) => pseudoRandom(seed, size))
        const disk = await Promise.all(files.map(({ path }, i) => onDisk(path, bytes[i] as Uint8Array)))
        const memory = files.map(({ path }, i) => inline(path, bytes[i] as Uint8Array))
        expect((await pack(disk)).root).toBe((await pack(memory)).root)
      }),
      { numRuns: 20 },
    )
  })

  it('hashes a large package in another thread, to the same digests', async () => {
    const model = pseudoRandom(20, 66 * mebibyte)
    const contents: Record<string, Uint8Array> = {
      'a.bin': pseudoRandom(21, 2 * mebibyte + 7),
      'b.txt': pseudoRandom(22, 5000),
      'model.bin': model,
      'z.txt': pseudoRandom(23, 12),
    }
    for (const paths of [['a.bin', 'b.txt', 'model.bin', 'z.txt'], ['b.txt', 'model.bin'], ['model.bin']]) {
      const files = await Promise.all(paths.map(path => onDisk(path, contents[path] as Uint8Array)))
      const { index, root } = await pack(files)
      const whole = Buffer.concat(paths.map(path => contents[path] as Uint8Array))
      expect(equalBytes(index.sha256, sha256(whole)) && equalBytes(index.blake3, blake3(whole))).toBe(true)
      for (const entry of index.entries as FileEntry[]) {
        const bytes = contents[entry.path] as Uint8Array
        expect(equalBytes(entry.sha256, sha256(bytes)), entry.path).toBe(true)
        expect(equalBytes(entry.blake3, blake3(bytes)), entry.path).toBe(true)
      }
      // Blocks are used again only when their shards are written.
      expect(equalBytes(await readAll(store, root, 0, whole.byteLength), whole)).toBe(true)
    }
  })

  it('stops a large package at once, and leaves nothing running', async () => {
    const entries = [await onDisk('a', pseudoRandom(24, 65 * mebibyte))]
    const abort = new AbortController()
    const packing = packTree(entries, await store.createWriter(0), {
      signal: abort.signal,
      onProgress: done => done > 20 * mebibyte && abort.abort(new Error('enough')),
    })
    await expect(packing).rejects.toThrow('enough')
    let appended = 0
    const full: ContentWriter = {
      append: async () => {
        appended += 1
        if (appended > 60) throw new Error('disk full')
      },
      commit: async () => '',
      abort: async () => undefined,
    }
    await expect(packTree(entries, full)).rejects.toThrow('disk full')
  })

  it('takes the same memory for any size', async () => {
    const peak = async (mebibytes: number) => {
      const path = join(directory, `${mebibytes}`)
      await mkdir(path)
      await writeFile(join(path, 'catalog.json'), '{}')
      await writeFile(join(path, 'disk.img'), '')
      await truncate(join(path, 'disk.img'), mebibytes * mebibyte)
      const worker = new URL('./pack-worker.ts', import.meta.url).pathname
      const { stdout } = await promisify(execFile)(process.execPath, [worker, path, join(path, 'store')])
      const { size, peakBytes } = JSON.parse(stdout) as { size: number; peakBytes: number }
      expect(size).toBe(mebibytes * mebibyte + 2)
      return peakBytes / mebibyte
    }
    const [little, much] = [await peak(80), await peak(1024)]
    expect(much).toBeLessThan(200)
    expect(much - little).toBeLessThan(24)
  }, 120_000)

  it('reports progress up to the size', async () => {
    const seen: number[] = []
    const writer = await store.createWriter(0)
    await packTree(
      [await onDisk('a', pseudoRandom(6, 3 * mebibyte)), await onDisk('b', pseudoRandom(7, 5))],
      writer,
      {
        onProgress: done => seen.push(done),
      },
    )
    expect(seen).toEqual(seen.toSorted((a, b) => a - b))
    expect(seen.at(-1)).toBe(3 * mebibyte + 5)
  })

  it('refuses a file that is no longer what was listed', async () => {
    const bytes = pseudoRandom(8, 200_000)
    const replaced: Record<string, (path: string) => Promise<unknown>> = {
      longer: path => appendFile(path, 'x'),
      shorter: path => writeFile(path, 'x'),
      deleted: path => rm(path),
      'a link': async path => {
        await rm(path)
        await symlink('/etc/hostname', path)
      },
      'a directory': async path => {
        await rm(path)
        await mkdir(path)
      },
      'a fifo': async path => {
        await rm(path)
        await promisify(execFile)('mkfifo', [path])
      },
    }
    for (const [how, replace] of Object.entries(replaced))
      for (const size of [1000, bytes.byteLength]) {
        const entry = await onDisk(`${how}-${size}`, bytes.subarray(0, size))
        await replace(join(directory, `${how}-${size}`))
        await expect(pack([entry]), how).rejects.toMatchObject({
          code: 'invalid-package',
          message: expect.stringContaining('changed while being published'),
        })
      }
  })

  it('refuses a file that is written to while it is read', async () => {
    const entry = await onDisk('a', pseudoRandom(9, 4 * mebibyte))
    const writer = await store.createWriter(0)
    const touching: ContentWriter = {
      append: async shard => {
        await utimes(join(directory, 'a'), 1, 1)
        await writer.append(shard)
      },
      commit: index => writer.commit(index),
      abort: () => writer.abort(),
    }
    await expect(packTree([entry], touching)).rejects.toMatchObject({ code: 'invalid-package' })
    await packTree([entry], writer)
  })

  it('stops when it is aborted, and when the writer fails', async () => {
    const entries = [
      await onDisk('a', pseudoRandom(10, 4 * mebibyte)),
      await onDisk('b', pseudoRandom(11, 10)),
    ]
    const abort = new AbortController()
    const writer = await store.createWriter(0)
    const packing = packTree(entries, writer, {
      signal: abort.signal,
      onProgress: done => done > mebibyte && abort.abort(new Error('enough')),
    })
    await expect(packing).rejects.toThrow('enough')
    const full: ContentWriter = { ...writer, append: () => Promise.reject(new Error('disk full')) }
    await expect(packTree(entries, full)).rejects.toThrow('disk full')
  })

  it('reads no further than a slow writer takes, whatever the size', async () => {
    let waiting = 0
    let most = 0
    const slow: ContentWriter = {
      append: async shard => {
        waiting += shard.byteLength
        most = Math.max(most, waiting)
        await new Promise(resolve => setTimeout(resolve, 2))
        waiting -= shard.byteLength
      },
      commit: async () => '',
      abort: async () => undefined,
    }
    await packTree([await onDisk('a', pseudoRandom(12, 32 * mebibyte))], slow)
    expect(most).toBeGreaterThan(mebibyte)
    expect(most).toBeLessThan(6 * mebibyte)
  })
})
