// Rotates the keys of this node's publisher while it runs: new keys, a certificate for them by an authority that issued
// the old one, then everything that this publisher stands for goes on under them.
//
//   prepare (durable) -ask an authority-> chain -prove, swap (durable)-> sign heads anew -delegate anew-> retire the old
//
// A rotation that was cut short goes on by itself: the keys that lie prepared are those that the authority may have
// certified. Where every authority that could have refuses, they are dropped.
import { equalBytes } from '../base/cbor.ts'
import { settleWithin } from '../base/deadline.ts'
import { CatalogError, type ErrorCode, isCatalogError } from '../base/errors.ts'
import type { CallOptions, Service } from '../base/lifecycle.ts'
import type { Log } from '../base/log.ts'
import { OneAtATime } from '../base/one-at-a-time.ts'
import type { Host, PeerText } from '../network/host.ts'
import { type Certificate, leafOf, type PublisherGrant } from '../trust/certificate.ts'
import type { DocumentSigner } from '../trust/document.ts'
import { grantsPattern } from '../trust/name-pattern.ts'
import { provePossession } from '../trust/possession.ts'
import type { TrustChain } from '../trust/trust-chain.ts'
import {
  askRetirement,
  askRotation,
  type Chain,
  type RotationRequest,
  rotationMessage,
} from './certificates-protocol.ts'
import type { OwnCertificates } from './certificates-server.ts'
import type { Renewals } from './renewals.ts'
import type { Rotations } from './rotations.ts'
import type { Withdrawals } from './withdrawals.ts'

/** The keys that are to come, and their way into use. */
export interface NextKeys {
  /** Whether some lie prepared by a rotation that was cut short. */
  pending(): Promise<boolean>
  /** Those, or new ones; durable when it resolves. @throws CatalogError `wrong-passphrase`, `no-space` … */
  prepare(): Promise<DocumentSigner>
  /** Puts them in the place of the present ones, with the chain: durable and used when it resolves. Gives the publishers that had delegated to the old keys. */
  swap(chain: Chain): Promise<readonly string[]>
  discard(): Promise<void>
}

/** What became of the heads of this publisher. */
export interface SignedAnew {
  readonly heads: number
  /** Sentences. */
  readonly warnings: readonly string[]
}

export interface RotatePublisherDeps {
  readonly host: Host
  readonly own: Pick<OwnCertificates, 'publisher' | 'chain'>
  readonly next: NextKeys
  /** Where this node is an authority. */
  readonly rotations?: Pick<Rotations, 'rotate' | 'retire'> | undefined
  readonly trust: Pick<TrustChain, 'network' | 'prove'>
  /** What was taken back from delegates stays so under the new keys. */
  readonly withdrawals: Pick<Withdrawals, 'renew'>
  /** Delegates get certificates under the new keys. */
  readonly renewals: Pick<Renewals, 'check'>
  /** Signs the publisher's heads with the keys of now; `distrusted`: others may have signed with these. */
  readonly signHeads: (before: {
    readonly keys: Uint8Array
    readonly distrusted: boolean
  }) => Promise<SignedAnew>
  readonly log: Log
}

export interface RotationOrder {
  /** The old certificate is to hold no more, for example because others have its keys. */
  readonly revokeOld?: boolean | undefined
  readonly reason?: string | undefined
}

export interface Rotated {
  readonly publisher: string
  readonly certificate: string
  /** Of the keys. */
  readonly keys: string
  readonly notAfter: string
  /** Who certified the new keys. */
  readonly by: PeerText
  readonly previous: { readonly certificate: string; readonly keys: string; readonly revoked: boolean }
  /** How many heads were signed anew. */
  readonly heads: number
  readonly warnings: readonly string[]
}

/** After these another authority may still do it, or this one later: the keys are kept for that. */
const passing: ReadonlySet<ErrorCode> = new Set([
  'peer-unreachable',
  'timeout',
  'busy',
  'internal',
  'daemon-stopping',
])
const reasonDefault = 'keys rotated'

export class RotatePublisher implements Service {
  readonly #deps: RotatePublisherDeps
  readonly #turn = new OneAtATime()
  #stopping = new AbortController()
  #unsubscribe: (() => void) | undefined

  constructor(deps: RotatePublisherDeps) {
    this.#deps = deps
  }

  async start(): Promise<void> {
    if (this.#stopping.signal.aborted) this.#stopping = new AbortController()
    const { host, next, log } = this.#deps
    if (!(await next.pending())) return
    log.warn({}, 'a rotation of the publisher keys was cut short; it goes on when an authority is connected')
    const resume = () => {
      if (this.#authorities().length > 0) void this.#turn.run(() => this.#resume())
    }
    this.#unsubscribe = host.onPeer((_peer, change) => {
      if (change === 'connected') resume()
    })
    resume()
  }

  async stop(): Promise<void> {
    this.#unsubscribe?.()
    this.#stopping.abort(new CatalogError('daemon-stopping', 'This node is stopping.'))
    await settleWithin(this.#turn.settled(), 1000)
  }

  /**
   * @throws CatalogError `peer-unreachable` (no authority), what the authorities refuse with, and as `NextKeys.prepare`;
   *   then the old keys go on
   */
  rotate(order: RotationOrder = {}, options: CallOptions = {}): Promise<Rotated> {
    return this.#turn.run(() => this.#rotate(order, options))
  }

  async #resume(): Promise<void> {
    const { next, log } = this.#deps
    try {
      if (this.#stopping.signal.aborted || !(await next.pending())) return
      const { certificate } = await this.#rotate({}, { signal: this.#stopping.signal })
      log.info({ certificate }, 'the rotation of the publisher keys that was cut short is complete')
    } catch (error) {
      log.warn(
        { error: String(error) },
        'the rotation of the publisher keys that was cut short is not complete',
      )
    }
  }

  async #rotate(
    { revokeOld = false, reason = reasonDefault }: RotationOrder,
    options: CallOptions,
  ): Promise<Rotated> {
    const { own, next, signHeads, renewals, withdrawals, log } = this.#deps
    const before = leafOf<PublisherGrant>(own.chain('publisher'))
    const { fingerprint: oldKeys } = own.publisher
    this.#refuseAlone()
    const signer = await next.prepare()
    const { chain, by } = await this.#certify(before, signer, options)
    const leaf = leafOf<PublisherGrant>(chain)
    // From here on it is done: what follows is told, and can be done again.
    const lost = await next.swap(chain)
    log.info({ certificate: leaf.fingerprint, keys: signer.fingerprint }, 'the publisher has new keys')
    const { heads, warnings } = await signHeads({
      keys: before.subject.ed25519,
      distrusted: revokeOld,
    }).catch((error: unknown) => ({
      heads: 0,
      warnings: [`The heads were not signed anew: ${textOf(error)}`],
    }))
    // First what they shall not get.
    const kept = await withdrawals.renew().then(
      () => true,
      (error: unknown) => textOf(error),
    )
    if (kept === true) await renewals.check()
    const retired = revokeOld ? await this.#retire(before, by, reason, options) : undefined
    return {
      ...{ publisher: leaf.publisher, certificate: leaf.fingerprint, keys: signer.fingerprint, by },
      notAfter: new Date(Math.min(leaf.notAfter, 8.64e15)).toISOString(),
      previous: { certificate: before.fingerprint, keys: oldKeys, revoked: retired === 'revoked' },
      heads,
      warnings: [
        ...warnings,
        ...(kept === true ? [] : [`What was taken back from delegates was not signed anew: ${kept}`]),
        ...(retired === undefined || retired === 'revoked' ? [] : [retired]),
        ...lost.map(
          publisher =>
            `The publisher ${publisher} had let the old keys sign for it: it must grant that anew (\`catalog trust grant … --delegate --to ${this.#deps.host.peer}\` there).`,
        ),
      ],
    }
  }

  /** Before anything is made. */
  #refuseAlone(): void {
    if (this.#authorities().length > 0) return
    throw new CatalogError(
      'peer-unreachable',
      'The keys were not rotated: no authority of the network is connected, and one must certify the new ones. `catalog peers` shows who is; connect to an authority, then try again.',
    )
  }

  /** Asks one authority after the other; only the one that issued the old certificate can. */
  async #certify(
    before: Certificate<PublisherGrant>,
    signer: DocumentSigner,
    options: CallOptions,
  ): Promise<{ chain: Chain; by: PeerText }> {
    const failures: unknown[] = []
    // What was asked may have been granted, and the answer lost: then only these keys can go on.
    let refused = true
    for (const peer of this.#authorities()) {
      try {
        const chain = await this.#ask(peer, await this.#request(peer, before, signer), options).catch(
          (error: unknown) => {
            refused &&= isCatalogError(error) && !passing.has(error.code)
            throw error
          },
        )
        await this.#prove(chain, before, signer).catch((error: unknown) => {
          refused = false
          throw error
        })
        return { chain, by: peer }
      } catch (error) {
        failures.push(error)
        if (options.signal?.aborted === true) break
      }
    }
    if (refused) await this.#deps.next.discard()
    options.signal?.throwIfAborted()
    throw failures.find(error => !isCatalogError(error, 'not-found')) ?? failures[0]
  }

  async #request(
    peer: PeerText,
    { fingerprint: certificate }: Certificate,
    signer: DocumentSigner,
  ): Promise<RotationRequest> {
    const { own, trust, host } = this.#deps
    const keys = signer.publicKeys
    const message = rotationMessage(trust.network, host.peer, peer, { certificate, keys })
    const [old, fresh] = await Promise.all(
      [own.publisher, signer].map(each => provePossession(each, message)),
    )
    if (old === undefined || fresh === undefined) throw new TypeError('two signers give two proofs')
    return { certificate, keys, old, new: fresh }
  }

  async #ask(peer: PeerText, request: RotationRequest, options: CallOptions): Promise<Chain> {
    const { host, rotations } = this.#deps
    if (peer === host.peer && rotations !== undefined) return rotations.rotate(peer, request)
    return askRotation(host, peer, request, options)
  }

  async #prove(chain: Chain, before: Certificate<PublisherGrant>, signer: DocumentSigner): Promise<void> {
    const [leaf, issuer] = await this.#deps.trust.prove(chain, { kind: 'any' })
    const { ed25519, falcon } = signer.publicKeys
    if (
      leaf?.type !== 'publisher' ||
      leaf.publisher !== before.publisher ||
      issuer?.type === 'publisher' ||
      !equalBytes(leaf.subject.ed25519, ed25519) ||
      !equalBytes(leaf.subject.falcon, falcon)
    )
      throw new CatalogError(
        'certificate-wrong-usage',
        'The keys were not rotated: the authority gave a certificate for other keys, or another publisher.',
      )
    const lost = [
      ...before.names.filter(name => !grantsPattern(leaf.names, name)),
      ...before.rights.filter(right => !leaf.rights.includes(right)),
    ]
    if (lost.length > 0)
      throw new CatalogError(
        'certificate-name-not-granted',
        `The keys were not rotated: the authority's certificate for the new ones lacks ${lost.join(', ')}, which the present one has.`,
      )
  }

  async #retire(
    { fingerprint: certificate }: Certificate,
    by: PeerText,
    reason: string,
    options: CallOptions,
  ): Promise<string> {
    const { host, rotations } = this.#deps
    try {
      if (by === host.peer && rotations !== undefined) await rotations.retire(by, certificate, reason)
      else await askRetirement(host, by, { certificate, reason }, options)
      return 'revoked'
    } catch (error) {
      return `The old certificate still holds: ${textOf(error)} An authority can end it: \`catalog trust revoke ${certificate}\`.`
    }
  }

  /** This node first where it is one itself. */
  #authorities(): PeerText[] {
    const { host, rotations } = this.#deps
    const peers = new Set(host.connections().map(({ peer }) => peer))
    const others = [...peers].filter(peer => host.admissionOf(peer)?.roles.has('authority') === true)
    return [...(rotations === undefined ? [] : [host.peer]), ...others]
  }
}

const textOf = (error: unknown): string => (error instanceof Error ? error.message : String(error))
