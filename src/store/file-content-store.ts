// ContentStore on disk: payloads in files, one per root, under `content/`; what is known of them in a KeyValue
// (store/content/records.ts). A root exists once its record says so, and its record is written after its file,
// the file's name and the directory are durable. No byte is served whose shard does not hash to what its index says.
import { LRUCache } from 'lru-cache'
import type { ContentIndex } from '../assets/content-index.ts'
import type { ContentStore, ContentUsage, ContentWriter, PartialContent } from '../assets/content-store.ts'
import type { CidText } from '../base/cid.ts'
import { CatalogError } from '../base/errors.ts'
import type { KeyValue } from '../base/key-value.ts'
import type { CallOptions } from '../base/lifecycle.ts'
import type { Log } from '../base/log.ts'
import { Layout, readVerified } from './content/layout.ts'
import { FilePartial, Presence } from './content/partial.ts'
import { PayloadDisk } from './content/payload-disk.ts'
import { ContentRecords } from './content/records.ts'
import { SpaceBudget } from './content/space.ts'
import { FileWriter } from './content/writer.ts'
import { type FileSystem, isMissing, type OpenFile } from './file-system.ts'
import { nodeFileSystem } from './node-file-system.ts'

export interface FileContentStoreOptions {
  /** Holds `content/` and `staging/`; made when missing. */
  readonly directory: string
  /** Bytes of the disk that payloads never take. */
  readonly reserveBytes?: number
  /** Bytes that all payloads together may take. */
  readonly maxBytes?: number
}

export const defaultFileContentStoreOptions = {
  // The database grows beside the payloads, and must be able to when they have taken all they may.
  reserveBytes: 256 * 1024 * 1024,
  maxBytes: Number.MAX_SAFE_INTEGER,
} as const

export interface FileContentStoreDeps {
  readonly records: KeyValue
  readonly log: Log
  readonly fileSystem?: FileSystem
}

/** Memory for decoded indexes, in bytes of their encoded form. */
const layoutCacheBytes = 64 * 1024 * 1024

interface Root {
  complete: boolean
  size: number
  /** Which shards of a partial root are known to be here. */
  presence: Presence | undefined
  open: FilePartial | undefined
}

export class FileContentStore implements ContentStore {
  readonly #log: Log
  readonly #records: ContentRecords
  readonly #disk: PayloadDisk
  readonly #space: SpaceBudget
  readonly #roots = new Map<CidText, Root>()
  readonly #layouts = new LRUCache<CidText, Layout>({
    maxSize: layoutCacheBytes,
    sizeCalculation: layout => layout.indexBytes.byteLength,
  })
  /** The end of the last change of each root that is being changed: changes of one root happen one after another. */
  readonly #changes = new Map<CidText, Promise<void>>()

  constructor(deps: FileContentStoreDeps, options: FileContentStoreOptions) {
    const { directory, reserveBytes, maxBytes } = { ...defaultFileContentStoreOptions, ...options }
    const fileSystem = deps.fileSystem ?? nodeFileSystem
    this.#log = deps.log
    this.#records = new ContentRecords(deps.records)
    this.#disk = new PayloadDisk(fileSystem, directory)
    this.#space = new SpaceBudget(fileSystem, () => this.#storedBytes(), {
      directory,
      reserveBytes,
      maxBytes,
    })
  }

  async start(): Promise<void> {
    try {
      await this.#disk.start()
      this.#roots.clear()
      for await (const { root, complete, size } of this.#records.list())
        this.#roots.set(root, { complete, size, presence: undefined, open: undefined })
      const swept = await this.#disk.sweep(root => this.#roots.has(root))
      if (swept > 0) this.#log.info({ swept }, 'deleted payload files that an interrupted run left')
    } catch (error) {
      throw this.#disk.typed('opening the store', error)
    }
  }

  async stop(): Promise<void> {
    await Promise.all([...this.#roots.values()].map(root => root.open?.close()))
    await Promise.all(this.#changes.values())
  }

  /** True once the disk has failed: reads go on, writes are refused until a restart. */
  get readOnly(): boolean {
    return this.#disk.readOnly
  }

  async state(root: CidText): Promise<'complete' | 'partial' | undefined> {
    const found = this.#roots.get(root)
    return found === undefined ? undefined : found.complete ? 'complete' : 'partial'
  }

  async index(root: CidText): Promise<ContentIndex | undefined> {
    return (await this.#layout(root))?.index
  }

  async indexBytes(root: CidText): Promise<Uint8Array | undefined> {
    return (await this.#layout(root))?.indexBytes
  }

  async createWriter(expectedBytes: number): Promise<ContentWriter> {
    this.#disk.requireWritable()
    const grant = await this.#space.promise(expectedBytes)
    const path = this.#disk.newStagedPath()
    try {
      const file = await this.#disk.fileSystem.open(path, 'wx+', 0o600)
      return new FileWriter(this.#disk, grant, path, file, (layout, staged) => this.#publish(layout, staged))
    } catch (error) {
      grant.release()
      throw this.#disk.typed('making a payload file', error)
    }
  }

  /** The staged file, synced, becomes the root's. One that is here already is replaced by its equal, which also heals it. */
  #publish(layout: Layout, stagedPath: string): Promise<void> {
    const { root, size } = layout
    return this.#exclusively(root, async () => {
      await this.#disk.moveIn(stagedPath, root)
      await this.#records.finish(layout)
      const open = this.#roots.get(root)?.open
      this.#roots.set(root, { complete: true, size, presence: undefined, open })
      // Only now may a fetch of the same root call itself complete.
      open?.supersede()
    })
  }

  openPartial(root: CidText, indexBytes: Uint8Array): Promise<PartialContent> {
    return this.#exclusively(root, async () => {
      if (this.#roots.get(root)?.open !== undefined)
        throw new CatalogError('busy', `${root} is being fetched already. Wait for it, then try again.`, {
          root,
        })
      this.#disk.requireWritable()
      const layout = new Layout(root, indexBytes)
      try {
        return await this.#openPartial(layout)
      } catch (error) {
        throw this.#disk.typed('opening a payload file', error)
      }
    })
  }

  async #openPartial(layout: Layout): Promise<PartialContent> {
    const { root, size } = layout
    const known = this.#roots.get(root)
    const presence = new Presence(layout)
    if (known !== undefined) await this.#findShards(layout, presence)
    const finished = known?.complete === true && presence.all
    const grant = await this.#space.promise(finished ? 0 : size - presence.bytes)
    let file: OpenFile | undefined
    try {
      if (known === undefined || (known.complete && !finished)) await this.#records.begin(layout)
      file = await this.#disk.openOrMake(root)
      const entry: Root = { complete: finished, size, presence, open: undefined }
      const owner = {
        findCopy: (hash: Uint8Array, length: number) => this.#findCopy(layout, presence, hash, length),
        finish: () =>
          this.#exclusively(root, async () => {
            const now = this.#roots.get(root)
            if (now?.open !== partial) throw removed(root)
            if (now.complete) return
            this.#disk.requireWritable()
            await this.#records.finish(layout)
            now.complete = true
          }),
        discard: () =>
          this.#exclusively(root, async () => {
            const now = this.#roots.get(root)
            if (now?.open === partial && !now.complete) await this.#disk.discard(this.#disk.path(root))
          }),
        closed: () => {
          const now = this.#roots.get(root)
          if (now?.open === partial) now.open = undefined
        },
      }
      const partial = new FilePartial(
        { disk: this.#disk, grant, file, layout, presence, owner },
        { finished },
      )
      entry.open = partial
      this.#roots.set(root, entry)
      return partial
    } catch (error) {
      grant.release()
      await file?.close().catch(() => undefined)
      throw error
    }
  }

  /** Hashes what the file of an earlier fetch holds. */
  async #findShards(layout: Layout, presence: Presence): Promise<void> {
    const file = await this.#open(layout.root)
    if (file === undefined) return
    try {
      const { size, blocks } = await file.stat()
      if (blocks === 0 && size > 4096) return
      for (let shard = 0; shard < layout.count; shard++) {
        if (layout.offset(shard) >= size) break
        if ((await layout.readVerified(file, shard)) !== undefined) presence.add(shard)
      }
    } finally {
      await file.close()
    }
  }

  /** Looks for a shard in this root and in those that the records name. A copy that is not what it should be is no copy. */
  async #findCopy(
    layout: Layout,
    presence: Presence,
    hash: Uint8Array,
    length: number,
  ): Promise<Uint8Array | undefined> {
    for await (const location of this.#records.locations(hash)) {
      if (location.length !== length) continue
      const file = await this.#open(location.root).catch(() => undefined)
      if (file === undefined) {
        if (!this.#roots.has(location.root)) await this.#records.forgetLocation(hash, location.root)
        continue
      }
      try {
        const bytes = await readVerified(file, location.offset, length, hash)
        if (bytes !== undefined) return bytes
      } catch (error) {
        this.#log.warn(
          { root: location.root, error: String(error) },
          'a shard here could not be read for a copy',
        )
      } finally {
        await file.close()
      }
    }
    return this.#findTwin(layout, presence, hash)
  }

  /** The same shard at another place of the root being fetched: runs of zeros repeat. */
  async #findTwin(layout: Layout, presence: Presence, hash: Uint8Array): Promise<Uint8Array | undefined> {
    const twin = layout.twins(hash).find(shard => presence.has(shard))
    if (twin === undefined) return undefined
    const file = await this.#open(layout.root)
    try {
      return file === undefined ? undefined : await layout.readVerified(file, twin)
    } finally {
      await file?.close()
    }
  }

  async *read(
    root: CidText,
    offset: number,
    length: number,
    options: CallOptions = {},
  ): AsyncGenerator<Uint8Array, void, undefined> {
    const layout = await this.#require(root)
    checkRange(layout, offset, length)
    if (length === 0) return
    const file = await this.#open(root)
    try {
      const end = offset + length
      const last = layout.shardAt(end - 1)
      let shard = layout.shardAt(offset)
      let next = this.#served(layout, file, shard)
      for (; shard <= last; shard++) {
        const bytes = await next
        options.signal?.throwIfAborted()
        // The next shard is read while this one is used.
        if (shard < last) next = this.#served(layout, file, shard + 1)
        next.catch(() => undefined)
        const start = layout.offset(shard)
        yield bytes.subarray(Math.max(0, offset - start), Math.min(bytes.byteLength, end - start))
      }
      await next
    } finally {
      await file?.close()
    }
  }

  async #served(layout: Layout, file: OpenFile | undefined, shard: number): Promise<Uint8Array> {
    const bytes = file === undefined ? undefined : await this.#readShard(layout, file, shard)
    if (bytes !== undefined) return bytes
    const { root } = layout
    if (this.#roots.get(root)?.complete !== false) throw corrupt(root, shard)
    throw new CatalogError(
      'not-found',
      `Shard ${shard} of ${root} is not here yet. Fetch the rest, then try again.`,
      {
        root,
        shard,
      },
    )
  }

  async readShard(root: CidText, shard: number): Promise<Uint8Array | undefined> {
    const known = this.#roots.get(root)
    const layout = await this.#layout(root)
    if (known === undefined || layout === undefined || !(shard >= 0 && shard < layout.count)) return undefined
    if (!known.complete && known.presence?.has(shard) === false) return undefined
    const file = await this.#open(root)
    try {
      const bytes = file === undefined ? undefined : await this.#readShard(layout, file, shard)
      if (bytes === undefined && known.complete && this.#roots.has(root)) throw corrupt(root, shard)
      return bytes
    } finally {
      await file?.close()
    }
  }

  async #readShard(layout: Layout, file: OpenFile, shard: number): Promise<Uint8Array | undefined> {
    try {
      return await layout.readVerified(file, shard)
    } catch (error) {
      // A bad sector: the shard is lost like one that was altered.
      if ((error as NodeJS.ErrnoException).code === 'EIO') return undefined
      throw error
    }
  }

  async available(
    root: CidText,
  ): Promise<{ readonly complete: boolean; has(shard: number): boolean } | undefined> {
    const known = this.#roots.get(root)
    if (known === undefined) return undefined
    return {
      get complete() {
        return known.complete
      },
      has: shard => known.complete || known.presence?.has(shard) === true,
    }
  }

  remove(root: CidText): Promise<void> {
    return this.#exclusively(root, async () => {
      const known = this.#roots.get(root)
      if (known === undefined) return
      this.#disk.requireWritable()
      const layout = await this.#layout(root).catch(() => undefined)
      await known.open?.close()
      await this.#records.forget(root, layout)
      this.#roots.delete(root)
      this.#layouts.delete(root)
      // A file that stays behind has no record, and is swept at the next start.
      await this.#disk.discard(this.#disk.path(root))
    })
  }

  async *roots(): AsyncGenerator<{
    readonly root: CidText
    readonly complete: boolean
    readonly size: number
  }> {
    for (const [root, { complete, size }] of [...this.#roots]) yield { root, complete, size }
  }

  async usage(): Promise<ContentUsage> {
    let completeBytes = 0
    let partialBytes = 0
    for (const [root, { complete, size, presence }] of this.#roots)
      if (complete) completeBytes += size
      else partialBytes += presence?.bytes ?? (await this.#bytesOnDisk(root))
    return {
      completeBytes,
      partialBytes,
      contents: this.#roots.size,
      freeBytes: await this.#space.freeBytes(),
    }
  }

  async check(root: CidText, options: CallOptions = {}): Promise<number[]> {
    const layout = await this.#require(root)
    const known = this.#roots.get(root)
    const bad: number[] = []
    const file = await this.#open(root)
    try {
      for (let shard = 0; shard < layout.count; shard++) {
        options.signal?.throwIfAborted()
        if (known?.complete !== true && known?.presence?.has(shard) !== true) continue
        if (file === undefined || (await this.#readShard(layout, file, shard)) === undefined) bad.push(shard)
      }
    } finally {
      await file?.close()
    }
    return bad
  }

  #storedBytes(): number {
    let bytes = 0
    for (const { complete, size, presence } of this.#roots.values())
      bytes += complete ? size : (presence?.bytes ?? size)
    return bytes
  }

  async #bytesOnDisk(root: CidText): Promise<number> {
    const file = await this.#open(root)
    if (file === undefined) return 0
    try {
      const { size, blocks } = await file.stat()
      return Math.min(size, blocks * 512)
    } finally {
      await file.close()
    }
  }

  async #layout(root: CidText): Promise<Layout | undefined> {
    const cached = this.#layouts.get(root)
    if (cached !== undefined) return cached
    const bytes = await this.#records.indexBytes(root)
    if (bytes === undefined || !this.#roots.has(root)) return undefined
    const layout = new Layout(root, bytes)
    this.#layouts.set(root, layout)
    return layout
  }

  async #require(root: CidText): Promise<Layout> {
    const layout = await this.#layout(root)
    if (layout !== undefined) return layout
    throw new CatalogError('not-found', `The content ${root} is not here. Fetch it first.`, { root })
  }

  async #open(root: CidText): Promise<OpenFile | undefined> {
    try {
      return await this.#disk.fileSystem.open(this.#disk.path(root), 'r')
    } catch (error) {
      if (isMissing(error)) return undefined
      throw this.#disk.typed('opening a payload file', error)
    }
  }

  async #exclusively<T>(root: CidText, change: () => Promise<T>): Promise<T> {
    const before = this.#changes.get(root) ?? Promise.resolve()
    const result = before.then(change)
    const ended = result.then(
      () => undefined,
      () => undefined,
    )
    this.#changes.set(root, ended)
    try {
      return await result
    } finally {
      if (this.#changes.get(root) === ended) this.#changes.delete(root)
    }
  }
}

function checkRange({ root, size }: Layout, offset: number, length: number): void {
  const sound = Number.isSafeInteger(offset) && Number.isSafeInteger(length) && offset >= 0 && length >= 0
  if (sound && offset + length <= size) return
  throw new CatalogError(
    'invalid-range',
    `The range of ${length} bytes from ${offset} is outside the content ${root}, which has ${size} bytes.`,
    { root, size },
  )
}

const removed = (root: CidText) =>
  new CatalogError('not-found', `The content ${root} was removed while it was fetched.`, { root })

const corrupt = (root: CidText, shard: number) =>
  new CatalogError(
    'corrupt-content',
    `Shard ${shard} of ${root} is damaged on this disk. Fetch the content again to repair it, and check the disk.`,
    { root, shard },
  )
