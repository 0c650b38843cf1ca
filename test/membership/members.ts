// Members of one network in one process, for the tests of membership/: real certificates, trust chains and protocols,
// over memory or libp2p hosts. The keys are the golden ones, so that no test waits for key generation.
import { generateKeyPairFromSeed, privateKeyToProtobuf } from '@libp2p/crypto/keys'
import { decodeCbor, encodeCbor } from '../../src/base/cbor.ts'
import { CatalogError } from '../../src/base/errors.ts'
import { type Log, silentLog } from '../../src/base/log.ts'
import { MemoryKeyValue } from '../../src/base/memory-key-value.ts'
import { OneAtATime } from '../../src/base/one-at-a-time.ts'
import { Administration } from '../../src/membership/administration.ts'
import type { Chain } from '../../src/membership/certificates-protocol.ts'
import { CertificatesServer, type OwnCertificates } from '../../src/membership/certificates-server.ts'
import { Grants } from '../../src/membership/grants.ts'
import { JoinServer, type JoinServerOptions } from '../../src/membership/join-server.ts'
import { Outbox } from '../../src/membership/outbox.ts'
import { Renewals } from '../../src/membership/renewals.ts'
import { type NextKeys, RotatePublisher, type SignedAnew } from '../../src/membership/rotate-publisher.ts'
import { Rotations } from '../../src/membership/rotations.ts'
import { Withdrawals } from '../../src/membership/withdrawals.ts'
import type { Admissions } from '../../src/network/admission.ts'
import type { Host } from '../../src/network/host.ts'
import { keyOfPeer, peerOfNodeKey } from '../../src/network/identity.ts'
import { Libp2pHost } from '../../src/network/libp2p-host.ts'
import { MemoryNetwork } from '../../src/network/memory-host.ts'
import { Authority } from '../../src/trust/authority.ts'
import { type Certificate, decodeChain, type NodeGrant } from '../../src/trust/certificate.ts'
import { foundNetwork } from '../../src/trust/founding.ts'
import type { Invite } from '../../src/trust/invite.ts'
import { Invites } from '../../src/trust/invites.ts'
import { Issuer } from '../../src/trust/issuer.ts'
import { publisherFingerprint } from '../../src/trust/keys.ts'
import { Ledger } from '../../src/trust/ledger.ts'
import { faultySignature, type SignatureCheck } from '../../src/trust/signature-check.ts'
import { TrustChain } from '../../src/trust/trust-chain.ts'
import { golden, type Holder, MemoryNotices, signers, TestSigner } from '../trust/test-network.ts'

export const networkName = 'test'
export const minute = 60_000
export const day = 24 * 3600 * 1000
export const check = async (signature: SignatureCheck) => faultySignature(signature)

export class Clock {
  at = Date.now()
  readonly now = () => this.at
}

/** Keeps the lines of the levels that people read. */
export function recordingLog(): Log & { readonly lines: string[] } {
  const lines: string[] = []
  const write = (fields: Record<string, unknown>, message: string) =>
    void lines.push(`${message} ${JSON.stringify(fields)}`)
  return { ...silentLog, warn: write, error: write, lines }
}

/** Which golden keys a member has; the node's Ed25519 key is the one of its libp2p key. */
export interface MemberKeys {
  readonly nodeKey: Uint8Array
  readonly peer: string
  readonly node: TestSigner
  readonly publisher: TestSigner
}

export async function memberKeys(node: Holder, publisher: Holder): Promise<MemberKeys> {
  const secret = golden.keys[node]
  const seed = Buffer.from(secret.ed25519, 'base64').subarray(0, 32)
  const nodeKey = privateKeyToProtobuf(await generateKeyPairFromSeed('Ed25519', seed))
  return {
    nodeKey,
    peer: peerOfNodeKey(nodeKey),
    node: new TestSigner(secret),
    publisher: signers[publisher],
  }
}

export interface Founded {
  readonly root: string
  readonly firstRoot: Uint8Array
  readonly founder: MemberKeys
  readonly authority: Chain
  readonly node: Chain
  readonly publisher: Chain
}

export async function found(clock: Clock, root: Holder = 'root-1'): Promise<Founded> {
  const founder = await memberKeys('root-5', 'root-4')
  const founded = await foundNetwork(
    {
      roots: [signers[root]],
      authority: signers.authority,
      node: founder.node.publicKeys,
      publisher: { keys: founder.publisher.publicKeys, fingerprint: founder.publisher.fingerprint },
    },
    { network: networkName, threshold: 1, now: clock.now() },
  )
  const { authority, node, publisher } = founded
  return {
    root: founded.root.fingerprint,
    firstRoot: founded.root.bytes,
    founder,
    authority,
    node,
    publisher,
  }
}

/** As the composition root does it: the credential is the node's chain. */
function admissionsOf(trust: TrustChain, node: () => Chain): Admissions {
  return {
    credential: () => encodeCbor(node()),
    admit: async (peer, credential) => {
      const ed25519 = keyOfPeer(peer)
      if (ed25519 === undefined) throw new CatalogError('not-a-member', 'no key')
      const chain = decodeCbor(credential, 64 * 1024, 'A credential') as Uint8Array[]
      const proved = await trust.prove(chain, { kind: 'node', ed25519 })
      const [leaf] = proved as [Certificate<NodeGrant>]
      return {
        capabilities: new Set(leaf.capabilities),
        roles: new Set(leaf.roles),
        certificate: leaf.fingerprint,
        notAfter: leaf.notAfter,
      }
    },
  }
}

export interface MemberParts {
  readonly clock: Clock
  readonly founded: Founded
  readonly keys: MemberKeys
  readonly node: Chain
  readonly publisher: Chain
  readonly isAuthority?: boolean
  /** Another authority than the one that founded the network. */
  readonly authority?: { readonly signer: TestSigner; readonly chain: Chain }
  /** Absent: over libp2p, on loopback. */
  readonly network?: MemoryNetwork
  readonly listen?: readonly string[]
  readonly records?: {
    readonly authority: MemoryKeyValue
    readonly invites: MemoryKeyValue
    readonly outbox: MemoryKeyValue
  }
  readonly joining?: Partial<JoinServerOptions>
}

export const freshRecords = () => ({
  authority: new MemoryKeyValue(),
  invites: new MemoryKeyValue(),
  outbox: new MemoryKeyValue(),
})

/** A member that runs; `stop` ends it. */
export async function member(parts: MemberParts) {
  const { clock, founded, keys, records = freshRecords() } = parts
  const log = recordingLog()
  const { now } = clock
  const trust = new TrustChain(
    { notices: new MemoryNotices(), check, now, log: silentLog },
    { firstRoot: founded.firstRoot, network: founded.root },
  )
  await trust.start()
  const held = {
    node: parts.node,
    publisher: parts.publisher,
    delegations: [] as Chain[],
    signer: keys.publisher,
    /** What a rotation has prepared, and what it makes. */
    next: undefined as TestSigner | undefined,
    makes: signers.region as TestSigner,
    signedAnew: { heads: 0, warnings: [] } as SignedAnew,
  }
  const admissions = admissionsOf(trust, () => held.node)
  const host: Host & { start(): Promise<void>; stop(): Promise<void> } =
    parts.network === undefined
      ? new Libp2pHost(
          { privateKey: keys.nodeKey, admissions, log: silentLog },
          { listen: parts.listen ?? ['/ip4/127.0.0.1/udp/0/quic-v1'], network: networkName },
        )
      : parts.network.createHost(keys.peer, silentLog, admissions)
  const own: OwnCertificates = {
    nodeKeys: keys.node.publicKeys,
    get publisher() {
      return held.signer
    },
    chain: kind => held[kind],
    delegations: () => held.delegations,
    install: async chain => {
      const [leaf] = decodeChain(chain)
      if (leaf?.type === 'node') held.node = chain
      else if (leaf?.type === 'publisher' && leaf.publisher === keys.publisher.fingerprint)
        held.publisher = chain
      else
        held.delegations = [...held.delegations.filter(one => publisherOf(one) !== publisherOf(chain)), chain]
    },
  }
  const delegations = new Issuer({
    get signer() {
      return held.signer
    },
    chain: () => held.publisher,
    ledger: new Ledger({ records: new MemoryKeyValue() }),
    trust,
    now,
  })
  const authority =
    parts.isAuthority === true || parts.authority !== undefined
      ? new Authority({
          signer: parts.authority?.signer ?? signers.authority,
          chain: parts.authority?.chain ?? founded.authority,
          records: records.authority,
          trust,
          now,
          log,
        })
      : undefined
  const invites = new Invites({ records: records.invites, now })
  const issuers = authority === undefined ? [delegations] : [authority.issuer, delegations]
  const issuing = new OneAtATime()
  const rotations =
    authority === undefined
      ? undefined
      : new Rotations({
          ...{ self: host.peer, authority, records: new MemoryKeyValue() },
          ...{ trust, check, now, log, issuing },
        })
  const server = new CertificatesServer({ host, own, issuers, rotations, trust, now, log })
  const outbox = new Outbox({ host, records: records.outbox, now, log })
  const renewals = new Renewals({ host, own, server, outbox, authority, delegations, now, log })
  if (authority !== undefined)
    new JoinServer({ host, authority, invites, trust, check, now, log }, parts.joining)
  const grants = new Grants({ host, own, server, outbox, authority, delegations, trust, check, now, issuing })
  const next: NextKeys = {
    pending: async () => held.next !== undefined,
    prepare: async () => {
      held.next ??= held.makes
      return held.next
    },
    swap: async chain => {
      const lost = held.delegations.map(one => publisherOf(one) as string)
      held.signer = held.next ?? held.signer
      held.next = undefined
      held.publisher = chain
      held.delegations = []
      return lost
    },
    discard: async () => {
      held.next = undefined
    },
  }
  const signHeads = async () => held.signedAnew
  const withdrawals = new Withdrawals({ own, delegations, records: new MemoryKeyValue(), trust, now, log })
  const rotation = new RotatePublisher({
    host,
    own,
    next,
    rotations,
    trust,
    withdrawals,
    renewals,
    signHeads,
    log,
  })
  const administration = new Administration({
    ...{ host, own, rotations, trust: trust, check, now },
    withdrawals,
    authority: authority === undefined ? undefined : { authority, invites },
  })
  await host.start()
  await authority?.start()
  await outbox.start()
  await withdrawals.start()
  await renewals.start()
  await rotation.start()
  return {
    ...{
      rotation,
      rotations,
      host,
      trust,
      own,
      held,
      authority,
      invites,
      server,
      outbox,
      renewals,
      administration,
      grants,
      delegations,
      log,
      records,
      keys,
    },
    peer: host.peer,
    async stop() {
      await rotation.stop()
      await renewals.stop()
      await withdrawals.stop()
      await outbox.stop()
      await authority?.stop()
      await host.stop()
    },
  }
}

export type Member = Awaited<ReturnType<typeof member>>

export const founderOf = (founded: Founded, clock: Clock, more: Partial<MemberParts> = {}): Promise<Member> =>
  member({
    clock,
    founded,
    keys: founded.founder,
    node: founded.node,
    publisher: founded.publisher,
    isAuthority: true,
    ...more,
  })

/** The certificate that the chain is for. */
export const leafOf = (chain: Chain): Certificate => decodeChain(chain)[0] as Certificate

export const publisherOf = (chain: Chain): string | undefined => {
  const leaf = leafOf(chain)
  return leaf.type === 'publisher' ? leaf.publisher : undefined
}

export const namesOf = (chain: Chain): readonly string[] => {
  const leaf = leafOf(chain)
  return leaf.type === 'publisher' ? leaf.names : []
}

/** A member for whom the authority has issued what a join gives. */
export async function admit(
  founder: Member,
  keys: MemberKeys,
  more: Partial<MemberParts> & Pick<MemberParts, 'clock' | 'founded'>,
) {
  const authority = founder.authority as Authority
  const node = await authority.issueNode({
    subject: keys.node.publicKeys,
    roles: ['store'],
    capabilities: ['fetch', 'publish'],
  })
  const { publicKeys } = keys.publisher
  const publisher = await authority.issuePublisher({
    subject: publicKeys,
    publisher: publisherFingerprint(publicKeys.ed25519, publicKeys.falcon),
    names: [],
    rights: ['publish', 'yank'],
    holder: keys.node.publicKeys.ed25519,
  })
  return member({ keys, node, publisher, ...more })
}

export const meet = (a: Member, b: Member): Promise<string> => a.host.dial(b.host.addresses()[0] as string)

/** An invite for one node that stores and fetches. */
export async function inviteBy(authority: Member): Promise<Invite> {
  const { id, secret, expires } = await authority.invites.create({
    roles: ['store'],
    capabilities: ['fetch'],
  })
  const addresses = authority.host.addresses()
  return { network: networkName, root: authority.trust.network, addresses, id, secret, expires }
}

/** A founder and a member, Ann, over memory hosts and with a clock that the test moves; others may come. */
export async function smallNetwork() {
  const clock = new Clock()
  const founded = await found(clock)
  const network = new MemoryNetwork()
  const founder = await founderOf(founded, clock, { network })
  const members = [founder]
  const admitted = async (node: Holder, publisher: Holder, more: Partial<MemberParts> = {}, by = founder) => {
    const one = await admit(by, await memberKeys(node, publisher), { clock, founded, network, ...more })
    members.push(one)
    return one
  }
  const bob = () => admitted('stranger', 'delegate')
  const ann = await admitted('node', 'publisher')
  const annHolds = async (...names: string[]): Promise<void> => {
    await meet(ann, founder)
    await founder.grants.grant({ names, to: ann.peer, rights: ['delegate', 'publish', 'yank'] })
  }
  /** Lets Bob sign these names as Ann's publisher; gives Bob. */
  const annDelegates = async (...names: string[]): Promise<Member> => {
    const delegate = await bob()
    await annHolds(...names)
    await meet(delegate, founder)
    await meet(delegate, ann)
    await ann.grants.grant({ names, to: delegate.peer, delegate: true })
    return delegate
  }
  return {
    ...{ clock, founded, network, founder, ann, bob, admitted, annHolds, annDelegates },
    /** Stopped in the end; whom a test starts by itself, it adds. */
    members,
    async stop() {
      for (const one of members) await one.stop()
    },
  }
}

export type SmallNetwork = Awaited<ReturnType<typeof smallNetwork>>

/** Polls; a busy machine only makes it slower. */
export async function until(
  condition: () => boolean | Promise<boolean>,
  what: string,
  withinMs = 10_000,
): Promise<void> {
  const deadline = Date.now() + withinMs
  while (!(await condition())) {
    if (Date.now() > deadline) throw new Error(`${what}: not within ${withinMs} ms`)
    await new Promise(resolve => setTimeout(resolve, 10))
  }
}
