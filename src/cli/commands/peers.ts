// `catalog peers`: the nodes it is connected to, and who is not let in or does not let it in.
import type { PeerView, RefusalView } from '../../control/api.ts'
import type { Run } from '../command.ts'
import { refusalText } from '../refusal-text.ts'
import { formatTable } from '../table.ts'
import { formatDuration, harmlessLine } from '../text.ts'

export const run: Run = async ({ client, signal, json, print }) => {
  const peers = await client.peers({ signal })
  const refusals = json ? [] : (await client.status({ signal })).refusals
  print({ peers }, () =>
    [peers.length === 0 ? noPeers : table(peers), ...(refusals.length === 0 ? [] : [refused(refusals)])].join(
      '\n\n',
    ),
  )
  return 0
}

const noPeers = 'No peers. Connect with `catalog daemon --bootstrap ADDRESS`.'

const refused = (refusals: readonly RefusalView[]): string =>
  [
    'Refused within the last hour:',
    ...refusals.map(refusal => `  ${harmlessLine(refusalText(refusal))}`),
  ].join('\n')

const table = (peers: readonly PeerView[]): string =>
  formatTable(
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
      peer.dataConnections === 0 ? peer.transport : `${peer.transport} + ${peer.dataConnections} data`,
      peer.direction,
      peer.latencyMs === undefined ? '' : formatDuration(peer.latencyMs),
      formatDuration(peer.connectedSeconds * 1000),
      peer.offersExecution ? 'yes' : 'no',
    ]),
  )
