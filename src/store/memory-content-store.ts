// ContentStore in memory: for tests of flows, and the executable definition of the port. No quota, no durability.
import { type ContentIndex, decodeContentIndex, encodeContentIndex } from '../assets/content-index.ts'
import type {
  CheckOptions,
  ContentLease,
  ContentStore,
  ContentUsage,
  ContentWriter,
  Leftovers,
  PartialContent,
  StoredContent,
} from '../assets/content-store.ts'
import { equalBytes } from '../base/cbor.ts'
import type { CidText } from '../base/cid.ts'
import { CatalogError } from '../base/errors.ts'
import { blake3 } from '../base/hash.ts'
import type { CallOptions } from '../base/lifecycle.ts'
import { Leases } from './content/leases.ts'

interface Content {
  readonly index: ContentIndex
  readonly indexBytes: Uint8Array
  readonly shards: (Uint8Array | undefined)[]
  complete: boolean
  open: boolean
}

export class MemoryContentStore implements ContentStore {
  readonly #contents = new Map<CidText, Content>()
  readonly #leases = new Leases()
  readonly #usedAt = new Map<CidText, number>()
  #latest = 0

  async state(root: CidText): Promise<'complete' | 'partial' | undefined> {
    const content = this.#contents.get(root)
    return content === undefined ? undefined : content.complete ? 'complete' : 'partial'
  }

  async index(root: CidText): Promise<ContentIndex | undefined> {
    return this.#contents.get(root)?.index
  }

  async indexBytes(root: CidText): Promise<Uint8Array | undefined> {
    return this.#contents.get(root)?.indexBytes
  }

  async createWriter(_expectedBytes: number): Promise<ContentWriter> {
    const shards: Uint8Array[] = []
    let closed = false
    const requireOpen = () => {
      if (closed) throw new CatalogError('internal', 'A closed content writer was used.')
    }
    return {
      append: async shard => {
        requireOpen()
        shards.push(shard.slice())
      },
      commit: async index => {
        requireOpen()
        const same =
          shards.length === index.shards.length &&
          shards.every((s, i) => s.byteLength === index.shards[i]?.length)
        if (!same) throw new CatalogError('internal', 'The content index does not describe what was written.')
        closed = true
        const { bytes, root } = encodeContentIndex(index)
        const open = this.#contents.get(root)?.open ?? false
        this.#contents.set(root, { index, indexBytes: bytes, shards, complete: true, open })
        this.#touch(root)
        return root
      },
      abort: async () => {
        closed = true
      },
    }
  }

  async openPartial(root: CidText, indexBytes: Uint8Array): Promise<PartialContent> {
    const index = decodeContentIndex(indexBytes, root)
    const content = this.#contents.get(root) ?? {
      index,
      indexBytes: indexBytes.slice(),
      shards: index.shards.map(() => undefined),
      complete: false,
      open: false,
    }
    if (content.open)
      throw new CatalogError('busy', `${root} is being fetched already. Wait for it, then try again.`, {
        root,
      })
    content.open = true
    this.#contents.set(root, content)
    this.#touch(root)
    return this.#partial(root, content)
  }

  #partial(root: CidText, opened: Content): PartialContent {
    const content = () => this.#contents.get(root)
    let closed = false
    const requireOpen = () => {
      const now = content()
      if (closed || now === undefined || !now.open)
        throw new CatalogError('not-found', `The fetch of ${root} was closed, or its content removed.`, {
          root,
        })
      return now
    }
    const missing = () =>
      [...(content() ?? opened).shards.entries()]
        .filter(([, bytes]) => bytes === undefined)
        .map(([shard]) => shard)
    const close = async () => {
      const now = content()
      if (!closed && now !== undefined) now.open = false
      closed = true
    }
    return {
      index: opened.index,
      has: shard => (content() ?? opened).shards[shard] !== undefined,
      missing,
      put: async (first, bytes) => {
        const now = requireOpen()
        if (now.index.shards[first] === undefined)
          throw new CatalogError('invalid-range', `${root} has no shard ${first}.`)
        const parts: Uint8Array[] = []
        let at = 0
        for (let shard = first; at < bytes.byteLength || shard === first; shard++) {
          const entry = now.index.shards[shard]
          const part = bytes.subarray(at, at + (entry?.length ?? 0))
          if (
            entry === undefined ||
            part.byteLength !== entry.length ||
            !equalBytes(blake3(part), entry.hash)
          )
            throw corrupt(root, shard)
          parts.push(part)
          at += part.byteLength
        }
        for (const [place, part] of parts.entries()) now.shards[first + place] ??= Uint8Array.from(part)
      },
      copyLocal: async () => {
        const now = requireOpen()
        let saved = 0
        for (const shard of missing()) {
          const bytes = this.#find(now.index.shards[shard]?.hash as Uint8Array)
          if (bytes === undefined) continue
          now.shards[shard] = bytes
          saved += bytes.byteLength
        }
        return saved
      },
      complete: async () => {
        if (content()?.complete === true) return close()
        const now = requireOpen()
        if (missing().length > 0)
          throw new CatalogError('internal', `${root} cannot be completed: shards are missing.`)
        now.complete = true
        await close()
      },
      close,
    }
  }

  #find(hash: Uint8Array): Uint8Array | undefined {
    for (const { index, shards } of this.#contents.values())
      for (const [shard, bytes] of shards.entries())
        if (bytes !== undefined && equalBytes(index.shards[shard]?.hash as Uint8Array, hash)) return bytes
    return undefined
  }

  async *read(
    root: CidText,
    offset: number,
    length: number,
    options: CallOptions = {},
  ): AsyncGenerator<Uint8Array, void, undefined> {
    const content = this.#require(root)
    this.#touch(root)
    const { size } = content.index
    const sound = Number.isSafeInteger(offset) && Number.isSafeInteger(length) && offset >= 0 && length >= 0
    if (!sound || offset + length > size)
      throw new CatalogError(
        'invalid-range',
        `The range is outside the content ${root}, which has ${size} bytes.`,
        {
          root,
          size,
        },
      )
    let start = 0
    for (const [shard, entry] of content.index.shards.entries()) {
      const end = start + entry.length
      if (end > offset && start < offset + length) {
        options.signal?.throwIfAborted()
        const bytes = await this.readShard(root, shard)
        if (bytes === undefined)
          throw new CatalogError('not-found', `Shard ${shard} of ${root} is not here yet.`, { root, shard })
        yield bytes.subarray(Math.max(0, offset - start), Math.min(entry.length, offset + length - start))
      }
      start = end
    }
  }

  async readShard(root: CidText, shard: number): Promise<Uint8Array | undefined> {
    const content = this.#contents.get(root)
    const bytes = content?.shards[shard]
    if (content === undefined || bytes === undefined) return undefined
    if (!equalBytes(blake3(bytes), content.index.shards[shard]?.hash as Uint8Array))
      throw corrupt(root, shard)
    return bytes.slice()
  }

  async available(
    root: CidText,
  ): Promise<{ readonly complete: boolean; has(shard: number): boolean } | undefined> {
    const content = this.#contents.get(root)
    if (content === undefined) return undefined
    return { complete: content.complete, has: shard => content.shards[shard] !== undefined }
  }

  lease(root: CidText, { isUse = true }: { readonly isUse?: boolean } = {}): ContentLease {
    if (isUse) this.#touch(root)
    return this.#leases.take(root)
  }

  async remove(root: CidText): Promise<boolean> {
    if (!this.#contents.has(root)) return true
    return !this.#leases.has(root) && this.#contents.delete(root)
  }

  async removeIdle(root: CidText, keep: () => boolean): Promise<boolean> {
    if (this.#leases.has(root) || this.#contents.get(root)?.open === true || keep()) return false
    return this.remove(root)
  }

  async sweep(): Promise<Leftovers> {
    return { files: 0, fileBytes: 0, hints: 0 }
  }

  #touch(root: CidText): void {
    this.#latest = Math.max(Date.now(), this.#latest + 0.001)
    this.#usedAt.set(root, this.#latest)
  }

  async *roots(): AsyncGenerator<StoredContent> {
    for (const [root, { complete, index, shards, open }] of [...this.#contents]) {
      const storedBytes = shards.reduce((sum, shard) => sum + (shard?.byteLength ?? 0), 0)
      const inUse = open || this.#leases.has(root)
      yield { root, complete, size: index.size, storedBytes, usedAt: this.#usedAt.get(root) ?? 0, inUse }
    }
  }

  async usage(): Promise<ContentUsage> {
    let completeBytes = 0
    let partialBytes = 0
    for (const { complete, shards } of this.#contents.values()) {
      const bytes = shards.reduce((sum, shard) => sum + (shard?.byteLength ?? 0), 0)
      if (complete) completeBytes += bytes
      else partialBytes += bytes
    }
    return { completeBytes, partialBytes, contents: this.#contents.size, freeBytes: Number.MAX_SAFE_INTEGER }
  }

  async check(root: CidText, options: CheckOptions = {}): Promise<number[]> {
    const { index, shards } = this.#require(root)
    options.signal?.throwIfAborted()
    await options.onShard?.(index.size)
    return [...shards.entries()]
      .filter(
        ([shard, bytes]) =>
          bytes !== undefined && !equalBytes(blake3(bytes), index.shards[shard]?.hash as Uint8Array),
      )
      .map(([shard]) => shard)
  }

  #require(root: CidText): Content {
    const content = this.#contents.get(root)
    if (content === undefined)
      throw new CatalogError('not-found', `The content ${root} is not here. Fetch it first.`, { root })
    return content
  }
}

const corrupt = (root: CidText, shard: number) =>
  new CatalogError('corrupt-content', `Shard ${shard} of ${root} does not have the hash its index gives.`, {
    root,
    shard,
  })
