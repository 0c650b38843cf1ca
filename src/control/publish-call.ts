// `POST /v1/publish`: a package as a path of the owner's, or as a tar archive in the body from anyone who may publish.
import { IncomingMessage } from 'node:http'
import type { FastifyReply, FastifyRequest } from 'fastify'
import { requireName } from './access.ts'
import type { NodeApi, PublishRequest } from './api.ts'
import { LineStream } from './line-stream.ts'
import type { Uploads } from './uploads.ts'

export async function publishCall(
  api: NodeApi,
  uploads: Uploads,
  request: FastifyRequest,
  reply: FastifyReply,
  signal: AbortSignal,
): Promise<unknown> {
  const lines = new LineStream(reply, signal)
  const { body, caller } = request
  if (!(body instanceof IncomingMessage)) {
    await lines.run(onProgress => api.publish(body as PublishRequest, { signal, onProgress }))
    return reply
  }
  const { replicas } = request.query as { replicas?: string }
  const wanted = replicas === undefined ? {} : { replicas: Number(replicas) }
  // All of it, before the answer begins: what is wrong with it is an HTTP error.
  await using upload = await uploads.receive(body, { signal })
  for (const name of await upload.names()) requireName(caller, name, 'publish')
  await lines.run(onProgress => uploads.publish(upload, wanted, { signal, onProgress }))
  return reply
}
