// The port for small durable records: ordered string keys, byte values, atomic batches.
// Implementations: store/level-key-value.ts (LevelDB), base/memory-key-value.ts.

export type KeyValueWrite =
  | { readonly type: 'put'; readonly key: string; readonly value: Uint8Array }
  | { readonly type: 'delete'; readonly key: string }

/** `prefix` selects the keys that start with it; `after` (exclusive) and `limit` page through them. */
export interface KeyRange {
  readonly prefix: string
  readonly after?: string
  readonly limit?: number
  readonly reverse?: boolean
}

export interface KeyValue {
  get(key: string): Promise<Uint8Array | undefined>
  /** Resolves once the value is durable (synced to disk). */
  put(key: string, value: Uint8Array): Promise<void>
  delete(key: string): Promise<void>
  /** All or nothing, durable when it resolves. */
  batch(writes: readonly KeyValueWrite[]): Promise<void>
  /** Entries in ascending byte order of their keys (descending with `reverse`). */
  entries(range: KeyRange): AsyncIterable<readonly [key: string, value: Uint8Array]>
  keys(range: KeyRange): AsyncIterable<string>
}
