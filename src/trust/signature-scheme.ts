// The port for one signature algorithm over raw bytes: generate, sign, verify. What is signed, and with which keys
// together, is envelope.ts. Implementations: ed25519-scheme.ts, falcon-scheme.ts.

export type SignatureAlgorithm = 'ed25519' | 'falcon-1024-r3'

export interface KeyPair {
  readonly publicKey: Uint8Array
  readonly secretKey: Uint8Array
}

export interface SignatureScheme {
  /** The name that envelopes carry, so that an algorithm can be replaced. */
  readonly algorithm: SignatureAlgorithm
  readonly publicKeyBytes: number
  readonly secretKeyBytes: number
  /** Every signature has exactly this length. */
  readonly signatureBytes: number
  /** Blocks the thread: up to a second for Falcon, so only in crypto-worker.ts. */
  generate(): KeyPair
  /** The public key that belongs to a secret key; undefined when the secret key is malformed. */
  publicKeyOf(secretKey: Uint8Array): Uint8Array | undefined
  /** @throws TypeError when the secret key is malformed. */
  sign(message: Uint8Array, secretKey: Uint8Array): Uint8Array
  /** Never throws: whatever is malformed is false. */
  verify(signature: Uint8Array, message: Uint8Array, publicKey: Uint8Array): boolean
}
