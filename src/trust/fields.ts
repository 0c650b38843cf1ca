// Reads the fields of a decoded document, refusing whatever is not exactly as its format says.
import { CatalogError } from '../base/errors.ts'
import { ed25519 } from './ed25519-scheme.ts'
import { falcon } from './falcon-scheme.ts'

/** The two public keys of an identity. */
export interface PublicKeys {
  readonly ed25519: Uint8Array
  readonly falcon: Uint8Array
}

export class Fields {
  readonly #raw: Record<string, unknown>
  readonly #what: string

  /** `what` begins the sentence: "The certificate". @throws CatalogError `certificate-malformed`, as every method */
  constructor(value: unknown, known: readonly string[], what: string) {
    this.#what = what
    if (value === null || typeof value !== 'object' || Array.isArray(value) || value instanceof Uint8Array)
      throw this.refuse('a map is missing')
    const unknown = Object.keys(value).find(key => !known.includes(key))
    if (unknown !== undefined)
      throw this.refuse(`it has the unknown field ${JSON.stringify(unknown.slice(0, 40))}`)
    this.#raw = value as Record<string, unknown>
  }

  refuse(why: string): CatalogError {
    return new CatalogError('certificate-malformed', `${this.#what} is malformed: ${why}.`)
  }

  has(field: string): boolean {
    return this.#raw[field] !== undefined
  }

  raw(field: string): unknown {
    return this.#raw[field]
  }

  version(known: number): void {
    if (this.#raw['v'] !== known)
      throw this.refuse(`its version is ${String(this.#raw['v']).slice(0, 20)}, this node knows ${known}`)
  }

  text(field: string, maxLength: number): string {
    const value = this.#raw[field]
    if (typeof value !== 'string' || value === '' || value.length > maxLength)
      throw this.refuse(`${field} is not a text of at most ${maxLength} characters`)
    // It reaches terminals.
    if (/\p{Cc}/u.test(value)) throw this.refuse(`${field} has control characters`)
    return value
  }

  fingerprint(field: string): string {
    const value = this.text(field, 56)
    if (!isFingerprint(value)) throw this.refuse(`${field} is no fingerprint`)
    return value
  }

  natural(field: string): number {
    const value = this.#raw[field]
    if (typeof value !== 'number' || !Number.isSafeInteger(value) || value < 0)
      throw this.refuse(`${field} is not a natural number`)
    return value
  }

  bytes(field: string, length?: number): Uint8Array {
    const value = this.#raw[field]
    if (!(value instanceof Uint8Array) || (length !== undefined && value.byteLength !== length))
      throw this.refuse(`${field} is not ${length === undefined ? 'bytes' : `${length} bytes`}`)
    return value
  }

  list(field: string, max: number): readonly unknown[] {
    const value = this.#raw[field]
    if (!Array.isArray(value) || value.length > max)
      throw this.refuse(`${field} is not a list of at most ${max}`)
    return value
  }

  /** Short texts, ascending and each once: one set has one form. */
  texts(field: string, max: number, isValid: (text: string) => boolean): readonly string[] {
    const texts = this.list(field, max).map(value => {
      if (typeof value !== 'string' || !isValid(value)) throw this.refuse(`${field} has a wrong entry`)
      return value
    })
    if (texts.some((text, at) => at > 0 && text <= (texts[at - 1] as string)))
      throw this.refuse(`${field} is not in ascending order`)
    return texts
  }

  keys(field: string): PublicKeys {
    return readKeys(this.#raw[field], `${this.#what}'s ${field}`)
  }
}

export function readKeys(value: unknown, what: string): PublicKeys {
  const fields = new Fields(value, ['ed25519', 'falcon'], what)
  return {
    ed25519: fields.bytes('ed25519', ed25519.publicKeyBytes),
    falcon: fields.bytes('falcon', falcon.publicKeyBytes),
  }
}

/** A multihash in base32 text, as `fingerprintOf` gives. */
export const isFingerprint = (text: string): boolean => /^b[a-z2-7]{55}$/.test(text)
