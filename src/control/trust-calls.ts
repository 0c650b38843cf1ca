// The calls about what this node believes, who it is, and what it may do, as types; they change nothing. Times are in
// milliseconds since 1970 (UTC), fingerprints are base32 multihashes.
//
//   GET    /v1/trust                          TrustView
//   POST   /v1/trust/can                      CanQuestion -> CanAnswer
//   POST   /v1/trust/export                   ExportRequest -> ExportResult

export interface StandingView {
  readonly state: 'current' | 'stale' | 'refused'
  /** A sentence; absent where all is well. */
  readonly why?: string
  readonly since?: number
}

export interface CertificateView {
  readonly type: 'authority' | 'node' | 'publisher'
  readonly certificate: string
  /** Fingerprint of the keys that it is for. */
  readonly subject: string
  readonly issuer: string
  readonly label?: string
  readonly notBefore: number
  readonly notAfter: number
  readonly roles?: readonly string[]
  readonly capabilities?: readonly string[]
  readonly publisher?: string
  readonly names?: readonly string[]
  readonly rights?: readonly string[]
  readonly issues?: readonly string[]
  readonly standing: StandingView
}

export interface AuthorityView {
  readonly certificate: string
  readonly label?: string
  /** The newest revocation list of it that is known here. */
  readonly list: { readonly sequence: number; readonly issuedAt: number; readonly expiresAt: number }
  readonly revoked: readonly { readonly certificate: string; readonly at: number; readonly reason: string }[]
}

export interface TrustView {
  readonly network: {
    readonly name: string
    /** Fingerprint of the first root: names the network for ever. */
    readonly root: string
    readonly version: number
    readonly threshold: number
    readonly keys: readonly string[]
    readonly notAfter: number
    readonly revoked: readonly string[]
  }
  /** Of this node's membership. */
  readonly standing: StandingView
  readonly node: CertificateView
  /** As whom this node may sign: its own publisher first, then those that delegate to it. */
  readonly publishers: readonly CertificateView[]
  /** Present where this node is an authority. */
  readonly authority?: CertificateView
  readonly authorities: readonly AuthorityView[]
}

export const trustOperations = [
  'fetch',
  'publish',
  'yank',
  'delegate',
  'replicate',
  'execute',
  'administer',
] as const
export type TrustOperation = (typeof trustOperations)[number]

export interface CanQuestion {
  readonly operation: TrustOperation
  /** A connected peer, asking this node; absent: this node, asking others. */
  readonly peer?: string | undefined
  /** A package name, for what is done to names. */
  readonly name?: string | undefined
}

export interface CanAnswer {
  readonly allowed: boolean
  readonly who: string
  /** What was looked at, in order; the first that does not hold decides. */
  readonly checks: readonly { readonly check: string; readonly holds: boolean; readonly says: string }[]
}

export interface ExportRequest {
  /** `node` (default), `publisher`, `authority`, or the fingerprint of one that this authority has issued. */
  readonly of?: string | undefined
  /** As X.509 instead of a chain in our own form: only where its issuer's key is here. */
  readonly x509?: boolean | undefined
}

export interface ExportResult {
  readonly certificate: string
  readonly form: 'catalog' | 'x509'
  readonly pem: string
}

export interface TrustApi {
  show(): Promise<TrustView>
  can(question: CanQuestion): Promise<CanAnswer>
  /** @throws CatalogError `not-found`, `capability-missing`, `invalid-request` */
  export(request: ExportRequest): Promise<ExportResult>
}
