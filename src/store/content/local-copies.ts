// Shards of a root being fetched that need no peer: those an earlier fetch left, those of other roots, and repeats.
// A copy that is not what it should be is no copy.
import type { Log } from '../../base/log.ts'
import type { HeldRoots } from './held-roots.ts'
import { type Layout, readVerified } from './layout.ts'
import type { Presence } from './partial.ts'
import type { ContentRecords } from './records.ts'

export class LocalCopies {
  readonly #held: HeldRoots
  readonly #records: ContentRecords
  readonly #log: Log

  constructor(held: HeldRoots, records: ContentRecords, log: Log) {
    this.#held = held
    this.#records = records
    this.#log = log
  }

  /** Hashes what the file of an earlier fetch holds, and adds to `presence` what is sound. */
  async findShards(layout: Layout, presence: Presence): Promise<void> {
    const file = await this.#held.openFile(layout.root)
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

  /** Tells at once of most shards that they are nowhere here: of thousands, a question for each would be felt. */
  async mayHave(layout: Layout): Promise<(shard: number) => boolean> {
    const filter = await this.#records.filter()
    return shard => {
      const hash = layout.hash(shard)
      return filter.mayHave(hash) || layout.twins(hash).length > 1
    }
  }

  /** Looks for a shard in this root and in those that the records name. */
  async findCopy(
    layout: Layout,
    presence: Presence,
    hash: Uint8Array,
    length: number,
  ): Promise<Uint8Array | undefined> {
    for await (const location of this.#records.locations(hash)) {
      if (location.length !== length) continue
      const file = await this.#held.openFile(location.root).catch(() => undefined)
      if (file === undefined) {
        if (!this.#held.has(location.root)) await this.#records.forgetLocation(hash, location.root)
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
    const file = await this.#held.openFile(layout.root)
    try {
      return file === undefined ? undefined : await layout.readVerified(file, twin)
    } finally {
      await file?.close()
    }
  }
}
