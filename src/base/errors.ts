// Every failure that a caller can act on, in one table: its code, the process exit code of the command line
// and the HTTP status of the control socket. A code that is not in the table does not compile.

/** `exit` is the command line's exit code, `http` the control socket's status. */
interface ErrorClass {
  readonly exit: number
  readonly http: number
}

const usage: ErrorClass = { exit: 2, http: 400 }
const invalid: ErrorClass = { exit: 3, http: 422 }
const missing: ErrorClass = { exit: 4, http: 404 }
const unavailable: ErrorClass = { exit: 5, http: 503 }
const conflict: ErrorClass = { exit: 6, http: 409 }
const unproved: ErrorClass = { exit: 7, http: 502 }
const noRoom: ErrorClass = { exit: 8, http: 507 }
const refused: ErrorClass = { exit: 9, http: 403 }
const cannotRun: ErrorClass = { exit: 10, http: 501 }

/** What each exit code means, for `catalog --help` and the README. */
export const exitCodes: Readonly<Record<number, string>> = {
  0: 'done',
  1: 'an unexpected failure inside Catalog (please report it)',
  2: 'the command line or request is wrong',
  3: 'the input is invalid: a manifest, a package, a config file',
  4: 'what was named does not exist',
  5: 'something needed is not reachable: the daemon, a provider, a node',
  6: 'a conflict with what is already there',
  7: 'verification failed: a signature, a hash, a stale or forged record',
  8: 'no room: disk, quota or a size limit',
  9: 'refused: permission or policy',
  10: 'this machine cannot run it: no sandbox or no runtime',
  125: '`execute` itself failed; any other code is the payload’s own',
  130: 'cancelled',
}

export const errorTable = {
  internal: { exit: 1, http: 500 },
  'invalid-request': usage,
  'invalid-ref': usage,
  'unknown-command': usage,
  'invalid-manifest': invalid,
  'invalid-package': invalid,
  'invalid-config': invalid,
  'invalid-range': { exit: 3, http: 416 },
  'not-found': missing,
  'no-such-path': missing,
  'no-such-execution': missing,
  'no-such-file': missing,
  'not-initialised': missing,
  'daemon-not-running': unavailable,
  'daemon-stopping': unavailable,
  'no-providers': unavailable,
  'peer-unreachable': unavailable,
  'no-node-fits': unavailable,
  'execution-lost': unavailable,
  timeout: { exit: 5, http: 504 },
  busy: { exit: 5, http: 429 },
  'version-exists': conflict,
  'ambiguous-name': conflict,
  'already-running': conflict,
  'already-initialised': conflict,
  'output-exists': conflict,
  'result-not-ready': conflict,
  'bad-signature': unproved,
  'certificate-malformed': unproved,
  'certificate-expired': unproved,
  'certificate-not-yet-valid': unproved,
  'certificate-revoked': unproved,
  'certificate-wrong-issuer': unproved,
  'certificate-path-too-long': unproved,
  'certificate-wrong-usage': unproved,
  'certificate-name-not-granted': unproved,
  'certificate-unknown-critical': unproved,
  'certificate-bad-signature': unproved,
  'certificate-wrong-network': unproved,
  'root-threshold': unproved,
  'root-not-trusted': unproved,
  'stale-head': unproved,
  'not-listed': unproved,
  'head-fork': unproved,
  'head-delisted': unproved,
  'head-replaced': unproved,
  equivocation: unproved,
  'release-revoked': unproved,
  'bad-record': unproved,
  'stale-record': unproved,
  'corrupt-content': unproved,
  'bad-peer-message': unproved,
  'no-space': noRoom,
  'quota-exceeded': noRoom,
  'too-large': { exit: 8, http: 413 },
  'storage-failed': { exit: 8, http: 500 },
  'store-too-new': { exit: 6, http: 500 },
  forbidden: refused,
  'home-not-owned': refused,
  'not-a-member': refused,
  'capability-missing': refused,
  'token-invalid': { exit: 9, http: 401 },
  'invite-invalid': refused,
  'invite-expired': refused,
  'invite-used': refused,
  'passphrase-needed': refused,
  'wrong-passphrase': refused,
  'socket-path-too-long': { exit: 3, http: 500 },
  'not-offered': refused,
  'exceeds-ceiling': refused,
  'not-executable': { exit: 3, http: 422 },
  'sandbox-unavailable': cannotRun,
  'runtime-unavailable': cannotRun,
  cancelled: { exit: 130, http: 499 },
} as const satisfies Record<string, ErrorClass>

export type ErrorCode = keyof typeof errorTable

/** A failure with a code that callers act on. `message` says what was attempted, on what, why it failed, and the next step. */
export class CatalogError extends Error {
  override readonly name = 'CatalogError'
  readonly code: ErrorCode
  readonly data: Readonly<Record<string, unknown>>

  constructor(
    code: ErrorCode,
    message: string,
    data: Readonly<Record<string, unknown>> = {},
    cause?: unknown,
  ) {
    super(message, cause === undefined ? undefined : { cause })
    this.code = code
    this.data = data
  }

  /** The body of `{"error": …}` on the socket and on stderr. */
  toJSON(): Record<string, unknown> {
    return { ...this.data, code: this.code, message: this.message }
  }
}

export function isCatalogError(error: unknown, code?: ErrorCode): error is CatalogError {
  return error instanceof CatalogError && (code === undefined || error.code === code)
}

/** Whether an abort signal, and nothing else, ended the work. Abort reasons pass through every layer untouched. */
export function isAbort(error: unknown): boolean {
  return error instanceof Error && (error.name === 'AbortError' || isCatalogError(error, 'cancelled'))
}

/** Anything thrown, as an error with a code; a full disk and a refused permission keep their meaning. */
export function toCatalogError(error: unknown): CatalogError {
  if (error instanceof CatalogError) return error
  if (isAbort(error)) return new CatalogError('cancelled', 'The operation was cancelled.', {}, error)
  const errno = (error as NodeJS.ErrnoException | undefined)?.code
  const message = error instanceof Error ? error.message : String(error)
  if (errno === 'ENOSPC' || errno === 'EDQUOT')
    return new CatalogError(
      'no-space',
      `The disk is full: ${message}. Free some space and try again.`,
      {},
      error,
    )
  if (errno === 'EACCES' || errno === 'EPERM')
    return new CatalogError('forbidden', `Permission denied: ${message}.`, {}, error)
  if (errno === 'EIO' || errno === 'EROFS')
    return new CatalogError(
      'storage-failed',
      `The disk failed: ${message}. Check the disk, then restart.`,
      {},
      error,
    )
  if (error instanceof Error && error.name === 'TimeoutError')
    return new CatalogError('timeout', `Timed out: ${message}.`, {}, error)
  return new CatalogError('internal', message, {}, error)
}
