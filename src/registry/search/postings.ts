// Lists of small numbers, one list for each term, in blocks that double from 2 to 256 numbers: a short list takes little
// room, a long one lies close together in memory (a search is bound by memory, not by arithmetic), and nothing that is
// stored is ever moved, so that no list makes the node pause when it grows.

const pageBits = 16
const pageLength = 1 << pageBits
const pageMask = pageLength - 1
const firstBlock = 2
const largestBlock = 256

export class Postings {
  /** Blocks: the place of the next block of the same list (0: none yet), then its numbers. Place 0 is no block. */
  readonly #pages: Uint32Array[] = [new Uint32Array(pageLength)]
  #end = 1
  /** Of each list: its first and its last block, how many numbers it has, and how many more the last block can take. */
  #firsts = new Uint32Array(1024)
  #lasts = new Uint32Array(1024)
  #lengths = new Uint32Array(1024)
  #room = new Uint16Array(1024)
  #read = new Uint32Array(1024)

  lengthOf(list: number): number {
    return this.#lengths[list] ?? 0
  }

  /** Adds a number of at most 32 bits to a list; lists are numbered from 0, without wide gaps. */
  add(list: number, value: number): void {
    if (list >= this.#lengths.length) this.#grow(list)
    const length = this.#lengths[list] as number
    const size = sizeOfBlockAt(length)
    if (this.#room[list] === 0) this.#addBlock(list, size)
    const room = this.#room[list] as number
    const block = this.#lasts[list] as number
    const page = this.#pages[block >>> pageBits] as Uint32Array
    page[(block & pageMask) + 1 + size - room] = value
    this.#room[list] = room - 1
    this.#lengths[list] = length + 1
  }

  /** The numbers of a list, in order: the first `lengthOf(list)` of what is returned, until the next call. */
  values(list: number): Uint32Array {
    const length = this.lengthOf(list)
    if (this.#read.length < length) this.#read = new Uint32Array(2 * length)
    const values = this.#read
    let block = this.#firsts[list] ?? 0
    let size = firstBlock
    for (let done = 0; done < length; ) {
      const page = this.#pages[block >>> pageBits] as Uint32Array
      const start = (block & pageMask) + 1
      const count = Math.min(size, length - done)
      for (let i = 0; i < count; i++) values[done + i] = page[start + i] as number
      done += count
      block = page[start - 1] as number
      if (size < largestBlock) size *= 2
    }
    return values
  }

  #addBlock(list: number, size: number): void {
    // A block lies within one page.
    if ((this.#end & pageMask) + 1 + size > pageLength) this.#end = this.#pages.length << pageBits
    const block = this.#end
    if (block >>> pageBits === this.#pages.length) this.#pages.push(new Uint32Array(pageLength))
    this.#end += 1 + size
    const last = this.#lasts[list] as number
    if (last === 0) this.#firsts[list] = block
    else (this.#pages[last >>> pageBits] as Uint32Array)[last & pageMask] = block
    this.#lasts[list] = block
    this.#room[list] = size
  }

  #grow(list: number): void {
    const length = 2 ** Math.ceil(Math.log2(list + 1))
    const [firsts, lasts, lengths, room] = [this.#firsts, this.#lasts, this.#lengths, this.#room]
    this.#firsts = new Uint32Array(length)
    this.#lasts = new Uint32Array(length)
    this.#lengths = new Uint32Array(length)
    this.#room = new Uint16Array(length)
    this.#firsts.set(firsts)
    this.#lasts.set(lasts)
    this.#lengths.set(lengths)
    this.#room.set(room)
  }
}

/** Blocks of 2, 4, … hold the first 2, 6, … numbers. */
function sizeOfBlockAt(place: number): number {
  let size = firstBlock
  for (let end = size; end <= place && size < largestBlock; end += size) size *= 2
  return size
}
