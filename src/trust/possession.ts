// Proof that somebody holds the secret keys beside public ones that it shows: both signatures over a message that
// names the occasion. Without it an authority could be made to certify keys of others.
import type { DocumentSigner } from './document.ts'
import { ed25519 } from './ed25519-scheme.ts'
import { falcon } from './falcon-scheme.ts'
import { Fields, type PublicKeys } from './fields.ts'
import { lengthPrefixed } from './length-prefixed.ts'
import type { SignatureCheck } from './signature-check.ts'

export interface Possession {
  readonly ed25519: Uint8Array
  readonly falcon: Uint8Array
}

/** For `domain` alone; every part with its length before it. */
export const possessionMessage = (domain: string, ...parts: readonly (string | Uint8Array)[]): Uint8Array =>
  lengthPrefixed(...[domain, ...parts].map(part => (typeof part === 'string' ? Buffer.from(part) : part)))

export async function provePossession(signer: DocumentSigner, message: Uint8Array): Promise<Possession> {
  const [classical, quantumSafe] = await signer.sign(message)
  if (classical === undefined || quantumSafe === undefined)
    throw new TypeError('a signer gives two signatures')
  return { ed25519: classical.signature, falcon: quantumSafe.signature }
}

export const possessionCheck = (
  keys: PublicKeys,
  message: Uint8Array,
  proof: Possession,
): SignatureCheck => ({
  message,
  ed25519: { key: keys.ed25519, signature: proof.ed25519 },
  falcon: { key: keys.falcon, signature: proof.falcon },
})

/** @throws CatalogError `certificate-malformed` */
export function readPossession(value: unknown, what: string): Possession {
  const fields = new Fields(value, ['ed25519', 'falcon'], what)
  return {
    ed25519: fields.bytes('ed25519', ed25519.signatureBytes),
    falcon: fields.bytes('falcon', falcon.signatureBytes),
  }
}
