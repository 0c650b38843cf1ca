// The authority's side of joining (join-protocol.ts): cheapest check first, and the invite is marked as used before any
// certificate is made, so that a crash in between costs a second try of the same peer and never a second member.
import { equalBytes } from '../base/cbor.ts'
import { withTimeout } from '../base/deadline.ts'
import { CatalogError, toCatalogError } from '../base/errors.ts'
import type { Log } from '../base/log.ts'
import { encodeFrame, FrameReader } from '../network/frames.ts'
import type { ByteStream, Host } from '../network/host.ts'
import { keyOfPeer } from '../network/identity.ts'
import type { Authority } from '../trust/authority.ts'
import type { Certificate } from '../trust/certificate.ts'
import { subjectOf } from '../trust/chain.ts'
import type { PublicKeys } from '../trust/fields.ts'
import { equalMacs, type Invites, type Redeemed } from '../trust/invites.ts'
import { encodeJoined, type Joined } from '../trust/joined.ts'
import { publisherFingerprint } from '../trust/keys.ts'
import { possessionCheck } from '../trust/possession.ts'
import { listsFor, newPublisher } from '../trust/request.ts'
import type { TrustChain, TrustChainDeps } from '../trust/trust-chain.ts'
import {
  answerMac,
  clockTrouble,
  decodeJoinRequest,
  encodeJoinAnswer,
  type JoinRequest,
  joinLimits,
  joinProofMessage,
  joinProtocol,
  readJoinQuestion,
  requestMac,
} from './join-protocol.ts'
import { PeerLimit } from './peer-limit.ts'

export interface JoinServerDeps {
  readonly host: Host
  readonly authority: Authority
  readonly invites: Invites
  readonly trust: Pick<TrustChain, 'network' | 'roots' | 'revocationLists'>
  readonly check: TrustChainDeps['check']
  readonly now: () => number
  readonly log: Log
}

export interface JoinServerOptions {
  readonly maxStreamsPerPeer: number
  readonly maxStreams: number
  readonly totalMs: number
}

export const defaultJoinServerOptions: JoinServerOptions = {
  // A node joins once. Each stream holds up to 24 KiB and costs some ten milliseconds of signatures.
  maxStreamsPerPeer: 1,
  maxStreams: 8,
  totalMs: joinLimits.totalMs,
}

/** A person who copies wrongly tries three times. */
const failureLimit = { what: 'failed attempts', maxPerPeer: 5, windowMs: 10 * 60_000 }

export class JoinServer {
  readonly #deps: JoinServerDeps
  readonly #failures: PeerLimit

  constructor(deps: JoinServerDeps, options: Partial<JoinServerOptions> = {}) {
    const { maxStreamsPerPeer, maxStreams, totalMs } = { ...defaultJoinServerOptions, ...options }
    this.#deps = deps
    this.#failures = new PeerLimit({ now: deps.now }, failureLimit)
    const limits = { maxInboundPerPeer: maxStreamsPerPeer, maxInbound: maxStreams, open: true } as const
    deps.host.handle(
      joinProtocol,
      (stream, { signal }) => this.#serve(stream, withTimeout(signal, totalMs)),
      limits,
    )
  }

  async #serve(stream: ByteStream, signal: AbortSignal): Promise<void> {
    const { now, log } = this.#deps
    const { peer } = stream
    try {
      this.#failures.check(peer)
      await stream.write(await this.#answer(stream, signal), { signal })
    } catch (error) {
      this.#failures.add(peer)
      if (signal.aborted) throw error
      const { code, message } = toCatalogError(error)
      log.warn({ peer, code, message }, 'a node was not let in')
      const told = code === 'internal' ? 'The authority failed; its log says how. Try again later.' : message
      await stream.write(encodeFrame({ error: { code, message: told.slice(0, 900) }, time: now() }), {
        signal,
      })
    }
  }

  async #answer(stream: ByteStream, signal: AbortSignal): Promise<Uint8Array> {
    const message = await new FrameReader(stream).message(joinLimits.maxRequestBytes, { signal })
    if (message === undefined)
      throw new CatalogError('bad-peer-message', `The peer ${stream.peer} asked nothing.`)
    const { invite, request: bytes, mac } = readJoinQuestion(message)
    const { invites, now } = this.#deps
    const secret = await invites.secretOf(invite, secret => equalMacs(requestMac(secret, invite, bytes), mac))
    const request = decodeJoinRequest(bytes)
    this.#checkFit(request, stream.peer)
    await this.#checkPossession(request, invite)
    const grant = await invites.redeem(invite, stream.peer)
    const answer = encodeJoinAnswer(now(), encodeJoined(await this.#admit(request, grant)))
    signal.throwIfAborted()
    return encodeFrame({ answer, mac: answerMac(secret, mac, answer) })
  }

  /** That it is meant for here, by who asks, now. */
  #checkFit(request: JoinRequest, peer: string): void {
    const { host, trust, now } = this.#deps
    const refused = (why: string) =>
      new CatalogError('invite-invalid', `The request to join is refused: ${why}.`)
    if (request.responder !== host.peer || request.joiner !== peer)
      throw refused('it was made by or for another node')
    const key = keyOfPeer(peer)
    if (key === undefined || !equalBytes(key, request.node.ed25519))
      throw refused("its node key is not that of the connection's peer")
    if (request.root !== trust.network)
      throw new CatalogError(
        'certificate-wrong-network',
        `The invite is for the network ${request.root}, and this node is of ${trust.network}.`,
      )
    const trouble = clockTrouble(now(), request.time, 'the node that wants to join')
    if (trouble !== undefined)
      throw new CatalogError('certificate-not-yet-valid', `The node cannot join now: ${trouble}.`)
  }

  async #checkPossession(request: JoinRequest, invite: Uint8Array): Promise<void> {
    const message = joinProofMessage(request, invite)
    for (const who of ['node', 'publisher'] as const) {
      const proof = who === 'node' ? request.nodeProof : request.publisherProof
      const faulty = await this.#deps.check(possessionCheck(request[who], message, proof))
      if (faulty !== undefined)
        throw new CatalogError(
          'certificate-bad-signature',
          `The request to join does not prove that the node holds its ${who} keys: the ${faulty} signature does not hold.`,
        )
    }
  }

  /** Keys that were rotated go on under the id that this authority knows them by, though their certificate has lapsed. */
  async #publisherFor(holder: Uint8Array, keys: PublicKeys): Promise<ReturnType<typeof newPublisher>> {
    const made = newPublisher(keys)
    for (const { certificate } of await this.#deps.authority.issuer.ledger.ofHolder(holder))
      if (certificate.type === 'publisher' && subjectOf(certificate) === made.publisher)
        return { ...made, publisher: certificate.publisher }
    return made
  }

  /** Where a crash came between the invite's mark and the certificate, nothing was issued since. @throws CatalogError `invite-used` */
  async #refuseSecond(
    holder: Uint8Array,
    type: Certificate['type'],
    { usedBefore }: Redeemed,
  ): Promise<void> {
    if (usedBefore === undefined) return
    for (const { certificate, issuedAt } of await this.#deps.authority.issuer.ledger.ofHolder(holder))
      if (certificate.type === type && issuedAt >= usedBefore)
        throw new CatalogError(
          'invite-used',
          `The invite was used by this node before, for a ${type} certificate that was for other keys or holds no more. An invite lets one node in, once: ask for a new one.`,
        )
  }

  /**
   * A second try with the same keys gets what the first one got, and nothing else: an invite lets nobody back in whose
   * certificate was taken back, and no second pair of keys.
   */
  async #admit(
    { node: nodeKeys, publisher: publisherKeys, label: asked }: JoinRequest,
    grant: Redeemed,
  ): Promise<Joined> {
    const { authority, trust, log } = this.#deps
    const { roles, capabilities, label = asked } = grant
    const holder = nodeKeys.ed25519
    const before = await authority.issuer.current(holder)
    const had = (keys: PublicKeys, type: Certificate['type']) => {
      const fingerprint = publisherFingerprint(keys.ed25519, keys.falcon)
      const entry = before.find(
        ({ certificate }) =>
          certificate.type === type &&
          certificate.issuer === authority.certificate.fingerprint &&
          subjectOf(certificate) === fingerprint,
      )
      return entry === undefined ? undefined : [entry.certificate.bytes, ...authority.chain]
    }
    const [hadNode, hadPublisher] = [had(nodeKeys, 'node'), had(publisherKeys, 'publisher')]
    if (hadNode === undefined) await this.#refuseSecond(holder, 'node', grant)
    if (hadPublisher === undefined) await this.#refuseSecond(holder, 'publisher', grant)
    const node = hadNode ?? (await authority.issueNode({ subject: nodeKeys, roles, capabilities, label }))
    const publisher =
      hadPublisher ??
      (await authority.issuePublisher({
        ...(await this.#publisherFor(holder, publisherKeys)),
        holder,
        label,
      }))
    log.info({ certificate: authority.certificate.fingerprint, roles, label }, 'a node has joined')
    return { roots: await trust.roots(), node, publisher, revocations: listsFor(trust, authority) }
  }
}
