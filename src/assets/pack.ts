// Turns a package's tree into content: one pass over its files in path order that reads, hashes and cuts them and
// hands the shards to a writer. Describes the result in a content index; does not encode, record or publish it.
//
//   PackageStream -slices-> Digester (stream, large files)     reading goes on while a slice is hashed and cut, and
//                        -> ShardSink (cut, hash) -> writer    a slice's memory is used again once all are done with it
import type { ContentIndex, Entry } from './content-index.ts'
import type { ContentWriter } from './content-store.ts'
import { Blocks } from './pack/blocks.ts'
import { DigestThread } from './pack/digest-thread.ts'
import { type Digester, type Digests, LocalDigester } from './pack/digests.ts'
import { ShardSink } from './pack/shard-sink.ts'
import { isSmall, PackageStream, type Slice } from './pack/stream.ts'
import type { SourceEntry } from './package-tree.ts'

export interface PackOptions {
  readonly signal?: AbortSignal | undefined
  /** Bytes read, hashed and cut so far. */
  readonly onProgress?: ((bytesDone: number) => void) | undefined
}

/** From here on a worker hashes: starting one costs 50 ms of CPU, SHA-256 of this much as long. */
const threadedBytes = 64 * 1024 * 1024

/**
 * Reads the entries (ascending by `comparePaths`) into the writer, and describes them. Memory stays within some 16 MiB
 * for any size. The caller commits or aborts the writer.
 * @throws CatalogError `invalid-package` when a file is not what it was when the entries were listed, or changes while
 * it is read; whatever the writer throws; the signal's reason
 */
export async function packTree(
  entries: readonly SourceEntry[],
  writer: ContentWriter,
  options: PackOptions = {},
): Promise<ContentIndex> {
  const files = entries.filter(entry => entry.kind === 'file')
  const size = files.reduce((sum, file) => sum + file.size, 0)
  const shared = size >= threadedBytes
  const blocks = new Blocks(size, shared)
  const digester: Digester = shared
    ? new DigestThread(blocks.memory as SharedArrayBuffer)
    : new LocalDigester()
  const shards = new ShardSink(writer, files)
  const small: Digests[] = []
  const large: Promise<Digests>[] = []
  const slices = new PackageStream(files, blocks, digests => small.push(digests)).slices()
  try {
    let done = 0
    for await (const slice of oneAhead(slices)) {
      options.signal?.throwIfAborted()
      digester.update(slice)
      if (slice.large === 'ends') large.push(quietly(digester.file()))
      await shards.push(slice)
      slice.block.release()
      done += slice.bytes.byteLength
      options.onProgress?.(done)
    }
    const stream = quietly(digester.stream())
    const described = describe(entries, small, await Promise.all(large))
    return { size, ...(await stream), entries: described, shards: await shards.end() }
  } finally {
    await shards.settle()
    await digester.close()
  }
}

/** Reads the next slice while this one is used. */
async function* oneAhead(slices: AsyncGenerator<Slice>): AsyncGenerator<Slice> {
  let next = quietly(slices.next())
  try {
    for (;;) {
      const { done, value } = await next
      if (done === true) return
      next = quietly(slices.next())
      yield value
    }
  } finally {
    // What is being read ends first: nothing may use the package, or a block, when this is over.
    await Promise.allSettled([next, slices.return(undefined)])
  }
}

/** Its failure is reported where it is awaited, which may be later than it fails, or never. */
function quietly<T>(promise: Promise<T>): Promise<T> {
  promise.catch(() => undefined)
  return promise
}

function describe(
  entries: readonly SourceEntry[],
  small: readonly Digests[],
  large: readonly Digests[],
): Entry[] {
  const [smalls, larges] = [small.values(), large.values()]
  let offset = 0
  return entries.map(entry => {
    if (entry.kind !== 'file') return entry
    const digests = (isSmall(entry) ? smalls : larges).next().value as Digests
    offset += entry.size
    const { path, mode, size } = entry
    return { kind: 'file', path, mode, size, offset: offset - size, ...digests }
  })
}
