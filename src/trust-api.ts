// What the control socket can ask about trust: what this node believes of its network, who it is there, and whether an
// operation would be allowed and why. A part of the composition root.
import { CatalogError } from './base/errors.ts'
import type { Config } from './config/config.ts'
import type {
  CanAnswer,
  CanQuestion,
  CertificateView,
  ExportRequest,
  ExportResult,
  StandingView,
  TrustApi,
  TrustOperation,
  TrustView,
} from './control/trust-calls.ts'
import type { Admission } from './network/admission.ts'
import type { NetworkTrust } from './network-trust.ts'
import type { Authority } from './trust/authority.ts'
import { type Certificate, decodeChain, leafOf, type PublisherRight } from './trust/certificate.ts'
import type { Chain } from './trust/certificate-files.ts'
import { subjectOf } from './trust/chain.ts'
import type { DocumentSigner } from './trust/document.ts'
import { publisherFingerprint } from './trust/keys.ts'
import { grantsName } from './trust/name-pattern.ts'
import { encodeChainPem } from './trust/pem.ts'
import type { Standing } from './trust/trust-chain.ts'
import { exportX509 } from './trust/x509.ts'

export interface TrustApiDeps {
  readonly trust: NetworkTrust
  /** Where this node is one: its certificates, what it has issued, its key. */
  readonly authority:
    | { readonly chain: Chain; readonly issued: Authority['issued']; readonly signer: DocumentSigner }
    | undefined
  readonly config: Config
  readonly peer: string
  /** What a connected member was admitted with. */
  readonly admissionOf: (peer: string) => Admission | undefined
}

export function createTrustApi(deps: TrustApiDeps): TrustApi {
  return {
    show: async () => show(deps),
    can: async question => can(deps, question),
    export: request => exportOf(deps, request),
  }
}

async function exportOf(
  deps: TrustApiDeps,
  { of = 'node', x509 = false }: ExportRequest,
): Promise<ExportResult> {
  const chain = await chainOf(deps, of)
  const certificate = (chain[0] as Certificate).fingerprint
  if (!x509) return { certificate, form: 'catalog', pem: encodeChainPem(chain) }
  const { authority, trust } = deps
  return {
    certificate,
    form: 'x509',
    pem: await exportX509(chain, authority?.signer ?? trust.identities.signer),
  }
}

async function chainOf({ trust, authority }: TrustApiDeps, of: string): Promise<readonly Certificate[]> {
  if (of === 'node') return decodeChain(trust.node)
  const own = trust.identities
    .list()
    .find(({ certificate }) => of === 'publisher' || certificate.fingerprint === of)
  if (own !== undefined) return decodeChain(own.chain)
  if (authority !== undefined) {
    const above = decodeChain(authority.chain)
    if (of === 'authority' || above[0]?.fingerprint === of) return above
    for await (const { certificate } of authority.issued())
      if (certificate.fingerprint === of) return [certificate, ...above]
  }
  throw new CatalogError(
    'not-found',
    `There is no certificate ${of} here to export: name node, publisher or, on an authority, authority or the fingerprint of one that \`catalog trust issued\` lists.`,
    { certificate: of },
  )
}

function show({ trust, authority, config }: TrustApiDeps): TrustView {
  const { root, network } = trust.chain
  const view = (chain: Chain) => certificateView(trust, chain)
  return {
    network: {
      name: config.network,
      root: network,
      version: root.version,
      threshold: root.threshold,
      keys: root.keys.map(keys => publisherFingerprint(keys.ed25519, keys.falcon)),
      notAfter: root.notAfter,
      revoked: root.revoked,
    },
    standing: standingView(trust.standing()),
    node: view(trust.node),
    publishers: trust.identities.list().map(({ chain }) => view(chain)),
    ...(authority === undefined ? {} : { authority: view(authority.chain) }),
    authorities: trust.chain.revocationLists().map(list => {
      const [certificate] = decodeChain(list.chain)
      return {
        certificate: list.issuer,
        ...(certificate?.label === undefined ? {} : { label: certificate.label }),
        list: { sequence: list.sequence, issuedAt: list.issuedAt, expiresAt: list.expiresAt },
        revoked: list.revoked,
      }
    }),
  }
}

function certificateView(trust: NetworkTrust, chain: Chain): CertificateView {
  const leaf = leafOf(chain)
  const { type, fingerprint: certificate, issuer, label, notBefore, notAfter } = leaf
  return {
    ...{ type, certificate, subject: subjectOf(leaf), issuer, notBefore, notAfter },
    ...(label === undefined ? {} : { label }),
    ...(leaf.type === 'node'
      ? { roles: leaf.roles, capabilities: leaf.capabilities }
      : { names: leaf.names }),
    ...(leaf.type === 'publisher' ? { publisher: leaf.publisher, rights: leaf.rights } : {}),
    ...(leaf.type === 'authority' ? { issues: leaf.issues } : {}),
    standing: standingView(trust.chain.standingOf(chain, { kind: 'any' })),
  }
}

const standingView = (standing: Standing): StandingView =>
  standing.state === 'current'
    ? { state: 'current' }
    : {
        state: standing.state,
        why: standing.why,
        ...(standing.state === 'stale' ? { since: standing.since } : {}),
      }

type Check = CanAnswer['checks'][number]

function can(deps: TrustApiDeps, question: CanQuestion): CanAnswer {
  const all =
    question.peer === undefined ? ownChecks(deps, question) : peerChecks(deps, question, question.peer)
  const failed = all.findIndex(({ holds }) => !holds)
  const checks = failed === -1 ? all : all.slice(0, failed + 1)
  return { allowed: failed === -1, who: question.peer ?? deps.peer, checks }
}

const rightFor: Partial<Record<TrustOperation, PublisherRight>> = {
  publish: 'publish',
  yank: 'yank',
  delegate: 'delegate',
}

function ownChecks({ trust }: TrustApiDeps, { operation, name }: CanQuestion): Check[] {
  if (operation === 'administer')
    return [
      {
        check: 'socket',
        holds: true,
        says: 'whoever can open the control socket of this home administers this node',
      },
    ]
  const standing = trust.standing()
  const member: Check = {
    check: 'membership',
    holds: standing.state !== 'refused',
    says: standing.state === 'current' ? 'the certificate of this node is in order' : standing.why,
  }
  const right = rightFor[operation]
  if (right !== undefined) return [member, nameCheck(trust, right, name)]
  const [leaf] = decodeChain(trust.node)
  const capabilities: readonly string[] = leaf?.type === 'node' ? leaf.capabilities : []
  return [member, capabilityCheck('the certificate of this node', capabilities, operation)]
}

function nameCheck(trust: NetworkTrust, right: PublisherRight, name: string | undefined): Check {
  const able = trust.identities
    .list()
    .filter(
      ({ certificate }) =>
        certificate.rights.includes(right) &&
        certificate.names.length > 0 &&
        (name === undefined || grantsName(certificate.names, name)),
    )
  const good = able.find(({ chain }) => trust.chain.refusalOf(chain) === undefined)
  const refusal = able[0] && trust.chain.refusalOf(able[0].chain)
  const what = `${right}${name === undefined ? '' : ` ${name}`}`
  const granted = trust.identities.list().flatMap(({ certificate }) => certificate.names)
  return {
    check: 'certificate',
    holds: good !== undefined,
    says:
      good !== undefined
        ? `the publisher ${good.fingerprint} may ${what}: it is granted ${good.certificate.names.join(', ')}`
        : (refusal?.message ??
          `no certificate here may ${what}; granted are ${granted.join(', ') || 'no names'}. Ask an authority for \`catalog trust grant\``),
  }
}

function peerChecks(deps: TrustApiDeps, { operation, name }: CanQuestion, peer: string): Check[] {
  const admission = deps.admissionOf(peer)
  if (admission === undefined)
    return [
      { check: 'membership', holds: false, says: `${peer} is not connected as a member of this network` },
    ]
  const member: Check = {
    check: 'membership',
    holds: true,
    says: `its certificate ${admission.certificate} is in order`,
  }
  if (operation === 'administer')
    return [member, { check: 'socket', holds: false, says: 'nobody administers this node over the network' }]
  if (operation === 'yank' || operation === 'delegate')
    return [
      member,
      {
        check: 'certificate',
        holds: false,
        says: `what a publisher may ${operation}${name === undefined ? '' : ` (${name})`} stands in its own certificate, which it shows with what it signs`,
      },
    ]
  const capable = capabilityCheck('its certificate', [...admission.capabilities], operation)
  return [member, capable, ...policyChecks(deps.config, operation)]
}

const capabilityCheck = (whose: string, capabilities: readonly string[], operation: string): Check => ({
  check: 'capability',
  holds: capabilities.includes(operation),
  says: `${whose} grants ${capabilities.join(', ') || 'nothing'}`,
})

/** What this node's operator has decided, whatever certificates grant. */
function policyChecks({ execution, replication }: Config, operation: TrustOperation): Check[] {
  const policy = (holds: boolean, yes: string, no: string): Check[] => [
    { check: 'policy', holds, says: holds ? yes : no },
  ]
  if (operation === 'execute')
    return policy(
      execution.offer,
      'this node runs packages for others',
      'this node runs nothing for others (execution.offer is false)',
    )
  if (operation === 'replicate')
    return policy(
      replication.accept,
      'this node keeps copies for others',
      'this node keeps no copies for others (replication.accept is false)',
    )
  return []
}
