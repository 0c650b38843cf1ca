// The current heads in memory: by publisher and name, by name, by id.
import type { CidText } from '../../base/cid.ts'
import type { HeadEntry } from '../head-rules.ts'

/** publisher/name, as keys of records have it: no publisher has a slash. */
export const headKeyOf = (publisher: string, name: string): string => `${publisher}/${name}`

export class HeadTable {
  readonly #byKey = new Map<string, HeadEntry>()
  readonly #publishers = new Map<string, Set<string>>()
  readonly #keyById = new Map<CidText, string>()

  get(key: string): HeadEntry | undefined {
    return this.#byKey.get(key)
  }

  /** Puts a head in, and gives the one it replaces. */
  set(key: string, entry: HeadEntry): HeadEntry | undefined {
    const replaced = this.#byKey.get(key)
    const slash = key.indexOf('/')
    const [publisher, name] = [key.slice(0, slash), key.slice(slash + 1)]
    this.#byKey.set(key, entry)
    const publishers = this.#publishers.get(name) ?? new Set()
    this.#publishers.set(name, publishers.add(publisher))
    if (replaced !== undefined) this.#keyById.delete(replaced.id)
    this.#keyById.set(entry.id, key)
    return replaced
  }

  remove(key: string): void {
    const entry = this.#byKey.get(key)
    if (entry === undefined) return
    this.#byKey.delete(key)
    this.#keyById.delete(entry.id)
    const slash = key.indexOf('/')
    const name = key.slice(slash + 1)
    const publishers = this.#publishers.get(name)
    publishers?.delete(key.slice(0, slash))
    if (publishers?.size === 0) this.#publishers.delete(name)
  }

  entries(): [key: string, entry: HeadEntry][] {
    return [...this.#byKey]
  }

  /** Who has a head of a name, by fingerprint. */
  publishersOf(name: string): string[] {
    return [...(this.#publishers.get(name) ?? [])].sort()
  }

  keyOf(id: CidText): string | undefined {
    return this.#keyById.get(id)
  }
}
