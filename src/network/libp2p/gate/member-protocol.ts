// The membership protocol, `/catalog/<network>/member/2`: two peers prove to each other that they belong to the network.
// It carries proofs and verdicts; what a proof is worth is network/admission.ts's matter, what follows is gate.ts's.
//
// Parties: the opener (the dialler of a connection, as soon as it stands; later either side, with a new credential) and
// the answerer. Messages, one frame (frames.ts) of at most `maxFrameBytes` each; `?` may be a refusal instead:
//   1. opener    {credential: bytes}       or, to a member, a refusal: no longer admitted; or, with the code
//                                          `capability-missing`, still admitted but not for what it asked
//   2. answerer? {credential: bytes}       once it has proved the opener's: a stranger never sees a member's certificate
//   3. opener?   {admitted: true}          once it has proved the answerer's
// A refusal is {refused: code, message: text} and ends the exchange; the refusing side waits up to a second for the
// other to close, so that it hears why, and closes the connection. A whole exchange takes at most 10 s.
// Limits: a credential of 64 KiB, a message of 500 characters. Anything else ends as `bad-peer-message`.
// Not its aim: secrecy of a credential beyond the connection's encryption; it holds public certificates only.
import { raceAbort } from '../../../base/deadline.ts'
import { CatalogError } from '../../../base/errors.ts'
import type { CallOptions } from '../../../base/lifecycle.ts'
import { asRefusal, maxCredentialBytes, type Refusal, refusalError, refusalOf } from '../../admission.ts'
import { encodeFrame, FrameReader, type Message } from '../../frames.ts'
import type { ByteStream, PeerText } from '../../host.ts'

export const exchangeTimeoutMs = 10_000
const lingerMs = 1000
const maxTextLength = 500
const maxFrameBytes = maxCredentialBytes + 2500

/** One side of an exchange; `T` is what it keeps of a proved credential. */
export interface Exchange<T> {
  /** This node's. Where it throws there is no exchange. */
  readonly credential: () => Uint8Array
  /** Proves the other side's, or throws. */
  readonly admit: (credential: Uint8Array, options: CallOptions) => Promise<T>
  /** The other side's was not proved; called before it is told. */
  readonly refused: (refusal: CatalogError) => void
}

/**
 * The opener's side. Resolves once both have admitted each other.
 * @throws CatalogError `not-a-member` where either refuses, `bad-peer-message`
 */
export async function present<T>(stream: ByteStream, side: Exchange<T>, options: CallOptions): Promise<T> {
  await stream.write(encodeFrame({ credential: side.credential() }), options)
  const reader = new FrameReader(stream)
  const proved = await judge(
    stream,
    credentialOf(await next(reader, stream, options), stream.peer),
    side,
    options,
  )
  await stream.write(encodeFrame({ admitted: true }), options)
  // What was written leaves before it; nobody waits for the rest.
  void stream.close()
  return proved
}

/** The answerer's side. Resolves and throws as `present`. */
export async function answer<T>(stream: ByteStream, side: Exchange<T>, options: CallOptions): Promise<T> {
  const reader = new FrameReader(stream)
  const offered = credentialOf(await next(reader, stream, options), stream.peer)
  const own = await ownCredential(stream, side, options)
  const proved = await judge(stream, offered, side, options)
  await stream.write(encodeFrame({ credential: own }), options)
  if ((await next(reader, stream, options))['admitted'] !== true) throw malformed(stream.peer)
  return proved
}

/** Tells a member of a refusal, in place of an exchange. */
export async function dismiss(
  stream: ByteStream,
  refusal: CatalogError,
  options: CallOptions,
): Promise<void> {
  await sendRefusal(stream, refusal, options)
}

/** Without one of its own this node is nobody's judge: it says so, and the peer has not been refused. */
async function ownCredential<T>(
  stream: ByteStream,
  side: Exchange<T>,
  options: CallOptions,
): Promise<Uint8Array> {
  try {
    return side.credential()
  } catch (error) {
    await sendRefusal(stream, asRefusal(stream.peer, error), options).catch(() => undefined)
    throw error
  }
}

/** Proves the other side's credential; where that fails, it is told why. */
async function judge<T>(
  stream: ByteStream,
  credential: Uint8Array,
  side: Exchange<T>,
  options: CallOptions,
): Promise<T> {
  try {
    return await raceAbort(side.admit(credential, options), options.signal)
  } catch (error) {
    options.signal?.throwIfAborted()
    const refusal = asRefusal(stream.peer, error)
    side.refused(refusal)
    await sendRefusal(stream, refusal, options).catch(() => undefined)
    throw refusal
  }
}

async function sendRefusal(stream: ByteStream, error: CatalogError, options: CallOptions): Promise<void> {
  const { code, message } = refusalOf(error) as Refusal
  await stream.write(encodeFrame({ refused: code, message: message.slice(0, maxTextLength) }), options)
  await stream.closeWrite()
  // A connection that is closed at once would take with it what the other side has not read.
  const signal = AbortSignal.timeout(lingerMs)
  try {
    while ((await stream.read(undefined, { signal })) !== undefined);
  } catch {
    // It has gone, or does not listen.
  }
}

/** The next frame; a refusal, or a stream that ends early, is thrown. */
async function next(reader: FrameReader, { peer }: ByteStream, options: CallOptions): Promise<Message> {
  const message = await reader.message(maxFrameBytes, options)
  if (message === undefined) throw malformed(peer)
  if (message['refused'] === undefined) return message
  const { refused, message: sentence } = message
  if (typeof refused !== 'string' || !/^[a-z-]{1,64}$/.test(refused)) throw malformed(peer)
  if (typeof sentence !== 'string' || sentence.length > maxTextLength) throw malformed(peer)
  throw refusalError(peer, { by: 'peer', code: refused, message: sentence.replace(/\p{C}/gu, ' ') })
}

function credentialOf(message: Message, peer: PeerText): Uint8Array {
  const credential = message['credential']
  if (!(credential instanceof Uint8Array) || credential.byteLength > maxCredentialBytes) throw malformed(peer)
  // A view keeps the whole piece that it came in.
  return new Uint8Array(credential)
}

const malformed = (peer: PeerText) =>
  new CatalogError('bad-peer-message', `The peer ${peer} broke the membership protocol.`, { peer })
