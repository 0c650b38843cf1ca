// What is done to every request before a route sees it: its body is bounded and read as JSON, or passed on as an archive;
// its parts are checked against their schemas; and whatever is refused has a code of ours.
import { Readable } from 'node:stream'
import type { FastifyInstance, FastifyRequest } from 'fastify'
import { CatalogError, toCatalogError } from '../base/errors.ts'
import { parseJsonBody } from './json-body.ts'

/** All other requests are paths, names and settings. */
export const maxBodyBytes = 1024 * 1024
/** Of other users, at once. */
const maxLargeBodies = 8
const archiveType = 'application/x-tar'

export const isArchive = ({ headers, routeOptions }: FastifyRequest): boolean =>
  routeOptions.config.takesArchive === true &&
  headers['content-type']?.split(';')[0]?.trim().toLowerCase() === archiveType

/** Bodies are read into memory: other users' large ones, such as the input of executions, are counted. */
export function boundLargeBodies(app: FastifyInstance): void {
  let large = 0
  app.addHook('preParsing', async (request, reply, payload) => {
    const { 'content-length': length = '0', 'transfer-encoding': coding } = request.headers
    const isLarge = coding !== undefined || Number(length) > maxBodyBytes
    if (request.caller.token === undefined || isArchive(request) || !isLarge) return payload
    if (large >= maxLargeBodies)
      throw new CatalogError(
        'busy',
        `The node is busy with ${large} large requests. Try again when one is done.`,
      )
    large++
    reply.raw.once('close', () => {
      large--
    })
    return payload
  })
}

export function addBodyParsers(app: FastifyInstance): void {
  app.removeAllContentTypeParsers()
  // Whatever curl calls it: a body is JSON, unless it is an archive and the call takes one.
  app.addContentTypeParser('*', { parseAs: 'string' }, async (_request: unknown, body: string | Buffer) =>
    parseJsonBody(String(body)),
  )
  app.addContentTypeParser(archiveType, async (request: FastifyRequest, body: unknown) => {
    if (isArchive(request)) return body
    throw new CatalogError(
      'invalid-request',
      `${request.method} ${request.routeOptions.url} takes JSON, and no archive. GET /v1/openapi.json describes it.`,
    )
  })
}

export interface Schema {
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
export const checker = (schema: Schema, part: string) => (value: unknown) => {
  // An archive: its rules are those of packages.
  if (part === 'body' && value instanceof Readable) return { value }
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
export function requestError(thrown: unknown): CatalogError {
  const { statusCode, code } = (thrown ?? {}) as { statusCode?: number; code?: string }
  if (thrown instanceof CatalogError || typeof code !== 'string' || !code.startsWith('FST_'))
    return toCatalogError(thrown)
  if (statusCode === 413) return new CatalogError('too-large', 'The body of the request is too large.')
  if (statusCode !== undefined && statusCode >= 400 && statusCode < 500)
    return new CatalogError('invalid-request', `The request is not valid: ${(thrown as Error).message}.`)
  return toCatalogError(thrown)
}

/** No stack, no cause: what `toJSON` gives. */
export const errorBody = (error: CatalogError) => ({ error: error.toJSON() })

/** A parameter given twice is refused by its schema, which wants a text. */
export function parseQuery(text: string): Record<string, unknown> {
  const query: Record<string, unknown> = Object.create(null)
  for (const [key, value] of new URLSearchParams(text))
    query[key] = key in query ? [query[key], value].flat() : value
  return query
}
