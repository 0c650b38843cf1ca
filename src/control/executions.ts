// The two calls that follow an execution: running one to its end, and reading what one wrote.
import { isUtf8 } from 'node:buffer'
import type { FastifyReply } from 'fastify'
import { isCatalogError } from '../base/errors.ts'
import type { ExecuteRequest, ExecutionEvent, NodeApi } from './api.ts'
import { LineStream } from './line-stream.ts'

/** Starts an execution and follows it to its end; a connection that closes before cancels it, unless detached. */
export async function runExecution(
  api: NodeApi,
  request: ExecuteRequest,
  reply: FastifyReply,
  signal: AbortSignal,
): Promise<unknown> {
  const { id, state, peer, warnings } = await api.execute(request, { signal })
  const warned = warnings === undefined ? {} : { warnings }
  if (request.detach === true)
    return reply
      .code(202)
      .header('location', `/v1/executions/${id}`)
      .send({ id, ...warned })
  const lines = new LineStream(reply, signal)
  const cancelIfLeft = () => {
    // A daemon that stops ends its executions itself.
    if (!isCatalogError(signal.reason, 'daemon-stopping')) api.cancelExecution(id).catch(() => undefined)
  }
  if (signal.aborted) cancelIfLeft()
  else signal.addEventListener('abort', cancelIfLeft, { once: true })
  try {
    await lines.run(async () => {
      await lines.write({ event: { id, state, peer, ...warned } satisfies ExecutionEvent })
      for await (const event of api.followExecution(id, { signal })) await lines.write({ event })
      signal.throwIfAborted()
      signal.removeEventListener('abort', cancelIfLeft)
      return { ...(await api.execution(id)), ...warned }
    })
  } finally {
    signal.removeEventListener('abort', cancelIfLeft)
  }
  return reply
}

/** What an execution wrote so far, or until it ends. */
export async function followLogs(
  api: NodeApi,
  id: string,
  follow: boolean,
  reply: FastifyReply,
  signal: AbortSignal,
): Promise<unknown> {
  const view = await api.execution(id)
  const lines = new LineStream(reply, signal)
  if (follow) {
    for await (const event of api.followExecution(id, { signal }))
      if ('stream' in event) await lines.write(logLine(event.stream, Buffer.from(event.base64, 'base64')))
  } else {
    for (const stream of ['stdout', 'stderr'] as const) {
      const bytes = Buffer.from(
        view[stream] ?? view[`${stream}Base64`] ?? '',
        view[stream] === undefined ? 'base64' : 'utf8',
      )
      if (bytes.length > 0) await lines.write(logLine(stream, bytes))
    }
  }
  lines.end()
  return reply
}

const logLine = (stream: 'stdout' | 'stderr', bytes: Buffer) =>
  isUtf8(bytes) ? { stream, text: bytes.toString('utf8') } : { stream, base64: bytes.toString('base64') }
