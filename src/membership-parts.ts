// Membership put together for node.ts: certificates asked for, handed over, renewed and revoked, on an authority's node
// with its ledger and its invites. A part of the composition root.
import type { KeyValue } from './base/key-value.ts'
import type { Service } from './base/lifecycle.ts'
import type { Log } from './base/log.ts'
import { OneAtATime } from './base/one-at-a-time.ts'
import type { CertificatesApi } from './control/certificates-api.ts'
import { Administration, type InviteOrder } from './membership/administration.ts'
import { CertificatesServer, type OwnCertificates } from './membership/certificates-server.ts'
import { type GrantOrder, Grants } from './membership/grants.ts'
import { JoinServer } from './membership/join-server.ts'
import { Outbox } from './membership/outbox.ts'
import { Renewals } from './membership/renewals.ts'
import { type NextKeys, RotatePublisher, type RotatePublisherDeps } from './membership/rotate-publisher.ts'
import { Rotations } from './membership/rotations.ts'
import { Withdrawals } from './membership/withdrawals.ts'
import type { Host } from './network/host.ts'
import type { HomeCertificates, NetworkTrust } from './network-trust.ts'
import type { NextPublisherKeys } from './next-publisher-keys.ts'
import { Authority } from './trust/authority.ts'
import type { DocumentSigner } from './trust/document.ts'
import type { PublicKeys } from './trust/fields.ts'
import { Invites } from './trust/invites.ts'
import { Issuer } from './trust/issuer.ts'
import type { PublisherKeys } from './trust/keys.ts'
import { Ledger } from './trust/ledger.ts'
import type { TrustChainDeps } from './trust/trust-chain.ts'

export interface MembershipDeps {
  readonly host: Host
  readonly trust: Pick<NetworkTrust, 'chain' | 'identities' | 'node' | 'install' | 'rotate'>
  readonly nodeKeys: PublicKeys
  /** Where the publisher's next keys lie. */
  readonly nextKeys: NextPublisherKeys
  /** After the publisher's keys were rotated. */
  readonly signHeads: RotatePublisherDeps['signHeads']
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
  const { host, trust, scope, check, now, log } = deps
  const own = ownCertificates(deps)
  const issuing = new OneAtATime()
  const chain = trust.chain
  const authority =
    deps.authority === undefined
      ? undefined
      : new Authority({ ...deps.authority, records: scope('authority'), trust: chain, now, log })
  const delegations = new Issuer({
    get signer() {
      return own.publisher
    },
    chain: () => own.chain('publisher'),
    ledger: new Ledger({ records: scope('issued') }),
    ...{ trust: chain, now },
  })
  const issuers = authority === undefined ? [delegations] : [authority.issuer, delegations]
  const self = host.peer
  const rotations =
    authority === undefined
      ? undefined
      : new Rotations({
          self,
          authority,
          records: scope('rotations'),
          trust: chain,
          check,
          now,
          log,
          issuing,
        })
  const server = new CertificatesServer({ host, own, issuers, rotations, trust: chain, now, log })
  const outbox = new Outbox({ host, records: scope('outbox'), now, log })
  const renewals = new Renewals({ host, own, server, outbox, authority, delegations, now, log })
  const invites = new Invites({ records: scope('invites'), now })
  if (authority !== undefined) new JoinServer({ host, authority, invites, trust: chain, check, now, log })
  const grants = new Grants({
    host,
    own,
    server,
    outbox,
    authority,
    delegations,
    trust: chain,
    check,
    now,
    issuing,
  })
  const { signHeads } = deps
  const withdrawals = new Withdrawals({
    own,
    delegations,
    records: scope('withdrawals'),
    trust: chain,
    now,
    log,
  })
  const next = nextKeys(deps)
  const rotation = new RotatePublisher({
    host,
    own,
    next,
    rotations,
    trust: chain,
    withdrawals,
    renewals,
    signHeads,
    log,
  })
  const administration = new Administration({
    ...{ host, own, rotations, trust: chain, check, now },
    withdrawals,
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
      rotate: ({ revokeOld, reason }, options) => rotation.rotate({ revokeOld, reason }, options),
    },
    authority,
    services: [...(authority === undefined ? [] : [authority]), outbox, withdrawals, renewals, rotation],
  }
}

/** The keys that are to come, by their files and their way into the identities. */
function nextKeys({ nextKeys: files, trust }: MembershipDeps): NextKeys {
  let prepared: PublisherKeys | undefined
  const sign = () => {
    if (prepared === undefined) throw new Error('no keys were prepared')
    return trust.identities.signer.withKeys(prepared)
  }
  return {
    pending: () => files.pending(),
    prepare: async () => {
      prepared = await files.prepare()
      return sign()
    },
    swap: chain => trust.rotate(sign(), chain, () => files.commit(chain)),
    discard: () => files.discard(),
  }
}

function ownCertificates({ trust, nodeKeys, present, log }: MembershipDeps): OwnCertificates {
  return {
    nodeKeys,
    get publisher() {
      return trust.identities.signer
    },
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
