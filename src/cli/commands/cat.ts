// `catalog cat`: one file of a release on standard output, each byte as soon as it has come.

import { isUtf8 } from 'node:buffer'
import { once } from 'node:events'
import { CatalogError } from '../../base/errors.ts'
import type { Run } from '../command.ts'
import { showWarnings } from '../warnings.ts'

const maxJsonBytes = 16 * 1024 * 1024

export const run: Run = async ({ client, signal, operands, options, json, print }) => {
  const [ref, path] = operands as [string, string]
  const chunks: Uint8Array[] = []
  let size = 0
  let warnings: readonly string[] = []
  const onWarnings = (told: readonly string[]) => {
    warnings = told
    if (!json) showWarnings(told)
  }
  const allowStale = options['allowStale'] === true
  for await (const chunk of client.file(ref, path, { signal, allowStale, onWarnings })) {
    if (json) {
      chunks.push(chunk)
      size += chunk.byteLength
      if (size > maxJsonBytes)
        throw new CatalogError(
          'invalid-request',
          `${path} has more than ${maxJsonBytes} bytes, too many for one JSON object. Leave out --json.`,
          { ref, path },
        )
    } else if (!process.stdout.write(chunk)) await once(process.stdout, 'drain', { signal })
  }
  if (!json) return 0
  const bytes = Buffer.concat(chunks)
  const content = isUtf8(bytes) ? { content: bytes.toString() } : { contentBase64: bytes.toString('base64') }
  const warned = warnings.length === 0 ? {} : { warnings }
  print({ path, bytes: bytes.byteLength, ...content, ...warned }, () => '')
  return 0
}
