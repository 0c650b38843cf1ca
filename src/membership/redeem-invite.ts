// The joiner's side of joining (join-protocol.ts): goes to an authority that the invite names, and proves what it
// answers under the root fingerprint of the invite. Storing it is the caller's.
import { pause, withTimeout } from '../base/deadline.ts'
import { CatalogError, isAbort, isCatalogError } from '../base/errors.ts'
import type { CallOptions } from '../base/lifecycle.ts'
import { encodeFrame, FrameReader } from '../network/frames.ts'
import type { Host, PeerText } from '../network/host.ts'
import type { Invite } from '../trust/invite.ts'
import { equalMacs } from '../trust/invites.ts'
import { decodeJoined, type Joined, proveJoined } from '../trust/joined.ts'
import { provePossession } from '../trust/possession.ts'
import type { RequestSigners } from '../trust/request.ts'
import { decodeRoot } from '../trust/root.ts'
import type { TrustChainDeps } from '../trust/trust-chain.ts'
import {
  answerMac,
  clockTrouble,
  decodeJoinAnswer,
  encodeJoinRequest,
  joinLimits,
  joinProofMessage,
  joinProtocol,
  readJoinReply,
  requestMac,
} from './join-protocol.ts'

export interface RedeemOptions extends CallOptions {
  readonly label?: string | undefined
  readonly check: TrustChainDeps['check']
  readonly now: () => number
  /** The addresses that DNS has for a name, each with /p2p/…. */
  readonly lookUp?: ((name: string, options: CallOptions) => Promise<readonly string[]>) | undefined
}

/**
 * Uses the invite: what this node needs to be a member, proved. The host is of the invite's network and of the node
 * whose keys these are.
 * @throws CatalogError `invite-…`, `peer-unreachable`, `root-not-trusted`, `certificate-…`, `timeout`
 */
export async function redeemInvite(
  host: Host,
  invite: Invite,
  signers: RequestSigners,
  options: RedeemOptions,
): Promise<Joined> {
  const now = options.now()
  if (now > invite.expires)
    throw new CatalogError(
      'invite-expired',
      `The invite expired at ${new Date(invite.expires).toISOString()}, and here it is ${new Date(now).toISOString()}. Ask for a new one; or is the clock wrong?`,
    )
  const failures: unknown[] = []
  const answered = new Set<string>()
  for await (const address of addressesOf(invite, options, failures)) {
    const peer = /\/p2p\/(\w+)$/.exec(address)?.[1] ?? ''
    // It would answer the same by another of its addresses, and each try counts there.
    if (answered.has(peer)) continue
    try {
      return await joinAt(host, address, invite, signers, options)
    } catch (error) {
      options.signal?.throwIfAborted()
      if (isAbort(error)) throw error
      failures.push(error)
      if (!isCatalogError(error, 'peer-unreachable')) answered.add(peer)
    }
  }
  throw worst(failures)
}

/** The invite's own, then those of its name in DNS; a failing DNS is one of the failures. */
async function* addressesOf(
  { addresses, name }: Invite,
  { lookUp, signal }: RedeemOptions,
  failures: unknown[],
): AsyncGenerator<string> {
  yield* addresses
  if (name === undefined || lookUp === undefined) return
  try {
    const found = await lookUp(name, { signal })
    yield* found.filter(address => !addresses.includes(address)).slice(0, 16)
  } catch (error) {
    signal?.throwIfAborted()
    failures.push(error)
  }
}

/** What says most: an answer before a silence. */
function worst(failures: readonly unknown[]): unknown {
  return (
    failures.find(error => isCatalogError(error) && /^(invite|certificate)-/.test(error.code)) ??
    failures.find(error => isCatalogError(error) && error.code !== 'peer-unreachable') ??
    failures.at(-1) ??
    new CatalogError(
      'peer-unreachable',
      'This node could not join: the invite leads to no address. Ask for a new one.',
    )
  )
}

async function joinAt(
  host: Host,
  address: string,
  invite: Invite,
  signers: RequestSigners,
  options: RedeemOptions,
): Promise<Joined> {
  const signal = withTimeout(options.signal, joinLimits.totalMs)
  const peer = await host.dial(address, { signal, joining: true })
  try {
    const stream = await host.open(peer, joinProtocol, { signal, joining: true })
    try {
      const { request, mac } = await makeRequest(host.peer, peer, invite, signers, options)
      await stream.write(encodeFrame({ invite: invite.id, request, mac }), { signal })
      const reply = await new FrameReader(stream).message(joinLimits.maxAnswerBytes, { signal })
      if (reply === undefined)
        throw new CatalogError(
          'peer-unreachable',
          `The authority ${peer} went away without an answer. Try again.`,
        )
      const { answer, mac: answered } = readJoinReply(reply, peer)
      if (!equalMacs(answerMac(invite.secret, mac, answer), answered))
        throw new CatalogError(
          'bad-peer-message',
          `The node at ${address} does not know the invite: it is not the authority that made it.`,
          { peer },
        )
      return await prove(answer, invite, signers, options, peer)
    } finally {
      await stream.close().catch(() => undefined)
    }
  } finally {
    await host.disconnect(peer).catch(() => undefined)
  }
}

async function makeRequest(
  joiner: PeerText,
  responder: PeerText,
  invite: Invite,
  { node, publisher }: RequestSigners,
  { label, now }: RedeemOptions,
): Promise<{ request: Uint8Array; mac: Uint8Array }> {
  const about = {
    root: invite.root,
    joiner,
    responder,
    node: node.publicKeys,
    publisher: publisher.publicKeys,
  }
  const message = joinProofMessage(about, invite.id)
  const proofs = {
    nodeProof: await provePossession(node, message),
    publisherProof: await provePossession(publisher, message),
  }
  const request = encodeJoinRequest({ ...about, ...proofs, time: now(), label })
  return { request, mac: requestMac(invite.secret, invite.id, request) }
}

async function prove(
  answer: Uint8Array,
  invite: Invite,
  { node, publisher }: RequestSigners,
  { check, now }: RedeemOptions,
  peer: PeerText,
): Promise<Joined> {
  const { time, joined: bytes } = decodeJoinAnswer(answer)
  const trouble = clockTrouble(now(), time, `the authority ${peer}`)
  if (trouble !== undefined)
    throw new CatalogError('certificate-not-yet-valid', `This node cannot join now: ${trouble}.`)
  const joined = decodeJoined(bytes)
  await proveJoined(
    joined,
    invite.root,
    { node: node.publicKeys, publisher: publisher.publicKeys },
    { check, now },
  )
  const { network } = decodeRoot(joined.roots[0] as Uint8Array)
  if (network !== invite.network)
    throw new CatalogError(
      'root-not-trusted',
      `The invite is for the network ${invite.network}, and its root is of ${network}.`,
    )
  return joined
}

/** What `lookUp` needs of network/dns.ts, which asks in the background. */
export interface NameAddresses {
  addressesOf(entry: string): readonly string[] | undefined
  names(): readonly {
    readonly name: string
    readonly askedAt?: number
    readonly problems: readonly string[]
  }[]
}

/** Waits until DNS has answered. @throws CatalogError `peer-unreachable` */
export function lookUpBy(dns: NameAddresses): NonNullable<RedeemOptions['lookUp']> {
  return async (name, { signal }) => {
    const bounded = withTimeout(signal, 15_000)
    for (;;) {
      const addresses = dns.addressesOf(name) ?? []
      if (addresses.length > 0) return addresses
      const state = dns.names().find(one => one.name === name)
      const trouble = state?.problems.at(0)
      if (state?.askedAt !== undefined || trouble !== undefined || bounded.aborted)
        throw new CatalogError(
          'peer-unreachable',
          `No address was found in DNS for ${name}${trouble === undefined ? '' : `: ${trouble}`}.`,
        )
      await pause(50, bounded)
    }
  }
}
