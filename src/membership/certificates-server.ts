// The answering side of the certificates protocol (certificates-protocol.ts), on every member. It decides what of a
// delivery is taken; where certificates are kept is the caller's.
import { equalBytes } from '../base/cbor.ts'
import { withTimeout } from '../base/deadline.ts'
import { CatalogError, toCatalogError } from '../base/errors.ts'
import type { Log } from '../base/log.ts'
import { OneAtATime } from '../base/one-at-a-time.ts'
import { encodeFrame, FrameReader, type Message } from '../network/frames.ts'
import type { ByteStream, Host, PeerText } from '../network/host.ts'
import { keyOfPeer } from '../network/identity.ts'
import { type Certificate, decodeChain, leafOf } from '../trust/certificate.ts'
import { subjectOf } from '../trust/chain.ts'
import type { DocumentSigner } from '../trust/document.ts'
import type { PublicKeys } from '../trust/fields.ts'
import type { Issuer } from '../trust/issuer.ts'
import { joinedLimits } from '../trust/joined.ts'
import { grantsPattern } from '../trust/name-pattern.ts'
import { provePossession } from '../trust/possession.ts'
import type { TrustChain } from '../trust/trust-chain.ts'
import {
  type CertificatesQuestion,
  type Chain,
  certificatesLimits,
  certificatesProtocol,
  encodeCertificatesAnswer,
  identityMessage,
  readCertificatesQuestion,
} from './certificates-protocol.ts'
import { PeerLimit } from './peer-limit.ts'
import type { Rotations } from './rotations.ts'

/** The certificates that this node has for its own keys. */
export interface OwnCertificates {
  readonly nodeKeys: PublicKeys
  readonly publisher: DocumentSigner
  chain(kind: 'node' | 'publisher'): Chain
  /** Chains from other publishers for this node's publisher keys. */
  delegations(): readonly Chain[]
  /** Keeps a chain that was proved, durable when it resolves, and uses it from then on. */
  install(chain: Chain): Promise<unknown>
}

export interface CertificatesServerDeps {
  readonly host: Host
  readonly own: OwnCertificates
  /** What issues here: the authority where there is one, and the own publisher as far as it delegates. */
  readonly issuers: readonly Issuer[]
  /** Where this node is an authority. */
  readonly rotations?: Pick<Rotations, 'rotate' | 'retire'> | undefined
  readonly trust: Pick<TrustChain, 'network' | 'prove' | 'roots' | 'revocationLists'>
  readonly now: () => number
  readonly log: Log
}

/** An identity costs a signature, 10 ms of the thread that publishing uses too: at most a hundredth of its time. */
const questionLimit = { what: 'questions', maxPerPeer: 60, windowMs: 60_000 }

export class CertificatesServer {
  readonly #deps: CertificatesServerDeps
  readonly #questions: PeerLimit
  readonly #turn = new OneAtATime()

  constructor(deps: CertificatesServerDeps) {
    this.#deps = deps
    this.#questions = new PeerLimit(deps, questionLimit)
    deps.host.handle(certificatesProtocol, (stream, { signal }) => this.#serve(stream, signal), {
      maxInboundPerPeer: 4,
      maxInbound: 32,
    })
  }

  async #serve(stream: ByteStream, ended: AbortSignal): Promise<void> {
    const signal = withTimeout(ended, certificatesLimits.answerMs)
    const message = await new FrameReader(stream).message(certificatesLimits.maxQuestionBytes, { signal })
    if (message === undefined) return
    let answer: Uint8Array
    try {
      this.#questions.check(stream.peer)
      this.#questions.add(stream.peer)
      answer = encodeCertificatesAnswer(await this.#answer(readCertificatesQuestion(message), stream.peer))
    } catch (error) {
      signal.throwIfAborted()
      const { code, message: text } = toCatalogError(error)
      const told = code === 'internal' ? 'The question could not be answered. Try again later.' : text
      this.#deps.log.debug({ peer: stream.peer, code, text }, 'a question about certificates was refused')
      answer = encodeFrame({ error: { code, message: told.slice(0, 900) } })
    }
    await stream.write(answer, { signal })
  }

  async #answer(question: CertificatesQuestion, peer: PeerText): Promise<Message> {
    switch (question.op) {
      case 'renew':
        return { chains: await this.#renew(peer) }
      case 'deliver':
        return { taken: await this.#turn.run(() => this.take(question.chain)) }
      case 'identity': {
        const { own, trust, host } = this.#deps
        // Both before the signature: keys may be rotated meanwhile.
        const { publisher, chain } = { publisher: own.publisher, chain: own.chain('publisher') }
        const proof = await provePossession(
          publisher,
          identityMessage(trust.network, peer, host.peer, question.nonce),
        )
        return { chain, ...proof }
      }
      case 'state':
        return {
          roots: (await this.#deps.trust.roots()).slice(-joinedLimits.maxRoots),
          revocations: this.#deps.trust
            .revocationLists()
            .slice(0, joinedLimits.maxRevocations)
            .map(({ bytes }) => bytes),
        }
      case 'rotate':
        return { chain: await this.#rotations.rotate(peer, question) }
      case 'retire':
        return { sequence: await this.#rotations.retire(peer, question.certificate, question.reason) }
    }
  }

  get #rotations(): Pick<Rotations, 'rotate' | 'retire'> {
    if (this.#deps.rotations !== undefined) return this.#deps.rotations
    throw new CatalogError('capability-missing', 'This node is no authority of the network.')
  }

  async #renew(peer: PeerText): Promise<Chain[]> {
    const holder = keyOfPeer(peer)
    const { issuers } = this.#deps
    if (issuers.length > 0 && holder !== undefined)
      // One after the other: the same question twice at once would make every certificate twice.
      return this.#turn.run(async () => {
        const chains = (await Promise.all(issuers.map(issuer => issuer.renewFor(holder)))).flat()
        if (chains.length === 0) throw nothingToRenew(peer)
        return chains.slice(0, certificatesLimits.maxChains)
      })
    throw nothingToRenew(peer)
  }

  /**
   * Proves a chain that somebody gave this node, and keeps it where it is news.
   * @throws CatalogError `certificate-…`, `quota-exceeded`, `stale-record`
   */
  async take(chain: Chain): Promise<'node' | 'publisher' | 'delegation'> {
    const { own, trust } = this.#deps
    const proved = await trust.prove(chain, { kind: 'any' })
    const [leaf, issuer] = proved as [Certificate, Certificate | undefined]
    const kind = this.#kindOf(leaf, issuer)
    const held = kind === 'delegation' ? this.#delegationOf(leaf) : decodeChain(own.chain(kind))
    const before = held?.[0]
    if (before !== undefined && before.fingerprint === leaf.fingerprint) return kind
    if (before !== undefined && leaf.notBefore < before.notBefore)
      throw new CatalogError(
        'stale-record',
        `The certificate ${leaf.fingerprint} is older than the one that is used.`,
      )
    if (held !== undefined) await this.#refuseLess(held, leaf, issuer)
    if (
      kind === 'delegation' &&
      before === undefined &&
      own.delegations().length >= certificatesLimits.maxDelegations
    )
      throw new CatalogError(
        'quota-exceeded',
        `This node signs for ${certificatesLimits.maxDelegations} other publishers; it takes no more.`,
      )
    await own.install(chain)
    this.#deps.log.info(
      { kind, certificate: leaf.fingerprint, notAfter: leaf.notAfter },
      'a new certificate is used',
    )
    return kind
  }

  #kindOf(leaf: Certificate, issuer: Certificate | undefined): 'node' | 'publisher' | 'delegation' {
    const { own } = this.#deps
    const isFor = (keys: PublicKeys) =>
      equalBytes(leaf.subject.ed25519, keys.ed25519) && equalBytes(leaf.subject.falcon, keys.falcon)
    if (leaf.type === 'node' && isFor(own.nodeKeys)) return 'node'
    if (leaf.type !== 'publisher' || !isFor(own.publisher.publicKeys))
      throw new CatalogError('certificate-wrong-usage', 'The certificate is not for the keys of this node.')
    const [mine] = decodeChain(own.chain('publisher'))
    if (mine?.type !== 'publisher' || mine.publisher !== leaf.publisher) return 'delegation'
    // Who may sign for this publisher on another machine could otherwise take its own names away here.
    if (issuer?.type === 'publisher')
      throw new CatalogError(
        'certificate-wrong-usage',
        "A delegate cannot replace this publisher's own certificate.",
      )
    return 'publisher'
  }

  #delegationOf(leaf: Certificate): readonly Certificate[] | undefined {
    return this.#deps.own
      .delegations()
      .map(decodeChain)
      .find(
        ([one]) => one?.type === 'publisher' && leaf.type === 'publisher' && one.publisher === leaf.publisher,
      )
  }

  /**
   * Whoever issued a certificate may take back some of it. Another issuer that could, were it one of few rights itself,
   * would end what this node may do: it may only add, while the present one holds.
   * @throws CatalogError `certificate-wrong-issuer`
   */
  async #refuseLess(
    [before, by]: readonly Certificate[],
    leaf: Certificate,
    issuer: Certificate | undefined,
  ): Promise<void> {
    if (before === undefined || covers(leaf, before)) return
    if (by !== undefined && issuer !== undefined && subjectOf(by) === subjectOf(issuer)) return
    const { own, trust } = this.#deps
    const chains = [own.chain('node'), own.chain('publisher'), ...own.delegations()]
    const chain = chains.find(one => leafOf(one).fingerprint === before.fingerprint) ?? []
    const holds = await trust.prove(chain, { kind: 'any' }).then(
      () => true,
      () => false,
    )
    if (holds)
      throw new CatalogError(
        'certificate-wrong-issuer',
        `The certificate ${leaf.fingerprint} is not taken: it grants less, or for a shorter time, than the one that is used, which another issued and which still holds.`,
      )
  }
}

const covers = (after: Certificate, before: Certificate): boolean =>
  after.notAfter >= before.notAfter &&
  (after.type === 'publisher' && before.type === 'publisher'
    ? before.names.every(name => grantsPattern(after.names, name)) && hasAll(after.rights, before.rights)
    : after.type === 'node' &&
      before.type === 'node' &&
      hasAll(after.roles, before.roles) &&
      hasAll(after.capabilities, before.capabilities))

const hasAll = <T>(all: readonly T[], wanted: readonly T[]): boolean => wanted.every(one => all.includes(one))

const nothingToRenew = (peer: PeerText) =>
  new CatalogError(
    'not-found',
    `Nothing was issued here to ${peer} that still holds: it was revoked or has expired, or another authority issued it.`,
  )
