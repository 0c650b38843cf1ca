// `catalog status`: what the node is and does.
import type { Status } from '../../control/api.ts'
import type { Run } from '../command.ts'
import { formatFacts } from '../facts.ts'
import { formatBytes, formatDuration, plural } from '../text.ts'

export const run: Run = async ({ client, signal, print }) => {
  const status = await client.status({ signal })
  print(status, () => describe(status))
  return 0
}

function describe(status: Status): string {
  const { releases, announcements, execution } = status
  const { ceiling } = execution
  const failing = announcements.failing > 0 ? `, ${announcements.failing} failing` : ''
  const reason = execution.tierReason === undefined ? '' : ` (${execution.tierReason})`
  return formatFacts([
    ['Peer id', status.peerId],
    ['Publisher', status.publisher],
    ['Network', status.network],
    ['Addresses', status.addresses],
    ['Home', status.home],
    ['Running for', `${formatDuration(status.uptimeSeconds * 1000)}, version ${status.version}`],
    ['Peers', String(status.peers)],
    ['Releases', `${releases.known} known, ${releases.held} held here (${formatBytes(releases.bytes)})`],
    ['Free space', formatBytes(status.freeBytes)],
    ['Announcements', `${announcements.waiting} waiting, ${announcements.announced} announced${failing}`],
    ['', announcements.lastError],
    [
      'Executes',
      `${execution.local ? 'for you' : 'not for you'}, ${execution.offer ? 'for others' : 'not for others'}`,
    ],
    ['Sandbox', `${execution.tier}${reason}`],
    ['Runtimes', execution.runtimes.join(', ') || 'none'],
    ['Executions', `${execution.running} running, ${execution.queued} queued`],
    [
      'At most',
      `${plural(ceiling.cpuCores, 'core')}, ${formatBytes(ceiling.memoryMb * 2 ** 20)} of memory, ` +
        `${formatBytes(ceiling.storageMb * 2 ** 20)} of storage, ${formatDuration(ceiling.runSeconds * 1000)}`,
    ],
    ['Memory', formatBytes(status.memoryBytes)],
  ])
}
