// The control sockets: HTTP/1.1 with JSON over Unix sockets. The owner's may be opened by its owner alone; a second one,
// if the config names it, by a group, and admits each request by a token. This file owns what is served on them, the
// limits, and how failures are answered; the calls are in routes.ts, their shapes in api.ts, the files in sockets.ts.
// Nothing listens on TCP.
import { chmod } from 'node:fs/promises'
import Fastify, { type FastifyInstance, type FastifyRequest } from 'fastify'
import { CatalogError, errorTable } from '../base/errors.ts'
import type { Service } from '../base/lifecycle.ts'
import type { Log } from '../base/log.ts'
import { type Caller, guard, owner } from './access.ts'
import type { NodeApi } from './api.ts'
import { limitApi } from './limited-api.ts'
import { describeApi } from './openapi.ts'
import {
  addBodyParsers,
  boundLargeBodies,
  checker,
  errorBody,
  isArchive,
  maxBodyBytes,
  parseQuery,
  requestError,
  type Schema,
} from './request-checks.ts'
import { addRoutes } from './routes.ts'
import { checkOwnDirectory, checkSharedDirectory, openToGroup, removeStaleSocket } from './sockets.ts'
import { TokenDoor } from './token-door.ts'
import type { AccessTokens } from './tokens.ts'
import { defaultUploadsOptions, Uploads } from './uploads.ts'

export interface ControlServerDeps {
  readonly api: NodeApi
  readonly tokens: AccessTokens
  readonly log: Log
}

export interface ControlServerOptions {
  readonly socketPath: string
  /** A directory of the server's own: packages that come as archives are received below it. */
  readonly uploadDirectory: string
  /** The second socket, for other users of this machine. */
  readonly shared?: { readonly path: string; readonly group: string | number } | undefined
  readonly version?: string
  /** Of each socket. */
  readonly maxConnections?: number
  /** How long a request's headers, and all of it but an archive, may take to arrive. */
  readonly headersTimeoutMs?: number
  readonly requestTimeoutMs?: number
  readonly maxUploads?: number
  readonly uploadPatienceMs?: number
}

export const defaultControlServerOptions = {
  version: '0.0.0',
  // One user's shells, programs and dashboards.
  maxConnections: 256,
  headersTimeoutMs: 10_000,
  // 32 MiB of input through a local socket take a fraction of a second.
  requestTimeoutMs: 30_000,
  maxUploads: defaultUploadsOptions.maxUploads,
  uploadPatienceMs: defaultUploadsOptions.patienceMs,
}

/** The daemon has five seconds for everything. */
const stopWithinMs = 1_500
/** From an answer to a request that is still being sent, to the end of its connection: time to read the answer. */
const lingerMs = 2_000

export function createControlServer(
  deps: ControlServerDeps,
  options: ControlServerOptions,
): Required<Service> {
  return new ControlServer(deps, options)
}

class ControlServer {
  readonly #deps: ControlServerDeps
  readonly #options: ControlServerOptions & typeof defaultControlServerOptions
  readonly #uploads: Uploads
  readonly #door: TokenDoor
  readonly #running = new Map<FastifyRequest, AbortController>()
  #apps: FastifyInstance[] = []
  #stopping: CatalogError | undefined

  constructor(deps: ControlServerDeps, options: ControlServerOptions) {
    this.#deps = deps
    this.#options = { ...defaultControlServerOptions, ...options }
    const { uploadDirectory: directory, maxUploads, uploadPatienceMs: patienceMs } = this.#options
    this.#uploads = new Uploads(deps, { ...defaultUploadsOptions, directory, maxUploads, patienceMs })
    this.#door = new TokenDoor(deps)
    deps.tokens.onRevoked(id => this.#endRequestsOf(id))
  }

  /** @throws CatalogError `already-running`, `home-not-owned`, `output-exists`, `forbidden`, `invalid-config` */
  async start(): Promise<void> {
    const { socketPath, shared } = this.#options
    await checkOwnDirectory(socketPath)
    await removeStaleSocket(socketPath)
    await this.#uploads.start()
    try {
      await this.#listen(socketPath, async () => owner)
      await chmod(socketPath, 0o600)
      if (shared === undefined) return
      await checkSharedDirectory(shared.path)
      await removeStaleSocket(shared.path)
      await this.#listen(shared.path, request => this.#door.admit(request, this.#signalOf(request)))
      await openToGroup(shared.path, shared.group)
    } catch (error) {
      await this.stop()
      throw error
    }
  }

  async stop(): Promise<void> {
    const apps = this.#apps.splice(0)
    if (apps.length === 0) return
    this.#stopping = new CatalogError(
      'daemon-stopping',
      'The daemon is stopping. Start it again with `catalog daemon`.',
    )
    for (const controller of this.#running.values()) controller.abort(this.#stopping)
    const timer = setTimeout(() => {
      for (const app of apps) app.server.closeAllConnections()
    }, stopWithinMs)
    await Promise.all(apps.map(app => app.close()))
    clearTimeout(timer)
    await this.#uploads.stop()
  }

  async #listen(path: string, callerOf: (request: FastifyRequest) => Promise<Caller>): Promise<void> {
    const { api, tokens } = this.#deps
    const app = this.#build()
    guard(app, callerOf)
    await describeApi(app, this.#options.version)
    boundLargeBodies(app)
    addRoutes(app, {
      api: ({ caller }) => limitApi(api, caller, tokens),
      signalOf: request => this.#signalOf(request),
      tokens,
      uploads: this.#uploads,
    })
    await app.listen({ path })
    this.#apps.push(app)
  }

  #build(): FastifyInstance {
    const { maxConnections, headersTimeoutMs } = this.#options
    const app = Fastify({
      bodyLimit: maxBodyBytes,
      // An archive may take long: each request is timed by what it is.
      requestTimeout: 0,
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
    addBodyParsers(app)
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
        this.#deps.log.error(
          { error: error.cause ?? error, method: request.method, url: request.url },
          'control request failed',
        )
      if (error.code === 'token-invalid') reply.header('www-authenticate', 'Bearer')
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
      this.#limitArrival(request)
      reply.raw.once('close', () => {
        this.#running.delete(request)
        if (!reply.raw.writableFinished)
          controller.abort(new CatalogError('cancelled', 'The client closed the connection.'))
        const { method, url } = request
        this.#deps.log.debug(
          { method, url, status: reply.raw.statusCode, ms: Math.round(reply.elapsedTime) },
          'control request',
        )
        // What was answered early, an archive that was refused for instance, is not read to an end that may never come.
        if (!request.raw.complete) endSoon(request)
      })
    })
  }

  /** An archive is timed by who reads it. */
  #limitArrival(request: FastifyRequest): void {
    if (isArchive(request)) return
    const timer = setTimeout(() => {
      if (!request.raw.complete) request.raw.destroy()
    }, this.#options.requestTimeoutMs)
    request.raw.once('close', () => clearTimeout(timer))
  }

  #endRequestsOf(token: string): void {
    const reason = new CatalogError('token-invalid', 'The token was revoked while the request went on.')
    for (const [request, controller] of this.#running)
      if (request.caller?.token === token) controller.abort(reason)
  }

  #signalOf(request: FastifyRequest): AbortSignal {
    return this.#running.get(request)?.signal ?? AbortSignal.abort(this.#stopping)
  }
}

function endSoon({ raw }: FastifyRequest): void {
  const timer = setTimeout(() => raw.socket.destroy(), lingerMs)
  raw.socket.once('close', () => clearTimeout(timer))
}
