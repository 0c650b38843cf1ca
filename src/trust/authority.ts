// An authority of the network: issues certificates to nodes, publishers and authorities below it, takes them back, and
// keeps its revocation list fresh, so that whoever hears no new one knows that it is cut off. Who may have what is
// decided by whoever calls it; what an authority can grant at all, by its own certificate.
//
//   records: what ledger.ts keeps, and `list`: the newest revocation list, durable before anybody hears of it
import type { KeyValue } from '../base/key-value.ts'
import type { Service } from '../base/lifecycle.ts'
import type { Log } from '../base/log.ts'
import { OneAtATime } from '../base/one-at-a-time.ts'
import {
  type Certificate,
  type CertificateType,
  decodeChain,
  leafOf,
  type NodeCapability,
  type NodeRole,
  type PublisherRight,
} from './certificate.ts'
import { subjectOf } from './chain.ts'
import type { DocumentSigner } from './document.ts'
import type { PublicKeys } from './fields.ts'
import { Issuer, type IssuerOptions } from './issuer.ts'
import { Ledger, type LedgerEntry } from './ledger.ts'
import {
  decodeRevocations,
  type Revocation,
  type RevocationList,
  revocationLifetimeMs,
  revocationLimits,
  signRevocations,
} from './revocation-list.ts'
import type { TrustChain } from './trust-chain.ts'

export interface AuthorityOptions extends Partial<IssuerOptions> {
  /** Milliseconds after which a list is made anew though nothing was revoked, and between looks whether it is time. */
  readonly renewListMs: number
  readonly checkMs: number
}

export const defaultAuthorityOptions: AuthorityOptions = {
  // A list lives 30 days: an authority may be away for that long before its network goes stale.
  renewListMs: 24 * 3600 * 1000,
  checkMs: 3600 * 1000,
}

export interface AuthorityDeps {
  readonly signer: DocumentSigner
  /** The authority's certificates, leaf first. */
  readonly chain: readonly Uint8Array[]
  readonly records: KeyValue
  readonly trust: Pick<
    TrustChain,
    'prove' | 'accept' | 'root' | 'revocationLists' | 'revocationsOf' | 'withdrawalsOf'
  >
  readonly now: () => number
  readonly log: Log
}

interface Issuing {
  readonly subject: PublicKeys
  readonly label?: string | undefined
  readonly lifetimeMs?: number | undefined
}

/** What is on record of a certificate, and whether it still counts. */
export interface Issued extends LedgerEntry {
  readonly revoked?: Revocation
}

export class Authority implements Service {
  readonly certificate: Certificate
  readonly #deps: AuthorityDeps
  readonly #options: AuthorityOptions
  readonly #issuer: Issuer
  #list: RevocationList | undefined
  readonly #turn = new OneAtATime()
  #timer: NodeJS.Timeout | undefined

  constructor(deps: AuthorityDeps, options: Partial<AuthorityOptions> = {}) {
    this.#deps = deps
    this.#options = { ...defaultAuthorityOptions, ...options }
    const { lifetimeMs, backdateMs } = options
    const ledger = new Ledger({ records: deps.records })
    this.#issuer = new Issuer(
      { ...deps, chain: () => deps.chain, ledger },
      {
        ...(lifetimeMs === undefined ? {} : { lifetimeMs }),
        ...(backdateMs === undefined ? {} : { backdateMs }),
      },
    )
    this.certificate = leafOf(deps.chain)
  }

  /** For what was granted before: renewal and what a node has now. */
  get issuer(): Issuer {
    return this.#issuer
  }

  /** Its own certificates, leaf first, as bytes and decoded. */
  get chain(): readonly Uint8Array[] {
    return this.#deps.chain
  }

  get certificates(): readonly Certificate[] {
    return decodeChain(this.#deps.chain)
  }

  async start(): Promise<void> {
    const stored = await this.#deps.records.get('list')
    if (stored !== undefined) {
      this.#list = decodeRevocations(stored)
      // What a crash kept from being told; most often it is known already, or older than what came back by sync.
      await this.#deps.trust.accept(stored).catch(() => undefined)
    }
    await this.#renewIfDue()
    this.#timer = setInterval(() => void this.#renewIfDue(), this.#options.checkMs)
    this.#timer.unref()
  }

  async stop(): Promise<void> {
    clearInterval(this.#timer)
    await this.#turn.settled()
  }

  issueNode(
    request: Issuing & {
      readonly roles: readonly NodeRole[]
      readonly capabilities: readonly NodeCapability[]
    },
  ): Promise<readonly Uint8Array[]> {
    const { roles, capabilities, ...rest } = request
    return this.#issuer.issue({
      ...rest,
      grant: { type: 'node', roles, capabilities },
      holder: rest.subject.ed25519,
    })
  }

  /** `holder`: Ed25519 key of the node that gets it. */
  issuePublisher(
    request: Issuing & {
      readonly publisher: string
      readonly names: readonly string[]
      readonly rights: readonly PublisherRight[]
      readonly holder?: Uint8Array | undefined
    },
  ): Promise<readonly Uint8Array[]> {
    const { publisher, names, rights, ...rest } = request
    return this.#issuer.issue({ ...rest, grant: { type: 'publisher', publisher, names, rights } })
  }

  issueAuthority(
    request: Issuing & {
      readonly maxPathLength: number
      readonly issues: readonly CertificateType[]
      readonly names: readonly string[]
    },
  ): Promise<readonly Uint8Array[]> {
    const { maxPathLength, issues, names, ...rest } = request
    return this.#issuer.issue({ ...rest, grant: { type: 'authority', maxPathLength, issues, names } })
  }

  /** Every certificate issued here. */
  async *issued(): AsyncIterable<Issued> {
    const revoked = new Map(this.#known().map(one => [one.certificate, one]))
    for await (const entry of this.#issuer.ledger.entries()) {
      const revocation = revoked.get(entry.certificate.fingerprint)
      yield revocation === undefined ? entry : { ...entry, revoked: revocation }
    }
  }

  /**
   * The certificate, and every other that its holder has for the same keys and use and that has not expired: whoever has
   * the keys could show an older one instead, and have it renewed.
   */
  async ofSameKeys(fingerprint: string): Promise<readonly string[]> {
    const { ledger } = this.#issuer
    const { certificate, holder } = (await ledger.get(fingerprint)) ?? {}
    if (certificate === undefined || holder === undefined) return [fingerprint]
    const others = (await ledger.ofHolder(holder))
      .map(entry => entry.certificate)
      .filter(one => one.type === certificate.type && one.notAfter >= this.#deps.now())
      .filter(
        one => subjectOf(one) === subjectOf(certificate) && publisherOf(one) === publisherOf(certificate),
      )
    return [...new Set([fingerprint, ...others.map(one => one.fingerprint)])]
  }

  /** A new list that has these too; durable and believed here when it resolves. @throws CatalogError `too-large`, and as `TrustChain.accept` */
  revoke(fingerprints: readonly string[], reason: string): Promise<RevocationList> {
    return this.#turn.run(async () => {
      const known = this.#known()
      const held = new Set(known.map(({ certificate }) => certificate))
      const added = [...new Set(fingerprints)].filter(fingerprint => !held.has(fingerprint))
      // Members may ask again for what was done (rotations.ts): that must not send every node a new list.
      const newest = this.#deps.trust.revocationsOf(this.certificate.fingerprint)
      if (added.length === 0 && newest !== undefined && newest.fingerprint === this.#list?.fingerprint)
        return newest
      return this.#publish([
        ...known,
        ...added.map(certificate => ({
          certificate,
          at: this.#deps.now(),
          reason: reason || 'no reason given',
        })),
      ])
    })
  }

  /** The same list with a new number and a later end. */
  renewList(): Promise<RevocationList> {
    return this.#turn.run(() => this.#publish(this.#known()))
  }

  /** When the list was made; undefined before the first. */
  get listIssuedAt(): number | undefined {
    return this.#list?.issuedAt
  }

  async #renewIfDue(): Promise<void> {
    const issuedAt = this.#list?.issuedAt ?? 0
    // A list from the future comes of a clock that was wrong; made anew, it counts again.
    const age = Math.abs(this.#deps.now() - issuedAt)
    if (age < this.#options.renewListMs) return
    await this.renewList().catch((error: unknown) =>
      this.#deps.log.error(
        { error: String(error) },
        'the revocation list could not be renewed; nodes will take themselves for cut off',
      ),
    )
  }

  /** What is revoked by the newest list known, be it one that came back from other nodes after a restored backup. */
  #known(): Revocation[] {
    const lists = [this.#list, this.#deps.trust.revocationsOf(this.certificate.fingerprint)]
    const all = lists.flatMap(list => list?.revoked ?? [])
    return [...new Map(all.map(one => [one.certificate, one])).values()]
  }

  async #publish(revoked: readonly Revocation[]): Promise<RevocationList> {
    const { certificate } = this
    const { trust, records, signer, now, chain } = this.#deps
    const numbers = [this.#list?.sequence ?? 0, trust.revocationsOf(certificate.fingerprint)?.sequence ?? 0]
    const issuedAt = now()
    const list = await signRevocations(
      {
        type: 'revocations',
        network: certificate.network,
        issuer: certificate.fingerprint,
        sequence: Math.max(...numbers) + 1,
        issuedAt,
        expiresAt: issuedAt + revocationLifetimeMs,
        revoked: shortened(await this.#withoutOldest(revoked), chain),
        chain,
      },
      signer,
    )
    await records.put('list', list.bytes)
    this.#list = list
    await trust.accept(list.bytes)
    return list
  }

  /** A full list leaves out certificates that have expired on their own, the longest ago first. */
  async #withoutOldest(revoked: readonly Revocation[]): Promise<readonly Revocation[]> {
    const over = revoked.length - revocationLimits.maxRevoked
    if (over <= 0) return revoked
    const ends = await Promise.all(
      revoked.map(async one => ({
        one,
        end: (await this.#issuer.ledger.get(one.certificate))?.certificate.notAfter,
      })),
    )
    const gone = ends
      .filter(({ end }) => end !== undefined && end < this.#deps.now())
      .sort((a, b) => (a.end as number) - (b.end as number))
      .slice(0, over)
    const left = new Set(gone.map(({ one }) => one))
    return revoked.filter(one => !left.has(one))
  }
}

/** A revocation without its reason, and a list without any and without its chain, as CBOR at most. */
const entryBytes = 94
const frameBytes = 2048

/** Reasons give way where the list would be larger than a record may be: nothing may keep a certificate from being taken back. */
function shortened(revoked: readonly Revocation[], chain: readonly Uint8Array[]): readonly Revocation[] {
  const chainBytes = chain.reduce((sum, { byteLength }) => sum + byteLength + 4, 0)
  const room = revocationLimits.maxBytes - frameBytes - chainBytes - revoked.length * entryBytes
  const each = Math.max(1, Math.floor(room / Math.max(1, revoked.length)))
  return revoked.map(one => {
    let reason = one.reason
    while (Buffer.byteLength(reason) > each && reason.length > 1) reason = reason.slice(0, -1)
    return { ...one, reason: reason.toWellFormed() }
  })
}

const publisherOf = (certificate: Certificate): string | undefined =>
  certificate.type === 'publisher' ? certificate.publisher : undefined
