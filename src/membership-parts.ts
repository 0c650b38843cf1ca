// Membership put together for node.ts: certificates asked for, handed over, renewed and revoked, on an authority's node
// with its ledger and its invites. A part of the composition root.
import type { KeyValue } from './base/key-value.ts'
import type { Service } from './base/lifecycle.ts'
import type { Log } from './base/log.ts'
import type { CertificatesApi } from './control/certificates-api.ts'
import { Administration, type InviteOrder } from './membership/administration.ts'
import { CertificatesServer, type OwnCertificates } from './membership/certificates-server.ts'
import { type GrantOrder, Grants } from './membership/grants.ts'
import { JoinServer } from './membership/join-server.ts'
import { Outbox } from './membership/outbox.ts'
import { Renewals } from './membership/renewals.ts'
import type { Host } from './network/host.ts'
import type { HomeCertificates, NetworkTrust } from './network-trust.ts'
import { Authority } from './trust/authority.ts'
import type { DocumentSigner } from './trust/document.ts'
import type { PublicKeys } from './trust/fields.ts'
import { Invites } from './trust/invites.ts'
import { Issuer } from './trust/issuer.ts'
import { Ledger } from './trust/ledger.ts'
import type { TrustChainDeps } from './trust/trust-chain.ts'

export interface MembershipDeps {
  readonly host: Host
  readonly trust: Pick<NetworkTrust, 'chain' | 'identities' | 'node' | 'install'>
  readonly nodeKeys: PublicKeys
  readonly publisher: DocumentSigner
  /** Where the home has an authority's keys and certificates. */
  readonly authority?: { readonly signer: DocumentSigner; readonly chain: readonly Uint8Array[] } | undefined
  /** Records of a name, apart from all others. */
  readonly scope: (name: string) => KeyValue
  readonly check: TrustChainDeps['check']
  /** A new node certificate is to be shown to those who are connected. */
  readonly present: () => Promise<void>
  readonly now: () => number
  readonly log: Log
}

export interface Membership {
  readonly api: CertificatesApi
  readonly authority: Authority | undefined
  /** After the trust chain and the host, in this order. */
  readonly services: readonly Service[]
}

/** Both are needed: keys without a certificate are those of somebody who was not made an authority. */
export const authorityOf = (
  signer: DocumentSigner | undefined,
  { authority: chain }: Pick<HomeCertificates, 'authority'>,
): MembershipDeps['authority'] =>
  signer === undefined || chain === undefined ? undefined : { signer, chain }

/** Registers its protocols with the host: before the host starts. */
export function createMembership(deps: MembershipDeps): Membership {
  const { host, trust, publisher, scope, check, now, log } = deps
  const own = ownCertificates(deps)
  const chain = trust.chain
  const authority =
    deps.authority === undefined
      ? undefined
      : new Authority({ ...deps.authority, records: scope('authority'), trust: chain, now, log })
  const delegations = new Issuer({
    signer: publisher,
    chain: () => own.chain('publisher'),
    ledger: new Ledger({ records: scope('delegations') }),
    ...{ trust: chain, now },
  })
  const issuers = authority === undefined ? [delegations] : [authority.issuer, delegations]
  const server = new CertificatesServer({ host, own, issuers, trust: chain, now, log })
  const outbox = new Outbox({ host, records: scope('outbox'), now, log })
  const renewals = new Renewals({ host, own, server, outbox, authority, delegations, now, log })
  const invites = new Invites({ records: scope('invites'), now })
  if (authority !== undefined) new JoinServer({ host, authority, invites, trust: chain, check, now, log })
  const grants = new Grants({ host, own, server, outbox, authority, delegations, trust: chain, check, now })
  const administration = new Administration({
    ...{ host, own, trust: chain, check, now },
    authority: authority === undefined ? undefined : { authority, invites },
  })
  return {
    api: {
      // The socket has checked their words against the lists that these types are.
      invite: request => administration.invite(request as InviteOrder),
      grant: (request, options) => grants.grant(request as GrantOrder, options),
      revoke: request => administration.revoke(request),
      issue: request => administration.issue(request as InviteOrder & { readonly request: string }),
      issued: () => administration.issued(),
    },
    authority,
    services: [...(authority === undefined ? [] : [authority]), outbox, renewals],
  }
}

function ownCertificates({ trust, nodeKeys, publisher, present, log }: MembershipDeps): OwnCertificates {
  return {
    nodeKeys,
    publisher,
    chain: kind => {
      if (kind === 'node') return trust.node
      const [own] = trust.identities.list()
      if (own === undefined) throw new Error('a node has a publisher of its own')
      return own.chain
    },
    delegations: () =>
      trust.identities
        .list()
        .slice(1)
        .map(({ chain }) => chain),
    install: async chain => {
      const kind = await trust.install(chain)
      if (kind === 'node')
        present().catch((error: unknown) =>
          log.warn({ error: String(error) }, 'the new certificate could not be shown to every peer'),
        )
    },
  }
}
