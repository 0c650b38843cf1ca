// What people see of a release in lists and searches: a few bounded fields taken from its envelope. The manifest
// inside comes from another publisher: whatever has a wrong type is left out, whatever is long is cut.
import type { Envelope, ReleaseStatement } from '../assets/release.ts'
import type { CidText } from '../base/cid.ts'

/** The part that stays in memory for every known release. */
export interface ReleaseEntry {
  readonly id: CidText
  readonly root: CidText
  readonly publisher: string
  readonly name: string
  readonly version: string
  /** Bytes of the stream; number of files and links. */
  readonly size: number
  readonly files: number
  /** Milliseconds since 1970 (UTC). */
  readonly signedAt: number
  /** Bytes of the envelope. */
  readonly recordBytes: number
}

export interface ReleaseSummary extends ReleaseEntry {
  readonly description: string
  readonly tags: readonly string[]
  readonly type: string
  readonly category?: string
}

const summaryLimits = { maxDescription: 1000, maxTags: 32, maxTagLength: 64 } as const

export function summaryOf({ id, bytes, statement }: Envelope<ReleaseStatement>): ReleaseSummary {
  const { root, publisher, name, version, size, files, signedAt } = statement
  const metadata = fieldsOf(fieldsOf(statement.manifest)['metadata'])
  const spec = fieldsOf(fieldsOf(statement.manifest)['spec'])
  const tags = Array.isArray(metadata['tags']) ? metadata['tags'] : []
  const category = textOf(spec['category'], summaryLimits.maxTagLength)
  return {
    ...{ id, root, publisher, name, version, size, files, signedAt, recordBytes: bytes.byteLength },
    description: textOf(spec['description'], summaryLimits.maxDescription),
    tags: tags
      .slice(0, summaryLimits.maxTags)
      .map(tag => textOf(tag, summaryLimits.maxTagLength))
      .filter(tag => tag !== ''),
    type: textOf(spec['type'], summaryLimits.maxTagLength) || 'package',
    ...(category === '' ? {} : { category }),
  }
}

/** The stored form. This node's own index, never signed or sent: JSON, because it is read 100,000 at a time. */
export const encodeSummary = (summary: ReleaseSummary): Uint8Array => Buffer.from(JSON.stringify(summary))

export const decodeSummary = (bytes: Uint8Array): ReleaseSummary =>
  JSON.parse(Buffer.from(bytes.buffer, bytes.byteOffset, bytes.byteLength).toString()) as ReleaseSummary

export function entryOf(summary: ReleaseSummary): ReleaseEntry {
  const { id, root, publisher, name, version, size, files, signedAt, recordBytes } = summary
  return { id, root, publisher, name, version, size, files, signedAt, recordBytes }
}

const fieldsOf = (value: unknown): Record<string, unknown> =>
  value !== null && typeof value === 'object' && !Array.isArray(value)
    ? (value as Record<string, unknown>)
    : {}

function textOf(value: unknown, maxLength: number): string {
  if (typeof value !== 'string') return ''
  // Control characters would reach terminals.
  // biome-ignore lint/suspicious/noControlCharactersInRegex: they are what is replaced.
  const clean = value.replace(/[\u0000-\u001f\u007f-\u009f]+/g, ' ').trim()
  return clean.length <= maxLength ? clean : `${clean.slice(0, maxLength - 1)}…`.toWellFormed()
}
