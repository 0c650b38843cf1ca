// The control socket: HTTP/1.1 with JSON over a Unix socket that only its owner may open. This file owns the
// socket, the limits, and how failures are answered; the calls are in routes.ts, their shapes in api.ts.
// Permissions of the directory (0700) and the socket (0600) keep other users out; nothing listens on TCP.
import { chmod, lstat, rm, stat } from 'node:fs/promises'
import { connect } from 'node:net'
import { dirname } from 'node:path'
import Fastify, { type FastifyInstance, type FastifyRequest } from 'fastify'
import { CatalogError, errorTable, toCatalogError } from '../base/errors.ts'
import type { Service } from '../base/lifecycle.ts'
import type { Log } from '../base/log.ts'
import type { NodeApi } from './api.ts'
import { parseJsonBody } from './json-body.ts'
import { describeApi } from './openapi.ts'
import { addRoutes } from './routes.ts'

export interface ControlServerOptions {
  readonly socketPath: string
  readonly version?: string
  readonly maxConnections?: number
  /** How long a request's headers, and all of it, may take to arrive. */
  readonly headersTimeoutMs?: number
  readonly requestTimeoutMs?: number
}

export const defaultControlServerOptions = {
  version: '0.0.0',
  // One user's shells, programs and dashboards.
  maxConnections: 256,
  headersTimeoutMs: 10_000,
  // 32 MiB of input through a local socket take a fraction of a second.
  requestTimeoutMs: 30_000,
}

/** All other requests are paths, names and settings. */
const maxBodyBytes = 1024 * 1024
/** The daemon has five seconds for everything. */
const stopWithinMs = 1_500

export function createControlServer(
  deps: { readonly api: NodeApi; readonly log: Log },
  options: ControlServerOptions,
): Required<Service> {
  return new ControlServer(deps, options)
}

class ControlServer {
  readonly #api: NodeApi
  readonly #log: Log
  readonly #options: Required<ControlServerOptions>
  readonly #running = new Map<FastifyRequest, AbortController>()
  #app: FastifyInstance | undefined
  #stopping: CatalogError | undefined

  constructor({ api, log }: { api: NodeApi; log: Log }, options: ControlServerOptions) {
    this.#api = api
    this.#log = log
    this.#options = { ...defaultControlServerOptions, ...options }
  }

  /** @throws CatalogError `already-running`, `home-not-owned`, `output-exists` */
  async start(): Promise<void> {
    const { socketPath } = this.#options
    await checkDirectory(dirname(socketPath))
    await removeStaleSocket(socketPath)
    const app = this.#build()
    await describeApi(app, this.#options.version)
    addRoutes(app, this.#api, request => this.#signalOf(request))
    await app.listen({ path: socketPath })
    this.#app = app
    await chmod(socketPath, 0o600)
  }

  async stop(): Promise<void> {
    const app = this.#app
    if (app === undefined) return
    this.#app = undefined
    this.#stopping = new CatalogError(
      'daemon-stopping',
      'The daemon is stopping. Start it again with `catalog daemon`.',
    )
    for (const controller of this.#running.values()) controller.abort(this.#stopping)
    const timer = setTimeout(() => app.server.closeAllConnections(), stopWithinMs)
    await app.close()
    clearTimeout(timer)
  }

  #build(): FastifyInstance {
    const { maxConnections, headersTimeoutMs, requestTimeoutMs } = this.#options
    const app = Fastify({
      bodyLimit: maxBodyBytes,
      requestTimeout: requestTimeoutMs,
      forceCloseConnections: 'idle',
      // In the path of a file every byte may be percent-encoded.
      routerOptions: { maxParamLength: 3 * 4096, querystringParser: parseQuery },
      http: {
        headersTimeout: headersTimeoutMs,
        connectionsCheckingInterval: 1_000,
        maxHeaderSize: 32 * 1024,
      },
      frameworkErrors: (error, _request, reply) => {
        const body = `${JSON.stringify(errorBody(requestError(error)))}\n`
        reply.raw.writeHead(400, { 'content-type': 'application/json; charset=utf-8' }).end(body)
      },
    })
    app.server.maxConnections = maxConnections
    app.removeAllContentTypeParsers()
    // Whatever curl calls it: a body is JSON.
    app.addContentTypeParser('*', { parseAs: 'string' }, async (_request: unknown, body: string | Buffer) =>
      parseJsonBody(String(body)),
    )
    app.setValidatorCompiler(({ schema, httpPart }) => checker(schema as Schema, httpPart ?? 'request'))
    app.setSerializerCompiler(() => value => JSON.stringify(value))
    app.setReplySerializer(value => `${JSON.stringify(value)}\n`)
    this.#answerErrors(app)
    this.#watchRequests(app)
    return app
  }

  #answerErrors(app: FastifyInstance): void {
    app.setErrorHandler((thrown, request, reply) => {
      const error = requestError(thrown)
      if (error.code === 'internal')
        this.#log.error(
          { error: error.cause ?? error, method: request.method, url: request.url },
          'control request failed',
        )
      void reply
        .code(errorTable[error.code].http)
        .type('application/json; charset=utf-8')
        .send(errorBody(error))
    })
    app.setNotFoundHandler((request, reply) => {
      const message = `There is no call ${request.method} ${request.url.slice(0, 200)}. GET /v1/openapi.json lists them.`
      void reply.code(404).send(errorBody(new CatalogError('not-found', message)))
    })
  }

  #watchRequests(app: FastifyInstance): void {
    app.addHook('onRequest', async (request, reply) => {
      if (this.#stopping !== undefined) throw this.#stopping
      const controller = new AbortController()
      this.#running.set(request, controller)
      reply.raw.once('close', () => {
        this.#running.delete(request)
        if (!reply.raw.writableFinished)
          controller.abort(new CatalogError('cancelled', 'The client closed the connection.'))
        const { method, url } = request
        this.#log.debug(
          { method, url, status: reply.raw.statusCode, ms: Math.round(reply.elapsedTime) },
          'control request',
        )
      })
    })
  }

  #signalOf(request: FastifyRequest): AbortSignal {
    return this.#running.get(request)?.signal ?? AbortSignal.abort(this.#stopping)
  }
}

interface Schema {
  safeParse(
    value: unknown,
  ): { success: true; data: unknown } | { success: false; error: { issues: readonly Issue[] } }
}

interface Issue {
  readonly code?: string | undefined
  readonly path: readonly PropertyKey[]
  readonly message: string
}

const partNames: Record<string, string> = {
  body: 'body',
  querystring: 'query',
  params: 'path',
  headers: 'header',
}

/** Checks a part of a request; every problem is reported at once. */
const checker = (schema: Schema, part: string) => (value: unknown) => {
  const parsed = schema.safeParse(value)
  if (parsed.success) return { value: parsed.data }
  const problems = parsed.error.issues.map(({ path, message }) => ({
    path: path.map(String).join('.'),
    message,
  }))
  const words = problems.map(({ path, message }) => (path === '' ? message : `${path}: ${message}`))
  const message = `The ${partNames[part] ?? part} of the request is not valid: ${words.join('; ')}. GET /v1/openapi.json describes it.`
  return { error: new CatalogError('invalid-request', message, { problems }) }
}

/** What the HTTP library refuses has codes of its own; ours mean the same on every way into the system. */
function requestError(thrown: unknown): CatalogError {
  const { statusCode, code } = (thrown ?? {}) as { statusCode?: number; code?: string }
  if (thrown instanceof CatalogError || typeof code !== 'string' || !code.startsWith('FST_'))
    return toCatalogError(thrown)
  if (statusCode === 413) return new CatalogError('too-large', 'The body of the request is too large.')
  if (statusCode !== undefined && statusCode >= 400 && statusCode < 500)
    return new CatalogError('invalid-request', `The request is not valid: ${(thrown as Error).message}.`)
  return toCatalogError(thrown)
}

/** No stack, no cause: what `toJSON` gives. */
const errorBody = (error: CatalogError) => ({ error: error.toJSON() })

/** A parameter given twice is refused by its schema, which wants a text. */
function parseQuery(text: string): Record<string, unknown> {
  const query: Record<string, unknown> = Object.create(null)
  for (const [key, value] of new URLSearchParams(text))
    query[key] = key in query ? [query[key], value].flat() : value
  return query
}

async function checkDirectory(directory: string): Promise<void> {
  const { uid, mode } = await stat(directory)
  if ((process.getuid !== undefined && uid !== process.getuid()) || (mode & 0o077) !== 0)
    throw new CatalogError(
      'home-not-owned',
      `The control socket must lie in a directory that only you can enter; ${directory} is open to others, or belongs to another user. Run \`chmod 700 ${directory}\`, or use another home.`,
      { directory },
    )
}

/** A socket that a killed daemon left is removed, a living one is respected, anything else is not ours to remove. */
async function removeStaleSocket(path: string): Promise<void> {
  const found = await lstat(path).catch(() => undefined)
  if (found === undefined) return
  if (!found.isSocket())
    throw new CatalogError(
      'output-exists',
      `There is something at ${path} that is no socket. Move it away.`,
      { path },
    )
  if (await answers(path))
    throw new CatalogError(
      'already-running',
      `A daemon is listening at ${path} already. Use it, or stop it first.`,
      { path },
    )
  await rm(path, { force: true })
}

const answers = (path: string): Promise<boolean> =>
  new Promise(resolve => {
    const socket = connect(path)
    const finish = (result: boolean) => {
      socket.destroy()
      resolve(result)
    }
    socket.once('connect', () => finish(true))
    // A full backlog (EAGAIN) is a living daemon's.
    socket.once('error', (error: NodeJS.ErrnoException) => finish(error.code === 'EAGAIN'))
    socket.setTimeout(1_000, () => finish(true))
  })
