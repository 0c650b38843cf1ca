// `catalog result`: the record with its output, or with --out the files that the payload left.
import { resolve } from 'node:path'
import { CatalogError } from '../../base/errors.ts'
import type { ResultResult } from '../../control/api.ts'
import type { ControlClient } from '../../control/client.ts'
import type { Run } from '../command.ts'
import { showProgress } from '../progress.ts'
import type { WriteOptions } from '../streams.ts'
import { formatBytes, plural } from '../text.ts'
import { describeExecution } from './executions.ts'

export const run: Run = async ({ client, streams, signal, operands, options, json, print }) => {
  const [id = ''] = operands
  const out = options['out'] as string | undefined
  if (out === undefined) {
    const view = await client.execution(id, { signal })
    if (['queued', 'fetching', 'running'].includes(view.state))
      throw new CatalogError(
        'result-not-ready',
        `The execution ${id} has no result yet: it is ${view.state}. Follow it with \`catalog logs ${id} --follow\`.`,
        { id, state: view.state },
      )
    print(view, () => [describeExecution(view), view.stdout].filter(Boolean).join('\n\n').trimEnd())
    return 0
  }
  const { onProgress, stop } = showProgress({ json })
  const force = options['force'] === true
  const writing = streams
    ? writeHere(client, id, resolve(out), { signal, onProgress, force })
    : client.result(id, { out: resolve(out), ...(force ? { force } : {}) }, { signal, onProgress })
  const written = await writing.finally(stop)
  print(
    written,
    () => `Wrote ${plural(written.files, 'file')} (${formatBytes(written.bytes)}) to ${written.out}`,
  )
  return 0
}

async function writeHere(
  client: ControlClient,
  id: string,
  out: string,
  options: WriteOptions,
): Promise<ResultResult> {
  const { writeContent } = await import('../streams.ts')
  const { resultRoot = '' } = await client.execution(id, options)
  return {
    id,
    root: resultRoot,
    out,
    ...(await writeContent(client, { execution: id }, resultRoot, out, options)),
  }
}
