// What this node announces, durable: one entry for each announcement, found by where its key lies and by when it is due.
// It decides nothing.
//
// KeyValue (times are milliseconds since 1970, 15 digits; AT is the first 16 hex digits of the key's location; ITEM is
// `record/<record key>` or `provide/<cid>`):
//   sweep/item/AT/ITEM                JSON Entry
//   sweep/new|told|failing/<at>/AT/ITEM   by time: waiting for its first announcement; to be told again; to be retried
// A queue of 100,000 entries costs no memory. Changes that wait for the disk are written together.
import type { KeyValue, KeyValueWrite } from '../../base/key-value.ts'
import { isUnder, type Location, type Prefix } from '../keyspace.ts'
import { parseRecordKeyText, recordKeyText } from '../record-key.ts'
import type { Announcement } from '../router.ts'

export type EntryState = 'new' | 'told' | 'failing'

export interface Entry {
  readonly state: EntryState
  /** When it is due: added, to be told again, or to be retried. */
  readonly at: number
  /** When it should have been told at the latest; `at`, except after failures. */
  readonly since: number
  readonly triedAt: number
  readonly failures: number
  /** Tells an entry from the one that was here before. */
  readonly revision: number
}

export interface Queued {
  readonly item: Announcement
  readonly location: Location
  readonly entry: Entry
}

/** Gives the entry as it shall be; undefined removes it. */
export type Change = (before: Entry | undefined) => Entry | undefined

interface Pending {
  readonly item: Announcement
  readonly change: Change
  readonly done: PromiseWithResolvers<void>
}

export interface QueueDeps {
  readonly records: KeyValue
  readonly locate: (item: Announcement) => Location
}

const itemPrefix = 'sweep/item/'
const indexPrefix = (state: EntryState) => `sweep/${state}/`
/** As written before there was a sweep: dropped; what is held is put here again at every start. */
const formerPrefix = 'announce/'
const maxBatch = 1000

export class AnnouncementQueue {
  readonly #deps: QueueDeps
  readonly #counts = { new: 0, told: 0, failing: 0 }
  #pending: Pending[] = []
  #writing = false

  constructor(deps: QueueDeps) {
    this.#deps = deps
  }

  get counts(): Readonly<Record<EntryState, number>> {
    return this.#counts
  }

  async load(): Promise<void> {
    const { records } = this.#deps
    for await (const key of records.keys({ prefix: formerPrefix })) await records.delete(key)
    Object.assign(this.#counts, { new: 0, told: 0, failing: 0 })
    for await (const [, value] of records.entries({ prefix: itemPrefix })) this.#counts[decode(value).state]++
  }

  async read(item: Announcement): Promise<Entry | undefined> {
    const value = await this.#deps.records.get(this.#itemKey(item))
    return value === undefined ? undefined : decode(value)
  }

  /** Durable when it resolves. One change of an item after the other, in the order of the calls. */
  change(item: Announcement, change: Change): Promise<void> {
    const done = Promise.withResolvers<void>()
    this.#pending.push({ item, change, done })
    void this.#write()
    return done.promise
  }

  /** The first entries in a state, earliest first. `after` is the `place` of the last one seen. */
  async *inOrder(
    state: EntryState,
    options: { readonly limit: number; readonly after?: string },
  ): AsyncIterable<{ readonly place: string; readonly at: number; readonly item: Announcement }> {
    const prefix = indexPrefix(state)
    for await (const place of this.#deps.records.keys({ prefix, ...options })) {
      const [at = '', , ...name] = place.slice(prefix.length).split('/')
      const item = parseName(name.join('/'))
      if (item !== undefined) yield { place, at: Number(at), item }
    }
  }

  /** `since` of what fails and `at` of the rest, from a state's entries, earliest `at` first. */
  async *dueTimes(state: EntryState): AsyncIterable<number> {
    for await (const [, value] of this.#deps.records.entries({ prefix: indexPrefix(state) }))
      yield Number(new TextDecoder().decode(value))
  }

  /** The entries whose keys lie under the prefix, in the order of the keyspace, a page at a time. */
  async region(
    prefix: Prefix,
    options: { readonly limit: number; readonly after?: string | undefined },
  ): Promise<{ readonly entries: readonly Queued[]; readonly after: string | undefined }> {
    const scan = itemPrefix + hexOf(prefix, Math.min(16, Math.floor(prefix.length / 4)))
    // To the first key of the prefix where it ends inside a hex digit: nothing before it is read.
    let after = options.after ?? itemPrefix + hexOf(prefix, 16)
    const entries: Queued[] = []
    const { limit } = options
    for await (const [key, value] of this.#deps.records.entries({ prefix: scan, after, limit })) {
      const [at = '', ...name] = key.slice(itemPrefix.length).split('/')
      if (!isUnder(prefix.slice(0, 64), Buffer.from(at, 'hex'))) return { entries, after: undefined }
      const item = parseName(name.join('/'))
      if (item !== undefined) entries.push({ item, location: this.#deps.locate(item), entry: decode(value) })
      after = key
    }
    return { entries, after: entries.length < limit ? undefined : after }
  }

  async #write(): Promise<void> {
    if (this.#writing) return
    this.#writing = true
    try {
      while (this.#pending.length > 0) {
        const group = this.#pending.splice(0, maxBatch)
        try {
          await this.#apply(group)
          for (const { done } of group) done.resolve()
        } catch (error) {
          for (const { done } of group) done.reject(error)
        }
      }
    } finally {
      this.#writing = false
    }
  }

  async #apply(group: readonly Pending[]): Promise<void> {
    const before = new Map<string, { item: Announcement; was: Entry | undefined; is: Entry | undefined }>()
    for (const { item, change } of group) {
      const key = this.#itemKey(item)
      let state = before.get(key)
      if (state === undefined) {
        const was = await this.read(item)
        state = { item, was, is: was }
        before.set(key, state)
      }
      state.is = change(state.is)
    }
    const writes = [...before].flatMap(([key, { was, is }]) => (was === is ? [] : this.#writes(key, was, is)))
    if (writes.length > 0) await this.#deps.records.batch(writes)
    for (const { was, is } of before.values()) {
      if (was !== undefined) this.#counts[was.state]--
      if (is !== undefined) this.#counts[is.state]++
    }
  }

  #writes(key: string, was: Entry | undefined, is: Entry | undefined): KeyValueWrite[] {
    const place = (entry: Entry) => {
      const at = String(Math.floor(entry.at)).padStart(15, '0')
      return `${indexPrefix(entry.state)}${at}/${key.slice(itemPrefix.length)}`
    }
    const writes: KeyValueWrite[] = []
    if (was !== undefined) writes.push({ type: 'delete', key: place(was) })
    if (is === undefined) return [...writes, { type: 'delete', key }]
    const since = new TextEncoder().encode(String(is.since))
    return [...writes, { type: 'put', key, value: encode(is) }, { type: 'put', key: place(is), value: since }]
  }

  #itemKey(item: Announcement): string {
    const at = Buffer.from(this.#deps.locate(item)).toString('hex').slice(0, 16)
    return `${itemPrefix}${at}/${nameOf(item)}`
  }
}

export const nameOf = (item: Announcement): string =>
  item.kind === 'provide' ? `provide/${item.cid}` : `record${recordKeyText(item.key)}`

function parseName(name: string): Announcement | undefined {
  if (name.startsWith('provide/')) return { kind: 'provide', cid: name.slice('provide/'.length) }
  const key = parseRecordKeyText(name.slice('record'.length))
  return key === undefined ? undefined : { kind: 'record', key }
}

/** The first hex digits of the first location under the prefix. */
function hexOf(prefix: Prefix, digits: number): string {
  let hex = ''
  for (let digit = 0; digit < digits; digit++)
    hex += Number.parseInt(prefix.slice(digit * 4, digit * 4 + 4).padEnd(4, '0'), 2).toString(16)
  return hex
}

const encode = (entry: Entry): Uint8Array => new TextEncoder().encode(JSON.stringify(entry))

function decode(bytes: Uint8Array): Entry {
  return JSON.parse(new TextDecoder().decode(bytes)) as Entry
}
