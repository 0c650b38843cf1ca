// Proves envelopes without holding up the event loop: one at a time here, several at once in a thread; what was
// proved before is not proved again.
import { setImmediate } from 'node:timers/promises'
import { LRUCache } from 'lru-cache'
import PQueue from 'p-queue'
import type { Envelope } from '../assets/release.ts'
import type { Verified } from '../assets/stage.ts'
import type { CidText } from '../base/cid.ts'
import { CatalogError } from '../base/errors.ts'
import { CheckBatches } from './check-batches.ts'
import { CryptoThread, type CryptoThreadOptions, defaultCryptoThreadOptions } from './crypto-thread.ts'
import { acceptChecked, signatureCheckOf, verifyEnvelope } from './envelope.ts'
import type { SignatureCheck } from './signature-check.ts'
import type { SignatureAlgorithm } from './signature-scheme.ts'

export interface VerifierOptions extends CryptoThreadOptions {
  /** Ids of proved envelopes to remember. */
  readonly maxRemembered: number
  /** Envelopes that may be under way at once; more are refused with `busy`. */
  readonly maxUnderWay: number
}

export const defaultVerifierOptions: VerifierOptions = {
  ...defaultCryptoThreadOptions,
  // About 150 bytes each: 1.5 MiB.
  maxRemembered: 10_000,
  // At 128 KiB at most and 5 KiB typically, what waits stays within reason.
  maxUnderWay: 2_000,
}

export interface VerifierDeps {
  /** Throws where the certificates do not let who signed sign: trust-chain.ts. Cheaper than the signatures, so first. */
  readonly proveStatement: (envelope: Envelope) => Promise<void>
}

export class Verifier {
  readonly #deps: VerifierDeps
  readonly #thread: CryptoThread
  readonly #batches: CheckBatches
  readonly #proved: LRUCache<CidText, true>
  /** Few at a time: the form check here is spread. Two full batches keep the thread at work. */
  readonly #queue = new PQueue({ concurrency: 32 })
  readonly #maxUnderWay: number
  #underWay = 0

  constructor(deps: VerifierDeps, options: Partial<VerifierOptions> = {}) {
    const { maxRemembered, maxUnderWay, ...threadOptions } = { ...defaultVerifierOptions, ...options }
    this.#deps = deps
    this.#thread = new CryptoThread({}, threadOptions)
    this.#batches = new CheckBatches(
      { checkAll: checks => this.#thread.perform({ type: 'check', checks }) },
      { maxWaiting: threadOptions.maxWaiting },
    )
    this.#maxUnderWay = maxUnderWay
    this.#proved = new LRUCache({ max: maxRemembered })
  }

  /**
   * Proves an envelope that `decodeEnvelope` gave (its id is then the hash of its bytes).
   * @throws CatalogError `bad-signature`, `certificate-…`; `busy` when too many wait; `daemon-stopping`
   */
  async verify<E extends Envelope>(envelope: E): Promise<Verified<E>> {
    // What is revoked changes; signatures that held once hold for ever.
    await this.#deps.proveStatement(envelope)
    if (this.#proved.has(envelope.id)) return acceptChecked(envelope, undefined)
    if (this.#underWay >= this.#maxUnderWay)
      throw new CatalogError(
        'busy',
        `A record was not verified: ${this.#underWay} wait already; try again later.`,
      )
    this.#underWay += 1
    try {
      const alone = this.#underWay === 1
      await setImmediate()
      const proved = alone
        ? verifyEnvelope(envelope)
        : await this.#queue.add(() => this.#verifyInThread(envelope))
      this.#proved.set(envelope.id, true)
      return proved
    } finally {
      this.#underWay -= 1
    }
  }

  /** One check of signatures, in the thread. The algorithm that failed, or undefined. @throws CatalogError `busy`, `daemon-stopping` */
  check(check: SignatureCheck): Promise<SignatureAlgorithm | undefined> {
    return this.#batches.check(check)
  }

  async #verifyInThread<E extends Envelope>(envelope: E): Promise<Verified<E>> {
    return acceptChecked(envelope, await this.check(signatureCheckOf(envelope)))
  }

  stop(): Promise<void> {
    return this.#thread.stop()
  }
}
