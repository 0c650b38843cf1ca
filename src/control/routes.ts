// The calls of the control socket: each checks its request against its schema and hands it to the node.
// The list with its shapes is in api.ts; limits, errors and the socket itself are in server.ts.
import type { FastifyReply, FastifyRequest } from 'fastify'
import { z } from 'zod'
import { CatalogError } from '../base/errors.ts'
import type { Routes } from './access.ts'
import type {
  CheckRequest,
  CollectRequest,
  DrainRequest,
  ExecuteRequest,
  FetchRequest,
  NodeApi,
  PinRequest,
  ReplicasRequest,
  ResultRequest,
  SearchQuery,
} from './api.ts'
import { addCertificateRoutes } from './certificate-routes.ts'
import { addContentRoutes, sendRange } from './contents.ts'
import { followLogs, runExecution } from './executions.ts'
import { LineStream } from './line-stream.ts'
import { addMarkRoutes } from './mark-routes.ts'
import { publishCall } from './publish-call.ts'
import { addRootRoutes } from './root-routes.ts'
import { answers, parameters, queries, requests } from './schemas.ts'
import { addTokenRoutes } from './token-routes.ts'
import type { AccessTokens } from './tokens.ts'
import { addTrustRoutes } from './trust-routes.ts'
import type { Uploads } from './uploads.ts'

/** Standard input of 16 MiB in base64, and arguments. */
const maxExecuteBytes = 32 * 1024 * 1024

/** Ends the request's work when its connection closes or the server stops. */
export type SignalOf = (request: FastifyRequest) => AbortSignal
/** The node, as the request's caller may use it. */
export type ApiOf = (request: FastifyRequest) => NodeApi

export interface RouteParts {
  readonly api: ApiOf
  readonly signalOf: SignalOf
  readonly tokens: AccessTokens
  /** Where packages come in as archives. */
  readonly uploads: Uploads
}

export function addRoutes(app: Routes, { api, signalOf, tokens, uploads }: RouteParts): void {
  addNodeRoutes(app, api)
  addReleaseRoutes(app, api, signalOf)
  addWorkRoutes(app, api, uploads, signalOf)
  addKeepingRoutes(app, api, signalOf)
  addExecutionRoutes(app, api, signalOf)
  addReplicationRoutes(app, api, signalOf)
  addMarkRoutes(app, api, signalOf)
  addTokenRoutes(app, tokens)
  addCertificateRoutes(app, api, signalOf)
  addRootRoutes(app, api)
  addTrustRoutes(app, api)
}

const failures = { default: answers.error }
const answer = (schema: z.ZodType) => ({ 200: schema, ...failures })
const lines = (kind: 'progress' | 'event', result: z.ZodType, description: string) => ({
  200: {
    description,
    content: {
      'application/x-ndjson': {
        schema: z.union([
          z.object({ [kind]: z.looseObject({}) }),
          z.object({ result }),
          z.object({ error: answers.error.shape.error }),
        ]),
      },
    },
  },
  ...failures,
})

function addNodeRoutes(app: Routes, api: ApiOf): void {
  app.get(
    '/v1/status',
    {
      config: { requires: 'fetch' },
      schema: {
        summary: 'What this node is and does',
        querystring: queries.none,
        response: answer(answers.status),
      },
    },
    request => api(request).status(),
  )
  app.get(
    '/v1/peers',
    {
      config: { requires: 'fetch' },
      schema: { summary: 'Connected nodes', querystring: queries.none, response: answer(answers.peers) },
    },
    async request => ({ peers: await api(request).peers() }),
  )
  app.get(
    '/v1/announcements',
    {
      config: { requires: 'fetch' },
      schema: {
        summary: 'The queue of announcements to the DHT',
        querystring: queries.none,
        response: answer(answers.announcements),
      },
    },
    request => api(request).announcements(),
  )
  app.get('/v1/openapi.json', { config: { requires: 'fetch' }, schema: { hide: true } }, request =>
    request.server.swagger(),
  )
}

function addReleaseRoutes(app: Routes, api: ApiOf, signalOf: SignalOf): void {
  app.get(
    '/v1/releases',
    {
      config: { requires: 'fetch' },
      schema: {
        summary: 'Releases known here; held=true for those on this node',
        querystring: queries.releases,
        response: answer(answers.releases),
      },
    },
    async request => ({
      releases: await api(request).releases((request.query as { held?: string }).held === 'true'),
    }),
  )
  app.get(
    '/v1/releases/:ref',
    {
      config: { requires: 'fetch' },
      schema: {
        summary: 'One release and its providers; REF percent-encoded',
        params: parameters.ref,
        querystring: queries.show,
        response: answer(answers.releaseDetail),
      },
    },
    request =>
      api(request).show((request.params as { ref: string }).ref, {
        ...(request.query as { publisher?: string }),
        signal: signalOf(request),
      }),
  )
  app.delete(
    '/v1/releases/:ref',
    {
      config: { requires: 'administer' },
      schema: {
        summary: 'Forget a release here and stop announcing it',
        params: parameters.ref,
        querystring: queries.none,
        response: answer(answers.removed),
      },
    },
    request => api(request).remove((request.params as { ref: string }).ref),
  )
  app.get(
    '/v1/releases/:id/files/*',
    {
      config: { requires: 'fetch' },
      schema: {
        summary: 'The bytes of one file of a release, or a range of them',
        params: parameters.file,
        querystring: queries.file,
        response: {
          200: { description: 'All of it', content: { 'application/octet-stream': { schema: z.string() } } },
          206: { description: 'The range', content: { 'application/octet-stream': { schema: z.string() } } },
          ...failures,
        },
      },
    },
    (request, reply) => sendFile(request, reply, api(request), signalOf(request)),
  )
  addContentRoutes(
    app,
    {
      under: '/v1/releases/:id',
      what: 'A release',
      requires: 'fetch',
      params: parameters.content,
      open: (request, options) => api(request).content((request.params as { id: string }).id, options),
    },
    signalOf,
  )
  app.get(
    '/v1/search',
    {
      config: { requires: 'fetch' },
      schema: {
        summary: 'Ranked search over the releases known here',
        querystring: queries.search,
        response: answer(answers.search),
      },
    },
    async request => {
      const { q, limit, ...filters } = request.query as z.infer<typeof queries.search>
      const query = { query: q, ...filters, ...(limit === undefined ? {} : { limit: Number(limit) }) }
      return { results: await api(request).search(query as SearchQuery) }
    },
  )
}

async function sendFile(
  request: FastifyRequest,
  reply: FastifyReply,
  api: NodeApi,
  signal: AbortSignal,
): Promise<FastifyReply> {
  const { id, '*': path } = request.params as z.infer<typeof parameters.file>
  const { allowStale } = request.query as z.infer<typeof queries.file>
  const file = await api.file(id, path, { signal, allowStale: allowStale === 'true' })
  // Sentences, in the escaped form that headers can carry.
  if (file.warnings !== undefined && file.warnings.length > 0)
    reply.header('catalog-warnings', encodeURIComponent(JSON.stringify(file.warnings)))
  reply.header('catalog-mode', file.mode.toString(8).padStart(4, '0'))
  return sendRange(request, reply, file.size, file.read)
}

function addWorkRoutes(app: Routes, api: ApiOf, uploads: Uploads, signalOf: SignalOf): void {
  app.post(
    '/v1/publish',
    {
      config: { requires: 'publish', takesArchive: true },
      schema: {
        summary: 'Publish a package: a directory, a manifest alone, or a tar archive in the body',
        querystring: queries.publish,
        body: requests.publish,
        response: lines('progress', answers.published, 'Progress, then the release'),
      },
    },
    (request, reply) => publishCall(api(request), uploads, request, reply, signalOf(request)),
  )
  app.post(
    '/v1/fetch',
    {
      config: { requires: 'fetch' },
      schema: {
        summary: 'Fetch releases from other nodes, and write their files',
        body: requests.fetch,
        response: lines('progress', answers.fetched, 'Progress, then one result or error for each REF'),
      },
    },
    (request, reply) =>
      new LineStream(reply, signalOf(request)).run(async onProgress => ({
        results: await api(request).fetch(request.body as FetchRequest, {
          signal: signalOf(request),
          onProgress,
        }),
      })),
  )
}

function addKeepingRoutes(app: Routes, api: ApiOf, signalOf: SignalOf): void {
  app.post(
    '/v1/pin',
    {
      config: { requires: 'replicate' },
      schema: {
        summary: 'Keep a release here until it is unpinned, fetching it first; remove=true unpins it',
        body: requests.pin,
        response: lines('progress', answers.pinned, 'Progress, then the pin'),
      },
    },
    (request, reply) =>
      new LineStream(reply, signalOf(request)).run(onProgress =>
        api(request).pin(request.body as PinRequest, { signal: signalOf(request), onProgress }),
      ),
  )
  app.post(
    '/v1/gc',
    {
      config: { requires: 'administer' },
      schema: {
        summary: 'Collect garbage: what no release, fetch or execution needs any more',
        body: requests.collect,
        response: lines('progress', answers.collected, 'Progress, then what was freed'),
      },
    },
    (request, reply) =>
      new LineStream(reply, signalOf(request)).run(onProgress =>
        api(request).collect(request.body as CollectRequest, { signal: signalOf(request), onProgress }),
      ),
  )
  app.post(
    '/v1/check',
    {
      config: { requires: 'administer' },
      schema: {
        summary: 'Hash every stored shard; repair=true fetches damaged ones anew',
        body: requests.check,
        response: lines('progress', answers.checked, 'Progress, then what was damaged'),
      },
    },
    (request, reply) =>
      new LineStream(reply, signalOf(request)).run(onProgress =>
        api(request).check(request.body as CheckRequest, { signal: signalOf(request), onProgress }),
      ),
  )
}

function addReplicationRoutes(app: Routes, api: ApiOf, signalOf: SignalOf): void {
  const refOf = (request: FastifyRequest) => (request.params as { ref: string }).ref
  app.get(
    '/v1/releases/:ref/replicas',
    {
      config: { requires: 'fetch' },
      schema: {
        summary: 'The copies that nodes have promised to keep of a release',
        params: parameters.ref,
        querystring: queries.none,
        response: answer(answers.replicas),
      },
    },
    request => api(request).replicas(refOf(request), { signal: signalOf(request) }),
  )
  app.post(
    '/v1/releases/:ref/replicas',
    {
      config: { requires: 'replicate' },
      schema: {
        summary: 'Say how many copies of a release there should be',
        params: parameters.ref,
        body: requests.replicas,
        response: answer(answers.replicas),
      },
    },
    request =>
      api(request).setReplicas(refOf(request), request.body as ReplicasRequest, {
        signal: signalOf(request),
      }),
  )
  app.post(
    '/v1/drain',
    {
      config: { requires: 'administer' },
      schema: {
        summary: 'Hand over every copy that is kept here, and take no more; or take copies again',
        body: requests.drain,
        response: lines('progress', answers.drained, 'Progress, then what was handed over'),
      },
    },
    (request, reply) =>
      new LineStream(reply, signalOf(request)).run(onProgress =>
        api(request).drain(request.body as DrainRequest, { signal: signalOf(request), onProgress }),
      ),
  )
}

function addExecutionRoutes(app: Routes, api: ApiOf, signalOf: SignalOf): void {
  const idOf = (request: FastifyRequest) => (request.params as { id: string }).id
  app.post(
    '/v1/execute',
    {
      config: { requires: 'execute' },
      bodyLimit: maxExecuteBytes,
      schema: {
        summary: 'Execute a package here or on another node',
        body: requests.execute,
        response: {
          ...lines('event', answers.execution, 'States and output, then the execution'),
          202: answers.detached,
        },
      },
    },
    (request, reply) => runExecution(api(request), request.body as ExecuteRequest, reply, signalOf(request)),
  )
  app.get(
    '/v1/executions',
    {
      config: { requires: 'execute' },
      schema: {
        summary: 'Executions on record',
        querystring: queries.none,
        response: answer(answers.executions),
      },
    },
    async request => ({ executions: await api(request).executions() }),
  )
  app.get(
    '/v1/executions/:id',
    {
      config: { requires: 'execute' },
      schema: {
        summary: 'One execution',
        params: parameters.execution,
        querystring: queries.none,
        response: answer(answers.execution),
      },
    },
    request => api(request).execution(idOf(request)),
  )
  app.get(
    '/v1/executions/:id/logs',
    {
      config: { requires: 'execute' },
      schema: {
        summary: 'What it wrote; follow=true until it ends',
        params: parameters.execution,
        querystring: queries.logs,
        response: {
          200: {
            description: 'One piece of output a line, as text, or base64 where it is not UTF-8',
            content: {
              'application/x-ndjson': {
                schema: z.object({
                  stream: z.enum(['stdout', 'stderr']),
                  text: z.string().optional(),
                  base64: z.string().optional(),
                }),
              },
            },
          },
          ...failures,
        },
      },
    },
    (request, reply) =>
      followLogs(
        api(request),
        idOf(request),
        (request.query as { follow?: string }).follow === 'true',
        reply,
        signalOf(request),
      ),
  )
  app.post(
    '/v1/executions/:id/result',
    {
      config: { requires: 'execute' },
      schema: {
        summary: 'Write the outputs that an execution left',
        params: parameters.execution,
        body: requests.result,
        response: lines('progress', answers.result, 'Progress, then what was written'),
      },
    },
    (request, reply) =>
      new LineStream(reply, signalOf(request)).run(onProgress =>
        api(request).result(idOf(request), request.body as ResultRequest, {
          signal: signalOf(request),
          onProgress,
        }),
      ),
  )
  addContentRoutes(
    app,
    {
      under: '/v1/executions/:id',
      what: 'The outputs that an execution left',
      requires: 'execute',
      params: parameters.execution,
      open: (request, options) => api(request).resultContent(idOf(request), options),
    },
    signalOf,
  )
  app.post(
    '/v1/executions/:id/cancel',
    {
      config: { requires: 'execute' },
      schema: {
        summary: 'Cancel an execution',
        params: parameters.execution,
        response: answer(answers.execution),
      },
    },
    request => {
      if (request.body !== undefined && request.body !== null && Object.keys(request.body).length > 0)
        throw new CatalogError('invalid-request', 'Cancelling takes no body.')
      return api(request).cancelExecution(idOf(request))
    },
  )
}
