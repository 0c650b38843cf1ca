// Writes a tar archive (ustar with pax extended headers: POSIX.1-2017, pax, "ustar Interchange Format" and "pax Header
// Block") of files, links and empty directories, as a stream: nothing is gathered but one header. Times and owners are
// absent, so the same entries give the same bytes. Reading one is unpack-archive.ts.
import { CatalogError } from '../base/errors.ts'
import type { CallOptions } from '../base/lifecycle.ts'

export type ArchiveEntry =
  | { readonly kind: 'file'; readonly path: string; readonly mode: number; readonly size: number }
  | { readonly kind: 'directory'; readonly path: string }
  | { readonly kind: 'link'; readonly path: string; readonly target: string }

const blockBytes = 512
const zeros = new Uint8Array(2 * blockBytes)
/** Eleven octal digits. */
const maxHeaderSize = 0o77777777777
const maxNameBytes = 100

/**
 * @param bytesOf the bytes of a file, asked for in the order of the entries, one at a time.
 * @throws CatalogError `invalid-package` when a file has other than its `size` bytes; whatever `bytesOf` throws
 */
export async function* packArchive<E extends ArchiveEntry>(
  entries: Iterable<E>,
  bytesOf: (file: Extract<E, { kind: 'file' }>) => AsyncIterable<Uint8Array>,
  options: CallOptions = {},
): AsyncGenerator<Uint8Array, void, undefined> {
  for (const entry of entries) {
    options.signal?.throwIfAborted()
    yield headerOf(entry)
    if (entry.kind !== 'file') continue
    let missing = entry.size
    for await (const chunk of bytesOf(entry as Extract<E, { kind: 'file' }>)) {
      missing -= chunk.byteLength
      if (missing < 0) throw changed(entry)
      yield chunk
    }
    if (missing > 0) throw changed(entry)
    yield zeros.subarray(0, paddingOf(entry.size))
  }
  yield zeros
}

/** Hands out the parts of one stream in turn: the files of a release, which lie in it one behind the other. */
export function partsOf(stream: AsyncIterable<Uint8Array>): {
  take(bytes: number): AsyncGenerator<Uint8Array, void, undefined>
  close(): Promise<void>
} {
  const chunks = stream[Symbol.asyncIterator]()
  let left: Uint8Array = new Uint8Array()
  return {
    async *take(bytes) {
      let missing = bytes
      while (missing > 0) {
        if (left.byteLength === 0) {
          const { done, value } = await chunks.next()
          if (done === true) return
          left = value
        }
        const part = left.subarray(0, missing)
        left = left.subarray(part.byteLength)
        missing -= part.byteLength
        yield part
      }
    },
    async close() {
      await chunks.return?.()
    },
  }
}

const changed = ({ path }: ArchiveEntry) =>
  new CatalogError(
    'invalid-package',
    `${JSON.stringify(path)} is not as long as it was when it was listed. Try again when it is written.`,
    { path },
  )

const paddingOf = (size: number): number => (blockBytes - (size % blockBytes)) % blockBytes

/** The header block, behind a pax header for what does not fit in it. */
function headerOf(entry: ArchiveEntry): Uint8Array {
  const name = entry.kind === 'directory' ? `${entry.path}/` : entry.path
  const target = entry.kind === 'link' ? entry.target : ''
  const size = entry.kind === 'file' ? entry.size : 0
  const records = [
    ...(fits(name) ? [] : [paxRecord('path', name)]),
    ...(fits(target) ? [] : [paxRecord('linkpath', target)]),
    ...(size <= maxHeaderSize ? [] : [paxRecord('size', String(size))]),
  ]
  const header = block({
    name: fits(name) ? name : 'see-pax-header',
    target: fits(target) ? target : 'see-pax-header',
    mode: entry.kind === 'file' ? entry.mode : entry.kind === 'link' ? 0o777 : 0o755,
    size: size <= maxHeaderSize ? size : 0,
    type: { file: '0', link: '2', directory: '5' }[entry.kind],
  })
  if (records.length === 0) return header
  const extended = Buffer.concat(records)
  const size2 = extended.byteLength
  const before = block({ name: 'pax-header', target: '', mode: 0o644, size: size2, type: 'x' })
  return Buffer.concat([before, extended, zeros.subarray(0, paddingOf(size2)), header])
}

/** Other tools agree on ASCII alone. */
const fits = (text: string): boolean => Buffer.byteLength(text) === text.length && text.length <= maxNameBytes

/** `LENGTH KEY=VALUE\n`, the length counting itself. */
function paxRecord(key: string, value: string): Buffer {
  const rest = Buffer.from(` ${key}=${value}\n`)
  let length = rest.byteLength + 1
  while (String(length).length + rest.byteLength !== length) length = String(length).length + rest.byteLength
  return Buffer.concat([Buffer.from(String(length)), rest])
}

function block({
  name,
  target,
  mode,
  size,
  type,
}: {
  readonly name: string
  readonly target: string
  readonly mode: number
  readonly size: number
  readonly type: string
}): Buffer {
  const header = Buffer.alloc(blockBytes)
  const octal = (value: number, digits: number) => value.toString(8).padStart(digits, '0')
  header.write(name, 0)
  header.write(octal(mode, 7), 100)
  // Owner, group and time: none.
  header.write(octal(0, 7), 108)
  header.write(octal(0, 7), 116)
  header.write(octal(size, 11), 124)
  header.write(octal(0, 11), 136)
  header.write('        ', 148)
  header.write(type, 156)
  header.write(target, 157)
  header.write('ustar\0' + '00', 257)
  header.write(octal(0, 7), 329)
  header.write(octal(0, 7), 337)
  const sum = header.reduce((total, byte) => total + byte, 0)
  header.write(`${octal(sum, 6)}\0 `, 148)
  return header
}
