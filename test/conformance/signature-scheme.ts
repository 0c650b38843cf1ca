// What every SignatureScheme must do. Called inside a test file: `signatureSchemeConformance(ed25519)`.
import fc from 'fast-check'
import { beforeAll, describe, expect, it } from 'vitest'
import type { KeyPair, SignatureScheme } from '../../src/trust/signature-scheme.ts'

export function signatureSchemeConformance(scheme: SignatureScheme): void {
  describe(`${scheme.algorithm} as a signature scheme`, () => {
    let mine: KeyPair
    let other: KeyPair

    beforeAll(() => {
      mine = scheme.generate()
      other = scheme.generate()
    })

    it('generates different keys of the promised lengths each time', () => {
      expect(mine.publicKey).toHaveLength(scheme.publicKeyBytes)
      expect(mine.secretKey).toHaveLength(scheme.secretKeyBytes)
      expect(mine.publicKey).not.toEqual(other.publicKey)
    })

    it('derives the public key from the secret one, and nothing from a malformed one', () => {
      expect(scheme.publicKeyOf(mine.secretKey)).toEqual(mine.publicKey)
      expect(scheme.publicKeyOf(mine.secretKey.subarray(1))).toBeUndefined()
    })

    it('verifies what it signed, under that key and message only', () => {
      fc.assert(
        fc.property(fc.uint8Array({ maxLength: 300 }), message => {
          const signature = scheme.sign(message, mine.secretKey)
          expect(signature).toHaveLength(scheme.signatureBytes)
          expect(scheme.verify(signature, message, mine.publicKey)).toBe(true)
          expect(scheme.verify(signature, message, other.publicKey)).toBe(false)
          expect(scheme.verify(signature, new Uint8Array([...message, 0]), mine.publicKey)).toBe(false)
        }),
        { numRuns: 15 },
      )
    })

    it('refuses every flipped bit of a signature, a key or a message', () => {
      const message = Buffer.from('one message')
      const signature = scheme.sign(message, mine.secretKey)
      const flip = (bytes: Uint8Array, bit: number) => {
        const copy = new Uint8Array(bytes)
        const at = (bit >> 3) % copy.length
        copy[at] = (copy[at] ?? 0) ^ (1 << (bit & 7))
        return copy
      }
      fc.assert(
        fc.property(fc.nat({ max: scheme.publicKeyBytes * 8 - 1 }), bit => {
          expect(scheme.verify(flip(signature, bit), message, mine.publicKey)).toBe(false)
          expect(scheme.verify(signature, flip(message, bit), mine.publicKey)).toBe(false)
          expect(scheme.verify(signature, message, flip(mine.publicKey, bit))).toBe(false)
        }),
        { numRuns: 150 },
      )
    })

    it('answers false to whatever is malformed, and never throws', () => {
      const message = Buffer.from('one message')
      const signature = scheme.sign(message, mine.secretKey)
      const arbitrary = fc.oneof(
        fc.uint8Array({ maxLength: 2000 }),
        fc.anything(),
      ) as fc.Arbitrary<Uint8Array>
      fc.assert(
        fc.property(arbitrary, bytes => {
          expect(scheme.verify(bytes, message, mine.publicKey)).toBe(false)
          expect(scheme.verify(signature, message, bytes)).toBe(false)
        }),
        { numRuns: 200 },
      )
      for (const changed of [signature.subarray(1), new Uint8Array([...signature, 0]), new Uint8Array(0)])
        expect(scheme.verify(changed, message, mine.publicKey)).toBe(false)
      const zeroKey = new Uint8Array(scheme.publicKeyBytes)
      expect(scheme.verify(new Uint8Array(scheme.signatureBytes), message, zeroKey)).toBe(false)
    })

    it('knows a key by its bytes, not by the array that held them', () => {
      const message = Buffer.from('one message')
      const signature = scheme.sign(message, mine.secretKey)
      const key = Uint8Array.from(mine.publicKey)
      expect(scheme.verify(signature, message, key)).toBe(true)
      key.set(other.publicKey)
      expect(scheme.verify(signature, message, key)).toBe(false)
      key.set(mine.publicKey)
      expect(scheme.verify(signature, message, key)).toBe(true)
    })

    it('refuses to sign with a malformed secret key', () => {
      expect(() => scheme.sign(Buffer.from('x'), mine.secretKey.subarray(1))).toThrow(TypeError)
    })
  })
}
