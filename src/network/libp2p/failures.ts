// What libp2p's errors mean to the one who dialled or started, with the next step.
import { CatalogError, isCatalogError } from '../../base/errors.ts'

/** The signal's reason where it was aborted, a CatalogError as it is, else `peer-unreachable`. */
export function dialFailure(error: unknown, signal: AbortSignal | undefined, what: string): unknown {
  if (signal?.aborted === true) return signal.reason
  if (isCatalogError(error)) return error
  const reasons = error instanceof AggregateError ? error.errors : [error]
  const text = reasons.map(reason => (reason instanceof Error ? reason.message : String(reason))).join('; ')
  return new CatalogError(
    'peer-unreachable',
    `Failed ${what}: ${text || 'no address is known'}. Check that the peer runs and that its address and port are reachable.`,
    {},
    error,
  )
}

/** `invalid-config`: an address cannot be listened on. */
export function startFailure(error: unknown, listen: readonly string[]): unknown {
  const text = error instanceof Error ? error.message : String(error)
  return new CatalogError(
    'invalid-config',
    `The node cannot listen on ${listen.join(', ')}: ${text}. Choose other addresses, or port 0 for any free one.`,
    {},
    error,
  )
}
