// The certificate calls of a NodeApi in memory: they keep a ledger of what was asked for, and sign nothing.
import { CatalogError } from '../../src/base/errors.ts'
import type {
  CertificatesApi,
  GrantRequest,
  InviteRequest,
  IssuedCertificate,
  IssueRequest,
  RevokeRequest,
  RotateRequest,
} from '../../src/control/certificates-api.ts'

const peer = `12D3KooW${'a'.repeat(44)}`

export class MemoryCertificates implements CertificatesApi {
  readonly ledger: IssuedCertificate[] = []
  readonly invites: InviteRequest[] = []
  /** Whether peers are connected. */
  connected = true

  async invite(request: InviteRequest) {
    this.invites.push(request)
    const expires = new Date(Date.UTC(2026, 10, 22) + (request.expiresSeconds ?? 86_400) * 1000).toISOString()
    return { invite: `catalog-invite-${'a'.repeat(60)}`, expires }
  }

  async grant({ names, to, rights = ['publish', 'yank', 'delegate'], delegate = false }: GrantRequest) {
    const publisher = delegate ? 'bown' : 'btheirs'
    const issued = this.#issue('publisher', { peer: to, names, publisher, rights })
    const by = delegate ? ('delegation' as const) : ('authority' as const)
    const { certificate, notAfter } = issued
    return {
      certificate,
      publisher,
      peer: to,
      names,
      rights,
      notAfter,
      by,
      delivered: this.connected,
      warnings: [],
    }
  }

  async revoke({ target, reason = 'no reason given' }: RevokeRequest) {
    const found = this.ledger.filter(one => one.certificate === target || one.peer === target)
    if (found.length === 0)
      throw new CatalogError('not-found', `Nothing was revoked: nothing was issued to ${target}.`)
    for (const one of found)
      this.ledger[this.ledger.indexOf(one)] = { ...one, state: 'revoked', revokedAt: one.issuedAt, reason }
    return {
      revoked: found.map(({ certificate }) => certificate),
      sequence: 2,
      expires: '2026-12-22T00:00:00.000Z',
    }
  }

  async issue({ request, label = 'by file', roles = ['store'] }: IssueRequest) {
    if (!request.startsWith('catalog-request-v1 '))
      throw new CatalogError('certificate-malformed', 'The request is malformed.')
    this.#issue('node', { peer, label, roles })
    return { membership: 'catalog-membership-v1 AAAA\n', root: 'broot', peer, publisher: 'btheirs' }
  }

  async issued() {
    return this.ledger
  }

  async rotate({ revokeOld = false }: RotateRequest) {
    const { certificate, notAfter } = this.#issue('publisher', { peer, publisher: 'bown' })
    const previous = { certificate: 'bbefore', keys: 'bold', revoked: revokeOld }
    return {
      publisher: 'bown',
      certificate,
      keys: 'bnew',
      notAfter,
      by: peer,
      previous,
      heads: 1,
      warnings: [],
    }
  }

  #issue(type: IssuedCertificate['type'], more: Partial<IssuedCertificate>): IssuedCertificate {
    const certificate = `b${String(this.ledger.length).padStart(55, 'a')}`
    const [issuedAt, notAfter] = ['2026-11-22T00:00:00.000Z', '2027-02-20T00:00:00.000Z']
    const one = { certificate, type, issuedAt, notAfter, state: 'valid' as const, ...more }
    this.ledger.push(one)
    return one
  }
}
