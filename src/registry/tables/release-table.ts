// The known releases in memory: by id, by name, by content root. About 500 bytes each; nothing is read from disk.
import { compareVersions } from '../../assets/name.ts'
import type { CidText } from '../../base/cid.ts'
import type { ReleaseEntry } from '../release-summary.ts'

interface Group {
  readonly entries: ReleaseEntry[]
  /** Groups are sorted when they are read: comparing versions is too slow for loading 100,000. */
  sorted: boolean
}

export interface Page {
  /** The id after which to go on. */
  readonly after?: CidText
  readonly limit?: number
}

export class ReleaseTable {
  readonly #byId = new Map<CidText, ReleaseEntry>()
  readonly #byName = new Map<string, Group>()
  readonly #byRoot = new Map<CidText, ReleaseEntry[]>()
  /** One string for each publisher and name, which repeat in many releases. */
  readonly #interned = new Map<string, string>()
  #names: string[] | undefined

  get size(): number {
    return this.#byId.size
  }

  get(id: CidText): ReleaseEntry | undefined {
    return this.#byId.get(id)
  }

  ids(): Iterable<CidText> {
    return this.#byId.keys()
  }

  add(entry: ReleaseEntry): void {
    const kept = { ...entry, publisher: this.#intern(entry.publisher), name: this.#intern(entry.name) }
    this.#byId.set(kept.id, kept)
    const group = this.#byName.get(kept.name)
    if (group === undefined) {
      this.#byName.set(kept.name, { entries: [kept], sorted: true })
      this.#names = undefined
    } else {
      group.entries.push(kept)
      group.sorted = false
    }
    const sharing = this.#byRoot.get(kept.root)
    if (sharing === undefined) this.#byRoot.set(kept.root, [kept])
    else sharing.push(kept)
  }

  remove(id: CidText): ReleaseEntry | undefined {
    const entry = this.#byId.get(id)
    if (entry === undefined) return undefined
    this.#byId.delete(id)
    const group = this.#byName.get(entry.name)?.entries ?? []
    group.splice(group.indexOf(entry), 1)
    if (group.length === 0) {
      this.#byName.delete(entry.name)
      this.#names = undefined
    }
    const sharing = this.#byRoot.get(entry.root) ?? []
    sharing.splice(sharing.indexOf(entry), 1)
    if (sharing.length === 0) this.#byRoot.delete(entry.root)
    return entry
  }

  byRoot(root: CidText): readonly ReleaseEntry[] {
    return [...(this.#byRoot.get(root) ?? [])]
  }

  /** Highest version first, then by publisher and id. */
  byName(name: string): readonly ReleaseEntry[] {
    const group = this.#byName.get(name)
    if (group === undefined) return []
    if (!group.sorted) group.entries.sort(highestFirst)
    group.sorted = true
    return [...group.entries]
  }

  /** In no useful order. */
  names(): Iterable<string> {
    return this.#byName.keys()
  }

  /** By name, highest version first. */
  page({ after, limit = Number.POSITIVE_INFINITY }: Page = {}): ReleaseEntry[] {
    const last = after === undefined ? undefined : this.#byId.get(after)
    if (after !== undefined && last === undefined) return []
    this.#names ??= [...this.#byName.keys()].sort()
    const names = this.#names
    const found: ReleaseEntry[] = []
    for (let i = last === undefined ? 0 : positionOf(names, last.name); i < names.length; i++) {
      if (found.length >= limit) break
      const entries = this.byName(names[i] ?? '')
      found.push(
        ...(last?.name === names[i] ? entries.slice(entries.indexOf(last as ReleaseEntry) + 1) : entries),
      )
    }
    return found.slice(0, limit)
  }

  #intern(text: string): string {
    const known = this.#interned.get(text)
    if (known === undefined) this.#interned.set(text, text)
    return known ?? text
  }
}

const compareText = (a: string, b: string): number => (a < b ? -1 : a > b ? 1 : 0)

const highestFirst = (a: ReleaseEntry, b: ReleaseEntry): number =>
  compareVersions(b.version, a.version) || compareText(a.publisher, b.publisher) || compareText(a.id, b.id)

/** Binary search in ascending names. */
function positionOf(names: readonly string[], name: string): number {
  let low = 0
  let high = names.length
  while (low < high) {
    const middle = (low + high) >>> 1
    if ((names[middle] ?? '') < name) low = middle + 1
    else high = middle
  }
  return low
}
