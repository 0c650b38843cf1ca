// Real QUIC connections within one process, for tests: both ends of one, as the native code has it, with a muxer of
// ours on each.
import { setTimeout as sleep } from 'node:timers/promises'
import { generateKeyPair } from '@libp2p/crypto/keys'
import type { StreamMuxerFactory } from '@libp2p/interface'
import type {
  NativeClient,
  NativeConnection,
  NativeServer,
  NativeStream,
  QuicBinding,
} from '../../src/network/libp2p/quic/binding.ts'
import { QuicConnection } from '../../src/network/libp2p/quic/connection.ts'
import { QuicMuxer, type QuicMuxerDeps } from '../../src/network/libp2p/quic/muxer.ts'
import { defaultQuicOptions, type QuicOptions } from '../../src/network/libp2p/quic/options.ts'
import type { QuicStream } from '../../src/network/libp2p/quic/stream.ts'
import { settingsOf } from '../../src/network/libp2p/quic/transport.ts'
import { silentLogger } from '../../src/network/libp2p/silent-logger.ts'

/** A server and a client that make connections to each other. */
export class NativePairs {
  readonly server: NativeServer
  readonly #client: NativeClient
  readonly #port: number

  private constructor(server: NativeServer, client: NativeClient) {
    this.server = server
    this.#port = server.port()
    this.#client = client
  }

  static async start(binding: QuicBinding, options: QuicOptions): Promise<NativePairs> {
    const config = async () => new binding.QuinnConfig(settingsOf(await generateKeyPair('Ed25519'), options))
    return new NativePairs(
      new binding.Server(await config(), '127.0.0.1', 0),
      new binding.Client(await config(), 0),
    )
  }

  async connect(): Promise<[dialer: NativeConnection, listener: NativeConnection]> {
    return Promise.all([
      this.#client.outboundConnection('127.0.0.1', this.#port),
      this.server.inboundConnection(),
    ])
  }

  async stop(): Promise<void> {
    this.#client.abort()
    await this.server.abort()
  }
}

/** One connection with our muxer on both ends. */
export class MuxedPair {
  readonly dialer: MuxedEnd
  readonly listener: MuxedEnd
  readonly #pairs: NativePairs

  private constructor(pairs: NativePairs, dialer: MuxedEnd, listener: MuxedEnd) {
    this.#pairs = pairs
    this.dialer = dialer
    this.listener = listener
  }

  static async start(binding: QuicBinding, changes: Partial<QuicOptions> = {}): Promise<MuxedPair> {
    const options = { ...defaultQuicOptions, ...changes }
    const pairs = await NativePairs.start(binding, options)
    const [dialer, listener] = await pairs.connect()
    return new MuxedPair(
      pairs,
      new MuxedEnd(dialer, 'outbound', options),
      new MuxedEnd(listener, 'inbound', options),
    )
  }

  /** A stream that both ends have; it carried one byte. */
  async open(): Promise<[dialed: QuicStream, accepted: QuicStream]> {
    const dialed = await this.dialer.muxer.createStream()
    dialed.send(new Uint8Array(1))
    // Streams that were given up before they carried anything show on this side too.
    for (;;) {
      const accepted = await this.listener.nextStream()
      if (await bringsByte(accepted)) return [dialed, accepted]
    }
  }

  async stop(): Promise<void> {
    for (const { connection } of [this.dialer, this.listener]) connection.abort(new Error('the test is over'))
    await this.#pairs.stop()
  }
}

class MuxedEnd {
  readonly connection: QuicConnection
  readonly muxer: QuicMuxer
  readonly #accepted: QuicStream[] = []
  #waiting: ((stream: QuicStream) => void) | undefined

  constructor(native: NativeConnection, direction: 'inbound' | 'outbound', options: QuicOptions) {
    this.connection = new QuicConnection({
      connection: native,
      direction,
      logger: silentLogger,
      metrics: undefined,
    })
    this.muxer = new QuicMuxer({ connection: native, maConn: this.connection }, options)
    this.muxer.addEventListener('stream', event => {
      const { detail } = event as CustomEvent<QuicStream>
      if (this.#waiting === undefined) this.#accepted.push(detail)
      else this.#waiting(detail)
      this.#waiting = undefined
    })
  }

  nextStream(): Promise<QuicStream> {
    const stream = this.#accepted.shift()
    if (stream !== undefined) return Promise.resolve(stream)
    return new Promise(resolve => {
      this.#waiting = resolve
    })
  }
}

function bringsByte(stream: QuicStream): Promise<boolean> {
  if (stream.status !== 'open') return Promise.resolve(false)
  return new Promise(resolve => {
    stream.addEventListener('message', () => resolve(true), { once: true })
    stream.addEventListener('close', () => resolve(false), { once: true })
  })
}

/** More streams at once than our own bound: the muxer suite opens a thousand. */
const manyStreams: QuicOptions = { ...defaultQuicOptions, maxInboundStreams: 1200, maxOutboundStreams: 1200 }

/** What the suite's in-memory connections have beside libp2p's interface: a time before each `drain`. */
type SuiteConnection = QuicMuxerDeps['maConn'] & { readonly local?: { readonly delay?: number } }

/**
 * What the stream-muxer suite asks for: muxer factories in pairs, the dialer's first. It expects the other side to see
 * a stream once it is opened; QUIC shows it with its first byte. So each stream here carries one byte more at its
 * beginning, below our muxer. It slows a sender through its in-memory connection; here through the native write.
 */
export class AnnouncedPairs {
  readonly #pairs: Promise<NativePairs>
  #listener: NativeConnection | undefined

  constructor(binding: QuicBinding) {
    this.#pairs = NativePairs.start(binding, manyStreams)
  }

  async nextFactory(): Promise<StreamMuxerFactory> {
    let connection = this.#listener
    this.#listener = undefined
    if (connection === undefined) [connection, this.#listener] = await (await this.#pairs).connect()
    return { protocol: 'quic', createStreamMuxer: maConn => announcedMuxer(connection, maConn) }
  }

  async stop(): Promise<void> {
    await (await this.#pairs).stop()
  }
}

function announcedMuxer(connection: NativeConnection, maConn: SuiteConnection): QuicMuxer {
  // The suite closes its own connection in memory: the real one must follow.
  maConn.addEventListener('close', () => connection.abort())
  return new QuicMuxer({ connection: new AnnouncingConnection(connection, maConn), maConn }, manyStreams)
}

class AnnouncingConnection implements NativeConnection {
  readonly #connection: NativeConnection
  #lastOpened: Promise<unknown> = Promise.resolve()
  readonly #maConn: SuiteConnection

  constructor(connection: NativeConnection, maConn: SuiteConnection) {
    this.#connection = connection
    this.#maConn = maConn
  }

  /** One after another: streams that are opened at once overtake each other, and the suite compares by position. */
  outboundStream(): Promise<NativeStream> {
    const opened = this.#lastOpened.then(async () => {
      const stream = await this.#connection.outboundStream()
      await stream.write(new Uint8Array(1))
      return this.#slowed(stream)
    })
    this.#lastOpened = opened.catch(() => undefined)
    return opened
  }

  async inboundStream(): Promise<NativeStream> {
    const stream = await this.#connection.inboundStream()
    await stream.read(1)
    return this.#slowed(stream)
  }

  #slowed(stream: NativeStream): NativeStream {
    const write = async (bytes: Uint8Array) => {
      const delay = this.#maConn.local?.delay ?? 0
      if (delay >= 1000) await sleep(delay)
      await stream.write(bytes)
    }
    return {
      write,
      id: () => stream.id(),
      read: max => stream.read(max),
      finishWrite: () => stream.finishWrite(),
      resetWrite: () => stream.resetWrite(),
      stopRead: () => stream.stopRead(),
    }
  }

  id = () => this.#connection.id()
  remoteMultiaddr = () => this.#connection.remoteMultiaddr()
  rtt = () => this.#connection.rtt()
  closed = () => this.#connection.closed()
  abort = () => this.#connection.abort()
}
