// A content being published: shards go to a staged file as they come, several writes under way at once; `commit`
// makes it durable in the order file, name, record. A failed write or sync fails the writer for good.
import { type ContentIndex, encodeContentIndex } from '../../assets/content-index.ts'
import type { ContentWriter } from '../../assets/content-store.ts'
import type { CidText } from '../../base/cid.ts'
import { CatalogError } from '../../base/errors.ts'
import { type OpenFile, writeFully } from '../file-system.ts'
import { BackgroundSync } from './background-sync.ts'
import { Layout } from './layout.ts'
import type { PayloadDisk } from './payload-disk.ts'
import type { SpaceGrant } from './space.ts'

/** Space is asked for in such steps, where they are free, when the size was not known before. */
const growthBytes = 16 * 1024 * 1024

export class FileWriter implements ContentWriter {
  readonly #disk: PayloadDisk
  readonly #grant: SpaceGrant
  readonly #record: (layout: Layout, stagedPath: string) => Promise<void>
  readonly #ended: () => void
  readonly #path: string
  readonly #file: OpenFile
  readonly #background: BackgroundSync
  readonly #lengths: number[] = []
  readonly #writes = new Set<Promise<void>>()
  #offset = 0
  #syncing: Promise<void> | undefined
  #growing: Promise<void> | undefined
  #failure: unknown
  #closed = false

  constructor(
    disk: PayloadDisk,
    grant: SpaceGrant,
    path: string,
    file: OpenFile,
    record: (layout: Layout, stagedPath: string) => Promise<void>,
    ended: () => void,
  ) {
    this.#disk = disk
    this.#grant = grant
    this.#path = path
    this.#file = file
    this.#background = new BackgroundSync(disk, file)
    this.#record = record
    this.#ended = ended
  }

  /** Shards keep the order of the calls. The bytes must not change until this resolves; several calls may be under way. */
  append(shard: Uint8Array): Promise<void> {
    if (this.#closed)
      return Promise.reject(new CatalogError('internal', 'A closed content writer was written to.'))
    const offset = this.#offset
    this.#offset += shard.byteLength
    this.#lengths.push(shard.byteLength)
    const write = this.#write(shard, offset)
    this.#writes.add(write)
    const forget = () => this.#writes.delete(write)
    write.then(forget, forget)
    return write
  }

  async #write(shard: Uint8Array, offset: number): Promise<void> {
    try {
      this.#requireSound()
      while (!this.#grant.stage(shard.byteLength)) await this.#grow(shard.byteLength)
      await writeFully(this.#file, shard, offset)
      this.#syncInBackground(shard.byteLength)
    } catch (error) {
      throw this.#fail('writing a payload file', error)
    }
  }

  /** One at a time: who waited looks again at what is left. */
  #grow(bytes: number): Promise<void> {
    this.#growing ??= this.#grant.grow(bytes - this.#grant.left, Math.max(bytes, growthBytes)).finally(() => {
      this.#growing = undefined
    })
    return this.#growing
  }

  #syncInBackground(written: number): void {
    this.#syncing =
      this.#background.wrote(written)?.catch(error => {
        this.#fail('syncing a payload file', error)
      }) ?? this.#syncing
  }

  async commit(index: ContentIndex): Promise<CidText> {
    await Promise.allSettled([...this.#writes])
    await this.#syncing
    this.#requireSound()
    if (this.#closed) throw new CatalogError('internal', 'A closed content writer was committed.')
    this.#checkWritten(index)
    const { bytes, root } = encodeContentIndex(index)
    try {
      await this.#disk.sync(this.#file)
      await this.#close()
      await this.#record(new Layout(root, bytes), this.#path)
    } catch (error) {
      throw this.#fail('publishing a payload file', error)
    }
    this.#grant.release()
    return root
  }

  async abort(): Promise<void> {
    await Promise.allSettled([...this.#writes])
    await this.#syncing
    if (!this.#closed) await this.#close().catch(() => undefined)
    // After a commit nothing has this name any more. The space is free once the file is gone.
    await this.#disk.discard(this.#path)
    this.#grant.release()
    this.#ended()
  }

  async #close(): Promise<void> {
    this.#closed = true
    await this.#file.close()
  }

  #checkWritten({ shards }: ContentIndex): void {
    const same =
      shards.length === this.#lengths.length && shards.every(({ length }, i) => length === this.#lengths[i])
    if (!same) throw new CatalogError('internal', 'The content index does not describe what was written.')
  }

  #requireSound(): void {
    if (this.#failure !== undefined) throw this.#failure
    this.#disk.requireWritable()
  }

  #fail(attempted: string, error: unknown): unknown {
    this.#failure ??= this.#disk.typed(attempted, error)
    return this.#failure
  }
}
