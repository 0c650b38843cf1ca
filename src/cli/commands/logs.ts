// `catalog logs`: what an execution wrote, each output where it belongs; with --json one piece a line.
import { isUtf8 } from 'node:buffer'
import type { Run } from '../command.ts'

export const run: Run = async ({ client, signal, operands, options, json }) => {
  const pieces = client.logs(operands[0] ?? '', { signal, follow: options['follow'] === true })
  for await (const { stream, bytes } of pieces) {
    if (json) process.stdout.write(`${JSON.stringify({ stream, ...contentOf(Buffer.from(bytes)) })}\n`)
    else process[stream].write(bytes)
  }
  return 0
}

const contentOf = (bytes: Buffer) =>
  isUtf8(bytes) ? { text: bytes.toString('utf8') } : { base64: bytes.toString('base64') }
