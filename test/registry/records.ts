// Releases and heads for tests of the catalogue. Their signatures are placeholders: the catalogue takes what was
// verified before (test/trust/ covers that), and looks at statements and bytes only.
import {
  type Envelope,
  encodeEnvelope,
  encodeStatement,
  type FreshnessStatement,
  type HeadStatement,
  type ReleaseStatement,
  type Statement,
} from '../../src/assets/release.ts'
import type { Verified } from '../../src/assets/stage.ts'
import { type CidText, cidOf } from '../../src/base/cid.ts'
import { sha256 } from '../../src/base/hash.ts'

export const alice = 'b-alice'
export const bob = 'b-bob'

const bytesOf = (text: string) => sha256(Buffer.from(text))

export interface ReleaseFields {
  readonly publisher?: string
  readonly name?: string
  readonly version?: string
  readonly content?: string
  readonly description?: string
  readonly tags?: readonly string[]
  readonly type?: string
  readonly category?: string
  readonly manifest?: unknown
  readonly signedAt?: number
}

export function release(fields: ReleaseFields = {}): Verified<Envelope<ReleaseStatement>> {
  const { publisher = alice, name = 'word-count', version = '1.0.0', content = `${name}@${version}` } = fields
  const manifest = {
    metadata: { name, version, tags: fields.tags ?? [] },
    spec: {
      description: fields.description ?? `The package ${name}`,
      ...(fields.type === undefined ? {} : { type: fields.type }),
      ...(fields.category === undefined ? {} : { category: fields.category }),
    },
  }
  return placeholder<ReleaseStatement>({
    type: 'release',
    network: 'test',
    publisher,
    name,
    version,
    root: cidOf(bytesOf(content)),
    size: content.length,
    files: 1,
    blake3: bytesOf(content),
    sha256: bytesOf(content),
    manifestPath: 'catalog.yaml',
    manifest: 'manifest' in fields ? fields.manifest : manifest,
    signedAt: fields.signedAt ?? 1_790_000_000_000,
  })
}

/** A chain of heads of one name; head n lists versions 1.0.0 to 1.0.(n − 1). */
export function headChain(length: number, publisher = alice, name = 'word-count') {
  const releases = Array.from({ length }, (_, i) => release({ publisher, name, version: `1.0.${i}` }))
  const heads: Verified<Envelope<HeadStatement>>[] = []
  for (let sequence = 1; sequence <= length; sequence++)
    heads.push(
      head({
        publisher,
        name,
        sequence,
        ...(sequence === 1 ? {} : { previous: heads[sequence - 2]?.id as CidText }),
        versions: releases
          .slice(0, sequence)
          .map(({ id, statement }) => ({ version: statement.version, id })),
      }),
    )
  return { releases, heads }
}

/** `key` is which of its publisher's machines signed it. */
export function head(fields: Partial<HeadStatement> = {}, key = 0): Verified<Envelope<HeadStatement>> {
  return placeholder<HeadStatement>(
    {
      type: 'head',
      network: 'test',
      publisher: alice,
      name: 'word-count',
      sequence: 1,
      versions: [],
      signedAt: 1_790_000_000_000,
      expiresAt: 1_800_000_000_000,
      ...fields,
    },
    key,
  )
}

/** Says until when a head is still the newest. */
export const freshness = (
  { id, statement }: Envelope<HeadStatement>,
  expiresAt: number,
): Verified<Envelope<FreshnessStatement>> =>
  placeholder<FreshnessStatement>({
    ...{ type: 'freshness', network: 'test', publisher: statement.publisher, name: statement.name },
    ...{ head: id, sequence: statement.sequence, signedAt: 1_790_000_000_000, expiresAt },
  })

function placeholder<S extends Statement>(statement: S, key = 0): Verified<Envelope<S>> {
  const signature = { algorithm: 'ed25519', key: new Uint8Array(32).fill(key), signature: new Uint8Array(64) }
  return encodeEnvelope(statement, encodeStatement(statement), [signature]) as Verified<Envelope<S>>
}
