// Opens a data connection that was offered.

import { constants } from 'node:crypto'
import type { SocketConstructorOpts } from 'node:net'
import { type ConnectionOptions, connect } from 'node:tls'
import { CatalogError } from '../../base/errors.ts'
import type { PeerText } from '../host.ts'
import { ciphers, identityOf, type Offer } from './protocol.ts'
import { TlsStream } from './tls-stream.ts'

/** For the socket beneath. */
type Beneath = Pick<SocketConstructorOpts, 'allowHalfOpen'> & { readonly onread: TlsStream['onread'] }

/** @throws CatalogError `peer-unreachable`; the signal's reason */
export async function connectData(
  peer: PeerText,
  address: string,
  { port, id, key }: Offer,
  signal: AbortSignal,
): Promise<TlsStream> {
  signal.throwIfAborted()
  const stream = new TlsStream(peer, { opener: true })
  const options: ConnectionOptions & Beneath = {
    host: address,
    port,
    minVersion: 'TLSv1.3',
    ciphers,
    secureOptions: constants.SSL_OP_NO_TICKET,
    pskCallback: () => ({ psk: key, identity: identityOf(id) }),
    // Never called where the key was used. Whoever comes with a certificate instead is somebody else, whatever the
    // environment says of certificates.
    rejectUnauthorized: true,
    ca: [],
    checkServerIdentity: () => new Error('it proved a certificate instead of the key'),
    allowHalfOpen: true,
    onread: stream.onread,
  }
  const socket = connect(options)
  const secure = Promise.withResolvers<void>()
  socket.once('secureConnect', () => {
    if (socket.isSessionReused() && Object.keys(socket.getPeerCertificate()).length === 0) secure.resolve()
    else stream.abort(new CatalogError('peer-unreachable', `${peer} did not prove the key.`))
  })
  const over = () =>
    secure.reject(stream.broken ?? new CatalogError('peer-unreachable', `${peer} ended the handshake.`))
  stream.attach(socket, { reads: 'onread' })
  stream.ended.addEventListener('abort', over, { once: true })
  const leave = () => stream.abort(signal.reason as Error)
  signal.addEventListener('abort', leave, { once: true })
  try {
    await secure.promise
    return stream
  } catch (error) {
    signal.throwIfAborted()
    throw error
  } finally {
    signal.removeEventListener('abort', leave)
    stream.ended.removeEventListener('abort', over)
  }
}
