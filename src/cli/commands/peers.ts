// `catalog peers`: the nodes it is connected to.
import type { Run } from '../command.ts'
import { formatTable } from '../table.ts'
import { formatDuration } from '../text.ts'

export const run: Run = async ({ client, signal, print }) => {
  const peers = await client.peers({ signal })
  print({ peers }, () => {
    if (peers.length === 0) return 'No peers. Connect with `catalog daemon --bootstrap ADDRESS`.'
    return formatTable(
      [
        { title: 'PEER', flexible: true },
        { title: 'BY' },
        { title: 'DIRECTION' },
        { title: 'LATENCY', right: true },
        { title: 'FOR', right: true },
        { title: 'EXECUTES' },
      ],
      peers.map(peer => [
        peer.peer,
        peer.transport,
        peer.direction,
        peer.latencyMs === undefined ? '' : formatDuration(peer.latencyMs),
        formatDuration(peer.connectedSeconds * 1000),
        peer.offersExecution ? 'yes' : 'no',
      ]),
    )
  })
  return 0
}
