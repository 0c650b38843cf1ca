import { falcon1024padded } from '@noble/post-quantum/falcon.js'
import fc from 'fast-check'
import { beforeAll, describe, expect, it } from 'vitest'
import { shake256 } from '../../src/base/hash.ts'
import { falcon } from '../../src/trust/falcon-scheme.ts'
import { hashToPoint, verifyFalcon } from '../../src/trust/falcon-verify.ts'

// The library that signs also verifies, ten times slower: whatever bytes come, both must say the same.
// CATALOG_CAMPAIGN=1 makes fifty times as many.

const n = 1024
const q = 12289
const maxSquaredNorm = 70_265_242
const compressedBits = 1239 * 8
const campaign = process.env['CATALOG_CAMPAIGN'] === '1'
const rounds = (usual: number) => (campaign ? 50 * usual : usual)

interface Signed {
  readonly signature: Uint8Array
  readonly message: Uint8Array
  readonly publicKey: Uint8Array
}

const library = ({ signature, message, publicKey }: Signed) =>
  falcon1024padded.verify(signature, message, publicKey)
const own = ({ signature, message, publicKey }: Signed) => verifyFalcon(signature, message, publicKey)

/** What both say; fails where they disagree. */
function verdict(signed: Signed): boolean {
  const [ours, theirs] = [own(signed), library(signed)]
  expect(ours).toBe(theirs)
  return ours
}

describe('Falcon verification beside the library', () => {
  const honest: Signed[] = []
  beforeAll(() => {
    for (let key = 0; key < 3; key++) {
      const { publicKey, secretKey } = falcon.generate()
      for (const length of [0, 1, 94, 95, 96, 97, 1000, 5000]) {
        const message = Uint8Array.from({ length }, (_, i) => i * 7 + key)
        honest.push({ signature: falcon.sign(message, secretKey), message, publicKey })
      }
    }
  })

  const anyHonest = fc.nat().map(at => honest[at % honest.length] as Signed)

  it('accepts what was signed, and nothing under another key or message', () => {
    for (const one of honest) expect(verdict(one)).toBe(true)
    for (const [at, { signature }] of honest.entries()) {
      const other = honest[(at + 1) % honest.length] as Signed
      expect(verdict({ ...other, signature })).toBe(false)
    }
  })

  it('agrees on flipped bits of signature, message and key', { timeout: 600_000 }, () => {
    const parts = ['signature', 'message', 'publicKey'] as const
    let refused = 0
    fc.assert(
      fc.property(anyHonest, fc.constantFrom(...parts), fc.nat(), (signed, part, bit) => {
        const changed = { ...signed, [part]: flipped(signed[part], bit) }
        if (!verdict(changed)) refused += 1
        expect(own(signed)).toBe(true)
      }),
      { numRuns: rounds(1000) },
    )
    expect(refused).toBeGreaterThan(rounds(900))
  })

  it('agrees on every bit around the last coefficient and in the padding', () => {
    for (const signed of honest.slice(0, 4)) {
      const used = signed.signature.findLastIndex(byte => byte !== 0)
      for (let bit = (used - 3) * 8; bit < signed.signature.length * 8; bit += bit < (used + 2) * 8 ? 1 : 5)
        expect(verdict({ ...signed, signature: flipped(signed.signature, bit) })).toBe(false)
    }
  })

  it('agrees on bytes cut off, added, put elsewhere or made up', { timeout: 600_000 }, () => {
    const cut = (bytes: Uint8Array, from: number, to: number) => {
      const [low, high] = [from % bytes.length, to % bytes.length].sort((a, b) => a - b)
      return bytes.slice(low, high)
    }
    const spliced = (into: Uint8Array, part: Uint8Array, at: number) => {
      const copy = into.slice()
      copy.set(part.subarray(0, copy.length - (at % copy.length)), at % copy.length)
      return copy
    }
    fc.assert(
      fc.property(
        anyHonest,
        anyHonest,
        fc.nat(),
        fc.nat(),
        fc.uint8Array({ minLength: 1, maxLength: 8 }),
        (signed, other, from, to, noise) => {
          verdict({ ...signed, signature: cut(signed.signature, from, to) })
          verdict({ ...signed, signature: new Uint8Array([...signed.signature, ...noise]) })
          verdict({ ...signed, signature: spliced(signed.signature, noise, from) })
          const piece = other.signature.slice(from % 1280)
          verdict({ ...signed, signature: spliced(signed.signature, piece, from) })
          verdict({ ...signed, signature: spliced(signed.signature, piece, to) })
          verdict({ ...signed, publicKey: cut(signed.publicKey, from, to) })
          verdict({ ...signed, publicKey: spliced(signed.publicKey, noise, from) })
          verdict({
            ...signed,
            publicKey: spliced(signed.publicKey, other.publicKey.slice(from % 1793), from),
          })
        },
      ),
      { numRuns: rounds(150) },
    )
  })
})

describe('Falcon verification of what nobody signs', () => {
  // A key can be made for a signature: h = (c − s1)/s2 gives any s1 wanted, wherever s2 has an inverse.
  const salt = Uint8Array.from({ length: 40 }, (_, i) => i)
  const message = Buffer.from('a message')
  const c = hashToPoint([salt, message])

  function forged(s1: readonly number[], s2: readonly number[]): Signed {
    const h = dividedBy(
      Array.from(c, (ci, i) => ci - (s1[i] ?? 0)),
      s2,
    )
    fc.pre(h !== undefined)
    return { message, signature: signatureOf(compressed(s2)), publicKey: keyOf(h) }
  }

  function signatureOf(bits: string): Uint8Array {
    const bytes = (bits.padEnd(compressedBits, '0').match(/.{8}/g) ?? []).map(byte =>
      Number.parseInt(byte, 2),
    )
    return new Uint8Array([0x3a, ...salt, ...bytes])
  }

  /** So many numbers with exactly this sum of squares, as large as they may be. */
  function withSquaredNorm(wanted: number, start: readonly number[]): number[] {
    const found = [...start]
    for (let left = wanted - squaredNorm(start); left > 0; ) {
      const next = Math.min(6144, Math.floor(Math.sqrt(left)))
      found.push(found.length % 2 === 0 ? next : -next)
      left -= next * next
    }
    return found
  }

  it('draws the line at the bound exactly', { timeout: 600_000 }, () => {
    const s1 = fc.array(fc.integer({ min: -255, max: 255 }), { maxLength: 900 })
    const s2 = fc.array(fc.integer({ min: -300, max: 300 }), { minLength: 1, maxLength: n }).map(encodable)
    fc.assert(
      fc.property(s1, s2, fc.integer({ min: -50, max: 50 }), (start, v, distance) => {
        for (const norm of [maxSquaredNorm, maxSquaredNorm + 1, maxSquaredNorm + distance])
          expect(verdict(forged(withSquaredNorm(norm - squaredNorm(v), start), v))).toBe(
            norm <= maxSquaredNorm,
          )
      }),
      { numRuns: rounds(40) },
    )
  })

  it('is not fooled by norms beyond 32 bits', () => {
    for (const s1 of [6144, -6144]) expect(verdict(forged(new Array<number>(n).fill(s1), [1]))).toBe(false)
    // 2³² and a little: what a sum in 32 bits would take for short.
    const wrapping = withSquaredNorm(2 ** 32 + 1000 - 1, [])
    expect(wrapping.length).toBeLessThan(n)
    expect(verdict(forged(wrapping, [1]))).toBe(false)
    for (const size of [2047, -2047])
      expect(verdict(forged([], new Array<number>(40).fill(size)))).toBe(false)
  })

  it('takes one encoding of a signature only', () => {
    const signed = forged([], [1])
    const rest = '000000001'.repeat(n - 1)
    const encoded = (first: string, tail = '') => ({ ...signed, signature: signatureOf(first + rest + tail) })
    expect(verdict(encoded('000000011'))).toBe(true)
    expect(verdict(encoded('100000001'))).toBe(false)
    // Any bit after the last coefficient.
    const left = compressedBits - 9 * n
    for (let at = 0; at < left; at++)
      expect(verdict(encoded('000000011', '1'.padStart(at + 1, '0')))).toBe(false)
    // Minus zero elsewhere.
    for (const at of [1, 2, 511, 1023]) {
      const coefficients = ['000000011', ...new Array<string>(n - 1).fill('000000001')]
      coefficients[at] = '100000001'
      expect(verdict({ ...signed, signature: signatureOf(coefficients.join('')) })).toBe(false)
    }
  })

  it('takes coefficients up to 2047 and none beyond', () => {
    for (const high of [0, 1, 14, 15, 16, 17, 18, 31, 32, 40])
      for (const low of [0, 1, 127])
        for (const size of [high * 128 + low, -(high * 128 + low)].filter(size => size !== 0))
          expect(verdict(forged([], [size]))).toBe(high < 16)
  })

  it('takes a signature that fills its 1280 bytes to the last bit, and none that goes on', () => {
    // A coefficient takes nine bits, and one more for every 128 of its size.
    const spare = compressedBits - 9 * n
    const longOnes = (count: number) =>
      Array.from({ length: n }, (_, i) => (i < n - count ? 1 : 128 + (i % 90)))
    for (let long = spare - 9; long <= spare; long++) expect(verdict(forged([], longOnes(long)))).toBe(true)
    for (const long of [spare + 1, spare + 2, spare + 8, spare + 10]) {
      const signed = forged([], longOnes(long))
      const signature = signed.signature.slice(0, falcon.signatureBytes)
      expect(verdict({ ...signed, signature })).toBe(false)
    }
  })

  it('agrees on made-up coefficients of any size', { timeout: 600_000 }, () => {
    const { publicKey } = forged([], [1])
    const size = fc.constantFrom(0, 1, 5, 127, 128, 300, 2047, 2048, 5000)
    const coefficients = size.chain(max =>
      fc.array(fc.integer({ min: -max, max }), { minLength: 1000, maxLength: 1030 }),
    )
    fc.assert(
      fc.property(coefficients, s2 => {
        const bits = s2.map(coefficientBits).join('').slice(0, compressedBits)
        verdict({ message, publicKey, signature: signatureOf(bits) })
      }),
      { numRuns: rounds(100) },
    )
  })

  it('takes keys whose coefficients are below q, and no others', () => {
    const signed = forged([], [1])
    const h = Array.from(c)
    for (const at of [0, 1, 512, 1023])
      for (const coefficient of [q - 1, q, q + 1, (h[at] ?? 0) + q, 0x3fff]) {
        const publicKey = keyOf(h.map((one, i) => (i === at ? coefficient : one)))
        verdict({ ...signed, publicKey })
        if (coefficient >= q && coefficient <= 0x3fff) expect(verdict({ ...signed, publicKey })).toBe(false)
      }
    for (const publicKey of [new Array(n).fill(0), new Array(n).fill(q - 1)].map(keyOf))
      expect(verdict({ ...signed, publicKey })).toBe(false)
    for (const header of [0x09, 0x0b, 0x1a, 0x8a]) {
      const publicKey = signed.publicKey.slice()
      publicKey[0] = header
      expect(verdict({ ...signed, publicKey })).toBe(false)
    }
  })

  it('stays right with more keys than it remembers', () => {
    // With s2 = 1 the quotient is c − s1 itself.
    const keys = Array.from({ length: 300 }, (_, s1) => keyOf([mod((c[0] ?? 0) - s1), ...c.slice(1)]))
    const right = { message, signature: signatureOf(compressed([1])) }
    const wrong = { message, signature: signatureOf(compressed([2])) }
    for (let round = 0; round < 2; round++)
      for (const publicKey of keys) {
        expect(own({ ...right, publicKey })).toBe(true)
        expect(own({ ...wrong, publicKey })).toBe(false)
      }
  })

  it('hashes messages to the same points as the library', () => {
    // With s2 = 1 and s1 = 0 the key is the point: the library accepts it only if it finds the same.
    let atTheEdge = 0
    for (let i = 0; i < 300; i++) {
      const message = new Uint8Array(i).fill(i)
      const publicKey = keyOf([...hashToPoint([salt, message])])
      expect(verdict({ message, publicKey, signature: signatureOf(compressed([1])) })).toBe(true)
      const stream = Buffer.from(shake256([salt, message], 2 * n))
      for (let at = 0; at < 2 * n; at += 2) if (stream.readUInt16BE(at) === 5 * q) atTheEdge += 1
    }
    // 5·q is the first sample that is left out.
    expect(atTheEdge).toBeGreaterThan(0)
  })

  it('hashes to the same point however few bytes it draws at first', () => {
    fc.assert(
      fc.property(fc.uint8Array({ maxLength: 300 }), bytes => {
        for (const drawn of [2, 136, 2046, 2048, 10_000])
          expect(hashToPoint([bytes], drawn)).toEqual(hashToPoint([bytes]))
      }),
      { numRuns: 20 },
    )
  })
})

const squaredNorm = (numbers: readonly number[]) => numbers.reduce((sum, x) => sum + x * x, 0)

function flipped(bytes: Uint8Array, bit: number): Uint8Array {
  const copy = Uint8Array.from(bytes)
  const at = (bit >> 3) % Math.max(1, copy.length)
  if (copy.length > 0) copy[at] = (copy[at] ?? 0) ^ (0x80 >> (bit & 7))
  return copy
}

function powerMod(base: number, exponent: number): number {
  let result = 1
  for (let square = base, left = exponent; left > 0; square = (square * square) % q, left >>= 1)
    if (left & 1) result = (result * square) % q
  return result
}

/** The quotient mod (q, xⁿ + 1), by values at the odd powers of ψ = 7; undefined where the divisor is 0 at one. */
function dividedBy(a: readonly number[], b: readonly number[]): number[] | undefined {
  const powers = Array.from({ length: 2 * n }, () => 1)
  for (let i = 1; i < 2 * n; i++) powers[i] = ((powers[i - 1] ?? 0) * 7) % q
  const valueAt = (polynomial: readonly number[], exponent: number) =>
    mod(polynomial.reduce((sum, x, i) => sum + x * (powers[(i * exponent) % (2 * n)] ?? 0), 0))
  const divisors = Array.from({ length: n }, (_, k) => valueAt(b, 2 * k + 1))
  if (divisors.includes(0)) return undefined
  const quotients = divisors.map((value, k) => (valueAt(a, 2 * k + 1) * powerMod(value, q - 2)) % q)
  const inverseOfN = powerMod(n, q - 2)
  return Array.from({ length: n }, (_, i) => {
    const sum = quotients.reduce(
      (sum, x, k) => sum + x * (powers[2 * n - 1 - (((2 * k + 1) * i + 2 * n - 1) % (2 * n))] ?? 0),
      0,
    )
    return (mod(sum) * inverseOfN) % q
  })
}

const mod = (x: number) => ((x % q) + q) % q

/** With zeros from where it would no longer fit into a signature. */
function encodable(s2: readonly number[]): number[] {
  let spare = compressedBits - 9 * n
  return s2.map(x => {
    spare -= Math.abs(x) >> 7
    return spare < 0 ? 0 : x
  })
}

/** Sign, seven low bits, the high ones in unary (algorithm 17); any size. */
function coefficientBits(x: number): string {
  const size = Math.abs(x)
  return `${x < 0 ? 1 : 0}${(size & 127).toString(2).padStart(7, '0')}${'0'.repeat(size >> 7)}1`
}

const compressed = (s2: readonly number[]) =>
  Array.from({ length: n }, (_, i) => coefficientBits(s2[i] ?? 0)).join('')

function keyOf(h: readonly number[]): Uint8Array {
  const bits = h.map(coefficient => coefficient.toString(2).padStart(14, '0').slice(-14)).join('')
  return new Uint8Array([0x0a, ...(bits.match(/.{8}/g) ?? []).map(byte => Number.parseInt(byte, 2))])
}
