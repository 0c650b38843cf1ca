// ContentStore on disk: payloads in files, one per root, under `content/`; what is known of them in a KeyValue
// (store/content/records.ts). A root exists once its record says so, and its record is written after its file,
// the file's name and the directory are durable. No byte is served whose shard does not hash to what its index says.
import type { ContentIndex } from '../assets/content-index.ts'
import type {
  CheckOptions,
  ContentLease,
  ContentStore,
  ContentUsage,
  ContentWriter,
  Leftovers,
  PartialContent,
  ReadOptions,
  StoredContent,
} from '../assets/content-store.ts'
import type { CacheCounts } from '../base/cache.ts'
import type { CidText } from '../base/cid.ts'
import { CatalogError } from '../base/errors.ts'
import type { KeyValue } from '../base/key-value.ts'
import type { CallOptions } from '../base/lifecycle.ts'
import type { Log } from '../base/log.ts'
import { Changes } from './content/changes.ts'
import { chargeOf, type HeldRoot, HeldRoots } from './content/held-roots.ts'
import { LastUse } from './content/last-use.ts'
import { Layout } from './content/layout.ts'
import { LocalCopies } from './content/local-copies.ts'
import { FilePartial, type PartialOwner, Presence } from './content/partial.ts'
import { PayloadDisk } from './content/payload-disk.ts'
import { ContentReader } from './content/reader.ts'
import { ContentRecords } from './content/records.ts'
import { Removal } from './content/removal.ts'
import { type RoomReport, SpaceBudget } from './content/space.ts'
import { sweep } from './content/sweep.ts'
import { FileWriter } from './content/writer.ts'
import type { FileSystem, OpenFile } from './file-system.ts'
import { nodeFileSystem } from './node-file-system.ts'

export interface FileContentStoreOptions {
  /** Holds `content/` and `staging/`; made when missing. */
  readonly directory: string
  /** Bytes of the disk that payloads never take. */
  readonly reserveBytes?: number
  /** Bytes that the files of all payloads together may take, partial and staged ones among them. */
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
  /** Frees at least so many bytes where it may, by `removeIdle`. Absent: what does not fit is refused at once. */
  readonly makeRoom?: (bytes: number) => Promise<RoomReport>
}

export class FileContentStore implements ContentStore {
  readonly #log: Log
  readonly #records: ContentRecords
  readonly #disk: PayloadDisk
  readonly #space: SpaceBudget
  readonly #held: HeldRoots
  readonly #reader: ContentReader
  readonly #copies: LocalCopies
  readonly #uses: LastUse
  readonly #maxBytes: number
  readonly #changes = new Changes()
  readonly #removal: Removal

  constructor(deps: FileContentStoreDeps, options: FileContentStoreOptions) {
    const { directory, reserveBytes, maxBytes } = { ...defaultFileContentStoreOptions, ...options }
    const fileSystem = deps.fileSystem ?? nodeFileSystem
    this.#log = deps.log
    this.#maxBytes = maxBytes
    this.#records = new ContentRecords(deps.records)
    this.#uses = new LastUse(this.#records, deps.log)
    this.#disk = new PayloadDisk(fileSystem, directory)
    this.#held = new HeldRoots(this.#disk, this.#records)
    this.#removal = new Removal({
      disk: this.#disk,
      records: this.#records,
      held: this.#held,
      uses: this.#uses,
      changes: this.#changes,
    })
    this.#reader = new ContentReader(this.#held)
    this.#copies = new LocalCopies(this.#held, this.#records, deps.log)
    this.#space = new SpaceBudget(
      { fileSystem, storedBytes: () => this.#held.storedBytes, makeRoom: deps.makeRoom },
      { directory, reserveBytes, maxBytes },
    )
  }

  async start(): Promise<void> {
    try {
      await this.#disk.start()
      await this.#held.load()
      await this.#uses.load()
      for (const [root] of this.#held.entries()) this.#uses.assume(root)
      const swept = await this.#sweepFiles()
      if (swept > 0) this.#log.info({ swept }, 'deleted payload files that an interrupted run left')
    } catch (error) {
      throw this.#disk.typed('opening the store', error)
    }
  }

  async stop(): Promise<void> {
    await Promise.all([...this.#held.entries()].map(([, { open }]) => open?.close()))
    await this.#changes.ended()
    await this.#uses.save()
    this.#held.closeFiles()
  }

  async #sweepFiles(): Promise<number> {
    let swept = 0
    for await (const { path } of this.#disk.leftovers(root => this.#held.has(root))) {
      await this.#disk.fileSystem.unlink(path)
      swept += 1
    }
    return swept
  }

  /** Of the decoded content indexes in memory. */
  cacheCounts(): CacheCounts {
    return this.#held.cacheCounts()
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
      return new FileWriter(
        this.#disk,
        grant,
        path,
        file,
        (layout, staged) => this.#publish(layout, staged),
        () => this.#disk.unstage(path),
      )
    } catch (error) {
      grant.release()
      this.#disk.unstage(path)
      throw this.#disk.typed('making a payload file', error)
    }
  }

  /** The staged file, synced, becomes the root's. One that is here already is replaced by its equal, which also heals it. */
  #publish(layout: Layout, stagedPath: string): Promise<void> {
    const { root, size } = layout
    return this.#changes.run(root, async () => {
      await this.#disk.moveIn(stagedPath, root)
      await this.#records.finish(layout)
      const open = this.#held.get(root)?.open
      this.#held.set(root, { complete: true, size, fileBytes: size, presence: undefined, open })
      this.#uses.touch(root)
      // Only now may a fetch of the same root call itself complete.
      open?.supersede()
    })
  }

  openPartial(root: CidText, indexBytes: Uint8Array): Promise<PartialContent> {
    return this.#changes.run(root, async () => {
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
    const grant = await this.#space.promise(known === undefined ? size : Math.max(0, size - chargeOf(known)))
    let file: OpenFile | undefined
    try {
      if (known === undefined || (known.complete && !finished)) await this.#records.begin(layout)
      // The bytes outlived their index.
      else if (finished && !(await this.#hasIndex(root))) await this.#records.finish(layout)
      file = await this.#disk.openOrMake(root)
      const owner = this.#owner(layout, presence, () => partial)
      const partial = new FilePartial(
        { disk: this.#disk, grant, file, layout, presence, owner },
        { finished },
      )
      this.#held.set(root, { complete: finished, size, fileBytes: size, presence, open: partial })
      grant.settle(finished ? 0 : size - presence.bytes)
      this.#uses.touch(root)
      return partial
    } catch (error) {
      grant.release()
      await file?.close().catch(() => undefined)
      throw error
    }
  }

  async #hasIndex(root: CidText): Promise<boolean> {
    return (await this.#held.layout(root).catch(() => undefined)) !== undefined
  }

  /** What the partial may do to the root, as long as it is the one that is open. */
  #owner(layout: Layout, presence: Presence, partial: () => FilePartial): PartialOwner {
    const { root } = layout
    const mine = (): HeldRoot | undefined => {
      const now = this.#held.get(root)
      return now?.open === partial() ? now : undefined
    }
    return {
      mayHaveCopies: () => this.#copies.mayHave(layout),
      findCopy: (hash, length) => this.#copies.findCopy(layout, presence, hash, length),
      finish: () =>
        this.#changes.run(root, async () => {
          const now = mine()
          if (now === undefined) throw removed(root)
          if (now.complete) return
          this.#disk.requireWritable()
          await this.#records.finish(layout)
          now.complete = true
        }),
      discard: () =>
        this.#changes.run(root, async () => {
          if (mine()?.complete === false) await this.#disk.discard(this.#disk.path(root))
        }),
      closed: fileBytes => {
        const now = mine()
        if (now === undefined) return
        now.open = undefined
        now.fileBytes = fileBytes
      },
    }
  }

  read(
    root: CidText,
    offset: number,
    length: number,
    options: ReadOptions = {},
  ): AsyncGenerator<Uint8Array, void, undefined> {
    this.#used(root)
    return this.#reader.read(root, offset, length, options)
  }

  readShard(root: CidText, shard: number): Promise<Uint8Array | undefined> {
    this.#used(root)
    return this.#reader.readShard(root, shard)
  }

  #used(root: CidText): void {
    if (this.#held.has(root)) this.#uses.touch(root)
  }

  check(root: CidText, options: CheckOptions = {}): Promise<number[]> {
    return this.#reader.check(root, options)
  }

  sweep({ dryRun = false, signal }: CallOptions & { readonly dryRun?: boolean } = {}): Promise<Leftovers> {
    const isKnown = (root: CidText) => this.#held.has(root) || this.#changes.has(root)
    const ifUnknown = (root: CidText, work: () => Promise<void>) =>
      this.#changes.run(root, async () => {
        if (!this.#held.has(root)) await work()
      })
    return sweep({ disk: this.#disk, records: this.#records, isKnown, ifUnknown }, { signal, dryRun })
  }

  async available(
    root: CidText,
  ): Promise<{ readonly complete: boolean; has(shard: number): boolean } | undefined> {
    const known = this.#held.get(root)
    if (known === undefined) return undefined
    // Who serves asks here first, also where the bytes come from a memory in front of this store.
    this.#used(root)
    return {
      get complete() {
        return known.complete
      },
      has: shard => known.complete || known.presence?.has(shard) === true,
    }
  }

  lease(root: CidText, { isUse = true }: { readonly isUse?: boolean } = {}): ContentLease {
    if (isUse) this.#used(root)
    return this.#removal.lease(root)
  }

  remove(root: CidText): Promise<boolean> {
    return this.#removal.remove(root)
  }

  removeIdle(root: CidText, keep: () => boolean): Promise<boolean> {
    return this.#removal.removeIdle(root, keep)
  }

  async *roots(): AsyncGenerator<StoredContent> {
    for (const [root, held] of [...this.#held.entries()]) {
      const { complete, size, open } = held
      const storedBytes = open === undefined ? chargeOf(held) : size
      yield {
        root,
        complete,
        size,
        storedBytes,
        usedAt: this.#uses.at(root),
        inUse: this.#removal.isInUse(root),
      }
    }
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
      ...(this.#maxBytes === Number.MAX_SAFE_INTEGER ? {} : { quotaBytes: this.#maxBytes }),
    }
  }
}

const removed = (root: CidText) =>
  new CatalogError('not-found', `The content ${root} was removed while it was fetched.`, { root })
