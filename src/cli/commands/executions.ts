// `catalog executions`: all on record, or one.
import type { ExecutionView } from '../../control/api.ts'
import type { Run } from '../command.ts'
import { formatFacts } from '../facts.ts'
import { formatTable } from '../table.ts'
import { formatBytes, formatDuration, formatTime, plural, shortId } from '../text.ts'

export const run: Run = async ({ client, signal, operands, print }) => {
  const [id] = operands
  if (id !== undefined) {
    const execution = await client.execution(id, { signal })
    print(execution, () => describeExecution(execution))
    return 0
  }
  const executions = await client.executions({ signal })
  print({ executions }, () =>
    executions.length === 0 ? 'No executions. `catalog execute REF` makes one.' : table(executions),
  )
  return 0
}

const table = (executions: readonly ExecutionView[]): string =>
  formatTable(
    [
      { title: 'ID' },
      { title: 'PACKAGE', flexible: true },
      { title: 'STATE' },
      { title: 'EXIT', right: true },
      { title: 'NODE' },
      { title: 'STARTED' },
    ],
    executions.map(({ id, name, version, state, exitCode, limit, peer, startedAt }) => [
      id,
      `${name} ${version}`,
      limit === undefined ? state : `${state} (${limit})`,
      exitCode === undefined ? '' : String(exitCode),
      peer === '' ? '' : peer.slice(-8),
      startedAt === undefined ? '' : formatTime(startedAt).slice(11),
    ]),
  )

export function describeExecution(view: ExecutionView): string {
  const { allocated, used } = view
  const error = view.error?.['message']
  return formatFacts([
    ['Id', view.id],
    ['Package', `${view.name} ${view.version} (${shortId(view.release)})`],
    ['Runtime', view.runtime],
    ['Node', view.peer],
    ['Asked by', view.requester],
    ['State', view.limit === undefined ? view.state : `${view.state}, at its ${view.limit} limit`],
    ['Exit code', view.exitCode?.toString()],
    ['Reason', view.reason ?? (typeof error === 'string' ? error : undefined)],
    [
      'Allocated',
      `${plural(allocated.cpuCores, 'core')}, ${formatBytes(allocated.memoryMb * 2 ** 20)} of memory, ` +
        `${formatBytes(allocated.storageMb * 2 ** 20)} of storage, ${formatDuration(allocated.runSeconds * 1000)}`,
    ],
    ['Used', used === undefined ? undefined : describeUse(used)],
    ['Created', formatTime(view.createdAt)],
    ['Started', view.startedAt === undefined ? undefined : formatTime(view.startedAt)],
    ['Ended', view.endedAt === undefined ? undefined : formatTime(view.endedAt)],
    ['Outputs', view.resultRoot],
  ])
}

function describeUse({ cpuSeconds, memoryMb, wallSeconds }: NonNullable<ExecutionView['used']>): string {
  return [
    wallSeconds === undefined ? [] : [`ran for ${formatDuration(wallSeconds * 1000)}`],
    cpuSeconds === undefined ? [] : [`${formatDuration(cpuSeconds * 1000)} of CPU`],
    memoryMb === undefined ? [] : [`${formatBytes(memoryMb * 2 ** 20)} of memory`],
  ]
    .flat()
    .join(', ')
}
