// Where data connections arrive: a TCP port on each address on which the node listens. Who is not expected is
// disconnected before a byte is read; who does not prove the key, before anybody hears of it.

import { constants } from 'node:crypto'
import { createServer, type Server, type Socket } from 'node:net'
import { createServer as createTlsServer, type TLSSocket, type Server as TlsServer } from 'node:tls'
import type { Log } from '../../base/log.ts'
import { plainAddress } from './address.ts'
import type { Expected, Offers } from './offers.ts'
import { ciphers, dataLimits } from './protocol.ts'

/** Connections that have not proved a key yet, in all. */
const maxUnproved = 64

export interface ListenerDeps {
  readonly offers: Offers
  /** A connection that has proved its key. */
  readonly onConnection: (socket: TLSSocket, expected: Expected) => void
  readonly log: Log
}

export class DataListener {
  readonly #deps: ListenerDeps
  readonly #tls: TlsServer
  readonly #servers = new Map<string, Server>()
  /** What each connection has named, by what names the connection. */
  readonly #named = new Map<string, { readonly identity: string; readonly expected: Expected }>()
  /** Connections that have not proved a key yet: the address of each, by what names it. */
  readonly #unproved = new Map<string, string>()
  readonly #sockets = new Set<Socket>()
  #stopped = false

  constructor(deps: ListenerDeps) {
    this.#deps = deps
    this.#tls = createTlsServer({
      minVersion: 'TLSv1.3',
      ciphers,
      secureOptions: constants.SSL_OP_NO_TICKET,
      handshakeTimeout: dataLimits.offerMs,
      pskCallback: (socket, identity) => this.#prove(socket as TLSSocket, identity),
      allowHalfOpen: true,
    })
    this.#tls.on('secureConnection', socket => this.#connected(socket))
    this.#tls.on('tlsClientError', (error, socket) => {
      deps.log.debug({ error: String(error) }, 'a data connection was not made')
      socket.destroy()
    })
  }

  /** Where it listens: port by address. */
  get ports(): ReadonlyMap<string, number> {
    return new Map(
      [...this.#servers].map(([host, server]) => {
        const bound = server.address()
        return [host, bound === null || typeof bound === 'string' ? 0 : bound.port]
      }),
    )
  }

  /** An address that cannot be listened on goes without. */
  async start(hosts: readonly string[], port: number): Promise<void> {
    this.#stopped = false
    for (const host of hosts) {
      if (this.#stopped) return
      const server = createServer({ allowHalfOpen: true }, socket => this.#came(socket))
      const listening = Promise.withResolvers<void>()
      server.once('listening', listening.resolve)
      server.once('error', listening.reject)
      server.listen({ host, port, ipv6Only: true })
      try {
        await listening.promise
        if (this.#stopped) {
          server.close()
          return
        }
        server.on('error', error => this.#deps.log.warn({ host, error: String(error) }, 'data listener'))
        this.#servers.set(host, server)
      } catch (error) {
        this.#deps.log.warn(
          { host, port, error: String(error) },
          'no data connections can come to this address: packages will leave it over QUIC, slower',
        )
      }
    }
  }

  /** Takes no more, and ends all that have come. */
  stop(): void {
    this.#stopped = true
    for (const server of this.#servers.values()) server.close()
    this.#servers.clear()
    for (const socket of this.#sockets) socket.destroy()
  }

  #came(socket: Socket): void {
    const from = plainAddress(socket.remoteAddress ?? '')
    const mine = [...this.#unproved.values()].filter(each => each === from).length
    if (mine >= this.#deps.offers.expectedFrom(from) || this.#unproved.size >= maxUnproved) {
      this.#deps.log.debug({ from }, 'a data connection that nobody expects')
      socket.destroy()
      return
    }
    const name = nameOf(socket)
    this.#unproved.set(name, from)
    this.#sockets.add(socket)
    // TLS tells of it where it matters.
    socket.on('error', () => undefined)
    socket.once('close', () => {
      this.#unproved.delete(name)
      this.#sockets.delete(socket)
      this.#release(name)
    })
    this.#tls.emit('connection', socket)
  }

  #prove(socket: TLSSocket, identity: string): Uint8Array | null {
    const name = nameOf(socket)
    // A client that was asked for another key share (RFC 8446, 4.1.4) names it again.
    const before = this.#named.get(name)
    if (before?.identity === identity) return before.expected.key
    const expected = before === undefined ? this.#deps.offers.take(identity) : undefined
    if (expected === undefined) return null
    this.#unproved.delete(name)
    this.#named.set(name, { identity, expected })
    return expected.key
  }

  #connected(socket: TLSSocket): void {
    const expected = this.#release(nameOf(socket))
    // Without a certificate of ours no handshake ends well but by a key; this says it once more.
    if (expected === undefined) socket.destroy()
    else this.#deps.onConnection(socket, expected)
  }

  /** The handshake is over. */
  #release(name: string): Expected | undefined {
    const named = this.#named.get(name)
    if (named === undefined) return undefined
    this.#named.delete(name)
    this.#deps.offers.release(named.identity)
    return named.expected
  }
}

/** The same for a socket and for the TLS socket over it. */
const nameOf = ({ remoteAddress, remotePort, localPort }: Socket): string =>
  `${remoteAddress} ${remotePort} ${localPort}`
