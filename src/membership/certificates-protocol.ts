// The certificates protocol: members ask for, hand over and show certificates.
//
// Protocol /catalog/<network>/certificates/1
// Parties   one member asks one question on a stream; the other answers. Who they are, the connection proves.
// Questions frames (network/frames.ts) of at most 64 KiB; answers of at most 1 MiB + 64 KiB:
//   { op: 'renew' }               → { chains: [chain, …] }: what the answering node has issued to the asking one, anew
//                                   where less than a third of its life is left; not-found where that is nothing
//   { op: 'deliver', chain }      → { taken: 'node' | 'publisher' | 'delegation' }: a chain for the answering node's keys
//   { op: 'identity', nonce }     → { chain, ed25519, falcon }: the answering node's own publisher chain, and signatures
//                                   by its leaf's keys over lp("catalog/identity/v1") || lp(root fingerprint)
//                                   || lp(asking peer) || lp(answering peer) || lp(nonce, 16 bytes)
//   { op: 'state' }               → { roots: [root documents from version 1 on], revocations: [lists] }
//   { op: 'rotate', certificate, keys, old, new }  → { chain }: a certificate for other keys in the place of a publisher
//                                   certificate that the answering authority issued to the asking node. `old` and `new`
//                                   are the signatures of both pairs of keys over lp("catalog/rotation/v1")
//                                   || lp(root fingerprint) || lp(asking peer) || lp(answering peer)
//                                   || lp(certificate) || lp(Ed25519 key) || lp(Falcon key), the new ones
//   { op: 'retire', certificate, reason? }         → { sequence }: of the revocation list that takes back all
//                                   certificates for the keys of this one, once the asking node has one for others
//   any may be answered by { error: { code, message } }
//   chain = [certificate bytes, leaf first], as certificate.ts limits it; certificate = fingerprint
//   keys = { ed25519, falcon }, public; old, new = { ed25519, falcon }, signatures
// Limits    4 streams and 60 questions a minute of one peer, 32 streams in all; a question comes and is answered within
//           20 s; a node keeps delegations of 64 publishers.
//           An authority rotates 4 times a day for one peer.
// Errors    what trust/chain.ts refuses with, not-found, not-a-member, quota-exceeded, busy; rotate and retire:
//           capability-missing (no authority), stale-record (other keys are in use already), invalid-request.
// Non-goals asking for names: grants are given by people. Who hands a chain over need not have issued it: it is proved.
import { encodeCbor } from '../base/cbor.ts'
import { withTimeout } from '../base/deadline.ts'
import { CatalogError } from '../base/errors.ts'
import type { CallOptions } from '../base/lifecycle.ts'
import { encodeFrame, FrameReader, type Message } from '../network/frames.ts'
import type { Host, PeerText } from '../network/host.ts'
import { certificateLimits } from '../trust/certificate.ts'
import { Fields, type PublicKeys } from '../trust/fields.ts'
import { joinedLimits } from '../trust/joined.ts'
import { type Possession, possessionMessage, readPossession } from '../trust/possession.ts'
import { throwAnswered } from './join-protocol.ts'

export const certificatesProtocol = '/certificates/1'

export const certificatesLimits = {
  maxQuestionBytes: 64 * 1024,
  maxAnswerBytes: joinedLimits.maxBytes + 64 * 1024,
  /** Of one renewal: a node, a publisher, and what it was delegated from here. */
  maxChains: 16,
  maxDelegations: 64,
  answerMs: 20_000,
  nonceBytes: 16,
} as const

export type Chain = readonly Uint8Array[]

export type CertificatesQuestion =
  | { readonly op: 'renew' }
  | { readonly op: 'deliver'; readonly chain: Chain }
  | { readonly op: 'identity'; readonly nonce: Uint8Array }
  | { readonly op: 'state' }
  | ({ readonly op: 'rotate' } & RotationRequest)
  | { readonly op: 'retire'; readonly certificate: string; readonly reason?: string }

/** What `rotate` asks for, and the proofs that come with it. */
export interface RotationRequest {
  /** Fingerprint of the certificate that is replaced. */
  readonly certificate: string
  /** The new ones. */
  readonly keys: PublicKeys
  readonly old: Possession
  readonly new: Possession
}

/** @throws CatalogError `certificate-malformed` */
export function readCertificatesQuestion(message: Message): CertificatesQuestion {
  const what = 'The question'
  const known = ['op', 'chain', 'nonce', 'certificate', 'keys', 'old', 'new', 'reason']
  const fields = new Fields(message, known, what)
  const op = fields.text('op', 20)
  if (op === 'renew' || op === 'state') return { op }
  if (op === 'deliver') return { op, chain: readChain(fields.raw('chain'), what) }
  if (op === 'identity') return { op, nonce: fields.bytes('nonce', certificatesLimits.nonceBytes) }
  if (op === 'rotate')
    return {
      op,
      certificate: fields.fingerprint('certificate'),
      keys: fields.keys('keys'),
      old: readPossession(fields.raw('old'), "The question's proof of the old keys"),
      new: readPossession(fields.raw('new'), "The question's proof of the new keys"),
    }
  if (op === 'retire')
    return {
      op,
      certificate: fields.fingerprint('certificate'),
      ...(fields.has('reason') ? { reason: fields.text('reason', 200) } : {}),
    }
  throw fields.refuse('it is not known')
}

/** The bytes of a chain; whether they are certificates, decoding says. */
export function readChain(value: unknown, what: string): Chain {
  const fields = new Fields({ chain: value }, ['chain'], what)
  const chain = readBytesList(fields, 'chain', certificateLimits.maxChain)
  if (chain.length === 0) throw fields.refuse('its chain is empty')
  return chain
}

function readBytesList(fields: Fields, field: string, max: number): Uint8Array[] {
  return fields.list(field, max).map(one => {
    if (!(one instanceof Uint8Array)) throw fields.refuse(`${field} holds something that is not bytes`)
    return one
  })
}

/** What proves that a node holds its publisher's keys, to one peer, once. */
export const identityMessage = (
  root: string,
  asker: PeerText,
  answerer: PeerText,
  nonce: Uint8Array,
): Uint8Array => possessionMessage('catalog/identity/v1', root, asker, answerer, nonce)

/** What both pairs of keys sign when one takes the place of the other: for one authority, from one node. */
export const rotationMessage = (
  root: string,
  asker: PeerText,
  answerer: PeerText,
  { certificate, keys }: Pick<RotationRequest, 'certificate' | 'keys'>,
): Uint8Array =>
  possessionMessage('catalog/rotation/v1', root, asker, answerer, certificate, keys.ed25519, keys.falcon)

/** Asks one question. @throws CatalogError that the peer answered with, `certificate-malformed`, `peer-unreachable` */
async function ask(
  host: Host,
  peer: PeerText,
  question: CertificatesQuestion,
  known: readonly string[],
  options: CallOptions,
): Promise<Fields> {
  const signal = withTimeout(options.signal, certificatesLimits.answerMs)
  const stream = await host.open(peer, certificatesProtocol, { signal })
  try {
    await stream.write(encodeFrame({ ...question }), { signal })
    const message = await new FrameReader(stream).message(certificatesLimits.maxAnswerBytes, { signal })
    if (message === undefined)
      throw new CatalogError('peer-unreachable', `The node ${peer} went away without an answer.`, { peer })
    const fields = new Fields(message, [...known, 'error'], 'The answer')
    if (fields.has('error')) throwAnswered(fields.raw('error'), `The node ${peer} answered`, peer)
    return fields
  } finally {
    stream.close().catch(() => undefined)
  }
}

export async function askRenewal(host: Host, peer: PeerText, options: CallOptions = {}): Promise<Chain[]> {
  const answer = await ask(host, peer, { op: 'renew' }, ['chains'], options)
  return answer.list('chains', certificatesLimits.maxChains).map(one => readChain(one, 'The answer'))
}

/** Hands a chain over. @throws CatalogError as the peer's proof of it fails */
export async function deliver(
  host: Host,
  peer: PeerText,
  chain: Chain,
  options: CallOptions = {},
): Promise<string> {
  const answer = await ask(host, peer, { op: 'deliver', chain }, ['taken'], options)
  return answer.text('taken', 20)
}

/** A peer's own publisher chain with its proof; both still to be checked. */
export async function askIdentity(
  host: Host,
  peer: PeerText,
  nonce: Uint8Array,
  options: CallOptions = {},
): Promise<{ chain: Chain; proof: Possession }> {
  const answer = await ask(host, peer, { op: 'identity', nonce }, ['chain', 'ed25519', 'falcon'], options)
  const { ed25519, falcon } = { ed25519: answer.raw('ed25519'), falcon: answer.raw('falcon') }
  return {
    chain: readChain(answer.raw('chain'), 'The answer'),
    proof: readPossession({ ed25519, falcon }, 'The answer'),
  }
}

/** Roots and lists as a peer has them; each still to be proved. */
export async function askState(
  host: Host,
  peer: PeerText,
  options: CallOptions = {},
): Promise<{ roots: Uint8Array[]; revocations: Uint8Array[] }> {
  const answer = await ask(host, peer, { op: 'state' }, ['roots', 'revocations'], options)
  return {
    roots: readBytesList(answer, 'roots', joinedLimits.maxRoots),
    revocations: readBytesList(answer, 'revocations', joinedLimits.maxRevocations),
  }
}

/** A certificate for new keys; still to be proved. @throws CatalogError that the authority answered with, `peer-unreachable` */
export async function askRotation(
  host: Host,
  peer: PeerText,
  request: RotationRequest,
  options: CallOptions = {},
): Promise<Chain> {
  const answer = await ask(host, peer, { op: 'rotate', ...request }, ['chain'], options)
  return readChain(answer.raw('chain'), 'The answer')
}

/** The number of the revocation list that says so. @throws as `askRotation` */
export async function askRetirement(
  host: Host,
  peer: PeerText,
  question: { readonly certificate: string; readonly reason?: string },
  options: CallOptions = {},
): Promise<number> {
  const answer = await ask(host, peer, { op: 'retire', ...question }, ['sequence'], options)
  return answer.natural('sequence')
}

/** An answer's frame. @throws CatalogError `too-large` */
export function encodeCertificatesAnswer(answer: Message): Uint8Array {
  const size = encodeCbor(answer).byteLength
  if (size > certificatesLimits.maxAnswerBytes)
    throw new CatalogError('too-large', `The answer would be ${size} bytes.`)
  return encodeFrame(answer)
}
