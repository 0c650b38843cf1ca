// `catalog replicas`: the nodes that keep a copy of a release; --factor says how many there should be.
import type { ReplicasView } from '../../control/api.ts'
import type { Run } from '../command.ts'
import { formatTable } from '../table.ts'
import { formatBytes, formatTime, plural } from '../text.ts'

export const run: Run = async ({ client, signal, operands, options, print }) => {
  const ref = operands[0] ?? ''
  const factor = options['factor'] as number | undefined
  const view = await (factor === undefined
    ? client.replicas(ref, { signal })
    : client.setReplicas(ref, factor, { signal }))
  print(view, () => describe(view))
  return 0
}

function describe(view: ReplicasView): string {
  const { name, version, size, peers, refusals } = view
  if (peers.length === 0)
    return `${name} ${version}: no node that can be asked has promised to keep a copy. \`catalog replicas ${name} --factor N\` on a node that has it begins.`
  const table = formatTable(
    [{ title: 'PEER', flexible: true }, { title: 'COPY' }, { title: 'LAST CHECKED' }],
    peers.map(({ peer, here, state, draining, checkedAt }) => [
      here ? `${peer} (here)` : peer,
      draining ? `${state}, draining` : state,
      checkedAt === undefined ? '' : formatTime(checkedAt),
    ]),
  )
  const others = refusals.map(({ peer, reason }) => `  ${peer} does not take one: ${reason}`)
  return [`${name} ${version}, ${formatBytes(size)}: ${summary(view)}`, table, ...others].join('\n')
}

export function summary({ copies, factor, peers, refusals }: ReplicasView): string {
  const head =
    copies < factor ? `${copies} of ${plural(factor, 'copy', 'copies')}` : plural(copies, 'copy', 'copies')
  if (copies >= factor) return copies > factor ? `${head}, ${factor} wanted` : head
  if (peers.some(({ state }) => state === 'coming')) return `${head}; more are coming`
  return refusals.length === 0
    ? `${head}; no other node could be asked yet`
    : `${head}; no other node takes one`
}
