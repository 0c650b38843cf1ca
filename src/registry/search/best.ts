// The best few of many, in order: a heap of at most `count`, the worst on top.

export class Best<T> {
  readonly #count: number
  readonly #compare: (a: T, b: T) => number
  readonly #heap: T[] = []

  /** `compare` is negative where the first is better. */
  constructor(count: number, compare: (a: T, b: T) => number) {
    this.#count = count
    this.#compare = compare
  }

  add(item: T): void {
    const heap = this.#heap
    if (heap.length < this.#count) {
      heap.push(item)
      this.#rise(heap.length - 1)
    } else if (this.#count > 0 && this.#compare(item, heap[0] as T) < 0) {
      heap[0] = item
      this.#sink(0)
    }
  }

  /** Best first. */
  sorted(): T[] {
    return this.#heap.toSorted(this.#compare)
  }

  #rise(start: number): void {
    const heap = this.#heap
    let place = start
    while (place > 0) {
      const parent = (place - 1) >>> 1
      if (this.#compare(heap[place] as T, heap[parent] as T) <= 0) return
      this.#swap(place, parent)
      place = parent
    }
  }

  #sink(start: number): void {
    const heap = this.#heap
    let place = start
    for (;;) {
      let worst = place
      for (const child of [2 * place + 1, 2 * place + 2])
        if (child < heap.length && this.#compare(heap[child] as T, heap[worst] as T) > 0) worst = child
      if (worst === place) return
      this.#swap(place, worst)
      place = worst
    }
  }

  #swap(a: number, b: number): void {
    const held = this.#heap[a] as T
    this.#heap[a] = this.#heap[b] as T
    this.#heap[b] = held
  }
}
