// What a case of the hostile suite is. The runner (hostile.test.ts) plays each twice, in networks of their own: as the
// attacker means it, and in its honest form, which differs in nothing but what the case is about.
import type { ErrorCode } from '../../src/base/errors.ts'
import type { RecordKey } from '../../src/network/router.ts'
import type { EnvelopeSigner } from '../../src/trust/envelope.ts'
import { type Attacker, nextHead, seal, type Way } from './attacker.ts'
import type { World } from './world.ts'

export interface Play {
  /** What the attacker shows, in this order; all but the last are harmless. */
  readonly shows?: readonly Uint8Array[]
  /** Where it lies in the DHT, if not where it belongs. */
  readonly key?: RecordKey
  /** What the client then tries to install: where this is given, what was shown may be kept, and this is refused. */
  readonly installs?: string
  /** Anything else that the client does or undergoes; rejects where it is refused. */
  readonly does?: () => Promise<unknown>
}

export interface Case {
  readonly name: string
  /** What the attacker has. */
  readonly has: string
  readonly code: ErrorCode
  /** What the sentence says: one code has several causes. */
  readonly says?: RegExp
  /** Default: by reconciliation, the usual way. */
  readonly ways?: readonly Way[]
  readonly play: (world: World, evil: boolean, attacker: Attacker) => Promise<Play>
  /** What honest people do about it, before the next release. */
  readonly recover?: (world: World) => Promise<unknown>
}

/** A case of one record that is refused on arrival. */
export const record = (
  name: string,
  has: string,
  code: ErrorCode,
  make: (world: World, evil: boolean) => Promise<Uint8Array> | Uint8Array,
  more: Partial<Case> = {},
): Case => ({ name, has, code, play: async (world, evil) => ({ shows: [await make(world, evil)] }), ...more })

/** A case of several records, of which the last is refused on arrival. */
export const last = (
  name: string,
  has: string,
  code: ErrorCode,
  make: (world: World, evil: boolean) => Promise<readonly Uint8Array[]>,
  more: Partial<Case> = {},
): Case => ({ name, has, code, play: async (world, evil) => ({ shows: await make(world, evil) }), ...more })

export type SignerFor = (world: World, evil: boolean) => EnvelopeSigner | Promise<EnvelopeSigner>

/** The next head, signed by somebody whose chain does not hold; in its honest form, does. */
export const head = (
  name: string,
  has: string,
  code: Case['code'],
  signer: SignerFor,
  more: Partial<Case> = {},
): Case =>
  record(name, has, code, async (world, evil) => seal(nextHead(world), await signer(world, evil)), {
    ways: ['sync', 'dht'],
    ...more,
  })
