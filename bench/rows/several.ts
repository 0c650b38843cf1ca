// Rows `four`, `four-share`: one receiver, a package that four providers hold against one that a single one of them
// holds, over loopback. Row `four-shaped`: the same with a link of 100 Mbit/s of its own to each provider.
import { type Figure, inTurn, mebibytesPerSecond, median, type Settings, skipped, speed } from '../figures.ts'
import { type BenchNode, type Laboratory, until } from '../laboratory.ts'
import { Namespace, namespacesMissing } from '../namespace.ts'
import { fetchTime } from './fetch.ts'

export const rows = {
  four: { what: 'four providers / one, loopback', wanted: '≥ 0.7', atLeast: 0.7 },
  'four-share': { what: 'largest share of one provider of four, loopback', wanted: '≤ 0.5' },
  'four-shaped': { what: 'four providers / one, each link 100 Mbit/s', wanted: '≥ 3', atLeast: 3 },
}

const providers = 4
const shapedMegabits = 100
/** One link carries so much in about five seconds. */
const shapedMebibytes = 56

export async function measure(
  laboratory: Laboratory,
  settings: Settings,
  asked: ReadonlySet<string>,
): Promise<Figure[]> {
  const figures: Figure[] = []
  if (asked.has('four') || asked.has('four-share')) {
    const found = await onLoopback(laboratory, settings)
    figures.push(...found.filter(({ row }) => asked.has(row)))
  }
  if (asked.has('four-shaped')) figures.push(await shaped(laboratory, settings))
  return figures
}

async function onLoopback(laboratory: Laboratory, settings: Settings): Promise<Figure[]> {
  const { mebibytes } = settings
  const { nodes, everywhere, alone } = await seeded(laboratory, 'loopback', mebibytes)
  const receiver = await laboratory.node('receiver', { bootstrap: nodes })
  await ready(receiver, nodes, everywhere, alone)
  const shares: number[] = []
  const samples = await inTurn(settings, [
    {
      name: 'four providers',
      measure: async () => {
        const result = await receiver.fetch(everywhere)
        const bytes = result.providers.map(provider => provider.bytes)
        shares.push(Math.max(...bytes) / bytes.reduce((sum, each) => sum + each, 0))
        await receiver.client.remove(everywhere)
        return result.wallMilliseconds
      },
    },
    { name: 'one provider', measure: () => fetchTime(receiver, alone) },
  ])
  const show = (milliseconds: number) => mebibytesPerSecond(mebibytes, milliseconds)
  const share = rows['four-share']
  return [
    speed('four', rows.four, samples, 'four providers', ['one provider'], show),
    {
      row: 'four-share',
      what: share.what,
      ours: `${(median(shares) * 100).toFixed(0)} % of the bytes, at worst ${(Math.max(...shares) * 100).toFixed(0)} %`,
      reference: 'all bytes',
      ratio: median(shares),
      wanted: share.wanted,
      verdict: median(shares) <= 0.5 ? 'yes' : 'NO',
      samples: { share: shares },
    },
  ]
}

async function shaped(laboratory: Laboratory, settings: Settings): Promise<Figure> {
  const head = rows['four-shaped']
  const missing = await namespacesMissing()
  if (missing !== undefined) return skipped('four-shaped', head, missing)
  // What they hold comes over loopback; then each moves to the far end of a link of its own.
  const { nodes, everywhere, alone } = await seeded(laboratory, 'shaped', shapedMebibytes)
  const here = await laboratory.namespace()
  const moved: BenchNode[] = []
  for (const [at, node] of nodes.entries()) {
    const namespace = await laboratory.namespace()
    const { to } = await Namespace.link(here, namespace, at + 1, shapedMegabits)
    moved.push(await laboratory.moved(node, { namespace, listen: to }))
  }
  const receiver = await laboratory.node('receiver-shaped', {
    bootstrap: moved,
    namespace: here,
    listen: '0.0.0.0',
  })
  await ready(receiver, moved, everywhere, alone)
  const samples = await inTurn(settings, [
    { name: 'four links', measure: () => fetchTime(receiver, everywhere) },
    { name: 'one link', measure: () => fetchTime(receiver, alone) },
  ])
  const show = (milliseconds: number) => mebibytesPerSecond(shapedMebibytes, milliseconds)
  return speed('four-shaped', head, samples, 'four links', ['one link'], show)
}

/** Four nodes; every one holds the release `everywhere`, the first alone holds the release `alone`. */
async function seeded(laboratory: Laboratory, name: string, mebibytes: number) {
  const first = await laboratory.node(`${name}-1`)
  const nodes = [first]
  for (let at = 2; at <= providers; at++)
    nodes.push(await laboratory.node(`${name}-${at}`, { bootstrap: [first] }))
  const { id: everywhere } = await first.publish(laboratory.package(`${name}-everywhere`, mebibytes))
  for (const node of nodes.slice(1)) {
    await node.knows(everywhere)
    await node.fetch(everywhere)
  }
  const { id: alone } = await first.publish(laboratory.package(`${name}-alone`, mebibytes))
  return { nodes, everywhere, alone }
}

async function ready(receiver: BenchNode, nodes: readonly BenchNode[], everywhere: string, alone: string) {
  await receiver.isConnectedTo(nodes)
  await receiver.knows(everywhere)
  await receiver.knows(alone)
  await until('the receiver sees every provider', async () => {
    const { providers: holders } = await receiver.client.show(everywhere)
    return holders.filter(({ complete }) => complete).length === nodes.length
  })
}
