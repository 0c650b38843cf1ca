// The Router in one process, for tests: one table for all, with the rules of the real one (a validator, the better
// value stays, lookups that find what other nodes placed). One `MemoryRouting` is a network; each node has a router.
import type { CidText } from '../base/cid.ts'
import { CatalogError } from '../base/errors.ts'
import { sha256 } from '../base/hash.ts'
import type { CallOptions } from '../base/lifecycle.ts'
import type { PeerText } from './host.ts'
import { recordKeyText } from './record-key.ts'
import type {
  Announcement,
  Bulletin,
  KeyspaceRouter,
  RecordKey,
  RecordSelector,
  RecordValidator,
  Region,
  Router,
} from './router.ts'

const maxRecordBytes = 128 * 1024

interface Member {
  readonly peer: PeerText
  readonly validate: RecordValidator
  readonly select: RecordSelector
  readonly records: Map<string, Uint8Array>
}

export class MemoryRouting {
  readonly #members = new Map<PeerText, Member>()
  readonly #providers = new Map<CidText, Set<PeerText>>()

  createRouter(peer: PeerText, validate: RecordValidator, select: RecordSelector): MemoryRouter {
    const member = { peer, validate, select, records: new Map() }
    this.#members.set(peer, member)
    return new MemoryRouter(this, member)
  }

  /** The node is gone, with what it held. */
  remove(peer: PeerText): void {
    this.#members.delete(peer)
  }

  others(peer: PeerText): Member[] {
    return [...this.#members.values()].filter(member => member.peer !== peer)
  }

  providersOf(cid: CidText): Set<PeerText> {
    const providers = this.#providers.get(cid) ?? new Set()
    this.#providers.set(cid, providers)
    return providers
  }
}

export class MemoryRouter implements Router, KeyspaceRouter {
  readonly #routing: MemoryRouting
  readonly #self: Member

  constructor(routing: MemoryRouting, self: Member) {
    this.#routing = routing
    this.#self = self
  }

  async putRecord(key: RecordKey, value: Uint8Array, options: CallOptions = {}): Promise<number> {
    options.signal?.throwIfAborted()
    if (value.byteLength > maxRecordBytes)
      throw new CatalogError(
        'too-large',
        `The record is ${value.byteLength} bytes; peers accept ${maxRecordBytes}.`,
      )
    this.#store(this.#self, key, value)
    let accepted = 0
    for (const member of this.#routing.others(this.#self.peer))
      if (await this.#offer(member, key, value)) accepted++
    return accepted
  }

  async #offer(member: Member, key: RecordKey, value: Uint8Array): Promise<boolean> {
    try {
      await member.validate(key, value)
      this.#store(member, key, value)
      return true
    } catch {
      return false
    }
  }

  locate(item: Announcement): Uint8Array {
    return sha256(new TextEncoder().encode(item.kind === 'record' ? recordKeyText(item.key) : item.cid))
  }

  neighbours(): readonly PeerText[] {
    return this.#routing.others(this.#self.peer).map(({ peer }) => peer)
  }

  /** One table for all is one region for all. */
  async explore(_item: Announcement, options: CallOptions = {}): Promise<Region> {
    options.signal?.throwIfAborted()
    return { prefix: '', peers: this.neighbours(), lookups: 1 }
  }

  async tell(
    bulletins: readonly Bulletin[],
    peers: readonly PeerText[],
    options: CallOptions = {},
  ): Promise<void> {
    options.signal?.throwIfAborted()
    for (const bulletin of bulletins) {
      const { item, value } = bulletin
      if (item.kind === 'record' && value !== undefined) this.#store(this.#self, item.key, value)
      for (const member of this.#routing.others(this.#self.peer)) {
        if (!peers.includes(member.peer) || bulletin.told.has(member.peer)) continue
        bulletin.told.add(member.peer)
        if (await this.#take(member, bulletin)) bulletin.accepted++
        else bulletin.refusal = `${member.peer} refused it`
      }
    }
  }

  async #take(member: Member, { item, value }: Bulletin): Promise<boolean> {
    if (item.kind === 'record') return value !== undefined && this.#offer(member, item.key, value)
    this.#routing.providersOf(item.cid).add(this.#self.peer)
    return true
  }

  #store(member: Member, key: RecordKey, value: Uint8Array): void {
    const text = recordKeyText(key)
    const stored = member.records.get(text)
    if (
      stored !== undefined &&
      Buffer.compare(stored, value) !== 0 &&
      member.select(key, [stored, value]) === 0
    )
      throw new CatalogError('stale-record', 'The record is older than the one that is stored here.')
    member.records.set(text, value.slice())
  }

  async getRecord(key: RecordKey, options: CallOptions = {}): Promise<Uint8Array | undefined> {
    options.signal?.throwIfAborted()
    const values: Uint8Array[] = []
    for (const member of [this.#self, ...this.#routing.others(this.#self.peer)]) {
      const value = member.records.get(recordKeyText(key))
      if (value === undefined) continue
      const valid = await this.#self.validate(key, value).then(
        () => true,
        () => false,
      )
      if (valid) values.push(value.slice())
    }
    return values.length < 2 ? values[0] : values[this.#self.select(key, values)]
  }

  async provide(cid: CidText, options: CallOptions = {}): Promise<number> {
    options.signal?.throwIfAborted()
    this.#routing.providersOf(cid).add(this.#self.peer)
    return this.#routing.others(this.#self.peer).length
  }

  async unprovide(cid: CidText): Promise<void> {
    this.#routing.providersOf(cid).delete(this.#self.peer)
  }

  async *findProviders(cid: CidText, options: CallOptions = {}): AsyncIterable<PeerText> {
    for (const peer of [...this.#routing.providersOf(cid)]) {
      options.signal?.throwIfAborted()
      if (peer !== this.#self.peer) yield peer
    }
  }
}
