// The joining protocol: a stranger with an invite (trust/invite.ts) becomes a member. The one protocol that is open to
// strangers.
//
// Protocol /catalog/<network>/join/1
// Parties   the joiner opens a stream to an authority that the invite names, and asks once; the authority answers.
// Messages  frames (network/frames.ts):
//   1. joiner     { invite: 8 bytes, request: bytes, mac: 32 bytes }                  at most 24 KiB
//   2. authority  { answer: bytes, mac: 32 bytes } or { error: { code, message }, time }   at most 1 MiB + 64 KiB
//   request = canonical CBOR { v: 1, root (fingerprint), joiner, responder (peer ids), time (ms since 1970), label?,
//             node: { ed25519, falcon }, publisher: { ed25519, falcon }, nodeProof, publisherProof: { ed25519, falcon } }
//   proof   = both signatures over lp("catalog/join/v1") || lp(root) || lp(invite) || lp(joiner) || lp(responder)
//             || lp(node's Ed25519 key) || lp(its Falcon key) || lp(publisher's Ed25519 key) || lp(its Falcon key)
//   answer  = canonical CBOR { v: 1, time, joined: bytes (trust/joined.ts) }
//   mac     = HMAC-SHA256 by the invite's secret over "catalog/invite/v1 join request\n" || invite || request, or over
//             "catalog/invite/v1 join answer\n" || the request's mac || answer
// The secret never travels, and both peer ids are under the mac: who takes the authority's place learns nothing that
// another authority would take. The joiner believes the answer for the root fingerprint of its invite.
// Limits    30 s in all; after 5 failures in 10 minutes a peer is refused without a look.
// Errors    invite-invalid, invite-expired, invite-used, certificate-not-yet-valid (the clocks differ by more than 10
//           minutes), certificate-bad-signature, certificate-malformed, certificate-wrong-network, busy, internal.
// Non-goals who may have which names (grants); secrecy of an invite that others see.
import { encodeCbor } from '../base/cbor.ts'
import { CatalogError, type ErrorCode, errorTable } from '../base/errors.ts'
import type { Message } from '../network/frames.ts'
import type { PeerText } from '../network/host.ts'
import { decodeStrictly } from '../trust/document.ts'
import { Fields, type PublicKeys } from '../trust/fields.ts'
import { inviteIdBytes } from '../trust/invite.ts'
import { inviteMac } from '../trust/invites.ts'
import { joinedLimits } from '../trust/joined.ts'
import { type Possession, possessionMessage, readPossession } from '../trust/possession.ts'
import { labelOf } from '../trust/request.ts'

export const joinProtocol = '/join/1'

export const joinLimits = {
  maxRequestBytes: 24 * 1024,
  maxAnswerBytes: joinedLimits.maxBytes + 64 * 1024,
  totalMs: 30_000,
  maxClockDifferenceMs: 10 * 60_000,
} as const

export interface JoinRequest {
  readonly root: string
  readonly joiner: PeerText
  readonly responder: PeerText
  readonly time: number
  readonly label?: string | undefined
  readonly node: PublicKeys
  readonly publisher: PublicKeys
  readonly nodeProof: Possession
  readonly publisherProof: Possession
}

const macBytes = 32

export function encodeJoinRequest(request: JoinRequest): Uint8Array {
  const { label, ...rest } = request
  return encodeCbor({ v: 1, ...rest, ...(label === undefined ? {} : { label }) })
}

/** @throws CatalogError `certificate-malformed` */
export function decodeJoinRequest(bytes: Uint8Array): JoinRequest {
  const what = 'The request to join'
  const known = [
    'v',
    'root',
    'joiner',
    'responder',
    'time',
    'label',
    'node',
    'publisher',
    'nodeProof',
    'publisherProof',
  ]
  const fields = new Fields(decodeStrictly(bytes, joinLimits.maxRequestBytes, what), known, what)
  fields.version(1)
  return {
    root: fields.text('root', 56),
    joiner: fields.text('joiner', 128),
    responder: fields.text('responder', 128),
    time: fields.natural('time'),
    ...(fields.has('label') ? { label: labelOf(fields) } : {}),
    node: fields.keys('node'),
    publisher: fields.keys('publisher'),
    nodeProof: readPossession(fields.raw('nodeProof'), "The proof of the node's keys"),
    publisherProof: readPossession(fields.raw('publisherProof'), "The proof of the publisher's keys"),
  }
}

type Proved = Pick<JoinRequest, 'root' | 'joiner' | 'responder' | 'node' | 'publisher'>

/** What node and publisher sign to show that they hold their keys. */
export const joinProofMessage = (
  { root, joiner, responder, node, publisher }: Proved,
  invite: Uint8Array,
): Uint8Array =>
  possessionMessage(
    ...(['catalog/join/v1', root, invite, joiner, responder] as const),
    ...[node.ed25519, node.falcon, publisher.ed25519, publisher.falcon],
  )

export const requestMac = (secret: Uint8Array, invite: Uint8Array, request: Uint8Array): Uint8Array =>
  inviteMac(secret, 'join request', invite, request)

export const answerMac = (secret: Uint8Array, mac: Uint8Array, answer: Uint8Array): Uint8Array =>
  inviteMac(secret, 'join answer', mac, answer)

/** The first message's fields. @throws CatalogError `certificate-malformed` */
export function readJoinQuestion(message: Message): {
  invite: Uint8Array
  request: Uint8Array
  mac: Uint8Array
} {
  const fields = new Fields(message, ['invite', 'request', 'mac'], 'The request to join')
  return {
    invite: fields.bytes('invite', inviteIdBytes),
    request: fields.bytes('request'),
    mac: fields.bytes('mac', macBytes),
  }
}

export const encodeJoinAnswer = (time: number, joined: Uint8Array): Uint8Array =>
  encodeCbor({ v: 1, time, joined })

export function decodeJoinAnswer(bytes: Uint8Array): { time: number; joined: Uint8Array } {
  const what = 'The answer'
  const fields = new Fields(
    decodeStrictly(bytes, joinLimits.maxAnswerBytes, what),
    ['v', 'time', 'joined'],
    what,
  )
  fields.version(1)
  return { time: fields.natural('time'), joined: fields.bytes('joined') }
}

/** The second message's fields. @throws CatalogError that the authority answered with, `certificate-malformed` */
export function readJoinReply(message: Message, peer: PeerText): { answer: Uint8Array; mac: Uint8Array } {
  const fields = new Fields(message, ['answer', 'mac', 'error', 'time'], 'The answer')
  if (fields.has('error'))
    throwAnswered(fields.raw('error'), `The authority ${peer} did not let this node join`, peer)
  return { answer: fields.bytes('answer'), mac: fields.bytes('mac', macBytes) }
}

/** What a peer answered instead, with its code where it is known here. */
export function throwAnswered(raw: unknown, what: string, peer: PeerText): never {
  const fields = new Fields(raw, ['code', 'message'], 'The answer')
  const code = fields.text('code', 64)
  const message = fields.text('message', 1000).replace(/\p{C}/gu, ' ')
  throw new CatalogError(
    Object.hasOwn(errorTable, code) ? (code as ErrorCode) : 'bad-peer-message',
    `${what}: ${message}`,
    { peer },
  )
}

/** Undefined where the clocks agree well enough; else what to tell whoever looks. */
export function clockTrouble(here: number, there: number, other: string): string | undefined {
  if (Math.abs(here - there) <= joinLimits.maxClockDifferenceMs) return undefined
  return `here it is ${time(here)}, and for ${other} it is ${time(there)}; is a clock wrong? Set it, then try again`
}

const time = (at: number): string =>
  at < 8.64e15 ? new Date(at).toISOString().replace(/\.\d+Z$/, 'Z') : 'the end of time'
