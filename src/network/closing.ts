// How streams end, the same for every transport: how long closing waits, and what a break is called.
import { CatalogError } from '../base/errors.ts'
import type { PeerText } from './host.ts'
import type { EndingStream } from './inbound-streams.ts'

/** How long closing waits for what was written to leave, in milliseconds. */
export const closeTimeoutMs = 5000
/** How long the other side may take to read the rest and close, once this side has; then the stream is reset. */
const lingerMs = 30_000

/** For a stream that this side has closed: ends it with the reason where the other side never does. */
export function linger(stream: EndingStream, reason: CatalogError): void {
  if (stream.ended.aborted) return
  const timer = setTimeout(() => stream.abort(reason), lingerMs)
  timer.unref()
  stream.ended.addEventListener('abort', () => clearTimeout(timer), { once: true })
}

/** `what`: the stream, as a sentence begins with it. */
export function brokenOff(what: string, peer: PeerText, error: unknown): CatalogError {
  const reason = error instanceof Error ? error.message : 'the connection ended'
  return new CatalogError('peer-unreachable', `${what} with ${peer} broke off: ${reason}.`, {}, error)
}
