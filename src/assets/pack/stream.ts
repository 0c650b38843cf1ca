// The files of a package as one stream in blocks: small files are read whole, several at once, ahead of their turn, and
// copied behind each other; large ones are read straight into the blocks.
import { blake3, sha256 } from '../../base/hash.ts'
import type { SourceFile } from '../package-tree.ts'
import type { Block, Blocks } from './blocks.ts'
import type { Digests } from './digests.ts'
import { OpenedFile, readWhole } from './source-file.ts'

/** Files up to this size are read whole, ahead of their turn: 4 MiB at once at most. */
const smallFileBytes = 128 * 1024
const filesAhead = 32

/** A piece of the stream. Whoever gets it owns one hold of its block. */
export interface Slice {
  readonly block: Block
  readonly bytes: Uint8Array
  /** Whether the bytes are of one large file, whose digests are still to be made, and if so whether they end it. */
  readonly large: 'goes on' | 'ends' | undefined
}

export class PackageStream {
  readonly #files: readonly SourceFile[]
  readonly #blocks: Blocks
  readonly #small: (digests: Digests) => void
  readonly #ahead: (Promise<Uint8Array> | undefined)[] = []
  #started = 0
  #block: Block | undefined
  /** The current block holds a part of the stream before `from` that was given away, and one up to `to` that was not. */
  #from = 0
  #to = 0

  /** `small` is told the digests of each small file, in order. */
  constructor(files: readonly SourceFile[], blocks: Blocks, small: (digests: Digests) => void) {
    this.#files = files
    this.#blocks = blocks
    this.#small = small
  }

  async *slices(): AsyncGenerator<Slice, void, undefined> {
    try {
      for (const [turn, file] of this.#files.entries()) {
        this.#readAhead(turn)
        const ready = this.#ahead.shift()
        if (ready !== undefined) yield* this.#takeIn(await ready)
        else {
          if (this.#to > this.#from) yield this.#slice(undefined)
          yield* this.#readLarge(file)
        }
      }
      if (this.#to > this.#from) yield this.#slice(undefined)
    } finally {
      this.#block?.release()
      await Promise.allSettled(this.#ahead)
    }
  }

  async *#takeIn(bytes: Uint8Array): AsyncGenerator<Slice, void, undefined> {
    this.#small({ blake3: blake3(bytes), sha256: sha256(bytes) })
    for (let done = 0; done < bytes.byteLength; ) {
      const room = await this.#room(bytes.byteLength - done)
      room.set(bytes.subarray(done, done + room.byteLength))
      done += room.byteLength
      if (this.#to === this.#block?.bytes.byteLength) yield this.#slice(undefined)
    }
  }

  async *#readLarge(file: SourceFile): AsyncGenerator<Slice, void, undefined> {
    const opened = await OpenedFile.open(file)
    try {
      for (let done = 0; done < file.size; ) {
        const room = await this.#room(file.size - done)
        await opened.fill(room, done)
        done += room.byteLength
        // Known to be whole before anyone is told that it ends.
        if (done === file.size) await opened.requireUnchanged()
        yield this.#slice(done === file.size ? 'ends' : 'goes on')
      }
    } finally {
      await opened.close()
    }
  }

  /** Where up to `wanted` more bytes of the stream go. */
  async #room(wanted: number): Promise<Uint8Array> {
    if (this.#block?.bytes.byteLength === this.#to) {
      this.#block.release()
      this.#block = undefined
    }
    if (this.#block === undefined) {
      this.#block = await this.#blocks.take()
      this.#from = 0
      this.#to = 0
    }
    const start = this.#to
    this.#to = Math.min(this.#block.bytes.byteLength, start + wanted)
    return this.#block.bytes.subarray(start, this.#to)
  }

  #slice(large: Slice['large']): Slice {
    const block = this.#block as Block
    block.hold()
    const bytes = block.bytes.subarray(this.#from, this.#to)
    this.#from = this.#to
    return { block, bytes, large }
  }

  #readAhead(turn: number): void {
    for (; this.#started < Math.min(this.#files.length, turn + 1 + filesAhead); this.#started++) {
      const file = this.#files[this.#started] as SourceFile
      const reading = isSmall(file) ? readWhole(file) : undefined
      // Its turn may never come; then nobody asks.
      reading?.catch(() => undefined)
      this.#ahead.push(reading)
    }
  }
}

export const isSmall = (file: SourceFile) => file.source.kind === 'inline' || file.size <= smallFileBytes
