// `catalog fetch`: one result for each REF; the exit code is the first failure's.
import { resolve } from 'node:path'
import { CatalogError, type ErrorCode, errorTable } from '../../base/errors.ts'
import type { FetchFailure, FetchRequest, FetchResult } from '../../control/api.ts'
import type { Run } from '../command.ts'
import { showProgress } from '../progress.ts'
import { formatBytes, formatDuration, formatRate, harmless, plural } from '../text.ts'

type Result = FetchResult | FetchFailure

export const run: Run = async ({ client, signal, operands, options, json, print }) => {
  const { onProgress, stop } = showProgress({ json })
  const results = await client.fetch(requestOf(operands, options), { signal, onProgress }).finally(stop)
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

function requestOf(refs: readonly string[], options: Readonly<Record<string, unknown>>): FetchRequest {
  const out = options['out']
  const place =
    typeof out === 'string' ? { out: resolve(out) } : out === false ? {} : { outParent: process.cwd() }
  const publisher = options['publisher'] as string | undefined
  return {
    refs,
    ...place,
    ...(options['force'] === true ? { force: true } : {}),
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
