// The calls of the control socket: each checks its request against its schema and hands it to the node.
// The list with its shapes is in api.ts; limits, errors and the socket itself are in server.ts.
import { Readable } from 'node:stream'
import type { FastifyInstance, FastifyReply, FastifyRequest } from 'fastify'
import { z } from 'zod'
import { CatalogError } from '../base/errors.ts'
import type {
  CheckRequest,
  CollectRequest,
  DrainRequest,
  ExecuteRequest,
  FetchRequest,
  NodeApi,
  PinRequest,
  PublishRequest,
  ReplicasRequest,
  ResultRequest,
  SearchQuery,
} from './api.ts'
import { followLogs, runExecution } from './executions.ts'
import { LineStream } from './line-stream.ts'
import { parseRange } from './range.ts'
import { answers, parameters, queries, requests } from './schemas.ts'

/** Standard input of 16 MiB in base64, and arguments. */
const maxExecuteBytes = 32 * 1024 * 1024

/** Ends the request's work when its connection closes or the server stops. */
export type SignalOf = (request: FastifyRequest) => AbortSignal

export function addRoutes(app: FastifyInstance, api: NodeApi, signalOf: SignalOf): void {
  addNodeRoutes(app, api)
  addReleaseRoutes(app, api, signalOf)
  addWorkRoutes(app, api, signalOf)
  addKeepingRoutes(app, api, signalOf)
  addExecutionRoutes(app, api, signalOf)
  addReplicationRoutes(app, api, signalOf)
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

function addNodeRoutes(app: FastifyInstance, api: NodeApi): void {
  app.get(
    '/v1/status',
    {
      schema: {
        summary: 'What this node is and does',
        querystring: queries.none,
        response: answer(answers.status),
      },
    },
    () => api.status(),
  )
  app.get(
    '/v1/peers',
    { schema: { summary: 'Connected nodes', querystring: queries.none, response: answer(answers.peers) } },
    async () => ({ peers: await api.peers() }),
  )
  app.get(
    '/v1/announcements',
    {
      schema: {
        summary: 'The queue of announcements to the DHT',
        querystring: queries.none,
        response: answer(answers.announcements),
      },
    },
    () => api.announcements(),
  )
  app.get('/v1/openapi.json', { schema: { hide: true } }, () => app.swagger())
}

function addReleaseRoutes(app: FastifyInstance, api: NodeApi, signalOf: SignalOf): void {
  app.get(
    '/v1/releases',
    {
      schema: {
        summary: 'Releases known here; held=true for those on this node',
        querystring: queries.releases,
        response: answer(answers.releases),
      },
    },
    async ({ query }) => ({ releases: await api.releases((query as { held?: string }).held === 'true') }),
  )
  app.get(
    '/v1/releases/:ref',
    {
      schema: {
        summary: 'One release and its providers; REF percent-encoded',
        params: parameters.ref,
        querystring: queries.show,
        response: answer(answers.releaseDetail),
      },
    },
    request =>
      api.show((request.params as { ref: string }).ref, {
        ...(request.query as { publisher?: string }),
        signal: signalOf(request),
      }),
  )
  app.delete(
    '/v1/releases/:ref',
    {
      schema: {
        summary: 'Forget a release here and stop announcing it',
        params: parameters.ref,
        querystring: queries.none,
        response: answer(answers.removed),
      },
    },
    ({ params }) => api.remove((params as { ref: string }).ref),
  )
  app.get(
    '/v1/releases/:id/files/*',
    {
      schema: {
        summary: 'The bytes of one file of a release, or a range of them',
        params: parameters.file,
        querystring: queries.none,
        response: {
          200: { description: 'All of it', content: { 'application/octet-stream': { schema: z.string() } } },
          206: { description: 'The range', content: { 'application/octet-stream': { schema: z.string() } } },
          ...failures,
        },
      },
    },
    (request, reply) => sendFile(request, reply, api, signalOf(request)),
  )
  app.get(
    '/v1/search',
    {
      schema: {
        summary: 'Ranked search over the releases known here',
        querystring: queries.search,
        response: answer(answers.search),
      },
    },
    async request => {
      const { q, limit, ...filters } = request.query as z.infer<typeof queries.search>
      const query = { query: q, ...filters, ...(limit === undefined ? {} : { limit: Number(limit) }) }
      return { results: await api.search(query as SearchQuery) }
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
  const file = await api.file(id, path, { signal })
  reply.header('accept-ranges', 'bytes').header('content-type', 'application/octet-stream')
  reply.header('catalog-mode', file.mode.toString(8).padStart(4, '0'))
  let range: ReturnType<typeof parseRange>
  try {
    range = parseRange(request.headers.range, file.size)
  } catch (error) {
    reply.header('content-range', `bytes */${file.size}`)
    throw error
  }
  const { offset, length } = range ?? { offset: 0, length: file.size }
  if (range !== undefined)
    reply.code(206).header('content-range', `bytes ${offset}-${offset + length - 1}/${file.size}`)
  reply.header('content-length', length)
  const bytes = request.method === 'HEAD' ? [] : file.read(offset, length)
  return reply.send(Readable.from(bytes, { objectMode: false }))
}

function addWorkRoutes(app: FastifyInstance, api: NodeApi, signalOf: SignalOf): void {
  app.post(
    '/v1/publish',
    {
      schema: {
        summary: 'Publish a package directory, or a manifest alone',
        body: requests.publish,
        response: lines('progress', answers.published, 'Progress, then the release'),
      },
    },
    (request, reply) =>
      new LineStream(reply, signalOf(request)).run(onProgress =>
        api.publish(request.body as PublishRequest, { signal: signalOf(request), onProgress }),
      ),
  )
  app.post(
    '/v1/fetch',
    {
      schema: {
        summary: 'Fetch releases from other nodes, and write their files',
        body: requests.fetch,
        response: lines('progress', answers.fetched, 'Progress, then one result or error for each REF'),
      },
    },
    (request, reply) =>
      new LineStream(reply, signalOf(request)).run(async onProgress => ({
        results: await api.fetch(request.body as FetchRequest, { signal: signalOf(request), onProgress }),
      })),
  )
}

function addKeepingRoutes(app: FastifyInstance, api: NodeApi, signalOf: SignalOf): void {
  app.post(
    '/v1/pin',
    {
      schema: {
        summary: 'Keep a release here until it is unpinned, fetching it first; remove=true unpins it',
        body: requests.pin,
        response: lines('progress', answers.pinned, 'Progress, then the pin'),
      },
    },
    (request, reply) =>
      new LineStream(reply, signalOf(request)).run(onProgress =>
        api.pin(request.body as PinRequest, { signal: signalOf(request), onProgress }),
      ),
  )
  app.post(
    '/v1/gc',
    {
      schema: {
        summary: 'Collect garbage: what no release, fetch or execution needs any more',
        body: requests.collect,
        response: lines('progress', answers.collected, 'Progress, then what was freed'),
      },
    },
    (request, reply) =>
      new LineStream(reply, signalOf(request)).run(onProgress =>
        api.collect(request.body as CollectRequest, { signal: signalOf(request), onProgress }),
      ),
  )
  app.post(
    '/v1/check',
    {
      schema: {
        summary: 'Hash every stored shard; repair=true fetches damaged ones anew',
        body: requests.check,
        response: lines('progress', answers.checked, 'Progress, then what was damaged'),
      },
    },
    (request, reply) =>
      new LineStream(reply, signalOf(request)).run(onProgress =>
        api.check(request.body as CheckRequest, { signal: signalOf(request), onProgress }),
      ),
  )
}

function addReplicationRoutes(app: FastifyInstance, api: NodeApi, signalOf: SignalOf): void {
  const refOf = (request: FastifyRequest) => (request.params as { ref: string }).ref
  app.get(
    '/v1/releases/:ref/replicas',
    {
      schema: {
        summary: 'The copies that nodes have promised to keep of a release',
        params: parameters.ref,
        querystring: queries.none,
        response: answer(answers.replicas),
      },
    },
    request => api.replicas(refOf(request), { signal: signalOf(request) }),
  )
  app.post(
    '/v1/releases/:ref/replicas',
    {
      schema: {
        summary: 'Say how many copies of a release there should be',
        params: parameters.ref,
        body: requests.replicas,
        response: answer(answers.replicas),
      },
    },
    request =>
      api.setReplicas(refOf(request), request.body as ReplicasRequest, { signal: signalOf(request) }),
  )
  app.post(
    '/v1/drain',
    {
      schema: {
        summary: 'Hand over every copy that is kept here, and take no more; or take copies again',
        body: requests.drain,
        response: lines('progress', answers.drained, 'Progress, then what was handed over'),
      },
    },
    (request, reply) =>
      new LineStream(reply, signalOf(request)).run(onProgress =>
        api.drain(request.body as DrainRequest, { signal: signalOf(request), onProgress }),
      ),
  )
}

function addExecutionRoutes(app: FastifyInstance, api: NodeApi, signalOf: SignalOf): void {
  const idOf = (request: FastifyRequest) => (request.params as { id: string }).id
  app.post(
    '/v1/execute',
    {
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
    (request, reply) => runExecution(api, request.body as ExecuteRequest, reply, signalOf(request)),
  )
  app.get(
    '/v1/executions',
    {
      schema: {
        summary: 'Executions on record',
        querystring: queries.none,
        response: answer(answers.executions),
      },
    },
    async () => ({ executions: await api.executions() }),
  )
  app.get(
    '/v1/executions/:id',
    {
      schema: {
        summary: 'One execution',
        params: parameters.execution,
        querystring: queries.none,
        response: answer(answers.execution),
      },
    },
    request => api.execution(idOf(request)),
  )
  app.get(
    '/v1/executions/:id/logs',
    {
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
        api,
        idOf(request),
        (request.query as { follow?: string }).follow === 'true',
        reply,
        signalOf(request),
      ),
  )
  app.post(
    '/v1/executions/:id/result',
    {
      schema: {
        summary: 'Write the outputs that an execution left',
        params: parameters.execution,
        body: requests.result,
        response: lines('progress', answers.result, 'Progress, then what was written'),
      },
    },
    (request, reply) =>
      new LineStream(reply, signalOf(request)).run(onProgress =>
        api.result(idOf(request), request.body as ResultRequest, { signal: signalOf(request), onProgress }),
      ),
  )
  app.post(
    '/v1/executions/:id/cancel',
    {
      schema: {
        summary: 'Cancel an execution',
        params: parameters.execution,
        response: answer(answers.execution),
      },
    },
    request => {
      if (request.body !== undefined && request.body !== null && Object.keys(request.body).length > 0)
        throw new CatalogError('invalid-request', 'Cancelling takes no body.')
      return api.cancelExecution(idOf(request))
    },
  )
}
