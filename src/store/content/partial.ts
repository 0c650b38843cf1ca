// A root being fetched: each shard is verified, then written to its place in the payload file. What is here is known
// only from hashing the file, so nothing an interrupted process left has to be trusted.

import type { ContentIndex } from '../../assets/content-index.ts'
import type { PartialContent } from '../../assets/content-store.ts'
import { CatalogError } from '../../base/errors.ts'
import type { CallOptions } from '../../base/lifecycle.ts'
import { type OpenFile, writeFully } from '../file-system.ts'
import { BackgroundSync } from './background-sync.ts'
import type { Layout } from './layout.ts'
import type { PayloadDisk } from './payload-disk.ts'
import type { SpaceGrant } from './space.ts'

/** Which shards of a root are here; outlives the partial, for those who serve from it. */
export class Presence {
  readonly #here: Uint8Array
  readonly #layout: Layout
  #count = 0
  #bytes = 0

  constructor(layout: Layout) {
    this.#layout = layout
    this.#here = new Uint8Array(layout.count)
  }

  get bytes(): number {
    return this.#bytes
  }

  get all(): boolean {
    return this.#count === this.#here.length
  }

  has(shard: number): boolean {
    return this.#here[shard] === 1
  }

  missing(): number[] {
    const missing: number[] = []
    for (const [shard, here] of this.#here.entries()) if (here === 0) missing.push(shard)
    return missing
  }

  /** False when it was here already. */
  add(shard: number): boolean {
    if (this.#here[shard] !== 0) return false
    this.#here[shard] = 1
    this.#count += 1
    this.#bytes += this.#layout.length(shard)
    return true
  }

  clear(): void {
    this.#here.fill(0)
    this.#count = 0
    this.#bytes = 0
  }
}

/** What a partial asks of the store it belongs to. */
export interface PartialOwner {
  /** Which shards may have a copy; the others have none. */
  mayHaveCopies(): Promise<(shard: number) => boolean>
  /** A verified copy of this shard from another root, or from elsewhere in this one. */
  findCopy(hash: Uint8Array, length: number): Promise<Uint8Array | undefined>
  /** Records the root as complete; its payload is durable. Refused when the root was removed meanwhile. */
  finish(): Promise<void>
  /** Deletes the payload file, unless another has published the root meanwhile. */
  discard(): Promise<void>
  /** Told once nothing is written any more; the promise of space ends here. */
  closed(fileBytes: number): void
}

const copiesAtOnce = 4

export class FilePartial implements PartialContent {
  readonly #disk: PayloadDisk
  readonly #grant: SpaceGrant
  readonly #file: OpenFile
  readonly #layout: Layout
  readonly #presence: Presence
  readonly #owner: PartialOwner
  readonly #writes = new Set<Promise<void>>()
  #closing: Promise<void> | undefined
  #finished: boolean
  readonly #background: BackgroundSync

  constructor(
    parts: {
      readonly disk: PayloadDisk
      readonly grant: SpaceGrant
      readonly file: OpenFile
      readonly layout: Layout
      readonly presence: Presence
      readonly owner: PartialOwner
    },
    options: { readonly finished: boolean },
  ) {
    this.#disk = parts.disk
    this.#grant = parts.grant
    this.#file = parts.file
    this.#layout = parts.layout
    this.#presence = parts.presence
    this.#owner = parts.owner
    this.#finished = options.finished
    this.#background = new BackgroundSync(parts.disk, parts.file)
  }

  get index(): ContentIndex {
    return this.#layout.index
  }

  has(shard: number): boolean {
    return this.#presence.has(shard)
  }

  missing(): number[] {
    return this.#presence.missing()
  }

  async put(first: number, bytes: Uint8Array): Promise<void> {
    this.#requireOpen()
    const after = this.#verify(first, bytes)
    let missing = false
    for (let shard = first; shard < after; shard++) missing ||= !this.#presence.has(shard)
    if (missing) await this.#track(this.#write(first, after, bytes))
  }

  /** The number of the shard behind the last that the bytes hold. */
  #verify(first: number, bytes: Uint8Array): number {
    const { root, count } = this.#layout
    if (!Number.isInteger(first) || first < 0 || first >= count)
      throw new CatalogError('invalid-range', `${root} has no shard ${first}.`)
    let shard = first
    let at = 0
    do {
      const part = bytes.subarray(at, shard < count ? at + this.#layout.length(shard) : at)
      if (shard === count || !this.#layout.matches(shard, part))
        throw new CatalogError(
          'corrupt-content',
          `Shard ${shard} of ${root} does not have the hash and length that its index gives. Fetch it from another provider.`,
          { root, shard },
        )
      at += part.byteLength
      shard += 1
    } while (at < bytes.byteLength)
    return shard
  }

  #track(work: Promise<void>): Promise<void> {
    this.#writes.add(work)
    const forget = () => this.#writes.delete(work)
    work.then(forget, forget)
    return work
  }

  async #write(first: number, after: number, bytes: Uint8Array): Promise<void> {
    try {
      this.#disk.requireWritable()
      await writeFully(this.#file, bytes, this.#layout.offset(first))
    } catch (error) {
      throw this.#disk.typed('writing a payload file', error)
    }
    for (let shard = first; shard < after; shard++)
      if (this.#presence.add(shard)) this.#grant.spend(this.#layout.length(shard))
    const syncing = this.#background.wrote(bytes.byteLength)
    // A failure ends all writing to the disk; nobody waits for this one alone.
    if (syncing !== undefined) this.#track(syncing).catch(() => undefined)
  }

  async copyLocal(options: CallOptions = {}): Promise<number> {
    this.#requireOpen()
    let saved = 0
    if (this.#presence.all) return saved
    const waiting = this.missing()
      .filter(await this.#owner.mayHaveCopies())
      .values()
    const copy = async () => {
      for (const shard of waiting) {
        options.signal?.throwIfAborted()
        if (this.has(shard)) continue
        const bytes = await this.#owner.findCopy(this.#layout.hash(shard), this.#layout.length(shard))
        if (bytes === undefined) continue
        await this.put(shard, bytes)
        saved += bytes.byteLength
      }
    }
    await Promise.all(Array.from({ length: copiesAtOnce }, copy))
    return saved
  }

  async complete(): Promise<void> {
    if (this.#finished) return
    this.#requireOpen()
    await Promise.allSettled([...this.#writes])
    if (!this.#presence.all)
      throw new CatalogError('internal', `${this.#layout.root} cannot be completed: shards are missing.`, {
        missing: this.missing().length,
      })
    // Among the writes, so that closing waits for it.
    const durable = this.#disk.makeDurable(this.#file, this.#layout.root)
    this.#track(durable)
    try {
      await durable
    } catch (error) {
      // The bytes that a failed sync dropped may still be read from memory: only a new file can be trusted.
      this.#presence.clear()
      await this.#owner.discard()
      throw this.#disk.typed('syncing a payload file', error)
    }
    await this.#owner.finish()
    this.#finished = true
    await this.close()
  }

  /** Another has published the same root durably: there is nothing left to do, and its file is not ours. */
  supersede(): void {
    this.#finished = true
  }

  close(): Promise<void> {
    this.#closing ??= this.#close()
    return this.#closing
  }

  async #close(): Promise<void> {
    await Promise.allSettled([...this.#writes])
    const { size } = await this.#file.stat().catch(() => this.#layout)
    await this.#file.close().catch(() => undefined)
    // In one step: no byte is without somebody who counts it.
    this.#owner.closed(size)
    this.#grant.release()
  }

  #requireOpen(): void {
    if (this.#closing !== undefined)
      throw new CatalogError(
        'not-found',
        `The fetch of ${this.#layout.root} was closed, or its content removed.`,
        {
          root: this.#layout.root,
        },
      )
  }
}
