// Packages that pass through the control socket as streams, where the daemon may not read or write this user's files:
// made into an archive here, and written out here from an index that hashes to what was asked for.
import { createReadStream } from 'node:fs'
import { join } from 'node:path'
import { decodeContentIndex } from '../assets/content-index.ts'
import { packArchive } from '../assets/pack-archive.ts'
import { type SourceEntry, type SourceFile, scanPackage } from '../assets/package-tree.ts'
import { writeTree } from '../assets/write-tree.ts'
import type { FetchResult, ProgressOptions, PublishResult } from '../control/api.ts'
import type { ContentOf, ControlClient } from '../control/client.ts'

const readBytes = 256 * 1024

/** Publishes a package directory, or a manifest alone, of this machine's user. */
export async function publishPackage(
  client: ControlClient,
  path: string,
  request: { readonly replicas?: number },
  options: ProgressOptions,
): Promise<PublishResult> {
  const { signal, onProgress } = options
  const tree = await scanPackage(path, { signal })
  // The manifest brings its inline binaries along: the daemon makes files of them, as it would of this directory's.
  const entries = tree.entries.filter(entry => !isInlineBinary(entry, tree.manifestPath))
  let done = 0
  const report = (bytes: number) => {
    done += bytes
    onProgress?.({ phase: 'send', done, total: tree.totalBytes })
  }
  const archive = packArchive(entries, file => bytesOf(file, report), { signal })
  return client.publishArchive(archive, request, options)
}

const isInlineBinary = (entry: SourceEntry, manifestPath: string): boolean =>
  entry.kind === 'file' && entry.source.kind === 'inline' && entry.path !== manifestPath

async function* bytesOf(
  { source, size }: SourceFile,
  report: (bytes: number) => void,
): AsyncGenerator<Uint8Array, void, undefined> {
  if (source.kind === 'inline') {
    report(source.bytes.byteLength)
    yield source.bytes
    return
  }
  // One byte more than there should be shows a file that grows.
  const stream = createReadStream(source.absolutePath, { highWaterMark: readBytes, end: size })
  for await (const chunk of stream as AsyncIterable<Buffer>) {
    report(chunk.byteLength)
    yield chunk
  }
}

export interface WriteOptions extends ProgressOptions {
  readonly force: boolean
}

/** Writes a content out as `fetch` does: every file verified, and whole or not at all where nothing was before. */
export async function writeContent(
  client: ControlClient,
  of: ContentOf,
  root: string,
  out: string,
  { force, signal, onProgress }: WriteOptions,
): Promise<{ readonly files: number; readonly bytes: number }> {
  const index = decodeContentIndex(await client.index(of, { signal }), root)
  await writeTree(index, (offset, length) => client.content(of, offset, length, { signal }), out, {
    marker: root,
    force,
    signal,
    onProgress: done => onProgress?.({ phase: 'write', done, total: index.size }),
  })
  return { files: index.entries.filter(({ kind }) => kind !== 'directory').length, bytes: index.size }
}

/** Writes what the daemon fetched. */
export async function writeFetched(
  client: ControlClient,
  result: FetchResult,
  place: { readonly out?: string; readonly outParent?: string; readonly several: boolean },
  options: WriteOptions,
): Promise<FetchResult> {
  const directory = `${result.name.replace('/', '-')}-${result.version}`
  const { out, outParent, several } = place
  const to =
    out === undefined ? outParent && join(outParent, directory) : several ? join(out, directory) : out
  if (to === undefined) return result
  const started = performance.now()
  await writeContent(client, { release: result.id }, result.root, to, options)
  return { ...result, out: to, writeMilliseconds: Math.round(performance.now() - started) }
}
