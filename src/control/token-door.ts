// Admits the requests of the shared socket: each by its token. Whoever tries tokens out is slowed down, bounded, and
// told of in the log, without what was tried. What tokens are is tokens.ts.
import type { FastifyRequest } from 'fastify'
import { pause } from '../base/deadline.ts'
import { CatalogError } from '../base/errors.ts'
import type { Log } from '../base/log.ts'
import type { Caller } from './access.ts'
import type { AccessTokens } from './tokens.ts'

export interface TokenDoorOptions {
  /** How long a refusal takes. */
  readonly refusalMs: number
  /** Refusals that wait at once; beyond them the answer is `busy`. */
  readonly maxRefusals: number
  /** The log has one line in this time, with how many there were. */
  readonly logEveryMs: number
}

export const defaultTokenDoorOptions: TokenDoorOptions = {
  // A token cannot be guessed: this keeps a loop of wrong ones from costing anything, and a person waits for it once.
  refusalMs: 500,
  maxRefusals: 16,
  logEveryMs: 60_000,
}

export class TokenDoor {
  readonly #tokens: AccessTokens
  readonly #log: Log
  readonly #options: TokenDoorOptions
  #waiting = 0
  #refused = 0
  #loggedAt = Number.NEGATIVE_INFINITY

  constructor(
    { tokens, log }: { readonly tokens: AccessTokens; readonly log: Log },
    options: TokenDoorOptions = defaultTokenDoorOptions,
  ) {
    this.#tokens = tokens
    this.#log = log
    this.#options = options
  }

  /** A right token never waits, whatever others try. @throws CatalogError `token-invalid`, `busy` */
  async admit(request: FastifyRequest, signal: AbortSignal): Promise<Caller> {
    const { authorization } = request.headers
    const text = /^Bearer +(\S{1,128}) *$/i.exec(authorization ?? '')?.[1]
    const caller = text === undefined ? undefined : this.#tokens.callerOf(text)
    if (caller !== undefined) return caller
    this.#tell(request)
    if (this.#waiting >= this.#options.maxRefusals)
      throw new CatalogError('busy', 'Too many requests without a valid token. Try again later.')
    this.#waiting++
    await pause(this.#options.refusalMs, signal).finally(() => this.#waiting--)
    throw new CatalogError(
      'token-invalid',
      text === undefined
        ? 'This socket needs a token with every request: Authorization: Bearer catalog-token-…, or --token-file FILE. The owner of the node makes one with `catalog trust token create`.'
        : 'The token is not valid: it is unknown here, was revoked, or has expired. Ask the owner of the node for a new one (catalog trust token create).',
    )
  }

  #tell({ method, url }: FastifyRequest): void {
    this.#refused++
    const now = performance.now()
    if (now - this.#loggedAt < this.#options.logEveryMs) return
    this.#loggedAt = now
    const path = url.split('?')[0]?.slice(0, 100)
    this.#log.warn(
      { method, path, refused: this.#refused },
      'a request on the shared control socket had no valid token',
    )
    this.#refused = 0
  }
}
