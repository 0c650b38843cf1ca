// heal: machines of this publisher signed heads without hearing of each other's: under one number, and every node holds
// the name back; or under several, and some nodes know one list and some the other. One machine signs the next head,
// which lists what all did: the one with the lowest key at once, another only if nothing came. Where one key signed two
// under one number there is nothing to heal here: somebody else has the key, or a backup was restored.
import { signingKeyOf } from '../assets/release.ts'
import { equalBytes } from '../base/cbor.ts'
import { pause } from '../base/deadline.ts'
import type { Log } from '../base/log.ts'
import { addNextHead, type NextHeadDeps } from './next-head.ts'

export interface HealDeps extends NextHeadDeps {
  /** The Ed25519 key that this node signs heads with. */
  readonly signingKey: Uint8Array
  readonly announceHead: (publisher: string, name: string) => Promise<void>
  readonly log: Log
}

export interface HealOptions {
  /** How long the machine with the higher key waits for the other. */
  readonly graceMs: number
  readonly signal: AbortSignal
}

/** News of the other's head reaches connected peers within 5 s. */
export const healGraceMs = 15_000

/** Resolves to whether this node signed a head that puts it right. */
export async function healHead(deps: HealDeps, name: string, options: HealOptions): Promise<boolean> {
  const turn = await turnOf(deps, name)
  if (turn === undefined) return false
  if (turn === 'later') await pause(options.graceMs, options.signal)
  if (options.signal.aborted) return false
  return deps.exclusively(name, async () => {
    if ((await turnOf(deps, name)) === undefined) return false
    const next = await addNextHead(deps, name, () => undefined)
    if (next === undefined) return false
    deps.log.info(
      { package: name, sequence: next.statement.sequence },
      'heads that two machines signed were united',
    )
    await deps.announceHead(deps.publisher, name)
    return true
  })
}

/** Whether this node is one of those that did not hear each other, and whether it is its turn. */
async function turnOf(deps: HealDeps, name: string): Promise<'now' | 'later' | undefined> {
  const { publisher, catalogue } = deps
  const proofs = await catalogue.contradictions(publisher, name)
  const divergent = await catalogue.divergent(publisher, name)
  if (proofs.length === 0 && divergent.length === 0) return undefined
  const signers = proofs.map(({ heads }) => heads.map(signingKeyOf))
  const isOwn = (key: Uint8Array) => equalBytes(key, deps.signingKey)
  if (signers.some(pair => pair.every(isOwn))) {
    deps.log.error(
      { package: name, publisher: deps.publisher },
      'heads that contradict each other were signed with the key of this node: rotate it, and find out who else has it',
    )
    return undefined
  }
  const current = await catalogue.head(publisher, name)
  const heads = [...divergent, ...(current === undefined ? [] : [current])]
  const keys = [...signers.flat(), ...heads.map(signingKeyOf)]
  if (!keys.some(isOwn)) return undefined
  const isLowest = keys.every(key => Buffer.compare(deps.signingKey, key) <= 0)
  return isLowest ? 'now' : 'later'
}
