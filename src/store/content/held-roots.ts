// The roots that are here, whole or in part, as memory knows them, and the way from a root to its index and its file.
// Changes nothing on disk: the store does, and says so here once it is durable.
import { Cache, type CacheCounts } from '../../base/cache.ts'
import type { CidText } from '../../base/cid.ts'
import { CatalogError } from '../../base/errors.ts'
import { isMissing, type OpenFile } from '../file-system.ts'
import { Layout } from './layout.ts'
import type { FilePartial, Presence } from './partial.ts'
import type { PayloadDisk } from './payload-disk.ts'
import type { ContentRecords } from './records.ts'
import { SharedFiles } from './shared-files.ts'

/** Memory for decoded indexes. One that is larger than all of this (over 60,000 files) is kept beside it, until the next such one. */
const layoutCacheBytes = 64 * 1024 * 1024
/** A decoded index takes six to ten times the bytes of its encoded form: an object for each file and shard, and their digests. */
const decodedFactor = 11
const bytesOfLayout = ({ indexBytes }: Layout) => decodedFactor * indexBytes.byteLength

export interface HeldRoot {
  complete: boolean
  readonly size: number
  /** Length of the file of a partial root that nobody has open: it may have holes. */
  fileBytes: number
  /** Which shards of a partial root are known to be here. */
  readonly presence: Presence | undefined
  open: FilePartial | undefined
}

export class HeldRoots {
  readonly #disk: PayloadDisk
  readonly #records: ContentRecords
  readonly #roots = new Map<CidText, HeldRoot>()
  /** Being removed: nobody finds them any more, and their files are still there. */
  #leavingBytes = 0
  readonly #layouts = new Cache<Layout>({ bytesOf: bytesOfLayout }, { maxBytes: layoutCacheBytes })
  #largeLayout: Layout | undefined

  readonly #decoding = new Map<CidText, Promise<Layout | undefined>>()
  readonly #files = new SharedFiles(root => this.openFile(root))

  constructor(disk: PayloadDisk, records: ContentRecords) {
    this.#disk = disk
    this.#records = records
  }

  async load(): Promise<void> {
    this.#roots.clear()
    for await (const { root, complete, size } of this.#records.list())
      this.#roots.set(root, { complete, size, fileBytes: size, presence: undefined, open: undefined })
    for (const [root, held] of this.#roots)
      if (!held.complete) held.fileBytes = await this.#fileLength(root).catch(() => held.size)
  }

  async #fileLength(root: CidText): Promise<number> {
    const file = await this.openFile(root)
    try {
      return (await file?.stat())?.size ?? 0
    } finally {
      await file?.close()
    }
  }

  /** Of the decoded indexes in memory. */
  cacheCounts(): CacheCounts {
    return this.#layouts.counts()
  }

  get count(): number {
    return this.#roots.size
  }

  has(root: CidText): boolean {
    return this.#roots.has(root)
  }

  get(root: CidText): HeldRoot | undefined {
    return this.#roots.get(root)
  }

  set(root: CidText, held: HeldRoot): void {
    // Its file may be another one now.
    this.#files.drop(root)
    this.#roots.set(root, held)
  }

  /** Nobody finds it from now on; its bytes count until `left` is called, once its file is gone. */
  leave(root: CidText): { readonly left: () => void } {
    const held = this.#roots.get(root)
    // What an open fetch was promised ends with it, and its file may be as long as that.
    const bytes = held === undefined ? 0 : held.open === undefined ? chargeOf(held) : held.size
    this.#roots.delete(root)
    this.#layouts.delete(root)
    if (this.#largeLayout?.root === root) this.#largeLayout = undefined
    this.#files.drop(root)
    this.#leavingBytes += bytes
    return {
      left: () => {
        this.#leavingBytes -= bytes
      },
    }
  }

  entries(): MapIterator<[CidText, HeldRoot]> {
    return this.#roots.entries()
  }

  /** Bytes that the files of payloads take, less what open fetches were promised and have not written. */
  get storedBytes(): number {
    let bytes = this.#leavingBytes
    for (const held of this.#roots.values()) bytes += chargeOf(held)
    return bytes
  }

  async bytesOnDisk(root: CidText): Promise<number> {
    const file = await this.openFile(root)
    if (file === undefined) return 0
    try {
      const { size, blocks } = await file.stat()
      return Math.min(size, blocks * 512)
    } finally {
      await file.close()
    }
  }

  /** One decoding serves all who ask meanwhile: a large index takes hundreds of milliseconds. */
  async layout(root: CidText): Promise<Layout | undefined> {
    const cached = this.#largeLayout?.root === root ? this.#largeLayout : this.#layouts.get(root)
    if (cached !== undefined) return cached
    let decoding = this.#decoding.get(root)
    if (decoding === undefined) {
      decoding = this.#decode(root).finally(() => this.#decoding.delete(root))
      this.#decoding.set(root, decoding)
    }
    return decoding
  }

  async #decode(root: CidText): Promise<Layout | undefined> {
    const bytes = await this.#records.indexBytes(root)
    if (bytes === undefined || !this.#roots.has(root)) return undefined
    const layout = new Layout(root, bytes)
    if (bytesOfLayout(layout) > layoutCacheBytes) this.#largeLayout = layout
    else this.#layouts.set(root, layout)
    return layout
  }

  /** @throws CatalogError `not-found` */
  async requireLayout(root: CidText): Promise<Layout> {
    const layout = await this.layout(root)
    if (layout !== undefined) return layout
    throw new CatalogError('not-found', `The content ${root} is not here. Fetch it first.`, { root })
  }

  /** The same for readers that come often: `close` gives it back, and it may stay open for the next. */
  sharedFile(root: CidText): Promise<Pick<OpenFile, 'read' | 'close'> | undefined> {
    return this.#files.acquire(root)
  }

  closeFiles(): void {
    this.#files.dropAll()
  }

  /** For reading; undefined when there is no such file. */
  async openFile(root: CidText): Promise<OpenFile | undefined> {
    try {
      return await this.#disk.fileSystem.open(this.#disk.path(root), 'r')
    } catch (error) {
      if (isMissing(error)) return undefined
      throw this.#disk.typed('opening a payload file', error)
    }
  }
}

/** What a root takes of the quota, beside the promise that an open fetch of it holds. */
export const chargeOf = ({ complete, size, fileBytes, presence, open }: HeldRoot): number =>
  complete ? size : open === undefined ? fileBytes : (presence?.bytes ?? 0)
