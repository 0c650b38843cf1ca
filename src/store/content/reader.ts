// Reading what is here: ranges, single shards, and the check of a whole root. Every byte is hashed before it leaves.
import type { CidText } from '../../base/cid.ts'
import { CatalogError } from '../../base/errors.ts'
import type { CallOptions } from '../../base/lifecycle.ts'
import type { OpenFile } from '../file-system.ts'
import type { HeldRoots } from './held-roots.ts'
import type { Layout } from './layout.ts'

export class ContentReader {
  readonly #held: HeldRoots

  constructor(held: HeldRoots) {
    this.#held = held
  }

  async *read(
    root: CidText,
    offset: number,
    length: number,
    options: CallOptions,
  ): AsyncGenerator<Uint8Array, void, undefined> {
    const layout = await this.#held.requireLayout(root)
    checkRange(layout, offset, length)
    if (length === 0) return
    const file = await this.#held.openFile(root)
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
    const bytes = file === undefined ? undefined : await readOrLost(layout, file, shard)
    if (bytes !== undefined) return bytes
    const { root } = layout
    if (this.#held.get(root)?.complete !== false) throw corrupt(root, shard)
    throw new CatalogError(
      'not-found',
      `Shard ${shard} of ${root} is not here yet. Fetch the rest, then try again.`,
      {
        root,
        shard,
      },
    )
  }

  /** @throws CatalogError `corrupt-content` when a complete root has lost it */
  async readShard(root: CidText, shard: number): Promise<Uint8Array | undefined> {
    const known = this.#held.get(root)
    const layout = await this.#held.layout(root)
    if (known === undefined || layout === undefined || !(shard >= 0 && shard < layout.count)) return undefined
    if (!known.complete && known.presence?.has(shard) === false) return undefined
    const file = await this.#held.openFile(root)
    try {
      const bytes = file === undefined ? undefined : await readOrLost(layout, file, shard)
      if (bytes === undefined && known.complete && this.#held.has(root)) throw corrupt(root, shard)
      return bytes
    } finally {
      await file?.close()
    }
  }

  /** The shards that should be here and are damaged. */
  async check(root: CidText, options: CallOptions): Promise<number[]> {
    const layout = await this.#held.requireLayout(root)
    const known = this.#held.get(root)
    const bad: number[] = []
    const file = await this.#held.openFile(root)
    try {
      for (let shard = 0; shard < layout.count; shard++) {
        options.signal?.throwIfAborted()
        if (known?.complete !== true && known?.presence?.has(shard) !== true) continue
        if (file === undefined || (await readOrLost(layout, file, shard)) === undefined) bad.push(shard)
      }
    } finally {
      await file?.close()
    }
    return bad
  }
}

async function readOrLost(layout: Layout, file: OpenFile, shard: number): Promise<Uint8Array | undefined> {
  try {
    return await layout.readVerified(file, shard)
  } catch (error) {
    // A bad sector: the shard is lost like one that was altered.
    if ((error as NodeJS.ErrnoException).code === 'EIO') return undefined
    throw error
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

const corrupt = (root: CidText, shard: number) =>
  new CatalogError(
    'corrupt-content',
    `Shard ${shard} of ${root} is damaged on this disk. Fetch the content again to repair it, and check the disk.`,
    { root, shard },
  )
