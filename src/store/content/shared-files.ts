// Payload files that are read from, kept open between reads: a peer asks for a content in hundreds of questions, and
// opening the file for each costs more than reading from it. It opens nothing by itself and deletes nothing.
import type { CidText } from '../../base/cid.ts'
import type { OpenFile } from '../file-system.ts'

/** Files that nobody reads from now, and how long they stay open. */
const maxIdle = 64
const idleMs = 5_000

interface Shared {
  readonly file: Promise<OpenFile | undefined>
  users: number
  /** The root's file is another one now, or none: closed as soon as nobody reads. */
  stale: boolean
  timer: NodeJS.Timeout | undefined
}

export class SharedFiles {
  readonly #open: (root: CidText) => Promise<OpenFile | undefined>
  readonly #files = new Map<CidText, Shared>()

  constructor(open: (root: CidText) => Promise<OpenFile | undefined>) {
    this.#open = open
  }

  /** For reading; `close` gives it back. Undefined where there is no such file. */
  async acquire(root: CidText): Promise<Pick<OpenFile, 'read' | 'close'> | undefined> {
    let shared = this.#files.get(root)
    if (shared === undefined) {
      shared = { file: this.#open(root), users: 0, stale: false, timer: undefined }
      this.#files.set(root, shared)
    }
    const mine = shared
    mine.users += 1
    clearTimeout(mine.timer)
    const release = this.#releaser(root, mine)
    try {
      const file = await mine.file
      if (file !== undefined)
        return { read: (...where) => file.read(...where), close: () => Promise.resolve(release()) }
    } catch (error) {
      this.drop(root)
      release()
      throw error
    }
    this.drop(root)
    release()
    return undefined
  }

  /** Who acquires the root from now on opens it anew. */
  drop(root: CidText): void {
    const shared = this.#files.get(root)
    if (shared === undefined) return
    shared.stale = true
    this.#files.delete(root)
    if (shared.users === 0) close(shared)
  }

  dropAll(): void {
    for (const root of [...this.#files.keys()]) this.drop(root)
  }

  #releaser(root: CidText, shared: Shared): () => void {
    let released = false
    return () => {
      if (released) return
      released = true
      shared.users -= 1
      if (shared.users > 0) return
      if (shared.stale) return close(shared)
      shared.timer = setTimeout(() => this.drop(root), idleMs)
      shared.timer.unref()
      // The one that was used last goes to the end.
      this.#files.delete(root)
      this.#files.set(root, shared)
      this.#bound()
    }
  }

  #bound(): void {
    const idle = [...this.#files].filter(([, { users }]) => users === 0)
    for (const [root] of idle.slice(0, Math.max(0, idle.length - maxIdle))) this.drop(root)
  }
}

function close(shared: Shared): void {
  clearTimeout(shared.timer)
  // A file that was only read from has nothing to lose.
  shared.file.then(file => file?.close()).catch(() => undefined)
}
