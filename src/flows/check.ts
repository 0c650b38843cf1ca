// check: looks at every byte that is stored, says which shards are damaged, and fetches those anew when asked to.
//
//   content -hash every shard-> damaged shards -repair: verify, fetch what is missing-> whole | what is left
import type { ContentStore } from '../assets/content-store.ts'
import { CatalogError, isAbort, toCatalogError } from '../base/errors.ts'
import type { CallOptions } from '../base/lifecycle.ts'
import type { FetchReport, FetchOptions as TransferOptions } from '../distribution/content-fetcher.ts'
import { type KeepDeps, reasonToKeep } from './keep.ts'

export interface CheckDeps extends KeepDeps {
  readonly store: ContentStore
  readonly fetcher: { fetch(root: string, options: TransferOptions): Promise<FetchReport> }
}

export interface CheckOptions extends CallOptions {
  readonly repair?: boolean
  readonly onProgress?: (phase: 'check' | 'repair', done: number, total: number) => void
}

/** A content that was found damaged. */
export interface Damage {
  readonly root: string
  /** Numbers of the damaged shards, ascending; empty where the index itself cannot be read. */
  readonly shards: readonly number[]
  /** True once every shard is whole again. */
  readonly repaired: boolean
  readonly bytesTransferred: number
  /** Why it is not repaired. */
  readonly error?: Readonly<Record<string, unknown>>
}

export interface Checked {
  readonly contents: number
  readonly bytes: number
  readonly damaged: readonly Damage[]
}

/** One content after another; what is removed meanwhile is left out. Ends early with the signal's reason alone. */
export async function check(
  deps: CheckDeps,
  roots: readonly string[],
  options: CheckOptions = {},
): Promise<Checked> {
  const sizes = new Map<string, number>()
  const wanted = new Set(roots)
  for await (const { root, complete, size } of deps.store.roots())
    if (wanted.has(root)) sizes.set(root, complete ? size : 0)
  const total = [...sizes.values()].reduce((sum, size) => sum + size, 0)
  const damaged: Damage[] = []
  let contents = 0
  let bytes = 0
  const onShard = (length: number) => {
    bytes += length
    options.onProgress?.('check', bytes, total)
    return letOthersGoFirst()
  }
  for (const root of sizes.keys()) {
    options.signal?.throwIfAborted()
    // What is being looked at stays until it was looked at, and is not used by that.
    using _lease = deps.store.lease(root, { isUse: false })
    if ((await deps.store.state(root)) === undefined) continue
    contents += 1
    const shards = await badShards(deps, root, { signal: options.signal, onShard })
    if (shards === undefined || shards.length > 0) damaged.push(await handle(deps, root, shards, options))
  }
  return { contents, bytes, damaged }
}

/** Undefined when not even the index can be read. */
async function badShards(
  deps: CheckDeps,
  root: string,
  options: Parameters<ContentStore['check']>[1],
): Promise<readonly number[] | undefined> {
  try {
    const damaged = await deps.store.check(root, options)
    // A kept content that is here in part was whole once: a repair was cut short.
    const kept = reasonToKeep(deps, root) !== undefined
    return kept
      ? [...new Set([...damaged, ...(await missingShards(deps.store, root))])].sort(byNumber)
      : damaged
  } catch (error) {
    options?.signal?.throwIfAborted()
    const { code } = toCatalogError(error)
    // The content is here (a lease holds it), so what is not found is its index.
    if (code === 'corrupt-content' || code === 'bad-record' || code === 'not-found') return undefined
    throw error
  }
}

async function missingShards(store: ContentStore, root: string): Promise<number[]> {
  const [index, available] = await Promise.all([store.index(root), store.available(root)])
  return [...(index?.shards.keys() ?? [])].filter(shard => available?.has(shard) === false)
}

const byNumber = (a: number, b: number) => a - b

async function handle(
  deps: CheckDeps,
  root: string,
  shards: readonly number[] | undefined,
  options: CheckOptions,
): Promise<Damage> {
  const found = { root, shards: shards ?? [], repaired: false, bytesTransferred: 0 }
  if (options.repair !== true)
    return shards === undefined ? { ...found, error: unreadableIndex(root).toJSON() } : found
  try {
    const { bytesTransferred } = await deps.fetcher.fetch(root, {
      signal: options.signal,
      onProgress: (done, total) => options.onProgress?.('repair', done, total),
    })
    const left = await deps.store.check(root, { signal: options.signal, onShard: letOthersGoFirst })
    return { ...found, repaired: left.length === 0, bytesTransferred }
  } catch (error) {
    options.signal?.throwIfAborted()
    if (isAbort(error)) throw error
    return { ...found, error: toCatalogError(error).toJSON() }
  }
}

const unreadableIndex = (root: string) =>
  new CatalogError(
    'corrupt-content',
    `The content index of ${root} cannot be read. Repair it from another node, and check the disk.`,
    { root },
  )

/** A check is never urgent: whatever waits for this process runs between two shards. */
const letOthersGoFirst = () => new Promise<void>(resolve => setImmediate(resolve))
