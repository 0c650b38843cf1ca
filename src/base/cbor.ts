// Canonical bytes: DAG-CBOR (https://ipld.io/specs/codecs/dag-cbor/spec/), the only encoding that is signed,
// hashed or sent. Decoding refuses what is not canonical, so one value has exactly one encoding.
import * as dagCbor from '@ipld/dag-cbor'
import { CatalogError } from './errors.ts'

export const encodeCbor = (value: unknown): Uint8Array => dagCbor.encode(value)

/**
 * Decodes at most `maxBytes` of canonical DAG-CBOR.
 * @throws CatalogError `bad-record` when it is too large, malformed or not canonical.
 */
export function decodeCbor(bytes: Uint8Array, maxBytes: number, what: string): unknown {
  if (bytes.byteLength > maxBytes)
    throw new CatalogError(
      'bad-record',
      `${what} is ${bytes.byteLength} bytes; at most ${maxBytes} are accepted.`,
    )
  let value: unknown
  let canonical: Uint8Array
  try {
    value = dagCbor.decode(bytes)
    // Here too: what is nested too deep to be encoded is refused like what is too deep to be decoded.
    canonical = dagCbor.encode(value)
  } catch (error) {
    throw new CatalogError('bad-record', `${what} is not DAG-CBOR: ${(error as Error).message}.`, {}, error)
  }
  // The decoder is strict about most things but not all (map key order): one comparison closes the rest.
  if (!equalBytes(canonical, bytes)) throw new CatalogError('bad-record', `${what} is not in canonical form.`)
  return value
}

export const equalBytes = (a: Uint8Array, b: Uint8Array): boolean =>
  a.byteLength === b.byteLength && Buffer.compare(a, b) === 0
