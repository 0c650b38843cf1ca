// Many messages to one peer over few streams: written one after the other, each confirmed by its answer in order. It
// knows streams and their limits, not what the messages say. A peer ends the stream at a message that it refuses: the
// answers before it say which that was, and what comes after it goes on a new stream.
import { withTimeout } from '../../base/deadline.ts'
import { FrameReader } from '../frames.ts'
import type { ByteStream } from '../host.ts'
import { type KadAnswer, parseAnswer } from './messages.ts'

export interface Delivery {
  /** With their lengths before them; the last is the one that is answered. */
  readonly bytes: Uint8Array
  confirms(answer: KadAnswer): boolean
}

export interface DeliveryOptions {
  /** What the other side reads of one stream, and a bound on messages that wait for their answers. */
  readonly maxStreamBytes: number
  readonly maxStreamMessages: number
  /** Without an answer for so long, the peer is left. */
  readonly answerTimeoutMs: number
  /** Streams that broke before the peer is left: each stands for a message that it refused. */
  readonly maxBroken: number
  readonly maxAnswerBytes: number
}

/** For each, whether it was confirmed; `broken`: why the last stream ended, where one did. Never throws. */
export async function deliver(
  deliveries: readonly Delivery[],
  open: (signal: AbortSignal) => Promise<ByteStream>,
  options: DeliveryOptions,
  signal: AbortSignal,
): Promise<{ readonly confirmed: boolean[]; readonly broken: Error | undefined }> {
  const confirmed = deliveries.map(() => false)
  let last: Error | undefined
  let broken = 0
  for (let from = 0; from < deliveries.length && broken < options.maxBroken; ) {
    const load = streamLoad(deliveries, from, options)
    let opened = false
    let answered = 0
    try {
      const stream = await open(signal)
      opened = true
      await overOneStream(stream, load, options, signal, isConfirmed => {
        confirmed[from + answered++] = isConfirmed
      })
    } catch (error) {
      last = error as Error
      // A peer that cannot be reached, or is silent, would be so again; a refusal resets the stream.
      if (!opened || last.name === 'TimeoutError' || signal.aborted) break
      broken++
      answered++
    }
    from += answered
  }
  return { confirmed, broken: last }
}

function streamLoad(
  deliveries: readonly Delivery[],
  from: number,
  { maxStreamBytes, maxStreamMessages }: DeliveryOptions,
): readonly Delivery[] {
  let bytes = deliveries[from]?.bytes.byteLength ?? 0
  let to = from + 1
  for (; to < deliveries.length && to - from < maxStreamMessages; to++) {
    bytes += deliveries[to]?.bytes.byteLength ?? 0
    if (bytes > maxStreamBytes) break
  }
  return deliveries.slice(from, to)
}

async function overOneStream(
  stream: ByteStream,
  load: readonly Delivery[],
  options: DeliveryOptions,
  signal: AbortSignal,
  onAnswer: (isConfirmed: boolean) => void,
): Promise<void> {
  try {
    const reader = new FrameReader(stream)
    // What cannot be written shows in the answers that do not come.
    const writing = stream.write(Buffer.concat(load.map(({ bytes }) => bytes)), { signal })
    writing.catch(() => undefined)
    for (const delivery of load) {
      const patience = withTimeout(signal, options.answerTimeoutMs)
      const answer = await reader.block(options.maxAnswerBytes, { signal: patience })
      if (answer === undefined) throw new Error('the peer ended the stream without an answer')
      onAnswer(delivery.confirms(parseAnswer(answer)))
    }
    await stream.close()
  } catch (error) {
    stream.abort(error as Error)
    throw error
  }
}
