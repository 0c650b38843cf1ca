// Row `stream`: one QUIC stream of our adapter against one of the stock wrapper, memory to memory between two
// processes.
import { existsSync } from 'node:fs'
import { fileURLToPath } from 'node:url'
import { type Figure, inTurn, mebibytesPerSecond, type Settings, skipped, speed } from '../figures.ts'
import type { Laboratory } from '../laboratory.ts'

export const rows = {
  stream: { what: 'one QUIC stream: our adapter / stock wrapper', wanted: '≥ 4', atLeast: 4 },
}

const rawStream = fileURLToPath(new URL('../raw-stream.ts', import.meta.url))
const stockStream = fileURLToPath(new URL('../stock-stream.ts', import.meta.url))

/** One raw stream of our transport of so many MiB, in milliseconds. */
export const rawStreamTime = async (laboratory: Laboratory, mebibytes: number): Promise<number> =>
  Number(await laboratory.line(process.execPath, [rawStream, String(mebibytes)]))

export async function measure(laboratory: Laboratory, settings: Settings): Promise<Figure[]> {
  const { mebibytes } = settings
  if (!existsSync(stockStream)) return [skipped('stream', rows.stream, 'bench/stock-stream.ts is not there')]
  const samples = await inTurn(settings, [
    { name: 'ours', measure: () => rawStreamTime(laboratory, mebibytes) },
    {
      name: 'stock wrapper',
      measure: async () => Number(await laboratory.line(process.execPath, [stockStream, String(mebibytes)])),
    },
  ])
  const show = (milliseconds: number) => mebibytesPerSecond(mebibytes, milliseconds)
  return [speed('stream', rows.stream, samples, 'ours', ['stock wrapper'], show)]
}
