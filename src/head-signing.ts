// As whom this node signs what: releases, heads and freshness statements, by the identities that it has at that moment.
// A part of the composition root.
import type { Statement } from './assets/release.ts'
import type { Log } from './base/log.ts'
import type { HealDeps } from './flows/heal.ts'
import type { NextHeadDeps } from './flows/next-head.ts'
import { type RenewDeps, renewHeads } from './flows/renew.ts'
import { type OldKeys, resignHeads } from './flows/resign.ts'
import type { OwnCatalogue } from './own-catalogue.ts'
import type { PublisherRight } from './trust/certificate.ts'
import { type EnvelopeSigner, sealStatement } from './trust/envelope.ts'
import { grantsName } from './trust/name-pattern.ts'
import type { PublisherIdentities } from './trust/publisher-identities.ts'

export interface HeadSigningDeps {
  readonly identities: PublisherIdentities
  readonly heads: Omit<NextHeadDeps, 'publisher' | 'seal' | 'catalogue'>
  readonly catalogue: OwnCatalogue
  readonly announceHead: (publisher: string, name: string) => Promise<void>
  readonly log: Log
}

type Signs = Pick<NextHeadDeps, 'publisher' | 'seal'>

export class HeadSigning {
  readonly #deps: HeadSigningDeps

  constructor(deps: HeadSigningDeps) {
    this.#deps = deps
  }

  /** Who signs for a name. @throws CatalogError `certificate-name-not-granted`, and what is wrong with its certificate */
  for(name: string, rights: readonly PublisherRight[]): Signs {
    const { identities } = this.#deps
    const { fingerprint: publisher } = identities.for(name, rights)
    // Who it is now is asked when it is signed: keys may be rotated while a large package is stored.
    const seal = <S extends Statement>(statement: S) =>
      sealStatement(statement, identities.for(name, rights, publisher))
    return { publisher, seal }
  }

  /** Renews every head that is due; resolves to how many were. */
  async renewAll(): Promise<number> {
    const { identities, heads, catalogue, announceHead } = this.#deps
    let renewed = 0
    for (const identity of identities.list()) {
      const { names, rights } = identity.certificate
      const right = rights.includes('publish') ? 'head' : rights.includes('freshen') ? 'freshness' : undefined
      const signs: RenewDeps['signs'] = name => (grantsName(names, name) ? right : undefined)
      renewed += await renewHeads({ ...heads, catalogue, announceHead, signs, ...sealAs(identity) })
    }
    return renewed
  }

  /** After the publisher's keys were rotated: every head that the old ones signed. */
  async signAnew({ keys: key, distrusted }: { keys: Uint8Array } & Pick<OldKeys, 'distrusted'>) {
    const { identities, heads, catalogue, announceHead } = this.#deps
    const [identity] = identities.list()
    if (identity === undefined) throw new Error('a node has a publisher of its own')
    const { names, rights } = identity.certificate
    const may = rights.includes('publish') || rights.includes('yank')
    const signs = (name: string) => may && grantsName(names, name)
    return resignHeads({ ...heads, catalogue, announceHead, signs, ...sealAs(identity) }, { key, distrusted })
  }

  /** What uniting a name's heads takes; undefined where this node does not sign for it. */
  healing(publisher: string, name: string): HealDeps | undefined {
    const { identities, heads, catalogue, announceHead, log } = this.#deps
    const identity = identities
      .list()
      .find(one => one.fingerprint === publisher && grantsName(one.certificate.names, name))
    if (identity === undefined) return undefined
    const signingKey = identity.publicKeys.ed25519
    return { ...heads, catalogue, announceHead, log, signingKey, ...sealAs(identity) }
  }
}

const sealAs = (identity: EnvelopeSigner): Signs => ({
  publisher: identity.fingerprint,
  seal: statement => sealStatement(statement, identity),
})
