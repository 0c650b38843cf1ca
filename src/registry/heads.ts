// The current head of every publisher's name, and what is known against it: what keeps it fresh, and proofs that its
// publisher signed another under the same number. Takes only what was proved, and owns the order of things: a head
// never goes back, forks or delists (head-rules.ts). Releases are the catalogue's; how records lie on disk is tables/.
import { LRUCache } from 'lru-cache'
import { type Equivocation, equivocationOf } from '../assets/equivocation.ts'
import { decodeEnvelope, type Envelope, type FreshnessStatement } from '../assets/release.ts'
import type { Verified } from '../assets/stage.ts'
import type { CidText } from '../base/cid.ts'
import { CatalogError, isCatalogError } from '../base/errors.ts'
import type { Log } from '../base/log.ts'
import { checkSuccession, type HeadEntry, keepsAllOf } from './head-rules.ts'
import { Proofs } from './proofs.ts'
import type { DigestList } from './tables/digest-list.ts'
import { HeadTable, headKeyOf } from './tables/head-table.ts'
import type { Notices } from './tables/notices.ts'
import type { Quota } from './tables/quota.ts'
import { damagedRecord, type HeadEnvelope, type RecordStore } from './tables/record-store.ts'
import type { Turns } from './turns.ts'

export type FreshnessEnvelope = Envelope<FreshnessStatement>

/** Something about a head that has become durable. */
export interface HeadEvent {
  readonly kind: 'head' | 'freshness' | 'equivocation'
  readonly id: CidText
  readonly publisher: string
  readonly name: string
}

export interface HeadsDeps {
  readonly records: RecordStore
  readonly notices: Notices
  readonly quota: Quota
  readonly digests: DigestList
  readonly turns: Turns
  readonly log: Log
  readonly tell: (event: HeadEvent) => void
}

/** Names of which refused heads are kept, and freshness statements that came before their head. */
const maxWaiting = 256
/** Refused heads of one name: so many machines may a publisher have that do not hear each other. */
const maxRefused = 4
/** Bytes of those heads together: five times as much in memory (tables/record-store.ts). */
const maxRefusedBytes = 4 * 1024 * 1024
const maxWaitingBytes = 4 * 1024 * 1024
/** Numbers of heads seen passing by: 200 bytes each. */
const maxSeen = 20_000

const freshnessKey = (key: string): string => `freshness/${key}`

export class Heads {
  readonly #deps: HeadsDeps
  readonly #table = new HeadTable()
  readonly #proofs: Proofs
  /** Proved, and not what follows from the known head: what they follow may come, or their publisher unites them. */
  readonly #refused = new LRUCache<string, readonly Verified<HeadEnvelope>[]>({
    max: maxWaiting,
    maxSize: maxRefusedBytes,
    sizeCalculation: heads => heads.reduce((sum, { bytes }) => sum + bytes.byteLength, 0),
  })
  readonly #waitingFreshness = new LRUCache<string, Verified<FreshnessEnvelope>>({
    max: maxWaiting,
    maxSize: maxWaitingBytes,
    sizeCalculation: ({ bytes }) => bytes.byteLength,
  })
  readonly #seen = new LRUCache<string, number>({ max: maxSeen })

  constructor(deps: HeadsDeps) {
    this.#deps = deps
    this.#proofs = new Proofs(deps)
  }

  /** After the notices were loaded. */
  async load(): Promise<void> {
    const { records, quota, digests } = this.#deps
    for await (const [key, entry] of records.heads()) {
      this.#table.set(key, entry)
      quota.count(key.slice(0, key.indexOf('/')), 1, entry.bytes)
      digests.load(entry.id)
    }
    this.#proofs.load()
  }

  entry(publisher: string, name: string): HeadEntry | undefined {
    return this.#table.get(headKeyOf(publisher, name))
  }

  keyOf(id: CidText): string | undefined {
    return this.#table.keyOf(id)
  }

  get(publisher: string, name: string): Promise<HeadEnvelope | undefined> {
    return this.#current(headKeyOf(publisher, name))
  }

  /** One for each publisher, by fingerprint. */
  async ofName(name: string): Promise<HeadEnvelope[]> {
    const heads = await Promise.all(
      this.#table.publishersOf(name).map(publisher => this.get(publisher, name)),
    )
    return heads.filter(head => head !== undefined)
  }

  /** What extends the life of the current head, where something does. */
  async freshness(publisher: string, name: string): Promise<FreshnessEnvelope | undefined> {
    const bytes = await this.#deps.notices.get(freshnessKey(headKeyOf(publisher, name)))
    return bytes === undefined ? undefined : (decodeEnvelope(bytes) as FreshnessEnvelope)
  }

  /** The proofs against the name that its current head has not put right: while there are any, it is held back. */
  async contradictions(publisher: string, name: string): Promise<Equivocation[]> {
    const key = headKeyOf(publisher, name)
    const open = new Set(await this.#open(key))
    return open.size === 0 ? [] : (await this.#proofs.of(key)).filter(({ id }) => open.has(id))
  }

  /** The records of those proofs. */
  async contradictionBytes(publisher: string, name: string): Promise<Uint8Array[]> {
    const open = await this.#open(headKeyOf(publisher, name))
    const records = await Promise.all(open.map(id => this.#proofs.bytesOf(id)))
    return records.filter(bytes => bytes !== undefined)
  }

  #open(key: string): Promise<readonly CidText[]> {
    return this.#proofs.openOf(key, this.#table.get(key)?.id, () => this.#current(key))
  }

  /**
   * Heads that were refused here and list what the current one does not: another machine of the publisher signed them
   * without knowing of it. Only the latest few are remembered.
   */
  async divergent(publisher: string, name: string): Promise<readonly HeadEnvelope[]> {
    const key = headKeyOf(publisher, name)
    const refused = this.#refused.get(key) ?? []
    const current = refused.length === 0 ? undefined : await this.#current(key)
    return current === undefined ? [] : refused.filter(head => !keepsAllOf(head, current))
  }

  /** Every proof that is kept. */
  equivocations(): AsyncIterable<Equivocation> {
    return this.#proofs.all()
  }

  /**
   * Durable when it resolves; the head before it is gone then. `unseen`: signed here and shown to nobody, so that its
   * refusal is no proof of anything.
   * @throws CatalogError `stale-record`, `equivocation`, `head-fork`, `head-delisted`, `head-replaced`, `quota-exceeded`
   */
  add(
    envelope: Verified<HeadEnvelope>,
    options: { readonly unseen?: boolean } = {},
  ): Promise<'added' | 'known'> {
    const key = headKeyOf(envelope.statement.publisher, envelope.statement.name)
    return this.#deps.turns.take(key, () => this.#add(key, envelope, options.unseen === true))
  }

  async #add(key: string, envelope: Verified<HeadEnvelope>, unseen: boolean): Promise<'added' | 'known'> {
    const known = this.#table.get(key)
    if (known?.id === envelope.id) return 'known'
    if (known !== undefined) await this.#checkAgainst(key, known, envelope, unseen)
    await this.#put(key, known, envelope)
    const fresh = this.#waitingFreshness.get(key)
    if (fresh?.statement.head === envelope.id) {
      this.#waitingFreshness.delete(key)
      await this.#putFreshness(key, fresh)
    }
    return 'added'
  }

  async #put(key: string, known: HeadEntry | undefined, envelope: Verified<HeadEnvelope>): Promise<void> {
    const { records, notices, quota, digests } = this.#deps
    const { id, bytes, statement } = envelope
    const { publisher, name, sequence } = statement
    const entry: HeadEntry = { id, sequence, bytes: bytes.byteLength }
    const growth = known === undefined ? 1 : 0
    quota.reserve(publisher, growth, entry.bytes - (known?.bytes ?? 0))
    const outdated = freshnessKey(key)
    try {
      await records.putHead(key, envelope, entry, known, notices.removing(outdated))
    } catch (error) {
      quota.count(publisher, -growth, (known?.bytes ?? 0) - entry.bytes)
      throw error
    }
    this.#table.set(key, entry)
    digests.add(id)
    for (const gone of [known, notices.removed(outdated)]) if (gone !== undefined) digests.remove(gone.id)
    this.#deps.tell({ kind: 'head', id, publisher, name })
  }

  async #checkAgainst(
    key: string,
    known: HeadEntry,
    next: Verified<HeadEnvelope>,
    unseen: boolean,
  ): Promise<void> {
    const current = await this.#current(key)
    if (current === undefined) throw damagedRecord(known.id)
    const refusal = checkSuccession(current, next, await this.#twinsOf(key, current, next))
    if (refusal === undefined) return
    if (refusal.code === 'equivocation' && !unseen) await this.#keepProof(key, equivocationOf(current, next))
    if (!unseen && !keepsAllOf(next, current)) this.#keepRefused(key, next)
    throw refusal
  }

  #keepRefused(key: string, head: Verified<HeadEnvelope>): void {
    const others = (this.#refused.get(key) ?? []).filter(({ id }) => id !== head.id)
    this.#refused.set(key, [...others, head].slice(-maxRefused))
  }

  /** Where the next one may be what follows a twin. */
  async #twinsOf(
    key: string,
    { id, statement }: HeadEnvelope,
    { statement: next }: HeadEnvelope,
  ): Promise<HeadEnvelope[]> {
    if (next.sequence !== statement.sequence + 1 || next.previous === id) return []
    const proofs = (await this.#proofs.of(key)).filter(({ sequence }) => sequence === statement.sequence)
    return proofs.flatMap(({ heads }) => heads.filter(head => head.id !== id))
  }

  /**
   * Takes a proof whose two heads were proved. @throws CatalogError `quota-exceeded`
   */
  addEquivocation(proof: Verified<Equivocation>): Promise<'added' | 'known'> {
    const key = headKeyOf(proof.publisher, proof.name)
    return this.#deps.turns.take(key, async () => {
      if (!(await this.#keepProof(key, proof))) return 'known'
      // Whoever knows neither knows one from now on, and that there is another.
      const [first] = proof.heads
      // What was refused may follow the other of the two.
      const waiting = this.#refused.get(key) ?? []
      for (const head of [first as Verified<HeadEnvelope>, ...waiting])
        await this.#add(key, head, true).catch(error => {
          if (!isCatalogError(error)) throw error
        })
      return 'added'
    })
  }

  async #keepProof(key: string, proof: Equivocation): Promise<boolean> {
    if (!(await this.#proofs.keep(key, proof, await this.#current(key)))) return false
    this.#deps.tell({ kind: 'equivocation', id: proof.id, publisher: proof.publisher, name: proof.name })
    return true
  }

  /**
   * Kept beside its head; where that is not known yet, until it comes. Resolves to whether it is kept now.
   * @throws CatalogError `stale-record` when the head is another or something fresher is known; `quota-exceeded`
   */
  addFreshness(envelope: Verified<FreshnessEnvelope>): Promise<'added' | 'known' | 'waiting'> {
    const { publisher, name, head, sequence } = envelope.statement
    const key = headKeyOf(publisher, name)
    return this.#deps.turns.take(key, async () => {
      const known = this.#table.get(key)
      if (known === undefined || known.sequence < sequence) {
        this.#waitingFreshness.set(key, envelope)
        return 'waiting'
      }
      if (known.id !== head)
        throw new CatalogError(
          'stale-record',
          `A freshness statement of ${name} is refused: it is about another head than the known one, ${known.sequence}.`,
          { known: known.id, sequence: known.sequence },
        )
      return this.#putFreshness(key, envelope)
    })
  }

  async #putFreshness(key: string, envelope: Verified<FreshnessEnvelope>): Promise<'added' | 'known'> {
    const { notices, digests } = this.#deps
    const { publisher, name, expiresAt } = envelope.statement
    const known = await this.freshness(publisher, name)
    if (known?.id === envelope.id) return 'known'
    if (known !== undefined && !isLater(envelope, known))
      throw new CatalogError(
        'stale-record',
        `A freshness statement of ${name} until ${new Date(expiresAt).toISOString()} is refused: a later one is known.`,
        { known: known.id },
      )
    const replaced = await notices.put(freshnessKey(key), envelope.id, envelope.bytes)
    digests.add(envelope.id)
    if (replaced !== undefined) digests.remove(replaced.id)
    this.#deps.tell({ kind: 'freshness', id: envelope.id, publisher, name })
    return 'added'
  }

  /**
   * Removes what is refused from now on (its chain was revoked), so that what an honest certificate signs can take its
   * place, whatever its number. Resolves to the ids that are gone.
   */
  async drop(isRefused: (record: HeadEnvelope | FreshnessEnvelope) => boolean): Promise<CidText[]> {
    const gone: CidText[] = []
    // What was seen and not kept may have been signed by the same hand.
    this.#seen.clear()
    this.#refused.clear()
    this.#waitingFreshness.clear()
    const keys = new Set([...this.#table.entries().map(([key]) => key), ...this.#proofs.keys()])
    for (const key of keys)
      gone.push(...(await this.#deps.turns.take(key, () => this.#dropRefused(key, isRefused))))
    return gone
  }

  /** The same for one name. */
  dropOf(
    publisher: string,
    name: string,
    isRefused: (record: HeadEnvelope | FreshnessEnvelope) => boolean,
  ): Promise<CidText[]> {
    const key = headKeyOf(publisher, name)
    return this.#deps.turns.take(key, () => this.#dropRefused(key, isRefused))
  }

  async #dropRefused(
    key: string,
    isRefused: (record: HeadEnvelope | FreshnessEnvelope) => boolean,
  ): Promise<CidText[]> {
    const { records, notices, quota, digests } = this.#deps
    const gone: CidText[] = []
    for (const proof of await this.#proofs.of(key))
      if (proof.heads.some(isRefused)) {
        await this.#proofs.remove(key, proof)
        gone.push(proof.id)
      }
    const entry = this.#table.get(key)
    const bytes = entry === undefined ? undefined : await records.headBytes(key)
    if (entry === undefined || bytes === undefined) return gone
    const head = decodeEnvelope(bytes) as HeadEnvelope
    const { publisher, name } = head.statement
    const fresh = await this.freshness(publisher, name)
    if (isRefused(head)) {
      await records.deleteHead(key, entry, notices.removing(freshnessKey(key)))
      this.#table.remove(key)
      quota.count(publisher, -1, -entry.bytes)
      for (const each of [entry, notices.removed(freshnessKey(key))])
        if (each !== undefined) {
          digests.remove(each.id)
          gone.push(each.id)
        }
    } else if (fresh !== undefined && isRefused(fresh)) {
      await notices.remove(freshnessKey(key))
      digests.remove(fresh.id)
      gone.push(fresh.id)
    }
    return gone
  }

  /** Remembers the number of a proved head that is not kept here. */
  noteSeen(publisher: string, name: string, sequence: number): void {
    const key = headKeyOf(publisher, name)
    this.#seen.set(key, Math.max(sequence, this.#seen.get(key) ?? 0))
  }

  /** The highest number of a head of the name that this node knows or saw; 0 for none. */
  highestSeen(publisher: string, name: string): number {
    const key = headKeyOf(publisher, name)
    return Math.max(this.#table.get(key)?.sequence ?? 0, this.#seen.get(key) ?? 0)
  }

  async #current(key: string): Promise<HeadEnvelope | undefined> {
    const known = this.#table.get(key)
    return known === undefined ? undefined : this.#deps.records.head(key, known.id)
  }
}

/** The longer life wins; of equal ones the same one on every node. */
const isLater = (next: FreshnessEnvelope, known: FreshnessEnvelope): boolean =>
  next.statement.expiresAt > known.statement.expiresAt ||
  (next.statement.expiresAt === known.statement.expiresAt && next.id < known.id)
