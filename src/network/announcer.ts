// The persisted queue of what this node tells the DHT: its records and what it provides. An item is durable before
// `add` resolves, tried at once, retried with backoff, and told again before it expires there; nothing else re-puts it.
//
// KeyValue, under `announce/` (times are milliseconds since 1970, 15 digits; ITEM is `record/<record key>` or
// `provide/<cid>`):
//   announce/item/ITEM            JSON {"dueAt", "triedAt", "failures", "announced"}
//   announce/retry/<dueAt>/ITEM   not told to anybody yet, or not lately: waiting or failing
//   announce/again/<dueAt>/ITEM   told; to be told again then
// The indexes are ordered by time, so that a queue of 100,000 items costs no memory.
import type { CidText } from '../base/cid.ts'
import { CatalogError } from '../base/errors.ts'
import type { KeyValue, KeyValueWrite } from '../base/key-value.ts'
import type { Service } from '../base/lifecycle.ts'
import type { Log } from '../base/log.ts'
import { settleWithin, withTimeout } from './deadline.ts'
import { parseRecordKeyText, recordKeyText } from './record-key.ts'
import type { RecordKey, Router } from './router.ts'

export type Announcement =
  | { readonly kind: 'record'; readonly key: RecordKey }
  | { readonly kind: 'provide'; readonly cid: CidText }

/** As in control/api.ts. `oldestDueMs`: when the oldest item that waits or fails was due, in ms since 1970. */
export interface AnnouncementState {
  readonly waiting: number
  readonly announced: number
  readonly failing: number
  readonly oldestDueMs?: number
  readonly lastError?: string
}

export interface AnnouncerOptions {
  /** Announcements under way at once. */
  readonly concurrency: number
  readonly attemptTimeoutMs: number
  /** After a failure, doubling up to the second figure. */
  readonly retryMs: number
  readonly maxRetryMs: number
  /** DHT records and providers live 48 h; peers that follow the specification forget providers after 24 h. */
  readonly recordIntervalMs: number
  readonly providerIntervalMs: number
}

const hourMs = 3_600_000

export const defaultAnnouncerOptions: AnnouncerOptions = {
  concurrency: 8,
  attemptTimeoutMs: 20_000,
  retryMs: 2000,
  maxRetryMs: 5 * 60_000,
  recordIntervalMs: 22 * hourMs,
  providerIntervalMs: 11 * hourMs,
}

export interface AnnouncerDeps {
  readonly router: Pick<Router, 'putRecord' | 'provide' | 'unprovide'>
  readonly records: KeyValue
  /** The record as it is now; undefined when it is no longer here: then its announcement ends. */
  recordBytes(key: RecordKey): Promise<Uint8Array | undefined>
  readonly log: Log
}

interface Item {
  readonly dueAt: number
  /** 0: never. */
  readonly triedAt: number
  readonly failures: number
  readonly announced: boolean
}

const itemPrefix = 'announce/item/'
const retryPrefix = 'announce/retry/'
const againPrefix = 'announce/again/'
const timeDigits = 15
/** What is newly added is tried first, ahead of the index; more than this waits its turn there. */
const maxUrgent = 10_000

export class Announcer implements Service {
  readonly #deps: AnnouncerDeps
  readonly #options: AnnouncerOptions
  readonly #running = new Map<string, Promise<void>>()
  /** Changed while an attempt was under way: what the attempt learned is out of date. */
  readonly #touched = new Set<string>()
  readonly #writes = new Map<string, Promise<unknown>>()
  readonly #counts = { waiting: 0, announced: 0, failing: 0 }
  #urgent: string[] = []
  #oldestDueMs: number | undefined
  #lastError: string | undefined
  /** A sweep through everything that waits, due or not, because a peer has come. */
  #sweep: { readonly startedAt: number; after: string } | undefined
  #timer: NodeJS.Timeout | undefined
  #filling = false
  #fillAgain = false
  #stopping: AbortController | undefined

  constructor(deps: AnnouncerDeps, options: Partial<AnnouncerOptions> = {}) {
    this.#deps = deps
    this.#options = { ...defaultAnnouncerOptions, ...options }
  }

  async start(): Promise<void> {
    if (this.#stopping !== undefined) return
    Object.assign(this.#counts, { waiting: 0, announced: 0, failing: 0 })
    for await (const [, value] of this.#deps.records.entries({ prefix: itemPrefix }))
      this.#count(decode(value), 1)
    this.#stopping = new AbortController()
    this.#fill()
  }

  async stop(): Promise<void> {
    this.#stopping?.abort(new CatalogError('daemon-stopping', 'This node is stopping.'))
    this.#stopping = undefined
    clearTimeout(this.#timer)
    await settleWithin(Promise.all(this.#running.values()), 1000)
  }

  /** Durable when it resolves; told in the background, at once. Adding again tells again (a head has changed). */
  async add(announcement: Announcement): Promise<void> {
    const name = nameOf(announcement)
    if (this.#running.has(name)) this.#touched.add(name)
    await this.#write(name, () => ({ dueAt: Date.now(), triedAt: 0, failures: 0, announced: false }))
    if (this.#urgent.length < maxUrgent) this.#urgent.push(name)
    this.#fill()
  }

  /** Adds what is not in the queue, and leaves the rest to its time. */
  async ensure(announcement: Announcement): Promise<void> {
    if ((await this.#read(nameOf(announcement))) === undefined) await this.add(announcement)
  }

  /** Forgets the item; what peers hold of it expires there. Durable when it resolves. */
  async remove(announcement: Announcement): Promise<void> {
    const name = nameOf(announcement)
    if (this.#running.has(name)) this.#touched.add(name)
    await this.#write(name, () => undefined)
    if (announcement.kind === 'provide') await this.#unprovide(announcement.cid)
  }

  /** A peer has connected: whatever has not been told to anybody is tried now. */
  wake(): void {
    this.#sweep = { startedAt: Date.now(), after: retryPrefix }
    this.#fill()
  }

  state(): AnnouncementState {
    return {
      ...this.#counts,
      ...(this.#oldestDueMs === undefined ? {} : { oldestDueMs: this.#oldestDueMs }),
      ...(this.#lastError === undefined ? {} : { lastError: this.#lastError }),
    }
  }

  /** Starts attempts while there is room and something is due; one filler at a time. */
  #fill(): void {
    this.#fillAgain = true
    if (this.#filling || this.#stopping === undefined) return
    this.#filling = true
    this.#fillUp()
      .catch(err => {
        this.#deps.log.error({ err }, 'the announcement queue cannot be read')
        this.#sleepUntil(Date.now() + this.#options.retryMs)
      })
      .finally(() => {
        this.#filling = false
        if (this.#fillAgain) this.#fill()
      })
  }

  async #fillUp(): Promise<void> {
    const { concurrency } = this.#options
    while (this.#fillAgain && this.#stopping !== undefined) {
      this.#fillAgain = false
      while (this.#running.size < concurrency && this.#stopping !== undefined) {
        const name = await this.#next()
        if (name === undefined) break
        this.#begin(name)
      }
      await this.#lookAhead()
    }
  }

  #begin(name: string): void {
    const attempt = this.#attempt(name)
      .catch(err => this.#deps.log.error({ err, name }, 'an announcement could not be recorded'))
      .finally(() => {
        this.#running.delete(name)
        this.#touched.delete(name)
        this.#fill()
      })
    this.#running.set(name, attempt)
  }

  /** The next item to try: what was just added, what a new peer should hear, what is due. */
  async #next(): Promise<string | undefined> {
    for (let name = this.#urgent.shift(); name !== undefined; name = this.#urgent.shift())
      if (!this.#running.has(name) && (await this.#read(name)) !== undefined) return name
    return (
      (await this.#nextOfSweep()) ?? (await this.#nextDue(retryPrefix)) ?? (await this.#nextDue(againPrefix))
    )
  }

  async #nextOfSweep(): Promise<string | undefined> {
    while (this.#sweep !== undefined) {
      const sweep = this.#sweep
      let key: string | undefined
      for await (key of this.#deps.records.keys({ prefix: retryPrefix, after: sweep.after, limit: 1 }));
      if (sweep !== this.#sweep) continue
      if (key === undefined) {
        this.#sweep = undefined
        return undefined
      }
      sweep.after = key
      const { name } = parseIndexKey(key, retryPrefix)
      const item = await this.#read(name)
      if (item !== undefined && item.triedAt < sweep.startedAt && !this.#running.has(name)) return name
    }
    return undefined
  }

  async #nextDue(prefix: string): Promise<string | undefined> {
    // At most `concurrency` of the first are being tried: one more is one that is not.
    for await (const key of this.#deps.records.keys({ prefix, limit: this.#options.concurrency + 1 })) {
      const { dueAt, name } = parseIndexKey(key, prefix)
      if (dueAt > Date.now()) return undefined
      if (!this.#running.has(name)) return name
    }
    return undefined
  }

  /** Notes the oldest item for `state`, and sleeps until the next is due. */
  async #lookAhead(): Promise<void> {
    const first = async (prefix: string) => {
      let dueAt: number | undefined
      for await (const key of this.#deps.records.keys({ prefix, limit: 1 }))
        dueAt = parseIndexKey(key, prefix).dueAt
      return dueAt
    }
    this.#oldestDueMs = await first(retryPrefix)
    const next = Math.min(
      this.#oldestDueMs ?? Number.POSITIVE_INFINITY,
      (await first(againPrefix)) ?? Number.POSITIVE_INFINITY,
    )
    if (this.#running.size < this.#options.concurrency) this.#sleepUntil(next)
  }

  #sleepUntil(time: number): void {
    clearTimeout(this.#timer)
    if (this.#stopping === undefined || time === Number.POSITIVE_INFINITY) return
    // Timers hold 31 bits of milliseconds; an item that is running and due keeps its old key until it is written.
    const delay = Math.min(Math.max(time - Date.now(), this.#running.size > 0 ? 200 : 0), hourMs)
    this.#timer = setTimeout(() => this.#fill(), delay)
    this.#timer.unref()
  }

  async #attempt(name: string): Promise<void> {
    const announcement = parseName(name)
    if (announcement === undefined) return this.#write(name, () => undefined)
    const signal = withTimeout(this.#stopping?.signal, this.#options.attemptTimeoutMs)
    let told: number | 'gone' = 0
    let reason = 'no peer accepted it; it is tried again when one connects'
    try {
      told = await this.#tell(announcement, signal)
    } catch (error) {
      reason = error instanceof Error ? error.message : String(error)
    }
    // Stopping is no failure: the item is tried again after the start.
    if (this.#stopping === undefined) return
    if (this.#touched.has(name)) return this.#retouch(name, announcement)
    if (told === 'gone') return this.#write(name, () => undefined)
    if (told === 0) this.#lastError = `${name}: ${reason}`
    await this.#write(name, item => this.#after(item, announcement, told > 0))
  }

  async #tell(announcement: Announcement, signal: AbortSignal): Promise<number | 'gone'> {
    const { router } = this.#deps
    if (announcement.kind === 'provide') return router.provide(announcement.cid, { signal })
    const bytes = await this.#deps.recordBytes(announcement.key)
    return bytes === undefined ? 'gone' : router.putRecord(announcement.key, bytes, { signal })
  }

  /** Added again meanwhile: tell the new value. Removed meanwhile: take back what this attempt has just said. */
  async #retouch(name: string, announcement: Announcement): Promise<void> {
    if ((await this.#read(name)) !== undefined) this.#urgent.push(name)
    else if (announcement.kind === 'provide') await this.#unprovide(announcement.cid)
  }

  #after(item: Item | undefined, announcement: Announcement, told: boolean): Item | undefined {
    if (item === undefined) return undefined
    const now = Date.now()
    if (!told) {
      const { retryMs, maxRetryMs } = this.#options
      const delay = Math.min(maxRetryMs, retryMs * 2 ** Math.min(item.failures, 20))
      return {
        dueAt: now + jitter(delay),
        triedAt: now,
        failures: item.failures + 1,
        announced: item.announced,
      }
    }
    const { recordIntervalMs, providerIntervalMs } = this.#options
    const interval = announcement.kind === 'record' ? recordIntervalMs : providerIntervalMs
    return { dueAt: now + jitter(interval), triedAt: now, failures: 0, announced: true }
  }

  async #unprovide(cid: CidText): Promise<void> {
    await this.#deps.router.unprovide(cid).catch(err => {
      this.#deps.log.debug({ err, cid }, 'the own provider record could not be withdrawn')
    })
  }

  async #read(name: string): Promise<Item | undefined> {
    const value = await this.#deps.records.get(itemPrefix + name)
    return value === undefined ? undefined : decode(value)
  }

  /** Item and index change together, one writer of an item at a time. */
  async #write(name: string, change: (item: Item | undefined) => Item | undefined): Promise<void> {
    const write = async () => {
      const before = await this.#read(name)
      const after = change(before)
      const writes: KeyValueWrite[] = []
      if (before !== undefined) writes.push({ type: 'delete', key: indexKey(before, name) })
      if (after !== undefined) {
        writes.push({ type: 'put', key: itemPrefix + name, value: encode(after) })
        writes.push({ type: 'put', key: indexKey(after, name), value: new Uint8Array([1]) })
      } else if (before !== undefined) writes.push({ type: 'delete', key: itemPrefix + name })
      if (writes.length > 0) await this.#deps.records.batch(writes)
      if (before !== undefined) this.#count(before, -1)
      if (after !== undefined) this.#count(after, 1)
    }
    const mine = (this.#writes.get(name) ?? Promise.resolve()).then(write, write)
    this.#writes.set(name, mine)
    try {
      await mine
    } finally {
      if (this.#writes.get(name) === mine) this.#writes.delete(name)
    }
  }

  #count(item: Item, by: number): void {
    if (item.failures > 0) this.#counts.failing += by
    else if (item.announced) this.#counts.announced += by
    else this.#counts.waiting += by
  }
}

const isTold = (item: Item) => item.announced && item.failures === 0

const indexKey = (item: Item, name: string) =>
  `${isTold(item) ? againPrefix : retryPrefix}${String(Math.floor(item.dueAt)).padStart(timeDigits, '0')}/${name}`

function parseIndexKey(key: string, prefix: string): { dueAt: number; name: string } {
  const rest = key.slice(prefix.length)
  return { dueAt: Number(rest.slice(0, timeDigits)), name: rest.slice(timeDigits + 1) }
}

function nameOf(announcement: Announcement): string {
  return announcement.kind === 'provide'
    ? `provide/${announcement.cid}`
    : `record${recordKeyText(announcement.key)}`
}

function parseName(name: string): Announcement | undefined {
  if (name.startsWith('provide/')) return { kind: 'provide', cid: name.slice('provide/'.length) }
  const key = parseRecordKeyText(name.slice('record'.length))
  return key === undefined ? undefined : { kind: 'record', key }
}

const encode = (item: Item): Uint8Array => new TextEncoder().encode(JSON.stringify(item))

function decode(bytes: Uint8Array): Item {
  return JSON.parse(new TextDecoder().decode(bytes)) as Item
}

/** Ten per cent either way, so that what was published together does not expire together. */
const jitter = (ms: number) => ms * (0.9 + Math.random() * 0.2)
