// What this node believes of its network: the newest root, what authorities have revoked, and by both whether a chain
// proves what somebody claims. Certificates whose signatures held are remembered, so that a thousand releases of one
// publisher cost one check of its certificates. It owns no keys and sends nothing; notices come and go through deps.
import { LRUCache } from 'lru-cache'
import type { Envelope, Statement } from '../assets/release.ts'
import { cidOf } from '../base/cid.ts'
import { CatalogError, type ErrorCode, isCatalogError } from '../base/errors.ts'
import { blake3 } from '../base/hash.ts'
import type { Log } from '../base/log.ts'
import { OneAtATime } from '../base/one-at-a-time.ts'
import { type Certificate, checkChainSize, decodeCertificate } from './certificate.ts'
import { type ChainContext, type ChainSignature, checkChain, type Usage } from './chain.ts'
import { decodeDocument, decodeStrictly } from './document.ts'
import { lengthPrefixed } from './length-prefixed.ts'
import { grantsPattern } from './name-pattern.ts'
import {
  decodeRevocations,
  type RevocationList,
  revocationsCheck,
  type Withdrawing,
  withdrawing,
  withdrawnNames,
} from './revocation-list.ts'
import { decodeRoot, firstRootChecks, type Root, successionChecks } from './root.ts'
import type { SignatureCheck } from './signature-check.ts'
import type { SignatureAlgorithm } from './signature-scheme.ts'

/** Small records that travel by sync; each replaces the one under its key. */
export interface Notices {
  putNotice(key: string, id: string, bytes: Uint8Array): Promise<unknown>
  notice(key: string): Promise<Uint8Array | undefined>
  notices(prefix: string): AsyncIterable<{ readonly key: string; readonly bytes: Uint8Array }>
}

export interface TrustChainDeps {
  readonly notices: Notices
  /** Makes a check, off the event loop; the algorithm that failed, or undefined. */
  readonly check: (check: SignatureCheck) => Promise<SignatureAlgorithm | undefined>
  readonly now: () => number
  readonly log: Log
}

export interface TrustChainOptions {
  /** The bytes of the network's first root document, from this node's own home. */
  readonly firstRoot: Uint8Array
  /** Its fingerprint, as the invite or the config gave it. */
  readonly network: string
}

/** What a chain is worth now. */
export type Standing =
  | { readonly state: 'current' }
  /**
   * Too old to be sure of, since then (ms since 1970). `expired`: a certificate has had its day; else this node is cut
   * off from the news of it. `why` is a sentence.
   */
  | { readonly state: 'stale'; readonly why: string; readonly since: number; readonly expired?: true }
  | { readonly state: 'refused'; readonly code: ErrorCode; readonly why: string }

interface Withdrawn {
  readonly list: RevocationList
  /** Patterns of the names that it counts for. */
  readonly names: readonly string[]
  readonly reasons: ReadonlyMap<string, string>
}

/** What changed, for those who must look again at what they believed; `renewed`: a list that takes nothing more back. */
export type TrustChange = 'root' | 'revoked' | 'renewed'

/** To be raised with stricter checks of chains: what was believed under the old ones is then looked at again. */
const rules = 'rules 1'

const maxNoticeBytes = 128 * 1024
/** Publishers that took back something: few do, each keeps up to 64 KiB here. */
const maxWithdrawing = 4096
/** Roots that arrived before the one they follow. */
const maxWaitingRoots = 16
/** Half a million envelopes share a few certificates: 3 KiB each. */
const maxRemembered = 4096
/** Of the certificates that are kept decoded, and of chains: five times as much in memory. */
const maxDecodedBytes = 8 * 1024 * 1024

export const rootNotice = (version: number): string => `root/${String(version).padStart(6, '0')}`
export const revocationNotice = (issuer: string): string => `revocations/${issuer}`
/** A kind of its own: publishers cannot crowd out what authorities revoke. */
const withdrawalNotice = ({ publisher, issuer }: Withdrawing): string => `withdrawn/${publisher}/${issuer}`

/** Under which key a notice lies, and how it ranks there. @throws CatalogError `certificate-malformed` */
export function noticeOf(bytes: Uint8Array): { readonly key: string; readonly sequence: number } {
  if (typeOf(bytes) === 'root') {
    const { version } = decodeRoot(bytes)
    return { key: rootNotice(version), sequence: version }
  }
  const list = decodeRevocations(bytes)
  const by = withdrawing(list)
  const key = by === undefined ? revocationNotice(list.issuer) : withdrawalNotice(by)
  return { key, sequence: list.sequence }
}

function typeOf(bytes: Uint8Array): 'root' | 'revocations' {
  const { body } = decodeDocument(bytes, maxNoticeBytes, 'The notice')
  const type = (decodeStrictly(body, maxNoticeBytes, 'The notice') as { type?: unknown } | null)?.type
  if (type === 'root' || type === 'revocations') return type
  throw new CatalogError(
    'certificate-malformed',
    'The notice is neither a root document nor a revocation list.',
  )
}

export class TrustChain {
  readonly #deps: TrustChainDeps
  readonly #options: TrustChainOptions
  readonly #lists = new Map<string, RevocationList>()
  readonly #revoked = new Map<string, Map<string, string>>()
  /** What publishers have taken back of what they delegated: by publisher and by who certified it, with reasons by certificate. */
  readonly #withdrawn = new Map<string, Map<string, Withdrawn>>()
  #withdrawals = 0
  /**
   * Decoded certificates by the CID of their bytes, and whole chains by the digest of theirs: proved ones alone, so that
   * strangers can neither fill these nor crowd anything out.
   */
  readonly #decoded = new LRUCache<string, Certificate>({
    max: maxRemembered,
    maxSize: maxDecodedBytes,
    sizeCalculation: ({ bytes }) => bytes.byteLength,
  })
  readonly #chains = new LRUCache<string, readonly Certificate[]>({
    max: maxRemembered,
    maxSize: maxDecodedBytes,
    sizeCalculation: chain => chain.reduce((sum, { bytes }) => sum + bytes.byteLength, 0),
  })
  /** Decoded chains that are, or were, among these. */
  readonly #kept = new WeakSet<readonly Certificate[]>()
  /** Decoded certificates whose signatures held, and under which root. */
  readonly #held = new WeakMap<Certificate, string>()
  readonly #waitingRoots = new Map<number, Uint8Array>()
  readonly #listeners = new Set<(change: TrustChange) => void>()
  #root: Root | undefined
  readonly #turn = new OneAtATime()

  constructor(deps: TrustChainDeps, options: TrustChainOptions) {
    this.#deps = deps
    this.#options = options
  }

  /** Believes again what was believed before. @throws CatalogError `root-not-trusted`, `root-threshold` when the home's root is not the network's */
  async start(): Promise<void> {
    const first = decodeRoot(this.#options.firstRoot)
    await this.#hold(firstRootChecks(first, this.#options.network), 'root-not-trusted', 'The root document')
    this.#root = first
    const notices: Uint8Array[] = []
    for await (const { bytes } of this.#deps.notices.notices('root/')) notices.push(bytes)
    for await (const { bytes } of this.#deps.notices.notices('revocations/')) notices.push(bytes)
    for await (const { bytes } of this.#deps.notices.notices('withdrawn/')) notices.push(bytes)
    for (const bytes of notices)
      await this.accept(bytes).catch((error: unknown) => {
        if (!isCatalogError(error, 'stale-record'))
          this.#deps.log.warn(
            { error: String(error) },
            'a stored notice of the network is not believed any more',
          )
      })
  }

  /** The root fingerprint: what names the network. */
  get network(): string {
    return this.#options.network
  }

  /** The newest root. */
  get root(): Root {
    if (this.#root === undefined) throw new Error('the trust chain has not started')
    return this.#root
  }

  /** All root documents from the first on: with them a new member follows the network to its newest root. */
  async roots(): Promise<Uint8Array[]> {
    const roots = [this.#options.firstRoot]
    for await (const { bytes } of this.#deps.notices.notices('root/')) roots.push(bytes)
    return roots
  }

  /** The newest list of an authority. */
  revocationsOf(issuer: string): RevocationList | undefined {
    return this.#lists.get(issuer)
  }

  /** What a publisher has taken back of what it delegated. */
  withdrawalsOf(by: Withdrawing): RevocationList | undefined {
    return this.#knownWithdrawals(by)
  }

  /** Of authorities. */
  revocationLists(): readonly RevocationList[] {
    return [...this.#lists.values()]
  }

  /** A digest of what decides whether a chain is refused: the root, and all that is revoked or taken back. */
  digest(): string {
    const entries = [...this.#revoked].flatMap(([issuer, reasons]) =>
      [...reasons.keys()].map(certificate => `${issuer} ${certificate}`),
    )
    for (const [publisher, lists] of this.#withdrawn)
      for (const [issuer, { names, reasons }] of lists)
        for (const certificate of reasons.keys())
          entries.push(`${publisher} ${issuer} ${names.join(',')} ${certificate}`)
    const text = [rules, this.root.fingerprint, ...entries.sort()].join('\n')
    return Buffer.from(blake3(Buffer.from(text))).toString('hex')
  }

  /** Called after a root or a list was believed. Returns the unsubscriber. */
  onChange(listener: (change: TrustChange) => void): () => void {
    this.#listeners.add(listener)
    return () => this.#listeners.delete(listener)
  }

  /**
   * Takes a root document or a revocation list of others; durable when it resolves.
   * @throws CatalogError `stale-record` (older than what is known), and what its checks give
   */
  async accept(bytes: Uint8Array): Promise<'added' | 'known' | 'waiting'> {
    const isRoot = typeOf(bytes) === 'root'
    // One after the other: between the look at what is known and its replacement nothing newer may come in.
    return this.#turn.run(() => (isRoot ? this.#acceptRoot(bytes) : this.#acceptRevocations(bytes)))
  }

  async #acceptRoot(bytes: Uint8Array): Promise<'added' | 'known' | 'waiting'> {
    const next = decodeRoot(bytes)
    if (next.fingerprint === this.root.fingerprint) return 'known'
    if (next.version > this.root.version + 1) {
      if (next.version > this.root.version + maxWaitingRoots)
        throw new CatalogError(
          'root-not-trusted',
          `Version ${next.version} of the root is far ahead of ${this.root.version}.`,
        )
      this.#waitingRoots.set(next.version, bytes)
      return 'waiting'
    }
    await this.#hold(successionChecks(this.root, next), 'root-not-trusted', 'The new root')
    await this.#deps.notices.putNotice(rootNotice(next.version), cidOf(bytes), bytes)
    this.#root = next
    this.#deps.log.info({ version: next.version, threshold: next.threshold }, 'the network has a new root')
    this.#tell('root')
    const waiting = this.#waitingRoots.get(next.version + 1)
    this.#waitingRoots.delete(next.version + 1)
    if (waiting !== undefined) await this.#acceptRoot(waiting).catch(() => undefined)
    return 'added'
  }

  async #acceptRevocations(bytes: Uint8Array): Promise<'added' | 'known'> {
    const list = decodeRevocations(bytes)
    const by = withdrawing(list)
    const known = by === undefined ? this.#lists.get(list.issuer) : this.#knownWithdrawals(by)
    if (known?.fingerprint === list.fingerprint) return 'known'
    if (known !== undefined && known.sequence >= list.sequence)
      throw new CatalogError(
        'stale-record',
        `Revocation list ${list.sequence} of ${list.issuer} is refused: list ${known.sequence} is known.`,
      )
    if (list.network !== this.network)
      throw new CatalogError(
        'certificate-wrong-network',
        `The revocation list is of the network ${list.network}.`,
      )
    if (list.issuedAt > this.#deps.now() + 600_000)
      throw new CatalogError(
        'certificate-not-yet-valid',
        'The revocation list was issued in the future; is a clock wrong?',
      )
    const { chain, check } = revocationsCheck(list)
    await this.#prove(chain, { kind: 'any' }, list.issuedAt)
    await this.#hold([check], 'certificate-bad-signature', 'The revocation list')
    if (by !== undefined) return this.#withdraw(by, list)
    await this.#deps.notices.putNotice(revocationNotice(list.issuer), cidOf(bytes), bytes)
    this.#lists.set(list.issuer, list)
    const before = this.#revoked.get(list.issuer)
    const revokes = list.revoked.some(({ certificate }) => before?.has(certificate) !== true)
    this.#revoked.set(
      list.issuer,
      new Map(list.revoked.map(({ certificate, reason }) => [certificate, reason])),
    )
    this.#tell(revokes ? 'revoked' : 'renewed')
    return 'added'
  }

  /** None where its own certificate holds no more: whoever stole the keys may have numbered it as high as there is. */
  #knownWithdrawals({ publisher, issuer }: Withdrawing): RevocationList | undefined {
    const known = this.#withdrawn.get(publisher)?.get(issuer)?.list
    if (known === undefined) return undefined
    return this.#refusal(known.chain, { kind: 'any' }, known.issuedAt) === undefined ? known : undefined
  }

  /** Any authority can certify any publisher id, but only for names that it has: a list counts within those. */
  #withdrawal(publisher: string, certificate: Certificate): string | undefined {
    for (const { names, reasons } of this.#withdrawn.get(publisher)?.values() ?? []) {
      const reason = reasons.get(certificate.fingerprint)
      if (reason === undefined || certificate.type !== 'publisher') continue
      if (certificate.names.every(name => grantsPattern(names, name))) return reason
    }
    return undefined
  }

  async #withdraw(by: Withdrawing, list: RevocationList): Promise<'added'> {
    const { publisher, issuer } = by
    const ofPublisher = this.#withdrawn.get(publisher) ?? new Map<string, Withdrawn>()
    const before = ofPublisher.get(issuer)
    if (before === undefined && this.#withdrawals >= maxWithdrawing)
      throw new CatalogError(
        'quota-exceeded',
        `What the publisher ${publisher} revoked is refused: lists of ${maxWithdrawing} publishers are known.`,
      )
    await this.#deps.notices.putNotice(withdrawalNotice(by), cidOf(list.bytes), list.bytes)
    const reasons = new Map(list.revoked.map(({ certificate, reason }) => [certificate, reason]))
    if (before === undefined) this.#withdrawals += 1
    const names = withdrawnNames(list)
    this.#withdrawn.set(publisher, ofPublisher.set(issuer, { list, names, reasons }))
    const revokes =
      list.revoked.some(({ certificate }) => before?.reasons.has(certificate) !== true) ||
      names.some(name => before?.names.includes(name) !== true)
    this.#tell(revokes ? 'revoked' : 'renewed')
    return 'added'
  }

  /**
   * Proves a chain for a usage, at a time (now by default).
   * @throws CatalogError with a `certificate-…` code, `root-threshold`
   */
  async prove(
    chain: readonly Uint8Array[],
    usage: Usage,
    at = this.#deps.now(),
  ): Promise<readonly Certificate[]> {
    const certificates = this.#decode(chain)
    await this.#prove(certificates, usage, at)
    this.#remember(chain, certificates)
    return certificates
  }

  /** Proves that who signed an envelope was allowed to when it was signed. @throws as `prove` */
  async proveStatement(envelope: Envelope): Promise<void> {
    const { statement } = envelope
    const certificates = this.#decode(envelope.chain)
    // A release outlives the certificate that signed it: whether it counts, a current head says.
    await this.#prove(certificates, usageOf(envelope), statement.signedAt, statement.type === 'release')
    this.#remember(envelope.chain, certificates)
  }

  /** What an envelope that was proved is worth now. */
  standing(envelope: Envelope): Standing {
    return this.standingOf(envelope.chain, usageOf(envelope))
  }

  /** Why nobody who knows what this node knows would believe what is signed with a chain now. */
  refusalOf(chain: readonly Uint8Array[]): CatalogError | undefined {
    return this.#refusal(chain, { kind: 'any' }, this.#deps.now())
  }

  standingOf(chain: readonly Uint8Array[], usage: Usage): Standing {
    const refusal = (at: number) => this.#refusal(chain, usage, at)
    const now = refusal(this.#deps.now())
    if (now === undefined) return this.freshness(this.#decode(chain))
    const { code, message: why } = now
    if (code !== 'certificate-expired') return { state: 'refused', code, why }
    // Expired is old news only where it was good to its end: what was revoked does not become better by expiring.
    const since = this.#endOf(chain)
    const before = refusal(since)
    return before === undefined
      ? { state: 'stale', why, since, expired: true }
      : { state: 'refused', code: before.code, why: before.message }
  }

  #refusal(chain: readonly Uint8Array[], usage: Usage, at: number): CatalogError | undefined {
    try {
      checkChain(this.#decode(chain), usage, this.#context(at))
      return undefined
    } catch (error) {
      if (error instanceof CatalogError) return error
      throw error
    }
  }

  /** Whether this node has heard of the authorities of a chain lately enough to know that nothing was revoked. */
  freshness(chain: readonly Certificate[]): Standing {
    for (const certificate of chain) {
      if (certificate.type !== 'authority') continue
      const list = this.#lists.get(certificate.fingerprint)
      if (list === undefined)
        return {
          state: 'stale',
          why: 'no revocation list of its authority is known here',
          since: certificate.notBefore,
        }
      if (list.expiresAt <= this.#deps.now())
        return {
          state: 'stale',
          why: `this node has heard nothing of its authority since ${new Date(list.issuedAt).toISOString()}: it is cut off, or the authority is`,
          since: list.expiresAt,
        }
    }
    return { state: 'current' }
  }

  async #prove(chain: readonly Certificate[], usage: Usage, at: number, outlives = false): Promise<void> {
    const { fingerprint } = this.root
    const signatures = checkChain(chain, usage, this.#context(at, outlives))
    if (signatures.length > 0) await this.#holdCertificates(signatures, fingerprint)
  }

  #context(at: number, outlives = false): ChainContext {
    return {
      root: this.root,
      network: this.network,
      at,
      holds: certificate => this.#held.get(certificate) === this.root.fingerprint,
      revocation: (certificate, above) => {
        if (outlives && certificate.type === 'publisher') return undefined
        for (const issuer of above) {
          const reason =
            issuer.type === 'publisher'
              ? this.#withdrawal(issuer.publisher, certificate)
              : this.#revoked.get(issuer.fingerprint)?.get(certificate.fingerprint)
          if (reason !== undefined) return reason
        }
        return undefined
      },
    }
  }

  #decode(chain: readonly Uint8Array[]): readonly Certificate[] {
    checkChainSize(chain)
    const known = this.#chains.get(digestOf(chain))
    if (known !== undefined) return known
    return chain.map(bytes => this.#decoded.get(cidOf(bytes)) ?? decodeCertificate(bytes))
  }

  #remember(chain: readonly Uint8Array[], certificates: readonly Certificate[]): void {
    if (this.#kept.has(certificates)) return
    this.#kept.add(certificates)
    this.#chains.set(digestOf(chain), certificates)
    for (const certificate of certificates) this.#decoded.set(cidOf(certificate.bytes), certificate)
  }

  async #holdCertificates(signatures: readonly ChainSignature[], root: string): Promise<void> {
    for (const { certificate, check } of signatures)
      await this.#hold(
        [check],
        'certificate-bad-signature',
        `The ${certificate.type} certificate ${certificate.fingerprint}`,
      )
    for (const { certificate } of signatures) this.#held.set(certificate, root)
  }

  async #hold(checks: readonly SignatureCheck[], code: ErrorCode, what: string): Promise<void> {
    for (const check of checks) {
      const faulty = await this.#deps.check(check)
      if (faulty !== undefined)
        throw new CatalogError(code, `${what} is refused: an ${faulty} signature does not hold.`)
    }
  }

  #endOf(chain: readonly Uint8Array[]): number {
    return Math.min(...this.#decode(chain).map(({ notAfter }) => notAfter), this.root.notAfter)
  }

  #tell(change: TrustChange): void {
    for (const listener of this.#listeners)
      try {
        listener(change)
      } catch (error) {
        this.#deps.log.error({ error, change }, 'a listener of the trust chain failed')
      }
  }
}

const digestOf = (chain: readonly Uint8Array[]): string =>
  Buffer.from(blake3(lengthPrefixed(...chain))).toString('latin1')

const rightsFor: Readonly<Record<Statement['type'], readonly ('publish' | 'yank' | 'freshen')[]>> = {
  release: ['publish'],
  head: ['publish', 'yank'],
  freshness: ['publish', 'freshen'],
}

function usageOf({ statement, signatures }: Envelope): Usage {
  const [classical, quantumSafe] = signatures
  if (classical === undefined || quantumSafe === undefined)
    throw new CatalogError('bad-signature', 'The record is not signed.')
  const keys = { ed25519: classical.key, falcon: quantumSafe.key }
  const { publisher, name, type } = statement
  return { kind: 'statement', publisher, name, keys, rights: rightsFor[type] }
}
