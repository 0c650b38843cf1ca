// The port to membership: what proves that this node and its peers belong to the network, and what a member may ask
// for. The network layer asks it before a peer gets any protocol; who answers it is the composition root's choice.
import { CatalogError, isCatalogError } from '../base/errors.ts'
import type { CallOptions } from '../base/lifecycle.ts'
import type { PeerText } from './host.ts'

export type Capability = 'fetch' | 'publish' | 'replicate' | 'execute'

/** What a checked peer is and may ask for. */
export interface Admission {
  readonly capabilities: ReadonlySet<Capability>
  readonly roles: ReadonlySet<string>
  /** The fingerprint of the peer's certificate. */
  readonly certificate: string
  /** When all this ends, in milliseconds since 1970. */
  readonly notAfter: number
}

/** Who belongs to the network. */
export interface Admissions {
  /**
   * The bytes that prove this node's membership; asked for anew at each exchange. At most `maxCredentialBytes`.
   * @throws CatalogError `not-a-member` where this node has none (yet)
   */
  credential(): Uint8Array
  /**
   * Proves a peer's credential, within milliseconds.
   * @throws CatalogError with a `certificate-…` or `root-…` code, or `not-a-member`
   */
  admit(peer: PeerText, credential: Uint8Array, options: CallOptions): Promise<Admission>
}

export const maxCredentialBytes = 64 * 1024

/** A membership that was denied: by this node, or to this node by the peer. */
export interface Refusal {
  readonly by: 'this-node' | 'peer'
  /** A code of base/errors.ts; a peer may send any text of that form. */
  readonly code: string
  /** A sentence for a person. From a peer: bounded, without control characters, and not to be believed. */
  readonly message: string
}

/** `not-a-member` for a caller: who refused whom, and why. `reason` is the code that the refusal carries. */
export function refusalError(peer: PeerText, { by, code, message }: Refusal, cause?: unknown): CatalogError {
  const text =
    by === 'peer'
      ? `The peer ${peer} does not accept this node as a member: ${message}`
      : `The peer ${peer} is not accepted as a member: ${message}`
  return new CatalogError('not-a-member', text, { peer, by, reason: code, message }, cause)
}

/** The refusal that an error of `refusalError` tells of. */
export function refusalOf(error: unknown): Refusal | undefined {
  if (!isCatalogError(error, 'not-a-member')) return undefined
  const { by, reason, message } = error.data
  if ((by !== 'peer' && by !== 'this-node') || typeof reason !== 'string') return undefined
  return { by, code: reason, message: String(message) }
}

/** What may be told of a failed check: what is wrong with the certificate, and nothing of this node's inside. */
export function asRefusal(peer: PeerText, error: unknown): CatalogError {
  if (refusalOf(error) !== undefined) return error as CatalogError
  const known = isCatalogError(error) && /^(certificate-|root-|not-a-member$)/.test(error.code)
  const code = known ? error.code : 'not-a-member'
  const message = known ? error.message : 'The membership could not be checked. Try again later.'
  return refusalError(peer, { by: 'this-node', code, message }, error)
}
