// The memory that a pack works in: a few blocks, used again and again. A block is free when nobody holds it any more,
// neither a hash that is still running nor a write; whoever wants one waits until then. That bounds what is in memory,
// and lets reading, hashing and writing run at once without copying between them.

export const blockSizes = { blockBytes: 1024 * 1024, blocks: 8 } as const

export class Blocks {
  readonly memory: ArrayBuffer | SharedArrayBuffer
  readonly #free: Block[] = []
  readonly #waiting: ((block: Block) => void)[] = []

  /** Room for `totalBytes`, if that is less than all blocks. Shared memory can be hashed by another thread. */
  constructor(totalBytes: number, shared: boolean) {
    const { blockBytes, blocks } = blockSizes
    const size = Math.min(totalBytes, blocks * blockBytes)
    this.memory = shared ? new SharedArrayBuffer(size) : new ArrayBuffer(size)
    for (let at = 0; at < size; at += blockBytes)
      this.#free.push(
        new Block(this.memory, at, Math.min(blockBytes, size - at), block => this.#freed(block)),
      )
  }

  /** A free block, held once. */
  async take(): Promise<Block> {
    const free = this.#free.shift()
    const block = free ?? (await new Promise<Block>(resolve => this.#waiting.push(resolve)))
    block.hold()
    return block
  }

  #freed(block: Block): void {
    const next = this.#waiting.shift()
    if (next === undefined) this.#free.push(block)
    else next(block)
  }
}

export class Block {
  readonly bytes: Uint8Array
  readonly #freed: (block: Block) => void
  #holds = 0

  constructor(
    memory: ArrayBuffer | SharedArrayBuffer,
    at: number,
    length: number,
    freed: (block: Block) => void,
  ) {
    this.bytes = new Uint8Array(memory, at, length)
    this.#freed = freed
  }

  hold(): void {
    this.#holds += 1
  }

  release(): void {
    this.#holds -= 1
    if (this.#holds === 0) this.#freed(this)
  }
}
