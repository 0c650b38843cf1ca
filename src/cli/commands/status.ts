// `catalog status`: what the node is and does.
import type {
  AnnouncementState,
  BandwidthStatus,
  CacheStatus,
  NetworkNameStatus,
  ReplicationStatus,
  Status,
} from '../../control/api.ts'
import type { Run } from '../command.ts'
import { formatFacts } from '../facts.ts'
import { refusalText } from '../refusal-text.ts'
import { formatBytes, formatDuration, plural } from '../text.ts'

/** The rest is in the JSON. */
const shownRefusals = 4

export const run: Run = async ({ client, signal, print }) => {
  const status = await client.status({ signal })
  print(status, () => describe(status))
  return 0
}

function membership({ state, why, root }: Status['membership']): string {
  if (state === 'current') return `in order; root ${root}`
  return `${state === 'stale' ? 'old news' : 'refused'}: ${why ?? 'see `catalog trust show`'}`
}

/** For example `117.7 MiB of 190.7 MiB: 95.4 MiB published, 3.3 MiB evictable`. */
function storage(of: Status['storage']): string {
  const quota = of.quotaBytes === undefined ? '' : ` of ${formatBytes(of.quotaBytes)}`
  const parts = [
    [of.publishedBytes, 'published'],
    [of.pinnedBytes, 'pinned'],
    [of.owedBytes, 'kept for others'],
    [of.resultBytes, 'results'],
    [of.inUseBytes, 'in use'],
    [of.evictableBytes, 'evictable'],
  ] as const
  const shown = parts.filter(([bytes]) => bytes > 0).map(([bytes, what]) => `${formatBytes(bytes)} ${what}`)
  return `${formatBytes(of.usedBytes)}${quota}${shown.length === 0 ? '' : `: ${shown.join(', ')}`}`
}

/** For example `3 of each package published here; 12 kept, 10 of them for others (1.2 GiB of 50.0 GiB); 1 below its factor`. */
function describeReplication(of: ReplicationStatus): string {
  const { count, bytes, maxBytes } = of.forOthers
  const others = `${count} of them for others (${formatBytes(bytes)} of ${formatBytes(maxBytes)})`
  return [
    `${of.factor} of each package published here`,
    `${of.kept} kept, ${others}`,
    ...(of.below > 0 ? [`${of.below} with too few copies`] : []),
    ...(of.draining ? ['draining'] : of.accept ? [] : ['takes none for others']),
  ].join('; ')
}

/** For example `catalog.example.org: 3 addresses in DNS; root bdyq… there, which nothing trusts`. */
function describeName({ name, addresses, rootFingerprint, problems }: NetworkNameStatus): string[] {
  const root = rootFingerprint === undefined ? '' : `; root ${rootFingerprint} there, which nothing trusts`
  const found = `${name}: ${plural(addresses.length, 'address', 'addresses')} in DNS${root}`
  return [found, ...problems.map(problem => `warning: ${problem}`)]
}

/** For example `records 3.1 MiB of 16.0 MiB, 93 % found`. */
function describeCache([name, { bytes, maxBytes, hits, misses }]: [string, CacheStatus]): string {
  const found = hits + misses === 0 ? '' : `, ${Math.round((100 * hits) / (hits + misses))} % found`
  return `${name} ${formatBytes(bytes)} of ${formatBytes(maxBytes)}${found}`
}

function describe(status: Status): string {
  const { releases, announcements, execution } = status
  const { ceiling } = execution
  const reason = execution.tierReason === undefined ? '' : ` (${execution.tierReason})`
  return formatFacts([
    ['Peer id', status.peerId],
    ['Publisher', status.publisher],
    ['Network', status.network],
    ['Membership', membership(status.membership)],
    ['', status.membership.clock === undefined ? undefined : `warning: ${status.membership.clock}`],
    ['Addresses', status.addresses],
    ['Names', status.networkNames.flatMap(describeName)],
    ['Home', status.home],
    ['Running for', `${formatDuration(status.uptimeSeconds * 1000)}, version ${status.version}`],
    ['Peers', String(status.peers)],
    ['', status.refusals.slice(0, shownRefusals).map(refusalText)],
    ['Releases', `${releases.known} known, ${releases.held} held here (${formatBytes(releases.bytes)})`],
    ['Storage', storage(status.storage)],
    ['Free space', formatBytes(status.freeBytes)],
    ['Sending', describeBandwidth(status.bandwidth.up)],
    ['Receiving', describeBandwidth(status.bandwidth.down)],
    ['Announcements', describeAnnouncements(announcements)],
    ['', announcements.lastError],
    ['', announcements.warning === undefined ? undefined : `warning: ${announcements.warning}`],
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
    ['Copies', describeReplication(status.replication)],
    ['Memory', formatBytes(status.memoryBytes)],
    ['Caches', Object.entries(status.caches).map(describeCache).join('; ')],
  ])
}

function describeBandwidth({ limit, perPeerLimit, bytesPerSecond, totalBytes }: BandwidthStatus): string {
  const limits = [
    ...(limit > 0 ? [`at most ${formatBytes(limit)}/s`] : []),
    ...(perPeerLimit > 0 ? [`at most ${formatBytes(perPeerLimit)}/s with each peer`] : []),
  ]
  const counted =
    bytesPerSecond === undefined || totalBytes === undefined
      ? []
      : [`${formatBytes(bytesPerSecond)}/s now, ${formatBytes(totalBytes)} since the start`]
  return [...(limits.length > 0 ? limits : ['without a limit']), ...counted].join(', ')
}

/** One sentence: how many, how late, when the next, at what cost. */
function describeAnnouncements(state: AnnouncementState): string {
  const { waiting, announced, failing, overdue, oldestOverdueMs, nextRegion, lastCycle } = state
  const parts = [`${waiting} waiting, ${announced} announced`]
  if (failing > 0) parts.push(`${failing} failing`)
  if (state.waitingForPeers) parts.push('waiting for peers')
  if (overdue > 0) parts.push(`${overdue} overdue by up to ${formatDuration(oldestOverdueMs ?? 0)}`)
  if (nextRegion !== undefined && nextRegion.dueMs > Date.now())
    parts.push(`again in ${formatDuration(nextRegion.dueMs - Date.now())}`)
  if (lastCycle !== undefined && lastCycle.regions > 0)
    parts.push(
      `last cycle: ${plural(lastCycle.keys, 'key')} with ${plural(lastCycle.lookups, 'lookup')} in ${formatDuration(lastCycle.busyMs)}`,
    )
  return parts.join(', ')
}
