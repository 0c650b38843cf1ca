// The roots that are here, whole or in part, as memory knows them, and the way from a root to its index and its file.
// Changes nothing on disk: the store does, and says so here once it is durable.
import { LRUCache } from 'lru-cache'
import type { CidText } from '../../base/cid.ts'
import { CatalogError } from '../../base/errors.ts'
import { isMissing, type OpenFile } from '../file-system.ts'
import { Layout } from './layout.ts'
import type { FilePartial, Presence } from './partial.ts'
import type { PayloadDisk } from './payload-disk.ts'
import type { ContentRecords } from './records.ts'

/** Memory for decoded indexes, in bytes of their encoded form. */
const layoutCacheBytes = 64 * 1024 * 1024

export interface HeldRoot {
  complete: boolean
  readonly size: number
  /** Which shards of a partial root are known to be here. */
  readonly presence: Presence | undefined
  open: FilePartial | undefined
}

export class HeldRoots {
  readonly #disk: PayloadDisk
  readonly #records: ContentRecords
  readonly #roots = new Map<CidText, HeldRoot>()
  readonly #layouts = new LRUCache<CidText, Layout>({
    maxSize: layoutCacheBytes,
    sizeCalculation: layout => layout.indexBytes.byteLength,
  })

  constructor(disk: PayloadDisk, records: ContentRecords) {
    this.#disk = disk
    this.#records = records
  }

  async load(): Promise<void> {
    this.#roots.clear()
    for await (const { root, complete, size } of this.#records.list())
      this.#roots.set(root, { complete, size, presence: undefined, open: undefined })
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
    this.#roots.set(root, held)
  }

  delete(root: CidText): void {
    this.#roots.delete(root)
    this.#layouts.delete(root)
  }

  entries(): MapIterator<[CidText, HeldRoot]> {
    return this.#roots.entries()
  }

  /** Bytes that the payloads take; the whole of a partial root until its shards are counted. */
  get storedBytes(): number {
    let bytes = 0
    for (const { complete, size, presence } of this.#roots.values())
      bytes += complete ? size : (presence?.bytes ?? size)
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

  async layout(root: CidText): Promise<Layout | undefined> {
    const cached = this.#layouts.get(root)
    if (cached !== undefined) return cached
    const bytes = await this.#records.indexBytes(root)
    if (bytes === undefined || !this.#roots.has(root)) return undefined
    const layout = new Layout(root, bytes)
    this.#layouts.set(root, layout)
    return layout
  }

  /** @throws CatalogError `not-found` */
  async requireLayout(root: CidText): Promise<Layout> {
    const layout = await this.layout(root)
    if (layout !== undefined) return layout
    throw new CatalogError('not-found', `The content ${root} is not here. Fetch it first.`, { root })
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
