// Grants package names: on an authority to a peer's own publisher, elsewhere (or where it is asked for) by letting the
// peer sign as this node's publisher. The peer gets its certificate now, or when it connects.
import { randomBytes } from 'node:crypto'
import { CatalogError } from '../base/errors.ts'
import type { CallOptions } from '../base/lifecycle.ts'
import type { OneAtATime } from '../base/one-at-a-time.ts'
import type { Host, PeerText } from '../network/host.ts'
import { keyOfPeer } from '../network/identity.ts'
import type { Authority } from '../trust/authority.ts'
import {
  type Certificate,
  leafOf,
  type PublisherGrant,
  type PublisherRight,
  publisherRights,
} from '../trust/certificate.ts'
import type { Issuer } from '../trust/issuer.ts'
import { grantsPattern, isNamePattern } from '../trust/name-pattern.ts'
import { possessionCheck } from '../trust/possession.ts'
import type { TrustChain, TrustChainDeps } from '../trust/trust-chain.ts'
import { askIdentity, type Chain, certificatesLimits, identityMessage } from './certificates-protocol.ts'
import type { CertificatesServer, OwnCertificates } from './certificates-server.ts'
import type { Outbox } from './outbox.ts'

export interface GrantsDeps {
  readonly host: Host
  readonly own: OwnCertificates
  readonly server: Pick<CertificatesServer, 'take'>
  readonly outbox: Pick<Outbox, 'send'>
  /** Where this node is one. */
  readonly authority?: Authority | undefined
  /** What this node's publisher delegates with. */
  readonly delegations: Issuer
  readonly trust: Pick<TrustChain, 'network' | 'prove'>
  readonly check: TrustChainDeps['check']
  readonly now: () => number
  /** A grant adds to the one before: two at once would each lose the other's names. */
  readonly issuing: OneAtATime
}

export interface GrantOrder {
  readonly names: readonly string[]
  readonly to: PeerText
  /** Absent: as the peer has them, or for a delegation all that this publisher has but `delegate`. */
  readonly rights?: readonly PublisherRight[] | undefined
  /** Let the peer sign as this node's own publisher. */
  readonly delegate?: boolean | undefined
}

export interface Granted {
  readonly certificate: string
  /** The id that the peer signs as by this certificate. */
  readonly publisher: string
  readonly peer: PeerText
  readonly names: readonly string[]
  readonly rights: readonly PublisherRight[]
  readonly notAfter: string
  /** `delegation`: the peer signs as this node's publisher. */
  readonly by: 'authority' | 'delegation'
  /** Whether the peer has it; else it gets it when it connects. */
  readonly delivered: boolean
  readonly warnings: readonly string[]
}

export class Grants {
  readonly #deps: GrantsDeps

  constructor(deps: GrantsDeps) {
    this.#deps = deps
  }

  /**
   * Names for a peer's own publisher (on an authority), or for it to sign as this node's publisher.
   * @throws CatalogError `invalid-request`, `peer-unreachable` (whose keys are not known here), `certificate-…`
   */
  async grant(order: GrantOrder, options: CallOptions = {}): Promise<Granted> {
    const wrong = order.names.find(name => !isNamePattern(name))
    if (wrong !== undefined)
      throw new CatalogError(
        'invalid-request',
        `${JSON.stringify(wrong)} is no name or pattern: write a name, \`scope/*\`, \`prefix-*\` or \`*\`.`,
      )
    const key = keyOfPeer(order.to)
    if (key === undefined)
      throw new CatalogError(
        'invalid-request',
        `${JSON.stringify(order.to)} is no peer id. \`catalog status\` on the other node shows its own.`,
      )
    const authority = order.delegate === true ? undefined : this.#deps.authority
    const { chain, warnings } = await this.#deps.issuing.run(() =>
      authority === undefined
        ? this.#delegate(order, key, options)
        : this.#grantNames(authority, order, key, options),
    )
    const leaf = leafOf<PublisherGrant>(chain)
    return {
      certificate: leaf.fingerprint,
      ...{ publisher: leaf.publisher, peer: order.to, names: leaf.names, rights: leaf.rights },
      ...{ notAfter: iso(leaf.notAfter), warnings },
      by: authority === undefined ? 'delegation' : 'authority',
      delivered: await this.#handOver(order.to, chain, options),
    }
  }

  async #grantNames(
    authority: Authority,
    order: GrantOrder,
    key: Uint8Array,
    options: CallOptions,
  ): Promise<{ chain: Chain; warnings: string[] }> {
    const before = await this.#publisherOf(order.to, key, options)
    const { publisher, subject, label } = before
    const chain = await authority.issuePublisher({
      ...{ publisher, subject, label, holder: key },
      names: union(before.names, order.names),
      rights: order.rights === undefined ? orAll(before.rights) : union(before.rights, order.rights),
    })
    return { chain, warnings: await this.#overlaps(authority, publisher, order.names) }
  }

  async #delegate({ names, to, rights }: GrantOrder, key: Uint8Array, options: CallOptions) {
    const { delegations, own, host } = this.#deps
    const mine = leafOf<PublisherGrant>(own.chain('publisher'))
    if (!mine.rights.includes('delegate'))
      throw new CatalogError(
        'capability-missing',
        'Nothing was delegated: the certificate of this publisher does not grant the right to. An authority of the network can grant it.',
      )
    if (to === host.peer)
      throw new CatalogError('invalid-request', 'This node signs as its own publisher already.')
    const { subject, label } = await this.#publisherOf(to, key, options)
    const lent = rights ?? mine.rights.filter(right => right !== 'delegate')
    const grant = {
      type: 'publisher',
      publisher: mine.publisher,
      names: union([], names),
      rights: union([], lent),
    } as const
    return { chain: await delegations.issue({ grant, subject, label, holder: key }), warnings: [] }
  }

  /** The own publisher of a peer: as issued here, else as the peer proves it. */
  async #publisherOf(
    peer: PeerText,
    key: Uint8Array,
    options: CallOptions,
  ): Promise<Certificate<PublisherGrant>> {
    const { authority, own, host } = this.#deps
    if (peer === host.peer) return leafOf<PublisherGrant>(own.chain('publisher'))
    for (const { certificate } of (await authority?.issuer.current(key)) ?? [])
      if (certificate.type === 'publisher') return certificate
    if (!host.isConnected(peer))
      throw new CatalogError(
        'peer-unreachable',
        `Nothing was granted: the keys of ${peer} are not known here, and it is not connected. Connect to it, then try again.`,
        { peer },
      )
    return this.#askPublisher(peer, options)
  }

  async #askPublisher(peer: PeerText, options: CallOptions): Promise<Certificate<PublisherGrant>> {
    const { host, trust, check } = this.#deps
    const nonce = new Uint8Array(randomBytes(certificatesLimits.nonceBytes))
    const { chain, proof } = await askIdentity(host, peer, nonce, options)
    const [leaf, issuer] = await trust.prove(chain, { kind: 'any' })
    const wrong = (why: string) =>
      new CatalogError('certificate-wrong-usage', `Nothing was granted: the peer ${peer} shows ${why}.`, {
        peer,
      })
    if (leaf?.type !== 'publisher' || issuer?.type === 'publisher')
      throw wrong('no publisher certificate of its own')
    const message = identityMessage(trust.network, host.peer, peer, nonce)
    if ((await check(possessionCheck(leaf.subject, message, proof))) !== undefined)
      throw wrong('a publisher certificate whose keys it does not hold')
    return leaf
  }

  async #handOver(peer: PeerText, chain: Chain, options: CallOptions): Promise<boolean> {
    const { host, server, outbox } = this.#deps
    if (peer !== host.peer) return (await outbox.send(peer, chain, options)) === 'delivered'
    await server.take(chain)
    return true
  }

  /** Others that hold some of the names: allowed, and rarely meant. */
  async #overlaps(authority: Authority, publisher: string, names: readonly string[]): Promise<string[]> {
    const others = new Map<string, string>()
    for await (const { certificate, revoked } of authority.issued()) {
      if (certificate.type !== 'publisher' || certificate.publisher === publisher) continue
      if (revoked !== undefined || certificate.notAfter < this.#deps.now()) continue
      // Who founded the network holds everything; that is no news.
      const held = certificate.names.filter(name => name !== '*')
      const shared = names.find(
        name => grantsPattern(held, name) || held.some(one => grantsPattern([name], one)),
      )
      if (shared !== undefined)
        others.set(
          certificate.publisher,
          `${shared} is granted to the publisher ${certificate.publisher} as well.`,
        )
    }
    return [...others.values()]
  }
}

const union = <T extends string>(a: readonly T[], b: readonly T[]): readonly T[] => [...new Set([...a, ...b])]

/** A certificate without rights is of a publisher that nothing was granted to yet. */
const orAll = (rights: readonly PublisherRight[]) => (rights.length === 0 ? publisherRights : rights)

const iso = (at: number): string => new Date(Math.min(at, 8.64e15)).toISOString()
