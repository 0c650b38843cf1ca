// ContentStore on disk: payloads in files, one per root, under `content/`; what is known of them in a KeyValue
// (store/content/records.ts). A root exists once its record says so, and its record is written after its file,
// the file's name and the directory are durable. No byte is served whose shard does not hash to what its index says.
import type { ContentIndex } from '../assets/content-index.ts'
import type { ContentStore, ContentUsage, ContentWriter, PartialContent } from '../assets/content-store.ts'
import type { CidText } from '../base/cid.ts'
import { CatalogError } from '../base/errors.ts'
import type { KeyValue } from '../base/key-value.ts'
import type { CallOptions } from '../base/lifecycle.ts'
import type { Log } from '../base/log.ts'
import { type HeldRoot, HeldRoots } from './content/held-roots.ts'
import { Layout } from './content/layout.ts'
import { LocalCopies } from './content/local-copies.ts'
import { FilePartial, type PartialOwner, Presence } from './content/partial.ts'
import { PayloadDisk } from './content/payload-disk.ts'
import { ContentReader } from './content/reader.ts'
import { ContentRecords } from './content/records.ts'
import { SpaceBudget } from './content/space.ts'
import { FileWriter } from './content/writer.ts'
import type { FileSystem, OpenFile } from './file-system.ts'
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

export class FileContentStore implements ContentStore {
  readonly #log: Log
  readonly #records: ContentRecords
  readonly #disk: PayloadDisk
  readonly #space: SpaceBudget
  readonly #held: HeldRoots
  readonly #reader: ContentReader
  readonly #copies: LocalCopies
  /** The end of the last change of each root that is being changed: changes of one root happen one after another. */
  readonly #changes = new Map<CidText, Promise<void>>()

  constructor(deps: FileContentStoreDeps, options: FileContentStoreOptions) {
    const { directory, reserveBytes, maxBytes } = { ...defaultFileContentStoreOptions, ...options }
    const fileSystem = deps.fileSystem ?? nodeFileSystem
    this.#log = deps.log
    this.#records = new ContentRecords(deps.records)
    this.#disk = new PayloadDisk(fileSystem, directory)
    this.#held = new HeldRoots(this.#disk, this.#records)
    this.#reader = new ContentReader(this.#held)
    this.#copies = new LocalCopies(this.#held, this.#records, deps.log)
    this.#space = new SpaceBudget(fileSystem, () => this.#held.storedBytes, {
      directory,
      reserveBytes,
      maxBytes,
    })
  }

  async start(): Promise<void> {
    try {
      await this.#disk.start()
      await this.#held.load()
      const swept = await this.#disk.sweep(root => this.#held.has(root))
      if (swept > 0) this.#log.info({ swept }, 'deleted payload files that an interrupted run left')
    } catch (error) {
      throw this.#disk.typed('opening the store', error)
    }
  }

  async stop(): Promise<void> {
    await Promise.all([...this.#held.entries()].map(([, { open }]) => open?.close()))
    await Promise.all(this.#changes.values())
  }

  /** True once the disk has failed: reads go on, writes are refused until a restart. */
  get readOnly(): boolean {
    return this.#disk.readOnly
  }

  async state(root: CidText): Promise<'complete' | 'partial' | undefined> {
    const found = this.#held.get(root)
    return found === undefined ? undefined : found.complete ? 'complete' : 'partial'
  }

  async index(root: CidText): Promise<ContentIndex | undefined> {
    return (await this.#held.layout(root))?.index
  }

  async indexBytes(root: CidText): Promise<Uint8Array | undefined> {
    return (await this.#held.layout(root))?.indexBytes
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
      const open = this.#held.get(root)?.open
      this.#held.set(root, { complete: true, size, presence: undefined, open })
      // Only now may a fetch of the same root call itself complete.
      open?.supersede()
    })
  }

  openPartial(root: CidText, indexBytes: Uint8Array): Promise<PartialContent> {
    return this.#exclusively(root, async () => {
      if (this.#held.get(root)?.open !== undefined)
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
    const known = this.#held.get(root)
    const presence = new Presence(layout)
    if (known !== undefined) await this.#copies.findShards(layout, presence)
    const finished = known?.complete === true && presence.all
    const grant = await this.#space.promise(finished ? 0 : size - presence.bytes)
    let file: OpenFile | undefined
    try {
      if (known === undefined || (known.complete && !finished)) await this.#records.begin(layout)
      file = await this.#disk.openOrMake(root)
      const owner = this.#owner(layout, presence, () => partial)
      const partial = new FilePartial(
        { disk: this.#disk, grant, file, layout, presence, owner },
        { finished },
      )
      this.#held.set(root, { complete: finished, size, presence, open: partial })
      return partial
    } catch (error) {
      grant.release()
      await file?.close().catch(() => undefined)
      throw error
    }
  }

  /** What the partial may do to the root, as long as it is the one that is open. */
  #owner(layout: Layout, presence: Presence, partial: () => FilePartial): PartialOwner {
    const { root } = layout
    const mine = (): HeldRoot | undefined => {
      const now = this.#held.get(root)
      return now?.open === partial() ? now : undefined
    }
    return {
      findCopy: (hash, length) => this.#copies.findCopy(layout, presence, hash, length),
      finish: () =>
        this.#exclusively(root, async () => {
          const now = mine()
          if (now === undefined) throw removed(root)
          if (now.complete) return
          this.#disk.requireWritable()
          await this.#records.finish(layout)
          now.complete = true
        }),
      discard: () =>
        this.#exclusively(root, async () => {
          if (mine()?.complete === false) await this.#disk.discard(this.#disk.path(root))
        }),
      closed: () => {
        const now = mine()
        if (now !== undefined) now.open = undefined
      },
    }
  }

  read(
    root: CidText,
    offset: number,
    length: number,
    options: CallOptions = {},
  ): AsyncGenerator<Uint8Array, void, undefined> {
    return this.#reader.read(root, offset, length, options)
  }

  readShard(root: CidText, shard: number): Promise<Uint8Array | undefined> {
    return this.#reader.readShard(root, shard)
  }

  check(root: CidText, options: CallOptions = {}): Promise<number[]> {
    return this.#reader.check(root, options)
  }

  async available(
    root: CidText,
  ): Promise<{ readonly complete: boolean; has(shard: number): boolean } | undefined> {
    const known = this.#held.get(root)
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
      const known = this.#held.get(root)
      if (known === undefined) return
      this.#disk.requireWritable()
      const layout = await this.#held.layout(root).catch(() => undefined)
      await known.open?.close()
      await this.#records.forget(root, layout)
      this.#held.delete(root)
      // A file that stays behind has no record, and is swept at the next start.
      await this.#disk.discard(this.#disk.path(root))
    })
  }

  async *roots(): AsyncGenerator<{
    readonly root: CidText
    readonly complete: boolean
    readonly size: number
  }> {
    for (const [root, { complete, size }] of [...this.#held.entries()]) yield { root, complete, size }
  }

  async usage(): Promise<ContentUsage> {
    let completeBytes = 0
    let partialBytes = 0
    for (const [root, { complete, size, presence }] of this.#held.entries())
      if (complete) completeBytes += size
      else partialBytes += presence?.bytes ?? (await this.#held.bytesOnDisk(root))
    return {
      completeBytes,
      partialBytes,
      contents: this.#held.count,
      freeBytes: await this.#space.freeBytes(),
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

const removed = (root: CidText) =>
  new CatalogError('not-found', `The content ${root} was removed while it was fetched.`, { root })
