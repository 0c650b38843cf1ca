// The content index: what the bytes of a release are. Its files (path, mode, size, offset, hashes) and its
// shards (hash, length) in stream order, in canonical CBOR; the CID of those bytes is the content root.
// Decoding checks every rule that keeps a hostile index from harm: bounds, order, paths, links, sums.
import { decodeCbor, encodeCbor } from '../base/cbor.ts'
import { type CidText, cidOf } from '../base/cid.ts'
import { CatalogError } from '../base/errors.ts'
import { digestBytes } from '../base/hash.ts'
import { checkEntryPath, checkLinkTarget, comparePaths } from './entry-path.ts'

/** A regular file: `offset` and `size` place it in the release's byte stream. `mode` is the nine permission bits. */
export interface FileEntry {
  readonly kind: 'file'
  readonly path: string
  readonly mode: number
  readonly size: number
  readonly offset: number
  /** BLAKE3-256 and SHA-256 of the file's bytes. */
  readonly blake3: Uint8Array
  readonly sha256: Uint8Array
}

/** A directory that holds nothing; other directories follow from the paths in them. Mode is always 0755. */
export interface EmptyDirectoryEntry {
  readonly kind: 'directory'
  readonly path: string
}

export interface LinkEntry {
  readonly kind: 'link'
  readonly path: string
  /** Relative, and never leading outside the package. */
  readonly target: string
}

export type Entry = FileEntry | EmptyDirectoryEntry | LinkEntry

export interface ShardEntry {
  /** BLAKE3-256 of the shard's bytes. */
  readonly hash: Uint8Array
  /** Bytes; at least 1. */
  readonly length: number
}

export interface ContentIndex {
  /** Bytes of the whole stream: the sum of the files' sizes, and of the shards' lengths. */
  readonly size: number
  /** Digests of the whole stream. */
  readonly blake3: Uint8Array
  readonly sha256: Uint8Array
  /** Ascending by the UTF-8 bytes of their paths; files' offsets ascend with them, without gaps. */
  readonly entries: readonly Entry[]
  readonly shards: readonly ShardEntry[]
}

export const contentIndexLimits = {
  /** Encoded bytes. Room for 200,000 files, or for 100 GiB in shards of 256 KiB on average. */
  maxBytes: 64 * 1024 * 1024,
  maxEntries: 200_000,
  maxShardBytes: 1024 * 1024,
} as const

const version = 1
const kinds = { file: 0, directory: 1, link: 2 } as const

/** The canonical bytes of an index, and the content root that names them. */
export function encodeContentIndex(index: ContentIndex): {
  readonly bytes: Uint8Array
  readonly root: CidText
} {
  const bytes = encodeCbor({
    v: version,
    size: index.size,
    blake3: index.blake3,
    sha256: index.sha256,
    entries: index.entries.map(encodeEntry),
    shards: index.shards.map(shard => [shard.hash, shard.length]),
  })
  return { bytes, root: cidOf(bytes) }
}

function encodeEntry(entry: Entry): unknown[] {
  switch (entry.kind) {
    case 'file':
      return [entry.path, kinds.file, entry.mode, entry.size, entry.blake3, entry.sha256]
    case 'directory':
      return [entry.path, kinds.directory]
    case 'link':
      return [entry.path, kinds.link, entry.target]
  }
}

/**
 * Decodes and checks an index. Give `root` wherever the bytes come from elsewhere.
 * @throws CatalogError `corrupt-content` when the bytes are not those of `root`, `bad-record` when a rule is broken.
 */
export function decodeContentIndex(bytes: Uint8Array, root?: CidText): ContentIndex {
  if (root !== undefined && cidOf(bytes) !== root)
    throw new CatalogError('corrupt-content', `The content index does not hash to its root ${root}.`, {
      root,
    })
  const raw = decodeCbor(bytes, contentIndexLimits.maxBytes, 'A content index') as Record<string, unknown>
  if (raw === null || typeof raw !== 'object' || Array.isArray(raw)) throw broken('it is not a map')
  if (raw['v'] !== version) throw broken(`version ${String(raw['v'])} is not supported`)
  if (Object.keys(raw).length !== 6) throw broken('it has unknown fields')
  const entries = decodeEntries(raw['entries'])
  const shards = decodeShards(raw['shards'])
  const size = natural(raw['size'], 'size')
  const filesEnd = entries.reduce((end, entry) => (entry.kind === 'file' ? end + entry.size : end), 0)
  const shardsEnd = shards.reduce((end, shard) => end + shard.length, 0)
  if (filesEnd !== size || shardsEnd !== size) throw broken('sizes do not add up')
  return { size, blake3: digest(raw['blake3']), sha256: digest(raw['sha256']), entries, shards }
}

function decodeEntries(raw: unknown): Entry[] {
  if (!Array.isArray(raw)) throw broken('entries are not a list')
  if (raw.length > contentIndexLimits.maxEntries) throw broken(`it has ${raw.length} entries`)
  let offset = 0
  let previous: Entry | undefined
  const entries: Entry[] = []
  const kindOf = new Map<string, Entry['kind']>()
  for (const item of raw) {
    const entry = decodeEntry(item, offset)
    if (previous !== undefined && comparePaths(previous.path, entry.path) >= 0)
      throw broken(`${JSON.stringify(entry.path)} is out of order`)
    if (entry.kind === 'file') offset += entry.size
    kindOf.set(entry.path, entry.kind)
    entries.push(entry)
    previous = entry
  }
  for (const entry of entries) refuseEntryUnderNonDirectory(entry.path, kindOf)
  return entries
}

// A file below a link or below another file would write through it: the classic archive attack.
function refuseEntryUnderNonDirectory(path: string, kindOf: ReadonlyMap<string, Entry['kind']>): void {
  for (let slash = path.lastIndexOf('/'); slash > 0; slash = path.lastIndexOf('/', slash - 1))
    if (kindOf.has(path.slice(0, slash)))
      throw broken(`${JSON.stringify(path)} lies under an entry that is not a directory`)
}

function decodeEntry(raw: unknown, offset: number): Entry {
  if (!Array.isArray(raw) || typeof raw[0] !== 'string') throw broken('an entry has no path')
  const path = checkEntryPath(raw[0])
  if (raw[1] === kinds.directory && raw.length === 2) return { kind: 'directory', path }
  if (raw[1] === kinds.link && raw.length === 3 && typeof raw[2] === 'string')
    return { kind: 'link', path, target: checkLinkTarget(path, raw[2]) }
  if (raw[1] !== kinds.file || raw.length !== 6) throw broken(`${JSON.stringify(path)} has an unknown kind`)
  const mode = natural(raw[2], 'mode')
  if (mode > 0o777) throw broken(`${JSON.stringify(path)} has mode ${mode.toString(8)}`)
  const size = natural(raw[3], 'size')
  return { kind: 'file', path, mode, size, offset, blake3: digest(raw[4]), sha256: digest(raw[5]) }
}

function decodeShards(raw: unknown): ShardEntry[] {
  if (!Array.isArray(raw)) throw broken('shards are not a list')
  return raw.map(item => {
    if (!Array.isArray(item) || item.length !== 2) throw broken('a shard is not a pair')
    const length = natural(item[1], 'a shard length')
    if (length < 1 || length > contentIndexLimits.maxShardBytes) throw broken(`a shard has ${length} bytes`)
    return { hash: digest(item[0]), length }
  })
}

function natural(value: unknown, what: string): number {
  if (typeof value !== 'number' || !Number.isSafeInteger(value) || value < 0)
    throw broken(`${what} is not a size`)
  return value
}

function digest(value: unknown): Uint8Array {
  if (!(value instanceof Uint8Array) || value.byteLength !== digestBytes)
    throw broken('a digest is not 32 bytes')
  return value
}

const broken = (why: string) => new CatalogError('bad-record', `The content index is refused: ${why}.`)

/** The number of files of an index, as `files` in every JSON. */
export const countFiles = (index: ContentIndex): number =>
  index.entries.reduce((count, entry) => (entry.kind === 'directory' ? count : count + 1), 0)
