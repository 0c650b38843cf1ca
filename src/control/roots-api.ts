// The calls about the network's root and its notices, as types: for the owner of a node alone.
//
//   GET    /v1/trust/root                     RootState: the newest root, for whoever proposes the next
//   POST   /v1/trust/notices                  NoticeRequest -> NoticeResult: a root or revocation list from a file

export interface RootState {
  readonly version: number
  readonly fingerprint: string
  /** Fingerprint of the first root: what names the network. */
  readonly network: string
  /** The document, in base64. */
  readonly document: string
  /** Authorities that a root has issued and that are known here, by the fingerprints of their certificates. */
  readonly authorities: readonly string[]
  /** All root documents from the first on, in base64: what a new member needs. */
  readonly roots: readonly string[]
}

export interface NoticeRequest {
  /** The document, in base64. */
  readonly document: string
}

export interface NoticeResult {
  /** `waiting`: what comes before it is missing. */
  readonly outcome: 'added' | 'known' | 'waiting'
}

export interface RootsApi {
  current(): Promise<RootState>
  accept(request: NoticeRequest): Promise<NoticeResult>
}
