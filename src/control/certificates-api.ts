// The calls about certificates, as types: inviting, granting, revoking and issuing, for the owner of a node alone.
//
//   POST   /v1/trust/invites        InviteRequest -> InviteResult
//   POST   /v1/trust/grants         GrantRequest  -> GrantResult
//   POST   /v1/trust/revocations    RevokeRequest -> RevokeResult
//   POST   /v1/trust/certificates   IssueRequest  -> IssueResult
//   POST   /v1/trust/rotations      RotateRequest -> RotateResult
//   GET    /v1/trust/certificates                    { certificates: IssuedCertificate[] }
import type { CallOptions } from '../base/lifecycle.ts'

export interface InviteRequest {
  readonly expiresSeconds?: number | undefined
  /** Name in DNS that leads to the network. */
  readonly name?: string | undefined
  /** For people: whom or what it is for. */
  readonly label?: string | undefined
  readonly roles?: readonly string[] | undefined
  readonly capabilities?: readonly string[] | undefined
}

export interface InviteResult {
  /** One line; a secret until it is used. */
  readonly invite: string
  readonly expires: string
}

export interface GrantRequest {
  /** Package names and patterns. */
  readonly names: readonly string[]
  /** A peer id. */
  readonly to: string
  readonly rights?: readonly string[] | undefined
  /** The peer is to sign as this node's publisher. */
  readonly delegate?: boolean | undefined
}

export interface GrantResult {
  readonly certificate: string
  /** Whom the peer signs as by this certificate. */
  readonly publisher: string
  readonly peer: string
  readonly names: readonly string[]
  readonly rights: readonly string[]
  readonly notAfter: string
  readonly by: 'authority' | 'delegation'
  /** False: the peer gets it when it connects. */
  readonly delivered: boolean
  readonly warnings: readonly string[]
}

export interface RevokeRequest {
  /** A peer id, or the fingerprint of a certificate. */
  readonly target: string
  readonly reason?: string | undefined
  /** The target is a publisher's certificate, and its node, which is trusted still, may replace the keys. */
  readonly allowRotation?: boolean | undefined
}

export interface RevokeResult {
  /** Fingerprints. */
  readonly revoked: readonly string[]
  /** Of the revocation list that says so, and until when it is believed. */
  readonly sequence: number
  readonly expires: string
}

export interface IssueRequest {
  /** The text of the file that `catalog init --request` wrote. */
  readonly request: string
  readonly label?: string | undefined
  readonly roles?: readonly string[] | undefined
  readonly capabilities?: readonly string[] | undefined
}

export interface IssueResult {
  /** The text of the file that the other node's `init` takes. */
  readonly membership: string
  /** Root fingerprint for which it is believed: to be told to the other node another way than the file. */
  readonly root: string
  readonly peer: string
  readonly publisher: string
}

export interface IssuedCertificate {
  readonly certificate: string
  readonly type: 'authority' | 'node' | 'publisher'
  readonly label?: string
  /** The node that got it. */
  readonly peer?: string
  readonly publisher?: string
  readonly names?: readonly string[]
  readonly rights?: readonly string[]
  readonly roles?: readonly string[]
  readonly capabilities?: readonly string[]
  readonly issuedAt: string
  readonly notAfter: string
  readonly state: 'valid' | 'expired' | 'revoked'
  readonly revokedAt?: string
  readonly reason?: string
}

export interface RotateRequest {
  readonly what: 'publisher'
  /** The old certificate is to hold no more: others may have its keys. */
  readonly revokeOld?: boolean | undefined
  readonly reason?: string | undefined
}

export interface RotateResult {
  /** The publisher's id, which stays. */
  readonly publisher: string
  readonly certificate: string
  /** Fingerprint of the new keys. */
  readonly keys: string
  readonly notAfter: string
  /** The authority that certified them. */
  readonly by: string
  readonly previous: { readonly certificate: string; readonly keys: string; readonly revoked: boolean }
  /** How many heads were signed anew. */
  readonly heads: number
  readonly warnings: readonly string[]
}

/** Every method may throw CatalogError; all but `grant` and `rotate` need a node that is an authority (`capability-missing`). */
export interface CertificatesApi {
  invite(request: InviteRequest): Promise<InviteResult>
  grant(request: GrantRequest, options: CallOptions): Promise<GrantResult>
  revoke(request: RevokeRequest): Promise<RevokeResult>
  issue(request: IssueRequest): Promise<IssueResult>
  /** The newest first. */
  issued(): Promise<IssuedCertificate[]>
  /** Other keys for this node's publisher. */
  rotate(request: RotateRequest, options: CallOptions): Promise<RotateResult>
}
