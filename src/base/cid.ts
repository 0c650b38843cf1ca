// Content identifiers: CIDv1, DAG-CBOR codec, BLAKE3-256 multihash, base32 text (https://github.com/multiformats/cid).
import { CID } from 'multiformats/cid'
import * as Digest from 'multiformats/hashes/digest'
import { blake3, digestBytes } from './hash.ts'

const dagCborCodec = 0x71
const blake3Code = 0x1e

/** The text form of a CID of ours, for example `bafyr4i…`: what records, JSON and people use. */
export type CidText = string

export const cidOf = (bytes: Uint8Array): CidText => cidOfDigest(blake3(bytes))

export const cidOfDigest = (digest: Uint8Array): CidText =>
  CID.createV1(dagCborCodec, Digest.create(blake3Code, digest)).toString()

/** Parses a CID of ours; undefined for anything else (another codec, hash, version or text form). */
export function parseCid(text: string): CID | undefined {
  if (text.length > 100 || !text.startsWith('b')) return undefined
  try {
    const cid = CID.parse(text)
    const ours = cid.version === 1 && cid.code === dagCborCodec && cid.multihash.code === blake3Code
    return ours && cid.multihash.digest.byteLength === digestBytes && cid.toString() === text
      ? cid
      : undefined
  } catch {
    return undefined
  }
}

export const isCid = (text: string): boolean => parseCid(text) !== undefined

/** The 32-byte BLAKE3 digest inside a CID of ours. */
export function digestOfCid(text: CidText): Uint8Array {
  const cid = parseCid(text)
  if (cid === undefined) throw new TypeError(`not a Catalog CID: ${text}`)
  return cid.multihash.digest
}
