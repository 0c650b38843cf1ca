// The proof that a publisher signed two different heads under one number, as a record that anybody can check. Like any
// record it is named by the CID of its bytes; its two heads are proved one by one, by whoever takes it in.
//
//   record = canonical CBOR { v: 1, type: 'equivocation', heads: [envelope bytes, envelope bytes] }
//            the heads ascending by id, so that the same two make the same record wherever they meet
//   limits   two envelopes of at most `recordLimits.maxBytes`
//   refused  anything but two heads of one network, publisher, name and sequence whose statements differ
import { decodeCbor, encodeCbor, equalBytes } from '../base/cbor.ts'
import { type CidText, cidOf } from '../base/cid.ts'
import { CatalogError } from '../base/errors.ts'
import { decodeEnvelope, type Envelope, type HeadStatement, recordLimits } from './release.ts'

type Head = Envelope<HeadStatement>

export interface Equivocation {
  readonly publisher: string
  readonly name: string
  readonly sequence: number
  /** Ascending by id. */
  readonly heads: readonly [Head, Head]
  readonly bytes: Uint8Array
  readonly id: CidText
}

/** The largest record that is no envelope: what a node reads from a peer at most. */
export const maxEquivocationBytes = 2 * recordLimits.maxBytes + 64

const version = 1
const type = 'equivocation'

/** @throws CatalogError `bad-record` when the two are no contradiction */
export function equivocationOf(one: Head, other: Head): Equivocation {
  const heads: readonly [Head, Head] = one.id < other.id ? [one, other] : [other, one]
  const { publisher, name, sequence } = contradiction(heads)
  const bytes = encodeCbor({ v: version, type, heads: heads.map(head => head.bytes) })
  return { publisher, name, sequence, heads, bytes, id: cidOf(bytes) }
}

/** Checks the form; the signatures of the heads are still unproved. @throws CatalogError `bad-record` */
export function decodeEquivocation(bytes: Uint8Array): Equivocation {
  const value = decodeCbor(bytes, maxEquivocationBytes, 'A proof of equivocation')
  const raw = (value ?? {}) as Record<string, unknown>
  const heads = raw['heads']
  if (Object.keys(raw).length !== 3 || raw['v'] !== version || raw['type'] !== type || !Array.isArray(heads))
    throw broken('its fields are not those of version 1')
  if (heads.length !== 2 || !heads.every(head => head instanceof Uint8Array))
    throw broken('it does not carry two heads')
  const [one, other] = heads.map(head => decodeEnvelope(head)) as [Envelope, Envelope]
  if (!isHead(one) || !isHead(other)) throw broken('it carries something that is no head')
  if (one.id >= other.id) throw broken('its heads are not in order')
  const { publisher, name, sequence } = contradiction([one, other])
  return { publisher, name, sequence, heads: [one, other], bytes, id: cidOf(bytes) }
}

/** What the two heads have in common. */
function contradiction([one, other]: readonly [Head, Head]): HeadStatement {
  const [a, b] = [one.statement, other.statement]
  if (a.network !== b.network || a.publisher !== b.publisher || a.name !== b.name)
    throw broken('its heads are of different names')
  if (a.sequence !== b.sequence) throw broken('its heads have different numbers')
  if (equalBytes(one.statementBytes, other.statementBytes)) throw broken('its heads say the same')
  return a
}

const isHead = (envelope: Envelope): envelope is Head => envelope.statement.type === 'head'

const broken = (why: string) =>
  new CatalogError('bad-record', `The proof of equivocation is refused: ${why}.`)
