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
  readonly #proved = new WeakMap<TLSSocket, Expected>()
  /** Connections that have not proved a key yet: the address of each, by what names it. */
  readonly #unproved = new Map<string, string>()
  readonly #sockets = new Set<Socket>()

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
    for (const host of hosts) {
      const server = createServer({ allowHalfOpen: true }, socket => this.#came(socket))
      const listening = Promise.withResolvers<void>()
      server.once('listening', listening.resolve)
      server.once('error', listening.reject)
      server.listen({ host, port, ipv6Only: true })
      try {
        await listening.promise
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
    socket.once('close', () => {
      this.#unproved.delete(name)
      this.#sockets.delete(socket)
    })
    this.#tls.emit('connection', socket)
  }

  #prove(socket: TLSSocket, identity: string): Uint8Array | null {
    const expected = this.#deps.offers.take(identity)
    if (expected === undefined) return null
    // What proves a key is bounded by the offers.
    this.#unproved.delete(nameOf(socket))
    this.#proved.set(socket, expected)
    return expected.key
  }

  #connected(socket: TLSSocket): void {
    const expected = this.#proved.get(socket)
    // Without a certificate of ours no handshake ends well but by a key; this says it once more.
    if (expected === undefined) {
      socket.destroy()
      return
    }
    this.#deps.onConnection(socket, expected)
  }
}

/** The same for a socket and for the TLS socket over it. */
const nameOf = ({ remoteAddress, remotePort, localPort }: Socket): string =>
  `${remoteAddress} ${remotePort} ${localPort}`
