// The serving half of the replication protocol (spec in replication-protocol.ts): reads questions, hands each to the
// node, writes the answer. It decides nothing.
import { CatalogError } from '../../base/errors.ts'
import type { CallOptions } from '../../base/lifecycle.ts'
import { encodeFrame, FrameReader, type Message } from '../../network/frames.ts'
import type { Host } from '../../network/host.ts'
import {
  decodeQuestion,
  type Offer,
  type Question,
  type Refusal,
  replicateLimits,
  replicateProtocol,
  type Standing,
} from '../replication-protocol.ts'

export interface ReplicationAnswers {
  offer(offer: Offer, from: string, options: CallOptions): Promise<'accepted' | Refusal>
  /** What the peer says of itself is taken in before the answer is made. */
  meet(root: string, from: string, standing: Standing): Promise<Standing>
  told(op: 'check' | 'release' | 'leave', root: string, from: string): Promise<void>
}

export interface ServeOptions {
  readonly maxStreamsPerPeer: number
  readonly maxStreams: number
}

export function serveReplication(host: Host, answers: ReplicationAnswers, options: ServeOptions): void {
  host.handle(
    replicateProtocol,
    async (stream, { signal }) => {
      const silent = setTimeout(
        () =>
          stream.abort(new CatalogError('timeout', `The peer ${stream.peer} asked nothing for too long.`)),
        replicateLimits.answerMs,
      )
      try {
        const reader = new FrameReader(stream)
        for (let count = 0; count < replicateLimits.maxQuestions; count++) {
          const message = await reader.message(replicateLimits.maxMessageBytes, { signal })
          if (message === undefined) break
          const reply = await answerTo(decodeQuestion(message), stream.peer, answers, signal)
          await stream.write(encodeFrame(reply), { signal })
          silent.refresh()
        }
        await stream.close()
      } finally {
        clearTimeout(silent)
      }
    },
    {
      maxInboundPerPeer: options.maxStreamsPerPeer,
      maxInbound: options.maxStreams,
      capability: 'replicate',
    },
  )
}

async function answerTo(
  question: Question,
  from: string,
  answers: ReplicationAnswers,
  signal: AbortSignal,
): Promise<Message> {
  switch (question.op) {
    case 'offer': {
      const answer = await answers.offer(question.offer, from, { signal })
      return answer === 'accepted' ? { code: answer } : { code: 'refused', reason: answer }
    }
    case 'meet':
      return { ...(await answers.meet(question.root, from, question.standing)) }
    default:
      await answers.told(question.op, question.root, from)
      return {}
  }
}
