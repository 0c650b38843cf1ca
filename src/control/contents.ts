// The calls that give content out as a stream: all of a release, or of an execution's outputs, as a tar archive; or as
// its index and its bytes, from which a client writes and verifies the files itself. Memory is bounded by a chunk: what
// a reader does not take is not read.
import { Readable } from 'node:stream'
import type { FastifyReply, FastifyRequest } from 'fastify'
import { z } from 'zod'
import { encodeContentIndex } from '../assets/content-index.ts'
import { packArchive, partsOf } from '../assets/pack-archive.ts'
import { CatalogError } from '../base/errors.ts'
import type { CallOptions } from '../base/lifecycle.ts'
import type { Routes } from './access.ts'
import type { ContentView } from './api.ts'
import { parseRange } from './range.ts'
import type { SignalOf } from './routes.ts'
import { answers, queries } from './schemas.ts'

/** Indexes are sent from memory, and a reader may be slow: together no more than this, or a single one. */
const maxHeldIndexBytes = 128 * 1024 * 1024

const archiveType = 'application/x-tar'
const indexType = 'application/vnd.ipld.dag-cbor'
const bytesType = 'application/octet-stream'

const stream = (type: string, description: string) => ({
  200: { description, content: { [type]: { schema: z.string() } } },
  default: answers.error,
})

export interface Contents {
  /** The path that the three calls lie below. */
  readonly under: string
  readonly what: string
  readonly requires: 'fetch' | 'execute'
  readonly params: z.ZodType
  readonly open: (request: FastifyRequest, options: CallOptions) => Promise<ContentView>
}

export function addContentRoutes(
  app: Routes,
  { under, what, requires, params, open }: Contents,
  signalOf: SignalOf,
): void {
  const config = { requires }
  const schema = (type: string, summary: string, description: string) => ({
    summary,
    params,
    querystring: queries.none,
    response: stream(type, description),
  })
  let heldBytes = 0
  const hold = (bytes: number, reply: FastifyReply) => {
    if (heldBytes > 0 && heldBytes + bytes > maxHeldIndexBytes)
      throw new CatalogError('busy', 'The node is sending large content indexes already. Try again.')
    heldBytes += bytes
    reply.raw.once('close', () => {
      heldBytes -= bytes
    })
  }
  const contentOf = (request: FastifyRequest) => open(request, { signal: signalOf(request) })
  app.get(
    `${under}/archive`,
    {
      config,
      schema: schema(archiveType, `${what}, as a tar archive`, 'Files, links and empty directories'),
    },
    async (request, reply) =>
      send(request, reply, archiveType, archiveOf(await contentOf(request), { signal: signalOf(request) })),
  )
  app.get(
    `${under}/index`,
    {
      config,
      schema: schema(indexType, `${what}: its content index`, 'Canonical CBOR, hashing to the content root'),
    },
    async (request, reply) => {
      const { bytes } = encodeContentIndex((await contentOf(request)).index)
      hold(bytes.byteLength, reply)
      return reply.type(indexType).send(Buffer.from(bytes.buffer, bytes.byteOffset, bytes.byteLength))
    },
  )
  app.get(
    `${under}/content`,
    {
      config,
      schema: schema(bytesType, `${what}: its byte stream, or a range of it`, 'The files, in path order'),
    },
    async (request, reply) => {
      const { index, read } = await contentOf(request)
      return sendRange(request, reply, index.size, read)
    },
  )
}

function archiveOf(content: ContentView, options: CallOptions): AsyncIterable<Uint8Array> {
  const parts = partsOf(content.read(0, content.index.size))
  return closing(
    packArchive(content.index.entries, ({ size }) => parts.take(size), options),
    () => parts.close(),
  )
}

async function* closing(
  source: AsyncIterable<Uint8Array>,
  close: () => Promise<void>,
): AsyncGenerator<Uint8Array, void, undefined> {
  try {
    yield* source
  } finally {
    await close()
  }
}

/** Bytes of `size`, all or the range that the request names. */
export function sendRange(
  request: FastifyRequest,
  reply: FastifyReply,
  size: number,
  read: (offset: number, length: number) => AsyncIterable<Uint8Array>,
): FastifyReply {
  reply.header('accept-ranges', 'bytes')
  let range: ReturnType<typeof parseRange>
  try {
    range = parseRange(request.headers.range, size)
  } catch (error) {
    reply.header('content-range', `bytes */${size}`)
    throw error
  }
  const { offset, length } = range ?? { offset: 0, length: size }
  if (range !== undefined)
    reply.code(206).header('content-range', `bytes ${offset}-${offset + length - 1}/${size}`)
  reply.header('content-length', length)
  return send(request, reply, bytesType, request.method === 'HEAD' ? [] : read(offset, length))
}

function send(
  request: FastifyRequest,
  reply: FastifyReply,
  type: string,
  bytes: AsyncIterable<Uint8Array> | Iterable<Uint8Array>,
): FastifyReply {
  reply.type(type)
  return reply.send(Readable.from(request.method === 'HEAD' ? [] : bytes, { objectMode: false }))
}
