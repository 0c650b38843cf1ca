// Questions to executing nodes, one stream for each (delegation-protocol.ts).
import { CatalogError } from '../../base/errors.ts'
import { encodeFrame, FrameReader, type Message } from '../../network/frames.ts'
import type { ByteStream, Host } from '../../network/host.ts'
import { delegationLimits, executeProtocol, throwAnswered } from '../delegation-protocol.ts'

/** The answer to one question. @throws CatalogError what the peer answers, `peer-unreachable` */
export function ask(
  host: Host,
  peer: string,
  question: Message,
  signal: AbortSignal,
  input?: Uint8Array,
): Promise<Message> {
  return withStream(host, peer, signal, async (stream, reader) => {
    await stream.write(encodeFrame(question), { signal })
    if (input !== undefined && input.byteLength > 0) await stream.write(input, { signal })
    await stream.closeWrite()
    const answer = await reader.message(delegationLimits.maxAnswerBytes, { signal })
    if (answer === undefined)
      throw new CatalogError('peer-unreachable', `The node ${peer} did not answer.`, { peer })
    throwAnswered(answer, peer)
    return answer
  })
}

/** A stream for as long as it is used. */
export async function withStream<T>(
  host: Host,
  peer: string,
  signal: AbortSignal,
  use: (stream: ByteStream, reader: FrameReader) => Promise<T>,
): Promise<T> {
  const stream = await host.open(peer, executeProtocol, { signal })
  try {
    const result = await use(stream, new FrameReader(stream))
    stream.close().catch(() => undefined)
    return result
  } catch (error) {
    stream.abort(error as Error)
    throw error
  }
}
