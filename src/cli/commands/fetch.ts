// `catalog fetch`: one result for each REF; the exit code is the first failure's.
import { resolve } from 'node:path'
import { CatalogError, type ErrorCode, errorTable, toCatalogError } from '../../base/errors.ts'
import type { FetchFailure, FetchRequest, FetchResult } from '../../control/api.ts'
import type { Invocation, Run } from '../command.ts'
import { type ProgressView, showProgress } from '../progress.ts'
import { formatBytes, formatDuration, formatRate, harmless, plural } from '../text.ts'
import { showWarnings } from '../warnings.ts'

type Result = FetchResult | FetchFailure

export const run: Run = async invocation => {
  const { client, streams, signal, operands, options, json, print } = invocation
  const progress = showProgress({ json })
  const { onProgress } = progress
  const request = requestOf(operands, options)
  const fetching = streams
    ? fetchHere(invocation, request, progress)
    : client.fetch(request, { signal, onProgress })
  const results = await fetching.finally(progress.stop)
  if (!json) for (const result of results) if (!('error' in result)) showWarnings(result.warnings)
  const failures = results.map(failureOf).filter(error => error !== undefined)
  const [only] = results
  if (results.length === 1 && only !== undefined) {
    if (failures[0] !== undefined) throw failures[0]
    print(only, () => describe(only))
    return 0
  }
  if (!json) for (const error of failures) process.stderr.write(`catalog: ${harmless(error.message)}\n`)
  const fetched = results.filter(result => failureOf(result) === undefined)
  if (json || fetched.length > 0) print({ results }, () => fetched.map(describe).join('\n'))
  return failures[0] === undefined ? 0 : errorTable[failures[0].code].exit
}

/** The daemon fetches, and the files are written here; one failure does not end the others. */
async function fetchHere(
  { client, signal }: Invocation,
  { out, outParent, ...request }: FetchRequest,
  { onProgress }: ProgressView,
): Promise<Result[]> {
  const { writeFetched } = await import('../streams.ts')
  const place = {
    ...(out === undefined ? {} : { out }),
    ...(outParent === undefined ? {} : { outParent }),
    several: request.refs.length > 1,
  }
  const results: Result[] = []
  for (const result of await client.fetch(request, { signal, onProgress })) {
    const force = request.force === true
    const writing =
      'error' in result
        ? Promise.resolve(result)
        : writeFetched(client, result, place, { signal, onProgress, force })
    results.push(
      await writing.catch(error => {
        signal.throwIfAborted()
        return { ref: result.ref, error: toCatalogError(error).toJSON() }
      }),
    )
  }
  return results
}

function requestOf(refs: readonly string[], options: Readonly<Record<string, unknown>>): FetchRequest {
  const out = options['out']
  const place =
    typeof out === 'string' ? { out: resolve(out) } : out === false ? {} : { outParent: process.cwd() }
  const publisher = options['publisher'] as string | undefined
  return {
    refs,
    ...place,
    ...(options['force'] === true ? { force: true } : {}),
    ...(options['allowStale'] === true ? { allowStale: true } : {}),
    ...(publisher === undefined ? {} : { publisher }),
  }
}

function failureOf(result: Result): CatalogError | undefined {
  if (!('error' in result)) return undefined
  const { code, message, ...data } = result.error
  const known = typeof code === 'string' && Object.hasOwn(errorTable, code) ? (code as ErrorCode) : 'internal'
  return new CatalogError(known, String(message), { ref: result.ref, ...data })
}

function describe(result: Result): string {
  if ('error' in result) return ''
  const { name, version, files, bytes, bytesTransferred, providers, milliseconds, out } = result
  const source =
    bytesTransferred === 0
      ? 'all of it was here'
      : `${formatBytes(bytesTransferred)} from ${plural(providers.length, 'provider')}, ${formatRate(bytesTransferred, milliseconds)}`
  return [
    `Fetched ${name} ${version}: ${formatBytes(bytes)} in ${plural(files, 'file')}, ${formatDuration(milliseconds)}`,
    `  ${source}`,
    ...providers.map(({ peer, bytes: share }) => `    ${peer}  ${formatBytes(share)}`),
    ...(out === undefined ? [] : [`  written to ${out}`]),
  ].join('\n')
}
