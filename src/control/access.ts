// Who may make which call of the control socket: the capability that each route declares, and the caller behind a
// request. It knows no tokens (tokens.ts) and no sockets (server.ts); what a route does is routes.ts.
import type { FastifyInstance, FastifyRequest, RouteHandlerMethod, RouteShorthandOptions } from 'fastify'
import { CatalogError } from '../base/errors.ts'
import { grantsName } from '../trust/name-pattern.ts'

/** Ascending by what harm they could do. Reading what the node and the network have is part of `fetch`. */
export const capabilities = ['fetch', 'publish', 'execute', 'replicate', 'administer'] as const
export type Capability = (typeof capabilities)[number]

/** What a token may be given: the node itself stays with its owner. */
export const grantable = ['fetch', 'publish', 'execute', 'replicate'] as const satisfies readonly Capability[]
export type Grantable = (typeof grantable)[number]

export interface Caller {
  /** The id of the token; absent: the owner, on the owner's socket. */
  readonly token?: string
  readonly can: readonly Capability[]
  /** Patterns of the names it may publish, execute and keep (trust/name-pattern.ts). */
  readonly names: readonly string[]
}

export const owner: Caller = { can: capabilities, names: ['*'] }

declare module 'fastify' {
  interface FastifyContextConfig {
    requires?: Capability
    /** Its body may be a tar archive, as a stream of any length. */
    takesArchive?: true
  }
  interface FastifyRequest {
    caller: Caller
  }
}

type RouteOptions = RouteShorthandOptions & {
  readonly config: { readonly requires: Capability; readonly takesArchive?: true }
}
type AddRoute = (url: string, options: RouteOptions, handler: RouteHandlerMethod) => unknown

/** What routes.ts sees of Fastify: a route that declares no capability does not compile. */
export interface Routes {
  readonly get: AddRoute
  readonly post: AddRoute
  readonly delete: AddRoute
}

/** From here on every route needs its capability, and every request a caller that has it. */
export function guard(app: FastifyInstance, callerOf: (request: FastifyRequest) => Promise<Caller>): void {
  app.addHook('onRoute', ({ method, url, config }) => {
    if (config?.requires === undefined)
      throw new Error(`The route ${String(method)} ${url} declares no capability: config.requires.`)
  })
  app.addHook('onRequest', async request => {
    request.caller = await callerOf(request)
    const { requires } = request.routeOptions.config
    if (requires !== undefined && !request.caller.can.includes(requires))
      throw missing(request.caller, requires, `${request.method} ${request.routeOptions.url}`)
  })
}

const missing = ({ token, can }: Caller, requires: Capability, what: string) =>
  new CatalogError(
    'capability-missing',
    `The token ${token} may not ${what}: that takes the capability ${requires}, and it has ${can.join(', ')}. ${
      requires === 'administer'
        ? 'Only the owner of the node may, on the owner’s own socket.'
        : `Ask the owner of the node for a token that has it (catalog trust token create --can ${requires}).`
    }`,
    { capability: requires },
  )

/** @throws CatalogError `capability-missing` where the caller may not do this with packages of the name. */
export function requireName({ token, names }: Caller, name: string, verb: string): void {
  if (grantsName(names, name)) return
  throw new CatalogError(
    'capability-missing',
    `The token ${token} may not ${verb} ${name}: it is for the names ${names.join(', ')}. Ask the owner of the node for a token with that name.`,
    { name },
  )
}
