// Rows `link-10`, `link-100`, `link-1000`: a fetch over one link of that many Mbit/s, against one raw stream of our
// transport on the very same link.
import { fileURLToPath } from 'node:url'
import { type Figure, inTurn, mebibytesPerSecond, type Settings, skipped, speed } from '../figures.ts'
import { firstLine, type Laboratory } from '../laboratory.ts'
import { Namespace, namespacesMissing } from '../namespace.ts'
import { fetchTime } from './fetch.ts'

/** Each size takes its link four to five seconds. */
const links = [
  { megabits: 10, mebibytes: 5 },
  { megabits: 100, mebibytes: 50 },
  { megabits: 1000, mebibytes: 500 },
] as const

const head = (megabits: number) => ({
  what: `fetch / raw stream, link of ${megabits} Mbit/s`,
  wanted: '≥ 0.95',
  atLeast: 0.95,
})

export const rows = Object.fromEntries(links.map(({ megabits }) => [`link-${megabits}`, head(megabits)]))

const rawStream = fileURLToPath(new URL('../raw-stream.ts', import.meta.url))

export async function measure(
  laboratory: Laboratory,
  settings: Settings,
  asked: ReadonlySet<string>,
): Promise<Figure[]> {
  const missing = await namespacesMissing()
  const figures: Figure[] = []
  for (const link of links) {
    const row = `link-${link.megabits}`
    if (!asked.has(row)) continue
    figures.push(
      missing === undefined
        ? await overLink(laboratory, settings, row, link)
        : skipped(row, head(link.megabits), missing),
    )
  }
  return figures
}

async function overLink(
  laboratory: Laboratory,
  settings: Settings,
  row: string,
  { megabits, mebibytes }: (typeof links)[number],
): Promise<Figure> {
  const near = await laboratory.namespace()
  const far = await laboratory.namespace()
  const { to } = await Namespace.link(near, far, 1, megabits)
  const provider = await laboratory.node(`${row}-provider`, { namespace: far, listen: to })
  const receiver = await laboratory.node(`${row}-receiver`, {
    namespace: near,
    listen: '0.0.0.0',
    bootstrap: [provider],
  })
  const sender = laboratory.spawn(process.execPath, [rawStream, String(mebibytes), 'send', to], far)
  const address = await firstLine(sender, 'the sender of raw streams')
  const { id } = await provider.publish(laboratory.package(row, mebibytes))
  await receiver.knows(id)
  const samples = await inTurn(settings, [
    { name: 'fetch', measure: () => fetchTime(receiver, id) },
    {
      name: 'raw stream',
      measure: async () =>
        Number(
          await laboratory.line(process.execPath, [rawStream, String(mebibytes), 'receive', address], near),
        ),
    },
  ])
  for (const node of [provider, receiver]) await node.end('SIGTERM')
  sender.kill('SIGTERM')
  const show = (milliseconds: number) => mebibytesPerSecond(mebibytes, milliseconds)
  return speed(row, head(megabits), samples, 'fetch', ['raw stream'], show)
}
