// What the owner of an authority's node can do with certificates beside granting names (grants.ts): invite, revoke,
// issue by file, and see what was issued. The verbs of `catalog trust` that are carried out here.
import { CatalogError } from '../base/errors.ts'
import { parseNetworkName } from '../base/network-name.ts'
import type { Host, PeerText } from '../network/host.ts'
import { keyOfPeer, peerOfKey } from '../network/identity.ts'
import type { Authority, Issued } from '../trust/authority.ts'
import {
  type Certificate,
  leafOf,
  type NodeCapability,
  type NodeRole,
  nodeCapabilities,
  type PublisherGrant,
} from '../trust/certificate.ts'
import { isFingerprint } from '../trust/fields.ts'
import { encodeInvite, inviteLimits } from '../trust/invite.ts'
import type { Invites } from '../trust/invites.ts'
import { decodeRequest, encodeMembershipFile, issueForRequest } from '../trust/request.ts'
import type { TrustChain, TrustChainDeps } from '../trust/trust-chain.ts'
import type { OwnCertificates } from './certificates-server.ts'
import type { Rotations } from './rotations.ts'
import type { Withdrawals } from './withdrawals.ts'

export interface AdministrationDeps {
  readonly host: Host
  readonly own: Pick<OwnCertificates, 'chain'>
  /** Where this node is an authority: it, and its invites. */
  readonly authority?: { readonly authority: Authority; readonly invites: Invites } | undefined
  readonly rotations?: Pick<Rotations, 'allow'> | undefined
  readonly withdrawals: Withdrawals
  readonly trust: Pick<TrustChain, 'network' | 'root' | 'roots' | 'revocationLists'>
  readonly check: TrustChainDeps['check']
  readonly now: () => number
}

export interface MemberGrant {
  readonly roles?: readonly NodeRole[] | undefined
  readonly capabilities?: readonly NodeCapability[] | undefined
  /** For people: what the node is called. */
  readonly label?: string | undefined
}

export interface InviteOrder extends MemberGrant {
  readonly expiresSeconds?: number | undefined
  /** Name in DNS that leads to this network. */
  readonly name?: string | undefined
}

/** One line of the ledger. */
export interface IssuedView {
  readonly certificate: string
  readonly type: Certificate['type']
  readonly label?: string
  readonly peer?: PeerText
  readonly publisher?: string
  readonly names?: readonly string[]
  readonly rights?: readonly string[]
  readonly roles?: readonly string[]
  readonly capabilities?: readonly string[]
  readonly issuedAt: string
  readonly notAfter: string
  readonly state: 'valid' | 'expired' | 'revoked'
  readonly revokedAt?: string
  readonly reason?: string
}

const defaultRoles: readonly NodeRole[] = ['execute', 'relay', 'store']
const maxListed = 10_000

export class Administration {
  readonly #deps: AdministrationDeps

  constructor(deps: AdministrationDeps) {
    this.#deps = deps
  }

  /** A line for one node to join with. @throws CatalogError `capability-missing` (no authority here), `invalid-request`, `quota-exceeded` */
  async invite(order: InviteOrder): Promise<{ invite: string; expires: string }> {
    const { invites } = this.#authority('An invite cannot be made')
    const { trust, host } = this.#deps
    const { expiresSeconds, name, label, roles } = order
    if (roles?.includes('authority') === true)
      throw new CatalogError(
        'invalid-request',
        'Nobody becomes an authority by an invite. On its machine: `catalog init --request FILE --authority`; here: `catalog trust issue FILE --role authority`.',
      )
    if (name !== undefined && parseNetworkName(name)?.name !== name)
      throw new CatalogError(
        'invalid-request',
        `${JSON.stringify(name)} is not a name in DNS, as for example catalog.example.org.`,
      )
    const addresses = addressesToShow(host.addresses())
    if (addresses.length === 0 && name === undefined)
      throw new CatalogError(
        'invalid-request',
        'The invite would lead nowhere: this node listens on no address. Give a name in DNS, or see `listen` in the config.',
      )
    const { id, secret, expires } = await invites.create({
      ...memberGrant(order),
      label,
      ...(expiresSeconds === undefined ? {} : { expiresMs: expiresSeconds * 1000 }),
    })
    const invite = { network: trust.root.network, root: trust.network, addresses, id, secret, expires }
    return {
      invite: encodeInvite({ ...invite, ...(name === undefined ? {} : { name }) }),
      expires: iso(expires),
    }
  }

  /**
   * Takes back one certificate, or all that a peer has: on an authority what it issued, elsewhere what this node's
   * publisher delegated.
   * @throws CatalogError `capability-missing` (neither), `not-found`, `invalid-request`, `quota-exceeded`
   */
  async revoke(order: {
    readonly target: string
    readonly reason?: string | undefined
    /** The node that has the certificate may still replace the keys (rotations.ts). */
    readonly allowRotation?: boolean | undefined
  }) {
    const { target, reason = '', allowRotation = false } = order
    const { withdrawals } = this.#deps
    const delegated = allowRotation ? [] : await withdrawals.targets(target)
    // An authority's word ends what its own publisher delegated as well, and of a peer all that it has.
    if (delegated.length > 0 && (this.#deps.authority === undefined || isFingerprint(target))) {
      const list = await withdrawals.revoke(delegated, reason.slice(0, 200))
      return { revoked: delegated, sequence: list.sequence, expires: iso(list.expiresAt) }
    }
    const { authority } = this.#authority('Nothing was revoked')
    const fingerprints = await this.#targets(target, allowRotation, authority)
    const own = (['node', 'publisher'] as const).map(kind => leafOf(this.#deps.own.chain(kind)).fingerprint)
    if (fingerprints.some(one => own.includes(one) || one === authority.certificate.fingerprint))
      throw new CatalogError(
        'invalid-request',
        "This would cut the authority's own node off. Its root's holders revoke an authority: `catalog trust rotate root`.",
      )
    const list = await authority.revoke(fingerprints, reason.slice(0, 200))
    if (delegated.length > 0) await withdrawals.revoke(delegated, reason.slice(0, 200))
    return { revoked: [...fingerprints, ...delegated], sequence: list.sequence, expires: iso(list.expiresAt) }
  }

  async #targets(target: string, allowRotation: boolean, authority: Authority): Promise<readonly string[]> {
    const { rotations } = this.#deps
    if (!isFingerprint(target)) {
      if (!allowRotation) return this.#certificatesOf(target, authority)
      throw new CatalogError(
        'invalid-request',
        'Nothing was revoked: --allow-rotation takes the fingerprint of a publisher certificate. A node that is revoked as a whole cannot ask for anything.',
      )
    }
    return allowRotation && rotations !== undefined ? rotations.allow(target) : authority.ofSameKeys(target)
  }

  async #certificatesOf(peer: PeerText, authority: Authority): Promise<string[]> {
    const key = keyOfPeer(peer)
    if (key === undefined)
      throw new CatalogError(
        'invalid-request',
        `${JSON.stringify(peer)} is neither a peer id nor the fingerprint of a certificate.`,
      )
    const entries = await authority.issuer.ledger.ofHolder(key)
    const live = entries.filter(({ certificate }) => certificate.notAfter >= this.#deps.now())
    if (live.length === 0)
      throw new CatalogError(
        'not-found',
        `Nothing was revoked: this authority has issued nothing to ${peer} that still holds. \`catalog trust issued\` shows what it has.`,
      )
    return live.map(({ certificate }) => certificate.fingerprint)
  }

  /** Answers a request file with a membership file. @throws CatalogError `capability-missing`, `certificate-…` */
  async issue(
    order: MemberGrant & { readonly request: string },
  ): Promise<{ membership: string; root: string; peer: PeerText; publisher: string }> {
    const { authority } = this.#authority('No certificates were issued')
    const request = await decodeRequest(order.request, this.#deps)
    const { roles, capabilities } = memberGrant(order)
    const joined = await issueForRequest(
      request,
      { roles, capabilities, label: order.label ?? request.label },
      { authority, trust: this.#deps.trust },
    )
    const leaf = leafOf<PublisherGrant>(joined.publisher)
    return {
      membership: encodeMembershipFile(joined),
      root: this.#deps.trust.network,
      peer: peerOfKey(request.node.ed25519),
      publisher: leaf.publisher,
    }
  }

  /** The newest first. @throws CatalogError `capability-missing` */
  async issued(): Promise<IssuedView[]> {
    const { authority } = this.#authority('There is no ledger')
    const views: IssuedView[] = []
    for await (const entry of authority.issued()) {
      views.push(viewOf(entry, this.#deps.now()))
      if (views.length === maxListed) break
    }
    return views.sort((a, b) => (a.issuedAt < b.issuedAt ? 1 : -1))
  }

  #authority(what: string): { authority: Authority; invites: Invites } {
    if (this.#deps.authority !== undefined) return this.#deps.authority
    throw new CatalogError(
      'capability-missing',
      `${what}: this node is no authority of the network. Run the command on one; \`catalog peers\` shows who is connected.`,
    )
  }
}

const memberGrant = ({ roles = defaultRoles, capabilities = nodeCapabilities }: MemberGrant) => ({
  roles,
  capabilities,
})

const iso = (at: number): string => new Date(Math.min(at, 8.64e15)).toISOString()

/** What others can reach first: loopback addresses only where there is nothing else. */
function addressesToShow(addresses: readonly string[]): string[] {
  const short = addresses.filter(
    address => address.length <= inviteLimits.maxAddressLength && address.includes('/p2p/'),
  )
  const local = (address: string) => /^\/(ip4\/127\.|ip6\/::1\/)/.test(address)
  const reachable = short.filter(address => !local(address))
  const quicFirst = (a: string, b: string) => Number(b.includes('/quic')) - Number(a.includes('/quic'))
  return (reachable.length > 0 ? reachable : short).sort(quicFirst).slice(0, inviteLimits.maxAddresses)
}

function viewOf({ certificate, issuedAt, holder, revoked }: Issued, now: number): IssuedView {
  const { type, label, fingerprint, notAfter } = certificate
  const key = holder ?? (type === 'node' ? certificate.subject.ed25519 : undefined)
  return {
    ...{ certificate: fingerprint, type },
    ...(label === undefined ? {} : { label }),
    ...(key === undefined ? {} : { peer: peerOfKey(key) }),
    ...(certificate.type === 'node'
      ? { roles: certificate.roles, capabilities: certificate.capabilities }
      : {}),
    ...(certificate.type === 'publisher'
      ? { publisher: certificate.publisher, rights: certificate.rights }
      : {}),
    ...(certificate.type === 'node' ? {} : { names: certificate.names }),
    ...{ issuedAt: iso(issuedAt), notAfter: iso(notAfter) },
    state: revoked !== undefined ? 'revoked' : notAfter < now ? 'expired' : 'valid',
    ...(revoked === undefined ? {} : { revokedAt: iso(revoked.at), reason: revoked.reason }),
  }
}
