// Cuts the stream, hashes the shards and hands them to the writer; lets a few writes be under way at once.
import { blake3 } from '../../base/hash.ts'
import type { ShardEntry } from '../content-index.ts'
import type { ContentWriter } from '../content-store.ts'
import { type CutFile, Cutter, shardSizes } from '../cutter.ts'
import type { Block } from './blocks.ts'
import type { Slice } from './stream.ts'

/** Shards handed to the writer whose writes have not ended. */
const maxWritingBytes = 4 * 1024 * 1024

export class ShardSink {
  readonly #writer: ContentWriter
  readonly #cutter: Cutter
  readonly #shards: ShardEntry[] = []
  readonly #writing = new Set<Promise<void>>()
  /** Buffers of shards that lay across blocks and are written: left to the garbage collector they would pile up. */
  readonly #spare: ArrayBuffer[] = []
  #writingBytes = 0
  #failure: unknown

  constructor(writer: ContentWriter, files: readonly CutFile[]) {
    this.#writer = writer
    this.#cutter = new Cutter(
      files,
      bytes => new Uint8Array(this.#spare.pop() ?? new ArrayBuffer(shardSizes.maxBytes), 0, bytes),
    )
  }

  async push({ block, bytes }: Slice): Promise<void> {
    for (const shard of this.#cutter.push(bytes)) {
      this.#add(shard, shard.buffer === bytes.buffer ? block : undefined)
      while (this.#writingBytes > maxWritingBytes) await Promise.race(this.#writing)
      if (this.#failure !== undefined) throw this.#failure
    }
  }

  async end(): Promise<readonly ShardEntry[]> {
    await this.settle()
    if (this.#failure !== undefined) throw this.#failure
    return this.#shards
  }

  async settle(): Promise<void> {
    await Promise.all(this.#writing)
  }

  #add(shard: Uint8Array, block: Block | undefined): void {
    this.#shards.push({ hash: blake3(shard), length: shard.byteLength })
    this.#writingBytes += shard.byteLength
    block?.hold()
    const write = this.#writer
      .append(shard)
      .catch(error => {
        this.#failure ??= error
      })
      .finally(() => {
        if (block === undefined) this.#spare.push(shard.buffer as ArrayBuffer)
        else block.release()
        this.#writing.delete(write)
        this.#writingBytes -= shard.byteLength
      })
    this.#writing.add(write)
  }
}
