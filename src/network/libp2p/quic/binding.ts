// The one door to the native QUIC code (quinn, in Rust) that @chainsafe/libp2p-quic ships: its types, how it is loaded,
// and what its failures mean. What was measured about it, and what test/network/quic-binding.test.ts holds it to:
//
// - Each asynchronous call is a task of its own on several threads: two writes of one stream that are under way at once
//   overtake each other. So there is one native write, one native read at a time, and a finish only after the writes.
// - A pending `write` keeps `resetWrite` waiting, a pending `read` keeps `stopRead` waiting.
// - `write` reads the array while it runs: it must not change until the promise is settled.
// - `read(max)` allocates `max` bytes, however few arrive; the array keeps them until it is collected or detached.
// - A read after the one that threw for a reset gives `null`, as at a clean end.
// - `outboundStream` waits for ever where the peer allows no more streams. No call can be cancelled.
// - `Server.port()` ends the process once the server was aborted.

import { availableParallelism } from 'node:os'

/** How the native code is to behave: sizes in bytes, times in milliseconds. */
export interface QuinnSettings {
  /** libp2p's protobuf of the node's key. */
  readonly privateKeyProto: Uint8Array
  readonly handshakeTimeout: number
  readonly maxIdleTimeout: number
  readonly keepAliveInterval: number
  /** How long `Server.abort` waits for its connections to end. Not in the wrapper's types; construction throws without it. */
  readonly shutdownTimeout: number
  /** Streams that the peer may have open on one connection. */
  readonly maxConcurrentStreamLimit: number
  /** Bytes that the peer may send unread, on one stream and on all of a connection. */
  readonly maxStreamData: number
  readonly maxConnectionData: number
  readonly receiveBufferSize: number
  readonly sendBufferSize: number
}

export interface NativeStream {
  id(): string
  /** Between 1 and `max` bytes; null once the peer has finished. */
  read(max: number): Promise<Uint8Array<ArrayBuffer> | null>
  /** Resolves when the native code has taken all of it. */
  write(bytes: Uint8Array): Promise<void>
  finishWrite(): Promise<void>
  resetWrite(): Promise<void>
  stopRead(): Promise<void>
}

export interface NativeConnection {
  id(): string
  /** With the peer id that the handshake proved: `/ip4/…/udp/…/quic-v1/p2p/…`. */
  remoteMultiaddr(): string
  /** In milliseconds. */
  rtt(): number
  inboundStream(): Promise<NativeStream>
  outboundStream(): Promise<NativeStream>
  closed(): Promise<void>
  /** Closes at once; what has not arrived is lost. */
  abort(): void
}

export interface NativeServer {
  port(): number
  inboundConnection(): Promise<NativeConnection>
  abort(): Promise<void>
}

export interface NativeClient {
  outboundConnection(ip: string, port: number): Promise<NativeConnection>
  abort(): void
}

/** An opaque value for the constructors below. */
export type QuinnConfig = { readonly native: 'QuinnConfig' }

export interface QuicBinding {
  readonly QuinnConfig: new (settings: QuinnSettings) => QuinnConfig
  readonly Server: new (config: QuinnConfig, ip: string, port: number) => NativeServer
  /** Family 0 is IPv4, 1 is IPv6. */
  readonly Client: new (
    config: QuinnConfig,
    family: 0 | 1,
  ) => NativeClient
}

/**
 * The wrapper exports only itself; its own loader of the native code lies beside its main file. The native code runs on
 * as many threads as there are processors, unless this variable says otherwise when it is loaded: they then take the
 * processors from each other and from JavaScript. One for every two moved 256 MiB over one stream in 415 ms instead of
 * 465 on two processors, four threads in 560.
 */
export async function loadQuicBinding(): Promise<QuicBinding> {
  process.env['TOKIO_WORKER_THREADS'] ??= String(Math.max(1, Math.floor(availableParallelism() / 2)))
  return import(new URL('napi.js', import.meta.resolve('@chainsafe/libp2p-quic')).href)
}

export type FailureKind = 'reset' | 'connection-lost' | 'other'

/** Why a read or a write failed: all have the code `Unknown`, only their messages tell them apart. */
export function kindOfFailure(error: unknown): FailureKind {
  const message = error instanceof Error ? error.message : ''
  if (/^(stream reset|sending stopped) by peer/.test(message)) return 'reset'
  if (message === 'connection lost') return 'connection-lost'
  return 'other'
}

/** The listener's accepting ends with this; any other failure is of one connection. */
export function isServerClosed(error: unknown): boolean {
  return error instanceof Error && error.message === 'server closed'
}
