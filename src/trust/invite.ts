// An invite to a network as one line of text. It is a secret until it was used or has expired: whoever has it can join
// once. The root fingerprint in it decides which network that is; addresses and the DNS name are hints.
//
//   invite = "catalog-invite-" || base32 (RFC 4648, lower case, no padding) of payload || the first 4 bytes of
//            SHA-256 over the payload, so that a copy error is told as one
//   payload = canonical CBOR { v: 1, network (name), root (fingerprint), addresses [multiaddrs with /p2p/], name? (in
//            DNS), id (8 bytes), secret (16 bytes), expires (milliseconds since 1970) }
import { base32 } from 'multiformats/bases/base32'
import { decodeCbor, encodeCbor, equalBytes } from '../base/cbor.ts'
import { CatalogError } from '../base/errors.ts'
import { sha256 } from '../base/hash.ts'
import { parseNetworkName } from '../base/network-name.ts'
import { Fields, isFingerprint } from './fields.ts'

export const inviteLimits = { maxAddresses: 8, maxAddressLength: 256, maxBytes: 3072 } as const
export const inviteIdBytes = 8
export const inviteSecretBytes = 16

export interface Invite {
  /** The network's name. */
  readonly network: string
  /** Root fingerprint. */
  readonly root: string
  /** Where an authority listens: multiaddrs with /p2p/…. */
  readonly addresses: readonly string[]
  /** Name in DNS, used when the addresses fail or are absent. */
  readonly name?: string
  readonly id: Uint8Array
  readonly secret: Uint8Array
  /** Milliseconds since 1970 (UTC). */
  readonly expires: number
}

const prefix = 'catalog-invite-'
const checksumBytes = 4
const fieldNames = ['v', 'network', 'root', 'addresses', 'name', 'id', 'secret', 'expires']

export function encodeInvite({ name, ...invite }: Invite): string {
  const payload = encodeCbor({ v: 1, ...invite, ...(name === undefined ? {} : { name }) })
  // Multibase puts `b` before base32; here the line's own beginning says what it is.
  return prefix + base32.encode(Buffer.concat([payload, checksumOf(payload)])).slice(1)
}

/** Spaces and line breaks that a mail or a terminal put in are ignored. @throws CatalogError `invite-invalid` */
export function decodeInvite(text: string): Invite {
  if (text.length > 4 * inviteLimits.maxBytes) throw refused('it is far too long for one')
  const line = text.replace(/\s+/g, '')
  if (!line.startsWith(prefix)) throw refused(`an invite begins with ${prefix}`)
  const payload = payloadOf(line.slice(prefix.length))
  try {
    return readInvite(payload)
  } catch (error) {
    throw refused((error as Error).message.replace(/\.$/, ''))
  }
}

function payloadOf(text: string): Uint8Array {
  const damaged = refused('it was not copied whole, or a character of it was changed')
  let bytes: Uint8Array
  try {
    bytes = base32.decode(`b${text}`)
  } catch {
    throw damaged
  }
  if (bytes.byteLength <= checksumBytes || bytes.byteLength > inviteLimits.maxBytes) throw damaged
  const payload = bytes.subarray(0, -checksumBytes)
  if (!equalBytes(checksumOf(payload), bytes.subarray(-checksumBytes))) throw damaged
  return payload
}

function readInvite(payload: Uint8Array): Invite {
  const fields = new Fields(decodeCbor(payload, inviteLimits.maxBytes, 'It'), fieldNames, 'Its content')
  fields.version(1)
  const root = fields.text('root', 56)
  if (!isFingerprint(root)) throw fields.refuse('its root is no fingerprint')
  const addresses = fields.list('addresses', inviteLimits.maxAddresses).map(address => {
    if (
      typeof address !== 'string' ||
      address.length > inviteLimits.maxAddressLength ||
      !/^\/[!-~]+\/p2p\/\w+$/.test(address)
    )
      throw fields.refuse('one of its addresses is no multiaddr with /p2p/')
    return address
  })
  const name = fields.has('name') ? fields.text('name', 253) : undefined
  if (name !== undefined && parseNetworkName(name)?.name !== name)
    throw fields.refuse('its name is none of DNS')
  if (name === undefined && addresses.length === 0)
    throw fields.refuse('it has neither an address nor a name')
  return {
    network: fields.text('network', 64),
    root,
    addresses,
    ...(name === undefined ? {} : { name }),
    id: fields.bytes('id', inviteIdBytes),
    secret: fields.bytes('secret', inviteSecretBytes),
    expires: fields.natural('expires'),
  }
}

const checksumOf = (payload: Uint8Array): Uint8Array => sha256(payload).subarray(0, checksumBytes)

const refused = (why: string) =>
  new CatalogError(
    'invite-invalid',
    `The invite cannot be used: ${why}. Copy the whole line again, or ask for a new one.`,
  )
