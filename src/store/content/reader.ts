// Reading what is here: ranges, single shards, and the check of a whole root. Every byte is hashed before it leaves.
import type { CheckOptions, ReadOptions } from '../../assets/content-store.ts'
import type { CidText } from '../../base/cid.ts'
import { CatalogError } from '../../base/errors.ts'
import { allocateOnce } from '../../base/external-memory.ts'
import { type ReadableFile, readFully } from '../file-system.ts'
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
    options: ReadOptions,
  ): AsyncGenerator<Uint8Array, void, undefined> {
    const layout = await this.#held.requireLayout(root)
    checkRange(layout, offset, length)
    if (length === 0) return
    const file = await this.#held.sharedFile(root)
    try {
      const end = offset + length
      const last = layout.shardAt(end - 1)
      let run = runFrom(layout, layout.shardAt(offset), last)
      let next = this.#served(layout, file, run, options)
      for (;;) {
        const { bytes, lost } = await next
        options.signal?.throwIfAborted()
        const { start, after } = run
        const more = lost === undefined && after <= last
        // The next shards are read while these are used.
        if (more) {
          run = runFrom(layout, after, last)
          next = this.#served(layout, file, run, options)
          next.catch(() => undefined)
        }
        const wanted = bytes.subarray(Math.max(0, offset - start), Math.max(0, end - start))
        if (wanted.byteLength > 0) yield wanted
        if (lost !== undefined) throw this.#missing(root, lost)
        if (!more) return
      }
    } finally {
      await file?.close()
    }
  }

  /** The run's bytes, or those before the first shard that is damaged or not here. */
  async #served(
    layout: Layout,
    file: ReadableFile | undefined,
    { first, after, start, end }: Run,
    { allocate = allocateOnce }: ReadOptions,
  ): Promise<{ readonly bytes: Uint8Array; readonly lost: number | undefined }> {
    if (file === undefined) return { bytes: new Uint8Array(0), lost: first }
    const bytes = allocate(end - start)
    const read = await readRun(layout, file, { first, after, start, end }, bytes)
    for (let shard = first; shard < after; shard++) {
      const [from, to] = [layout.offset(shard) - start, layout.offset(shard) + layout.length(shard) - start]
      if (to > read || !layout.matches(shard, bytes.subarray(from, to)))
        return { bytes: bytes.subarray(0, from), lost: shard }
    }
    return { bytes, lost: undefined }
  }

  #missing(root: CidText, shard: number): CatalogError {
    if (this.#held.get(root)?.complete === true) return corrupt(root, shard)
    return new CatalogError(
      'not-found',
      `Shard ${shard} of ${root} is not here yet. Fetch the rest, then try again.`,
      { root, shard },
    )
  }

  /** @throws CatalogError `corrupt-content` when a complete root has lost it */
  async readShard(root: CidText, shard: number): Promise<Uint8Array | undefined> {
    const known = this.#held.get(root)
    const layout = await this.#held.layout(root)
    if (known === undefined || layout === undefined || !(shard >= 0 && shard < layout.count)) return undefined
    if (!known.complete && known.presence?.has(shard) === false) return undefined
    const file = await this.#held.sharedFile(root)
    try {
      const bytes = file === undefined ? undefined : await readOrLost(layout, file, shard)
      if (bytes === undefined && known.complete && this.#held.has(root)) throw corrupt(root, shard)
      return bytes
    } finally {
      await file?.close()
    }
  }

  /** The shards that should be here and are damaged. */
  async check(root: CidText, options: CheckOptions): Promise<number[]> {
    const layout = await this.#held.requireLayout(root)
    const known = this.#held.get(root)
    const bad: number[] = []
    const file = await this.#held.openFile(root)
    try {
      for (let shard = 0; shard < layout.count; shard++) {
        options.signal?.throwIfAborted()
        if (known?.complete !== true && known?.presence?.has(shard) !== true) continue
        if (file === undefined || (await readOrLost(layout, file, shard)) === undefined) bad.push(shard)
        await options.onShard?.(layout.length(shard))
      }
    } finally {
      await file?.close()
    }
    return bad
  }
}

/** What is read and hashed at once: fewer, larger reads cost less, and no more than this waits in memory to be sent. */
const runBytes = 512 * 1024

/** Consecutive shards, and where they lie in the stream. */
interface Run {
  readonly first: number
  readonly after: number
  readonly start: number
  readonly end: number
}

/** As many shards from `first` up to `last` as make `runBytes`; at least one. */
function runFrom(layout: Layout, first: number, last: number): Run {
  const start = layout.offset(first)
  let after = first + 1
  let end = start + layout.length(first)
  while (after <= last && end - start + layout.length(after) <= runBytes) {
    end += layout.length(after)
    after += 1
  }
  return { first, after, start, end }
}

/** Fills `bytes`; resolves to how many there are before the end of the file, or before a shard with a bad sector. */
async function readRun(layout: Layout, file: ReadableFile, run: Run, bytes: Uint8Array): Promise<number> {
  try {
    return await readFully(file, bytes, run.start)
  } catch (error) {
    if (!isBadSector(error)) throw error
  }
  let done = 0
  for (let shard = run.first; shard < run.after; shard++) {
    const length = layout.length(shard)
    const part = bytes.subarray(done, done + length)
    const read = await readFully(file, part, run.start + done).catch(error => {
      if (isBadSector(error)) return 0
      throw error
    })
    if (read < length) return done
    done += length
  }
  return done
}

const isBadSector = (error: unknown) => (error as NodeJS.ErrnoException).code === 'EIO'

async function readOrLost(
  layout: Layout,
  file: ReadableFile,
  shard: number,
): Promise<Uint8Array | undefined> {
  try {
    return await layout.readVerified(file, shard)
  } catch (error) {
    // A bad sector: the shard is lost like one that was altered.
    if (isBadSector(error)) return undefined
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
