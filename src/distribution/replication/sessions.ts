// Questions of the replication protocol to one peer: a stream for each, bounded in time. What is asked, and what the
// answers mean, is not its business.
import { withTimeout } from '../../base/deadline.ts'
import { CatalogError } from '../../base/errors.ts'
import type { CallOptions } from '../../base/lifecycle.ts'
import { encodeFrame, FrameReader, type Message } from '../../network/frames.ts'
import type { Host } from '../../network/host.ts'
import {
  decodeOfferAnswer,
  decodeStanding,
  encodeQuestion,
  type Offer,
  type Question,
  type Refusal,
  replicateLimits,
  replicateProtocol,
  type Standing,
} from '../replication-protocol.ts'

export class ReplicationSessions {
  readonly #host: Pick<Host, 'open'>
  readonly #askMs: number

  /** `askMs`: how long one question may take, opening the stream included. */
  constructor(host: Pick<Host, 'open'>, askMs: number) {
    this.#host = host
    this.#askMs = askMs
  }

  /** @throws CatalogError `peer-unreachable`, `bad-peer-message`, `timeout`; for everything below too */
  async offer(peer: string, offer: Offer, options: CallOptions): Promise<'accepted' | Refusal> {
    // It fetches and proves the record before it answers.
    return decodeOfferAnswer(await this.#ask(peer, { op: 'offer', offer }, options, 2 * this.#askMs))
  }

  async meet(peer: string, root: string, standing: Standing, options: CallOptions): Promise<Standing> {
    return decodeStanding(await this.#ask(peer, { op: 'meet', root, standing }, options))
  }

  async tell(
    peer: string,
    op: 'check' | 'release' | 'leave',
    root: string,
    options: CallOptions,
  ): Promise<void> {
    await this.#ask(peer, { op, root }, options)
  }

  /** Whether anybody is there who speaks this protocol. */
  async probe(peer: string, options: CallOptions): Promise<void> {
    const stream = await this.#host.open(peer, replicateProtocol, { signal: this.#patience(options) })
    await stream.close()
  }

  #patience({ signal }: CallOptions, ms = this.#askMs): AbortSignal {
    return withTimeout(signal, ms)
  }

  async #ask(peer: string, question: Question, options: CallOptions, ms = this.#askMs): Promise<Message> {
    const signal = this.#patience(options, ms)
    const stream = await this.#host.open(peer, replicateProtocol, { signal })
    try {
      await stream.write(encodeFrame(encodeQuestion(question)), { signal })
      const answer = await new FrameReader(stream).message(replicateLimits.maxMessageBytes, { signal })
      if (answer === undefined)
        throw new CatalogError('bad-peer-message', `The peer ${peer} gave no answer about its copy.`, {
          peer,
        })
      await stream.close()
      return answer
    } catch (error) {
      stream.abort(error as Error)
      throw error
    }
  }
}
