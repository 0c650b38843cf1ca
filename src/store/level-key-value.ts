// KeyValue over LevelDB: the one door to `level`. Every write is synced before it is acknowledged; writes that
// come while one is being synced share the next sync. Keeps LevelDB working on a full disk by a reserve.
// It knows nothing of what the records mean; base/scoped-key-value.ts gives each owner its own prefix.
import { mkdir } from 'node:fs/promises'
import { Level } from 'level'
import { CatalogError, toCatalogError } from '../base/errors.ts'
import type { KeyRange, KeyValue, KeyValueWrite } from '../base/key-value.ts'
import { DiskReserve } from './reserve.ts'

export interface LevelKeyValueOptions {
  /** The directory that LevelDB owns; made when it is missing. */
  readonly directory: string
  /** Bytes set aside on the disk so that a full one can still be opened and deleted from; 0 for none. */
  readonly reserveBytes?: number
  /** Below this many free bytes new values are refused (deletes go on). */
  readonly lowWaterBytes?: number
}

export const defaultLevelKeyValueOptions = {
  // LevelDB's log, one compaction output and the manifest: what it needs at once to open and to shrink.
  reserveBytes: 16 * 1024 * 1024,
  // A compaction may need several files of 2 MiB before it frees any.
  lowWaterBytes: 8 * 1024 * 1024,
} as const

/** The format of everything in the database. Raise it with a migration. */
const storeVersion = 1
/** Keys that start with NUL are this file's own and never seen by callers. */
const versionKey = '\0version'
const firstKey = '\u0001'
/** One synced group: large enough that the sync is what costs, small enough that nobody waits long. */
const maxGroupBytes = 4 * 1024 * 1024

interface Pending {
  readonly writes: readonly KeyValueWrite[]
  readonly resolve: () => void
  readonly reject: (error: unknown) => void
}

export class LevelKeyValue implements KeyValue {
  readonly #options: Required<LevelKeyValueOptions>
  readonly #reserve: DiskReserve
  #database: Promise<Level<string, Uint8Array>> | undefined
  #metFullDisk = false
  #pending: Pending[] = []
  #flushing: Promise<void> | undefined

  constructor(options: LevelKeyValueOptions) {
    this.#options = { ...defaultLevelKeyValueOptions, ...options }
    this.#reserve = new DiskReserve(`${options.directory}.reserve`, this.#options.reserveBytes)
  }

  /** Makes and starts one. */
  static async open(options: LevelKeyValueOptions): Promise<LevelKeyValue> {
    const store = new LevelKeyValue(options)
    await store.start()
    return store
  }

  /**
   * @throws CatalogError `already-running` (another process has it), `store-too-new`, `storage-failed` (damaged),
   * `no-space`
   */
  async start(): Promise<void> {
    if (this.#database !== undefined) return
    const database = await this.#openWithReserve()
    try {
      await this.#checkVersion(database)
      await this.#reserve.restore()
    } catch (error) {
      await database.close()
      throw this.#typed(error, 'opening the database')
    }
    this.#database = Promise.resolve(database)
  }

  async stop(): Promise<void> {
    while (this.#flushing !== undefined) await this.#flushing
    const database = this.#database
    this.#database = undefined
    await (await database?.catch(() => undefined))?.close()
  }

  async get(key: string): Promise<Uint8Array | undefined> {
    const database = await this.#opened()
    try {
      return await database.get(key)
    } catch (error) {
      throw this.#typed(error, `reading ${JSON.stringify(key)}`)
    }
  }

  put(key: string, value: Uint8Array): Promise<void> {
    return this.batch([{ type: 'put', key, value }])
  }

  delete(key: string): Promise<void> {
    return this.batch([{ type: 'delete', key }])
  }

  async batch(writes: readonly KeyValueWrite[]): Promise<void> {
    await this.#opened()
    if (writes.length === 0) return
    for (const { key } of writes)
      if (key < firstKey)
        throw new TypeError(`a record needs a key that is not empty and does not start with NUL`)
    const done = new Promise<void>((resolve, reject) => this.#pending.push({ writes, resolve, reject }))
    this.#flushing ??= this.#flush()
    return done
  }

  async *entries(range: KeyRange): AsyncIterable<readonly [string, Uint8Array]> {
    const iterator = (await this.#opened()).iterator({ ...bounds(range), keyEncoding: 'buffer' })
    try {
      for await (const [key, value] of iterator) yield [key.toString(), value]
    } catch (error) {
      throw this.#typed(error, `listing ${JSON.stringify(range.prefix)}`)
    }
  }

  async *keys(range: KeyRange): AsyncIterable<string> {
    const iterator = (await this.#opened()).keys({ ...bounds(range), keyEncoding: 'buffer' })
    try {
      for await (const key of iterator) yield key.toString()
    } catch (error) {
      throw this.#typed(error, `listing ${JSON.stringify(range.prefix)}`)
    }
  }

  /** Writes what is pending, group after group, until nothing is. */
  async #flush(): Promise<void> {
    // Callers of the same turn join the first group.
    await Promise.resolve()
    while (this.#pending.length > 0) {
      const group = this.#takeGroup()
      try {
        await this.#write(group.flatMap(pending => pending.writes))
        for (const pending of group) pending.resolve()
      } catch (error) {
        if (isDiskFull(error)) this.#metFullDisk = true
        const typed = this.#typed(error, 'writing records')
        for (const pending of group) pending.reject(typed)
      }
    }
    // In the same turn as the last look at what is pending, so that nothing is left behind.
    this.#flushing = undefined
  }

  /** The longest run of pending writes that fits a group. Deletes alone never wait behind values that a full disk refuses. */
  #takeGroup(): Pending[] {
    const onlyDeletes = (pending: Pending) => pending.writes.every(write => write.type === 'delete')
    let bytes = 0
    let count = 0
    for (const pending of this.#pending) {
      if (count > 0 && onlyDeletes(pending) !== onlyDeletes(this.#pending[0] as Pending)) break
      for (const write of pending.writes)
        bytes += write.key.length + (write.type === 'put' ? write.value.byteLength : 0)
      if (count > 0 && bytes > maxGroupBytes) break
      count += 1
    }
    return this.#pending.splice(0, count)
  }

  async #write(writes: readonly KeyValueWrite[]): Promise<void> {
    if (writes.every(write => write.type === 'delete')) await this.#makeRoomToDelete()
    else await this.#refuseWhenLow()
    if (this.#metFullDisk) await this.#reopen()
    await (await this.#opened()).batch(
      writes.map(write => (write.type === 'put' ? write : { type: 'del' as const, key: write.key })),
      { sync: true },
    )
  }

  /** A delete is a write too: on a full disk it takes its room from the reserve. */
  async #makeRoomToDelete(): Promise<void> {
    if ((await this.#reserve.freeBytes()) < this.#options.lowWaterBytes / 2) await this.#reserve.release()
  }

  /** LevelDB refuses every write after one that met a full disk, until it is opened again. What failed was not acknowledged. */
  async #reopen(): Promise<void> {
    const old = this.#database
    const reopened = (async () => {
      await (await old?.catch(() => undefined))?.close()
      return this.#openWithReserve()
    })()
    this.#database = reopened
    try {
      await reopened
      this.#metFullDisk = false
    } catch (error) {
      // Nothing is open now; the next write tries again, and reads fail until then.
      throw this.#typed(error, 'opening the database again after the disk was full')
    }
  }

  async #refuseWhenLow(): Promise<void> {
    await this.#reserve.restore()
    const free = await this.#reserve.freeBytes()
    if (free >= this.#options.lowWaterBytes) return
    throw new CatalogError(
      'no-space',
      `Writing a record to ${this.#options.directory} was refused: ${free} bytes are free on its disk, and the last ` +
        `${this.#options.lowWaterBytes} are kept so that the store can still be opened. Free some space, or remove releases.`,
      { freeBytes: free },
    )
  }

  async #openWithReserve(): Promise<Level<string, Uint8Array>> {
    const { directory } = this.#options
    try {
      await mkdir(directory, { recursive: true, mode: 0o700 })
      return await openDatabase(directory)
    } catch (error) {
      if (!isDiskFull(error)) throw this.#typed(error, 'opening the database')
    }
    // LevelDB writes when it opens: the reserve is there for this.
    try {
      await this.#reserve.release()
      return await openDatabase(directory)
    } catch (error) {
      throw this.#typed(error, 'opening the database')
    }
  }

  async #checkVersion(database: Level<string, Uint8Array>): Promise<void> {
    const stored = await database.get(versionKey)
    if (stored === undefined) {
      await database.put(versionKey, new TextEncoder().encode(String(storeVersion)), { sync: true })
      return
    }
    const found = Number(new TextDecoder().decode(stored))
    if (found === storeVersion) return
    throw new CatalogError(
      'store-too-new',
      `The store in ${this.#options.directory} has version ${found}; this Catalog reads version ${storeVersion}. Run the newer Catalog that wrote it, or use another --home.`,
      { found, supported: storeVersion },
    )
  }

  async #opened(): Promise<Level<string, Uint8Array>> {
    if (this.#database === undefined)
      throw new CatalogError(
        'daemon-stopping',
        `The database in ${this.#options.directory} is not open. Start the daemon, then try again.`,
      )
    return this.#database
  }

  #typed(error: unknown, attempted: string): CatalogError {
    if (error instanceof CatalogError) return error
    const { directory } = this.#options
    const { code, message } = rootCause(error)
    if (isDiskFull(error))
      return new CatalogError(
        'no-space',
        `The disk of ${directory} is full (${attempted}). Free some space, then try again.`,
        {},
        error,
      )
    if (code === 'LEVEL_LOCKED')
      return new CatalogError(
        'already-running',
        `The database in ${directory} is in use by another process. Stop the daemon that uses this home, or use another --home.`,
        { directory },
        error,
      )
    if (code === 'LEVEL_CORRUPTION')
      return new CatalogError(
        'storage-failed',
        `The database in ${directory} is damaged (${attempted}: ${message}). Check the disk, then restore the home from a backup or start with a new one and fetch again.`,
        { directory },
        error,
      )
    const typed = toCatalogError(error)
    if (typed.code !== 'internal') return typed
    return new CatalogError(
      'storage-failed',
      `The database in ${directory} failed (${attempted}: ${message}). Check the disk, then restart the daemon.`,
      { directory },
      error,
    )
  }
}

async function openDatabase(directory: string): Promise<Level<string, Uint8Array>> {
  const database = new Level<string, Uint8Array>(directory, { keyEncoding: 'utf8', valueEncoding: 'view' })
  await database.open()
  return database
}

/** The range as bytes: UTF-8 text has no last string with a prefix, but its bytes have a next prefix. */
function bounds({ prefix, after, limit, reverse }: KeyRange) {
  const first = Buffer.from(prefix < firstKey ? firstKey : prefix)
  const end = nextPrefix(Buffer.from(prefix))
  const mark = after === undefined ? undefined : Buffer.from(after)
  const beyond = (edge: Buffer | undefined, order: 1 | -1) =>
    mark !== undefined && (edge === undefined || Buffer.compare(mark, edge) * order >= 0)
  const lower = reverse !== true && beyond(first, 1) ? { gt: mark as Buffer } : { gte: first }
  const upper =
    reverse === true && (end === undefined ? mark !== undefined : beyond(end, -1))
      ? { lt: mark as Buffer }
      : end === undefined
        ? {}
        : { lt: end }
  return { ...lower, ...upper, ...(limit === undefined ? {} : { limit }), reverse: reverse === true }
}

/** The least bytes above everything that starts with `prefix`; undefined when nothing is. UTF-8 never has 0xff. */
function nextPrefix(prefix: Buffer): Buffer | undefined {
  if (prefix.byteLength === 0) return undefined
  const next = Buffer.from(prefix)
  const last = next.byteLength - 1
  next.writeUInt8(next.readUInt8(last) + 1, last)
  return next
}

function rootCause(error: unknown): { readonly code: string | undefined; readonly message: string } {
  let deepest = error as (Error & { code?: string }) | undefined
  while (deepest?.cause instanceof Error) deepest = deepest.cause
  return { code: deepest?.code, message: deepest?.message ?? String(error) }
}

/** LevelDB passes on the operating system's words, not its number. */
const isDiskFull = (error: unknown): boolean => {
  const { code, message } = rootCause(error)
  return code === 'ENOSPC' || code === 'EDQUOT' || /no space left|quota exceeded/i.test(message)
}
