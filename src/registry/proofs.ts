// The proofs that are kept against publishers who signed two heads under one number, by name and number: notices like
// others, bounded for each name. Which of them still hold a name back is for whoever knows its current head (heads.ts).
import { LRUCache } from 'lru-cache'
import { decodeEquivocation, type Equivocation } from '../assets/equivocation.ts'
import type { CidText } from '../base/cid.ts'
import { CatalogError } from '../base/errors.ts'
import type { Log } from '../base/log.ts'
import { type Head, lifts } from './head-rules.ts'
import type { DigestList } from './tables/digest-list.ts'
import type { Notices } from './tables/notices.ts'

export interface ProofsDeps {
  readonly notices: Notices
  readonly digests: DigestList
  readonly log: Log
}

/** Proofs against one name: more than any honest accident makes. One of 256 KiB takes ten milliseconds to decode. */
const maxProofs = 8
/** Bytes of those that are kept decoded; in memory four times as much. */
const maxDecodedBytes = 8 * 1024 * 1024
/** Names of which it is known which proofs hold them back. */
const maxJudged = 10_000

// No publisher and no name has a number sign.
const prefixOf = (key: string): string => `equivocation/${key}#`
const noticeKey = (key: string, { sequence, id }: Pick<Equivocation, 'sequence' | 'id'>): string =>
  `${prefixOf(key)}${sequence}/${id}`

/** Which proofs a head has not put right. */
interface Judged {
  readonly head: CidText | undefined
  readonly open: readonly CidText[]
}

/** `key` is publisher/name. */
export class Proofs {
  readonly #deps: ProofsDeps
  /** Names that a proof is kept against. */
  readonly #disputed = new Set<string>()
  readonly #decoded = new LRUCache<CidText, Equivocation>({
    max: 256,
    maxSize: maxDecodedBytes,
    sizeCalculation: ({ bytes }) => bytes.byteLength,
  })
  readonly #judged = new LRUCache<string, Judged>({ max: maxJudged })
  /** Counts proofs that came and went: what was judged meanwhile is not remembered. */
  #changes = 0

  constructor(deps: ProofsDeps) {
    this.#deps = deps
  }

  /** After the notices were loaded. */
  load(): void {
    for (const notice of this.#deps.notices.keys()) {
      const disputed = /^equivocation\/(.+)#/.exec(notice)?.[1]
      if (disputed !== undefined) this.#disputed.add(disputed)
    }
  }

  keys(): Iterable<string> {
    return this.#disputed
  }

  async of(key: string): Promise<Equivocation[]> {
    const proofs: Equivocation[] = []
    if (!this.#disputed.has(key)) return proofs
    for await (const { key: notice, bytes } of this.#deps.notices.entries(prefixOf(key))) {
      const id = notice.slice(notice.lastIndexOf('/') + 1)
      const proof = this.#decoded.get(id) ?? decodeEquivocation(bytes)
      this.#decoded.set(id, proof)
      proofs.push(proof)
    }
    return proofs
  }

  /**
   * Ids of those that the head of this id has not put right. Remembered, because every member may ask for it.
   */
  async openOf(
    key: string,
    head: CidText | undefined,
    read: () => Promise<Head | undefined>,
  ): Promise<readonly CidText[]> {
    if (!this.#disputed.has(key)) return []
    const judged = this.#judged.get(key)
    if (judged !== undefined && judged.head === head) return judged.open
    const changes = this.#changes
    const current = await read()
    const proofs = await this.of(key)
    const open = proofs.filter(proof => current === undefined || !lifts(proof, current)).map(({ id }) => id)
    if (current?.id === head && changes === this.#changes) this.#judged.set(key, { head, open })
    return open
  }

  /** The record of a proof that is kept. */
  async bytesOf(id: CidText): Promise<Uint8Array | undefined> {
    const notice = this.#deps.notices.keyOf(id)
    return notice === undefined ? undefined : this.#deps.notices.get(notice)
  }

  async *all(): AsyncIterable<Equivocation> {
    for await (const { bytes } of this.#deps.notices.entries('equivocation/')) yield decodeEquivocation(bytes)
  }

  /** False when it is kept already. @throws CatalogError `quota-exceeded` */
  async keep(key: string, proof: Equivocation, current: Head | undefined): Promise<boolean> {
    const { notices, digests, log } = this.#deps
    const { publisher, name, sequence, heads, bytes, id } = proof
    if (notices.entry(noticeKey(key, proof)) !== undefined) return false
    await this.#makeRoomFor(key, proof, current)
    await notices.put(noticeKey(key, proof), id, bytes)
    this.#forgetJudgement(key)
    digests.add(id)
    this.#disputed.add(key)
    log.warn(
      { publisher, package: name, sequence, heads: heads.map(head => head.id) },
      'a publisher signed two heads under one number',
    )
    return true
  }

  /** The oldest that was put right goes; while none was, the name is held back anyway. */
  async #makeRoomFor(key: string, { publisher, name, sequence }: Equivocation, current: Head | undefined) {
    const proofs = await this.of(key)
    if (proofs.length < maxProofs) return
    const [oldest] = proofs
      .filter(proof => current !== undefined && lifts(proof, current))
      .sort((a, b) => a.sequence - b.sequence)
    if (oldest === undefined || oldest.sequence > sequence)
      throw new CatalogError(
        'quota-exceeded',
        `One more proof against ${name} by ${publisher} is not kept: there are ${proofs.length}.`,
      )
    await this.remove(key, oldest)
  }

  async remove(key: string, proof: Equivocation): Promise<void> {
    const gone = await this.#deps.notices.remove(noticeKey(key, proof))
    this.#forgetJudgement(key)
    this.#decoded.delete(proof.id)
    if (gone !== undefined) this.#deps.digests.remove(gone.id)
    if ((await this.of(key)).length === 0) this.#disputed.delete(key)
  }

  #forgetJudgement(key: string): void {
    this.#changes++
    this.#judged.delete(key)
  }
}
