// One walk over a package directory: level by level, never through a link, with a bound on what runs at once.
import { constants } from 'node:fs'
import { access, lstat } from 'node:fs/promises'
import { join } from 'node:path'
import { CatalogError } from '../../base/errors.ts'
import { contentIndexLimits } from '../content-index.ts'
import { checkEntryPath } from '../entry-path.ts'
import { type IgnoreRules, ignoreFileName } from '../ignore-rules.ts'
import type { SourceEntry } from '../package-tree.ts'
import { linkTarget, namesOf, notStorable, permissions, unreadable } from './disk.ts'

/** Calls to the file system at once: enough to keep libuv's threads busy. */
const parallel = 32

/** Everything below `root` but the manifest, unsorted. */
export class Walk {
  readonly #root: string
  readonly #rules: IgnoreRules
  readonly #manifestName: string
  readonly #signal: AbortSignal | undefined
  readonly #entries: SourceEntry[] = []
  /** Root may read everything: only others need to ask. */
  readonly #mayReadAll = process.geteuid?.() === 0

  constructor(root: string, rules: IgnoreRules, manifestName: string, signal: AbortSignal | undefined) {
    this.#root = root
    this.#rules = rules
    this.#manifestName = manifestName
    this.#signal = signal
  }

  async run(): Promise<SourceEntry[]> {
    let level = ['']
    while (level.length > 0) {
      const below: string[] = []
      await forEachBounded(level, directory => this.#directory(directory, below), this.#signal)
      level = below
    }
    return this.#entries
  }

  async #directory(directory: string, below: string[]): Promise<void> {
    const items = await namesOf(join(this.#root, directory), directory)
    const prefix = directory === '' ? '' : `${directory}/`
    const kept: { path: string; kind: 'file' | 'directory' }[] = []
    for (const item of items) {
      const path = checkEntryPath(prefix + item.name)
      const kind = item.isDirectory ? 'directory' : 'file'
      if (this.#rules.leavesOut(path, kind)) continue
      if (directory !== '' || item.name !== this.#manifestName) kept.push({ path, kind })
    }
    if (kept.length === 0 && directory !== '') this.#add({ kind: 'directory', path: directory })
    for (const { path, kind } of kept) if (kind === 'directory') below.push(path)
    const files = kept.filter(item => item.kind === 'file')
    // `below` too: a tree of directories alone has to end somewhere.
    checkCount(this.#entries.length + files.length + below.length)
    for (let start = 0; start < files.length; start += parallel) {
      this.#signal?.throwIfAborted()
      const batch = await Promise.all(
        files.slice(start, start + parallel).map(item => this.#entry(item.path)),
      )
      for (const entry of batch) this.#add(entry)
    }
  }

  #add(entry: SourceEntry): void {
    this.#entries.push(entry)
    checkCount(this.#entries.length)
  }

  async #entry(path: string): Promise<SourceEntry> {
    const absolutePath = join(this.#root, path)
    try {
      const status = await lstat(absolutePath)
      if (status.isSymbolicLink()) return { kind: 'link', path, target: await linkTarget(path, absolutePath) }
      if (!status.isFile()) throw notStorable(path, status)
      const mode = permissions(path, status)
      if (!this.#mayReadAll) await access(absolutePath, constants.R_OK)
      return { kind: 'file', path, mode, size: status.size, source: { kind: 'disk', absolutePath } }
    } catch (error) {
      throw unreadable(path, error)
    }
  }
}

export function checkCount(count: number): void {
  if (count > contentIndexLimits.maxEntries)
    throw new CatalogError(
      'too-large',
      `The package holds more than ${contentIndexLimits.maxEntries} files, links and empty directories. Leave some out with ${ignoreFileName}, or pack them into archives.`,
      { maxEntries: contentIndexLimits.maxEntries },
    )
}

/** Runs `work` for every item, at most `parallel / 4` at once: each may itself have several calls under way. */
async function forEachBounded<T>(
  items: readonly T[],
  work: (item: T) => Promise<void>,
  signal: AbortSignal | undefined,
): Promise<void> {
  let next = 0
  const lane = async () => {
    while (next < items.length) {
      signal?.throwIfAborted()
      const item = items[next] as T
      next += 1
      await work(item)
    }
  }
  const lanes = Array.from({ length: Math.min(parallel / 4, items.length) }, lane)
  // All have to end before anyone is told: a lane that goes on after an error would read what is being deleted.
  const failed = (await Promise.allSettled(lanes)).find(result => result.status === 'rejected')
  if (failed !== undefined) throw failed.reason
}
