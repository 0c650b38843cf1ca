// A typed client of the control socket: one method per call of api.ts. It uses node:http alone, because the
// command line's start-up is most of what a user waits for. It trusts the daemon for what it says; content can be
// verified by its index, which hashes to the content root.
import { type ClientRequest, request as httpRequest, type IncomingMessage } from 'node:http'
import { Readable } from 'node:stream'
import { StringDecoder } from 'node:string_decoder'
import { CatalogError, type ErrorCode, errorTable } from '../base/errors.ts'
import type { CallOptions } from '../base/lifecycle.ts'
import type {
  AnnouncementState,
  CheckRequest,
  CheckResult,
  CollectRequest,
  CollectResult,
  CreatedToken,
  DeprecateRequest,
  DrainRequest,
  DrainResult,
  EquivocationView,
  ExecuteRequest,
  ExecutionEvent,
  ExecutionView,
  FetchFailure,
  FetchRequest,
  FetchResult,
  MarkResult,
  PeerView,
  PinRequest,
  PinResult,
  Progress,
  ProgressOptions,
  PublishRequest,
  PublishResult,
  ReleaseDetail,
  ReleaseView,
  RemoveResult,
  ReplicasView,
  ResultRequest,
  ResultResult,
  SearchHit,
  SearchQuery,
  Status,
  TokenRequest,
  TokenView,
  YankRequest,
} from './api.ts'
import type {
  GrantRequest,
  GrantResult,
  InviteRequest,
  InviteResult,
  IssuedCertificate,
  IssueRequest,
  IssueResult,
  RevokeRequest,
  RevokeResult,
  RotateRequest,
  RotateResult,
} from './certificates-api.ts'
import type { NoticeRequest, NoticeResult, RootState } from './roots-api.ts'
import type { CanAnswer, CanQuestion, ExportRequest, ExportResult, TrustView } from './trust-calls.ts'

export interface LogPiece {
  readonly stream: 'stdout' | 'stderr'
  readonly bytes: Uint8Array
}

export interface ExecuteOptions extends CallOptions {
  readonly onEvent?: (event: ExecutionEvent) => void
}

export interface ControlClientOptions {
  readonly socketPath: string
  /** What the shared socket wants with every request; asked for at each. */
  readonly token?: (() => Promise<string>) | undefined
}

/** What a content belongs to. */
export type ContentOf = { readonly release: string } | { readonly execution: string }

/** Every method throws CatalogError: the daemon's own, or `daemon-not-running`, `daemon-stopping`, `busy`. */
export class ControlClient {
  readonly #socketPath: string
  readonly #token: (() => Promise<string>) | undefined

  constructor({ socketPath, token }: ControlClientOptions) {
    this.#socketPath = socketPath
    this.#token = token
  }

  status(options?: CallOptions): Promise<Status> {
    return this.#json('GET', '/v1/status', undefined, options)
  }

  async peers(options?: CallOptions): Promise<PeerView[]> {
    return (await this.#json<{ peers: PeerView[] }>('GET', '/v1/peers', undefined, options)).peers
  }

  announcements(options?: CallOptions): Promise<AnnouncementState> {
    return this.#json('GET', '/v1/announcements', undefined, options)
  }

  async releases(heldOnly: boolean, options?: CallOptions): Promise<ReleaseView[]> {
    const path = `/v1/releases${query({ held: heldOnly ? 'true' : undefined })}`
    return (await this.#json<{ releases: ReleaseView[] }>('GET', path, undefined, options)).releases
  }

  show(ref: string, options: CallOptions & { readonly publisher?: string } = {}): Promise<ReleaseDetail> {
    const path = `/v1/releases/${encodeURIComponent(ref)}${query({ publisher: options.publisher })}`
    return this.#json('GET', path, undefined, options)
  }

  remove(ref: string, options?: CallOptions): Promise<RemoveResult> {
    return this.#json('DELETE', `/v1/releases/${encodeURIComponent(ref)}`, undefined, options)
  }

  pin(request: PinRequest, options: ProgressOptions = {}): Promise<PinResult> {
    return this.#work('/v1/pin', request, options)
  }

  collect(request: CollectRequest = {}, options: ProgressOptions = {}): Promise<CollectResult> {
    return this.#work('/v1/gc', request, options)
  }

  check(request: CheckRequest = {}, options: ProgressOptions = {}): Promise<CheckResult> {
    return this.#work('/v1/check', request, options)
  }

  replicas(ref: string, options?: CallOptions): Promise<ReplicasView> {
    return this.#json('GET', `/v1/releases/${encodeURIComponent(ref)}/replicas`, undefined, options)
  }

  setReplicas(ref: string, factor: number, options?: CallOptions): Promise<ReplicasView> {
    return this.#json('POST', `/v1/releases/${encodeURIComponent(ref)}/replicas`, { factor }, options)
  }

  drain(request: DrainRequest, options: ProgressOptions = {}): Promise<DrainResult> {
    return this.#work('/v1/drain', request, options)
  }

  yank(request: YankRequest, options?: CallOptions): Promise<MarkResult> {
    return this.#json('POST', '/v1/yank', request, options)
  }

  deprecate(request: DeprecateRequest, options?: CallOptions): Promise<MarkResult> {
    return this.#json('POST', '/v1/deprecate', request, options)
  }

  async equivocations(options?: CallOptions): Promise<EquivocationView[]> {
    const path = '/v1/equivocations'
    return (await this.#json<{ equivocations: EquivocationView[] }>('GET', path, undefined, options))
      .equivocations
  }

  async search(search: SearchQuery, options?: CallOptions): Promise<SearchHit[]> {
    const { query: q, tag, type, category, limit } = search
    const path = `/v1/search${query({ q, tag, type, category, limit: limit?.toString() })}`
    return (await this.#json<{ results: SearchHit[] }>('GET', path, undefined, options)).results
  }

  publish(request: PublishRequest, options: ProgressOptions = {}): Promise<PublishResult> {
    return this.#work('/v1/publish', request, options)
  }

  /** A package as a tar archive. @throws as `publish`, and what the archive throws */
  async publishArchive(
    archive: AsyncIterable<Uint8Array>,
    { replicas }: Omit<PublishRequest, 'path'> = {},
    options: ProgressOptions = {},
  ): Promise<PublishResult> {
    const path = `/v1/publish${query({ replicas: replicas?.toString() })}`
    const response = await this.#send('POST', path, archive, options, { 'content-type': 'application/x-tar' })
    return lastLine(response, options.signal, line => {
      if (line['progress'] !== undefined) options.onProgress?.(line['progress'] as Progress)
    })
  }

  /** The content index as it hashes to the root: at most 64 MiB. */
  async index(of: ContentOf, options: CallOptions = {}): Promise<Uint8Array> {
    const response = await this.#send('GET', `${contentPath(of)}/index`, undefined, options)
    return readBytes(response, options.signal)
  }

  /** Bytes [offset, offset + length) of the content. */
  async *content(
    of: ContentOf,
    offset: number,
    length: number,
    options: CallOptions = {},
  ): AsyncGenerator<Uint8Array, void, undefined> {
    if (length === 0) return
    const headers = { range: `bytes=${offset}-${offset + length - 1}` }
    const response = await this.#send('GET', `${contentPath(of)}/content`, undefined, options, headers)
    try {
      yield* response as AsyncIterable<Uint8Array>
    } catch (error) {
      throw errorOfReading(error, options.signal)
    }
  }

  invite(request: InviteRequest = {}, options?: CallOptions): Promise<InviteResult> {
    return this.#json('POST', '/v1/trust/invites', request, options)
  }

  grant(request: GrantRequest, options?: CallOptions): Promise<GrantResult> {
    return this.#json('POST', '/v1/trust/grants', request, options)
  }

  revokeCertificates(request: RevokeRequest, options?: CallOptions): Promise<RevokeResult> {
    return this.#json('POST', '/v1/trust/revocations', request, options)
  }

  issueCertificates(request: IssueRequest, options?: CallOptions): Promise<IssueResult> {
    return this.#json('POST', '/v1/trust/certificates', request, options)
  }

  rotateKeys(request: RotateRequest, options?: CallOptions): Promise<RotateResult> {
    return this.#json('POST', '/v1/trust/rotations', request, options)
  }

  async issuedCertificates(options?: CallOptions): Promise<IssuedCertificate[]> {
    const path = '/v1/trust/certificates'
    return (await this.#json<{ certificates: IssuedCertificate[] }>('GET', path, undefined, options))
      .certificates
  }

  trust(options?: CallOptions): Promise<TrustView> {
    return this.#json('GET', '/v1/trust', undefined, options)
  }

  can(question: CanQuestion, options?: CallOptions): Promise<CanAnswer> {
    return this.#json('POST', '/v1/trust/can', question, options)
  }

  exportCertificate(request: ExportRequest, options?: CallOptions): Promise<ExportResult> {
    return this.#json('POST', '/v1/trust/export', request, options)
  }

  rootState(options?: CallOptions): Promise<RootState> {
    return this.#json('GET', '/v1/trust/root', undefined, options)
  }

  sendNotice(request: NoticeRequest, options?: CallOptions): Promise<NoticeResult> {
    return this.#json('POST', '/v1/trust/notices', request, options)
  }

  async tokens(options?: CallOptions): Promise<TokenView[]> {
    return (await this.#json<{ tokens: TokenView[] }>('GET', '/v1/tokens', undefined, options)).tokens
  }

  createToken(request: TokenRequest, options?: CallOptions): Promise<CreatedToken> {
    return this.#json('POST', '/v1/tokens', request, options)
  }

  revokeToken(id: string, options?: CallOptions): Promise<TokenView> {
    return this.#json('DELETE', `/v1/tokens/${encodeURIComponent(id)}`, undefined, options)
  }

  async fetch(request: FetchRequest, options: ProgressOptions = {}): Promise<(FetchResult | FetchFailure)[]> {
    return (await this.#work<{ results: (FetchResult | FetchFailure)[] }>('/v1/fetch', request, options))
      .results
  }

  /** The file's bytes, all or `range` of them (both ends included, as in HTTP). */
  async *file(
    id: string,
    path: string,
    options: CallOptions & {
      readonly range?: { readonly first: number; readonly last?: number }
      readonly allowStale?: boolean
      /** Called before the first byte, where there is something that one should know. */
      readonly onWarnings?: (warnings: readonly string[]) => void
    } = {},
  ): AsyncIterable<Uint8Array> {
    const { range, allowStale } = options
    const stale = query({ allowStale: allowStale === true ? 'true' : undefined })
    const url = `/v1/releases/${encodeURIComponent(id)}/files/${path.split('/').map(encodeURIComponent).join('/')}${stale}`
    const headers = range === undefined ? {} : { range: `bytes=${range.first}-${range.last ?? ''}` }
    const response = await this.#send('GET', url, undefined, options, headers)
    const warnings = response.headers['catalog-warnings']
    if (typeof warnings === 'string')
      options.onWarnings?.(JSON.parse(decodeURIComponent(warnings)) as string[])
    yield* response as AsyncIterable<Uint8Array>
  }

  /** Waits for the end; its state and output come as events. The signal cancels the execution. */
  async execute(
    request: Omit<ExecuteRequest, 'detach'>,
    options: ExecuteOptions = {},
  ): Promise<ExecutionView> {
    const response = await this.#send('POST', '/v1/execute', request, options)
    return lastLine(response, options.signal, line => {
      if (line['event'] !== undefined) options.onEvent?.(line['event'] as ExecutionEvent)
    })
  }

  /** Returns the id once the execution is on record. */
  async executeDetached(request: Omit<ExecuteRequest, 'detach'>, options?: CallOptions): Promise<string> {
    const body = { ...request, detach: true }
    return (await this.#json<{ id: string }>('POST', '/v1/execute', body, options)).id
  }

  async executions(options?: CallOptions): Promise<ExecutionView[]> {
    return (await this.#json<{ executions: ExecutionView[] }>('GET', '/v1/executions', undefined, options))
      .executions
  }

  execution(id: string, options?: CallOptions): Promise<ExecutionView> {
    return this.#json('GET', `/v1/executions/${encodeURIComponent(id)}`, undefined, options)
  }

  async *logs(
    id: string,
    options: CallOptions & { readonly follow?: boolean } = {},
  ): AsyncIterable<LogPiece> {
    const follow = query({ follow: options.follow === true ? 'true' : undefined })
    const response = await this.#send(
      'GET',
      `/v1/executions/${encodeURIComponent(id)}/logs${follow}`,
      undefined,
      options,
    )
    for await (const line of jsonLines(response, options.signal)) {
      if (line['error'] !== undefined) throw receivedError(line)
      const { stream, text, base64 } = line as { stream: LogPiece['stream']; text?: string; base64?: string }
      yield { stream, bytes: text === undefined ? Buffer.from(base64 ?? '', 'base64') : Buffer.from(text) }
    }
  }

  result(id: string, request: ResultRequest, options: ProgressOptions = {}): Promise<ResultResult> {
    return this.#work(`/v1/executions/${encodeURIComponent(id)}/result`, request, options)
  }

  cancel(id: string, options?: CallOptions): Promise<ExecutionView> {
    return this.#json('POST', `/v1/executions/${encodeURIComponent(id)}/cancel`, undefined, options)
  }

  async #json<T>(method: string, path: string, body?: unknown, options?: CallOptions): Promise<T> {
    const response = await this.#send(method, path, body, options)
    return parseLine(await readAll(response, options?.signal)) as T
  }

  async #work<T>(path: string, body: unknown, options: ProgressOptions): Promise<T> {
    const response = await this.#send('POST', path, body, options)
    return lastLine(response, options.signal, line => {
      if (line['progress'] !== undefined) options.onProgress?.(line['progress'] as Progress)
    })
  }

  /** The answer, once its headers are here and say that it is one. */
  async #send(
    method: string,
    path: string,
    body: unknown,
    options: CallOptions = {},
    headers: Record<string, string> = {},
  ): Promise<IncomingMessage> {
    const { signal } = options
    signal?.throwIfAborted()
    const token = await this.#token?.()
    const archive = isStream(body) ? body : undefined
    const text = body === undefined || isStream(body) ? undefined : JSON.stringify(body)
    const request = httpRequest({
      socketPath: this.#socketPath,
      method,
      path,
      agent: false,
      headers: {
        host: 'catalog',
        ...(token === undefined ? {} : { authorization: `Bearer ${token}` }),
        ...headers,
        ...(text === undefined
          ? {}
          : { 'content-type': 'application/json', 'content-length': Buffer.byteLength(text) }),
      },
    })
    const abort = () => request.destroy(signal?.reason as Error)
    signal?.addEventListener('abort', abort, { once: true })
    request.once('close', () => signal?.removeEventListener('abort', abort))
    const response = await this.#response(request, archive ?? text, signal)
    if ((response.statusCode ?? 500) < 300) return response
    throw receivedError(parseLine(await readAll(response, signal)))
  }

  #response(
    request: ClientRequest,
    body: string | AsyncIterable<Uint8Array> | undefined,
    signal?: AbortSignal,
  ): Promise<IncomingMessage> {
    return new Promise((resolve, reject) => {
      // Stays for the whole answer: what comes after the headers also reaches the response's reader.
      request.on('error', error =>
        reject(signal?.aborted === true ? signal.reason : this.#connectionError(error)),
      )
      request.once('response', resolve)
      if (isStream(body)) sendStream(request, body, reject)
      else request.end(body)
    })
  }

  #connectionError(error: NodeJS.ErrnoException): CatalogError {
    const path = this.#socketPath
    switch (error.code) {
      case 'ENOENT':
      case 'ECONNREFUSED':
      case 'ENOTDIR':
        return new CatalogError(
          'daemon-not-running',
          `No daemon is listening at ${path}. Start it with \`catalog daemon\`, or name its home with --home.`,
          { socket: path },
          error,
        )
      case 'EACCES':
        return new CatalogError(
          'forbidden',
          this.#token === undefined
            ? `The control socket ${path} belongs to another user. Name your own home with --home.`
            : `You may not open the control socket ${path}. Ask the owner of the node to add you to the socket's group (then log in anew).`,
          { socket: path },
          error,
        )
      case 'EINVAL':
      case 'ENAMETOOLONG':
        return new CatalogError(
          'socket-path-too-long',
          `The path of the control socket ${path} is too long for a socket. Name a shorter home with --home (a symbolic link to the long one will do).`,
          { path },
          error,
        )
      case 'EAGAIN':
        return new CatalogError('busy', `The daemon at ${path} has too many clients. Try again.`, {}, error)
      default:
        return brokenOff(error)
    }
  }
}

const isStream = (body: unknown): body is AsyncIterable<Uint8Array> =>
  typeof body === 'object' && body !== null && Symbol.asyncIterator in body

/** As fast as the daemon takes it, and no longer than until it answers. */
function sendStream(
  request: ClientRequest,
  body: AsyncIterable<Uint8Array>,
  reject: (error: unknown) => void,
): void {
  const source = Readable.from(body, { objectMode: false })
  source.once('error', error => {
    reject(error)
    request.destroy()
  })
  request.once('response', response => {
    source.unpipe(request)
    source.destroy()
    response.once('end', () => request.destroy())
  })
  request.once('close', () => source.destroy())
  source.pipe(request)
}

const contentPath = (of: ContentOf): string =>
  'release' in of
    ? `/v1/releases/${encodeURIComponent(of.release)}`
    : `/v1/executions/${encodeURIComponent(of.execution)}`

type Line = Record<string, unknown>

const brokenOff = (cause?: unknown): CatalogError =>
  new CatalogError(
    'daemon-stopping',
    'The daemon closed the connection before it answered: it stopped, or has too many clients. See `catalog status`, then try again.',
    {},
    cause,
  )

async function lastLine<T>(
  response: IncomingMessage,
  signal: AbortSignal | undefined,
  onLine: (line: Line) => void,
): Promise<T> {
  // Read to its end: leaving early would close the connection, which means giving up.
  let result: unknown
  for await (const line of jsonLines(response, signal)) {
    if (line['error'] !== undefined) throw receivedError(line)
    if (line['result'] !== undefined) result = line['result']
    else onLine(line)
  }
  if (result === undefined) throw brokenOff()
  return result as T
}

function query(parameters: Record<string, string | undefined>): string {
  const given = Object.entries(parameters).filter((pair): pair is [string, string] => pair[1] !== undefined)
  return given.length === 0 ? '' : `?${new URLSearchParams(given)}`
}

const readAll = async (response: IncomingMessage, signal: AbortSignal | undefined): Promise<string> =>
  (await readBytes(response, signal)).toString('utf8')

async function readBytes(response: IncomingMessage, signal: AbortSignal | undefined): Promise<Buffer> {
  const chunks: Buffer[] = []
  try {
    for await (const chunk of response) chunks.push(chunk as Buffer)
  } catch (error) {
    throw errorOfReading(error, signal)
  }
  return Buffer.concat(chunks)
}

/** Each line of an answer as JSON. Leaving the loop closes the connection. */
async function* jsonLines(response: IncomingMessage, signal: AbortSignal | undefined): AsyncIterable<Line> {
  const decoder = new StringDecoder('utf8')
  // Pieces of the unfinished line: joined once it ends, since one line may be many chunks long.
  let pending: string[] = []
  try {
    for await (const chunk of response) {
      const parts = decoder.write(chunk as Buffer).split('\n')
      pending.push(parts[0] ?? '')
      for (const part of parts.slice(1)) {
        const line = pending.join('')
        pending = [part]
        if (line !== '') yield parseLine(line)
      }
    }
  } catch (error) {
    throw errorOfReading(error, signal)
  }
}

/** Whoever gave up gets their own reason; a socket that broke has an errno; our own errors pass through. */
function errorOfReading(error: unknown, signal: AbortSignal | undefined): unknown {
  if (signal?.aborted === true) return signal.reason
  const { code } = error as NodeJS.ErrnoException
  return code === 'ECONNRESET' || code === 'EPIPE' || code === 'ERR_STREAM_PREMATURE_CLOSE'
    ? brokenOff(error)
    : error
}

function parseLine(text: string): Line {
  try {
    return JSON.parse(text) as Line
  } catch {
    throw brokenOff()
  }
}

/** A daemon newer than this client may have codes that it does not know. */
function receivedError(line: Line): CatalogError {
  const { code, message, ...data } = (line['error'] ?? {}) as Record<string, unknown>
  const known = typeof code === 'string' && Object.hasOwn(errorTable, code) ? (code as ErrorCode) : 'internal'
  return new CatalogError(known, String(message ?? 'The daemon failed without saying why.'), data)
}
