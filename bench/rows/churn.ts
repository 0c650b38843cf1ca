// Row `churn`: 20 daemons, a package of 64 MiB that one has, 30 % of them killed (kill -9) and restarted during the
// fetch. Every node has to complete, and all that was sent is compared with what was needed: each fetcher once the
// package. Where namespaces can be had, what was sent is counted by the kernel on their loopback, with all headers,
// acknowledgements and gossip, and what died with its receiver; else by the receivers.

import { churn } from '../churn.ts'
import type { Figure, Settings } from '../figures.ts'
import type { BenchNode, Laboratory } from '../laboratory.ts'
import { namespacesMissing } from '../namespace.ts'

export const rows = {
  churn: {
    what: '20 daemons, 64 MiB, 30 % killed and restarted: sent / needed',
    wanted: 'all complete, ≤ 1.3',
  },
}

const daemons = 20
const victims = 6
const packageMebibytes = 64
/** Bootstrap nodes of each: enough to survive the deaths, as a user would name a few. */
const acquaintances = 3

export async function measure(laboratory: Laboratory, settings: Settings): Promise<Figure[]> {
  const missing = await namespacesMissing()
  const namespace = missing === undefined ? await laboratory.namespace() : undefined
  const nodes: BenchNode[] = []
  for (let at = 0; at < daemons; at++)
    nodes.push(
      await laboratory.node(`node-${at}`, {
        bootstrap: nodes.slice(0, acquaintances),
        ...(namespace === undefined ? {} : { namespace }),
      }),
    )
  const { id, size } = await (nodes[0] as BenchNode).publish(laboratory.package('popular', packageMebibytes))
  await Promise.all(nodes.map(node => node.knows(id)))
  const before = namespace?.loopbackBytes() ?? 0
  const report = await churn({ id, size, nodes, victims, seed: settings.seed, say: settings.say })
  const wireBytes = (namespace?.loopbackBytes() ?? 0) - before
  const needed = size * (daemons - 1)
  const received = report.receivedBytes / needed
  const ratio = namespace === undefined ? received : wireBytes / needed
  for (const failure of report.failures) settings.say(`  ${failure}`)
  const complete = report.survivors + report.restarted
  return [
    {
      row: 'churn',
      what: rows.churn.what,
      ours: `${complete} of ${daemons - 1} complete, ${report.killed} killed, ${(report.milliseconds / 1000).toFixed(1)} s`,
      reference:
        namespace === undefined
          ? 'bytes that receivers counted'
          : `bytes on the wire; receivers counted ${received.toFixed(2)}`,
      ratio,
      wanted: rows.churn.wanted,
      verdict: complete === daemons - 1 && report.killed === victims && ratio <= 1.3 ? 'yes' : 'NO',
      samples: { received: [report.receivedBytes], wire: [wireBytes], needed: [needed] },
    },
  ]
}
