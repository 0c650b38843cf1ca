// What the composition root starts in order and stops in reverse.

export interface Service {
  start?(): Promise<void>
  /** Safe to call twice and before `start`; bounded in time. */
  stop?(): Promise<void>
}

/** Options that every asynchronous call takes. */
export interface CallOptions {
  readonly signal?: AbortSignal | undefined
}
