// The node as a token's caller may use it: the calls of NodeApi within the names of the token, without paths of the
// server's, and with the executions that it started itself alone. Each call is named here, so that a new one is decided
// on before it compiles. Capabilities are the routes' (access.ts).
import { parseRef } from '../assets/name.ts'
import { CatalogError } from '../base/errors.ts'
import type { CallOptions } from '../base/lifecycle.ts'
import { type Caller, requireName } from './access.ts'
import type { NodeApi } from './api.ts'
import type { AccessTokens } from './tokens.ts'

export function limitApi(api: NodeApi, caller: Caller, tokens: AccessTokens): NodeApi {
  const { token } = caller
  if (token === undefined) return api
  const own = (id: string): string => {
    if (tokens.hasRun(token, id)) return id
    throw new CatalogError(
      'no-such-execution',
      `There is no execution ${id} that this token started; "catalog executions" lists those that there are.`,
      { id },
    )
  }
  /** A REF of a package whose name the token is for; one that names a content becomes the release that was judged. */
  const named = async (ref: string, verb: string, options: CallOptions & { publisher?: string }) => {
    const parsed = parseRef(ref)
    if (parsed.kind === 'name' || caller.names.includes('*')) {
      if (parsed.kind === 'name') requireName(caller, parsed.name, verb)
      return ref
    }
    const { id, name } = await api.show(ref, options)
    requireName(caller, name, verb)
    return id
  }
  return {
    // Where the home is concerns its owner.
    status: async () => ({ ...(await api.status()), home: '' }),
    peers: () => api.peers(),
    announcements: () => api.announcements(),
    releases: heldOnly => api.releases(heldOnly),
    show: (ref, options) => api.show(ref, options),
    search: query => api.search(query),
    file: (id, path, options) => api.file(id, path, options),
    content: (ref, options) => api.content(ref, options),
    replicas: (ref, options) => api.replicas(ref, options),
    publish: async () => {
      throw pathRefused('path', 'Send the package as a tar archive, with content-type application/x-tar.')
    },
    fetch: async (request, options) => {
      if (request.out !== undefined || request.outParent !== undefined)
        throw pathRefused(
          request.out === undefined ? 'outParent' : 'out',
          'Fetch without it, then read GET /v1/releases/{id}/archive.',
        )
      return api.fetch(request, options)
    },
    result: async () => {
      throw pathRefused('out', 'Read GET /v1/executions/{id}/archive.')
    },
    pin: async ({ ref, ...request }, options) => {
      const { publisher } = request
      const about = { signal: options.signal, ...(publisher === undefined ? {} : { publisher }) }
      return api.pin({ ...request, ref: await named(ref, 'keep', about) }, options)
    },
    setReplicas: async (ref, request, options) =>
      api.setReplicas(await named(ref, 'keep', options), request, options),
    execute: async ({ ref, ...request }, options) => {
      const { publisher } = request
      const about = { signal: options.signal, ...(publisher === undefined ? {} : { publisher }) }
      const view = await api.execute({ ...request, ref: await named(ref, 'execute', about) }, options)
      await tokens.addRun(token, view.id)
      return view
    },
    executions: async () => (await api.executions()).filter(({ id }) => tokens.hasRun(token, id)),
    execution: async id => api.execution(own(id)),
    followExecution: (id, options) => api.followExecution(own(id), options),
    cancelExecution: async id => api.cancelExecution(own(id)),
    resultContent: async (id, options) => api.resultContent(own(id), options),
    equivocations: () => api.equivocations(),
    yank: administer,
    deprecate: administer,
    remove: administer,
    collect: administer,
    check: administer,
    drain: administer,
    certificates: {
      invite: administer,
      grant: administer,
      revoke: administer,
      issue: administer,
      issued: administer,
      rotate: administer,
    },
    roots: { current: administer, accept: administer },
    trust: { show: administer, can: administer, export: administer },
  }
}

/** No token has the capability: the route refuses before. */
const administer = async (): Promise<never> => {
  throw new CatalogError(
    'capability-missing',
    'Only the owner of the node may do this, on the owner’s own socket.',
  )
}

const pathRefused = (field: string, instead: string) =>
  new CatalogError(
    'invalid-request',
    `This socket takes no path of the server's, and the request has ${JSON.stringify(field)}. ${instead}`,
    { field },
  )
