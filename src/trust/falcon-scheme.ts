// Falcon-1024 in its round-3 form (https://falcon-sign.info/falcon.pdf), padded signatures: keys and signing by
// @noble/post-quantum, verification by falcon-verify.ts.
// It is not FN-DSA (FIPS 206) and not constant-time: hence the algorithm's name, and signing off the main thread.
// Fresh system randomness for every signature: a repeated sampler seed would leak the key.
import { falcon1024padded } from '@noble/post-quantum/falcon.js'
import { verifyFalcon } from './falcon-verify.ts'
import type { KeyPair, SignatureScheme } from './signature-scheme.ts'

class FalconScheme implements SignatureScheme {
  readonly algorithm = 'falcon-1024-r3'
  readonly publicKeyBytes = 1793
  readonly secretKeyBytes = 2305
  readonly signatureBytes = 1280

  generate(): KeyPair {
    return falcon1024padded.keygen()
  }

  publicKeyOf(secretKey: Uint8Array): Uint8Array | undefined {
    try {
      return falcon1024padded.getPublicKey(secretKey)
    } catch {
      return undefined
    }
  }

  sign(message: Uint8Array, secretKey: Uint8Array): Uint8Array {
    if (!hasLength(secretKey, this.secretKeyBytes))
      throw new TypeError('a Falcon-1024 secret key has 2305 bytes')
    return falcon1024padded.sign(message, secretKey)
  }

  verify(signature: Uint8Array, message: Uint8Array, publicKey: Uint8Array): boolean {
    if (!hasLength(signature, this.signatureBytes) || !hasLength(publicKey, this.publicKeyBytes)) return false
    return message instanceof Uint8Array && verifyFalcon(signature, message, publicKey)
  }
}

const hasLength = (bytes: unknown, length: number): boolean =>
  bytes instanceof Uint8Array && bytes.byteLength === length

export const falcon: SignatureScheme = new FalconScheme()
