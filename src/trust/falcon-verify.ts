// Verification of padded Falcon-1024 signatures, round 3 (https://falcon-sign.info/falcon.pdf), by 16 as fast as the
// library that signs. Nothing here is secret, so nothing needs constant time. Keys and signing: falcon-scheme.ts.
//
//   public key = 0x0a || 1024 coefficients of h, 14 bits each, all below q                               (3.11.4)
//   signature  = 0x3a || salt r, 40 bytes || compressed s2 || zero bits up to 1280 bytes         (3.11.2, 3.11.3)
//   accepted   = |(s1, s2)|² ≤ β² with s1 = HashToPoint(r || message) − s2·h mod (q, xⁿ + 1)        (algorithm 16)
//
// One signature has one encoding: no minus zero, no set bit after the last coefficient, no other length.
import { LRUCache } from 'lru-cache'
import { shake256 } from '../base/hash.ts'

const n = 1024
const q = 12289
/** β², table 3.3. */
const maxSquaredNorm = 70_265_242
const publicKeyBytes = 1793
const signatureBytes = 1280
const saltBytes = 40

/** n⁻¹ mod q: what the inverse transform leaves to be multiplied. */
const inverseOfN = 12277

/** Public keys as they are multiplied with: 2 KiB each and 1.8 KiB of name, so 1 MiB. Making one takes over half as long as a check. */
const decodedKeys = new LRUCache<string, Int16Array>({ max: 256 })

/** ψ^bitReversed(i) for ψ = 7, whose 1024th power is −1 (Longa and Naehrig, https://eprint.iacr.org/2016/504). */
const roots = new Int32Array(n)
for (let power = 0, root = 1; power < n; power++, root = (root * 7) % q) {
  let reversed = 0
  for (let bit = 1; bit < n; bit *= 2) reversed = reversed * 2 + (power & bit ? 1 : 0)
  roots[reversed] = root
}

/** Whether the signature holds. Never throws: bytes of any length may be given. */
export function verifyFalcon(signature: Uint8Array, message: Uint8Array, publicKey: Uint8Array): boolean {
  const s2 = decodeSignature(signature)
  if (s2 === undefined) return false
  const h = transformedKey(publicKey)
  if (h === undefined) return false
  const product = s2.slice()
  transform(product)
  for (let i = 0; i < n; i++) product[i] = Math.imul(product[i] as number, h[i] as number) % q
  transformBack(product)
  const c = hashToPoint([signature.subarray(1, 1 + saltBytes), message])
  let squaredNorm = 0
  for (let i = 0; i < n; i++) {
    const s1 = centered(((c[i] as number) - (product[i] as number)) % q)
    squaredNorm += s1 * s1 + (s2[i] as number) * (s2[i] as number)
  }
  return squaredNorm <= maxSquaredNorm
}

/**
 * 1024 numbers below q from the bytes (algorithm 3): 16 bits at a time, big-endian, those from 5·q on left out.
 * @param drawn bytes to draw at first, even. The default, 17 blocks of SHAKE256, is too few for one message in 10¹³.
 */
export function hashToPoint(bytes: readonly Uint8Array[], drawn = 2312): Int32Array {
  const stream = shake256(bytes, drawn)
  const point = new Int32Array(n)
  let found = 0
  for (let i = 0; i < drawn && found < n; i += 2) {
    const sample = ((stream[i] as number) << 8) | (stream[i + 1] as number)
    if (sample < 5 * q) point[found++] = sample % q
  }
  return found === n ? point : hashToPoint(bytes, 2 * drawn)
}

/** s2, by algorithm 18: for each coefficient a sign, 7 low bits, and the high bits as so many zeros before a one. */
function decodeSignature(signature: Uint8Array): Int32Array | undefined {
  if (signature.byteLength !== signatureBytes || signature[0] !== 0x3a) return undefined
  // Four zero bytes at the end, so that a window may reach over it; a coefficient that does has no final one.
  const compressed = new Uint8Array(signatureBytes - 1 - saltBytes + 4)
  compressed.set(signature.subarray(1 + saltBytes))
  const view = new DataView(compressed.buffer)
  const s2 = new Int32Array(n)
  let bit = 0
  for (let i = 0; i < n; i++) {
    // At least 25 bits that count, of which a coefficient takes at most 24.
    const window = view.getInt32(bit >> 3) << (bit & 7)
    const high = Math.clz32(window << 8)
    if (high > 15) return undefined
    const magnitude = (high << 7) | ((window >>> 24) & 0x7f)
    if (window < 0 && magnitude === 0) return undefined
    s2[i] = window < 0 ? -magnitude : magnitude
    bit += 9 + high
  }
  if (((compressed[bit >> 3] as number) << (bit & 7)) & 0xff) return undefined
  for (let i = (bit >> 3) + 1; i < compressed.length; i++) if (compressed[i] !== 0) return undefined
  return s2
}

/** The transform of h/n, from memory where it can be. Undefined for bytes that are no public key. */
function transformedKey(publicKey: Uint8Array): Int16Array | undefined {
  if (publicKey.byteLength !== publicKeyBytes || publicKey[0] !== 0x0a) return undefined
  const { buffer, byteOffset, byteLength } = publicKey
  const name = Buffer.from(buffer, byteOffset, byteLength).toString('latin1')
  const known = decodedKeys.get(name)
  if (known !== undefined) return known
  const h = new Int32Array(n)
  for (let i = 0, byte = 1, held = 0, bits = 0; i < n; i++) {
    for (; bits < 14; bits += 8) held = ((held << 8) | (publicKey[byte++] as number)) & 0xfffff
    bits -= 14
    const coefficient = (held >> bits) & 0x3fff
    if (coefficient >= q) return undefined
    h[i] = coefficient
  }
  transform(h)
  const key = new Int16Array(n)
  for (let i = 0; i < n; i++) key[i] = Math.imul(h[i] as number, inverseOfN) % q
  decodedKeys.set(name, key)
  return key
}

/**
 * The values of a polynomial at the odd powers of ψ, in place, bit-reversed; products mod xⁿ + 1 become products of
 * these. Coefficients from −q to q may be given: each of the ten layers adds at most q, so 11·q·q < 2³¹ throughout.
 */
function transform(a: Int32Array): void {
  for (let groups = 1, half = n / 2; groups < n; groups *= 2, half /= 2)
    for (let group = 0; group < groups; group++) {
      const root = roots[groups + group] as number
      for (let i = 2 * group * half, end = i + half; i < end; i++) {
        const left = a[i] as number
        const right = Math.imul(a[i + half] as number, root) % q
        a[i] = left + right
        a[i + half] = left - right
      }
    }
}

/** Undoes `transform`, times n. Takes and gives numbers between −q and q. */
function transformBack(a: Int32Array): void {
  for (let groups = n / 2, half = 1; groups >= 1; groups /= 2, half *= 2)
    for (let group = 0; group < groups; group++) {
      // 1/ψ^bitReversed(groups + group), but for the sign: that is in the order of the subtraction.
      const root = roots[2 * groups - 1 - group] as number
      for (let i = 2 * group * half, end = i + half; i < end; i++) {
        const left = a[i] as number
        const right = a[i + half] as number
        a[i] = (left + right) % q
        a[i + half] = Math.imul(right - left, root) % q
      }
    }
}

/** From (−q, q) to the number of the same class next to zero. */
const centered = (x: number): number => (x > q / 2 ? x - q : x < -q / 2 ? x + q : x)
