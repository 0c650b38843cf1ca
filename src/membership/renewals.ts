// Keeps certificates from expiring: this node's own, by asking the authorities it is connected to (or the one that it
// is itself), and those that its publisher has delegated, by handing new ones over before the old ones end.
import { settleWithin } from '../base/deadline.ts'
import { CatalogError } from '../base/errors.ts'
import type { Service } from '../base/lifecycle.ts'
import type { Log } from '../base/log.ts'
import type { Host, PeerText } from '../network/host.ts'
import { keyOfPeer, peerOfKey } from '../network/identity.ts'
import type { Authority } from '../trust/authority.ts'
import { type Certificate, leafOf } from '../trust/certificate.ts'
import { type Issuer, isDue } from '../trust/issuer.ts'
import { askRenewal, type Chain } from './certificates-protocol.ts'
import type { CertificatesServer, OwnCertificates } from './certificates-server.ts'
import type { Outbox } from './outbox.ts'

const dayMs = 24 * 3600 * 1000

export interface RenewalsOptions {
  /** Milliseconds between looks whether something is due. */
  readonly checkMs: number
  /** With less than this left of a certificate and no authority in reach, the log warns once a day. */
  readonly warnMs: number
}

export const defaultRenewalsOptions: RenewalsOptions = {
  // A third of a node's 90 days leaves 30 to find an authority in.
  checkMs: 3600 * 1000,
  warnMs: 10 * dayMs,
}

export interface RenewalsDeps {
  readonly host: Host
  readonly own: OwnCertificates
  readonly server: Pick<CertificatesServer, 'take'>
  readonly outbox: Pick<Outbox, 'send'>
  /** Where this node is an authority. */
  readonly authority?: Authority | undefined
  /** What this node's publisher delegates with. */
  readonly delegations: Issuer
  readonly now: () => number
  readonly log: Log
}

export class Renewals implements Service {
  readonly #deps: RenewalsDeps
  readonly #options: RenewalsOptions
  #stopping = new AbortController()
  #timer: NodeJS.Timeout | undefined
  #unsubscribe: (() => void) | undefined
  #running: Promise<void> | undefined
  #warnedAt = Number.NEGATIVE_INFINITY

  constructor(deps: RenewalsDeps, options: Partial<RenewalsOptions> = {}) {
    this.#deps = deps
    this.#options = { ...defaultRenewalsOptions, ...options }
  }

  async start(): Promise<void> {
    if (this.#stopping.signal.aborted) this.#stopping = new AbortController()
    await this.#adopt()
    this.#unsubscribe = this.#deps.host.onPeer((peer, change) => {
      if (change === 'connected' && this.#isAuthority(peer) && this.#due().length > 0) void this.check()
    })
    this.#timer = setInterval(() => void this.check(), this.#options.checkMs)
    this.#timer.unref()
    void this.check()
  }

  async stop(): Promise<void> {
    this.#unsubscribe?.()
    clearInterval(this.#timer)
    this.#stopping.abort(new CatalogError('daemon-stopping', 'This node is stopping.'))
    await settleWithin(this.#running ?? Promise.resolve(), 1000)
  }

  /** Renews what is due, as far as somebody is there who can. Never throws. */
  check(): Promise<void> {
    this.#running ??= this.#check()
      .catch((error: unknown) => {
        if (!this.#stopping.signal.aborted)
          this.#deps.log.error({ error: String(error) }, 'renewing certificates failed')
      })
      .finally(() => {
        this.#running = undefined
      })
    return this.#running
  }

  async #check(): Promise<void> {
    if (this.#due().length > 0) await this.#renewOwn()
    this.#warn()
    await this.#renewDelegations()
  }

  #own(): Certificate[] {
    const { own } = this.#deps
    return (['node', 'publisher'] as const).map(kind => leafOf(own.chain(kind)))
  }

  #due(): Certificate[] {
    return this.#own().filter(certificate => isDue(certificate, this.#deps.now()))
  }

  async #renewOwn(): Promise<void> {
    const { host, authority, log } = this.#deps
    const { signal } = this.#stopping
    const key = keyOfPeer(host.peer)
    if (authority !== undefined && key !== undefined) await this.#take(await authority.issuer.renewFor(key))
    for (const peer of this.#authorities()) {
      if (this.#due().length === 0 || signal.aborted) return
      try {
        await this.#take(await askRenewal(host, peer, { signal }))
      } catch (error) {
        log.debug({ peer, error: String(error) }, 'an authority did not renew the certificates of this node')
      }
    }
    if (authority !== undefined) await this.#take(await this.#vouch(authority))
  }

  /** An authority certifies its own node where the one that did is gone: it could do so for any. */
  #vouch(authority: Authority): Promise<readonly Chain[]> {
    const holder = keyOfPeer(this.#deps.host.peer)
    const issued = this.#due().flatMap(certificate => {
      const { subject, label } = certificate
      if (certificate.type === 'node') {
        const { roles, capabilities } = certificate
        return [authority.issueNode({ subject, label, roles, capabilities })]
      }
      if (certificate.type !== 'publisher') return []
      const { publisher, names, rights } = certificate
      return [authority.issuePublisher({ subject, label, publisher, names, rights, holder })]
    })
    return Promise.all(issued)
  }

  /** One that is refused does not keep the others from being used. */
  async #take(chains: readonly Chain[]): Promise<void> {
    for (const chain of chains)
      await this.#deps.server.take(chain).catch((error: unknown) => {
        this.#deps.log.warn({ error: String(error) }, 'a renewed certificate was refused')
      })
  }

  #warn(): void {
    const { now, log, authority } = this.#deps
    const at = now()
    const ends = ({ notAfter }: Certificate) => notAfter - at < this.#options.warnMs
    const ending = this.#own().filter(ends)
    const endingAuthority = authority !== undefined && ends(authority.certificate)
    if ((ending.length === 0 && !endingAuthority) || at - this.#warnedAt < dayMs) return
    this.#warnedAt = at
    for (const { type, notAfter } of ending)
      log.warn(
        { type, notAfter: new Date(notAfter).toISOString() },
        'a certificate of this node ends soon, and no authority of the network has renewed it: connect to one',
      )
    if (endingAuthority)
      log.warn(
        { notAfter: new Date(authority.certificate.notAfter).toISOString() },
        "this authority's certificate ends soon: the holders of the network's root must issue the next one",
      )
  }

  /** What this node's publisher has delegated, to each node once. */
  async #renewDelegations(): Promise<void> {
    const { delegations, outbox, now, log } = this.#deps
    const holders = new Map<PeerText, Uint8Array>()
    for await (const { holder, certificate } of delegations.ledger.entries())
      if (holder !== undefined && certificate.notAfter > now()) holders.set(peerOfKey(holder), holder)
    for (const [peer, holder] of holders) {
      if (this.#stopping.signal.aborted) return
      const before = new Set(
        (await delegations.current(holder)).map(({ certificate }) => certificate.fingerprint),
      )
      try {
        for (const chain of await delegations.renewFor(holder))
          if (!before.has(leafOf(chain).fingerprint)) await outbox.send(peer, chain)
      } catch (error) {
        log.warn({ peer, error: String(error) }, 'a delegation could not be renewed')
      }
    }
  }

  /** The founder's own certificates were made before there was a ledger. */
  async #adopt(): Promise<void> {
    const { authority, host, now } = this.#deps
    const holder = keyOfPeer(host.peer)
    if (authority === undefined || holder === undefined) return
    const { ledger } = authority.issuer
    for (const certificate of this.#own())
      if (
        certificate.issuer === authority.certificate.fingerprint &&
        (await ledger.get(certificate.fingerprint)) === undefined
      )
        await ledger.add({ certificate, issuedAt: Math.min(now(), certificate.notBefore), holder })
  }

  #authorities(): PeerText[] {
    const peers = new Set(this.#deps.host.connections().map(({ peer }) => peer))
    return [...peers].filter(peer => this.#isAuthority(peer))
  }

  #isAuthority(peer: PeerText): boolean {
    return this.#deps.host.admissionOf(peer)?.roles.has('authority') === true
  }
}
