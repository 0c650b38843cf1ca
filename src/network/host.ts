// The port to other nodes: authenticated byte streams by protocol. Implementations: network/libp2p-host.ts
// (QUIC, TCP + Noise + Yamux) and network/memory-host.ts (in one process, for tests).
import type { CallOptions } from '../base/lifecycle.ts'
import type { Admission, Capability } from './admission.ts'

/** The text form of a libp2p peer id: who is at the other end, proved by the handshake. */
export type PeerText = string

/**
 * One bidirectional stream. Reading is bounded: at most `maxBufferedBytes` of the other side's bytes may wait
 * here unread, so a reader asks for no more than that before it has taken it; a peer that sends more is cut off.
 */
export interface ByteStream {
  readonly peer: PeerText
  /** Bytes are here, and this node's own limits hold them back: then it is not the peer that is slow. */
  readonly heldBack?: boolean
  /**
   * The next bytes, at most `maxBytes` (default: whatever has arrived); undefined once the other side has
   * finished. Throws when the stream was reset, or with the signal's reason.
   */
  read(maxBytes?: number, options?: CallOptions): Promise<Uint8Array | undefined>
  /**
   * A chunk that `read` gave is not needed any more, nor any view of it: its memory may be freed at once, which moves
   * bulk a fifth faster than leaving it to the collector. For readers that have copied what they want.
   */
  discard?(chunk: Uint8Array): void
  /**
   * The next bytes, until the memory is full of them; false once the other side has finished before that. Where it is
   * there, it costs one wait and no copy. After a failure or an abort the stream is over, and the memory nobody's for
   * other things.
   */
  fill?(into: Uint8Array, options: FillOptions): Promise<boolean>
  /** What `write` has resolved for is nobody's but the caller's again: its memory may be used for other bytes. */
  readonly givesBack?: boolean
  /** Resolves when the transport took the bytes: after its `drain`, so that a fast sender is held back. */
  write(bytes: Uint8Array, options?: CallOptions): Promise<void>
  /** No more writes; the other side reads to the end. */
  closeWrite(): Promise<void>
  /** Closes both directions, waiting a bounded time for what was written to leave. */
  close(): Promise<void>
  /** Ends both directions at once. */
  abort(error: Error): void
}

export interface FillOptions extends CallOptions {
  /** Told how many bytes have come, as they come. */
  readonly onPart: (bytes: number) => void
}

export const maxBufferedBytes = 4 * 1024 * 1024

export interface ProtocolOptions {
  /** Streams of this protocol open at once, from one peer and from all. More are reset. */
  readonly maxInboundPerPeer: number
  readonly maxInbound: number
  /** What a peer's certificate must grant for it to open this protocol here; absent: membership is enough. */
  readonly capability?: Capability
  /** Not even membership is needed: for joining. */
  readonly open?: true
  /** Its streams may come on connections of their own (`openBulk`). */
  readonly bulk?: true
}

/** Its failure ends only its own stream: the host catches, logs and aborts. The signal fires when the stream or the host ends. */
export type StreamHandler = (stream: ByteStream, options: { readonly signal: AbortSignal }) => Promise<void>

export interface DialOptions extends CallOptions {
  /**
   * This node comes as a stranger, for a protocol that is open to those: it shows no credential and asks for none, and
   * neither side's refusal ends the call. Such a connection lasts a minute.
   */
  readonly joining?: true
}

export interface OpenOptions extends DialOptions {
  /** What the stream is part of, for a host that shares limited bandwidth evenly between flows; others ignore it. */
  readonly flow?: string | undefined
}

export interface ConnectionView {
  readonly peer: PeerText
  readonly addresses: readonly string[]
  /** `quic`, `tcp`, `memory`. */
  readonly transport: string
  readonly direction: 'inbound' | 'outbound'
  readonly connectedAt: number
  readonly latencyMs?: number
  /** Connections for bulk (`openBulk`) beside this one with the same peer, both ways; absent: none. */
  readonly dataConnections?: number
}

export interface Host {
  readonly peer: PeerText
  /** Listening addresses, each with /p2p/…. */
  addresses(): string[]
  /** Those with members. */
  connections(): ConnectionView[]
  isConnected(peer: PeerText): boolean
  /** What a connected member may ask for; undefined for everybody else. */
  admissionOf(peer: PeerText): Admission | undefined
  /** Registers before or after start. */
  handle(protocol: string, handler: StreamHandler, options: ProtocolOptions): void
  /**
   * Opens a stream, dialling the peer first where there is no connection.
   * @throws CatalogError `peer-unreachable`; `not-a-member` with `{ peer, by, reason }` where either side refused the other
   */
  open(peer: PeerText, protocol: string, options?: OpenOptions): Promise<ByteStream>
  /**
   * A stream on a connection of its own, for moving many megabytes to this side at the least cost. The handler of the
   * protocol answers it, under the same limits; it lives no longer than the peer is connected, and this side is the
   * one to finish. Undefined where there is no such way to the peer: the caller goes on with `open`.
   * @throws the signal's reason
   */
  openBulk(peer: PeerText, protocol: string, options?: OpenOptions): Promise<ByteStream | undefined>
  /**
   * Connects to a multiaddr (with or without /p2p/…), and resolves once both sides have admitted each other.
   * @throws CatalogError `peer-unreachable`, `invalid-request`, `not-a-member` as for `open`
   */
  dial(address: string, options?: DialOptions): Promise<PeerText>
  disconnect(peer: PeerText): Promise<void>
  /**
   * Called once a peer is connected, admitted and identified, and when its last connection or its membership is gone.
   * Returns the unsubscriber.
   */
  onPeer(listener: (peer: PeerText, change: 'connected' | 'disconnected') => void): () => void
}
