// Holds a publisher's secret keys and signs with both algorithms; Falcon in a thread, because it takes 7-20 ms. The keys
// of one signer never change: what is being signed while they are rotated ends with the keys that it began with.
import type { Signature } from '../assets/release.ts'
import { CryptoThread, type CryptoThreadOptions } from './crypto-thread.ts'
import { ed25519 } from './ed25519-scheme.ts'
import type { EnvelopeSigner } from './envelope.ts'
import type { PublisherKeys } from './keys.ts'

export class Signer implements EnvelopeSigner {
  readonly #keys: PublisherKeys
  readonly #thread: CryptoThread

  constructor(
    deps: { readonly keys: PublisherKeys; readonly thread?: CryptoThread },
    options: Partial<CryptoThreadOptions> = {},
  ) {
    this.#keys = deps.keys
    this.#thread = deps.thread ?? new CryptoThread({}, options)
  }

  /** A signer with other keys in the same thread: whichever is stopped, both are. */
  withKeys(keys: PublisherKeys): Signer {
    return new Signer({ keys, thread: this.#thread })
  }

  get fingerprint(): string {
    return this.#keys.fingerprint
  }

  get publicKeys(): { readonly ed25519: Uint8Array; readonly falcon: Uint8Array } {
    return { ed25519: this.#keys.ed25519.publicKey, falcon: this.#keys.falcon.publicKey }
  }

  /** Both signatures of the message, in the order that envelopes carry them. @throws CatalogError `busy`, `daemon-stopping`, `internal` */
  async sign(message: Uint8Array): Promise<readonly Signature[]> {
    const { ed25519: classical, falcon: quantumSafe } = this.#keys
    const signature = await this.#thread.perform({
      type: 'falcon-sign',
      message,
      secretKey: quantumSafe.secretKey,
    })
    return [
      {
        algorithm: 'ed25519',
        key: classical.publicKey,
        signature: ed25519.sign(message, classical.secretKey),
      },
      { algorithm: 'falcon-1024-r3', key: quantumSafe.publicKey, signature },
    ]
  }

  stop(): Promise<void> {
    return this.#thread.stop()
  }
}
