// The serving half of the sync protocol (spec in sync.ts): each question answered from the catalogue. It keeps
// nothing, and believes nothing.
import { maxEquivocationBytes } from '../../assets/equivocation.ts'
import { isPackageName } from '../../assets/name.ts'
import { cidOfDigest, isCid } from '../../base/cid.ts'
import { CatalogError } from '../../base/errors.ts'
import { digestBytes } from '../../base/hash.ts'
import { listField, type Message, textField } from '../../network/frames.ts'
import { decodeRanges, encodeRanges, IdSet, reconcile } from '../reconcile.ts'

export const syncLimits = {
  maxMessageBytes: 1024 * 1024,
  maxRecordsPerQuestion: 64,
  /** The largest record there is: a proof, with two heads in it. */
  maxRecordBytes: maxEquivocationBytes,
  maxAnswerBytes: 2 * 1024 * 1024,
  maxNews: 256,
  maxNamed: 8,
  /** Eight heads of a name, what keeps each fresh, and proofs against them. */
  maxOfName: 24,
  maxSteps: 32,
  maxQuestions: 1000,
  /** Ids that wait to be asked of one peer. */
  maxWanted: 100_000,
  answerMs: 10_000,
} as const

/** What a node tells others of its records. */
export interface SyncCatalogue {
  /** Digests of every record that this node knows or has forgotten on purpose, ascending; it may change while a session lasts, the next one sees the rest. */
  recordIds(): readonly Uint8Array[]
  record(id: string): Promise<Uint8Array | undefined>
  /** Heads of the name, and what belongs to them, each after its head. */
  recordsOf(name: string): Promise<readonly Uint8Array[]>
  releasesByRoot(root: string): readonly { readonly id: string }[]
}

export interface AnswerDeps {
  readonly catalogue: SyncCatalogue
  /** The peer has these records. */
  readonly onNews: (ids: readonly string[]) => void
}

/** @throws CatalogError `bad-peer-message` */
export async function answerSyncQuestion(
  question: Message,
  { catalogue, onNews }: AnswerDeps,
  reply: (answer: Message) => Promise<void>,
): Promise<void> {
  switch (question['op']) {
    case 'reconcile': {
      const ids = new IdSet(catalogue.recordIds())
      return reply({ ranges: encodeRanges(reconcile(ids, decodeRanges(question['ranges']), true).reply) })
    }
    case 'records':
      return answerRecords(catalogue, listField(question, 'ids', syncLimits.maxRecordsPerQuestion), reply)
    case 'news':
      onNews(listField(question, 'ids', syncLimits.maxNews).map(idOf))
      return reply({})
    case 'heads': {
      const name = textField(question, 'name', 256)
      const records = isPackageName(name) ? await catalogue.recordsOf(name) : []
      return reply({ records: capped(records, syncLimits.maxOfName) })
    }
    case 'root': {
      const root = textField(question, 'root', 100)
      return reply({
        records: isCid(root) ? capped(await releasesOfRoot(catalogue, root), syncLimits.maxNamed) : [],
      })
    }
    default:
      throw new CatalogError('bad-peer-message', 'A peer asked an unknown sync question.')
  }
}

async function answerRecords(
  catalogue: SyncCatalogue,
  ids: readonly unknown[],
  reply: (answer: Message) => Promise<void>,
): Promise<void> {
  let sent = 0
  for (const id of ids.map(idOf)) {
    const record = await catalogue.record(id)
    if (record === undefined) continue
    sent += record.byteLength
    if (sent > syncLimits.maxAnswerBytes) break
    await reply({ record })
  }
  await reply({ end: true })
}

async function releasesOfRoot(catalogue: SyncCatalogue, root: string): Promise<Uint8Array[]> {
  const entries = catalogue.releasesByRoot(root).slice(0, syncLimits.maxNamed)
  const records = await Promise.all(entries.map(({ id }) => catalogue.record(id)))
  return records.filter(record => record !== undefined)
}

function idOf(value: unknown): string {
  if (!(value instanceof Uint8Array) || value.byteLength !== digestBytes)
    throw new CatalogError('bad-peer-message', 'A record id is not 32 bytes.')
  return cidOfDigest(value)
}

/** As many records as fit into one answer. */
function capped(records: readonly Uint8Array[], max: number): Uint8Array[] {
  let bytes = 0
  return records.slice(0, max).filter(record => {
    bytes += record.byteLength
    return bytes < syncLimits.maxAnswerBytes - 1024
  })
}
