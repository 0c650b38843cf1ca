// `catalog execute`: the payload's output and exit code become the command's own.
import { open } from 'node:fs/promises'
import { addAbortSignal } from 'node:stream'
import { CatalogError, type ErrorCode, errorTable, isAbort } from '../../base/errors.ts'
import type { ExecuteRequest, ExecutionEvent, ExecutionView } from '../../control/api.ts'
import type { Run } from '../command.ts'
import { formatError } from '../error-text.ts'
import { showWarnings } from '../warnings.ts'

/** What `execute` itself ends with, when there is no exit code of a payload. */
const ownFailure = 125
const maxInputBytes = 16 * 1024 * 1024

export const run: Run = async ({ client, signal, operands, options, json, print }) => {
  const request = await requestOf(operands, options, signal)
  if (options['detach'] === true) {
    const id = await client.executeDetached(request, { signal })
    print({ id }, () => id)
    return 0
  }
  const view = await client.execute(request, { signal, onEvent: json ? () => undefined : passOutput })
  if (json) print(view, () => '')
  const error = failureOf(view)
  if (error !== undefined) {
    const text = json ? JSON.stringify({ error: error.toJSON() }) : await formatError(error, [])
    process.stderr.write(`${text}\n`)
  }
  return exitCodeOf(view)
}

function passOutput(event: ExecutionEvent): void {
  if ('state' in event) showWarnings(event.warnings)
  if ('stream' in event) process[event.stream].write(Buffer.from(event.base64, 'base64'))
}

/** A payload's own code where it has one that says so; a limit or a loss is no code of the payload's. */
function exitCodeOf({ state, exitCode, limit }: ExecutionView): number {
  if (state === 'succeeded') return exitCode ?? 0
  if (state === 'cancelled') return 130
  if (state === 'failed' && limit === undefined && exitCode !== undefined && exitCode !== 0) return exitCode
  return ownFailure
}

/** What is to be said on standard error: nothing when the payload simply ended, whatever its exit code. */
function failureOf(view: ExecutionView): CatalogError | undefined {
  const { id, state, limit, exitCode, reason, error } = view
  const about = { id, state, ...(limit === undefined ? {} : { limit }) }
  const why = sentence(typeof error?.['message'] === 'string' ? error['message'] : reason)
  const next = `\`catalog executions ${id}\` shows its record.`
  const say = (code: ErrorCode, message: string, because = '') =>
    new CatalogError(code, `${message}${because === '' ? '' : ` ${because}`} ${next}`, {
      ...about,
      ...codeOf(error),
    })
  if (state === 'cancelled') return say('cancelled', `The execution ${id} was cancelled.`)
  if (state === 'timed-out')
    return say('timeout', `The execution ${id} took longer than its time limit and was ended.`)
  if (state === 'lost') return say('execution-lost', `The execution ${id} was lost: its node is gone.`, why)
  if (limit !== undefined)
    return say('exceeds-ceiling', `The execution ${id} was ended at its ${limit} limit.`)
  if (state === 'failed' && (exitCode === undefined || exitCode === 0))
    return say(knownCode(error), `The execution ${id} failed.`, why)
  return undefined
}

function sentence(text = ''): string {
  const begun = `${text.charAt(0).toUpperCase()}${text.slice(1)}`
  return begun === '' || /[.!?]$/.test(begun) ? begun : `${begun}.`
}

/** The executing node's own code says more than ours. */
const knownCode = (error: Record<string, unknown> | undefined): ErrorCode => {
  const code = error?.['code']
  return typeof code === 'string' && Object.hasOwn(errorTable, code) ? (code as ErrorCode) : 'internal'
}

const codeOf = (error: Record<string, unknown> | undefined) => (error === undefined ? {} : { cause: error })

async function requestOf(
  operands: readonly string[],
  options: Readonly<Record<string, unknown>>,
  signal: AbortSignal,
): Promise<ExecuteRequest> {
  const [ref = '', ...args] = operands
  const input = options['input'] as string | undefined
  const optional = {
    timeoutSeconds: options['timeout'] as number | undefined,
    nodes: options['nodes'] as number | undefined,
    publisher: options['publisher'] as string | undefined,
    allowStale: options['allowStale'] === true ? true : undefined,
    inputBase64: input === undefined ? undefined : (await readInput(input, signal)).toString('base64'),
  }
  const given = Object.fromEntries(Object.entries(optional).filter(([, value]) => value !== undefined))
  return {
    ref,
    on: (options['on'] as string | undefined) ?? 'auto',
    args,
    env: parseEnvironment((options['env'] as string[] | undefined) ?? []),
    ...given,
  }
}

function parseEnvironment(pairs: readonly string[]): Record<string, string> {
  return Object.fromEntries(
    pairs.map(pair => {
      const equals = pair.indexOf('=')
      if (equals < 1)
        throw new CatalogError('invalid-request', `--env ${pair} is not a variable. Write --env NAME=value.`)
      return [pair.slice(0, equals), pair.slice(equals + 1)]
    }),
  )
}

/** All of it, counted while it is read: a pipe does not say how much will come. */
async function readInput(path: string, signal: AbortSignal): Promise<Buffer> {
  const file =
    path === '-' ? undefined : await open(path).catch(error => Promise.reject(unreadable(path, error)))
  const stream = addAbortSignal(signal, file === undefined ? process.stdin : file.createReadStream())
  const chunks: Buffer[] = []
  let bytes = 0
  try {
    for await (const chunk of stream) {
      bytes += (chunk as Buffer).length
      if (bytes > maxInputBytes)
        throw new CatalogError(
          'too-large',
          `The input ${path} is larger than ${maxInputBytes} bytes. Publish it as a package, and let the payload read its files.`,
        )
      chunks.push(chunk as Buffer)
    }
  } catch (error) {
    throw error instanceof CatalogError || isAbort(error)
      ? error
      : unreadable(path, error as NodeJS.ErrnoException)
  }
  return Buffer.concat(chunks)
}

const unreadable = (path: string, { code, message }: NodeJS.ErrnoException): CatalogError =>
  new CatalogError(
    code === 'ENOENT' ? 'no-such-path' : 'invalid-request',
    `Cannot read the input ${path}: ${message}. Name a file, or - for standard input.`,
    { path },
  )
