// Takes back what this node's publisher has delegated: a revocation list of the publisher's own, signed with its keys. It
// needs no authority, and counts against certificates below this publisher alone. A list falls with the certificate that
// signed it: when the keys were rotated, or what a thief of them signed has fallen, it is signed anew.
//
//   records: `list`: the newest list, durable before anybody hears of it
import { CatalogError } from '../base/errors.ts'
import type { KeyValue } from '../base/key-value.ts'
import type { Service } from '../base/lifecycle.ts'
import type { Log } from '../base/log.ts'
import { OneAtATime } from '../base/one-at-a-time.ts'
import type { PeerText } from '../network/host.ts'
import { keyOfPeer } from '../network/identity.ts'
import { leafOf, type PublisherGrant } from '../trust/certificate.ts'
import { isFingerprint } from '../trust/fields.ts'
import type { Issuer } from '../trust/issuer.ts'
import {
  decodeRevocations,
  type Revocation,
  type RevocationList,
  revocationLifetimeMs,
  signRevocations,
  withdrawalLimits,
} from '../trust/revocation-list.ts'
import type { TrustChain } from '../trust/trust-chain.ts'
import type { OwnCertificates } from './certificates-server.ts'

export interface WithdrawalsDeps {
  readonly own: Pick<OwnCertificates, 'publisher' | 'chain'>
  /** What this node's publisher delegates with. */
  readonly delegations: Issuer
  readonly records: KeyValue
  readonly trust: Pick<TrustChain, 'accept' | 'withdrawalsOf' | 'onChange'>
  readonly now: () => number
  readonly log: Log
}

export class Withdrawals implements Service {
  readonly #deps: WithdrawalsDeps
  readonly #turn = new OneAtATime()
  #unsubscribe: (() => void) | undefined

  constructor(deps: WithdrawalsDeps) {
    this.#deps = deps
  }

  async start(): Promise<void> {
    this.#unsubscribe = this.#deps.trust.onChange(change => {
      if (change === 'revoked') void this.#catchUp()
    })
    await this.#catchUp()
  }

  async stop(): Promise<void> {
    this.#unsubscribe?.()
    await this.#turn.settled()
  }

  /** Signs the list again where it is not the one that is believed. */
  async #catchUp(): Promise<void> {
    const { own, records, trust, log } = this.#deps
    try {
      const stored = await records.get('list')
      if (stored === undefined) return
      const leaf = leafOf<PublisherGrant>(own.chain('publisher'))
      const { fingerprint } = decodeRevocations(stored)
      if (trust.withdrawalsOf(leaf)?.fingerprint !== fingerprint) await this.renew()
    } catch (error) {
      log.warn(
        { error: String(error) },
        'what this publisher took back from delegates is not believed any more',
      )
    }
  }

  /** What of the publisher's delegations a fingerprint or a peer stands for; only what still holds. */
  async targets(target: string): Promise<readonly string[]> {
    const { delegations, now } = this.#deps
    if (isFingerprint(target)) return (await delegations.ledger.get(target)) === undefined ? [] : [target]
    const holder = keyOfPeer(target as PeerText)
    const entries = holder === undefined ? [] : await delegations.ledger.ofHolder(holder)
    return entries
      .filter(({ certificate }) => certificate.notAfter >= now() && !delegations.isRevoked(certificate))
      .map(({ certificate }) => certificate.fingerprint)
  }

  /** A new list that has these too; durable and believed here when it resolves. @throws CatalogError `quota-exceeded`, and as `TrustChain.accept` */
  revoke(fingerprints: readonly string[], reason: string): Promise<RevocationList> {
    return this.#turn.run(() => this.#revoke(fingerprints, reason))
  }

  /** The same list by the keys of now; nothing where none was made. */
  renew(): Promise<void> {
    return this.#turn.run(async () => {
      if ((await this.#deps.records.get('list')) !== undefined) await this.#revoke([], '')
    })
  }

  async #revoke(fingerprints: readonly string[], reason: string): Promise<RevocationList> {
    const { own, trust, now, records } = this.#deps
    const [chain, signer] = [own.chain('publisher'), own.publisher]
    const leaf = leafOf<PublisherGrant>(chain)
    const stored = await records.get('list')
    const believed = trust.withdrawalsOf(leaf)
    const lists = [stored === undefined ? undefined : decodeRevocations(stored), believed]
    const known = lists.flatMap(list => list?.revoked ?? [])
    const before = [...new Map(known.map(one => [one.certificate, one])).values()]
    const held = new Set(before.map(({ certificate }) => certificate))
    const at = now()
    const added = fingerprints
      .filter(certificate => !held.has(certificate))
      .map(certificate => ({ certificate, at, reason: reason || 'no reason given' }))
    const revoked = [...(await this.#live(before)), ...added]
    if (revoked.length > withdrawalLimits.maxRevoked)
      throw new CatalogError(
        'quota-exceeded',
        `Nothing was revoked: a publisher can take back ${withdrawalLimits.maxRevoked} delegations that have not expired. An authority of the network can revoke more.`,
      )
    const sequence = Math.max(...lists.map(list => list?.sequence ?? 0)) + 1
    if (!Number.isSafeInteger(sequence))
      throw new CatalogError(
        'too-large',
        'Nothing was revoked: the list of this publisher cannot be numbered any higher. Whoever signed the one before meant harm: `catalog trust rotate publisher --revoke-old`.',
      )
    const list = await signRevocations(
      {
        ...{ type: 'revocations', network: leaf.network, issuer: leaf.fingerprint },
        ...{ sequence, issuedAt: at, expiresAt: at + revocationLifetimeMs },
        ...{ revoked, chain },
      },
      signer,
    )
    await records.put('list', list.bytes)
    await trust.accept(list.bytes)
    return list
  }

  /** What has expired needs no list any more. */
  async #live(revoked: readonly Revocation[]): Promise<readonly Revocation[]> {
    const { delegations, now } = this.#deps
    const ends = await Promise.all(
      revoked.map(
        async ({ certificate }) => (await delegations.ledger.get(certificate))?.certificate.notAfter,
      ),
    )
    return revoked.filter((_one, at) => (ends[at] ?? Number.POSITIVE_INFINITY) >= now())
  }
}
