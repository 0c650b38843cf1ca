// What the database knows of payload files. Keys:
//   content/<root>             CBOR { v: 1, complete, size }: the root is here, whole or in part
//   index/<root>               the canonical bytes of its content index
//   shard/<hash, hex>/<root>   16 bytes, two big-endian integers: offset and length of that shard in the root's file.
//                              A hint: who copies from there verifies the bytes.
//   use/<root>                 8 bytes, a big-endian double: when the root was last used, in milliseconds since 1970

import { decodeCbor, encodeCbor } from '../../base/cbor.ts'
import type { CidText } from '../../base/cid.ts'
import { digestBytes } from '../../base/hash.ts'
import type { KeyValue, KeyValueWrite } from '../../base/key-value.ts'
import type { Layout } from './layout.ts'
import { ShardFilter } from './shard-filter.ts'

export interface RootRecord {
  readonly root: CidText
  readonly complete: boolean
  readonly size: number
}

export interface ShardLocation {
  readonly root: CidText
  readonly offset: number
  readonly length: number
}

/** Writes in one batch: a content of 5 GiB in shards of 256 KiB. Larger ones record their hints in several. */
const maxBatch = 20_000

/** Keys looked at in one go when stale ones are sought. */
const stalePage = 2_000

export class ContentRecords {
  readonly #store: KeyValue

  /** Made when it is first asked for, and again when it is full. */
  #filter: Promise<ShardFilter> | undefined

  constructor(store: KeyValue) {
    this.#store = store
  }

  async *list(): AsyncIterable<RootRecord> {
    for await (const [key, value] of this.#store.entries({ prefix: 'content/' })) {
      const { complete, size } = decodeCbor(value, 1024, 'A content record') as RootRecord
      yield { root: key.slice('content/'.length), complete, size }
    }
  }

  indexBytes(root: CidText): Promise<Uint8Array | undefined> {
    return this.#store.get(`index/${root}`)
  }

  begin(layout: Layout): Promise<void> {
    return this.#store.batch([putIndex(layout), putContent(layout, false)])
  }

  /** The payload must be durable before. The last batch is what makes the root visible. */
  async finish(layout: Layout): Promise<void> {
    const hints = shardKeys(layout).map(([key, shard]) => putLocation(key, layout, shard))
    while (hints.length > maxBatch) await this.#store.batch(hints.splice(0, maxBatch))
    await this.#store.batch([...hints, putIndex(layout), putContent(layout, true)])
    await this.#inFilter(filter => {
      for (const { hash } of layout.index.shards) filter.add(hash)
    })
  }

  /** Hints first: a root that loses them in a crash is still whole. Without a layout (damaged index) they stay and lead nowhere. */
  async forget(root: CidText, layout: Layout | undefined, { complete = true } = {}): Promise<void> {
    const hints =
      layout === undefined ? [] : shardKeys(layout).map(([key]) => ({ type: 'delete', key }) as const)
    while (hints.length > maxBatch) await this.#store.batch(hints.splice(0, maxBatch))
    await this.#store.batch([
      ...hints,
      { type: 'delete', key: `content/${root}` },
      { type: 'delete', key: `index/${root}` },
      { type: 'delete', key: `use/${root}` },
    ])
    // Nobody need wait for one that is being made.
    if (complete && layout !== undefined) void this.#inFilter(filter => filter.lose(layout.count))
  }

  /** Changes the filter, where there is one; the next question makes it anew where it has become blunt. */
  async #inFilter(change: (filter: ShardFilter) => void): Promise<void> {
    const making = this.#filter
    const filter = await making?.catch(() => undefined)
    if (filter === undefined) return
    change(filter)
    if (filter.blunt && this.#filter === making) this.#filter = undefined
  }

  async *uses(): AsyncIterable<{ readonly root: CidText; readonly usedAt: number }> {
    for await (const [key, value] of this.#store.entries({ prefix: 'use/' }))
      if (value.byteLength === 8)
        yield {
          root: key.slice('use/'.length),
          usedAt: new DataView(value.buffer, value.byteOffset).getFloat64(0),
        }
  }

  saveUses(uses: readonly { readonly root: CidText; readonly usedAt: number }[]): Promise<void> {
    return this.#store.batch(
      uses.map(({ root, usedAt }) => {
        const value = Buffer.alloc(8)
        value.writeDoubleBE(usedAt)
        return { type: 'put', key: `use/${root}`, value }
      }),
    )
  }

  /** Hints and uses whose root `isGone`, a page at a time: a large store has millions. */
  async *stale(isGone: (root: CidText) => boolean): AsyncIterable<readonly string[]> {
    for (const prefix of ['shard/', 'use/'])
      for (let after: string | undefined; ; ) {
        const keys: string[] = []
        let read = 0
        const page = { prefix, limit: stalePage, ...(after === undefined ? {} : { after }) }
        for await (const key of this.#store.keys(page)) {
          after = key
          read += 1
          if (isGone(key.slice(key.lastIndexOf('/') + 1))) keys.push(key)
        }
        if (keys.length > 0) yield keys
        if (read < stalePage) break
      }
  }

  forgetKeys(keys: readonly string[]): Promise<void> {
    return this.#store.batch(keys.map(key => ({ type: 'delete', key })))
  }

  /** Of all shards that have a location. */
  filter(): Promise<ShardFilter> {
    this.#filter ??= this.#makeFilter().catch(error => {
      this.#filter = undefined
      throw error
    })
    return this.#filter
  }

  async *locations(hash: Uint8Array): AsyncIterable<ShardLocation> {
    if (!(await this.filter()).mayHave(hash)) return
    const prefix = `shard/${Buffer.from(hash).toString('hex')}/`
    // A few are enough: each is as good as the next unless its file is damaged.
    for await (const [key, value] of this.#store.entries({ prefix, limit: 8 })) {
      const view = new DataView(value.buffer, value.byteOffset, value.byteLength)
      if (value.byteLength !== 16) continue
      const [offset, length] = [Number(view.getBigUint64(0)), Number(view.getBigUint64(8))]
      yield { root: key.slice(prefix.length), offset, length }
    }
  }

  /** What is recorded while it is made is added by whoever records it. */
  async #makeFilter(): Promise<ShardFilter> {
    const hashes: Uint8Array[] = []
    for await (const key of this.#store.keys({ prefix: 'shard/' }))
      hashes.push(Buffer.from(key.slice('shard/'.length, 'shard/'.length + 2 * digestBytes), 'hex'))
    const filter = new ShardFilter(hashes.length)
    for (const hash of hashes) if (hash.byteLength === digestBytes) filter.add(hash)
    return filter
  }

  forgetLocation(hash: Uint8Array, root: CidText): Promise<void> {
    return this.#store.delete(`shard/${Buffer.from(hash).toString('hex')}/${root}`)
  }
}

/** One key for each different shard of a root. */
function shardKeys(layout: Layout): (readonly [key: string, shard: number])[] {
  const keys = new Map<string, number>()
  for (const [shard, { hash }] of layout.index.shards.entries())
    keys.set(`shard/${Buffer.from(hash).toString('hex')}/${layout.root}`, shard)
  return [...keys]
}

function putLocation(key: string, layout: Layout, shard: number): KeyValueWrite {
  const value = Buffer.alloc(16)
  value.writeBigUInt64BE(BigInt(layout.offset(shard)), 0)
  value.writeBigUInt64BE(BigInt(layout.length(shard)), 8)
  return { type: 'put', key, value }
}

const putIndex = ({ root, indexBytes }: Layout): KeyValueWrite => ({
  type: 'put',
  key: `index/${root}`,
  value: indexBytes,
})

const putContent = ({ root, size }: Layout, complete: boolean): KeyValueWrite => ({
  type: 'put',
  key: `content/${root}`,
  value: encodeCbor({ v: 1, complete, size }),
})
