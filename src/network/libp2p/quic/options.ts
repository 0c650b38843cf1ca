// The limits of the QUIC transport, each with its reason. Sizes in bytes, times in milliseconds.
import { maxBufferedBytes } from '../../host.ts'

export interface QuicOptions {
  readonly handshakeTimeoutMs: number
  readonly maxIdleMs: number
  readonly keepAliveMs: number
  /** Streams that a peer may have open towards this node, on one connection. */
  readonly maxInboundStreams: number
  /** Streams that this node opens on one connection; the next is refused. */
  readonly maxOutboundStreams: number
  /** How long opening a stream waits where its caller gave no signal. */
  readonly openTimeoutMs: number
  readonly maxStreamBytes: number
  readonly maxConnectionBytes: number
  /** The buffers of the UDP sockets; the system may give less. */
  readonly socketReceiveBytes: number
  readonly socketSendBytes: number
  /** What one native read may return, and the least it is given room for. */
  readonly maxReadBytes: number
  readonly minReadBytes: number
  /** What one native write carries at most. */
  readonly maxWriteBytes: number
  /** What libp2p's own buffer holds of a stream that nobody listens to, before reading stops. */
  readonly maxUnheardBytes: number
  /** What is read and thrown away of a stream that is closed for reading, before its sender is told to stop. */
  readonly maxDiscardedBytes: number
  /** Handshakes under way at once: a peer that stops in the middle of one must not hold up the others. */
  readonly maxPendingHandshakes: number
  /** Closing a listener or the streams of a connection ends after this long, whatever the other side does. */
  readonly closeTimeoutMs: number
  /** How long a connection that is being closed waits for the other side to end its streams. */
  readonly lingerMs: number
}

export const defaultQuicOptions: QuicOptions = {
  handshakeTimeoutMs: 5000,
  // A peer that is killed says nothing: this long until its streams break off.
  maxIdleMs: 10_000,
  keepAliveMs: 4000,
  maxInboundStreams: 256,
  // Below what every peer of ours allows, with room for those that it has not counted as ended yet.
  maxOutboundStreams: 200,
  openTimeoutMs: 10_000,
  maxStreamBytes: maxBufferedBytes,
  // One stream that nobody reads must not use up the window of all others on its connection.
  maxConnectionBytes: 6 * maxBufferedBytes,
  // A whole window: what arrives while this process waits for a processor is not lost. With an eighth of it, 1 % was.
  socketReceiveBytes: maxBufferedBytes,
  socketSendBytes: 500_000,
  // Measured on one stream: 4 KiB reads move 160 MiB/s, 64 KiB 470, 256 KiB 520 and up; beyond, nothing.
  maxReadBytes: 256 * 1024,
  // The native read allocates all it is given room for: single bytes must not cost 256 KiB each.
  minReadBytes: 4 * 1024,
  // A write that waits for the peer to read holds back a reset, and this much memory: 512 KiB and the frame before them.
  maxWriteBytes: 516 * 1024,
  maxUnheardBytes: 256 * 1024,
  maxDiscardedBytes: 1024 * 1024,
  maxPendingHandshakes: 64,
  closeTimeoutMs: 3000,
  lingerMs: 300,
}
