// The words of the data protocol: how two members that are connected agree on a connection of its own for one stream
// that will move much, as FTP's data connections do it (RFC 959). The asking and the answering side are
// data-connections.ts.
//
// Protocol /catalog/<network>/data/1
// Parties   the opener asks on a stream; the listener answers, and waits for one connection.
// Request   a frame (network/frames.ts): { protocol, address }, the protocol that the stream will speak, without the
//           network's prefix, and the IP address at which the opener reaches the listener.
// Answer    a frame { code: 'ok', port, id, key }, or { code: 'busy' | 'unavailable' }: too many are agreed on, or
//           there is nothing of the kind here. `id` has 16 random bytes, `key` 32.
// Then      the opener connects to that TCP port within `offerMs` and speaks TLS 1.3 (RFC 8446) with `key` as an external
//           pre-shared key in the mode psk_dhe_ke and the hexadecimal text of `id` as its identity; SHA-256 is the hash of
//           both cipher suites. Inside are the bytes of the stream. The key opens one connection. It came over a connection
//           on which both had proved who they are, so both still know; nobody needs a certificate.
// End       the opener's: when it has finished, so does the listener. TCP's end before that is a break, since TLS as it
//           is used here cannot tell it from a process that was killed.
// Limits    a listener takes connections only from addresses of peers that it has agreed with, and ends the connection
//           when the peer leaves or is a member no more.
import { CatalogError } from '../../base/errors.ts'
import { type Message, naturalField, textField } from '../frames.ts'

export const dataProtocol = '/data/1'

export const dataLimits = {
  maxMessageBytes: 512,
  idBytes: 16,
  keyBytes: 32,
  /** From the answer to the last byte of the handshake. */
  offerMs: 10_000,
  /** Agreed on and not yet connected. */
  maxOffersPerPeer: 8,
  maxOffers: 256,
} as const

/** AES in hardware where there is any, nearly everywhere; both have SHA-256, as a pre-shared key wants it. */
export const ciphers = 'TLS_AES_128_GCM_SHA256:TLS_CHACHA20_POLY1305_SHA256'

/** Where to connect, and what proves who did. */
export interface Offer {
  readonly port: number
  readonly id: Uint8Array
  readonly key: Uint8Array
}

export function readRequest(message: Message): { readonly protocol: string; readonly address: string } {
  return { protocol: textField(message, 'protocol', 64), address: textField(message, 'address', 64) }
}

/** @throws CatalogError `bad-peer-message` */
export function readAnswer(peer: string, message: Message): Offer | 'busy' | 'unavailable' {
  if (message['code'] === 'busy') return 'busy'
  if (message['code'] !== 'ok') return 'unavailable'
  const [id, key] = [message['id'], message['key']]
  const port = naturalField(message, 'port', 65_535)
  if (port === 0 || !hasBytes(id, dataLimits.idBytes) || !hasBytes(key, dataLimits.keyBytes))
    throw new CatalogError('bad-peer-message', `${peer} offered a data connection that cannot be.`, { peer })
  return { port, id, key }
}

const hasBytes = (value: unknown, length: number): value is Uint8Array =>
  value instanceof Uint8Array && value.byteLength === length

export const identityOf = (id: Uint8Array): string => Buffer.from(id).toString('hex')
