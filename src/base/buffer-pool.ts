// Buffers that are used again. Large buffers are memory that V8 sees only as a number: allocating one for each shard
// costs a full collection every few dozen megabytes.

/** Kept for later use at most, in bytes. */
const maxKeptBytes = 16 * 1024 * 1024
const smallestBytes = 4 * 1024

export class BufferPool {
  readonly #kept = new Map<number, Uint8Array[]>()
  #keptBytes = 0

  /** A buffer of at least `length` bytes, its bytes undefined. */
  take(length: number): Uint8Array {
    const size = sizeFor(length)
    const kept = this.#kept.get(size)?.pop()
    if (kept === undefined) return new Uint8Array(size)
    this.#keptBytes -= size
    return kept
  }

  /** Gives back what `take` gave. Nobody may look at it afterwards. */
  give(buffer: Uint8Array): void {
    const size = buffer.byteLength
    this.#makeRoom(size)
    if (this.#keptBytes + size > maxKeptBytes) return
    const kept = this.#kept.get(size)
    if (kept === undefined) this.#kept.set(size, [buffer])
    else kept.push(buffer)
    this.#keptBytes += size
  }

  /** Sizes that nobody asks for any more must not keep out those that are in use. */
  #makeRoom(size: number): void {
    for (const [other, kept] of this.#kept)
      while (other !== size && this.#keptBytes + size > maxKeptBytes && kept.pop() !== undefined)
        this.#keptBytes -= other
  }
}

/** Four sizes to each power of two: a quarter more than asked for at most. */
function sizeFor(length: number): number {
  const step = 2 ** (Math.ceil(Math.log2(Math.max(smallestBytes, length))) - 3)
  return Math.max(smallestBytes, Math.ceil(length / step) * step)
}
